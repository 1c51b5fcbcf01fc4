"""Changes reported by inotify, and polling without it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.live._watch import FolderWatch, Waiter
from tests.storage.samples import H13, SECOND

from .simulation import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Live
    from ibticks.storage import StreamWriter

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def watch(root: Path) -> Iterator[FolderWatch]:  # closed before the folder is gone
    opened = FolderWatch()
    yield opened
    opened.close()


def test_a_closed_waiter_has_no_pipe() -> None:
    released: list[bool] = []
    waiter = Waiter(lambda: released.append(True))
    pipe = os.fstat(waiter._reader)
    waiter.close()
    assert released == [True]
    for descriptor in (waiter._reader, waiter._writer):
        with contextlib.suppress(OSError):  # the number may be in use again
            assert not os.path.samestat(os.fstat(descriptor), pipe)


@linux_only
def test_every_kind_of_change_is_reported(watch: FolderWatch, root: Path) -> None:
    watch.add(root)
    file = root / "a"
    actions = [
        lambda: file.write_bytes(b"x"),
        lambda: file.open("ab").close() or os.truncate(file, 0),
        lambda: file.rename(root / "b"),
        lambda: (root / "b").unlink(),
    ]
    for action, names in zip(actions, ({"a"}, {"a"}, {"a", "b"}, {"b"}), strict=True):
        assert watch.changes() == set()
        action()
        descriptor: Any = watch.descriptor
        assert select.select([descriptor], [], [], 10)[0]
        assert {path.name for path in watch.changes()} == names


@linux_only
def test_new_folder_means_any_change(watch: FolderWatch, root: Path) -> None:
    watch.add(root)
    (root / "day").mkdir()
    assert watch.changes() is None
    watch.add(root / "day")
    (root / "day" / "x").touch()
    assert watch.changes() == {root / "day" / "x"}
    (root / "day" / "x").unlink()
    (root / "day").rmdir()
    assert watch.changes() is None
    # The same name is another folder now.
    (root / "day").mkdir()
    watch.changes()
    watch.add(root / "day")
    (root / "day" / "y").touch()
    assert watch.changes() == {root / "day" / "y"}


@linux_only
def test_missing_folder_keeps_the_watch(watch: FolderWatch, root: Path) -> None:
    watch.add(root / "nothing")
    assert watch.descriptor is not None


@linux_only
def test_overflow_of_the_event_queue(watch: FolderWatch, root: Path) -> None:
    watch.add(root)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    paths = [root / str(number) for number in range(2)]
    for _ in range(limit // 4 + 10):  # two changes a file
        for path in paths:
            path.touch()
            path.unlink()
    assert watch.changes() is None
    assert watch.changes() == set()


class RefusingLibc:
    """A libc whose call of one name fails."""

    def __init__(self, call: str, system: ctypes.CDLL) -> None:
        self._call = call
        self._system = system

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name != self._call:
            return getattr(self._system, name)
        ctypes.set_errno(errno.ENOSPC)
        return lambda *_: -1


@linux_only
@pytest.mark.parametrize("call", ["inotify_init1", "inotify_add_watch"])
def test_files_are_polled_where_inotify_refuses(
    call: str,
    root: Path,
    writer: Callable[..., StreamWriter],
    follow: Callable[..., Live],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    system = RefusingLibc(call, ctypes.CDLL(None, use_errno=True))
    open_libc = lambda *_, **__: system  # noqa: E731
    monkeypatch.setattr(ctypes, "CDLL", open_libc)
    live = follow(None)
    assert live._reader._follower._watch.descriptor is None
    assert "cannot be watched (No space left on device)" in caplog.text
    monkeypatch.undo()
    poll_and_read(writer, live, monkeypatch)


def test_files_are_polled_on_other_systems(
    writer: Callable[..., StreamWriter],
    follow: Callable[..., Live],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    live = follow(None)
    assert live._reader._follower._watch.descriptor is None
    poll_and_read(writer, live, monkeypatch)


def poll_and_read(
    writer: Callable[..., StreamWriter], live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibticks.live._follower._RESCAN_SECONDS", 0.05)
    quotes, batches = writer(), live.batches()
    for number in range(3):
        quotes.write(columns("bid_ask", [H13 + number * 4000 * SECOND], number))
        assert next(batches)["sequence"].to_list() == [number]
        assert live._reader.seconds_to_next() <= 0.01


@linux_only
def test_file_system_without_events_is_polled(
    writer: Callable[..., StreamWriter],
    follow: Callable[..., Live],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a network file system, on which the kernel does not see other machines write."""
    monkeypatch.setattr("ibticks.live._follower._RESCAN_SECONDS", 0.0)
    monkeypatch.setattr("ibticks.live._follower._RESCAN_COST_FACTOR", 0.0)
    live = follow(None)
    monkeypatch.setattr(
        FolderWatch, "changes", lambda watch: None if watch.descriptor is None else set()
    )
    quotes = writer()
    for number in range(5):
        quotes.write(columns("bid_ask", [H13 + number], number))
        assert live.read().height == 1
    assert live._reader._follower._watch.descriptor is None
    assert live._reader.seconds_to_next() <= 0.01


@linux_only
def test_tick_wakes_a_waiting_reader_at_once(
    writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    """Long before the next rescan."""
    live = follow(None)
    live._reader.take()
    live._reader._follower._monitor.rescan_at = time.monotonic() + 1000
    quotes = writer()
    quotes.write(columns("bid_ask", [H13], 0))
    live._reader.take()
    live._reader._follower._monitor.rescan_at = time.monotonic() + 1000
    thread = threading.Timer(0.05, lambda: quotes.write(columns("bid_ask", [H13 + 1], 1)))
    thread.start()
    assert next(live.batches())["sequence"].to_list() == [1]
    thread.join()


def test_slow_rescans_are_rarer(
    follow: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = follow(None)
    follower = live._reader._follower
    monkeypatch.setattr(type(follower._tails[0]), "rescan", lambda _: time.sleep(0.02))
    now = time.monotonic()
    follower._monitor.rescan(now)
    assert follower._monitor.rescan_at - now >= 4.0
