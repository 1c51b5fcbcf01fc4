"""Scenes on a full disk: run as a script, it plays each scene and prints the outcome.

A disk is either a small tmpfs, mounted where only this process sees it, or any folder in which no
file may grow beyond some size: there the operating system refuses with another error, so that it
is a StorageError rather than a StorageFullError, but all else has to be the same.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.errors import StorageError, StorageFullError
from ibticks.index import MemoryIndex
from ibticks.storage import (
    FileKey,
    StreamLock,
    StreamWriter,
    compress_file,
    list_files,
    verify_files,
)
from ibticks.storage._layout import list_unfinished
from ibticks.store._deletion import delete_files

if __name__ == "__main__":
    # As a script it is in no package.
    sys.path.insert(0, str(Path(__file__).parent))
    import samples  # type: ignore[import-not-found]
else:
    from . import samples

CONTRACT, H13, KEY = samples.CONTRACT, samples.H13, samples.KEY
numbers, quotes, quote_message = samples.numbers, samples.quotes, samples.quote_message
TICK = FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS)


class SmallDisk:
    """Four megabytes of memory."""

    error = StorageFullError

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        mount: Any = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
        subprocess.run(mount, check=True)

    def fill(self, _growing: Path | None = None, leave: int = 0) -> None:
        """Leave so many bytes, at most."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(max(0, file.tell() - leave))

    def free(self) -> None:
        self._ballast.unlink()


class SmallFiles:
    """A folder in which files stay small."""

    error = StorageError

    def __init__(self, folder: Path) -> None:
        self.root = folder
        folder.mkdir()

    def fill(self, growing: Path | None = None, leave: int = 0) -> None:
        """Let no file grow, and ``growing`` by so many bytes only."""
        size = growing.stat().st_size if growing else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + leave, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


class Stage:
    """A disk, an index, and writers on it."""

    def __init__(self, disk: SmallDisk | SmallFiles) -> None:
        self.disk = disk
        self.root = disk.root
        self.path = disk.root / KEY.path
        self.index = MemoryIndex()

    def writer(self) -> StreamWriter:
        return StreamWriter(self.root, CONTRACT, "bid_ask", self.index, fsync=None)

    def refused(self) -> pytest.RaisesExc[Any]:
        return pytest.raises(self.disk.error)

    def stored_numbers(self) -> list[int]:
        return numbers(self.root, self.index)

    def check(self, count: int) -> None:
        """Assert that every tick is stored once, and that the index is correct."""
        assert self.stored_numbers() == list(range(count))
        assert not any(finding.problem for finding in verify_files(self.root, self.index))
        assert list(list_unfinished(self.root, CONTRACT, "bid_ask")) == []


def single_ticks(stage: Stage) -> None:
    writer = stage.writer()
    writer.append(quote_message(H13, 0))
    stage.disk.fill(stage.path, leave=9000)
    accepted = 1
    for _ in range(3):
        with stage.refused():
            while True:
                writer.append(quote_message(H13 + accepted, accepted))
                accepted += 1
        assert stage.stored_numbers() == list(range(accepted))
    assert accepted > 20
    stage.disk.free()
    writer.append(quote_message(H13 + accepted, accepted))
    writer.write(quotes(samples.every(1, 50, H13 + accepted + 1), accepted + 1))
    writer.close()
    stage.check(accepted + 51)


def ticks_in_bulk(stage: Stage) -> None:
    writer = stage.writer()
    ticks = samples.hour_of_quotes(40_000)
    writer.append(quote_message(H13, 0))
    stage.disk.fill(stage.path, leave=2_500_000)
    rest = ticks.take(slice(1, None))
    with stage.refused() as caught:
        writer.write(rest)
    written = caught.value.context["written"]
    assert 10_000 < written < 39_000
    assert stage.stored_numbers() == list(range(1 + written))
    with stage.refused() as caught:
        writer.write(rest.take(slice(written, None)))
    assert caught.value.context["written"] == 0
    assert stage.stored_numbers() == list(range(1 + written))
    stage.disk.free()
    assert writer.write(rest.take(slice(written, None))) == 39_999 - written
    writer.close()
    stage.check(40_000)


def a_new_hour(stage: Stage) -> None:
    writer = stage.writer()
    writer.append(quote_message(H13, 0))
    stage.disk.fill()
    for write in (
        lambda: writer.append(quote_message(H13 + HOUR_NS, 1)),
        lambda: writer.write(quotes([H13 + HOUR_NS], 1)),
    ):
        with stage.refused():
            write()
    assert list(list_files(stage.root)) == [KEY]
    assert list(list_unfinished(stage.root, CONTRACT, "bid_ask")) == []
    assert len(stage.index.files()) == 1
    stage.disk.free()
    writer.append(quote_message(H13 + HOUR_NS, 1))
    writer.close()
    stage.check(2)


def sealing_in_place(stage: Stage) -> None:
    """A capture stops cleanly on a full disk, since this needs no space."""
    writer = stage.writer()
    writer.write(quotes(samples.every(1, 1000)))
    stage.disk.fill(stage.path)
    writer.close()
    assert stage.index.files()[0].sealed
    stage.check(1000)
    stage.disk.free()


def sealing_an_old_file(stage: Stage) -> None:
    stage.path.parent.mkdir(parents=True)
    frames = [samples.old_frame(H13 + number, number) for number in range(1000)]
    stage.path.write_bytes(samples.old_header() + b"".join(frames))
    before = stage.path.read_bytes()
    stage.disk.fill()
    for _ in range(2):
        with stage.refused():
            stage.writer()
        assert stage.path.read_bytes() == before
        assert list(list_unfinished(stage.root, CONTRACT, "bid_ask")) == []
    stage.disk.free()
    stage.writer().close()
    stage.check(1000)


def sealing_when_a_writer_closes(stage: Stage) -> None:
    stage.path.parent.mkdir(parents=True)
    writer = stage.writer()
    stage.path.write_bytes(samples.old_header() + samples.old_frame(H13, 0))
    writer.append(quote_message(H13 + 1, 1))
    before = stage.path.read_bytes()
    stage.disk.fill()
    with stage.refused():
        writer.close()
    assert stage.path.read_bytes() == before
    assert stage.stored_numbers() == [0, 1]
    stage.disk.free()
    stage.writer().close()
    stage.check(2)


def compressing(stage: Stage) -> None:
    with stage.writer() as writer:
        writer.write(quotes(samples.every(1, 20_000)))
    before = stage.path.read_bytes()
    stage.disk.fill()
    for compression in ("zstd", "gzip", "snappy"):
        with stage.refused():
            compress_file(stage.root, KEY, compression)
        assert stage.path.read_bytes() == before
        stage.check(20_000)
    stage.disk.free()
    stage.index.put_files([compress_file(stage.root, KEY, "zstd")])
    assert stage.path.stat().st_size < len(before) / 2
    stage.check(20_000)


def opening_a_compressed_file(stage: Stage) -> None:
    with stage.writer() as writer:
        writer.write(quotes(samples.every(1, 20_000)))
    stage.index.put_files([compress_file(stage.root, KEY, "zstd")])
    before = stage.path.read_bytes()
    stage.disk.fill()
    writer = stage.writer()
    with stage.refused():
        writer.append(quote_message(H13 + 20_000, 20_000))
    assert stage.path.read_bytes() == before
    assert stage.stored_numbers() == list(range(20_000))
    stage.disk.free()
    writer.append(quote_message(H13 + 20_000, 20_000))
    writer.close()
    stage.check(20_001)


def a_torn_tail(stage: Stage) -> None:
    with stage.writer() as writer:
        writer.append(quote_message(H13, 0))
        writer.append(quote_message(H13, 1))
        torn = stage.path.read_bytes()[:-7]
    stage.path.write_bytes(torn)
    stage.index.drop_files([KEY.path])
    stage.disk.fill()
    with stage.refused():
        stage.writer()
    assert stage.path.read_bytes() == torn
    stage.disk.free()
    stage.writer().close()
    stage.check(1)


def locking_and_deleting(stage: Stage) -> None:
    """Deleting frees space: it has to work where there is none, not even for a lock's note."""
    with stage.writer() as writer:
        writer.append(quote_message(H13, 0))
        writer.append(quote_message(H13 + HOUR_NS, 1))
    stage.disk.fill()
    lock = StreamLock(stage.root, CONTRACT, "bid_ask")
    with pytest.raises(StorageError, match="already written by another process"):
        stage.writer()
    lock.release()
    assert list(delete_files(stage.root, stage.index, [KEY])) == [KEY]
    assert not stage.path.exists()
    assert stage.stored_numbers() == [1]
    stage.disk.free()
    assert list(list_files(stage.root)) == [TICK]


SCENES = {
    scene.__name__: scene
    for scene in (
        single_ticks,
        ticks_in_bulk,
        a_new_hour,
        sealing_in_place,
        sealing_an_old_file,
        sealing_when_a_writer_closes,
        compressing,
        opening_a_compressed_file,
        a_torn_tail,
        locking_and_deleting,
    )
}
DISKS = {"small disk": SmallDisk, "small files": SmallFiles}


def play(kind: str, folder: Path) -> dict[str, str]:
    """Play every scene and return its failure, or an empty string."""
    details = {}
    for number, (name, scene) in enumerate(SCENES.items()):
        disk: Any = DISKS[kind](folder / str(number))
        try:
            scene(Stage(disk))
            details[name] = ""
        except BaseException:
            details[name] = traceback.format_exc()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    return details


def apart() -> list[str] | None:
    """The words before a command that let it mount something only it sees; None: not here."""
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None:
        return None
    mount = [*own, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    return own if subprocess.run(mount, capture_output=True, check=False).returncode == 0 else None


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    json.dump(play(sys.argv[1], Path(sys.argv[2])), sys.stdout)
