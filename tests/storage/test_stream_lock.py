"""One writer a stream, in this process and in any other, however it ends."""

from __future__ import annotations

import errno
import json
import os
import pickle
import socket
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from ibticks.errors import IndexUnavailableError, StoreAccessError, WriterLockedError
from ibticks.index import FileRecord, MemoryIndex
from ibticks.storage import StreamLock, StreamWriter, list_files

from .samples import CONTRACT, H13, KEY, numbers, open_descriptors, quote_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.forking import Children


def read_report(report: Path) -> str:
    """Wait for the report of a process and return it."""
    while not (report.exists() and report.read_text().endswith("\n")):
        time.sleep(0.005)
    return report.read_text().strip()


def test_a_second_writer_is_refused_with_the_pid_of_the_first(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 0))
    before = open_descriptors(root)
    with pytest.raises(WriterLockedError) as caught:
        writer()
    assert open_descriptors(root) == before
    reported, context = str(caught.value), caught.value.context
    for part in ("bid_ask", CONTRACT, root, f"process {os.getpid()} on {socket.gethostname()}"):
        assert str(part) in reported
    assert "stop that one first" in reported
    assert (context["contract_id"], context["tick_type"]) == (CONTRACT, "bid_ask")
    assert context["holder"]["pid"] == os.getpid()
    assert pickle.loads(pickle.dumps(caught.value)).context == context
    # It was not in the way of the first.
    opened.append(quote_message(H13, 1))
    assert numbers(root, index) == [0, 1]
    assert not index.files()[0].sealed


def test_other_streams_can_be_written_meanwhile(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer(), writer("last"), StreamWriter(root, CONTRACT + 1, "bid_ask", index):
        assert StreamLock.is_locked(root, CONTRACT, "last")
        assert StreamLock.is_locked(root, CONTRACT + 1, "bid_ask")
        assert not StreamLock.is_locked(root, CONTRACT, "mid_point")


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EACCES])
def test_a_note_that_cannot_be_removed_does_not_fail_the_writer(
    writer: Callable[..., StreamWriter], root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 0))

    def fail(path: Any, *arguments: Any, **options: Any) -> None:
        if str(path).endswith(".json"):
            raise OSError(code, os.strerror(code))
        return unlink(path, *arguments, **options)

    unlink = os.unlink
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        opened.close()
    assert not StreamLock.is_locked(root, CONTRACT, "bid_ask")
    with writer():
        assert StreamLock.is_locked(root, CONTRACT, "bid_ask")


def test_closing_releases_the_lock(writer: Callable[..., StreamWriter], root: Path) -> None:
    for _ in range(3):
        with writer():
            assert StreamLock.is_locked(root, CONTRACT, "bid_ask")
        assert not StreamLock.is_locked(root, CONTRACT, "bid_ask")
    lock = StreamLock(root, CONTRACT, "bid_ask")
    lock.release()
    lock.release()
    assert not lock.is_held


def test_a_writer_may_be_closed_in_another_thread(writer: Callable[..., StreamWriter]) -> None:
    opened = writer()
    thread = Thread(target=opened.close)
    thread.start()
    thread.join()
    writer()


def test_a_lock_of_another_process_ends_with_its_kill(
    writer: Callable[..., StreamWriter], root: Path, children: Children, tmp_path: Path
) -> None:
    stream = {"root": root, "contract_id": CONTRACT, "tick_type": "bid_ask"}
    pid = children.start("hold", report=tmp_path / "first", **stream)
    assert read_report(tmp_path / "first") == "held"
    with pytest.raises(WriterLockedError, match=f"process {pid} on {socket.gethostname()}"):
        writer()
    children.run("hold", report=tmp_path / "second", **stream)
    assert f"process {pid} on" in read_report(tmp_path / "second")
    children.kill(pid)
    writer()
    children.run("hold", report=tmp_path / "third", **stream)
    assert f"process {os.getpid()} on" in read_report(tmp_path / "third")


@pytest.mark.parametrize("note", [None, "", "[]", "{", '"x"'])
def test_a_lock_without_a_note_belongs_to_another_process(
    writer: Callable[..., StreamWriter], root: Path, note: str | None
) -> None:
    writer()
    path = root / "metadata" / "locks" / f"{CONTRACT}.bid_ask.json"
    assert json.loads(path.read_text())["pid"] == os.getpid()
    if note is None:
        path.unlink()
    else:
        path.write_text(note)
    with pytest.raises(WriterLockedError, match="written by another process"):
        writer()


def test_a_writer_that_failed_to_open_releases_the_lock(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    class Away(MemoryIndex):
        def files(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            raise IndexUnavailableError("no server answers")

    before = open_descriptors(root)
    with pytest.raises(IndexUnavailableError):
        StreamWriter(root, CONTRACT, "bid_ask", Away())
    assert open_descriptors(root) == before
    writer()


def test_a_tick_refused_by_the_index_is_not_in_the_file(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    class Away(MemoryIndex):
        away = True

        def put_files(self, records: Iterable[FileRecord]) -> None:
            if self.away:
                raise IndexUnavailableError("no server answers")
            super().put_files(records)

    index = Away()
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as opened:
        with pytest.raises(IndexUnavailableError):
            opened.append(quote_message(H13, 0))
        assert (root / KEY.path).stat().st_size == 256
        index.away = False
        opened.append(quote_message(H13, 1))
        assert numbers(root, index) == [1]


def test_a_read_only_store_raises(open_folder: Path, children: Children) -> None:
    root, report = open_folder / "ticks", open_folder / "report"
    root.mkdir()
    root.chmod(0o555)
    report.touch()
    report.chmod(0o666)
    children.run("lock_as_nobody", root=root, report=report)
    root.chmod(0o755)
    assert report.read_text().startswith("StoreAccessError: not permitted while locking")
    assert str(root) in report.read_text()
    assert list(list_files(root)) == []
    assert issubclass(StoreAccessError, PermissionError)
