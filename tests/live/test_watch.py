"""Being told of changes, and looking where nobody tells."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import sys
import threading
import time
from pathlib import Path

import pytest

from ibticks.live import _watch as watch_module
from ibticks.live._watch import FolderWatch
from tests.storage.samples import H13, SECOND

from .simulation import columns

told = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def watch():
    opened = FolderWatch()
    yield opened
    opened.close()


@told
def test_every_kind_of_change_is_told(watch, root):
    watch.add(root)
    file = root / "a"
    deeds = [
        lambda: file.write_bytes(b"x"),
        lambda: file.open("ab").close() or os.truncate(file, 0),
        lambda: file.rename(root / "b"),
        lambda: (root / "b").unlink(),
    ]
    for deed, names in zip(deeds, ({"a"}, {"a"}, {"a", "b"}, {"b"}), strict=True):
        assert watch.changes() == set()
        deed()
        assert select.select([watch.descriptor], [], [], 10)[0]
        assert {path.name for path in watch.changes()} == names


@told
def test_new_folders_may_mean_anything(watch, root):
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


@told
def test_a_folder_that_is_gone_is_no_reason_to_give_up(watch, root):
    watch.add(root / "nothing")
    assert watch.descriptor is not None


@told
def test_more_changes_than_the_system_keeps(watch, root):
    watch.add(root)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    paths = [root / str(number) for number in range(2)]
    for _ in range(limit // 4 + 10):  # two changes a file
        for path in paths:
            path.touch()
            path.unlink()
    assert watch.changes() is None
    assert watch.changes() == set()


class Refusing:
    """A system that has had enough."""

    def __init__(self, what: str, system: ctypes.CDLL) -> None:
        self._what = what
        self._system = system

    def __getattr__(self, name: str):
        if name != self._what:
            return getattr(self._system, name)
        ctypes.set_errno(errno.ENOSPC)
        return lambda *_: -1


@told
@pytest.mark.parametrize("what", ["inotify_init1", "inotify_add_watch"])
def test_where_the_system_refuses_files_are_looked_at(
    what, root, writer, follow, monkeypatch, caplog
):
    system = Refusing(what, ctypes.CDLL(None, use_errno=True))
    refuse = lambda *_, **__: system  # noqa: E731
    monkeypatch.setattr(watch_module.ctypes, "CDLL", refuse)
    live = follow(None)
    assert live._reader._follower._watch.descriptor is None
    assert "cannot be watched (No space left on device)" in caplog.text
    monkeypatch.undo()
    look_and_read(writer, live, monkeypatch)


def test_elsewhere_files_are_looked_at(writer, follow, monkeypatch):
    monkeypatch.setattr(watch_module.sys, "platform", "darwin")
    live = follow(None)
    assert live._reader._follower._watch.descriptor is None
    look_and_read(writer, live, monkeypatch)


def look_and_read(writer, live, monkeypatch) -> None:
    monkeypatch.setattr("ibticks.live._follower._RESCAN_SECONDS", 0.05)
    quotes, batches = writer(), live.batches()
    for number in range(3):
        quotes.write(columns("bid_ask", [H13 + number * 4000 * SECOND], number))
        assert next(batches)["sequence"].to_list() == [number]
        assert live._reader.seconds_to_next() <= 0.01


@told
def test_a_file_system_that_tells_nothing_is_found_out(writer, follow, monkeypatch):
    """As one of another machine's, which this one's kernel does not see writing."""
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


@told
def test_a_tick_wakes_at_once_who_waits(writer, follow):
    """Long before anything is looked at without being told."""
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


def test_all_of_it_is_looked_at_less_often_the_longer_it_takes(follow, monkeypatch):
    live = follow(None)
    follower = live._reader._follower
    monkeypatch.setattr(type(follower._tails[0]), "rescan", lambda _: time.sleep(0.02))
    now = time.monotonic()
    follower._monitor.rescan(now)
    assert follower._monitor.rescan_at - now >= 4.0
