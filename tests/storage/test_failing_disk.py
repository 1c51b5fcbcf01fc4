"""Failed writes and syncs: a file of unknown contents is not appended to.

If the removal of a torn message fails, or a sync, the file is rewritten, the hour continues in its
other file, or the tick is refused. Every accepted tick is stored once in the end.
"""

from __future__ import annotations

import errno
import os
import random
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.errors import StorageError, StorageFullError, TickError
from ibticks.live._tail import Tail
from ibticks.storage import FileKey, StreamWriter, compress_file, list_files, verify_files

from .samples import (
    CONTRACT,
    H13,
    HALF,
    KEY,
    MINUTE,
    SECOND,
    every,
    numbers,
    open_descriptors,
    quote_message,
    quotes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.index import MemoryIndex

SYNCS = ("fsync", "fdatasync")
NEXT = FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS)


def path_of(descriptor: int) -> str:
    """The path of an open file."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


class Faults:
    """System calls that fail, for files of the store that are chosen by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: dict[str, int] = {}
        self._monkeypatch = monkeypatch

    @contextmanager
    def failing(
        self, *names: str, code: int = errno.EIO, only: str = "", after: int = 0
    ) -> Iterator[None]:
        """Make calls of these names fail for paths that contain ``only``.

        A write puts half of its bytes into the file first; ``after`` calls succeed before.
        """
        with self._monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, self._wrap(name, code, only, after))
            yield

    def _wrap(self, name: str, code: int, only: str, after: int) -> Callable[..., int]:
        real = getattr(os, name)
        spared = [after]

        def call(descriptor: int, *arguments: Any) -> Any:
            if only not in path_of(descriptor):
                return real(descriptor, *arguments)
            if spared[0]:
                spared[0] -= 1
                return real(descriptor, *arguments)
            self.calls[name] = self.calls.get(name, 0) + 1
            if name == "write" and self.calls[name] % 2:
                return real(descriptor, bytes(arguments[0])[: len(arguments[0]) // 2])
            raise OSError(code, os.strerror(code))

        return call


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def refuse(writer: StreamWriter, number: int, *, at: int = H13) -> None:
    with pytest.raises(StorageError):
        writer.append(quote_message(at + number * SECOND, number))


def accept(writer: StreamWriter, start: int, count: int, *, at: int = H13) -> None:
    for number in range(start, start + count):
        writer.append(quote_message(at + number * SECOND, number))


def check(root: Path, index: MemoryIndex, count: int) -> None:
    """All that was accepted is there, once, and sealed."""
    assert sorted(numbers(root, index, strict=True)) == list(range(count))
    assert all(record.sealed for record in index.files())
    assert not any(finding.problem for finding in verify_files(root, index))


# --- a message that was half written and cannot be taken back -------------------------------------


@pytest.mark.parametrize("torn", ["truncation", "seek", "both"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_torn_message_is_removed_before_the_next_append(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    faults: Faults,
    torn: str,
    code: int,
) -> None:
    calls = {"truncation": ["ftruncate"], "seek": ["lseek"], "both": ["ftruncate", "lseek"]}[torn]
    opened = writer()
    accept(opened, 0, 10)
    error = StorageFullError if code == errno.ENOSPC else StorageError
    failing = faults.failing("write", *calls, code=code, only="13_ticks.pb")
    with failing, pytest.raises(error):
        opened.append(quote_message(H13, 10))
    accept(opened, 10, 30)
    assert numbers(root, index) == list(range(40))
    opened.close()
    check(root, index, 40)
    assert list(list_files(root)) == [KEY]


@pytest.mark.parametrize("many", [1, 50, 5000])
def test_whole_messages_of_a_failed_chunk_are_removed(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults, many: int
) -> None:
    opened = writer()
    accept(opened, 0, 10)
    chunk = quotes(every(SECOND // 10, many, H13 + MINUTE), 10)
    with faults.failing("write", "ftruncate", only="13_ticks.pb"), pytest.raises(StorageError):
        opened.write(chunk)
    assert opened.write(chunk) == many
    opened.close()
    check(root, index, 10 + many)


def test_a_file_that_cannot_be_truncated_is_rewritten(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = writer()
    accept(opened, 0, 10)
    path = root / KEY.path
    inode = path.stat().st_ino
    with faults.failing("ftruncate"):
        with faults.failing("write", only="13_ticks.pb"):
            refuse(opened, 10)
        accept(opened, 10, 5)
        assert path.stat().st_ino != inode
        assert numbers(root, index) == list(range(15))
    assert "is not known to end at byte" in caplog.text
    assert "written to a new file and synced" in caplog.text
    opened.close()
    check(root, index, 15)
    assert not path.with_name(path.name + ".torn").exists()


def broken_file(
    faults: Faults, opened: StreamWriter, number: int, *, at: int = H13, only: str = "13_ticks.pb"
) -> None:
    """Tear a message, and fail all repairs until the context ends."""
    with faults.failing("write", only=only), faults.failing("ftruncate"):
        refuse(opened, number, at=at)


@pytest.mark.parametrize("then", ["seal", "maintain", "close"])
def test_an_hour_that_cannot_be_repaired_continues_in_its_other_file(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
    then: str,
) -> None:
    opened = writer()
    accept(opened, 0, 10)
    broken_file(faults, opened, 10)
    with (
        faults.failing("ftruncate", only="13_ticks"),
        faults.failing(*SYNCS, only="13_ticks.pb.new"),
    ):
        accept(opened, 10, 20)
        assert numbers(root, index) == list(range(30))
        assert "ticks of its hour go to another file" in caplog.text
        with pytest.raises(StorageError, match=r"13_ticks\.pb"):
            opened.seal()
        assert opened.appender.has_open(KEY)
        assert {record.path: record.sealed for record in index.files()} == {
            KEY.path: False,
            HALF.path: True,
        }
    {"seal": opened.seal, "maintain": lambda: opened.maintain(H13 + 2 * HOUR_NS)}.get(
        then, opened.close
    )()
    check(root, index, 30)
    assert list(list_files(root)) == [KEY, HALF]
    opened.close()


@pytest.mark.parametrize("part", ["30", "backfill"])
def test_a_file_without_an_alternative_refuses_until_it_is_repaired(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults, part: str
) -> None:
    how = {"split_bytes": 1} if part == "30" else {"backfill": True}
    at = H13 + 31 * MINUTE
    opened = writer(**how)
    accept(opened, 0, 1)
    accept(opened, 1, 5, at=at)
    name = f"13-{part}_ticks.pb"
    broken_file(faults, opened, 6, at=at, only=name)
    with faults.failing("ftruncate", only=name), faults.failing(*SYNCS, only=f"{name}.new"):
        refuse(opened, 6, at=at)
        refuse(opened, 6, at=at)
        if part == "30":
            accept(opened, 6, 4)  # the first half continues
    start = 10 if part == "30" else 6
    accept(opened, start, 5, at=at)
    opened.close()
    check(root, index, start + 5)


def test_other_hours_are_not_blocked(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults
) -> None:
    opened = writer(open_files=2)
    accept(opened, 0, 10)
    broken_file(faults, opened, 10)
    with (
        faults.failing("ftruncate", only="13_ticks"),
        faults.failing(*SYNCS, only="13_ticks.pb.new"),
    ):
        for hour in range(1, 5):
            accept(opened, 10 * hour, 10, at=H13 + hour * HOUR_NS)
        with pytest.raises(StorageError):
            opened.close()
    assert [record.sealed for record in index.files()] == [False, True, True, True, True]
    # Only the torn message is cut by the next writer.
    writer().close()
    check(root, index, 50)


def test_a_live_reader_follows_the_other_and_the_rewritten_file(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults
) -> None:
    opened = writer()
    accept(opened, 0, 10)
    tail = Tail(root, CONTRACT, "bid_ask", H13)

    def ticks() -> int:
        tail.rescan()
        actual = 0
        while (batch := tail.read()) is not None:
            actual += batch.ticks
        return actual

    assert ticks() == 10
    broken_file(faults, opened, 10)
    assert ticks() == 0
    with faults.failing("ftruncate"):
        accept(opened, 10, 5)
    assert ticks() == 5
    broken_file(faults, opened, 15)
    with (
        faults.failing("ftruncate", only="13_ticks"),
        faults.failing(*SYNCS, only="13_ticks.pb.new"),
    ):
        accept(opened, 15, 5)
        assert ticks() == 5
    opened.close()
    assert ticks() == 0
    assert tail.intact
    tail.close()
    check(root, index, 20)


# --- a sync that fails ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("how", ["append", "maintain", "seal"])
def test_bytes_are_rewritten_after_a_failed_sync(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
    how: str,
    code: int,
) -> None:
    opened = writer(fsync=0 if how == "append" else None if how == "seal" else 1.0)
    path = root / KEY.path
    accept(opened, 0, 10)
    inode = path.stat().st_ino
    if how == "maintain":
        opened.appender._open[KEY].synced_at = -10.0
    with faults.failing(*SYNCS, code=code, only="/13_ticks.pb"):
        if how == "append":
            accept(opened, 10, 1)
        elif how == "maintain":
            opened.maintain(H13)
        else:
            opened.seal()
    assert sum(faults.calls.values()) == (1 if how != "seal" else 2)  # of sealing, too
    assert path.stat().st_ino != inode
    assert "may not survive a power cut" in caplog.text
    accept(opened, 11 if how == "append" else 10, 20)
    opened.close()
    check(root, index, 31 if how == "append" else 30)
    assert list(list_files(root)) == [KEY]


def test_a_failed_sync_is_not_trusted_when_it_succeeds_later(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults
) -> None:
    """Until the rewritten file is synced, errors are reported and ticks go to the other file."""
    opened = writer(fsync=0)
    accept(opened, 0, 10)
    inode = (root / KEY.path).stat().st_ino
    failing = faults.failing(*SYNCS, only="13_ticks.pb")
    with failing, pytest.raises(StorageError, match="may not survive a power cut") as caught:
        opened.append(quote_message(H13, 10))
    assert caught.value.context["offset"] > 256
    with faults.failing(*SYNCS, only="13_ticks.pb.new"):
        accept(opened, 10, 10)
        assert (root / HALF.path).exists()
        # The old file's own sync would succeed now.
        with pytest.raises(StorageError):
            opened.maintain(H13 + 2 * HOUR_NS)
        assert not next(r for r in index.files() if r.path == KEY.path).sealed
        assert (root / KEY.path).stat().st_ino == inode
    opened.maintain(H13 + 2 * HOUR_NS)
    assert (root / KEY.path).stat().st_ino != inode
    opened.close()
    check(root, index, 20)


@pytest.mark.parametrize("lost", [1, 2, 5])
@pytest.mark.parametrize("next_hour", ["syncs", "fails"])
def test_a_message_that_failed_to_sync_is_refused(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    monkeypatch: pytest.MonkeyPatch,
    lost: int,
    next_hour: str,
) -> None:
    """Its bytes read as zeros after the failed sync; the file of another hour may fail, too."""
    opened = writer(fsync=0)
    accept(opened, 100, 1, at=H13 + HOUR_NS)
    sizes = []
    for number in range(10):
        accept(opened, number, 1)
        sizes.append(opened.appender._open[KEY].size)
    start = sizes[-lost]
    opened.appender._open[NEXT].unsynced = True

    def give_up(descriptor: Any) -> None:
        path = path_of(descriptor)
        if path.endswith("/13_ticks.pb"):
            os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size - start), start)
        elif "14_ticks.pb" not in path or next_hour == "syncs":
            return sync(descriptor)
        raise OSError(errno.EIO, "refused")

    sync = os.fsync
    with monkeypatch.context() as patch:
        for name in SYNCS:
            patch.setattr(os, name, give_up)
        refuse(opened, 10)
    assert sorted(numbers(root, index)) == [*range(11 - lost), 100]
    accept(opened, 10, 5)
    opened.close()
    assert sorted(numbers(root, index, strict=True)) == [*range(11 - lost), *range(10, 15), 100]
    assert not any(finding.problem for finding in verify_files(root, index))


def test_lost_bytes_are_reported_and_the_rest_stays(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = writer(fsync=None)
    accept(opened, 0, 10)
    size = opened.appender._open[KEY].size
    accept(opened, 10, 10)
    with (root / KEY.path).open("r+b") as file:
        file.seek(size)
        file.write(bytes(opened.appender._open[KEY].size - size))
    with faults.failing(*SYNCS, only="/13_ticks.pb"):
        opened.appender._open[KEY].sync()
    assert f"accepted bytes after byte {size} are lost" in caplog.text
    accept(opened, 10, 3)
    opened.close()
    check(root, index, 13)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("rewrite", ["works", "fails"])
def test_a_sync_that_fails_while_sealing_is_not_trusted(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    faults: Faults,
    which: int,
    rewrite: str,
) -> None:
    """Neither that of the bytes, nor that of the header which vouches for them."""
    opened = writer(fsync=None)
    accept(opened, 0, 10)
    opened.appender._open[KEY].sync()
    inode = (root / KEY.path).stat().st_ino
    only = "/13_ticks.pb" if rewrite == "works" else "13_ticks.pb"
    with faults.failing("fdatasync" if which == 0 else "fsync", only=only):
        if rewrite == "works":
            opened.seal()
        elif which == 1:
            with pytest.raises(StorageError):
                opened.seal()
        else:
            with faults.failing("fsync", only="13_ticks.pb"), pytest.raises(StorageError):
                opened.seal()
    if rewrite == "fails":
        assert not any(record.sealed for record in index.files())
        opened.seal()
    assert (root / KEY.path).stat().st_ino != inode
    check(root, index, 10)
    opened.close()


def test_compression_with_a_failed_sync_keeps_the_old_file(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    before = (root / KEY.path).read_bytes()
    for call in ("fsync", "write"):
        with faults.failing(call, only="13_ticks.pb.new"), pytest.raises(StorageError):
            compress_file(root, KEY, "zstd")
        assert (root / KEY.path).read_bytes() == before
    check(root, index, 100)


def test_a_folder_that_failed_to_sync_is_created_again(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults
) -> None:
    opened = writer()
    with faults.failing("fsync", only="/bid_ask/"):
        refuse(opened, 0)
    calls = []
    real = os.fsync

    def noting(descriptor: Any) -> None:
        calls.append(path_of(descriptor))
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", noting)
        accept(opened, 0, 5)
    for folder in list((root / KEY.path).parents)[:3]:
        assert str(folder) in calls
    opened.close()
    check(root, index, 5)


@pytest.mark.parametrize("seed", range(12))
def test_accepted_ticks_are_stored_once_after_any_failure(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], faults: Faults, seed: int
) -> None:
    """Calls fail at random; refused ticks are appended again, as by a capture."""
    choose = random.Random(seed)
    opened = writer(fsync=choose.choice([0, 0.0, None]), open_files=2)
    before = open_descriptors(root)
    number = 0
    while number < 120:
        at = H13 + choose.choice([0, 40 * MINUTE, HOUR_NS]) + number * SECOND
        calls = choose.sample(["write", "ftruncate", "lseek", *SYNCS], choose.randrange(4))
        with faults.failing(*calls, only="_ticks.pb", after=choose.randrange(3)):
            try:
                opened.append(quote_message(at, number))
            except TickError:
                continue
        number += 1
        if choose.random() < 0.05:
            opened.seal()
    opened.seal()
    assert open_descriptors(root) <= before + 2
    opened.close()
    check(root, index, 120)
