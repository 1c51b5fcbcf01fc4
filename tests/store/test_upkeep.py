"""Maintenance of a store: rebuild, verify, compress and prune do not change ticks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg
import pytest

import ibticks as ibt
from ibticks import errors
from ibticks.calendar import to_ns
from ibticks.index import CatalogueIndex
from ibticks.sample import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOURS = ["990101/all_last/2024/08/08/23_ticks.pb", "990101/all_last/2024/08/09/00_ticks.pb"]


@pytest.fixture
def trades(store: ibt.Store) -> ibt.Store:
    """A store with the BTCUSDT trades: two files."""
    ibt.import_table(store, sample("btcusdt_trades").path, contract_id=990101, tick_type="all_last")
    return store


@pytest.fixture
def selection(trades: ibt.Store) -> ibt.Selection:
    return trades.select(990101, "all_last", columns=["timestamp", "price", "size", "stream_id"])


def problems(store: ibt.Store) -> list[tuple[str, str]]:
    return [(value.path, value.problem) for value in store.verify() if value.problem is not None]


# -- rebuild of the index --------------------------------------------------------------------------


def test_a_rebuilt_index_equals_the_maintained_one(
    sample_store: ibt.Store, tmp_path: Path, database: str
) -> None:
    """Files, blocks and statistics of the index equal those of the files."""
    remaining = sample_store.index
    (tmp_path / "metadata").mkdir()
    for entry in sample_store.root.iterdir():
        if entry.name != "metadata":
            (tmp_path / entry.name).symlink_to(entry)
    with ibt.open(tmp_path, dsn=database) as store:  # an index of nothing but the files
        assert store.index.files() == remaining.files()
        assert store.daily_stats() == sample_store.daily_stats()
        assert len(store.index.files()) == 33
        assert all(record.sealed and record.blocks for record in store.index.files())


def test_rebuilding_drops_deleted_and_finds_new_files(trades: ibt.Store) -> None:
    gone, remaining = (trades.root / path for path in HOURS)
    trades.index.drop_files([HOURS[1]])
    gone.unlink()
    assert trades.rebuild_index(progress=False) == 1
    assert [record.path for record in trades.index.files()] == [HOURS[1]]
    # A copy in the place of another hour is indexed, too, and not read.
    remaining.with_name("01_ticks.pb").write_bytes(remaining.read_bytes())
    with pytest.warns(errors.CorruptDataWarning, match="is not the file that its path names"):
        assert trades.rebuild_index(progress=False) == 2
    paths = [record.path for record in trades.index.files()]
    assert paths == [HOURS[1], HOURS[1].replace("00_", "01_")]


def test_a_rebuilt_index_lists_an_unreadable_hour(trades: ibt.Store) -> None:
    midnight = pl.lit("2024-08-09T00:00").str.to_datetime(time_zone="UTC")
    whole = trades.select(990101).to_polars()
    path = trades.root / HOURS[1]
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.warns(errors.CorruptDataWarning):  # a capture may have spoken in it, too
        assert trades.rebuild_index(progress=False) == 2
    rest = whole.filter(pl.col("timestamp") < midnight)
    assert 0 < rest.height < whole.height
    with pytest.warns(errors.CorruptDataWarning, match="2024-08-09 00:00:00.* to 2024-08-09 01:00"):
        assert trades.select(990101).to_polars().equals(rest)
    with pytest.warns(errors.CorruptDataWarning):
        assert trades.select(990101).count() == rest.height
    with pytest.raises(errors.CorruptFileError):
        trades.select(990101, strict=True).to_polars()
    assert problems(trades) == [(HOURS[1], "damaged")]
    assert trades.coverage().intervals[0][1] == to_ns("2024-08-09T01:00Z"), "it has that hour"


# -- verifying -------------------------------------------------------------------------------------


def test_verifying_an_intact_store_finds_nothing(sample_store: ibt.Store) -> None:
    actual = list(sample_store.verify(progress=False))
    assert problems(sample_store) == []
    assert len(actual) == 33
    assert sum(value.messages for value in actual) == 189334
    assert sum(value.size for value in actual) == sum(c.size for c in sample_store.contents())


def test_verifying_finds_damage(trades: ibt.Store, damage: Callable[..., None]) -> None:
    damage(trades.root / HOURS[0])
    ((path, problem),) = problems(trades)
    assert (path, problem in ("damaged", "checksum")) == (HOURS[0], True)


def test_verifying_compares_files_and_index(trades: ibt.Store) -> None:
    (trades.root / HOURS[0]).unlink()
    stray = trades.root / HOURS[1].replace("00_", "01_")
    stray.write_bytes((trades.root / HOURS[1]).read_bytes())
    trades.index.drop_files([HOURS[1]])
    assert problems(trades) == [
        (HOURS[1], "not indexed"),
        (HOURS[1].replace("00_", "01_"), "misplaced"),
        (HOURS[0], "gone"),
    ]


def test_verifying_needs_no_iteration(trades: ibt.Store, damage: Callable[..., None]) -> None:
    """In a notebook ``store.verify()`` stands by itself, and its result is printed."""
    assert repr(trades.verify(progress=False)).endswith(" messages: all well")
    path = HOURS[0]
    damage(trades.root / path)
    findings = trades.verify(progress=False)
    assert findings[0].path == path
    assert (
        [finding.path for finding in findings]
        == [finding.path for finding in findings]
        == list(HOURS)
    )
    assert [problem.path for problem in findings.problems] == [path]
    first, second = repr(findings).splitlines()
    assert first.startswith("2 files, ")
    assert first.endswith(" messages: 1 problem")
    assert second.startswith(f"  {path}: {findings[0].problem}, ")


# -- compressing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["zstd", "gzip", "snappy"])
def test_compressed_ticks_are_the_same_ticks(
    trades: ibt.Store, selection: ibt.Selection, codec: str
) -> None:
    before, plain = selection.to_polars(), trades.contents()
    done = trades.compress(codec, progress=False)
    assert [record.path for record in done] == HOURS
    assert all(record.compression == codec and record.sealed for record in done)
    assert trades.index.files() == done
    assert sum(record.size for record in done) < plain[0].size * (0.6 if codec != "snappy" else 0.9)
    assert selection.to_polars().equals(before)
    assert selection.lazy().collect().equals(before)
    part = trades.select(990101, start="2024-08-09T00:02Z", end="2024-08-09T00:03Z")
    assert part.count() == part.to_polars().height > 0
    assert problems(trades) == []
    assert trades.compress(codec) == []  # done already
    (content,) = trades.contents()
    assert (content.ticks, content.first_ns) == (plain[0].ticks, plain[0].first_ns)
    assert trades.rebuild_index() == 2
    assert trades.index.files() == done
    # And back.
    assert [record.compression for record in trades.compress("none")] == ["none"] * 2
    assert trades.contents() == plain
    assert selection.to_polars().equals(before)


def test_from_one_compression_to_another(trades: ibt.Store, selection: ibt.Selection) -> None:
    before = selection.to_polars()
    for codec in ("gzip", "zstd", "snappy"):
        trades.compress(codec)
        assert {record.compression for record in trades.index.files()} == {codec}
    assert selection.to_polars().equals(before)


@pytest.mark.parametrize(
    ("older_than", "now", "paths"),
    [
        ("24h", "2024-08-09T12:00Z", []),
        ("24h", "2024-08-10T00:00Z", HOURS[:1]),  # the hour from 23 to 24 has just ended then
        ("24h", "2024-08-09T23:59:59Z", []),
        (timedelta(minutes=1), "2024-08-09T01:01Z", HOURS),
    ],
)
def test_only_hours_that_ended_long_enough_ago(
    trades: ibt.Store, older_than: str | timedelta, now: str, paths: list[str]
) -> None:
    done = trades.compress(older_than=older_than, now=now)
    assert [record.path for record in done] == paths


def test_a_late_tick_for_a_compressed_hour(trades: ibt.Store, selection: ibt.Selection) -> None:
    rows = selection.count()
    trades.compress("zstd")
    tick = {"contract_id": 990101, "tick_type": "all_last", "price": 1.0, "size": 2.0}
    with trades.writer(990101, "all_last") as writer:
        writer.append(
            {"type": "tick", "stream_id": "s", "timestamp": "2024-08-08T23:59:59Z", "data": tick}
        )
        assert selection.count() == selection.to_polars().height == rows + 1
    assert selection.count() == rows + 1
    assert problems(trades) == []


def test_damaged_files_are_unchanged_and_block_nothing(
    trades: ibt.Store, damage: Callable[..., None]
) -> None:
    damage(trades.root / HOURS[0])
    before = (trades.root / HOURS[0]).read_bytes()
    with pytest.raises(errors.CorruptFileError, match="ibticks verify"):
        trades.compress("zstd")
    assert (trades.root / HOURS[0]).read_bytes() == before
    assert [record.compression for record in trades.index.files()] == ["none", "zstd"]


KILLED = """
import os, signal, sys
import ibticks as ibt

renamed = False

def kill_after_a_rename(event, arguments):
    global renamed
    if event == "os.rename" and str(arguments[1]).endswith("_ticks.pb"):
        renamed = True
    elif event == "open" and renamed:
        os.kill(os.getpid(), signal.SIGKILL)

store = ibt.open(sys.argv[1], dsn=sys.argv[2])
sys.addaudithook(kill_after_a_rename)
store.compress(sys.argv[3], progress=False)
"""


@pytest.mark.parametrize("codec", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("settled_by", ["opening", "writer"])
def test_a_compression_killed_before_its_row(
    trades: ibt.Store, selection: ibt.Selection, database: str, codec: str, settled_by: str
) -> None:
    """``kill -9`` between the rename of the compressed file and its row of the index."""
    if codec == "none":
        trades.compress("zstd")
    before = selection.to_polars()
    command = [sys.executable, "-c", KILLED, str(trades.root), database, codec]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [record.sealed for record in trades.index.files()] == [False, True]
    assert selection.to_polars().equals(before)
    minutes = trades.select(990101, start="2024-08-08T23:55Z", end="2024-08-08T23:59Z")
    assert minutes.count() == minutes.to_polars().height > 0
    if settled_by == "writer":
        trades.writer(990101, "all_last").close()
    with ibt.open(trades.root, dsn=database) as store:
        assert problems(store) == []
        assert [record.sealed for record in store.index.files()] == [True, True]
        assert store.index.files()[0].compression == codec
        assert [record.path for record in store.compress(codec)] == HOURS[1:]


@pytest.mark.parametrize("refused", [0, 1])
def test_a_compression_whose_row_is_refused(
    trades: ibt.Store,
    selection: ibt.Selection,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    refused: int,
) -> None:
    """As by a journal on a full disk; the first row is put before the rename, the second after."""
    before, plain = selection.to_polars(), trades.index.files()
    put_files, calls = trades.index.put_files, []

    def refuse(records: Any) -> None:
        calls.append(records)
        if len(calls) > refused:
            raise errors.StorageFullError("no space left on device")
        put_files(records)

    with monkeypatch.context() as patch:
        patch.setattr(trades.index, "put_files", refuse)
        with pytest.raises(errors.StorageFullError):
            trades.compress("zstd")
    assert selection.to_polars().equals(before)
    if not refused:
        assert trades.index.files() == plain
        assert problems(trades) == []
    with ibt.open(trades.root, dsn=database) as store:
        assert problems(store) == []
        assert store.index.files()[0].compression == ("zstd" if refused else "none")


@pytest.mark.parametrize("call", ["replace", "folder"])
def test_a_compression_that_fails_has_the_row_of_its_file(
    trades: ibt.Store, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The rename, or the sync of the folder after it, fails."""
    path = trades.root / HOURS[0]
    real = os.replace if call == "replace" else os.fsync

    def fail(target: Any, *arguments: Any, **options: Any) -> None:
        where = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target
        if Path(where) in (path.parent, path.with_name(f".{path.name}.new")) and (
            call == "replace" or Path(where).is_dir()
        ):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(target, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, real.__name__, fail)
        with pytest.raises(errors.StorageError):
            trades.compress("zstd")
    compressions = [record.compression for record in trades.index.files()]
    assert compressions == ["none" if call == "replace" else "zstd", "none"]
    assert problems(trades) == []


def test_opening_leaves_a_file_to_its_writer(trades: ibt.Store, database: str) -> None:
    with trades.writer(990101, "all_last") as writer:
        tick = {"contract_id": 990101, "tick_type": "all_last", "price": 1.0, "size": 2.0}
        writer.append(
            {"type": "tick", "stream_id": "s", "timestamp": "2024-08-08T23:59:59Z", "data": tick}
        )
        with ibt.open(trades.root, dsn=database) as store:
            assert [record.sealed for record in store.index.files()] == [False, True]
    assert problems(trades) == []


def test_unknown_compression(trades: ibt.Store) -> None:
    with pytest.raises(errors.InputError, match="use one of none, "):
        trades.compress("lzma")
    with pytest.raises(errors.UnknownPeriodError):
        trades.compress(older_than="yesterday")


def test_files_being_written_are_left_alone(trades: ibt.Store) -> None:
    with trades.writer(990101, "all_last"):
        for work in (trades.compress, lambda: trades.prune("1d")):
            with pytest.warns(errors.StreamInUseWarning, match="2 files are left") as caught:
                assert work() == []
            assert caught[0].filename == __file__
    assert trades.index.files()[0].compression == "none"
    assert len(trades.compress("zstd")) == 2


# -- pruning ---------------------------------------------------------------------------------------


def test_pruning(trades: ibt.Store) -> None:
    keep: dict[str, Any] = {"keep": "30d", "now": "2024-09-08T00:00Z"}
    assert trades.prune(**keep, dry_run=True) == HOURS[:1]
    assert len(trades.index.files()) == 2
    assert all((trades.root / path).exists() for path in HOURS)
    assert trades.prune(**keep, progress=False) == HOURS[:1]
    assert [record.path for record in trades.index.files()] == HOURS[1:]
    assert not (trades.root / HOURS[0]).exists()
    assert trades.prune(**keep) == []
    assert trades.select(990101).count() == 10147
    (day,) = trades.daily_stats()
    assert (day.date, day.ticks) == ("2024-08-09", 10147)
    assert problems(trades) == []


@pytest.mark.parametrize("keep", ["", "forever", "0d", "-1d"])
def test_nothing_is_pruned_by_mistake(trades: ibt.Store, keep: str) -> None:
    with pytest.raises(errors.UnknownPeriodError):
        trades.prune(keep)
    assert len(trades.index.files()) == 2


@pytest.fixture
def served_from_the_catalogue(trades: ibt.Store, database: str) -> Iterator[ibt.Store]:
    """The store of the trades, opened again while its database is damaged."""
    trades.close()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE version = 1")
    with pytest.warns(errors.IndexAwayWarning, match="half migrated"):
        store = ibt.open(trades.root, dsn=database)
    yield store
    with pytest.warns(errors.IndexAwayWarning):
        store.write_catalogue()
    store.close()


def test_verifying_without_a_database_checks_the_files(
    served_from_the_catalogue: ibt.Store,
) -> None:
    store = served_from_the_catalogue
    with pytest.warns(errors.IndexAwayWarning, match="only the files are checked.*half migrated"):
        findings = list(store.verify(progress=False))
    assert [(finding.path, finding.problem) for finding in findings] == [
        (path, None) for path in HOURS
    ]
    with (store.root / HOURS[1]).open("r+b") as stream:
        stream.seek(-5, os.SEEK_END)
        stream.write(b"\xff\xff")
    with pytest.warns(errors.IndexAwayWarning):
        assert problems(store) == [(HOURS[1], "checksum")]


# -- the catalogue ---------------------------------------------------------------------------------


def test_the_catalogue_equals_the_index(tmp_path: Path, database: str) -> None:
    path = tmp_path / "metadata" / "index.json"
    with ibt.open(tmp_path, dsn=database) as store:
        store.add_contract(990101, "BTCUSDT")
        ibt.import_table(
            store, sample("btcusdt_trades").path, contract_id=990101, tick_type="all_last"
        )
        stats, contracts, records = store.daily_stats(), store.contracts(), store.index.files()
    catalogue = CatalogueIndex(path)
    assert catalogue.daily_stats() == stats
    assert catalogue.contracts() == contracts
    assert [record.path for record in catalogue.files()] == [record.path for record in records]
    assert json.loads(path.read_text())["schema"] == 1
    written = path.stat().st_mtime_ns
    with ibt.open(tmp_path, dsn=database) as store:
        store.select("BTCUSDT").count()
    assert path.stat().st_mtime_ns == written  # reading changes nothing
