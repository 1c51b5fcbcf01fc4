"""Loads of archived hours read the blocks of the time range, and no more."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import polars as pl
import pytest

import ibticks as ibt
from ibticks.errors import ArchiveError, CorruptDataWarning, CorruptFileError
from tests.archive.conftest import HOURS, LATER, NOW, ticks_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.archive.object_server import ObjectServer, Request

ROWS = 70_000  # of an hour: 5 MiB of frames
STREAM = (265598, "last")


def gets(server: ObjectServer) -> list[Request]:
    """Return the requests for bytes, and forget all requests."""
    requests = [request for request in server.requests if request.method == "GET"]
    server.requests.clear()
    return requests


def size(request: Request) -> int:
    first, _, last = request.range.removeprefix("bytes=").partition("-")
    return int(last) + 1 - int(first)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("IBTICKS_ARCHIVE_CACHE", str(folder))
    return folder


@pytest.fixture
def archived(store: ibt.Store, faulty: ObjectServer, cache: Path) -> tuple[ibt.Store, pl.DataFrame]:
    """A store with two archived hours of several blocks, and their ticks."""
    del cache
    for hour in (14, 15):
        store.write(ticks_of(hour, ROWS), contract_id=265598, tick_type="last")
    ticks = store.select(*STREAM).to_polars()
    store.archive("s3://ticks", now=NOW)
    store.archive("s3://ticks", now=LATER, grace="7d")
    assert not any((store.root / path).exists() for path in HOURS)
    store.clear_cache()
    faulty.requests.clear()
    return store, ticks


Archived = tuple[ibt.Store, pl.DataFrame]


def test_five_minutes_are_one_request_of_at_most_two_blocks(
    archived: Archived, faulty: ObjectServer
) -> None:
    store, ticks = archived
    start, end = "2025-01-10T14:30Z", "2025-01-10T14:35Z"
    loaded = store.select(*STREAM, start=start, end=end).to_polars()
    (request,) = gets(faulty)
    (record, _) = store.index.files()
    assert len(record.blocks) >= 4
    assert size(request) <= sum(sorted(block.size for block in record.blocks)[-2:])
    at = ticks["timestamp"].cast(pl.Int64)
    first = record.hour_ns + 1800 * 10**9
    assert loaded.equals(ticks.filter((at >= first) & (at < first + 300 * 10**9)))
    store.clear_cache()
    assert store.select(*STREAM, start=start, end=end).to_polars().equals(loaded)
    assert faulty.requests == []


def test_all_ways_to_load_read_archived_hours(archived: Archived, faulty: ObjectServer) -> None:
    store, ticks = archived
    selection = store.select(*STREAM)
    assert selection.to_polars().equals(ticks)
    assert len(gets(faulty)) == 2  # an hour each
    store.clear_cache()
    assert selection.count() == len(ticks)
    part = store.select(*STREAM, start="2025-01-10T14:20Z", end="2025-01-10T15:20Z")
    assert part.count() == len(part.to_polars())
    assert selection.tail(5).equals(ticks.tail(5))
    assert selection.lazy().collect().equals(ticks)
    assert sum(batch.num_rows for batch in selection.iter_batches(rows=10_000)) == len(ticks)
    assert sum(message["type"] == "tick" for message in selection.messages(ticks=True)) == len(
        ticks
    )
    copied = pickle.loads(pickle.dumps(selection))
    assert copied.to_polars().equals(ticks)
    assert len(selection.to_dask()) == len(ticks)
    assert gets(faulty) == []


def test_local_and_archived_hours_are_read_together(archived: Archived) -> None:
    store, ticks = archived
    store.restore_archived(*STREAM, start="2025-01-10T15:00Z")
    store.write(ticks_of(16), contract_id=265598, tick_type="last")
    loaded = store.select(*STREAM).to_polars()
    assert loaded.head(len(ticks)).equals(ticks)
    assert len(loaded) == len(ticks) + 50


def test_compressed_hours_are_read_by_blocks(
    store: ibt.Store, faulty: ObjectServer, cache: Path
) -> None:
    store.write(ticks_of(14, ROWS), contract_id=265598, tick_type="last")
    ticks = store.select(*STREAM).to_polars()
    store.compress("zstd")
    store.archive("s3://ticks", now=NOW)
    store.archive("s3://ticks", now=LATER, grace="7d")
    gets(faulty)
    start, end = "2025-01-10T14:30Z", "2025-01-10T14:35Z"
    loaded = store.select(*STREAM, start=start, end=end).to_polars()
    assert 0 < len(loaded) < len(ticks)
    assert [size(request) < len(faulty.objects[HOURS[0]]) for request in gets(faulty)] == [True]
    assert store.select(*STREAM).to_polars().equals(ticks)


def test_over_moto(ticks: ibt.Store, s3: str, cache: Path) -> None:
    before = ticks.select(*STREAM).to_polars()
    ticks.archive(s3, now=NOW)
    ticks.archive(s3, now=LATER, grace="7d")
    ticks.clear_cache()
    assert ticks.select(*STREAM).to_polars().equals(before)
    assert sorted(path.name for path in cache.rglob("*_ticks.pb")) == [
        "14_ticks.pb",
        "15_ticks.pb",
    ]


def test_an_index_without_blocks_reads_whole_hours(
    archived: Archived, faulty: ObjectServer
) -> None:
    store, ticks = archived
    from dataclasses import replace

    store.index.put_files([replace(file, blocks=()) for file in store.index.files()])
    store.clear_cache()
    assert store.select(*STREAM).to_polars().equals(ticks)
    assert len(gets(faulty)) == 2
    store.clear_cache()
    assert store.select(*STREAM).to_polars().equals(ticks)
    assert gets(faulty) == []


def test_a_hole_in_the_cache_is_fetched_again(
    archived: Archived, faulty: ObjectServer, cache: Path
) -> None:
    store, ticks = archived
    assert store.select(*STREAM).to_polars().equals(ticks)
    gets(faulty)
    file = next(cache.rglob("14_ticks.pb"))
    record, _ = store.index.files()
    with file.open("r+b") as stream:
        stream.seek(record.blocks[2].offset + 99)
        stream.write(b"\0\0\0")
    store.clear_cache()
    assert store.select(*STREAM).to_polars().equals(ticks)
    assert [size(request) for request in gets(faulty)] == [record.blocks[2].size]


def test_the_folder_is_bounded(
    archived: Archived, faulty: ObjectServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ticks = archived
    limit = 6_000_000  # one hour has 3.7 MB
    monkeypatch.setenv("IBTICKS_ARCHIVE_CACHE_BYTES", str(limit))
    for _ in range(2):
        assert store.select(*STREAM).to_polars().equals(ticks)
        store.clear_cache()
    assert sum(path.stat().st_blocks * 512 for path in cache.rglob("*_ticks.pb")) <= limit
    assert len(gets(faulty)) == 3


def test_an_object_store_that_fails_is_an_error_not_a_gap(
    archived: Archived, faulty: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ticks = archived
    monkeypatch.setattr("ibticks.archive._object_store.MAX_RETRIES", 1)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another")  # opens another client
    faulty.fault = lambda _: "slow down"
    with pytest.raises(ArchiveError, match="throttles"):
        store.select(*STREAM).to_polars()
    faulty.fault = lambda _: None
    assert store.select(*STREAM).to_polars().equals(ticks)


def test_a_lost_copy_is_an_error(archived: Archived, faulty: ObjectServer) -> None:
    store, _ = archived
    del faulty.objects[HOURS[0]]
    with pytest.raises(ArchiveError, match="no such object"):
        store.select(*STREAM).to_polars()


def test_a_damaged_block_of_a_copy_is_left_out_with_a_warning(
    archived: Archived, faulty: ObjectServer
) -> None:
    store, ticks = archived
    record, _ = store.index.files()
    block = record.blocks[1]
    data = bytearray(faulty.objects[HOURS[0]])
    data[block.offset + 50] ^= 1
    faulty.objects[HOURS[0]] = bytes(data)
    with pytest.warns(CorruptDataWarning, match="fails its checksum"):
        loaded = store.select(*STREAM).to_polars()
    assert len(loaded) == len(ticks) - block.messages
    with pytest.raises(CorruptFileError, match="fails its checksum"):
        store.select(*STREAM, strict=True).to_polars()


def test_a_stale_copy_is_never_read(archived: Archived) -> None:
    """A copy with other bytes than those of the row of the file is not its copy."""
    store, ticks = archived
    from dataclasses import replace

    first, second = store.index.archived()
    store.index.put_archived([replace(first, crc32c=first.crc32c ^ 1)])
    with pytest.warns(CorruptDataWarning, match="left out"):
        loaded = store.select(*STREAM).to_polars()
    assert len(loaded) == len(ticks) - ROWS
    assert second.is_copy_of(store.index.files()[1])
