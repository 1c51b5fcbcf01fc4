"""Formats of ticks over HTTP: the same rows as a load on this machine, and their push-down."""

from __future__ import annotations

import io
import json
import subprocess
import warnings
from typing import TYPE_CHECKING, Any

import duckdb
import httpx
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ibticks.errors import CorruptDataWarning
from ibticks.frames import metadata_of
from ibticks.selection import Selection
from ibticks.service import Service
from ibticks.service import _responses as responses

from .conftest import IBM, read_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    import ibticks as ibt
    from ibticks.service import Service as RunningService

DAY = {"start_time": "2013-10-08T00:00Z", "end_time": "2013-10-09T00:00Z"}
RANGE = f"/v2/historical/{IBM}/range"
ARROW = "application/vnd.apache.arrow.stream"


def day(store: ibt.Store, tick_types: Any = "bid_ask") -> ibt.Selection:
    """Select the day over the same times as requests do."""
    return store.select(IBM, tick_types, start=DAY["start_time"], end=DAY["end_time"])


def fetch(client: httpx.Client, tick_type: str = "bid_ask", **query: Any) -> httpx.Response:
    response = client.get(RANGE, params={"tick_types": tick_type, **DAY, **query})
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("tick_types", ["bid_ask", "all_last", "bid_ask,all_last"])
@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_arrow_is_the_table_of_a_local_load(
    client: httpx.Client, sample_store: ibt.Store, tick_types: str, compression: str
) -> None:
    body = fetch(client, tick_types, format="arrow", compression=compression).content
    table = pa.ipc.open_stream(body).read_all()
    local = day(sample_store, tick_types.split(",")).to_arrow()
    assert table.schema.equals(local.schema, check_metadata=True)
    assert table.equals(local)
    assert metadata_of(table) == metadata_of(local)


def test_arrow_of_more_than_is_loaded_at_once(
    client: httpx.Client, sample_store: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "_WHOLE_ROWS", 10)
    monkeypatch.setattr(responses, "BATCH_ROWS", 1000)
    reader = pa.ipc.open_stream(fetch(client, "bid_ask,all_last", format="arrow").content)
    table = reader.read_all()
    local = day(sample_store, ["bid_ask", "all_last"]).to_arrow()
    assert table.schema.equals(local.schema, check_metadata=True)
    polars.testing.assert_frame_equal(
        pl.DataFrame(table), pl.DataFrame(local), categorical_as_str=True
    )
    assert max(batch.num_rows for batch in table.to_batches()) == 1000


def test_parquet(client: httpx.Client, sample_store: ibt.Store) -> None:
    body = fetch(client, "all_last", format="parquet").content
    local = day(sample_store, "all_last").to_polars()
    polars.testing.assert_frame_equal(pl.read_parquet(io.BytesIO(body)), local)
    assert metadata_of(pq.read_table(io.BytesIO(body)))["contract_ids"] == [IBM]


def test_csv(client: httpx.Client, sample_store: ibt.Store, tmp_path: Any) -> None:
    body = fetch(client, "all_last", format="csv")
    assert body.headers["content-type"] == "text/csv; charset=utf-8"
    day(sample_store, "all_last").write_csv(tmp_path / "ticks.csv")
    assert body.content == (tmp_path / "ticks.csv").read_bytes()


def test_csv_without_a_tick(client: httpx.Client) -> None:
    query = {"start_time": "2001-01-01T00:00Z", "end_time": "2001-01-02T00:00Z"}
    body = fetch(client, "all_last", format="csv", columns="timestamp,price", **query).text
    assert body == "timestamp,price\n"


def test_lines_are_the_messages(client: httpx.Client) -> None:
    messages = fetch(client).json()["messages"]
    lines = fetch(client, format="ndjson")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == messages
    frames = read_frames(fetch(client, format="protobuf").content)
    assert [frame["data"] for frame in frames] == [message["data"] for message in messages]


def test_lines_with_coverage(client: httpx.Client, sample_store: ibt.Store) -> None:
    first, second = fetch(client, format="ndjson", coverage=1, limit=1).text.splitlines()
    data = json.loads(first)["data"]
    assert data["status"] == "coverage"
    local = day(sample_store).coverage().state_intervals
    assert [part["state"] for part in data["intervals"]] == [part.state.value for part in local]
    assert json.loads(second)["type"] == "tick"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        (ARROW, ARROW),
        (f"text/csv;q=0.5, {ARROW};q=0.9", ARROW),
        (f"{ARROW};q=0, text/csv", "text/csv; charset=utf-8"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/ndjson, */*", "application/x-ndjson"),
        ("text/*", "text/csv; charset=utf-8"),
        ("Text/CSV; header=present; Q=0.5, image/png", "text/csv; charset=utf-8"),
        ("application/*;q=0.1, text/csv;q=0.2", "text/csv; charset=utf-8"),
        ("*/*, application/json;q=0", "application/x-ndjson"),
        ("application/*, application/json;q=0.1", "application/x-ndjson"),
        (f"*/*;q=0.5, text/csv;q=0.5, {ARROW};q=0.5", "text/csv; charset=utf-8"),
        ("", "application/json"),
    ],
)
def test_the_format_is_negotiated(client: httpx.Client, accept: str, media_type: str) -> None:
    query: dict[str, Any] = {"tick_type": "bid_ask", **DAY, "limit": 1}
    response = client.get(RANGE, params=query, headers={"Accept": accept})
    assert response.headers["content-type"] == media_type
    response = client.get(RANGE, params=query | {"format": "csv"}, headers={"Accept": accept})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"


def test_formats_that_there_are_not(client: httpx.Client) -> None:
    for accept in ("image/png, text/csv;q=x", "text/csv;q=0", "*/*;q=0", "text/csv;q=nan"):
        response = client.get(RANGE, params=DAY, headers={"Accept": accept})
        assert response.status_code == 406
        assert ARROW in response.json()["data"]["message"]
    assert client.get(RANGE, params=DAY | {"format": "xml"}).status_code == 400


def test_columns(client: httpx.Client, sample_store: ibt.Store) -> None:
    body = fetch(client, "all_last", format="arrow", columns="timestamp,price").content
    local = day(sample_store, "all_last").with_columns("timestamp", "price").to_arrow()
    assert pa.ipc.open_stream(body).read_all().equals(local)
    (message,) = fetch(client, "all_last", columns="price", limit=1).json()["messages"]
    assert list(message["data"]) == ["contract_id", "tick_type", "price"]
    assert set(message) == {"type", "stream_id", "timestamp", "data"}


@pytest.mark.parametrize(
    ("where", "filtered"),
    [
        ("bid_price>=180.5", pl.col("bid_price") >= 180.5),
        ("bid_size > 3,ask_size<2", (pl.col("bid_size") > 3) & (pl.col("ask_size") < 2)),
        ("ask_price!=180.63", pl.col("ask_price") != 180.63),
        ("price>0", pl.lit(value=False)),
    ],
)
def test_bounds(
    client: httpx.Client, sample_store: ibt.Store, where: str, filtered: pl.Expr
) -> None:
    body = fetch(client, format="arrow", where=where).content
    local = day(sample_store).to_polars().filter(filtered)
    polars.testing.assert_frame_equal(
        pl.DataFrame(pl.from_arrow(pa.ipc.open_stream(body).read_all())), local
    )
    assert fetch(client, where=where).json()["count"] == local.height


@pytest.mark.parametrize(
    "where",
    [
        *("price", "price>x", "price>nan", "exchange=Q", "price=>5", "cost>5", "price>1>2"),
        *("sequence>1.5", "sequence>inf", "contract_id=1e3", "sequence<" + "9" * 5000),
    ],
)
def test_wrong_bounds(client: httpx.Client, where: str) -> None:
    response = client.get(RANGE, params=DAY | {"where": where})
    assert response.status_code == 400
    assert where[:20] in response.json()["data"]["message"]


@pytest.mark.parametrize("limit", [0, 1, 1000, 10**9])
def test_limit_and_order(client: httpx.Client, sample_store: ibt.Store, limit: int) -> None:
    local = day(sample_store, ["bid_ask", "all_last"]).to_polars()
    for order, expected in (("asc", local), ("desc", local.reverse())):
        body = fetch(client, "bid_ask,all_last", format="arrow", limit=limit, order=order).content
        frame = pl.DataFrame(pl.from_arrow(pa.ipc.open_stream(body).read_all()))
        polars.testing.assert_frame_equal(frame, expected.head(limit), categorical_as_str=True)
        assert fetch(client, limit=limit, order=order).json()["count"] == min(limit, 62_873)


def test_integers_are_compared_exactly(store: ibt.Store) -> None:
    """Neighbours above 2**53 are one number as doubles."""
    numbers = [2**53, 2**53 + 1, 2**63, 2**64 - 1]
    frame = pl.DataFrame(
        {
            "timestamp": [f"2025-01-10T14:00:0{place}Z" for place in range(4)],
            "price": [1.0] * 4,
            "sequence": pl.Series(numbers, dtype=pl.UInt64),
        }
    )
    store.write(frame, contract_id=1, tick_type="last")
    query = {"tick_type": "last", "start_time": "2025-01-10T00Z", "end_time": "2025-01-11T00Z"}
    with Service(store, port=0) as service:
        for comparison, holds in (
            (">=", int.__ge__),
            ("<=", int.__le__),
            ("<", int.__lt__),
            (">", int.__gt__),
            ("=", int.__eq__),
            ("!=", int.__ne__),
        ):
            for value in (-1, 2**53, 2**53 + 1, 2**64 - 1, 2**64):
                where = f"sequence{comparison}{value}"
                response = httpx.get(
                    f"{service.url}/v2/historical/1/range", params=query | {"where": where}
                )
                sequences = [message["data"]["sequence"] for message in response.json()["messages"]]
                assert sequences == [number for number in numbers if holds(number, value)], where


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_limit_reads_some_blocks(
    store: ibt.Store, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    ticks = 100_000
    frame = pl.select(
        timestamp=pl.datetime(2025, 1, 10, 14, time_zone="UTC", time_unit="ns")
        + pl.duration(milliseconds=36 * pl.int_range(ticks)),
        price=pl.int_range(ticks) / 100,
        size=pl.lit(1.0),
    )
    store.write(frame, contract_id=1, tick_type="last")
    (record,) = store.index.files()
    assert len(record.blocks) > 2
    read: list[int] = []
    plain = Selection.read_files

    def counted(*arguments: Any, **options: Any) -> Any:
        blocks = plain(*arguments, **options)
        read.extend(columns.rows for columns in blocks)
        return blocks

    monkeypatch.setattr(Selection, "read_files", counted)
    query: dict[str, Any] = {"tick_type": "last"}
    query |= {"start_time": "2025-01-10T00Z", "end_time": "2025-01-11T00Z"}
    with Service(store, port=0) as service:
        url = f"{service.url}/v2/historical/1/range"
        body = httpx.get(url, params=query | {"limit": 5, "order": order}).json()
    prices = frame["price"].head(5) if order == "asc" else frame["price"].tail(5).reverse()
    assert [message["data"]["price"] for message in body["messages"]] == prices.to_list()
    assert 5 <= sum(read) <= max(block.messages for block in record.blocks)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(
    ("form", "rows", "is_exact"),
    [
        ({}, 62_873, True),
        ({"limit": 5}, 5, True),
        ({"limit": 10**9, "order": "desc"}, 62_873, True),
        ({"where": "bid_price>180"}, 62_873, False),
        ({"where": "bid_price>180", "limit": 0}, 0, True),
        ({"start_time": "2013-10-08T14:30Z"}, None, False),
    ],
)
def test_the_size_of_an_answer(
    client: httpx.Client,
    sample_store: ibt.Store,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    form: dict[str, Any],
    rows: int | None,
    is_exact: bool,
) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("no tick is read")

    monkeypatch.setattr(responses, "_tables", fail)
    query: dict[str, Any] = {"tick_types": "bid_ask", **DAY, **form}
    selection = sample_store.select(
        IBM, "bid_ask", start=query["start_time"], end=query["end_time"]
    )
    files = selection.files()
    expected = {
        "rows": sum(record.ticks for record in files) if rows is None else rows,
        "bytes": sum(record.size for record in files),
        "files": len(files),
        "exact": is_exact,
    }
    if method == "GET":
        query |= {"explain": 1}
    response = client.request(method, RANGE, params=query)
    assert response.status_code == 200
    for name, value in expected.items():
        assert response.headers[f"x-ticks-{name}"] == str(value)
    if method == "GET":
        assert response.json() == expected
    else:
        assert response.content == b""


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("json", "application/json"), ("arrow", ARROW), ("csv", "text/csv; charset=utf-8")],
)
def test_head_has_the_headers_of_get(client: httpx.Client, name: str, media_type: str) -> None:
    query: dict[str, Any] = {"tick_types": "bid_ask", **DAY, "format": name, "limit": 1}
    head, get = client.head(RANGE, params=query), client.get(RANGE, params=query)
    assert head.headers["content-type"] == get.headers["content-type"] == media_type
    assert "content-length" not in head.headers
    assert head.headers["x-ticks-gaps"] == get.headers["x-ticks-gaps"]


@pytest.mark.parametrize("encoding", ["zstd", "br", "gzip"])
def test_json_is_compressed(client: httpx.Client, encoding: str) -> None:
    plain = fetch(client, limit=1000)
    query: dict[str, Any] = {"tick_types": "bid_ask", **DAY, "limit": 1000}
    with client.stream(
        "GET", RANGE, params=query, headers={"Accept-Encoding": encoding}
    ) as response:
        assert response.headers["content-encoding"] == encoding
        body = b"".join(response.iter_raw())
    assert len(body) < len(plain.content) / 5


@pytest.mark.parametrize("name", ["arrow", "parquet"])
def test_frames_are_not_compressed_again(client: httpx.Client, name: str) -> None:
    query = {"tick_types": "bid_ask", **DAY, "format": name}
    response = client.get(RANGE, params=query, headers={"Accept-Encoding": "gzip, zstd, br"})
    assert "content-encoding" not in response.headers


def test_damage_is_named(
    store: ibt.Store, damage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.DataFrame(
        {
            "timestamp": pl.datetime_range(
                pl.datetime(2025, 1, 10, 14),
                pl.datetime(2025, 1, 10, 16),
                "1s",
                time_zone="UTC",
                eager=True,
            )
        }
    ).with_columns(price=pl.lit(5.0), size=pl.lit(1.0))
    store.write(frame, contract_id=1, tick_type="last")
    damage(next(store.root.rglob("14_ticks.pb")))
    query = {"tick_type": "last", "start_time": "2025-01-10T00Z", "end_time": "2025-01-11T00Z"}
    with Service(store, port=0) as service, warnings.catch_warnings():
        warnings.simplefilter("ignore", CorruptDataWarning)
        url = f"{service.url}/v2/historical/1/range"
        local = store.select(1, "last", start="2025-01-10T00Z", end="2025-01-11T00Z").to_arrow()
        assert metadata_of(local)["missing"]
        body = httpx.get(url, params=query | {"format": "arrow"}).content
        table = pa.ipc.open_stream(body).read_all()
        assert table.schema.equals(local.schema, check_metadata=True)
        monkeypatch.setattr(responses, "_WHOLE_ROWS", 10)
        body = httpx.get(url, params=query | {"format": "arrow"}).content
        *_, (_, at_the_end) = pa.ipc.open_stream(body).iter_batches_with_custom_metadata()
        missing = json.loads(at_the_end[b"ibticks"])["missing"]
        assert missing == metadata_of(local)["missing"]
        last = httpx.get(url, params=query | {"format": "ndjson"}).text.splitlines()[-1]
        assert json.loads(last)["type"] == "error"


def test_curl_and_duckdb(service: RunningService, sample_store: ibt.Store, tmp_path: Any) -> None:
    url = f"{service.url}{RANGE}?tick_types=all_last&format=parquet"
    url += "".join(f"&{name}={value}" for name, value in DAY.items())
    path = tmp_path / "ticks.parquet"
    subprocess.run(["curl", "-sf", "-o", path, url], check=True)
    # The path is of this test.
    ((volume,),) = duckdb.sql(f"SELECT sum(size) FROM '{path}'").fetchall()
    assert volume == day(sample_store, "all_last").to_polars()["size"].sum()
