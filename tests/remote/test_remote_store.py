"""A store over HTTP: the frames, errors and streams of the same store on this machine."""

from __future__ import annotations

import asyncio
import http.server
import json
import pickle
import threading
import warnings
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import polars.testing
import pytest

import ibticks as ibt
from ibticks import errors
from ibticks.frames import metadata_of
from ibticks.remote import RemoteStore
from ibticks.remote._connection import _shared_connection
from ibticks.selection import Selection
from ibticks.service import Service
from tests.service.feed import CONTRACT, Feed, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IBM = 8314
START, END = "2013-10-08T14:00Z", "2013-10-08T15:30Z"


@pytest.fixture(scope="module")
def remote(sample_store: ibt.Store) -> Iterator[RemoteStore]:
    """The store of the samples over HTTP."""
    with Service(sample_store, port=0) as service, RemoteStore(service.url) as opened:
        yield opened


@pytest.mark.parametrize(
    "query",
    [
        {"start": START, "end": END},
        {"start": "2013-10-08 10:00", "end": "2013-10-08 11:00", "tz": "America/New_York"},
        {"start": datetime(2013, 10, 8, 14, tzinfo=UTC), "end": 1_381_244_400_000_000_000},
        {"start": pd.Timestamp("2013-10-08T14:00:00.000000001Z"), "end": END},
        {"period": "1h", "now": "last_tick"},
        {"period": timedelta(minutes=90), "now": "2013-10-08T15:00Z"},
        {"session": "regular", "date": "2013-10-08"},
        {"session": "pre_market", "date": date(2013, 10, 8)},
        {"sessions": 2, "now": "2013-10-09T22:00Z"},
        {},
    ],
    ids=str,
)
def test_selections_load_the_same_table(
    remote: RemoteStore, sample_store: ibt.Store, query: dict[str, Any]
) -> None:
    local = sample_store.select("IBM", "all_last", **query)
    selection = remote.select("IBM", "all_last", **query)
    assert selection.intervals == local.intervals
    table, expected = selection.to_arrow(), local.to_arrow()
    assert table.equals(expected)
    assert set(table.schema.metadata) == set(expected.schema.metadata)
    ours, theirs = metadata_of(table), metadata_of(expected)
    if "start" in query and not isinstance(query["start"], pd.Timestamp):
        assert ours == theirs
    assert ours["intervals"] == theirs["intervals"]
    assert selection.count() == local.count() == table.num_rows


@pytest.mark.parametrize("tick_types", [None, "bid_ask", ["bid_ask", "all_last"]])
def test_every_library(remote: RemoteStore, sample_store: ibt.Store, tick_types: Any) -> None:
    chosen = ("IBM", tick_types)
    selection = remote.select(*chosen, start=START, end=END)
    local = sample_store.select(*chosen, start=START, end=END)
    polars.testing.assert_frame_equal(selection.to_polars(), local.to_polars())
    frame = selection.to_pandas()
    pd.testing.assert_frame_equal(frame, local.to_pandas())
    assert frame.attrs == local.to_pandas().attrs
    assert selection.to_xarray().identical(local.to_xarray())
    lazy = selection.lazy().filter(pl.col("timestamp") > datetime(2013, 10, 8, 15, tzinfo=UTC))
    polars.testing.assert_frame_equal(
        lazy.select("timestamp", "tick_type").collect(),
        local.lazy()
        .filter(pl.col("timestamp") > datetime(2013, 10, 8, 15, tzinfo=UTC))
        .select("timestamp", "tick_type")
        .collect(),
        categorical_as_str=True,
    )
    batches = pl.concat([pl.DataFrame(batch) for batch in selection.iter_batches(rows=1000)])
    polars.testing.assert_frame_equal(batches, local.to_polars(), categorical_as_str=True)
    polars.testing.assert_frame_equal(selection.tail(7), local.tail(7), categorical_as_str=True)
    assert list(selection.messages(ticks=True)) == list(local.messages(ticks=True))
    polars.testing.assert_frame_equal(selection.describe(), local.describe())
    polars.testing.assert_frame_equal(selection.daily(), local.daily())
    assert selection.metadata() == json.loads(json.dumps(local.metadata()))
    assert selection.files() == local.files()
    assert selection.streams() == local.streams()
    assert selection.coverage() == local.coverage()
    columns = selection.with_columns("timestamp", "exchange")
    expected = local.with_columns("timestamp", "exchange")
    polars.testing.assert_frame_equal(columns.to_polars(), expected.to_polars())


def test_the_accessor(remote: RemoteStore, sample_store: ibt.Store) -> None:
    vwap = remote.select("IBM", "all_last").to_polars().ticks.vwap()  # type: ignore[attr-defined]
    local = sample_store.select("IBM", "all_last").to_polars().ticks.vwap()  # type: ignore[attr-defined]
    polars.testing.assert_frame_equal(vwap, local)


def test_the_catalogue(remote: RemoteStore, sample_store: ibt.Store) -> None:
    assert remote.contracts() == sample_store.contracts()
    assert remote.contents() == sample_store.contents()
    assert remote.coverage() == sample_store.coverage()
    assert remote.coverage("IBM", "all_last", "1h", now="last_tick") == sample_store.coverage(
        "IBM", "all_last", "1h", now="last_tick"
    )
    assert "IBM" in remote._repr_html_()
    assert repr(remote).startswith("<RemoteStore http://127.0.0.1:")
    assert "IBM" in remote.select("IBM")._repr_html_()


@pytest.mark.parametrize(
    ("contracts", "query", "error"),
    [
        ("XYZ", {}, errors.UnknownContractError),
        ("IBM", {"tick_types": "trades"}, errors.UnknownTickTypeError),
        ("IBM", {"columns": "cost"}, errors.UnknownColumnError),
        ("IBM", {"period": "soon"}, errors.UnknownPeriodError),
        ("IBM", {"start": datetime(2013, 10, 8)}, errors.NaiveDatetimeError),
        ("IBM", {"start": END, "end": START}, errors.TimeRangeError),
        ("IBM", {"session": "regular", "date": "2013-10-06"}, errors.NoSessionError),
        ([], {}, errors.InputError),
    ],
)
def test_errors_are_those_of_a_local_store(
    remote: RemoteStore,
    sample_store: ibt.Store,
    contracts: Any,
    query: dict[str, Any],
    error: type[Exception],
) -> None:
    with pytest.raises(error) as expected:
        sample_store.select(contracts, **query)
    with pytest.raises(error) as raised:
        remote.select(contracts, **query)
    assert str(raised.value) == str(expected.value)
    assert type(raised.value) is type(expected.value)


BUFFERS = [
    ("30m", {"now": "last_tick"}),
    (timedelta(minutes=90), {"now": "2013-10-08T15:00Z"}),
    ("regular", {"now": "2013-10-08T15:00Z", "market": "US"}),
    ("2013-10-08 10:00", {"now": "2013-10-08T15:00Z", "tz": "America/New_York"}),
    (datetime(2013, 10, 8, 14, tzinfo=UTC), {"now": "last_tick"}),
    (1_381_240_800_000_000_000, {"now": 1_381_244_400_000_000_000}),
]


@pytest.mark.parametrize(("buffer", "options"), BUFFERS, ids=str)
def test_buffers(
    remote: RemoteStore, sample_store: ibt.Store, buffer: Any, options: dict[str, Any]
) -> None:
    ours = remote.buffer("IBM", ["bid_ask", "all_last"], buffer, **options)
    local = sample_store.buffer("IBM", ["bid_ask", "all_last"], buffer, **options)
    assert (ours.intervals, ours.label, ours.columns) == (
        local.intervals,
        local.label,
        local.columns,
    )
    expected = sample_store.select("IBM", ["bid_ask", "all_last"], start=START, end=END)
    assert expected.count()
    local_table = Selection.to_arrow(local)
    assert local_table.num_rows
    assert ours.to_arrow().equals(local_table)


def test_buffers_are_awaited(remote: RemoteStore, sample_store: ibt.Store) -> None:
    async def load() -> pl.DataFrame:
        buffer = await remote.buffer_async("IBM", "all_last", "10m", now="last_tick")
        return await buffer.to_polars_async()

    local = sample_store.select("IBM", "all_last", "10m", now="last_tick").to_polars()
    polars.testing.assert_frame_equal(asyncio.run(load()), local)


def test_wrong_buffers(remote: RemoteStore) -> None:
    with pytest.raises(errors.UnknownPeriodError):
        remote.buffer("IBM", "last", "soon")
    with pytest.raises(errors.NaiveDatetimeError):
        remote.buffer("IBM", "last", datetime(2013, 10, 8))


def test_figures_of_the_index(remote: RemoteStore, sample_store: ibt.Store) -> None:
    assert remote.daily_stats() == sample_store.daily_stats()
    assert remote.daily_stats("IBM", "all_last") == sample_store.daily_stats("IBM", "all_last")
    assert remote.contract_ids(["IBM", 8314]) == sample_store.contract_ids(["IBM", 8314])
    with pytest.raises(errors.UnknownTickTypeError):
        remote.daily_stats("IBM", "trades")


def test_a_selection_pickles(remote: RemoteStore) -> None:
    selection = remote.select("IBM", "all_last", start=START, end=END)
    copy = pickle.loads(pickle.dumps(selection))
    assert copy == selection
    assert copy.to_arrow().equals(selection.to_arrow())
    assert pickle.loads(pickle.dumps(copy)).connection is copy.connection  # shared by a process
    copy.connection.close()
    _shared_connection.cache_clear()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.mark.parametrize("tick_types", ["all_last", ["all_last", "bid_ask"]], ids=str)
def test_workers_of_a_cluster_load_from_the_service(
    cluster: Any, remote: RemoteStore, sample_store: ibt.Store, tick_types: Any
) -> None:
    ours = remote.select("IBM", tick_types, start=START, end=END)
    local = sample_store.select("IBM", tick_types, start=START, end=END)
    where = (pl.col("timestamp") > datetime(2013, 10, 8, 14, 40, tzinfo=UTC)) & (
        pl.col("tick_type") == "all_last"
    )
    for options in ({}, {"index": "timestamp"}, {"index": "timestamp", "where": where}):
        frame, expected = ours.to_dask(**options), local.to_dask(**options)
        assert frame.columns.equals(expected.columns)
        actual, wanted = frame.compute(), expected.compute()
        assert len(wanted)
        categories = wanted.select_dtypes("category").columns
        plain = dict.fromkeys(categories, "object")
        pd.testing.assert_frame_equal(actual.astype(plain), wanted.astype(plain), check_freq=False)
    with pytest.raises(errors.InputError, match="index='price'"):
        ours.to_dask(index="price")  # type: ignore[arg-type]


# What needs the files, the folder or the clock of the other machine.
ONLY_LOCAL = {
    *("root", "index", "columns", "writer", "write", "add_contract", "feed_states"),
    *("verify", "rebuild_index", "compress", "build_companions", "delete_companions"),
    *("archive", "restore_archived", "prune", "delete", "purge", "forget", "clear_cache"),
    *("write_catalogue", "note_change", "sql", "live_async"),
}


def test_a_remote_store_reads_all_that_a_store_does() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(ibt.Store) - public(RemoteStore) <= ONLY_LOCAL


def test_damage_warns(store: ibt.Store, damage: Callable[..., None]) -> None:
    times = pl.datetime_range(
        datetime(2025, 1, 10, 14),
        datetime(2025, 1, 10, 16),
        "1s",
        time_zone="UTC",
        eager=True,
    )
    store.write(
        pl.DataFrame({"timestamp": times, "price": 5.0, "size": 1.0}),
        contract_id=1,
        tick_type="last",
    )
    damage(next(store.root.rglob("14_ticks.pb")))
    with Service(store, port=0) as service, ibt.open(service.url) as remote:
        selection = remote.select(1, "last")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.CorruptDataWarning)
            local = store.select(1, "last").to_arrow()
            table = selection.to_arrow()
        assert table.equals(local)
        assert metadata_of(table)["missing"] == metadata_of(local)["missing"]


def test_a_live_stream_goes_on_over_restarts(store: ibt.Store) -> None:
    feed = Feed(store)
    feed.write("last", 3)
    service = Service(store, port=0)
    assert service.port is not None
    with ibt.open(service.url, token=None) as remote:
        live = remote.live(CONTRACT, "last", "1h")
        received = [next(live) for _ in range(6)]
        for _ in range(2):
            service.close()
            feed.write("last", 2)
            service = Service(store, port=service.port or 0)
            received += [next(live) for _ in range(2)]
        live.close()
    service.close()
    feed.close()
    assert numbers(received, "last") == list(range(7))
    assert [m["data"]["status"] for m in received if m["type"] == "info"] == [
        "buffer_start",
        "buffer_complete",
        "live_start",
    ]


def test_a_live_stream_resumes(store: ibt.Store) -> None:
    feed = Feed(store)
    feed.write("last", 4)
    with Service(store, port=0) as service, ibt.open(service.url, token=None) as remote:
        with remote.live("FEED", buffer="1h", markers=False) as live:
            assert numbers((next(live) for _ in range(2)), "last") == [0, 1]
            position = live.position
        with remote.live("FEED", resume=position, markers=False) as live:
            assert numbers((next(live) for _ in range(2)), "last") == [2, 3]
    feed.close()


def test_nothing_answers() -> None:
    with pytest.raises(errors.RemoteError, match="does `ibticks serve` run there"):
        ibt.open("http://127.0.0.1:9", token=None)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{}", 200, "is no service of ibticks"),
        (b"<html>", 404, "answered 404"),
        (b'{"service": "ibticks", "version": "0.0.9"}', 200, "update ibticks there"),
        (b'{"data": {"message": "no token", "details": {}}}', 401, "pass token="),
    ],
)
def test_other_servers(body: bytes, status: int, message: str) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(errors.RemoteError, match=message):
            ibt.open(f"http://127.0.0.1:{server.server_port}", token="x")
        server.shutdown()


def test_options_that_do_not_go_together(tmp_path: Any) -> None:
    with pytest.raises(errors.InputError, match="is a folder"):
        ibt.open(str(tmp_path), token="x")
    with pytest.raises(errors.InputError, match="only token= goes with it"):
        ibt.open("http://localhost:8001", dsn="postgresql://x")
