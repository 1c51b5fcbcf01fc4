"""An archive is read from its catalogue, without the store and without its index."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import ibticks as ibt
from ibticks.archive import ArchiveIndex, open_object_store
from ibticks.errors import (
    ArchiveError,
    CorruptFileError,
    IndexVersionError,
    InputError,
    ReadOnlyError,
    UnknownContractError,
)
from ibticks.index import ContractRecord, CoverageRecord
from ibticks.store import ArchiveStore
from tests.archive.conftest import HOURS, LATER, NOW, ticks_of

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.index import Index
    from tests.archive.object_server import ObjectServer, Request

JANUARY = "catalogue/265598/last/2025-01"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the blocks that are read."""
    monkeypatch.setenv("IBTICKS_ARCHIVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def open_archive(url: str) -> ArchiveStore:
    """Open an archive by the front door, as users do."""
    archive: Any = ibt.open(url)
    assert isinstance(archive, ArchiveStore)
    return archive


def catalogue_keys(url: str) -> list[str]:
    return sorted(open_object_store(url).list_keys("catalogue/"))


def read_records(url: str, version: int = 1) -> dict[str, Any]:
    """Return the rows of January, read without our code for them."""
    data = open_object_store(url).read(f"{JANUARY}/{version:06}.json.gz").data
    records: dict[str, Any] = json.loads(gzip.decompress(data))
    return records


@pytest.fixture
def store_of_months(store: ibt.Store) -> ibt.Store:
    """A store with two contracts, two tick types and three months."""
    store.add_contract(265598, "AAPL", exchange="SMART")
    store.add_contract(8314, "IBM")
    for months, hour in enumerate((14, 15)):
        frame = ticks_of(hour).with_columns(pl.col("timestamp").dt.offset_by(f"{months}mo"))
        store.write(frame, contract_id=265598, tick_type="last")
        store.write(frame, contract_id=8314, tick_type="all_last")
    quotes = ticks_of(16).select(
        pl.col("timestamp").dt.offset_by("-1mo"),
        bid_price=pl.col("price"),
        ask_price=pl.col("price") + 0.5,
    )
    store.write(quotes, contract_id=265598, tick_type="bid_ask")
    store.index.put_coverage(
        [
            CoverageRecord(265598, "last", 1_736_517_600 * 10**9, None, "captured"),
            CoverageRecord(8314, "all_last", 1_736_517_600 * 10**9, None, "quiet", "no ticks"),
        ]
    )
    return store


def test_an_archive_has_the_ticks_of_its_store(store_of_months: ibt.Store, s3: str) -> None:
    store = store_of_months
    store.archive(s3, now="2025-06-01T00:00Z")
    with open_archive(s3) as archive:
        assert archive.contracts() == store.contracts()
        assert archive.contents() == store.contents()
        assert archive.daily_stats("AAPL") == store.daily_stats("AAPL")
        for contract, tick_type in (("AAPL", "last"), ("AAPL", "bid_ask"), (8314, "all_last")):
            expected = store.select(contract, tick_type)
            selection = archive.select(contract, tick_type)
            assert selection.count() == expected.count() > 0
            assert selection.to_polars().equals(expected.to_polars())
            assert selection.to_pandas().equals(expected.to_pandas())
            assert selection.lazy().collect().equals(expected.lazy().collect())
            assert selection.tail(3).equals(expected.tail(3))
            assert list(selection.messages()) == list(expected.messages())
            assert pickle.loads(pickle.dumps(selection)).to_polars().equals(expected.to_polars())
        last: dict[str, Any] = {"period": "10m", "now": "last_tick"}
        assert archive.select("AAPL", "last", **last).count() == 9
        assert store.select("AAPL", "last", **last).count() == 9
        with pytest.raises(UnknownContractError):
            archive.select("MSFT")
        assert repr(archive) == f"<ArchiveStore {s3}>"
        assert "ibticks ArchiveStore" in archive._repr_html_()
        with pytest.raises(ReadOnlyError, match="is an archive"):
            archive.index.put_contracts([ContractRecord(1, "A")])


def test_the_store_may_be_gone(ticks: ibt.Store, s3: str) -> None:
    expected = ticks.select(265598, "last").to_polars()
    ticks.archive(s3, now=NOW)
    ticks.archive(s3, now=LATER, grace="7d")
    ticks.close()
    shutil.rmtree(ticks.root)
    with open_archive(s3) as archive:
        assert archive.select(265598, "last").to_polars().equals(expected)


def test_only_the_months_of_a_selection_are_read(
    store_of_months: ibt.Store, faulty: ObjectServer
) -> None:
    store_of_months.archive("s3://ticks", now="2025-06-01T00:00Z")
    faulty.requests.clear()
    with open_archive("s3://ticks") as archive:
        assert archive.index.streams() == {
            (265598, "last"),
            (265598, "bid_ask"),
            (8314, "all_last"),
        }
        assert [request.key for request in faulty.requests] == [""]
        chosen = archive.select(265598, "last", start="2025-01-10", end="2025-01-11", tz="UTC")
        assert chosen.count() == 50
        read = [request.key for request in faulty.requests if "/2025-" in request.key]
        assert read == [f"{JANUARY}/000001.json.gz"]


def test_five_minutes_are_read_by_blocks(ticks: ibt.Store, faulty: ObjectServer) -> None:
    ticks.archive("s3://ticks", now=NOW)
    with open_archive("s3://ticks") as archive:
        chosen = archive.select(265598, "last", start="2025-01-10T14:05Z", end="2025-01-10T14:10Z")
        assert len(archive.index.files()) == 2
        faulty.requests.clear()
        assert chosen.to_polars().equals(
            ticks.select(
                265598, "last", start="2025-01-10T14:05Z", end="2025-01-10T14:10Z"
            ).to_polars()
        )
        (request,) = faulty.requests
        assert (request.key, bool(request.range)) == (HOURS[0], True)


def test_coverage_ends_with_the_last_archived_hour(store_of_months: ibt.Store, s3: str) -> None:
    store_of_months.archive(s3, now="2025-02-20T00:00Z")
    with open_archive(s3) as archive:
        assert archive.select(265598).tick_types == ("last", "bid_ask")
        rows = archive.index.coverage([265598], ["last"])
        assert [(row.start_ns, row.end_ns) for row in rows] == [
            (1_736_517_600 * 10**9, 1_736_521_200 * 10**9)
        ]
        states = archive.coverage(265598, "last").to_polars()["state"].to_list()
        assert states[0] == "captured"


def test_a_later_run_adds_to_a_month(ticks: ibt.Store, s3: str) -> None:
    ticks.archive(s3, older_than="1h", now="2025-01-10T16:30Z")
    assert [file["path"] for file in read_records(s3)["files"]] == HOURS[:1]
    ticks.archive(s3, now=NOW)
    assert catalogue_keys(s3) == [f"{JANUARY}/000002.json.gz"]
    records = read_records(s3, 2)
    assert [file["path"] for file in records["files"]] == HOURS
    assert [copy["location"] for copy in records["copies"]] == HOURS  # relative to the archive
    ticks.archive(s3, now=NOW)
    assert catalogue_keys(s3) == [f"{JANUARY}/000002.json.gz"]


def test_stores_add_to_one_archive(ticks: ibt.Store, s3: str, tmp_path: Path) -> None:
    ticks.archive(s3, now=NOW)
    with ibt.open(tmp_path / "other") as other:
        other.write(ticks_of(17), contract_id=265598, tick_type="last")
        other.archive(s3, now=NOW)
    with open_archive(s3) as archive:
        assert archive.select(265598, "last").count() == 150


def test_of_two_runs_at_once_none_replaces_the_other(
    ticks: ibt.Store, faulty: ObjectServer, tmp_path: Path
) -> None:
    """The second run creates its version between the listing and the creation of the first."""
    with ibt.open(tmp_path / "other") as other:
        other.write(ticks_of(17), contract_id=265598, tick_type="last")
        second = threading.Lock()

        def interrupt(request: Request) -> None:
            if request.method == "GET" and not request.key and second.acquire(blocking=False):
                other.archive("s3://ticks", now=NOW)

        faulty.after = interrupt
        ticks.archive("s3://ticks", now=NOW)
    assert second.locked()
    keys = [key for key in faulty.objects if key.startswith("catalogue")]
    assert keys == [f"{JANUARY}/000002.json.gz"]
    with open_archive("s3://ticks") as archive:
        assert archive.select(265598, "last").count() == 150


def test_a_reader_finds_the_version_that_replaced_its_own(
    ticks: ibt.Store, faulty: ObjectServer
) -> None:
    ticks.archive("s3://ticks", older_than="1h", now="2025-01-10T16:30Z")
    with open_archive("s3://ticks") as archive:
        ticks.archive("s3://ticks", now=NOW)
        assert archive.select(265598, "last").count() == 100


def test_versions_stay_where_deleting_is_forbidden(ticks: ibt.Store, faulty: ObjectServer) -> None:
    faulty.fault = lambda request: "forbidden" if request.method == "POST" else None
    ticks.archive("s3://ticks", older_than="1h", now="2025-01-10T16:30Z")
    ticks.archive("s3://ticks", now=NOW)
    assert len([key for key in faulty.objects if key.startswith("catalogue")]) == 2
    with open_archive("s3://ticks") as archive:
        assert archive.select(265598, "last").count() == 100


@pytest.mark.parametrize("failing", ["catalogue/", f"{JANUARY}/000001.json.gz"])
def test_a_run_that_failed_is_completed_by_the_next(
    ticks: ibt.Store, faulty: ObjectServer, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr("ibticks.archive._object_store.MAX_RETRIES", 0)

    def refuse(request: Request) -> str | None:
        is_listing = failing.endswith("/") and not request.key
        return "forbidden" if is_listing or request.key == failing else None

    faulty.fault = refuse
    with pytest.raises(ArchiveError):
        ticks.archive("s3://ticks", now=NOW)
    faulty.fault = lambda _: None
    assert ticks.archive("s3://ticks", now=NOW).copied == []
    with open_archive("s3://ticks") as archive:
        assert archive.select(265598, "last").count() == 100


def test_a_version_that_the_store_damaged_is_an_error(
    ticks: ibt.Store, faulty: ObjectServer
) -> None:
    faulty.fault = lambda request: (
        "damage" if request.method == "PUT" and "catalogue" in request.key else None
    )
    with pytest.raises(ArchiveError, match="does not have the bytes"):
        ticks.archive("s3://ticks", now=NOW)


def test_an_archive_of_before_gets_a_catalogue(ticks: ibt.Store, s3: str) -> None:
    ticks.archive(s3, now=NOW)
    for key in catalogue_keys(s3):
        open_object_store(s3).delete(key)
    note = ticks.root / "metadata" / "archive.json"
    note.write_text(json.dumps({"locations": [s3]}))
    assert ticks.archive(s3, now=NOW).copied == []
    assert catalogue_keys(s3) == [f"{JANUARY}/000001.json.gz"]


def test_copies_elsewhere_are_not_listed(ticks: ibt.Store, s3: str) -> None:
    ticks.archive(f"{s3}/a", older_than="1h", now="2025-01-10T16:30Z")
    ticks.archive(f"{s3}/b", now=NOW)
    with open_archive(f"{s3}/b") as archive:
        paths = [file.path for file in archive.index.files()]
    assert paths == HOURS[1:]


def test_what_is_no_archive_is_refused(s3: str) -> None:
    with pytest.raises(ArchiveError, match="has no catalogue of ticks"):
        ibt.open(s3)
    with pytest.raises(InputError, match="only cache= goes with it"):
        ibt.open(s3, create=False)
    with pytest.raises(InputError, match="whole number of bytes"):
        ibt.open(s3, cache=-1)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("ticks", CorruptFileError, "is not a catalogue of ticks"),
        ("[]", CorruptFileError, "is not a catalogue of ticks"),
        ('{"schema": 1}', CorruptFileError, "KeyError: 'copies'"),
        ('{"schema": 2}', IndexVersionError, "a newer ibticks wrote"),
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 9])
def test_a_damaged_or_newer_version(
    s3: str, text: str, error: type[Exception], message: str, cut: int
) -> None:
    data = gzip.compress(text.encode())
    open_object_store(s3).create(f"{JANUARY}/000001.json.gz", data[: len(data) - cut])
    if cut:
        error, message = CorruptFileError, "is not a catalogue of ticks"
    with open_archive(s3) as archive, pytest.raises(error, match=message):
        archive.index.files()


def test_other_objects_are_passed_over(ticks: ibt.Store, s3: str) -> None:
    ticks.archive(s3, now=NOW)
    objects = open_object_store(s3)
    for key in ("catalogue/README", "catalogue/x/last/2025-01/000001.json.gz", f"{JANUARY}/notes"):
        objects.create(key, b"others")
    with open_archive(s3) as archive:
        assert archive.select(265598, "last").count() == 100


def test_every_read_equals_that_of_the_store(store_of_months: ibt.Store, s3: str) -> None:
    store_of_months.archive(s3, now="2025-06-01T00:00Z")
    whole: Index = store_of_months.index
    hour = 3600 * 10**9
    starts = [file.hour_ns for file in whole.files()]
    for ids in (None, [265598], [8314], [1]):
        for types in (None, ["last"], ["bid_ask", "all_last"]):
            lazily: Index = ArchiveIndex(s3)
            assert lazily.tick_ranges(ids, types) == whole.tick_ranges(ids, types)
            assert lazily.open_files(ids, types) == []
            for start in starts:
                for bounds in ((start, start + hour), (None, start), (start + hour, None)):
                    fresh: Index = ArchiveIndex(s3)
                    assert fresh.files(ids, types, *bounds) == whole.files(ids, types, *bounds)
    streams = whole.streams()
    assert ArchiveIndex(s3).streams() == streams
    assert ArchiveIndex(s3).last_ticks(streams) == whole.last_ticks(streams)
    paths = [file.path for file in whole.files()]
    assert ArchiveIndex(s3).archived(paths[1:3]) == whole.archived(paths[1:3])
    assert ArchiveIndex(s3).archived() == whole.archived()
