"""Views and their kernel: page reloaded, kernel interrupted, restarted, ended."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import nbformat
import polars as pl
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from ipywidgets.embed import dependency_state

import ibticks as ibt
from ibticks.coverage import StreamStatus
from ibticks.testing import FakeCapture
from ibticks.widgets import CaptureStatus, LiveView, StoreBrowser

from .jupyterlab import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ibticks.widgets._page_widget import PageWidget
    from tests.widgets.jupyterlab import Lab, Sheet

pytestmark = pytest.mark.browser

KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
GONE = "The kernel does not respond: this is the last known state. Run the cell again."


@pytest.fixture(scope="module")
def ticking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ibt.Store]:
    """A store that another process than the notebook's captures."""
    stopping = threading.Event()

    def write(contract_id: int, price: float) -> None:
        tick = {"timestamp": [time.time_ns()], "price": [price], "size": [1.0]}
        store.write(
            pl.DataFrame(tick).with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC"))),
            contract_id=contract_id,
            tick_type="last",
        )

    def tick_on() -> None:
        while not stopping.wait(0.1):
            capture.tick(time.time_ns())

    with ibt.open(tmp_path_factory.mktemp("ticking")) as store:
        store.add_contract(1, "ONE")
        for contract in (1, 2):
            write(contract, 100.0)
        capture = FakeCapture(store.root, store.index, 1)
        capture.report_status(StreamStatus.SUBSCRIBED, time.time_ns())
        thread = threading.Thread(target=tick_on)
        thread.start()
        yield store
        stopping.set()
        thread.join()
        capture.stop(time.time_ns())


class Page:
    """A notebook with one of each view."""

    def __init__(self, sheet: Callable[..., Sheet], name: str, root: Path, received: Path) -> None:
        self.sheet = sheet(
            name,
            "import ibticks as ibt\n"
            "from pathlib import Path\n"
            "from ibticks.widgets import CaptureStatus, LiveView, StoreBrowser\n"
            f"store = ibt.open({str(root)!r})\n"
            "view = LiveView(store.live('ONE', 'last', '1h'), height=200)\n"
            f"received = Path({str(received)!r})\n"
            "view.observe(lambda change: received.write_text(str(change['new'])), 'window')\n"
            "view",
            "browser = StoreBrowser(store)\n"
            "picked = lambda change: received.write_text(str(change['new']['contract_id']))\n"
            "browser.observe(picked, 'picked')\n"
            "browser",
            "capture = ibt.Capture(store, '3:THREE:last', port=1)\n"
            "status = CaptureStatus(capture)\n"
            "status",
        )
        self.page = self.sheet.page
        self.received = received

    def run(self) -> None:
        self.sheet.run()
        self.wait_for_views()

    def wait_for_views(self) -> None:
        self.wait_for_state("live")
        self.page.wait_for_selector(".ibt-store-foot")
        self.page.wait_for_selector(".widget-html table")

    def wait_for_state(self, state: str, text: str = "") -> None:
        self.page.wait_for_function(
            "([state, text]) => { const root = document.querySelector('.ibt-live');"
            " return root?.dataset.state === state"
            " && root.querySelector('.ibt-badge').textContent === state.toUpperCase()"
            " && root.querySelector('.ibt-note').textContent.startsWith(text); }",
            arg=[state, text],
        )

    def wait_for_updates(self) -> None:
        """Wait for some more updates of the view, with a live state."""
        before = self.page.evaluate("Number(document.querySelector('.ibt-live').dataset.seq)")
        self.page.wait_for_function(
            f"Number(document.querySelector('.ibt-live').dataset.seq) > {before + 3}"
            " && document.querySelector('.ibt-live').dataset.state === 'live'"
        )

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def pick(self, row: int) -> None:
        self.page.locator(".ibt-store canvas").click(position={"x": 10, "y": 31 + 18 * row})

    def wait_for_received(self, value: str) -> None:
        until(lambda: self.received.exists() and self.received.read_text() == value)

    def wait_for_foot(self, text: str) -> None:
        self.page.wait_for_function(
            "text => document.querySelector('.ibt-store-foot').textContent.startsWith(text)",
            arg=text,
        )

    def wait_for_panel(self, is_gone: bool) -> None:
        self.page.wait_for_function(
            "([text, gone]) => { const note = document.querySelector('.ibt-gone');"
            " return note?.textContent === text && (note.clientHeight > 0) === gone; }",
            arg=[GONE, is_gone],
        )


@pytest.fixture
def page(sheet: Callable[..., Sheet], ticking: ibt.Store, tmp_path: Path) -> Callable[..., Page]:
    return lambda name: Page(sheet, name, ticking.root, tmp_path / "received")


def test_messages_of_the_page_reach_the_kernel(page: Callable[..., Page]) -> None:
    views = page("received")
    views.run()

    def check_messages() -> None:
        for name, window in (("30s", "30.0"), ("5m", "300.0")):
            views.click(name)
            views.wait_for_received(window)
        for row in (0, 1):
            views.pick(row)
            views.wait_for_received(str(row + 1))
        for name, then in (("Start", "Stop"), ("Stop", "Start")):
            views.page.locator(".widget-button", has_text=name).click()
            views.page.locator(".widget-button", has_text=then).wait_for()
        views.wait_for_panel(is_gone=False)

    check_messages()
    # The last request came from a subshell that has been deleted since.
    views.page.evaluate(
        f"""async () => {{
          const kernel = {KERNEL};
          const made = await kernel.requestCreateSubshell({{}}).done;
          kernel.subshellId = made.content.subshell_id;
          await kernel.requestExecute({{ code: "0" }}).done;
          kernel.subshellId = null;
          await kernel.requestDeleteSubshell({{ subshell_id: made.content.subshell_id }}).done;
        }}"""
    )
    views.wait_for_updates()
    check_messages()
    # JupyterLab does that, now and then, when its page is reloaded.
    views.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    for _ in range(2):
        views.page.reload()
        views.sheet.settle()
        views.wait_for_views()
    check_messages()
    # A busy cell does not block messages; nor does its end.
    views.page.evaluate(
        f"void (window.busy = {KERNEL}"
        ".requestExecute({ code: 'import time; time.sleep(99)' }).done)"
    )
    views.page.wait_for_function(f"{KERNEL}.status === 'busy'")
    check_messages()
    views.wait_for_updates()
    reply = views.page.evaluate(f"{KERNEL}.interrupt().then(() => window.busy)")
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    views.wait_for_updates()
    check_messages()
    assert views.sheet.errors == []


def test_restarted_and_ended_kernels_are_shown(
    page: Callable[..., Page], tmp_path_factory: pytest.TempPathFactory
) -> None:
    views = page("ended")
    views.run()
    views.page.evaluate(f"void {KERNEL}.restart()")
    views.wait_for_state("no kernel", "The kernel of this view has ended: run the cell again.")
    views.wait_for_foot("The kernel does not respond: run the cell again")
    views.wait_for_panel(is_gone=True)
    views.page.screenshot(path=tmp_path_factory.mktemp("pictures") / "ended.png")
    # The buttons of the page still work on its data.
    views.click("30s")
    views.page.wait_for_selector(".ibt-live button[data-window='30'][aria-pressed='true']")
    views.sheet.settle()
    views.run()
    views.wait_for_foot("A click selects a day")
    views.click("30s")
    views.wait_for_received("30.0")
    views.wait_for_panel(is_gone=False)
    views.wait_for_updates()
    # A kernel that ends for good sends no message.
    views.page.evaluate(f"void {KERNEL}.shutdown()")
    views.wait_for_state("no answer", "The kernel has not answered for ")
    views.wait_for_panel(is_gone=True)
    assert views.sheet.errors == []


def shown(*widgets: PageWidget) -> list[nbformat.NotebookNode]:
    """Cells whose outputs show these widgets."""
    InteractiveShell.instance()
    cells = []
    for widget in widgets:
        with capture_output() as captured:
            widget._ipython_display_()
        cells.append(nbformat.v4.new_code_cell("0", execution_count=1))
        cells[-1].outputs = [
            nbformat.v4.new_output("display_data", one.data) for one in captured.outputs
        ]
    return cells


@pytest.mark.parametrize("saved", [False, True])
def test_saved_notebook_without_its_kernel(
    sheet: Callable[..., Sheet],
    lab: Lab,
    ticking: ibt.Store,
    tmp_path_factory: pytest.TempPathFactory,
    saved: bool,
) -> None:
    """With the state of the widgets, as nbconvert saves it, or without, as JupyterLab does."""
    live = LiveView(ticking.live("ONE", "last", "1h"), height=200)
    browser = StoreBrowser(ticking)
    status = CaptureStatus(ibt.Capture(ticking, "3:THREE:last", port=1))
    notebook = nbformat.v4.new_notebook()
    notebook.cells = shown(live, browser, status)
    if saved:
        state = {"state": dependency_state([live, browser, status], drop_defaults=False)}
        notebook.metadata["widgets"] = {
            "application/vnd.jupyter.widget-state+json": state
            | {"version_major": 2, "version_minor": 0}
        }
    for widget in (live, browser, status):
        widget.close()
    opened = sheet(f"yesterday_{saved}", notebook=notebook)
    pictures = tmp_path_factory.mktemp("pictures")
    if saved:
        opened.page.wait_for_selector(".ibt-live[data-state='no kernel']")
        texts = opened.page.locator(".ibt-note, .ibt-store-foot, .ibt-gone").all_inner_texts()
        assert texts == [
            "Not connected to a kernel: run the cell again.",
            "The kernel does not respond: run the cell again to select a day.",
            GONE,
        ]
        assert opened.page.locator(".ibt-gone").evaluate("note => note.clientHeight") > 0
        assert not opened.page.locator(".ibt-stored").first.is_visible()
    else:
        opened.page.wait_for_function(
            "document.body.innerText.split('run the cell to see it').length === 4"
        )
        # JupyterLab searches for them for a while.
        opened.page.wait_for_function("!document.body.innerText.includes('Loading widget')")
        assert "Error" not in opened.page.locator(".jp-Notebook").inner_text()
    # JupyterLab logs that for models that it searched before it had read the notebook.
    assert [error for error in opened.errors if "widget model not found" not in error] == []
    opened.page.screenshot(path=pictures / f"yesterday_{saved}.png")
