"""JupyterLab in a browser; neither reaches beyond this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.sign import NotebookNotary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

TIMEOUT_SECONDS = 120.0


class Lab:
    """A JupyterLab server in a new process group, on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        home = folder / "home"
        (home / "jupyter_config_dir" / "labconfig").mkdir(parents=True)
        # The extension that fetches announcements is disabled.
        (home / "jupyter_config_dir" / "labconfig" / "page_config.json").write_text(
            json.dumps(
                {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
            )
        )
        places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        environment = {**os.environ, **{name: str(home / name.lower()) for name in places}}
        self._data = home / "jupyter_data_dir"
        with (folder / "lab.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
                    *(f"--port={port}", "--ServerApp.port_retries=0", "--ip=127.0.0.1"),
                    *("--ServerApp.token=", "--ServerApp.disable_check_xsrf=True"),
                    "--LabApp.expose_app_in_browser=True",
                    "--LabApp.extension_manager=readonly",
                    f"--ServerApp.root_dir={folder}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/api/status", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError((self.folder / "lab.log").read_text())

    def put(self, name: str, notebook: nbformat.NotebookNode) -> None:
        """Save a notebook, as the server does: it trusts what it has saved itself."""
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        NotebookNotary(data_dir=str(self._data)).sign(
            nbformat.read(self.folder / f"{name}.ipynb", 4)
        )

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


class Sheet:
    """A notebook in the browser."""

    def __init__(
        self,
        lab: Lab,
        browser: Browser,
        name: str,
        cells: list[str],
        notebook: nbformat.NotebookNode | None = None,
    ) -> None:
        self.lab = lab
        if notebook is None:
            notebook = nbformat.v4.new_notebook()
        notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        lab.put(name, notebook)
        self.errors: list[str] = []
        self.foreign_requests: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": 1480, "height": 1100})
        self.page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("request", self._on_request)
        # No test answers a dialog of JupyterLab: a test that meets one fails with its text.
        self.page.add_locator_handler(self.page.locator(".jp-Dialog"), self._refuse_dialog)
        # Each notebook has a workspace, in which no other notebook is open.
        self.page.goto(f"{lab.url}/lab/workspaces/{name}/tree/{name}.ipynb")
        self.settle()

    def _refuse_dialog(self, dialog: Locator) -> None:
        raise AssertionError(f"JupyterLab shows a dialog: {dialog.inner_text()}")

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _on_request(self, request: Any) -> None:
        local = (self.lab.url, self.lab.url.replace("http", "ws"), "data:", "blob:")
        if not request.url.startswith(local):
            self.foreign_requests.append(request.url)

    def settle(self) -> None:
        """Wait until the notebook is open and connected with an idle kernel."""
        self.page.wait_for_selector(".jp-Notebook")
        # The indicator of the page is idle before there is a kernel; a command to run cells would
        # then open the dialog "Select Kernel".
        self.page.wait_for_function(
            """() => {
              const panel = window.jupyterapp?.shell.currentWidget;
              const kernel = panel?.sessionContext?.session?.kernel;
              return panel?.context?.isReady && panel.sessionContext.isReady
                && kernel?.connectionStatus === "connected" && kernel.status === "idle";
            }"""
        )

    def run(self) -> None:
        """Start all cells; does not wait for their end."""
        # Once: a second command would run the cells again, and replace the widget of the test.
        self.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(
            "[...document.querySelectorAll('.jp-InputPrompt')]"
            ".some((prompt) => /[*\\d]/.test(prompt.innerText))"
        )

    def value(self, expression: str) -> str:
        """Evaluate an expression in the notebook's kernel; return its repr."""
        result = self.page.evaluate(
            """async (expression) => {
              const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
              const asked = kernel.requestExecute({
                code: "", silent: true, user_expressions: { value: expression },
              });
              return (await asked.done).content.user_expressions.value;
            }""",
            expression,
        )
        assert result["status"] == "ok", result
        return result["data"]["text/plain"]

    def wait_for_value(self, expression: str, expected: str) -> None:
        """Wait until the repr of an expression in the kernel is the expected one.

        What a click or a key changes reaches the kernel through a subshell of the widgets, beside
        the requests of :meth:`value`: a single request may be answered before it.
        """
        end = time.monotonic() + TIMEOUT_SECONDS
        while (value := self.value(expression)) != expected:
            assert time.monotonic() < end, f"{expression} is {value}, not {expected}"
            time.sleep(0.01)

    def close(self) -> None:
        self.page.close()
