"""``%capture_ticks`` in an ordinary kernel, and in a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ibticks.gateway import Gateway, Replay
from tests.capture_checks import check_index, covered, statuses

from .kernels import Notebook, PatientKernelManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import PostgresServer

IBM = "8314:IBM:bid_ask;all_last"


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay.from_samples(["ibm_quotes", "ibm_trades"])


@pytest.fixture
def gateway(replay: Replay) -> Iterator[Gateway]:
    # One client id per test: an id continues at its replay position, which would end half a minute
    # after the first test began.
    with Gateway(replay, speed=2000) as opened:
        yield opened


@pytest.fixture
def notebook(plain: Notebook) -> Notebook:
    """An ordinary kernel with the extension loaded."""
    assert plain.run("%load_ext ibticks").ok
    return plain


@pytest.fixture
def plain(tmp_path: Path, database: str) -> Iterator[Notebook]:
    """An ordinary kernel."""
    manager = PatientKernelManager(kernel_name="python3")
    environment = {**os.environ, "IBTICKS_DSN": database}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jupyter_client, about itself
        manager.start_kernel(env=environment, cwd=str(tmp_path))
    book = Notebook(manager)
    yield book
    if manager.has_kernel:
        book.close()


def test_start_status_and_stop(notebook: Notebook, gateway: Gateway, tmp_path: Path) -> None:
    line = f"start {IBM} --store {tmp_path}/ticks --port {gateway.port} --same-contract-seconds 0"
    [(name, panel)] = notebook.run(f"%capture_ticks {line}").displays
    assert "<table>" in panel["text/html"]
    notebook.wait("capture.status()['status']['ticks'] > 100")
    assert notebook.value("store is capture.store, capture.settings.port") == (
        f"(True, {gateway.port})"
    )
    assert "2 streams" in notebook.run("%capture_ticks status").displays[0][1]["text/plain"]
    again = notebook.run(f"%capture_ticks start {IBM}")
    assert again.text == ("UsageError: a capture is already running: %capture_ticks stop ends it\n")
    stopped = notebook.run("%capture_ticks stop")
    assert stopped.text.startswith("ibticks capture stopped, ")
    assert notebook.value("all(file.sealed for file in store.index.files())") == "True"
    assert notebook.run("%capture_ticks stop").text == "UsageError: the capture is not running\n"
    # What it was is what it is again.
    notebook.run("%capture_ticks start")
    assert notebook.value("capture.running, len(store.select('IBM').files())") == "(True, 2)"
    notebook.drain()
    assert name in {of for of, _ in notebook.updates}


def test_magic_uses_the_capture_of_the_notebook(
    notebook: Notebook, gateway: Gateway, tmp_path: Path
) -> None:
    made = (
        "import ibticks as ibt; store = ibt.open('here'); "
        f"capture = ibt.Capture(store, {IBM!r}, port={gateway.port}, same_contract_seconds=0); "
        "mine = capture"
    )
    assert notebook.run(made).ok
    notebook.run("%capture_ticks start")
    assert notebook.value("capture is mine, mine.running") == "(True, True)"
    notebook.run("%capture_ticks stop")
    notebook.run(f"%capture_ticks start {IBM} --port {gateway.port}")
    assert notebook.value("capture is mine, capture.store is store") == "(False, True)"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("status", "no capture in this notebook"),
        ("stop", "no capture in this notebook"),
        ("start", "no contract to capture"),
        ("start 8314", "entry 1 of the tracked contracts"),
        ("start 8314:IBM:quotes", "unknown tick type 'quotes'"),
        ("start 8314:IBM --port 99999", "port=99999"),
        ("start 8314:IBM --port many", "invalid int value: 'many'"),
        ("start 8314:IBM --compress-after soon", "'soon'"),
        ("start 8314:IBM --keep all", "'all'"),
        ("begin", "invalid choice: 'begin'"),
        ("", "the following arguments are required: action"),
    ],
)
def test_errors_are_one_line(mistaken: Notebook, line: str, says: str) -> None:
    shown = mistaken.run(f"%capture_ticks {line}")
    assert not shown.ok
    assert shown.text.startswith("UsageError: ")
    assert says in shown.text
    assert "Traceback" not in shown.text


@pytest.fixture(scope="module")
def mistaken(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    """A kernel without a capture."""
    manager = PatientKernelManager(kernel_name="python3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manager.start_kernel(cwd=str(tmp_path_factory.mktemp("mistaken")))
    book = Notebook(manager)
    book.run("%load_ext ibticks")
    yield book
    book.close()


def test_shutdown_during_a_busy_cell_seals_files(
    notebook: Notebook, gateway: Gateway, tmp_path: Path, database: str
) -> None:
    import ibticks as ibt

    notebook.run(f"%capture_ticks start {IBM} --store {tmp_path}/ticks --port {gateway.port}")
    notebook.wait("capture.status()['status']['ticks'] > 10")
    notebook.begin("import time; print('asleep', flush=True); time.sleep(600)")
    notebook.wait_busy()
    notebook.close()
    with ibt.open(tmp_path / "ticks", dsn=database) as store:
        files = store.index.files()
    assert files
    assert all(file.sealed for file in files)


def test_shutdown_without_the_extension_seals_files(
    plain: Notebook, gateway: Gateway, tmp_path: Path, database: str
) -> None:
    """The capture may have any variable name."""
    import ibticks as ibt

    begun = plain.run(
        "import ibticks as ibt\n"
        "def begin():\n"
        f"    capture = ibt.Capture(ibt.open('ticks'), {IBM!r}, port={gateway.port},\n"
        "        same_contract_seconds=0)\n"
        "    return [capture.start()]\n"
        "mine = begin()"
    )
    assert begun.ok, begun
    plain.wait("mine[0].status()['status']['ticks'] > 100")
    # Jupyter interrupts the cell first, and then terminates the kernel.
    plain.begin(
        "import time\n"
        "while True:\n"
        "    try:\n"
        "        print('busy', flush=True)\n"
        "        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n"
        "        pass"
    )
    plain.wait_busy()
    plain.close()
    with ibt.open(tmp_path / "ticks", dsn=database) as store:
        assert len(store.index.files()) == 2
        assert all(file.sealed for file in store.index.files())
        for kind in ("bid_ask", "all_last"):
            assert [status for status, _ in statuses(store, 8314, kind)] == [
                "subscribed",
                "stopped",
            ]
            assert covered(store, 8314, kind) == ["captured"]
        check_index(store.root, store.index)


def test_terminal_shows_one_line(gateway: Gateway, tmp_path: Path, database: str) -> None:
    code = "\n".join(
        [
            "%load_ext ibticks",
            f"%capture_ticks start {IBM} --store {tmp_path}/ticks --port {gateway.port}",
            "import time; time.sleep(2.5)",
            "%capture_ticks status",
            "%capture_ticks stop",
        ]
    )
    script = tmp_path / "session.ipy"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", str(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"IBTICKS_DSN": database, "IPYTHONDIR": str(tmp_path / "ipython")},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ibticks capture ")]
    assert len(lines) == 3  # and not one a second
    assert lines[2].startswith("ibticks capture stopped, ")
    assert "<table>" not in done.stdout
