"""Calls of fsync: at every append, after some seconds, or when a file is sealed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.storage import StreamWriter, verify_files

from .samples import H13, KEY, SECOND, every, numbers, quote_message, quotes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.index import MemoryIndex


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count the fsync calls of each file, by inode, and make them."""
    counted: Counter[int] = Counter()

    def counting(sync: Any) -> Callable[..., None]:
        def wrapped(descriptor: Any) -> None:
            counted[os.fstat(descriptor).st_ino] += 1
            sync(descriptor)

        return wrapped

    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, counting(getattr(os, name)))
    return counted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of writers, which a test moves forward."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_zero_seconds_sync_every_append(
    writer: Callable[..., StreamWriter], root: Path, synced: Counter[int]
) -> None:
    opened = writer(fsync=0)
    for number in range(5):
        opened.append(quote_message(H13, number))
        assert synced[(root / KEY.path).stat().st_ino] >= number + 1
    opened.write(quotes([H13 + SECOND], 5))
    assert synced[(root / KEY.path).stat().st_ino] >= 6


def test_none_syncs_only_at_sealing(
    writer: Callable[..., StreamWriter], root: Path, synced: Counter[int], clock: list[float]
) -> None:
    opened = writer(fsync=None)
    opened.append(quote_message(H13, 0))
    inode = (root / KEY.path).stat().st_ino
    begun = synced[inode]
    for number in range(1, 50):
        clock[0] += 60
        opened.append(quote_message(H13, number))
        opened.maintain(H13)
    assert synced[inode] == begun
    opened.close()
    # Before the header is marked sealed, and after.
    assert synced[inode] >= begun + 2


def test_appends_are_synced_after_the_given_seconds(
    writer: Callable[..., StreamWriter], root: Path, synced: Counter[int], clock: list[float]
) -> None:
    opened = writer(fsync=1.0)
    opened.append(quote_message(H13, 0))
    inode = (root / KEY.path).stat().st_ino
    begun = synced[inode]
    opened.append(quote_message(H13, 1))
    clock[0] += 0.99
    opened.append(quote_message(H13, 2))
    assert synced[inode] == begun
    clock[0] += 0.01
    opened.append(quote_message(H13, 3))
    assert synced[inode] == begun + 1
    opened.append(quote_message(H13, 4))
    assert synced[inode] == begun + 1
    clock[0] += 1.0
    opened.maintain(H13)
    assert synced[inode] == begun + 2
    # Nothing was appended since: there is nothing to force.
    clock[0] += 60.0
    opened.maintain(H13)
    assert synced[inode] == begun + 2


def test_a_late_message_does_not_delay_the_sync_of_others(
    writer: Callable[..., StreamWriter], root: Path, synced: Counter[int], clock: list[float]
) -> None:
    opened = writer(fsync=1.0)
    opened.append(quote_message(H13, 0))
    opened.append(quote_message(H13 + HOUR_NS, 1))
    inode = (root / KEY.path).stat().st_ino
    begun = synced[inode]
    clock[0] += 1.0
    opened.append(quote_message(H13 + HOUR_NS, 2))
    assert synced[inode] == begun + 1


def test_a_new_file_and_its_folders_are_synced(
    writer: Callable[..., StreamWriter], root: Path, synced: Counter[int]
) -> None:
    writer(fsync=None).append(quote_message(H13, 0))
    folder = (root / KEY.path).parent
    while folder != root:
        assert synced[folder.parent.stat().st_ino] >= 1, folder
        folder = folder.parent
    assert synced[(root / KEY.path).stat().st_ino] >= 1
    assert synced[(root / KEY.path).parent.stat().st_ino] >= 1


def test_fsync_replaces_a_missing_fdatasync(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "fdatasync")
    with writer(fsync=0) as opened:
        opened.write(quotes(every(SECOND, 10)))
        opened.append(quote_message(H13 + HOUR_NS, 10))
    assert numbers(root, index) == list(range(11))
    assert not any(finding.problem for finding in verify_files(root, index))
