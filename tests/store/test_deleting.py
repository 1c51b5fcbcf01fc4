"""Deletion of ticks: absent from loads, saved beside the files, recorded in the ledger."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import ibticks as ibt
from ibticks import errors
from ibticks.format import HEADER_BYTES
from ibticks.format._decode import decode
from ibticks.importing import import_tick_file
from ibticks.index import CoverageRecord
from ibticks.storage import list_files

if TYPE_CHECKING:
    from collections.abc import Callable

H14 = 1_736_517_600_000_000_000  # 2025-01-10 14:00 UTC
MINUTE = 60 * 10**9
TRADES = (265598, "last")


def frame(count: int = 180, first: int = H14) -> pl.DataFrame:
    """A trade a minute, over three hours; each size is that of one trade alone."""
    times = pl.Series(first + np.arange(count) * MINUTE).cast(pl.Datetime("ns", "UTC"))
    return pl.DataFrame(
        {"timestamp": times, "price": np.arange(count) % 7 + 100.0, "size": np.arange(count) + 1.0}
    )


@pytest.fixture
def trades(store: ibt.Store) -> ibt.Store:
    """A store with trades of three hours."""
    store.write(frame(), contract_id=265598, tick_type="last")
    return store


def sizes(store: ibt.Store, stream: tuple[int, str] = TRADES, **options: Any) -> list[float]:
    return store.select(*stream, **options).to_polars()["size"].to_list()


def numbers(*ranges: range) -> list[float]:
    return [float(number) for value in ranges for number in value]


def problems(store: ibt.Store) -> list[tuple[str, str]]:
    return [(value.path, value.problem) for value in store.verify(progress=False) if value.problem]


def ledger(store: ibt.Store) -> list[tuple[int, int | None, str, str]]:
    """Rows of the ledger by minutes since 14:00."""
    return [
        (
            (row.start_ns - H14) // MINUTE,
            None if row.end_ns is None else (row.end_ns - H14) // MINUTE,
            row.state,
            row.reason,
        )
        for row in store.index.coverage()
    ]


def merge_rows(
    rows: list[tuple[int, int | None, str, str]],
) -> list[tuple[int, int | None, str, str]]:
    """Merge rows of the ledger that touch and have the same state and reason."""
    result: list[tuple[int, int | None, str, str]] = []
    for row in rows:
        if result and result[-1][1] == row[0] and result[-1][2:] == row[2:]:
            row = (result.pop()[0], *row[1:])
        result.append(row)
    return result


WINDOWS = {
    "the middle of an hour": ("14:10", "14:20", (range(1, 11), range(21, 181))),
    "over an hour's edge": ("14:50", "15:10", (range(1, 51), range(71, 181))),
    "a whole hour": ("15:00", "16:00", (range(1, 61), range(121, 181))),
    "from the beginning": (None, "14:01", (range(2, 181),)),
    "to the end": ("16:59", None, (range(1, 180),)),
    "everything": (None, None, ()),
}


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip", "snappy"])
@pytest.mark.parametrize(("start", "end", "left"), WINDOWS.values(), ids=WINDOWS)
def test_deleted_ticks_are_gone_everywhere(
    trades: ibt.Store, start: str | None, end: str | None, left: Any, compression: str
) -> None:
    trades.compress(compression, now="2025-01-12T00:00Z")
    window: dict[str, Any] = {
        name: None if clock is None else f"2025-01-10 {clock}"
        for name, clock in (("start", start), ("end", end))
    }
    left = numbers(*left)
    would = trades.delete(*TRADES, **window, tz="UTC", dry_run=True)
    assert (would.ticks, would.kept) == (180 - len(left), ())
    assert sizes(trades) == numbers(range(1, 181))
    done = trades.delete(*TRADES, **window, tz="UTC")
    assert (done.ticks, done.files) == (would.ticks, would.files)
    assert len(done.kept) == len(done.files)
    assert sizes(trades) == left
    assert trades.select(*TRADES).count() == len(left)
    assert sum(day.ticks for day in trades.daily_stats()) == len(left)
    assert sum(day.volume or 0 for day in trades.daily_stats()) == sum(left)
    assert {record.compression for record in trades.index.files()} == {compression}
    assert all(record.sealed and record.blocks for record in trades.index.files())
    assert problems(trades) == []
    # The index and the ledger equal those of the files.
    files, reported = trades.index.files(), ledger(trades)
    trades.rebuild_index(progress=False)
    assert trades.index.files() == files
    assert ledger(trades) == reported
    assert trades.delete(*TRADES, **window, tz="UTC").ticks == 0


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_deleted_ticks_can_be_restored(trades: ibt.Store, compression: str) -> None:
    before = trades.select(*TRADES, columns=["timestamp", "price", "size", "stream_id"]).to_polars()
    trades.compress(compression, now="2025-01-12T00:00Z")
    done = trades.delete(*TRADES, start="2025-01-10T14:30Z", end="2025-01-10T15:30Z")
    assert [path.partition(".deleted-")[0] for path in done.kept] == list(done.files)
    assert len(list(list_files(trades.root))) == 3
    for path in done.kept:
        result = import_tick_file(trades, trades.root / path)
        assert (result.read, result.added, result.known) == (30, 30, 0)
        assert result.streams == (TRADES,)
        assert import_tick_file(trades, trades.root / path).added == 0
    again = trades.select(*TRADES, columns=["timestamp", "price", "size", "stream_id"]).to_polars()
    assert again.equals(before)
    assert problems(trades) == []


def test_a_damaged_file_is_not_restored(trades: ibt.Store, tmp_path: Path) -> None:
    (remaining,) = trades.delete(*TRADES, end="2025-01-10T15:00Z").kept
    data = bytearray((trades.root / remaining).read_bytes())
    data[400] ^= 1
    path = tmp_path / Path(remaining).name
    path.write_bytes(data)
    with pytest.raises(errors.CorruptFileError, match="nothing was imported"):
        import_tick_file(trades, path)
    assert trades.select(*TRADES).count() == 120


def test_deleted_files_stay_until_they_are_purged(trades: ibt.Store) -> None:
    first = trades.delete(*TRADES, end="2025-01-10T14:30Z").kept
    second = trades.delete(*TRADES, end="2025-01-10T16:30Z").kept
    assert len({*first, *second}) == 4
    window: dict[str, Any] = {"start": "2025-01-10T14:00Z", "end": "2025-01-10T15:00Z"}
    assert trades.purge(*TRADES, **window, dry_run=True) == sorted([*first, second[0]])
    assert trades.purge(*TRADES, **window) == sorted([*first, second[0]])
    assert [(trades.root / path).exists() for path in (*first, *second)] == [0, 0, 1, 1]
    assert trades.purge(*TRADES) == sorted(second[1:])
    assert trades.purge(*TRADES) == []
    assert sizes(trades) == numbers(range(151, 181))
    assert problems(trades) == []


def test_a_late_writer_after_a_deletion(trades: ibt.Store) -> None:
    trades.delete(*TRADES, start="2025-01-10T14:10Z", end="2025-01-10T14:20Z")
    late = frame(10, H14 + 10 * MINUTE).with_columns(pl.col("size") + 1000)
    trades.write(late, contract_id=265598, tick_type="last")
    assert sizes(trades)[8:22] == numbers(range(9, 11), range(1001, 1011), range(21, 23))
    assert problems(trades) == []


def test_other_messages_are_not_deleted(trades: ibt.Store) -> None:
    info = {"type": "info", "stream_id": "s", "timestamp": "2025-01-10T14:15:00Z"}
    with trades.writer(*TRADES) as writer:
        writer.append({**info, "data": {"status": "note"}})
    trades.delete(*TRADES, start="2025-01-10T14:00Z", end="2025-01-10T15:00Z")
    statuses = [message["data"]["status"] for message in trades.select(*TRADES).messages()]
    assert sorted(statuses) == ["deleted", "note"]


def test_backfilled_ticks_are_deleted_too(trades: ibt.Store) -> None:
    from ibticks.frames import from_arrow
    from ibticks.storage import StreamWriter

    with StreamWriter(trades.root, *TRADES, trades.index, backfill=True) as writer:
        writer.write(from_arrow(frame(60), contract_id=265598, tick_type="last"))
    done = trades.delete(*TRADES, start="2025-01-10T14:30Z", end="2025-01-10T14:40Z")
    assert done.ticks == 20
    left = numbers(range(1, 31), range(41, 181))
    assert sizes(trades) == left
    assert sizes(trades, backfill="only") == numbers(range(1, 31), range(41, 61))
    assert sorted(Path(path).name.partition(".")[0] for path in done.kept) == [
        "14-backfill_ticks",
        "14_ticks",
    ]
    assert problems(trades) == []


# -- the ledger of coverage ------------------------------------------------------------------------


def test_the_ledger_records_deletions(trades: ibt.Store) -> None:
    trades.index.put_coverage(
        [
            CoverageRecord(*TRADES, H14, H14 + 70 * MINUTE, "captured"),
            CoverageRecord(*TRADES, H14 + 70 * MINUTE, H14 + 80 * MINUTE, "disconnected", "1100"),
            CoverageRecord(*TRADES, H14 + 80 * MINUTE, H14 + 90 * MINUTE, "backfilled"),
        ]
    )
    trades.delete(*TRADES, start="2025-01-10T14:30Z", end="2025-01-10T16:00Z")
    assert ledger(trades) == [
        (0, 30, "captured", ""),
        (30, 70, "deleted", "captured, deleted since"),
        (70, 80, "disconnected", "1100"),
        (80, 90, "deleted", "backfilled, deleted since"),
        (90, 120, "deleted", "deleted since"),
    ]
    coverage = trades.coverage(*TRADES, start="2025-01-10T14:00Z", end="2025-01-10T16:00Z")
    assert coverage.durations["deleted"] == timedelta(minutes=80)


def test_a_rebuilt_ledger_records_deletions(
    trades: ibt.Store, tmp_path: Path, database: str
) -> None:
    """From the files alone: another index, and no catalogue."""
    trades.delete(*TRADES, start="2025-01-10T14:50Z", end="2025-01-10T15:10Z")
    reported = ledger(trades)
    assert reported == [(50, 70, "deleted", "deleted since")]
    copy = tmp_path / "copy"
    for path in trades.root.glob("265598/**/*_ticks.pb"):
        target = copy / path.relative_to(trades.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    with ibt.open(copy) as store:
        assert ledger(store) == reported
        assert sizes(store) == sizes(trades)


def put_back(store: ibt.Store, paths: tuple[str, ...]) -> None:
    for path in paths:
        import_tick_file(store, store.root / path, progress=False)


LEDGERS = {
    "imported": [],
    "captured": [CoverageRecord(*TRADES, H14, H14 + 180 * MINUTE, "captured")],
    "backfilled": [
        CoverageRecord(*TRADES, H14, H14 + 70 * MINUTE, "captured"),
        CoverageRecord(*TRADES, H14 + 70 * MINUTE, H14 + 80 * MINUTE, "disconnected", "1100"),
        CoverageRecord(*TRADES, H14 + 80 * MINUTE, H14 + 180 * MINUTE, "backfilled", "3 ticks"),
    ],
}


@pytest.mark.parametrize("rows", LEDGERS.values(), ids=LEDGERS)
@pytest.mark.parametrize(("start", "end"), [("14:10", "14:20"), ("14:50", "16:10"), (None, None)])
def test_restoring_ticks_restores_the_ledger(
    trades: ibt.Store, rows: list[CoverageRecord], start: str | None, end: str | None
) -> None:
    trades.index.put_coverage(rows)
    before = trades.index.coverage()
    window: dict[str, Any] = {
        name: None if clock is None else f"2025-01-10T{clock}Z"
        for name, clock in (("start", start), ("end", end))
    }
    remaining = trades.delete(*TRADES, **window).kept
    assert any(row.state == "deleted" for row in trades.index.coverage())
    put_back(trades, remaining)
    whole = start is None and rows  # no row is left that has the reason
    assert [replace(row, reason="") if whole else row for row in before] == [
        replace(row, reason="") if whole else row for row in trades.index.coverage()
    ]
    assert sizes(trades) == numbers(range(1, 181))
    # Again, no tick and no message is added.
    files = trades.index.files()
    put_back(trades, remaining)
    assert trades.index.files() == files
    assert problems(trades) == []


def test_hours_that_are_not_restored_stay_deleted(trades: ibt.Store, tmp_path: Path) -> None:
    remaining = trades.delete(*TRADES, start="2025-01-10T14:50Z", end="2025-01-10T16:10Z").kept
    put_back(trades, remaining[1:2])
    reported = ledger(trades)
    assert [row[:3] for row in reported] == [(50, 60, "deleted"), (120, 130, "deleted")]
    trades.rebuild_index(progress=False)
    assert ledger(trades) == reported
    put_back(trades, remaining)
    assert ledger(trades) == []
    trades.rebuild_index(progress=False)
    assert ledger(trades) == []


def test_a_rebuilt_ledger_has_restored_ticks(trades: ibt.Store, tmp_path: Path) -> None:
    """From the files alone."""
    put_back(trades, trades.delete(*TRADES, start="2025-01-10T14:50Z").kept[:2])
    copy = tmp_path / "copy"
    for path in trades.root.glob("265598/**/*_ticks.pb"):
        target = copy / path.relative_to(trades.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    with ibt.open(copy) as store:
        assert ledger(store) == ledger(trades) == [(120, 180, "deleted", "deleted since")]


def test_a_second_deletion_of_the_same_time_stays(trades: ibt.Store) -> None:
    first = trades.delete(*TRADES, start="2025-01-10T14:10Z", end="2025-01-10T14:20Z").kept
    second = trades.delete(*TRADES, start="2025-01-10T14:15Z", end="2025-01-10T14:30Z").kept
    put_back(trades, first)
    assert merge_rows(ledger(trades)) == [(15, 30, "deleted", "deleted since")]
    trades.rebuild_index(progress=False)
    assert merge_rows(ledger(trades)) == [(15, 30, "deleted", "deleted since")]
    put_back(trades, second)
    assert ledger(trades) == []
    third = trades.delete(*TRADES, start="2025-01-10T14:10Z", end="2025-01-10T14:20Z").kept
    put_back(trades, first)
    assert ledger(trades) == [(10, 20, "deleted", "deleted since")]
    put_back(trades, third)
    assert ledger(trades) == []


# -- what is refused -------------------------------------------------------------------------------


def test_a_stream_being_written_is_refused(trades: ibt.Store) -> None:
    before = [(trades.root / key.path).read_bytes() for key in list_files(trades.root)]
    with trades.writer(*TRADES):
        with pytest.raises(errors.WriterLockedError, match=f"process {os.getpid()}"):
            trades.delete(*TRADES)
        assert trades.delete(*TRADES, dry_run=True).ticks == 180
    assert [(trades.root / key.path).read_bytes() for key in list_files(trades.root)] == before
    assert ledger(trades) == []
    assert trades.delete(*TRADES).ticks == 180


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        ((1, "last"), {}, errors.UnknownContractError, "1"),
        ((265598, "trades"), {}, errors.UnknownTickTypeError, "all_last"),
        (TRADES, {"start": "2025-01-10 14:00"}, errors.NaiveDatetimeError, "tz="),
        (
            TRADES,
            {"start": "2025-01-10T15:00Z", "end": "2025-01-10T15:00Z"},
            errors.TimeRangeError,
            "not before",
        ),
    ],
    ids=["contract", "tick type", "zone", "range"],
)
def test_invalid_deletions(
    trades: ibt.Store, arguments: tuple[int, str], options: dict[str, Any], error: Any, says: str
) -> None:
    for work in (trades.delete, trades.purge):
        with pytest.raises(error, match=says):
            work(*arguments, **options)
    assert trades.select(*TRADES).count() == 180


def test_nothing_is_deleted_from_a_damaged_file(
    trades: ibt.Store, damage: Callable[..., None]
) -> None:
    second = list(list_files(trades.root))[1]
    damage(trades.root / second.path)
    before = [(trades.root / key.path).read_bytes() for key in list_files(trades.root)]
    with pytest.raises(errors.CorruptFileError, match=r"15_ticks\.pb"):
        trades.delete(*TRADES)
    assert [(trades.root / key.path).read_bytes() for key in list_files(trades.root)] == before
    assert trades.delete(*TRADES, start="2025-01-10T16:00Z").ticks == 60


def test_live_readers_are_warned(trades: ibt.Store) -> None:
    with trades.live(*TRADES, "4h", now="2025-01-10T17:00Z", markers=False) as live:
        messages = iter(live)
        assert [next(messages)["data"]["size"] for _ in range(180)] == numbers(range(1, 181))
        trades.delete(*TRADES, start="2025-01-10T16:30Z", end="2025-01-10T16:40Z")
        late = frame(1, H14 + 179 * MINUTE).with_columns(size=pl.lit(1000.0))
        trades.write(late, contract_id=265598, tick_type="last")
        seen: list[Any] = []
        while not seen or seen[-1] != 1000.0:
            seen.append(next(messages)["data"]["size"])
    assert seen[-1] == 1000.0


# -- killed in the middle --------------------------------------------------------------------------

DELETE = """
import os, signal, sys
from pathlib import Path
from ibticks.index import MemoryIndex
from ibticks.storage._audit import read_all_records
from ibticks.store import delete_ticks
root, left = Path(sys.argv[1]), int(sys.argv[4])
index = MemoryIndex(read_all_records(root))

def kill_before_a_rename(event, arguments):
    global left
    if event == "os.rename":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_before_a_rename)
delete_ticks(root, index, 265598, "last", int(sys.argv[2]), int(sys.argv[3]))
"""


def test_killed_in_the_middle_every_tick_is_in_a_file(trades: ibt.Store, tmp_path: Path) -> None:
    """``kill -9`` before any rename leaves old or new files, and the deleted ticks beside them."""
    start, end = H14 + 5 * MINUTE, H14 + 175 * MINUTE
    going = set(numbers(range(6, 176)))
    outcomes = []
    for renames in range(1, 20):
        command: Any = [
            sys.executable,
            "-c",
            DELETE,
            trades.root,
            str(start),
            str(end),
            str(renames),
        ]
        done = subprocess.run(command, check=False)
        trades.rebuild_index(progress=False)
        assert problems(trades) == []
        left = set(sizes(trades))
        for hour in range(3):
            inside = going & set(numbers(range(hour * 60 + 1, hour * 60 + 61)))
            assert inside <= left or not inside & left
        remaining = set()
        for path in trades.purge(*TRADES, dry_run=True):
            table = decode((trades.root / path).read_bytes(), ["size"], start=HEADER_BYTES)
            remaining |= set(table.numbers("size").tolist())
        assert left | remaining == set(numbers(range(1, 181)))
        outcomes.append(len(left))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    # Before the first saved file; before the first hour file; with one hour done, two, and three.
    assert outcomes == [180, 180, 125, 65, 10]
    assert sizes(trades) == numbers(range(1, 6), range(176, 181))
    assert list(trades.root.glob("265598/**/*.new")) == []
    assert [row[:3] for row in ledger(trades)] == [
        (5, 60, "deleted"),
        (60, 120, "deleted"),
        (120, 175, "deleted"),
    ]
    import_files = [trades.root / path for path in trades.purge(*TRADES, dry_run=True)]
    assert sum(import_tick_file(trades, path).added for path in import_files) == 170


LEAVE_OPEN = """
import os, sys
from pathlib import Path
from ibticks.schema import TickColumns, Values
from ibticks.index import MemoryIndex
from ibticks.storage import StreamWriter
import numpy as np
times = int(sys.argv[2]) + np.arange(60) * 60 * 10**9
columns = {"timestamp": Values(times), "size": Values(np.arange(60) + 1.0)}
writer = StreamWriter(Path(sys.argv[1]), 265598, "last", MemoryIndex())
writer.write(TickColumns(60, columns))
os._exit(0)
"""


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "folder"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_deletion_leaves_files_and_index_consistent(
    trades: ibt.Store, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """The second hour cannot be rewritten: full disk, failed sync, failed rename."""
    path = trades.root / "265598/last/2025/01/10/15_ticks.pb"
    real = getattr(os, "fsync" if call == "folder" else call)
    renamed: list[Any] = []

    def fail(target: Any, *arguments: Any, **options: Any) -> Any:
        where = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target
        if str(where).endswith(".15_ticks.pb.new") and call != "folder":
            raise OSError(code, os.strerror(code))
        if call == "folder" and Path(where) == path.parent and path.stat().st_ino != inode:
            renamed.append(path)
            raise OSError(code, os.strerror(code))
        return real(target, *arguments, **options)

    inode = path.stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync" if call == "folder" else call, fail)
        with pytest.raises(errors.StorageError):
            trades.delete(*TRADES, start="2025-01-10T14:30Z", end="2025-01-10T16:30Z")
    gone = range(31, 121) if renamed else range(31, 61)
    assert set(sizes(trades)) == set(numbers(range(1, 181))) - set(numbers(gone))
    assert not problems(trades)
    # The ledger and the files have the deletion for the rewritten hours.
    after = ledger(trades)
    assert after == [(30, 120 if renamed else 60, "deleted", "deleted since")]
    trades.rebuild_index(progress=False)
    assert ledger(trades) == after
    remaining = [value.name.partition(".deleted")[0] for value in trades.root.rglob("*.deleted-*")]
    assert sorted(remaining) == ["14_ticks.pb", *(["15_ticks.pb"] if renamed else [])]
    trades.delete(*TRADES, start="2025-01-10T14:30Z", end="2025-01-10T16:30Z")
    assert sizes(trades) == numbers(range(1, 31), range(151, 181))
    assert not problems(trades)


GAP = (70, 80, "disconnected", "1100")
HALF_DELETED = {
    14: [(0, 70, "captured", ""), GAP, (80, 150, "backfilled", "3 ticks")],
    15: [
        (0, 30, "captured", ""),
        (30, 60, "deleted", "captured, deleted since"),
        (60, 70, "captured", ""),
        GAP,
        (80, 150, "backfilled", "3 ticks"),
    ],
    16: [
        (0, 30, "captured", ""),
        (30, 70, "deleted", "captured, deleted since"),
        GAP,
        (80, 120, "deleted", "backfilled, deleted since"),
        (120, 150, "backfilled", "3 ticks"),
    ],
}


@pytest.mark.parametrize(("failing", "rows_left"), HALF_DELETED.items())
def test_a_failed_deletion_keeps_the_ledger_of_other_hours(
    trades: ibt.Store,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
    rows_left: list[tuple[int, int, str, str]],
) -> None:
    rows = [
        CoverageRecord(*TRADES, H14, H14 + 70 * MINUTE, "captured"),
        CoverageRecord(*TRADES, H14 + 70 * MINUTE, H14 + 80 * MINUTE, "disconnected", "1100"),
        CoverageRecord(*TRADES, H14 + 80 * MINUTE, H14 + 150 * MINUTE, "backfilled", "3 ticks"),
    ]
    trades.index.put_coverage(rows)
    real = os.replace

    def fail(source: Any, target: Any, **options: Any) -> None:
        if str(source).endswith(f".{failing}_ticks.pb.new"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(source, target, **options)

    window: dict[str, Any] = {"start": "2025-01-10T14:30Z", "end": "2025-01-10T16:40Z"}
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(errors.StorageFullError):
            trades.delete(*TRADES, **window)
    assert merge_rows(ledger(trades)) == rows_left
    assert problems(trades) == []
    trades.delete(*TRADES, **window)
    coverage = trades.coverage(*TRADES, start="2025-01-10T14:00Z", end="2025-01-10T17:00Z")
    assert coverage.durations["deleted"] == timedelta(minutes=120)


def test_a_deletion_whose_row_is_refused(
    trades: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a journal on a full disk."""
    before = trades.index.files()

    def refuse(records: Any) -> None:
        raise errors.StorageFullError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trades.index, "put_files", refuse)
        with pytest.raises(errors.StorageFullError):
            trades.delete(*TRADES, start="2025-01-10T14:30Z", end="2025-01-10T16:40Z")
    assert (ledger(trades), trades.index.files(), problems(trades)) == ([], before, [])
    assert trades.purge(*TRADES, dry_run=True) == []
    assert sizes(trades) == numbers(range(1, 181))


def test_an_hour_that_a_killed_writer_left_open(store: ibt.Store) -> None:
    command: Any = [sys.executable, "-c", LEAVE_OPEN, store.root, str(H14)]
    subprocess.run(command, check=True)
    store.rebuild_index(progress=False)
    assert not store.index.files()[0].sealed
    window: dict[str, Any] = {"start": "2025-01-10T14:10Z", "end": "2025-01-10T14:20Z"}
    assert store.delete(*TRADES, **window).ticks == 10
    assert sizes(store) == numbers(range(1, 11), range(21, 61))
    assert store.index.files()[0].sealed
    assert problems(store) == []
