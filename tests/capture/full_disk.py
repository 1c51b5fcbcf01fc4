"""A capture on a disk that is full, and freed again: run as a script, it plays every scene.

A disk is either a small tmpfs, mounted where only this process sees it, or any folder in which no
file may grow beyond some size.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks.capture import Capture
from ibticks.capture import _capture as capture_module
from ibticks.capture import _recorder as recorder_module
from ibticks.coverage import rebuild_coverage
from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.index import FileRecord, MemoryIndex
from ibticks.schema import TickColumns, Values
from ibticks.storage import read_ticks, seal_files, verify_files
from ibticks.storage._audit import read_all_records

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_SECONDS = 60.0
ROWS = 6000


class SmallDisk:
    """Eight megabytes of memory."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        mount: Any = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]
        subprocess.run(mount, check=True)

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        self._ballast.unlink()


class SmallFiles:
    """A folder in which files stay as small as they are."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        folder.mkdir()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


class Store:
    """The parts of a store that a capture uses, with its index in memory."""

    columns = "off"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = MemoryIndex()
        (root / "metadata").mkdir()

    def note_change(self) -> None:
        pass


class SealedHere:
    def __call__(self, root: Any, keys: Any) -> list[FileRecord]:
        return seal_files(root, keys)

    def stop_if_idle(self, idle_seconds: Any) -> None:
        pass

    def close(self) -> None:
        pass


def replay() -> Replay:
    """Quotes with growing prices, five hundred a second."""
    times = Values(1_700_000_000_000_000_000 + np.arange(ROWS) * 2_000_000)
    columns: dict[str, Any] = {"timestamp": times, "bid_price": Values(np.arange(ROWS) + 1.0)}
    contract = GatewayContract(contract_id=1, symbol="ONE")
    return Replay.from_columns([contract], {(1, "bid_ask"): TickColumns(ROWS, columns)})


class Stage:
    """A capture on a disk."""

    store: Any

    def __init__(self, disk: SmallDisk | SmallFiles) -> None:
        self.disk = disk
        self.store = Store(disk.root)
        self.gateway = Gateway(replay(), speed=1.0).start()
        self.capture = Capture(
            self.store,
            "1:ONE:bid_ask",
            port=self.gateway.port,
            same_contract_seconds=0,
            reconnect_delay=0.05,
            fsync=0.2,
        ).start()
        self.until(lambda: self.stream["ticks"] > 50)

    @property
    def stream(self) -> dict[Any, Any]:
        return self.capture.status()["status"]["contracts"]["1"]["streams"]["bid_ask"]

    def until(self, holds: Callable[[], Any]) -> None:
        end = time.monotonic() + TIMEOUT_SECONDS
        while not holds():
            assert time.monotonic() < end, self.capture.status()
            time.sleep(0.01)

    def stored_prices(self) -> list[float]:
        return [
            price
            for record in self.store.index.files()
            for chunk in read_ticks(self.store.root, [record], ["timestamp", "bid_price"])
            for price in chunk.numbers("bid_price").tolist()
        ]

    def states(self) -> list[str]:
        return [row.state for row in self.store.index.coverage()]

    def end(self) -> None:
        self.capture.stop()
        self.gateway.close()
        assert list(self.capture.failures) == [], self.capture.failures
        assert not any(
            finding.problem for finding in verify_files(self.store.root, self.store.index)
        )
        assert self.store.index.files() == list(read_all_records(self.store.root))
        assert self.store.index.coverage() == rebuild_coverage(
            self.store.root, self.store.index.files()
        )


def it_is_freed_before_memory_is_used_up(stage: Stage) -> None:
    """No tick is lost when the connection drops and the status file cannot be written."""
    stage.disk.fill()
    stage.until(lambda: stage.stream["waiting"] > 100)
    stage.gateway.drop()
    stage.until(lambda: stage.capture.status()["status"]["connections"] == 2)
    ticks = stage.stream["ticks"]
    stage.until(lambda: stage.stream["ticks"] > ticks + 100)
    stage.disk.free()
    stage.until(lambda: stage.stream["waiting"] == 0)
    ticks = stage.stream["ticks"]
    stage.until(lambda: stage.stream["ticks"] > ticks + 50)
    stage.end()
    sent = len(stage.gateway.rows_sent(1, "bid_ask"))
    assert stage.stored_prices() == [row + 1.0 for row in stage.gateway.rows_sent(1, "bid_ask")], (
        sent
    )
    assert stage.states() == ["captured", "disconnected", "captured"]


def memory_is_used_up(stage: Stage) -> None:
    """Ticks beyond the limit are lost; coverage and sequence numbers show it."""
    max_pending, recorder_module._MAX_PENDING = recorder_module._MAX_PENDING, 200  # type: ignore[misc]
    stage.disk.fill()
    stage.until(lambda: stage.stream["lost"] > 100)
    stage.disk.free()
    stage.until(lambda: stage.stream["state"] == "captured" and not stage.stream["waiting"])
    ticks = stage.stream["ticks"]
    stage.until(lambda: stage.stream["ticks"] > ticks + 50)
    stage.end()
    recorder_module._MAX_PENDING = max_pending  # type: ignore[misc]
    lost = stage.capture._recorders[0].lost
    assert len(stage.stored_prices()) == len(stage.gateway.rows_sent(1, "bid_ask")) - lost
    assert stage.states() == ["captured", "disconnected", "captured"]
    assert "no room on the disk" in stage.store.index.coverage()[1].reason


def it_is_full_at_the_end(stage: Stage) -> None:
    """Only the pending ticks are lost, and the capture stops."""
    stage.disk.fill()
    stage.until(lambda: stage.stream["waiting"] > 10)
    stage.capture.stop()
    stage.gateway.close()
    stage.disk.free()
    assert stage.capture.status()["status"]["contracts"]["1"]["streams"]["bid_ask"]["waiting"] > 10
    prices = stage.stored_prices()
    assert prices == [row + 1.0 for row in range(len(prices))]
    assert len(prices) > 50


def it_is_full_at_the_beginning(stage: Stage) -> None:
    """A capture that cannot write begins all the same, and writes when it can."""
    stage.capture.stop()
    before = stage.stored_prices()
    stage.disk.fill()
    try:
        stage.capture.start()
        stage.until(lambda: stage.stream["waiting"] > 10)
    finally:
        stage.disk.free()
    stage.until(lambda: stage.stream["waiting"] == 0)
    stage.end()
    assert stage.stored_prices()[: len(before)] == before
    assert stage.stored_prices() == [row + 1.0 for row in stage.gateway.rows_sent(1, "bid_ask")]


SCENES = {
    scene.__name__: scene
    for scene in (
        it_is_freed_before_memory_is_used_up,
        memory_is_used_up,
        it_is_full_at_the_end,
        it_is_full_at_the_beginning,
    )
}
DISKS: dict[str, type[SmallDisk | SmallFiles]] = {
    "small disk": SmallDisk,
    "small files": SmallFiles,
}


def play(kind: str, folder: Path) -> dict[str, str]:
    """Return the error of each scene, empty where there was none."""
    errors = {}
    for name, scene in SCENES.items():
        stage = Stage(DISKS[kind](folder / name))
        try:
            scene(stage)
            errors[name] = ""
        except BaseException:
            errors[name] = traceback.format_exc()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            stage.capture.stop()
            stage.gateway.close()
    return errors


def apart() -> list[str] | None:
    """The words before a command that let it mount something only it sees; None: not here."""
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None:
        return None
    mount = [*own, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    return own if subprocess.run(mount, capture_output=True, check=False).returncode == 0 else None


if __name__ == "__main__":
    capture_module.SealProcess = SealedHere  # type: ignore[assignment, attr-defined]
    played = play(sys.argv[1], Path(sys.argv[2]))
    json.dump(played, sys.stdout)
