from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ibticks.errors import InputError, NaiveDatetimeError, UnknownColumnError, UnknownTickTypeError
from ibticks.frames import from_arrow
from ibticks.tables import count_rows, describe_mapping, file_columns, read_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.schema import TickColumns

IBM: dict[str, Any] = {"contract_id": 8314}


def read(path: Path, **options: Any) -> list[Any]:
    return list(read_batches(path, **options))


def test_real_quotes_with_a_side_missing(
    real: Path, rows: Callable[..., list[dict[Any, Any]]]
) -> None:
    path = real / "ibm_20131007.quotes.parquet"
    assert count_rows(path) == 300
    mapped, ignored = describe_mapping(file_columns(path), "bid_ask")
    assert ignored == ["suspicious"]
    sides = ["metadata.bid_exchange", "metadata.ask_exchange"]
    assert list(mapped) == ["timestamp", "bid_price", "bid_size", "ask_price", "ask_size", *sides]
    batches = read(path, tick_type="bid_ask", **IBM, batch_rows=128)
    assert [batch.rows for batch in batches] == [128, 128, 44]
    first, second = rows(batches[0])[:2]
    assert first == {
        "timestamp": 1_381_132_800_054_000_000,  # 2013-10-07 08:00:00.054 UTC
        "contract_id": 8314,
        "tick_type": "bid_ask",
        "bid_price": None,
        "bid_size": None,
        "ask_price": 183.63,
        "ask_size": 100.0,
        "exchange": None,
        "metadata": {"ask_exchange": "Q"},
    }
    assert second["metadata"].keys() == {"bid_exchange", "ask_exchange"}
    assert (second["bid_price"], second["bid_size"]) == (180.01, 300.0)
    # The number of a row in its file is no part of a tick.
    assert all("sequence" not in batch.columns for batch in batches)


def test_real_trades_with_codes_and_repeated_times(
    real: Path, rows: Callable[..., list[dict[Any, Any]]]
) -> None:
    path = real / "ibm_20131007.trades.parquet"
    (batch,) = read(path, tick_type="all_last", **IBM)
    read_rows = rows(batch)
    assert read_rows[0]["conditions"] == [pq.read_table(path)["conditions"][0].as_py()]
    assert len({row["timestamp"] for row in read_rows}) < len(read_rows) == 400
    assert {row["exchange"] for row in read_rows} >= {"P", "Q", "N"}
    assert sum(row["size"] for row in read_rows) == sum(pq.read_table(path)["size"].to_pylist())


def test_real_quotes_without_sizes_in_microseconds(
    real: Path, rows: Callable[..., list[dict[Any, Any]]]
) -> None:
    (batch,) = read(real / "eurusd_20140504.quotes.parquet", tick_type="bid_ask", contract_id=9)
    assert batch.timestamp[0] == 1_399_237_200_462_000_000  # 2014-05-04 21:00:00.462 UTC
    assert all(row["bid_size"] is row["ask_size"] is None for row in rows(batch))


def test_real_trades_with_ids_and_the_time_of_the_exchange(
    real: Path, rows: Callable[..., list[dict[Any, Any]]]
) -> None:
    path = real / "btcusdt_20240808.trades.parquet"
    mapped, ignored = describe_mapping(file_columns(path), "last")
    assert mapped["exchange_time"] == ("exchange_timestamp",)
    assert mapped["sequence"] == ("trade_id",)
    assert ignored == ["aggressor"]
    first = rows(read(path, tick_type="last", contract_id=990101)[0])[0]
    assert first["timestamp"] == 1_723_161_254_087_896_568
    assert first["exchange_time"] == 1_723_161_255  # later than our clock, as recorded
    assert (first["sequence"], first["price"], first["size"]) == (3_735_683_259, 61837.63, 0.02)


@pytest.mark.parametrize("name", ["ibm_20131007.quotes", "ibm_20131007.trades"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_text_has_the_ticks_of_parquet(
    real: Path, rows: Callable[..., list[dict[Any, Any]]], tmp_path: Path, name: str, separator: str
) -> None:
    path = real / f"{name}.parquet"
    pl.read_parquet(path).write_csv(
        tmp_path / "ticks.csv", separator=separator, datetime_format="%F %T%.9f"
    )
    options = {"tick_type": "bid_ask" if "quotes" in name else "last", **IBM}
    (expected,) = read(path, **options)
    read_rows = read(tmp_path / "ticks.csv", **options, tz="UTC", batch_rows=64)
    assert [batch.rows for batch in read_rows[:2]] == [64, 64]
    assert [row for batch in read_rows for row in rows(batch)] == rows(expected)
    assert count_rows(tmp_path / "ticks.csv") == expected.rows


def test_compressed_text_with_marks_and_quotes(
    tmp_path: Path, rows: Callable[..., list[dict[Any, Any]]]
) -> None:
    text = (
        "\ufeffDate,Time,Last,Volume,Note,Cond\r\n"
        "20250110,09:30:00.25,1,1,,\r\n"
        '"20250110",09:30:00,"187.5",,"a,\nb",\r\n'
    )
    with gzip.open(tmp_path / "ticks.csv.gz", "wt", encoding="utf-8", newline="") as file:
        file.write(text)
    path = tmp_path / "ticks.csv.gz"
    assert file_columns(path) == ["Date", "Time", "Last", "Volume", "Note", "Cond"]
    assert count_rows(path) == 2
    (batch,) = read(path, tick_type="last", **IBM, tz="America/New_York")
    first, second = rows(batch)
    assert first["timestamp"] == 1_736_519_400_250_000_000
    assert (first["price"], first["size"], first["conditions"]) == (1, 1, [])
    assert (second["price"], second["size"]) == (187.5, None)
    # The order of the file is unchanged: the caller decides about sorting.
    assert second["timestamp"] < first["timestamp"]


def test_a_date_and_a_time_of_day_in_parquet(tmp_path: Path) -> None:
    when = datetime(2025, 1, 10, 9, 30, 0, 250_000)
    for date in (when.date(), datetime(2025, 1, 10), 20_250_110, "2025-01-10"):
        pq.write_table(
            pa.table({"date": [date], "time": [when.time()], "mid": [1.5]}), tmp_path / "a.parquet"
        )
        options = {"tick_type": "mid_point", **IBM, "tz": "America/New_York"}
        (batch,) = read(tmp_path / "a.parquet", **options)
        assert batch.timestamp.tolist() == [1_736_519_400_250_000_000]


def test_numbers_for_times_need_a_unit_unless_it_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_text("ts,mid\n1736519400.25,1\n1736519401.5,1\n")
    (batch,) = read(path, tick_type="mid_point", **IBM)
    assert batch.timestamp.tolist() == [1_736_519_400_250_000_000, 1_736_519_401_500_000_000]
    path.write_text("ts,mid\n34200000,1\n")
    with pytest.raises(InputError, match=r"ticks\.csv, row 1: .*read from 'ts'"):
        read(path, tick_type="mid_point", **IBM)


def test_errors_name_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_text("time,price\n" + "2025-01-10 09:30:00,1\n" * 5 + "2025-01-10 09:30:00,x\n")
    with pytest.raises(NaiveDatetimeError, match=r"ticks\.csv, row 1: "):
        read(path, tick_type="last", **IBM)
    batches = read_batches(path, tick_type="last", **IBM, tz="UTC", batch_rows=4)
    assert next(batches).rows == 4
    assert next(batches).rows == 1  # what comes before the bad row is read
    with pytest.raises(InputError, match=r"row 6: .*'x'.*read from 'price'") as caught:
        next(batches)
    assert (caught.value.context["path"], caught.value.context["row"]) == (str(path), 6)


@pytest.mark.parametrize("bad", [1, 2, 3, 500, 999, 1000])
def test_the_first_bad_row_is_reported(tmp_path: Path, bad: int) -> None:
    lines = [f"2025-01-10 09:30:00,{row}" for row in range(1, 1001)]
    for row in {bad, 1000}:
        lines[row - 1] = "2025-01-10 09:30:00,x"
    path = tmp_path / "ticks.csv"
    path.write_text("\n".join(["time,price", *lines]))
    batches = read_batches(path, tick_type="last", **IBM, tz="UTC", batch_rows=600)
    seen: list[Any] = []
    with pytest.raises(InputError, match=f"row {bad}: "):
        seen.extend(batch.rows for batch in batches)
    assert sum(seen) == bad - 1


def test_errors_of_columns_are_raised_before_the_first_row(tmp_path: Path, real: Path) -> None:
    quotes = real / "ibm_20131007.quotes.parquet"
    with pytest.raises(InputError, match="no column for price: the file has timestamp, bid_price"):
        read_batches(quotes, tick_type="last", **IBM)
    with pytest.raises(UnknownTickTypeError):
        read_batches(quotes, tick_type="trades", **IBM)
    with pytest.raises(InputError, match="batch_rows"):
        read_batches(quotes, tick_type="bid_ask", **IBM, batch_rows=0)
    for text, message in (
        ("", "neither"),
        ("a,a\n1,2\n", "twice"),
        ("PAR1 and nothing else", "cannot be read"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_batches(tmp_path / "bad.csv", tick_type="last", **IBM)
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            count_rows(path)


def test_damaged_files(tmp_path: Path, real: Path) -> None:
    whole = (real / "ibm_20131007.quotes.parquet").read_bytes()
    path = tmp_path / "damaged.parquet"
    path.write_bytes(whole[:4] + bytes(2000) + whole[2004:])
    with pytest.raises(InputError, match=r"damaged\.parquet cannot be read"):
        read(path, tick_type="bid_ask", **IBM)
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("time,mid\n2025-01-10 09:30:00,1,2\n")
    with pytest.raises(InputError, match="Expected 2 columns, got 3"):
        read(ragged, tick_type="mid_point", **IBM, tz="UTC")


def test_a_file_of_another_contract_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)], "mid_price": [1.5], "contract_id": [5]}
    )
    frame.write_parquet(tmp_path / "ticks.parquet")
    with pytest.raises(InputError, match="has 5"):
        read(tmp_path / "ticks.parquet", tick_type="mid_point", **IBM)
    (batch,) = read(tmp_path / "ticks.parquet", tick_type="mid_point", contract_id=5)
    assert batch.numbers("contract_id").tolist() == [5]


def test_a_mapping_overrides_recognised_columns(
    tmp_path: Path, rows: Callable[..., list[dict[Any, Any]]]
) -> None:
    path = tmp_path / "ticks.csv"
    path.write_text("t,price,Close,trade_id\n2025-01-10 09:30:00Z,1,2,af30\n")
    mapping = {"timestamp": "t", "price": "Close", "sequence": None}
    (batch,) = read(path, tick_type="last", **IBM, mapping=mapping)
    assert rows(batch)[0]["price"] == 2
    assert "sequence" not in batch.columns
    assert describe_mapping(["t", "price", "Close", "trade_id"], "last", mapping) == (
        {"timestamp": ("t",), "price": ("Close",)},
        ["price", "trade_id"],
    )


@pytest.mark.parametrize(
    ("columns", "tick_type", "expected"),
    [
        (["ts", "px", "qty"], "last", {"timestamp": "ts", "price": "px", "size": "qty"}),
        (["Time", "Last Price"], "all_last", {"timestamp": "Time", "price": "Last Price"}),
        (
            ["datetime", "bidPx", "askPx", "BidSize", "ask_size", "update_id"],
            "bid_ask",
            {"timestamp": "datetime", "bid_price": "bidPx", "bid_size": "BidSize"}
            | {"ask_price": "askPx", "ask_size": "ask_size", "sequence": "update_id"},
        ),
        (
            ["timestamp", "date", "time", "mid"],
            "mid_point",
            {"timestamp": "timestamp", "mid_price": "mid"},
        ),
        (["date", "MIDPOINT"], "mid_point", {"timestamp": "date", "mid_price": "MIDPOINT"}),
        (
            ["ts_recv", "ts_event", "price", "size"],
            "last",
            {"timestamp": "ts_recv", "price": "price", "size": "size", "exchange_time": "ts_event"},
        ),
    ],
)
def test_usual_column_names(columns: list[str], tick_type: str, expected: dict[str, str]) -> None:
    mapped, _ = describe_mapping(columns, tick_type)
    assert mapped == {name: (source,) for name, source in expected.items()}


def test_invalid_mappings() -> None:
    with pytest.raises(UnknownColumnError, match="'bid_price', which no last tick has"):
        describe_mapping(["time", "price"], "last", {"bid_price": "price"})
    with pytest.raises(InputError, match="'close', which the file lacks: it has time, price"):
        describe_mapping(["time", "price"], "last", {"price": "close"})
    with pytest.raises(InputError, match="no column for bid_price, ask_price"):
        describe_mapping(["time", "price"], "bid_ask")
    with pytest.raises(InputError, match="no column for timestamp"):
        describe_mapping(["price", "time"], "last", {"timestamp": None})


def test_an_exported_table_is_read_back(
    tmp_path: Path,
    ticks: Callable[..., TickColumns],
    quotes_and_trades: list[Any],
    rows: Callable[..., list[dict[Any, Any]]],
) -> None:
    from ibticks.frames import to_polars, to_table

    trades = [row for row in quotes_and_trades if row["tick_type"] == "all_last"]
    table = to_table([ticks(trades)], ["timestamp", "contract_id", "tick_type", "price", "size"])
    to_polars(table).write_parquet(tmp_path / "ours.parquet")
    (batch,) = read(tmp_path / "ours.parquet", tick_type="all_last", **IBM)
    assert str(rows(batch)) == str(rows(from_arrow(table)))
