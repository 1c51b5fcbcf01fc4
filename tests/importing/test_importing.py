"""Foreign files into a store: completely, once, and with the place where they are wrong."""

from __future__ import annotations

import functools
import gzip
import json
import operator
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ibticks as ibt
from ibticks import errors
from ibticks.sample import sample
from ibticks.testing.strategies import messages, ticks, timestamps

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.servers import PostgresServer

BTC: dict[str, Any] = {"contract_id": 990101, "tick_type": "all_last"}
AAPL: dict[str, Any] = {"contract_id": 265598, "tick_type": "last"}


@pytest.fixture(scope="module")
def quotes() -> pl.DataFrame:
    """IBM quotes as a plain frame."""
    return pl.read_parquet(sample("ibm_quotes").path)


def csv(path: Path, rows: list[str], header: str = "time,price,size") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


# -- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz", "tsv"])
def test_the_same_ticks_from_any_kind_of_file(
    store: ibt.Store, sample_store: ibt.Store, quotes: pl.DataFrame, tmp_path: Path, kind: str
) -> None:
    part = quotes.slice(20_000, 5000).drop("bid_exchange", "ask_exchange", "suspicious")
    path = tmp_path / f"quotes.{kind}"
    if kind == "parquet":
        part.write_parquet(path)
    else:
        text = part.write_csv(separator="\t" if kind == "tsv" else ",").encode()
        path.write_bytes(gzip.compress(text) if kind == "csv.gz" else text)
    result = ibt.import_table(store, path, contract_id=8314, tick_type="bid_ask")
    assert (result.read, result.added, result.known) == (5000, 5000, 0)
    assert result.streams == ((8314, "bid_ask"),)
    assert result.source == str(path)
    got = store.select(8314).to_polars()
    columns = ["timestamp", "bid_price", "bid_size", "ask_price", "ask_size"]
    times: Any = part["timestamp"].dt.epoch("ns")
    first, last = times.min(), times.max()
    selection = sample_store.select("ibm", "bid_ask", start=first, end=last + 1, columns=columns)
    around = selection.to_polars()
    assert got.select(columns).equals(part.with_columns(pl.col("bid_size", "ask_size").cast(float)))
    assert around.height >= 5000


def test_the_mapping_is_reported(store: ibt.Store, tmp_path: Path) -> None:
    path = csv(tmp_path / "trades.csv", ["2025-01-10 09:30:00,236.5,100,x"], "Time,Last,Qty,note")
    result = ibt.import_table(store, path, **AAPL, tz="America/New_York")
    assert result.mapped == {"timestamp": ("Time",), "price": ("Last",), "size": ("Qty",)}
    assert result.ignored == ("note",)
    frame = store.select(265598).to_polars()
    assert str(frame["timestamp"][0]) == "2025-01-10 14:30:00+00:00"
    assert frame["sequence"].to_list() == [None]  # the file has none: none is made up


def test_a_mapping_and_a_unit(store: ibt.Store, tmp_path: Path) -> None:
    path = csv(tmp_path / "trades.csv", ["34200000,5", "34200001,6"], "ms,paid")
    with pytest.raises(errors.InputError, match="no column for timestamp, price"):
        ibt.import_table(store, path, **AAPL)
    mapping = {"timestamp": "ms", "price": "paid"}
    with pytest.raises(errors.InputError, match="unit"):
        ibt.import_table(store, path, **AAPL, mapping=mapping)
    result = ibt.import_table(store, path, **AAPL, mapping=mapping, timestamp_unit="ms")
    assert result.added == 2
    assert (
        str(store.select(265598).to_polars()["timestamp"][1]) == "1970-01-01 09:30:00.001000+00:00"
    )


def test_imported_twice_is_stored_once(store: ibt.Store, tmp_path: Path) -> None:
    """Also under another name, compressed, or as another kind of file."""
    path = tmp_path / "trades.parquet"
    source = pl.read_parquet(sample("btcusdt_trades").path)
    source.write_parquet(path)
    assert ibt.import_table(store, path, **BTC).added == 19904
    files = store.index.files()
    again = ibt.import_table(store, path, **BTC)
    assert (again.read, again.added, again.known) == (19904, 0, 19904)
    renamed = tmp_path / "the same trades.csv.gz"
    renamed.write_bytes(gzip.compress(source.write_csv().encode()))
    assert ibt.import_table(store, renamed, **BTC).added == 0
    store.compress("zstd")
    assert ibt.import_table(store, path, **BTC).added == 0
    assert store.select(990101).count() == 19904
    store.compress("none")
    assert store.index.files() == files


def test_equal_ticks_of_a_file_are_all_kept(store: ibt.Store, tmp_path: Path) -> None:
    rows = ["2025-01-10T14:30:00Z,236.5,100,1"] * 3
    path = csv(tmp_path / "trades.csv", rows, "time,price,size,sequence")
    assert ibt.import_table(store, path, **AAPL).added == 3
    assert ibt.import_table(store, path, **AAPL).added == 0
    csv(path, [*rows, rows[0]], "time,price,size,sequence")
    assert ibt.import_table(store, path, **AAPL).added == 1
    assert store.select(265598).count() == 4


def test_a_longer_file_adds_its_new_rows(store: ibt.Store, tmp_path: Path) -> None:
    rows = [f"2025-01-10T14:{minute}:00Z,{minute},1" for minute in range(10, 60)]
    rows += [f"2025-01-10T15:{minute}:00Z,{minute},1" for minute in range(10, 60)]
    path = csv(tmp_path / "trades.csv", rows[:70])
    assert ibt.import_table(store, path, **AAPL).added == 70
    csv(path, rows)
    result = ibt.import_table(store, path, **AAPL)
    assert (result.added, result.known) == (30, 70)
    assert store.select(265598).to_polars()["price"].to_list() == [*range(10, 60)] * 2


def test_a_bad_row_is_named_and_the_rows_before_it_are_stored(
    store: ibt.Store, tmp_path: Path
) -> None:
    rows = [f"2025-01-10T14:30:{second:02}Z,{second},1" for second in range(60)]
    rows[41] = "2025-01-10T14:30:41Z,forty-one,1"
    path = csv(tmp_path / "trades.csv", rows)
    with pytest.raises(errors.InputError, match=r"trades\.csv, row 42: .*'forty-one'") as caught:
        ibt.import_table(store, path, **AAPL)
    assert caught.value.context["row"] == 42
    assert store.select(265598).count() == 41
    rows[41] = "2025-01-10T14:30:41Z,41,1"
    result = ibt.import_table(store, csv(path, rows), **AAPL)
    assert (result.added, result.known) == (19, 41)
    assert store.select(265598).to_polars()["price"].to_list() == [*range(60)]


@pytest.mark.parametrize(
    ("content", "options", "error", "says"),
    [
        ("", {}, errors.InputError, "neither Parquet nor text"),
        ("PAR1 and no more", {}, errors.InputError, "cannot be read as a table"),
        ("time,size\n", {}, errors.InputError, "no column for price: the file has time, size"),
        ("time,price\nx,1\n", {}, errors.InputError, "row 1: "),
        ("time,price\n2025-01-10 09:30:00,1\n", {}, errors.NaiveDatetimeError, "tz="),
        ("time,price\n", {"tick_type": "trades"}, errors.UnknownTickTypeError, "all_last"),
        ("time,price\n", {"contract_id": 0}, errors.InputError, "1 to 4294967295"),
        ("time,price\n", {"mapping": {"price": "px"}}, errors.InputError, "'px'"),
        ("time,price\n", {"mapping": {"prize": "price"}}, errors.UnknownColumnError, "'prize'"),
        ("time,price\n1736519400,1\n", {"timestamp_unit": "h"}, errors.InputError, "h"),
    ],
    ids=str,
)
def test_invalid_imports(
    store: ibt.Store, tmp_path: Path, content: str, options: dict[str, Any], error: Any, says: str
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(content)
    with pytest.raises(error, match=says):
        ibt.import_table(store, path, **{**AAPL, **options})
    assert store.contents() == []


def test_missing_files(store: ibt.Store, tmp_path: Path) -> None:
    for load in (
        lambda path: ibt.import_table(store, path, **AAPL),
        lambda path: ibt.import_messages(store, path),
    ):
        with pytest.raises(
            errors.StorageError, match=r"No such file or directory while reading .*none"
        ):
            load(tmp_path / "none.csv")
        with pytest.raises(errors.StorageError, match="Is a directory while reading"):
            load(tmp_path)


def test_a_stream_being_written_is_not_imported_into(store: ibt.Store, tmp_path: Path) -> None:
    path = csv(tmp_path / "trades.csv", ["2025-01-10T14:30:00Z,1,1"])
    with store.writer(265598, "last"), pytest.raises(errors.WriterLockedError):
        ibt.import_table(store, path, **AAPL)
    assert ibt.import_table(store, path, **AAPL).added == 1


# -- killed in the middle --------------------------------------------------------------------------


def test_a_killed_import_is_repeated(tmp_path: Path, database: str, quotes: pl.DataFrame) -> None:
    """After a ``kill -9`` at any moment, the next import adds only the missing ticks."""
    path = tmp_path / "quotes.csv"
    part = quotes.select("timestamp", "bid_price", "bid_size", "ask_price", "ask_size")
    day = pl.duration(days=1)
    days = [part.with_columns(pl.col("timestamp") + n * day) for n in range(2)]
    pl.concat(days).write_csv(path)
    command = [sys.executable, "-c", "from ibticks.cli import main; main()", "import", str(path)]
    command += ["-s", str(tmp_path / "ticks"), "--dsn", database, "-c", "8314", "-t", "bid_ask"]
    chance = random.Random(8314)
    written = 0
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            # Once there is something, any moment will do.
            while process.poll() is None and size_of(tmp_path / "ticks") <= written:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.2)
            process.send_signal(signal.SIGKILL)
        assert process.returncode in (0, -signal.SIGKILL)
        written = size_of(tmp_path / "ticks")
        assert written > 0
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["read"] == result["added"] + result["known"] == 2 * 62875
    assert result["known"] > 0
    with ibt.open(tmp_path / "ticks", dsn=database) as store:
        assert [finding for finding in store.verify() if finding.problem is not None] == []
        got = store.select(8314, columns=part.columns).to_polars()
        sizes = pl.col("bid_size", "ask_size").cast(float)
        assert got.equals(
            pl.concat(days).with_columns(sizes).sort("timestamp", maintain_order=True)
        )


def size_of(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("8314/*/*/*/*/*_ticks.pb"))


# -- messages --------------------------------------------------------------------------------------


def tick(
    time: str = "2025-01-10T14:30:00.000000Z", stream_id: str = "s", **data: Any
) -> dict[Any, Any]:
    data = {"contract_id": 265598, "tick_type": "last", "price": 1.5, "size": 2.0, **data}
    return {"type": "tick", "stream_id": stream_id, "timestamp": time, "data": data}


def info(
    time: str = "2025-01-10T14:30:00.000000Z", stream_id: str = "s", **data: Any
) -> dict[Any, Any]:
    data = {"status": "quiet", **data}
    return {"type": "info", "stream_id": stream_id, "timestamp": time, "data": data}


def lines(path: Path, rows: list[Any] | Generator[Any, None, None]) -> Path:
    path.write_text("".join(json.dumps(message) + "\n" for message in rows))
    return path


def test_messages_go_where_the_ticks_of_their_stream_go(store: ibt.Store, tmp_path: Path) -> None:
    sent = [
        info(stream_id="a", status="subscribed"),  # before any tick names the stream
        tick(stream_id="b", tick_type="bid_ask", contract_id=2),
        info(stream_id="b"),
        tick(stream_id="a"),
        info("2025-01-10T15:00:00.000000Z", stream_id="a"),
    ]
    result = ibt.import_messages(store, lines(tmp_path / "all.jsonl", sent))
    assert (result.read, result.added, result.known) == (5, 5, 0)
    assert result.streams == ((2, "bid_ask"), (265598, "last"))
    assert list(store.select(2).messages(ticks=True)) == sent[1:3]
    stored = list(store.select(265598).messages(ticks=True))
    assert sorted(map(str, stored)) == sorted(map(str, [sent[0], sent[3], sent[4]]))
    again = ibt.import_messages(store, tmp_path / "all.jsonl", progress=False)
    assert (again.added, again.known) == (0, 5)


def test_messages_of_a_stream_without_a_tick(store: ibt.Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "all.jsonl", [tick(), info(stream_id="x"), info(stream_id="y")])
    with pytest.raises(errors.InputError, match=r"2 messages .* without a tick .*\(x, y\)"):
        ibt.import_messages(store, path)
    assert store.select(265598).count() == 1


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        (b"{", errors.ProtocolError, "not JSON"),
        (b"[" * 200_000, errors.ProtocolError, "nested too deep"),
        (b'{"a":' * 200_000, errors.ProtocolError, "nested too deep"),
        (b'{"metadata": ' + b"[" * 200_000, errors.ProtocolError, "nested too deep"),
        (b"[1]", errors.ProtocolError, "not a JSON object"),
        (b"\xff\xfe", errors.ProtocolError, "not JSON"),
        (b'{"type": "tick"}', errors.ProtocolError, "contract_id"),
        (json.dumps(tick(contract_id="x")).encode(), errors.ProtocolError, "contract_id"),
        (json.dumps(tick(contract_id=0)).encode(), errors.InputError, "contract_id 0"),
        (json.dumps(tick(tick_type="trades")).encode(), errors.UnknownTickTypeError, "'trades'"),
        (json.dumps(tick(price="x")).encode(), errors.ProtocolError, "data.price"),
        (json.dumps(tick(prize=1)).encode(), errors.ProtocolError, "data.prize"),
        (json.dumps(tick("2025-01-10T14:30:00")).encode(), errors.NaiveDatetimeError, "time zone"),
        (json.dumps(tick("9999-01-10T14:30:00Z")).encode(), errors.InputError, "1677 to 2262"),
        (json.dumps(info(contract_id=1)).encode(), errors.ProtocolError, "contract_id"),
    ],
    ids=str,
)
def test_a_bad_line_is_named_and_the_lines_before_it_are_stored(
    store: ibt.Store, tmp_path: Path, line: bytes, error: Any, says: str
) -> None:
    path = tmp_path / "all.jsonl"
    good = [json.dumps(tick(f"2025-01-10T14:30:0{n}Z")).encode() for n in range(4)]
    path.write_bytes(b"\n".join([good[0], b"", good[1], line, good[2], good[3], b""]))
    with pytest.raises(error, match=rf"all\.jsonl, line 4: .*{says}") as caught:
        ibt.import_messages(store, path)
    assert caught.value.context["line"] == 4
    assert caught.value.context["path"] == str(path)
    assert store.select(265598).count() == 2
    path.write_bytes(b"\n".join(good))
    result = ibt.import_messages(store, path)
    assert (result.added, result.known) == (2, 2)
    assert store.select(265598).count() == 4


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, ready_database: str
) -> Iterator[list[ibt.Store]]:
    """Two stores: from the one to the other."""
    with ExitStack() as stack:
        opened = []
        for name in ("outgoing", "incoming"):
            dsn = stack.enter_context(postgres.database(ready_database))
            store = ibt.open(tmp_path_factory.mktemp(name), dsn=dsn)
            opened.append(stack.enter_context(store))
        yield opened


_WHEN = timestamps(datetime(2025, 1, 10, 14, 58), datetime(2025, 1, 10, 15, 2))
_contract = iter(range(1, 100_000))


@given(st.data())
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_all_kinds_of_messages_go_from_store_to_store(
    pair: list[ibt.Store], tmp_path: Path, data: st.DataObject
) -> None:
    first, second = pair
    contract = next(_contract)
    own = ticks("last", contract_ids=st.just(contract))
    others = messages().filter(lambda message: message["type"] != "tick")
    drawn = data.draw(st.lists(st.one_of(own, others), max_size=12))
    sent = [
        {**message, "stream_id": "s", "timestamp": data.draw(_WHEN)}
        for message in [data.draw(own), *drawn]
    ]
    path = tmp_path / "all.jsonl"
    ibt.import_messages(first, lines(path, sent))
    exported = list(first.select(contract).messages(ticks=True))
    assert len(exported) == len(sent)
    ibt.import_messages(second, lines(path, exported))
    assert list(second.select(contract).messages(ticks=True)) == exported
    one, other = (store.select(contract).to_polars() for store in pair)
    assert one.equals(other)


def test_real_ticks_go_from_store_to_store(
    sample_store: ibt.Store, store: ibt.Store, tmp_path: Path
) -> None:
    window: dict[str, Any] = {"start": "2024-08-08T23:59:55Z", "end": "2024-08-09T00:00:05Z"}
    selection = sample_store.select("btcusdt", **window)
    exported = list(selection.messages(ticks=True))
    assert len(exported) == selection.count() > 500
    path = lines(
        tmp_path / "all.jsonl",
        ({**message, "stream_id": message["data"]["tick_type"]} for message in exported),
    )
    ibt.import_messages(store, path)
    columns = [name for name in selection.columns if name != "stream_id"]
    assert store.select(990101, columns=columns).to_polars().equals(selection.to_polars())


# -- files that overlap ----------------------------------------------------------------------------

SECONDS = [f"2025-03-03T14:59:{second:02}Z,{second / 4},{second}" for second in range(50, 60)]
SECONDS += [f"2025-03-03T15:00:{second:02}Z,{second / 4},{second}" for second in range(10)]
TWICE = [*SECONDS, *SECONDS[7:12], SECONDS[9]]
OVERLAPS = {
    "an overlap": (SECONDS[:12], SECONDS[6:]),
    "newest first": (SECONDS, SECONDS[::-1]),
    "newest first, then forward": (SECONDS[::-1], SECONDS),
    "halves": (SECONDS, SECONDS[:10], SECONDS[10:]),
    "halves first": (SECONDS[10:], SECONDS[:10], SECONDS),
    "without the first row": (SECONDS, SECONDS[1:]),
    "the first row later": (SECONDS[1:], SECONDS),
    "shuffled": (SECONDS, random.Random(4).sample(SECONDS, 20)),
    "every other row": (SECONDS[::2], SECONDS),
    "repeated rows": (TWICE, TWICE[::-1], SECONDS),
    "repeated rows later": (SECONDS, TWICE, random.Random(5).sample(TWICE, 26)),
}


@pytest.mark.parametrize("files", OVERLAPS.values(), ids=OVERLAPS)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_overlapping_files_are_stored_once(
    store: ibt.Store, tmp_path: Path, files: tuple[list[str], ...], compression: str
) -> None:
    rows = [*functools.reduce(operator.or_, map(Counter, files)).elements()]
    for number, part in enumerate(files):
        ibt.import_table(store, csv(tmp_path / f"{number}.csv", part), **AAPL)
        store.compress(compression)
    got = store.select(265598).to_polars()
    assert sorted(got["size"].to_list()) == sorted(float(row.rpartition(",")[2]) for row in rows)
    assert got["timestamp"].is_sorted()
    for part in (rows, rows[::-1]):
        again = ibt.import_table(store, csv(tmp_path / "again.csv", part), **AAPL)
        assert (again.added, again.known) == (0, len(rows))


def test_numbered_ticks_of_a_store_match_their_file(store: ibt.Store, tmp_path: Path) -> None:
    """Files without a sequence column were stored with their row numbers."""
    numbered = pl.DataFrame(
        {
            "timestamp": [row.split(",")[0] for row in TWICE],
            "price": [float(row.split(",")[1]) for row in TWICE],
            "size": [float(row.split(",")[2]) for row in TWICE],
            "sequence": range(1, len(TWICE) + 1),
        }
    )
    store.write(numbered, **AAPL, stream_id="import")
    for part in (TWICE, TWICE[::-1], TWICE[3:20]):
        result = ibt.import_table(store, csv(tmp_path / "trades.csv", part), **AAPL)
        assert (result.added, result.known) == (0, len(part))
    result = ibt.import_table(store, csv(tmp_path / "trades.csv", [*TWICE, SECONDS[0]]), **AAPL)
    assert (result.added, result.known) == (1, len(TWICE))


def test_sequences_of_a_file_tell_its_ticks_apart(store: ibt.Store, tmp_path: Path) -> None:
    header = "time,price,size,sequence"
    rows = [f"2025-01-10T14:30:00Z,236.5,100,{number}" for number in range(5)]
    for part, added in ((rows[:3], 3), (rows[1:], 2), (rows[::-1], 0)):
        result = ibt.import_table(store, csv(tmp_path / "t.csv", part, header), **AAPL)
        assert (result.added, result.known) == (added, len(part) - added)
    assert sorted(store.select(265598).to_polars()["sequence"]) == list(range(5))


def test_exported_quotes_are_not_imported_twice(
    sample_store: ibt.Store, store: ibt.Store, tmp_path: Path
) -> None:
    """Whatever stream id, sequence or exchange time they were stored with."""
    window: dict[str, Any] = {"start": "2013-10-08T14:00Z", "end": "2013-10-08T14:10Z"}
    part = sample_store.select("ibm", "bid_ask", **window).to_polars()
    store.write(part)
    columns = ["timestamp", "bid_price", "bid_size", "ask_price", "ask_size"]
    part.select(columns).reverse().write_parquet(tmp_path / "quotes.parquet")
    result = ibt.import_table(
        store, tmp_path / "quotes.parquet", contract_id=8314, tick_type="bid_ask"
    )
    assert (result.added, result.known) == (0, part.height)


def import_ids(store: ibt.Store, tmp_path: Path, *ids: int, contract_id: int = 7) -> int:
    """Import equal trades whose column ``id`` has these values; return the number added."""
    rows = [f"{one},2025-03-03T14:30:00Z,10,1" for one in ids]
    path = csv(tmp_path / "ids.csv", rows, "id,time,price,size")
    return ibt.import_table(store, path, contract_id=contract_id, tick_type="last").added


def test_ids_of_trades_tell_equal_trades_apart(store: ibt.Store, tmp_path: Path) -> None:
    assert import_ids(store, tmp_path, 100, 101) == 2
    assert import_ids(store, tmp_path, 101, 102) == 1
    assert import_ids(store, tmp_path, 104, 103, 102) == 2
    assert sorted(store.select(7).to_polars()["sequence"]) == [100, 101, 102, 103, 104]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((0, 1, 2), (0, 1), id="rows from 0"),
        pytest.param((1, 2, 3), (2, 1), id="rows from 1, newest first"),
        pytest.param((55, 55, 55), (56, 56), id="one number"),
        pytest.param(("a", "a", "a"), ("b", "b"), id="one text"),
        pytest.param((10, "", 12), (20, ""), id="some absent"),
    ],
)
def test_ids_that_are_no_numbers_of_trades(
    store: ibt.Store,
    tmp_path: Path,
    first: Any,
    second: Any,
) -> None:
    assert import_ids(store, tmp_path, *first) == 3
    assert import_ids(store, tmp_path, *second) == 0
    assert store.select(7).to_polars()["sequence"].to_list() == [None] * 3


UUIDS = [f"6f9619ff-8b86-d011-b42d-00cf4fc964f{digit}" for digit in range(4)]


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        pytest.param("trade_id", ["abc-1", "abc-2", "abc-3", "abc-4"], id="names"),
        pytest.param("id", UUIDS, id="UUIDs"),
        pytest.param("trdMatchID", ["1f30", "2031", "a032", "b033"], id="hexadecimal"),
        pytest.param("tradeId", [f"{2**64 + number}" for number in range(4)], id="above 64 bits"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_text_ids_of_trades_tell_equal_trades_apart(
    store: ibt.Store, tmp_path: Path, column: str, ids: list[str], suffix: str
) -> None:
    for part, added in ((ids[:3], 3), (ids[1:], 1), (ids[::-1], 0)):
        path = tmp_path / f"ids{suffix}"
        moment = datetime(2025, 3, 3, 14, 30, tzinfo=UTC)
        table = {"time": [moment] * len(part), "price": 10.0, "size": 1.0, column: part}
        frame = pl.DataFrame(table)
        frame.write_parquet(path) if suffix == ".parquet" else frame.write_csv(path)
        result = ibt.import_table(store, path, contract_id=7, tick_type="last")
        assert (result.added, result.known) == (added, len(part) - added)
        assert result.mapped["metadata.trade_id"] == (column,)
    ticks = store.select(7, columns=["sequence", "metadata"]).to_polars()
    assert sorted(dict(row)["trade_id"] for row in ticks["metadata"].to_list()) == sorted(ids)
    assert ticks["sequence"].null_count() == 4


def test_a_bad_id_among_numbers_is_refused(store: ibt.Store, tmp_path: Path) -> None:
    rows = [f"2025-03-03T14:30:00Z,10,1,{one}" for one in (100, 101, "n/a")]
    path = csv(tmp_path / "ids.csv", rows, "time,price,size,trade_id")
    with pytest.raises(errors.InputError, match="row 3: column 'sequence' has 'n/a'"):
        ibt.import_table(store, path, contract_id=7, tick_type="last")


@pytest.mark.parametrize(
    "mapping",
    [{"metadata.number": "trade_id", "sequence": None}, {"metadata.trade_id": "trade_id"}],
)
def test_a_mapping_overrides_the_recognised_text_id(
    store: ibt.Store, tmp_path: Path, mapping: dict[str, Any]
) -> None:
    rows = [f"2025-03-03T14:30:00Z,10,1,{one}" for one in ("a-1", "a-2")]
    path = csv(tmp_path / "ids.csv", rows, "time,price,size,trade_id")
    ibt.import_table(store, path, contract_id=7, tick_type="last", mapping=mapping)
    key = next(iter(mapping)).removeprefix("metadata.")
    metadata = store.select(7, columns=["metadata"]).to_polars()["metadata"].to_list()
    assert [dict(row) for row in metadata] == [{key: "a-1"}, {key: "a-2"}]
