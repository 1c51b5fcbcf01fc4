"""``ibticks capture`` and ``ibticks status``: start, status, signals and memory of a service."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.gateway import Gateway, Replay
from tests.capture_checks import check_index, check_stored, covered, statuses, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

TRACKED = "1:ONE:bid_ask;last,2:TWO:bid_ask"
HEAVY = {"numba", "llvmlite", "pandas", "polars", "pyarrow", "xarray", "dask"}
SMALL = 100e6

COMMAND = ("-c", "from ibticks.cli import main; main()")

# The command, and a thread that reports the modules and memory of its process.
REPORTING = """
import json, sys, threading
from pathlib import Path
from ibticks.cli._app import run

def resident():
    status = Path("/proc/self/status")
    if status.exists():
        line = next(l for l in status.read_text().splitlines() if l.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def tell():
    for _ in sys.stdin:
        modules = list(sys.modules)
        print(json.dumps({"resident": resident(), "modules": modules}), flush=True)

threading.Thread(target=tell, daemon=True).start()
run()
"""

# A command that opens the store slowly, and one with a stop that never ends.
SLOW = """
import time
from ibticks import store
from ibticks.cli import main

open_store = store.open_store

def slow(*arguments, **options):
    print("opening", flush=True)
    time.sleep(0.5)
    return open_store(*arguments, **options)

store.open_store = slow
main()
"""
STUCK = """
import time
from ibticks.capture import Capture
from ibticks.cli import main

def stop(self):
    print("stopping", flush=True)
    while True:
        time.sleep(0.1)

Capture.stop = stop
main()
"""


class Service:
    """``ibticks capture`` in a separate process."""

    def __init__(
        self,
        root: Path,
        dsn: str,
        gateway: Gateway,
        tracked: str,
        *more: Any,
        command: tuple[str, str] = COMMAND,
    ) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [
                sys.executable,
                *command,
                *("capture", tracked, "--store", str(root), "--dsn", dsn),
                *("--gateway", f"127.0.0.1:{gateway.port}", "--same-contract-seconds", "0"),
                *more,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("IB_STREAM")},
        )

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit code and the output."""
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def status(self) -> dict[Any, Any]:
        code, answer = ask_status(self.root)
        assert code == (0 if answer["status"]["running"] else 1)
        return answer["status"]


def ask_status(root: Path, *more: Any) -> tuple[int, dict[Any, Any]]:
    done = subprocess.run(
        [sys.executable, *COMMAND, "status", "--store", str(root), "--json", *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def service(tmp_path: Path, database: str) -> Iterator[Callable[..., Service]]:
    started = []

    def start(gateway: Gateway, tracked: str = TRACKED, *more: str, **how: Any) -> Service:
        started.append(Service(tmp_path / "ticks", database, gateway, tracked, *more, **how))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


@pytest.fixture
def reopened(tmp_path: Path, database: str) -> Iterator[Callable[[], Store]]:
    """The store of the service, when that is over."""
    import ibticks as ibt

    opened = []

    def reopen() -> Store:
        opened.append(ibt.open(tmp_path / "ticks", dsn=database))
        return opened[-1]

    yield reopen
    for store in opened:
        store.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_command_ends_cleanly(
    how: signal.Signals,
    steady: Replay,
    serve: Callable[..., Gateway],
    service: Callable[..., Service],
    reopened: Callable[[], Store],
) -> None:
    gateway = serve(steady, speed=1.0)
    running = service(gateway)
    assert gateway.wait_sent(100)
    code, out, err = running.end(how)
    assert (code, out) == (0, "")
    assert "WARNING capturing ONE, TWO from 127.0.0.1" in err
    assert "stopped: all sealed" in err
    assert "Traceback" not in err
    store = reopened()
    assert all(file.sealed for file in store.index.files())
    for key in ((1, "bid_ask"), (1, "last"), (2, "bid_ask")):
        assert len(store.select(*key).to_polars()) > 0
        assert [status for status, _ in statuses(store, *key)] == ["subscribed", "stopped"]
        assert covered(store, *key) == ["captured"]
    assert {contract.symbol for contract in store.contracts()} == {"ONE", "TWO"}
    check_index(store.root, store.index)


def test_status_and_logs(
    steady: Replay, serve: Callable[..., Gateway], service: Callable[..., Service], tmp_path: Path
) -> None:
    root = tmp_path / "ticks"
    code, answer = ask_status(tmp_path)
    assert code == 1
    nothing = {"total_contracts": 0, "active_contracts": 0, "total_streams": 0, "contracts": {}}
    stopped = {"running": False, "tws_connected": False}
    assert answer == {"enabled": False, "status": {**stopped, **nothing}}
    gateway = serve(steady, speed=1.0)
    running = service(gateway, TRACKED, "--json-logs")
    until(lambda: (root / "metadata" / "capture.json").exists())
    until(lambda: running.status().get("total_streams") == 3)
    status = running.status()
    assert status["running"] is True
    assert status["tws_connected"] is True
    assert (status["total_contracts"], status["active_contracts"]) == (2, 2)
    contract = {k: v for k, v in status["contracts"]["1"].items() if k != "streams"}
    assert contract == {
        "symbol": "ONE",
        "enabled": True,
        "expected_tick_types": ["bid_ask", "last"],
        "active_tick_types": ["bid_ask", "last"],
        "stream_count": 2,
        "buffer_hours": 1,
    }
    assert status["pid"] == running.process.pid
    human = subprocess.run(
        [sys.executable, *COMMAND, "status", "--store", str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"connected to 127.0.0.1:{gateway.port}, 3 streams" in human.stdout
    assert "TWO bid_ask" in human.stdout
    code, out, err = running.end()
    assert (code, out) == (0, "")
    logs = [json.loads(line) for line in err.splitlines()]
    assert {"time", "level", "logger", "message"} <= logs[0].keys()
    assert any(log["message"].startswith("capturing ONE, TWO") for log in logs)
    assert any(log["message"].startswith("IB 2104") for log in logs)
    assert running.status()["running"] is False


def test_status_of_a_killed_capture(
    steady: Replay, serve: Callable[..., Gateway], service: Callable[..., Service], tmp_path: Path
) -> None:
    gateway = serve(steady, speed=1.0)
    running = service(gateway)
    until(lambda: (tmp_path / "ticks" / "metadata" / "capture.json").exists())
    until(lambda: running.status()["total_streams"] == 3)
    running.process.kill()
    running.process.wait()
    status = running.status()
    assert (status["running"], status["total_streams"], status["active_contracts"]) == (False, 0, 0)
    assert status["contracts"]["1"]["stream_count"] == 0
    # And the next one takes over at once.
    again = service(gateway)
    until(lambda: again.status().get("total_streams") == 3)
    assert again.end()[0] == 0


def test_signal_before_the_start(
    steady: Replay,
    serve: Callable[..., Gateway],
    service: Callable[..., Service],
    reopened: Callable[[], Store],
) -> None:
    gateway = serve(steady, speed=1.0)
    running = service(gateway, TRACKED, command=("-c", SLOW))
    assert running.process.stdout.readline() == "opening\n"
    code, _, err = running.end()
    assert code == 0, err
    assert all(file.sealed for file in reopened().index.files())


def test_second_signal_ends_at_once(
    steady: Replay,
    serve: Callable[..., Gateway],
    service: Callable[..., Service],
    reopened: Callable[[], Store],
) -> None:
    """The captured ticks are stored all the same."""
    gateway = serve(steady, speed=1.0)
    running = service(gateway, TRACKED, command=("-c", STUCK))
    assert gateway.wait_sent(100)
    running.process.send_signal(signal.SIGINT)
    assert running.process.stdout.readline() == "stopping\n"
    code, _, _ = running.end(signal.SIGINT)
    assert code != 0
    store = reopened()
    assert len(store.select(1, "last").to_polars()) > 0


def test_second_command_names_the_writer_of_the_stream(
    steady: Replay, serve: Callable[..., Gateway], service: Callable[..., Service]
) -> None:
    gateway = serve(steady, speed=1.0)
    first = service(gateway)
    assert gateway.wait_sent(50)
    second = service(gateway, "1:ONE:last", "--client-id", "11")
    out, err = second.process.communicate(timeout=60)
    assert (second.process.returncode, out) == (1, "")
    assert f"is already written by process {first.process.pid} on" in " ".join(err.split())
    third = service(gateway, "1:ONE:last", "--json-logs")
    _, err = third.process.communicate(timeout=60)
    assert third.process.returncode == 1
    (*_, log) = [json.loads(line) for line in err.splitlines()]
    assert log["level"] == "error"
    assert f"process {first.process.pid} on" in log["message"]
    assert first.end()[0] == 0


@pytest.mark.parametrize(
    ("tracked", "more", "problem"),
    [
        ("1:ONE:quotes", (), "unknown tick type 'quotes'"),
        ("", (), "no contract to capture"),
        (TRACKED, ("--max-tracked", "1"), "2 contracts are to be tracked, and at most 1 may be"),
        (TRACKED, ("--gateway", "nowhere"), "'nowhere' is not an address"),
        (TRACKED, ("--reconnect-delay", "0"), "reconnect_delay=0.0: give seconds, more than 0"),
        (TRACKED, ("--fsync", "sometimes"), "give seconds, or always, or never"),
        (TRACKED, ("--compress-after", "some day"), "'some day'"),
        (TRACKED, ("--keep", "for ever"), "'for ever'"),
    ],
)
def test_invalid_commands(
    tracked: str, more: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, *COMMAND, "capture", tracked, "-s", tmp_path / "none", *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert problem in " ".join(done.stderr.replace("│", " ").split())
    # Before anything was made.
    assert not (tmp_path / "none").exists()


def test_memory_stays_small(
    few: Replay,
    serve: Callable[..., Gateway],
    service: Callable[..., Service],
    tmp_path: Path,
    reopened: Callable[[], Store],
) -> None:
    """Ten contracts, three tick types each, in less than 100 MB and without heavy imports."""
    replay = few.cloned(8)
    replay = Replay(
        replay.contracts, replay.only(None, ["bid_ask", "all_last", "mid_point"]).streams.values()
    )
    gateway = serve(replay)
    tracked = ",".join(
        f"{contract.contract_id}:{contract.symbol}:bid_ask;all_last;mid_point"
        for contract in replay.contracts
    )
    running = service(gateway, tracked, command=("-c", REPORTING))
    assert gateway.wait_finished()
    until(lambda: running.status().get("ticks") == replay.rows)
    running.process.stdin.write("tell\n")
    running.process.stdin.flush()
    output: Any = running.process.stdout
    ready, _, _ = select.select([output], [], [], 30)
    assert ready, running.end()
    report = json.loads(running.process.stdout.readline())
    assert HEAVY & set(report["modules"]) == set()
    assert report["resident"] < SMALL
    assert running.end()[0] == 0
    store = reopened()
    assert sum(check_stored(store, gateway, *key) for key in replay.streams) == replay.rows
