"""The kernel "ibticks capture", run by Jupyter's own client: it captures whatever cells do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from jupyter_client.kernelspec import KernelSpecManager

import ibticks as ibt
from ibticks.errors import ConfigError, InputError, WriterLockedError
from ibticks.gateway import Gateway, Replay
from ibticks.notebook import install_kernel, installed_kernels, uninstall_kernel
from ibticks.notebook._kernel import Unavailable, make_namespace
from tests.capture_checks import until

from .kernels import Notebook, PatientKernelManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

IBM = "8314:IBM:bid_ask"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which the kernel is installed."""
    folder = tmp_path_factory.mktemp("prefix")
    install_kernel(prefix=folder)
    return folder


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(Replay.from_samples(["ibm_quotes"]), speed=2000) as opened:
        yield opened


@pytest.fixture
def surroundings(tmp_path: Path, database: str, gateway: Gateway) -> dict[str, str]:
    """Environment of the kernel."""
    return {
        **os.environ,
        "IBTICKS_STORE": str(tmp_path / "ticks"),
        "IBTICKS_DSN": database,
        "IBTICKS_GATEWAY": f"127.0.0.1:{gateway.port}",
        "IB_STREAM_TRACKED_CONTRACTS": IBM,
        "IBTICKS_CAPTURE": "start",
    }


@pytest.fixture
def notebook(prefix: Path, tmp_path: Path) -> Iterator[Callable[..., Notebook]]:
    """Starts kernels as a notebook in an empty folder; they are shut down after the test."""
    begun: list[Notebook] = []
    specs = KernelSpecManager(kernel_dirs=[str(prefix / "share" / "jupyter" / "kernels")])

    def start(environment: dict[str, str], name: str = "ibticks-capture") -> Notebook:
        manager = PatientKernelManager(kernel_name=name, kernel_spec_manager=specs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of jupyter_client, about itself
            manager.start_kernel(env=environment, cwd=str(tmp_path))
        begun.append(Notebook(manager))
        return begun[-1]

    yield start
    for book in begun:
        if book.manager.has_kernel:
            book.close()


def captured(root: Path | str, dsn: str) -> tuple[pl.DataFrame, bool]:
    """The captured ticks, the sent ones of the same rows, and whether all files are sealed."""
    with ibt.open(root, dsn=dsn) as store:
        files = store.index.files()
        return store.select(8314, "bid_ask").to_polars(), all(file.sealed for file in files)


def test_kernel_has_a_store_and_a_running_capture(
    notebook: Callable[..., Notebook], surroundings: dict[str, str]
) -> None:
    book = notebook(surroundings)
    assert book.value("type(store).__name__, type(capture).__name__, capture.running") == (
        "('Store', 'Capture', True)"
    )
    assert book.value("str(store.root)") == repr(surroundings["IBTICKS_STORE"])
    assert book.value("ibt.__name__") == "'ibticks'"
    book.wait("capture.status()['status']['ticks'] > 0")


def test_awaitable_forms_in_a_cell(
    notebook: Callable[..., Notebook], surroundings: dict[str, str]
) -> None:
    book = notebook(surroundings)
    book.wait("capture.status()['status']['ticks'] > 0")
    book.run("buffer = await store.buffer_async('IBM', 'bid_ask', '1h', now='last_tick')")
    book.run("frame = await buffer.to_polars_async()")
    assert book.value("frame.height == (await buffer.stats_async()).ticks > 0") == "True"
    book.run("live = await store.live_async('IBM', 'bid_ask', '1h', now='last_tick')")
    book.run("async with live:\n    ticks = await anext(live.batches())")
    assert book.value("ticks.height > 0, live.closed") == "(True, True)"


def test_panel_is_updated_while_another_cell_runs(
    notebook: Callable[..., Notebook], surroundings: dict[str, str]
) -> None:
    book = notebook(surroundings)
    book.wait("capture.status()['status']['ticks'] > 0")
    [(name, panel)] = book.run("capture").displays
    assert name
    assert "<table>" in panel["text/html"]
    assert "connected" in panel["text/plain"]
    book.updates.clear()

    def followed() -> list[dict[str, str]]:
        book.run("import time; time.sleep(1.0)")
        return [data for of, data in book.updates if of == name]

    until(lambda: len(followed()) >= 3, "the panel follows")
    mine = followed()
    counts = [int(re.search(r"([\d,]+) ticks", d["text/plain"])[1].replace(",", "")) for d in mine]
    assert counts == sorted(counts)
    assert counts[-1] > 0


def test_interrupted_cell_does_not_disturb_the_capture(
    notebook: Callable[..., Notebook], surroundings: dict[str, str], gateway: Gateway
) -> None:
    book = notebook(surroundings)
    book.wait("capture.status()['status']['ticks'] > 0")
    cell = book.begin("import time; print('asleep', flush=True); time.sleep(600)")
    book.wait_busy()
    book.interrupt()
    assert book.finish(cell).reply["ename"] == "KeyboardInterrupt"
    before = int(book.value("capture.status()['status']['ticks']"))
    book.wait(f"capture.status()['status']['ticks'] > {before}")
    assert book.value("capture.status()['status']['connections']") == "1"
    assert book.value("store.index.describe().startswith('PostgreSQL')") == "True"
    # Neither did the interrupt lose a tick.
    book.run("capture.stop()")
    frame, sealed = captured(surroundings["IBTICKS_STORE"], surroundings["IBTICKS_DSN"])
    sent = gateway.replay.streams[8314, "bid_ask"].columns.numbers("bid_price")
    assert sealed
    assert frame["bid_price"].to_list() == sent[: frame.height].tolist()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_shutdown_leaves_sealed_files_and_no_process(
    notebook: Callable[..., Notebook], surroundings: dict[str, str], busy: bool
) -> None:
    book = notebook(surroundings)
    book.wait("capture.status()['status']['ticks'] > 100")
    there = psutil.Process(int(book.value("import os; os.getpid()")))
    family = [there, *there.children(recursive=True)]
    if busy:
        book.begin("import time; print('asleep', flush=True); time.sleep(600)")
        book.wait_busy()
    book.close()
    assert psutil.wait_procs(family, timeout=30)[1] == []
    frame, sealed = captured(surroundings["IBTICKS_STORE"], surroundings["IBTICKS_DSN"])
    assert sealed
    assert frame.height > 100


def test_sigterm_seals_files(
    notebook: Callable[..., Notebook], surroundings: dict[str, str]
) -> None:
    book = notebook(surroundings)
    book.wait("capture.status()['status']['ticks'] > 100")
    there = psutil.Process(int(book.value("import os; os.getpid()")))
    there.send_signal(signal.SIGTERM)
    there.wait(60)
    frame, sealed = captured(surroundings["IBTICKS_STORE"], surroundings["IBTICKS_DSN"])
    assert sealed
    assert frame.height > 100


def test_restarted_kernel_continues_the_sequence(
    notebook: Callable[..., Notebook], surroundings: dict[str, str], gateway: Gateway
) -> None:
    book = notebook(surroundings)
    book.wait("capture.status()['status']['ticks'] > 100")
    book.restart()
    book.wait("capture.status()['status']['ticks'] > 100")
    book.run("capture.stop()")
    frame, sealed = captured(surroundings["IBTICKS_STORE"], surroundings["IBTICKS_DSN"])
    assert sealed
    assert frame["sequence"].to_list() == list(range(1, frame.height + 1))
    assert frame.height > 200


def test_kernel_without_contracts_prints_instructions(
    notebook: Callable[..., Notebook], surroundings: dict[str, str]
) -> None:
    del surroundings["IB_STREAM_TRACKED_CONTRACTS"]
    book = notebook(surroundings)
    first = book.run("1 + 1")
    assert "IB_STREAM_TRACKED_CONTRACTS" in first.text
    assert "ibt.Capture(store" in book.value("capture")
    assert book.run("2 + 2").text == ""
    failed = book.run("capture.start()")
    assert failed.reply["ename"] == "ConfigError"
    # And doing it works.
    assert book.run(f"capture = ibt.Capture(store, {IBM!r}); capture.start()").ok
    book.wait("capture.status()['status']['ticks'] > 0")


def test_capture_starts_only_on_request(
    surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    names, notes = make_namespace(surroundings | {"IBTICKS_CAPTURE": ""})
    assert not names["capture"].running
    assert notes == []
    names["store"].close()
    names, [note] = make_namespace(surroundings | {"IBTICKS_CAPTURE": "yes"})
    assert "IBTICKS_CAPTURE='yes'" in note
    names["store"].close()


def test_invalid_environment_is_a_note_and_no_dead_kernel(
    surroundings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    names, [note] = make_namespace({"IBTICKS_STORE": str(tmp_path / "file")})
    assert isinstance(names["store"], Unavailable)
    assert isinstance(names["capture"], Unavailable)
    assert "file" in note
    monkeypatch.setenv("IBTICKS_DSN", surroundings["IBTICKS_DSN"])
    monkeypatch.setenv("IB_STREAM_TRACKED_CONTRACTS", "8314")
    names, [note] = make_namespace(surroundings | {"IB_STREAM_TRACKED_CONTRACTS": "8314"})
    assert "IB_STREAM_TRACKED_CONTRACTS: entry 1" in note
    with pytest.raises(ConfigError, match="entry 1"):
        names["capture"].start()
    assert not hasattr(names["capture"], "_repr_html_")
    names["store"].close()


def test_second_kernel_names_the_first(
    notebook: Callable[..., Notebook], surroundings: dict[str, str]
) -> None:
    first = notebook(surroundings)
    first.wait("capture.status()['status']['ticks'] > 0")
    pid = first.value("import os; os.getpid()")
    second = notebook(surroundings)
    assert f"process {pid}" in second.run("1").text
    assert second.run("capture.start()").reply["ename"] == WriterLockedError.__name__


def test_a_kernelspec_of_an_older_version_still_starts(
    notebook: Callable[..., Notebook], prefix: Path, surroundings: dict[str, str]
) -> None:
    spec_path = prefix / "share" / "jupyter" / "kernels" / "older" / "kernel.json"
    spec = json.loads((install_kernel("older", prefix=prefix) / "kernel.json").read_text())
    assert spec["argv"][2:4] == ["-m", "ibticks.notebook"]
    spec["argv"][3] = "ibticks.capture.kernel"
    spec_path.write_text(json.dumps(spec))
    book = notebook(surroundings, "older")
    assert book.value("type(store).__name__, type(capture).__name__") == "('Store', 'Capture')"


def test_the_entry_point_of_an_older_version_warns() -> None:
    command = (sys.executable, "-W", "error::DeprecationWarning", "-m", "ibticks.capture.kernel")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DeprecationWarning: ibticks.capture.kernel is deprecated" in done.stderr
    assert "ibticks kernel install" in done.stderr


# -- telling Jupyter of it -------------------------------------------------------------------------


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    start = "from ibticks.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", start, "kernel", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_install_list_and_uninstall_from_a_shell(tmp_path: Path) -> None:
    paths = {"JUPYTER_PATH": str(tmp_path / "share" / "jupyter")}
    options = ["--store", str(tmp_path / "ticks"), "--contracts", IBM, "--start", "--name", "mine"]
    done = shell("install", "--prefix", str(tmp_path), *options, **paths)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "share" / "jupyter" / "kernels" / "mine"
    assert str(folder) in done.stdout
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["argv"][0] == sys.executable
    assert spec["display_name"] == "ibticks capture (mine)"
    assert spec["env"] == {
        "IBTICKS_STORE": str(tmp_path / "ticks"),
        "IB_STREAM_TRACKED_CONTRACTS": IBM,
        "IBTICKS_CAPTURE": "start",
    }
    assert {file.name for file in folder.iterdir()} >= {"logo-svg.svg", "logo-64x64.png"}
    assert json.loads(shell("list", "--json", **paths).stdout)["mine"] == str(folder)
    assert shell("uninstall", "--name", "mine", **paths).returncode == 0
    assert not folder.exists()
    missing = shell("uninstall", "--name", "mine", **paths)
    assert missing.returncode == 1
    assert "no kernel of ibticks is called 'mine'" in missing.stderr


def test_only_kernels_of_ibticks_are_uninstalled(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(prefix / "share" / "jupyter"))
    assert "ibticks-capture" in installed_kernels()
    assert "python3" not in installed_kernels()
    with pytest.raises(InputError, match=r"installed: .*ibticks-capture"):
        uninstall_kernel("python3")


@pytest.mark.parametrize("name", ["", "a b", "../up", "näme"])
def test_invalid_kernel_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no name of a kernel"):
        install_kernel(name, prefix=tmp_path)


def test_contracts_are_checked_before_the_install(tmp_path: Path) -> None:
    done = shell("install", "--prefix", str(tmp_path), "--contracts", "8314")
    assert done.returncode == 1
    assert "contract_id:symbol" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_user_and_prefix_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not both"):
        install_kernel(user=True, prefix=tmp_path)
