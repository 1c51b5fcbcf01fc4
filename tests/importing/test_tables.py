"""Files as exchanges, vendors and spreadsheets write them: stored right or refused."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ibticks as ibt
from ibticks import errors

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_YORK: dict[str, Any] = {"tz": "America/New_York"}
WANTED = "2025-03-03T14:30:00.123456789"
ALL = {
    "last": ["price", "size", "exchange", "conditions", "metadata", "sequence"],
    "bid_ask": ["bid_price", "bid_size", "ask_price", "ask_size", "exchange", "metadata"],
    "mid_point": ["mid_price"],
}


def text(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def load(
    store: ibt.Store, path: Path, tick_type: str = "last", contract_id: int = 7, **options: Any
) -> Any:
    """Import a file into a contract, and return its ticks with every column."""
    ibt.import_table(
        store, path, contract_id=contract_id, tick_type=tick_type, progress=False, **options
    )
    return stored(store, contract_id, tick_type)


def stored(store: ibt.Store, contract_id: int, tick_type: str = "last") -> pl.DataFrame:
    columns = ["timestamp", "exchange_time", *ALL[tick_type]]
    return store.select(contract_id, tick_type, columns=columns).to_polars()


def times(frame: Any) -> Any:
    return frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S.%9f").to_list()


def metadata(frame: Any) -> list[Any]:
    return [dict(row) for row in frame["metadata"].to_list()]


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("DATE,TIME_M", "2025-03-03,09:30:00.123456789"),
        ("DATE,TIME_M", "20250303,9:30:00.123456789"),
        ("DATE,TIME_M,TIME_M_NANO", "2025-03-03,9:30:00.123456,789"),
        ("date,time_of_day", "2025/03/03,09:30:00.123456789"),
        ("Date,Time (ET)", "2025-03-03,09:30:00.123456789"),
        ("Date,Timestamp (ET)", "2025-03-03,09:30:00.123456789"),
        ("Time,Date", "09:30:00.123456789,2025-03-03"),
        ("trade_date,trade_time", "2025-03-03,09:30:00.123456789"),
        ("Date,Time", "2025-03-03 00:00:00,09:30:00.123456789"),
        ("date,time", "20250303,093000123456789"),
        ("date,time", "2025.03.03,0D09:30:00.123456789"),
        ("date,time", "2025-03-03,0 days 09:30:00.123456789"),
        ("time", "2025.03.03D09:30:00.123456789"),
        ("date,timestamp_utc", "2025-03-03,2025-03-03 14:30:00.123456789"),
        ("date,Time (UTC)", "2025-03-03,14:30:00.123456789Z"),
        ("date,exchange_timestamp", "2025-03-03,2025-03-03T14:30:00.123456789Z"),
        ("date,ts_event", "20250303,1741012200123456789"),
        ("date,time", "2025-03-03,1741012200123456789"),
        ("time,timestamp", "09:30:00.123456789,2025-03-03 09:30:00.123456789"),
        ("datetime", "2025-03-03 09:30:00,123456789"),
    ],
)
def test_a_day_and_a_time_of_day_are_joined_to_the_nanosecond(
    store: ibt.Store, tmp_path: Path, header: str, row: str
) -> None:
    quoted = row if row.count(",") == header.count(",") else f'"{row}"'
    path = text(tmp_path / "trades.csv", f"{header},price,size", f"{quoted},10.5,100")
    zone: dict[str, Any] = {} if "timestamp_utc" in header else NEW_YORK
    assert times(load(store, path, **zone)) == [WANTED]


@pytest.mark.parametrize(
    ("day", "clock"),
    [
        (date(2025, 3, 3), time(9, 30, 0, 123456)),
        (datetime(2025, 3, 3), time(9, 30, 0, 123456)),
        (datetime(2025, 3, 3), timedelta(hours=9, minutes=30, microseconds=123456)),
        (20250303, "09:30:00.123456"),
    ],
    ids=str,
)
def test_parts_of_a_time_in_parquet(
    store: ibt.Store, tmp_path: Path, day: date | int, clock: time | timedelta | str
) -> None:
    path = tmp_path / "trades.parquet"
    pq.write_table(pa.table({"Date": [day], "TIME_M": [clock], "price": [10.5]}), path)
    assert times(load(store, path, **NEW_YORK)) == [WANTED[:-3] + "000"]


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        ("date,price", ["2025-03-03,1"], "'date' holds dates without a time of day"),
        ("timestamp,price", ["2025-03-03,1"], "'timestamp' holds dates without a time of day"),
        ("time,price", ["09:30:00,1"], "'time' holds times of day without a date"),
        ("time_m,price", ["9:30:00,1"], "'time_m' holds times of day without a date"),
        (
            "date,time,time_of_day,price",
            ["2025-03-03,09:30:00,09:31:00,1"],
            "joined from 'date' and 'time', 'time_of_day'",
        ),
        (
            "timestamp,datetime,price",
            ["2025-03-03 09:30,2025-03-03 09:31,1"],
            "from 'timestamp', 'datetime', which differ",
        ),
        ("timestamp,price", ["2025-03-03 09:30,1", "2025-03-04,2"], "without a time of day"),
        ("date,seconds,price", ["2025-03-03,34200,1"], "without a time of day"),
    ],
)
def test_a_time_without_a_date_is_refused(
    store: ibt.Store, tmp_path: Path, header: str, rows: list[str], says: str
) -> None:
    path = text(tmp_path / "trades.csv", header, *rows)
    with pytest.raises(errors.InputError, match=says):
        load(store, path, **NEW_YORK)


def test_times_of_day_that_are_numbers(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "date,time,price", "20250303,34200123,1")
    with pytest.raises(errors.InputError, match="'date' holds dates without a time of day"):
        load(store, path, **NEW_YORK)
    frame = load(store, path, timestamp_unit="ms", **NEW_YORK)
    assert times(frame) == ["2025-03-03T14:30:00.123000000"]
    path = text(tmp_path / "b.csv", "date,time,price", "20250303,34200.123456789,1")
    assert times(load(store, path, timestamp_unit="s", contract_id=8, **NEW_YORK)) == [WANTED]
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"date": [20250303], "time": [34200123456789], "price": [1.0]}), path)
    assert times(load(store, path, timestamp_unit="ns", contract_id=9, **NEW_YORK)) == [WANTED]


def test_nanoseconds_in_a_column_of_their_own(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "timestamp,nanoseconds,price", "1741012200,123456789,1")
    with pytest.raises(errors.InputError, match="'nanoseconds' may hold the nanoseconds"):
        load(store, path)
    frame = load(store, path, mapping={"timestamp": "timestamp"})
    assert times(frame) == ["2025-03-03T14:30:00.000000000"]


def test_a_mapped_time_without_a_date_is_refused(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "trades.csv", "d,t,u,price", "2025-03-03,09:30:00.5,2025-03-03,1")
    for chosen in ("d", "t", "u", "t+d", "d+u"):
        with pytest.raises(errors.InputError, match="holds"):
            load(store, path, mapping={"timestamp": chosen}, **NEW_YORK)
    assert times(load(store, path, mapping={"timestamp": "d+t"}, **NEW_YORK)) == [
        "2025-03-03T14:30:00.500000000"
    ]


@pytest.mark.parametrize("value", [date(2025, 3, 3), "2025-03-03", "20250303"], ids=str)
def test_a_date_is_no_timestamp_of_a_frame(store: ibt.Store, value: date | str) -> None:
    frame = pl.DataFrame({"timestamp": [value], "price": [1.5]})
    with pytest.raises(errors.InputError, match="without a time of day"):
        store.write(frame, contract_id=7, tick_type="last", tz="UTC")


def test_a_zone_in_a_name_and_another_one(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "trades.csv", "timestamp_utc,price", "2025-03-03 14:30:00,1")
    with pytest.raises(errors.InputError, match="says UTC, and tz='America/New_York'"):
        load(store, path, **NEW_YORK)
    frame = load(store, path, mapping={"timestamp": "timestamp_utc"}, **NEW_YORK)
    assert times(frame) == ["2025-03-03T19:30:00.000000000"]
    path = text(tmp_path / "local.csv", "Date,Time (ET),price", "2025-03-03,09:30:00,1")
    with pytest.raises(errors.NaiveDatetimeError, match="the name of the column says ET"):
        load(store, path)


@pytest.mark.parametrize(
    ("time_format", "header", "row"),
    [
        ("%d/%m/%Y %H:%M:%S.%f", "time", "03/04/2025 09:30:00.123456789"),
        ("%d/%m/%Y %H:%M:%S.%f", "Date,Time", "03/04/2025,09:30:00.123456789"),
        ("%d.%m.%Y", "Date,Time", "03.04.2025,09:30:00.123456789"),
        ("%d-%b-%Y %I:%M:%S.%f %p", "when", "03-Apr-2025 09:30:00.123456789 AM"),
        ("%H%M%S%.f", "date,time", "2025-04-03,093000.123456789"),
        ("%d/%m/%Y %H:%M:%S.%f%z", "time", "03/04/2025 15:30:00.123456789+02:00"),
    ],
)
def test_times_in_a_format(
    store: ibt.Store, tmp_path: Path, time_format: str, header: str, row: str
) -> None:
    path = text(tmp_path / "trades.csv", f"{header},price", f"{row},1.5")
    mapping = {"timestamp": "when"} if header == "when" else None
    frame = load(store, path, time_format=time_format, mapping=mapping, **NEW_YORK)
    assert times(frame) == ["2025-04-03T13:30:00.123456789"]


@pytest.mark.parametrize(
    ("time_format", "value", "says"),
    [
        ("%Y-%m-%d %H:%M:%S %Z", "2025-03-03 09:30:00 EST", "%Z reads no instant.*tz="),
        ("%H:%M:%S %Z %Y-%m-%d", "09:30:00 EST 2025-03-03", "%Z reads no instant.*tz="),
        ("%s", "1741012200", "%s reads no instant.*timestamp_unit="),
        ("at %s", "at 1741012200", "%s reads no instant.*timestamp_unit="),
    ],
)
def test_formats_that_would_ignore_a_zone_are_refused(
    store: ibt.Store, tmp_path: Path, time_format: str, value: str, says: str
) -> None:
    path = text(tmp_path / "a.csv", "time,price", f"{value},1")
    for tz in ("UTC", "America/New_York"):
        with pytest.raises(errors.InputError, match=says):
            load(store, path, time_format=time_format, tz=tz)


@pytest.mark.parametrize("directive", ["%z", "%:z", "%#z"])
@pytest.mark.parametrize("offset", ["-05:00", "-0500"])
def test_offsets_in_a_format(store: ibt.Store, tmp_path: Path, directive: str, offset: str) -> None:
    path = text(tmp_path / "a.csv", "time,price", f"03/03/2025 09:30:00.123456789 {offset},1")
    frame = load(store, path, time_format=f"%d/%m/%Y %H:%M:%S.%f {directive}")
    assert times(frame) == [WANTED]
    path = text(tmp_path / "b.csv", "time,price", "03/03/2025 09:30:00.123456789 EST,1")
    frame = load(
        store, path, contract_id=8, time_format="%d/%m/%Y %H:%M:%S.%f EST", tz="America/New_York"
    )
    assert times(frame) == [WANTED]


def test_times_that_do_not_fit_their_format(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time,price", "03/04/2025 09:30,1", "2025-04-03 09:30,1")
    with pytest.raises(errors.InputError, match=r"row 2: .*'2025-04-03 09:30', which does not fit"):
        load(store, path, time_format="%d/%m/%Y %H:%M", **NEW_YORK)
    with pytest.raises(errors.InputError, match="%3f, %6f or %9f"):
        load(store, path, time_format="%d/%m/%Y %H:%M:%S,%f", **NEW_YORK)


# -- instruments -----------------------------------------------------------------------------------


def two_instruments(path: Path, name: str, one: str | int, two: str | int, more: str = "") -> Any:
    return text(
        path,
        f"{name},time,price{',' if more else ''}{more}",
        f"{one},2025-03-03T14:30:00Z,10",
        f"{two},2025-03-03T14:30:01Z,500",
    )


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("ticker", "AAA", "BBB"),
        ("symbol", "BTC-PERP", "ETH-PERP"),
        ("Symbol", "AAA", ""),
        ("instrument_id", "3403", "9977"),
        ("SYM_ROOT", "QQ", "ZZ"),
        ("sym", "a", "b"),
        ("conid", "7", "999"),
        ("contract_id", "4", "999"),
        ("ric", "IBM.N", "BAC.N"),
        ("pair", "EURUSD", "USDJPY"),
        ("Contract", "ESH5", "ESM5"),
        ("stock_code", "600000", "600004"),
        ("expiry", "202503", "202506"),
        ("Strike Price", "400", "410.5"),
        ("right", "C", "P"),
    ],
)
def test_several_instruments_are_not_one_contract(
    store: ibt.Store, tmp_path: Path, name: str, one: str, two: str
) -> None:
    path = two_instruments(tmp_path / "trades.csv", name, one, two)
    with pytest.raises(errors.InputError, match=f"contract_id=7 was given.*'{name}'"):
        load(store, path)
    assert store.contents() == []
    if name not in ("conid", "contract_id"):
        with pytest.raises(errors.InputError, match=f"'{name}' are of no contract.*symbols="):
            ibt.import_table(store, path, tick_type="last")
    assert store.contents() == []


OPTIONS = "symbol,expiry,strike,right,time,price"
CALL, PUT = "SPY,20250321,400,C", "SPY,20250321,400,P"


def options(path: Path, *contracts: str) -> Any:
    return text(path, OPTIONS, *(f"{one},2025-03-03T14:30:00Z,{len(one)}" for one in contracts))


def test_options_are_not_their_underlying(store: ibt.Store, tmp_path: Path) -> None:
    store.add_contract(901, "SPY")
    path = options(tmp_path / "a.csv", CALL, PUT)
    with pytest.raises(errors.InputError, match=r"SPY 20250321 400 C, SPY 20250321 400 P"):
        ibt.import_table(store, path, tick_type="last")
    with pytest.raises(errors.InputError, match="file of several instruments"):
        load(store, path)
    with pytest.raises(errors.InputError, match=r"contract 3 differ in columns .*'right'.*symbol"):
        ibt.import_table(store, path, tick_type="last", symbols={"SPY": 3})
    assert store.contents() == []
    # Joined, the terms name the contract.
    ibt.import_table(
        store,
        path,
        tick_type="last",
        mapping={"symbol": "symbol+expiry+strike+right"},
        symbols={"SPY 20250321 400 C": 1, "SPY 20250321 400 P": 2},
    )
    assert [store.select(number).count() for number in (1, 2)] == [1, 1]


def test_one_option_and_its_contract(store: ibt.Store, tmp_path: Path) -> None:
    store.add_contract(901, "SPY")
    path = options(tmp_path / "a.csv", CALL)
    with pytest.raises(errors.InputError, match="are of no contract that this store knows"):
        ibt.import_table(store, path, tick_type="last")
    assert load(store, path).height == 1
    share = options(tmp_path / "b.csv", "SPY,,0.0,0")
    assert ibt.import_table(store, share, tick_type="last").streams == ((901, "last"),)


def test_symbols_are_imported_by_the_contracts_they_are_known_by(
    store: ibt.Store, tmp_path: Path
) -> None:
    store.add_contract(11, "AAA")
    path = two_instruments(tmp_path / "trades.csv", "ticker", "aaa", "BBB")
    with pytest.raises(errors.InputError, match=r"1 instruments in column 'ticker'.*: BBB;"):
        ibt.import_table(store, path, tick_type="last")
    result = ibt.import_table(store, path, tick_type="last", symbols={"BBB": 12})
    assert result.streams == ((11, "last"), (12, "last"))
    assert result.rows == {11: 1, 12: 1}
    assert stored(store, 11)["price"].to_list() == [10]
    # The symbol of a contract without a name becomes its name.
    assert store.select("BBB", "last").to_polars()["price"].to_list() == [500]
    again = ibt.import_table(store, path, tick_type="last")
    assert (again.added, again.known) == (0, 2)


@pytest.mark.parametrize("name", ["contract_id", "conId"])
def test_a_file_that_names_its_contracts_needs_no_other(
    store: ibt.Store, tmp_path: Path, name: str
) -> None:
    path = two_instruments(tmp_path / "trades.csv", name, 4, 999)
    assert ibt.import_table(store, path, tick_type="last").rows == {4: 1, 999: 1}
    assert stored(store, 999)["price"].to_list() == [500]


def test_symbols_that_mean_null(store: ibt.Store, tmp_path: Path) -> None:
    path = text(
        tmp_path / "a.csv",
        "symbol,time,price",
        "NA,2025-03-03T14:30:00Z,1",
        "IBM,2025-03-03T14:30:00Z,NA",
    )
    result = ibt.import_table(store, path, tick_type="last", symbols={"NA": 1, "IBM": 2})
    assert result.rows == {1: 1, 2: 1}
    assert stored(store, 2)["price"].to_list() == [None]


def test_roots_and_suffixes_are_one_symbol(store: ibt.Store, tmp_path: Path) -> None:
    path = text(
        tmp_path / "taq.csv",
        "SYM_ROOT,SYM_SUFFIX,DATE,TIME_M,PRICE",
        "BRK,A,2025-03-03,9:30:00,1",
        "BRK,B,2025-03-03,9:30:01,2",
        "BRK,,2025-03-03,9:30:01,3",
    )
    with pytest.raises(errors.InputError, match="BRK A, BRK B, BRK in columns"):
        load(store, path, **NEW_YORK)
    symbols = {"BRK A": 1, "BRK B": 2, "BRK": 3}
    result = ibt.import_table(store, path, tick_type="last", symbols=symbols, **NEW_YORK)
    assert result.rows == {1: 1, 2: 1, 3: 1}


def test_an_instrument_that_contradicts_the_contract(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "trades.csv", "symbol,time,price", "IBM,2025-03-03T14:30:00Z,1")
    store.add_contract(8314, "IBM")
    store.add_contract(9, "BAC")
    with pytest.raises(errors.InputError, match=r"IBM \(contract 8314\) in column 'symbol'"):
        load(store, path, contract_id=10)
    with pytest.raises(errors.InputError, match="contract 8314"):
        load(store, path, contract_id=9)
    assert store.contents() == [] or all(one.ticks == 0 for one in store.contents())
    assert load(store, path, contract_id=8314).height == 1
    other = text(tmp_path / "other.csv", "symbol,time,price", "BAC.N,2025-03-03T14:30:00Z,1")
    with pytest.raises(errors.InputError, match=r"9 is BAC in this store, and the file has BAC\.N"):
        load(store, other, contract_id=9)
    assert load(store, other, contract_id=9, symbols={"BAC.N": 9}).height == 1


def test_values_of_one_row_that_name_different_contracts(store: ibt.Store, tmp_path: Path) -> None:
    store.add_contract(8314, "IBM")
    path = text(tmp_path / "a.csv", "conid,symbol,time,price", "5,IBM,2025-03-03T14:30:00Z,1")
    with pytest.raises(errors.InputError, match="5 is contract 5, IBM is contract 8314"):
        ibt.import_table(store, path, tick_type="last")


def test_a_second_instrument_far_down_is_noticed_before_any_write(
    store: ibt.Store, tmp_path: Path
) -> None:
    rows = [f"AAA,2025-03-03T14:30:00.{number:06}Z,{number}" for number in range(300_000)]
    rows.append("BBB,2025-03-03T14:31:00Z,1")
    path = text(tmp_path / "trades.csv", "symbol,time,price", *rows)
    with pytest.raises(errors.InputError, match="AAA, BBB"):
        load(store, path)
    assert store.contents() == []


def test_more_instruments_than_open_writers(store: ibt.Store, tmp_path: Path) -> None:
    """Equal ticks of one instrument stay two, however many others stand between them."""
    rows = [f"{number},2025-03-03T14:30:00Z,1" for number in [*range(1, 121)] * 2]
    path = text(tmp_path / "trades.csv", "contract_id,time,price", *rows)
    result = ibt.import_table(store, path, tick_type="last", progress=False)
    assert (result.added, result.known) == (240, 0)
    assert store.select(1, "last").count() == 2
    again = ibt.import_table(store, path, tick_type="last", progress=False)
    assert (again.added, again.known) == (0, 240)


# -- what a tick has -------------------------------------------------------------------------------


def test_a_quote_keeps_its_exchanges(store: ibt.Store, tmp_path: Path) -> None:
    header = "time,bid,bidsize,ask,asksize"
    path = text(tmp_path / "one.csv", f"{header},EX,QU_COND", "2025-03-03T14:30:00Z,1,2,3,4,N,R")
    frame = load(store, path, "bid_ask", preset="taq")
    assert frame["exchange"].to_list() == ["N"]
    path = text(
        tmp_path / "two.csv",
        f"{header},bid_exchange,ask_exchange",
        "2025-03-03T14:30:00Z,1,2,3,4,N,N",
        "2025-03-03T14:30:01Z,1,2,3,4,N,T",
    )
    frame = load(store, path, "bid_ask", contract_id=8)
    assert frame["exchange"].to_list() == ["N", None]
    assert metadata(frame) == [
        {"bid_exchange": "N", "ask_exchange": "N"},
        {"bid_exchange": "N", "ask_exchange": "T"},
    ]


@pytest.mark.parametrize("name", ["correction", "TR_CORR", "CORR"])
def test_corrections_are_kept(store: ibt.Store, tmp_path: Path, name: str) -> None:
    rows = [f"2025-03-03T14:30:0{n}Z,1,{code}" for n, code in enumerate(["00", "0", "", "01", "8"])]
    frame = load(store, text(tmp_path / "a.csv", f"time,price,{name}", *rows))
    assert metadata(frame) == [{}, {}, {}, {"correction": "01"}, {"correction": "8"}]


def test_requested_columns_are_stored_as_text(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time,price,side", "2025-03-03T14:30:00Z,1,B")
    frame = load(store, path, mapping={"metadata.aggressor": "side"})
    assert metadata(frame) == [{"aggressor": "B"}]


def test_exported_metadata_is_read_back(store: ibt.Store, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "timestamp": [datetime(2025, 3, 3, tzinfo=UTC)],
            "price": [1.5],
            "metadata": [[{"key": "source", "value": "backfill"}]],
        }
    )
    frame.write_parquet(tmp_path / "ours.parquet")
    assert metadata(load(store, tmp_path / "ours.parquet")) == [{"source": "backfill"}]


# -- presets ---------------------------------------------------------------------------------------


def test_taq_trades_and_quotes(store: ibt.Store, tmp_path: Path) -> None:
    trades = text(
        tmp_path / "trades.csv",
        "DATE,TIME_M,EX,SYM_ROOT,SYM_SUFFIX,TR_SCOND,SIZE,PRICE,TR_CORR,TR_SEQNUM",
        "2025-03-03,9:30:00.123456789,N,IBM,,@F I,100,250.5,00,12",
    )
    result = ibt.import_table(store, trades, contract_id=7, tick_type="last", **NEW_YORK)
    assert (result.preset, result.ignored) == ("taq", ())
    (row,) = stored(store, 7).to_dicts()
    assert (row["price"], row["size"], row["exchange"], row["sequence"]) == (250.5, 100, "N", 12)
    assert row["conditions"] == ["@F I"]
    quotes = text(
        tmp_path / "quotes.csv",
        "DT,EX,SYMBOL,BID,BIDSIZ,OFR,OFRSIZ",
        "2025-03-03 09:30:00.123456789,N,IBM,250.4,3,250.6,5",
    )
    (row,) = load(store, quotes, "bid_ask", **NEW_YORK).to_dicts()
    assert (row["bid_price"], row["bid_size"]) == (250.4, 3)
    assert (row["ask_price"], row["ask_size"], row["exchange"]) == (250.6, 5, "N")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_databento_fixed_point(store: ibt.Store, tmp_path: Path, kind: str) -> None:
    columns = {
        "ts_recv": [1_741_012_200_123_456_789, 1_741_012_201_000_000_001],
        "ts_event": [1_741_012_200_123_000_001, 2**64 - 1],
        "rtype": [1, 1],
        "instrument_id": [3403, 3403],
        "bid_px_00": [187_500_000_000, 2**63 - 1],
        "ask_px_00": [9_007_199_254_740_993_000, 187_510_000_000],
        "bid_sz_00": [5, 2**32 - 1],
        "ask_sz_00": [7, 8],
        "sequence": [1, 2],
    }
    types = {"ts_event": pa.uint64(), "bid_sz_00": pa.uint32(), "ask_sz_00": pa.uint32()}
    table = pa.table(
        {name: pa.array(v, types.get(name, pa.int64())) for name, v in columns.items()}
    )
    path = tmp_path / f"quotes.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        pl.DataFrame(pl.from_arrow(table)).write_csv(path)
    result = ibt.import_table(store, path, contract_id=7, tick_type="bid_ask")
    assert result.preset == "databento"
    assert any("fixed point" in note for note in result.notes)
    assert any("whole seconds" in note and "ts_event" in note for note in result.notes)
    frame = stored(store, 7, "bid_ask")
    assert times(frame) == [WANTED, "2025-03-03T14:30:01.000000001"]
    assert frame["bid_price"].to_list() == [187.5, None]
    assert frame["bid_size"].to_list() == [5, None]
    assert frame["ask_price"].to_list() == [9007199254.740993, 187.51]
    assert frame["exchange_time"].is_null().to_list() == [False, True]


def test_databento_prices_that_are_decimals(store: ibt.Store, tmp_path: Path) -> None:
    path = text(
        tmp_path / "trades.csv",
        "ts_event,rtype,action,price,size",
        "2025-03-03T14:30:00.123456789Z,0,T,187.500000000,5",
    )
    frame = load(store, path)
    assert (times(frame), frame["price"].to_list()) == ([WANTED], [187.5])


def test_databento_book_events_are_no_trades(store: ibt.Store, tmp_path: Path) -> None:
    rows = [f"17410122001234567{n:02},1,{action},187.5,5" for n, action in enumerate("ATCTM")]
    path = text(tmp_path / "mbp.csv", "ts_event,rtype,action,price,size", *rows)
    with pytest.raises(errors.InputError, match=r"'action'.* A, C, M, which.*action T"):
        load(store, path)
    assert store.contents() == []


def test_ib_async(store: ibt.Store, tmp_path: Path) -> None:
    quotes = text(
        tmp_path / "quotes.csv",
        "time,tickAttribBidAsk,priceBid,priceAsk,sizeBid,sizeAsk",
        "2025-03-03 14:30:00+00:00,TickAttribBidAsk(),1.5,1.6,100,200",
    )
    assert load(store, quotes, "bid_ask")["ask_size"].to_list() == [200]
    trades = text(
        tmp_path / "trades.csv",
        "tickType,time,price,size,tickAttribLast,exchange,specialConditions",
        "1,2025-03-03 14:30:00+00:00,1.5,100,TickAttribLast(),ARCA,T",
    )
    (row,) = load(store, trades).to_dicts()
    assert (row["exchange"], row["conditions"]) == ("ARCA", ["T"])
    mids = text(tmp_path / "mids.csv", "time,price,size", "2025-03-03 14:30:00+00:00,1.5,0")
    assert load(store, mids, "mid_point", preset="ib_async")["mid_price"].to_list() == [1.5]


def test_polygon(store: ibt.Store, tmp_path: Path) -> None:
    path = text(
        tmp_path / "trades.csv",
        "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,"
        "sip_timestamp,size",
        'AAA,"12,41",1,4,52983525029461,1741012199000000000,10.5,77,1741012200123456789,100',
    )
    frame = load(store, path)
    (row,) = frame.to_dicts()
    assert times(frame) == [WANTED]
    assert (row["conditions"], row["exchange"], row["sequence"]) == (["12", "41"], "4", 77)
    assert metadata(frame) == [{"correction": "1"}]
    assert row["exchange_time"] == datetime(2025, 3, 3, 14, 29, 59, tzinfo=UTC)


def test_tardis_and_kdb(store: ibt.Store, tmp_path: Path) -> None:
    path = text(
        tmp_path / "tardis.csv",
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
        "binance,BTCUSDT,1741012200123456,1741012200200000,1.5,100.5,100.4,2.5",
    )
    (row,) = load(store, path, "bid_ask").to_dicts()
    assert (row["bid_size"], row["ask_size"], row["exchange"]) == (2.5, 1.5, "binance")
    assert row["timestamp"] == datetime(2025, 3, 3, 14, 30, 0, 123456, tzinfo=UTC)
    path = text(
        tmp_path / "quote.csv",
        "date,time,sym,bid,ask,bsize,asize",
        "2025.03.03,0D14:30:00.123456789,IBM,1.5,1.6,3,4",
    )
    frame = load(store, path, "bid_ask", contract_id=8, tz="UTC")
    assert (times(frame), frame["ask_size"].to_list()) == ([WANTED], [4])


def test_an_explicit_or_unknown_preset(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time,sym,price", "2025-03-03T14:30:00Z,A,1")
    for preset, expected in ((None, "kdb"), ("none", None), ("taq", "taq")):
        result = ibt.import_table(store, path, contract_id=7, tick_type="last", preset=preset)
        assert result.preset == expected
    with pytest.raises(errors.InputError, match="'bloomberg': use one of taq, databento"):
        load(store, path, preset="bloomberg")


# -- real text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (['"1,234.50","1,000"', '"12.25","2,500,000"'], ([1234.5, 12.25], [1000, 2_500_000])),
        (['"1.234,50","1.000"', '"12,25","2.500.000"'], ([1234.5, 12.25], [1000, 2_500_000])),
        (['"1 234,50","1 000"', '"12,25","2 500 000"'], ([1234.5, 12.25], [1000, 2_500_000])),
        (['"1\'234.50","1\'000"', '"12.25",5'], ([1234.5, 12.25], [1000, 5])),
        (['"1234.50","1,000"', "+12.25,2.5e3"], ([1234.5, 12.25], [1000, 2500])),
    ],
)
def test_numbers_with_marks(
    store: ibt.Store, tmp_path: Path, rows: list[str], expected: tuple[list[float], list[int]]
) -> None:
    rows = [f"2025-03-03T14:30:0{n}Z,{row}" for n, row in enumerate(rows)]
    frame = load(store, text(tmp_path / "a.csv", "time,price,size", *rows))
    assert (frame["price"].to_list(), frame["size"].to_list()) == expected


@pytest.mark.parametrize("prices", [["110'165", "110'16"], ["109’31+", "1"], ["-0'025", "0'000"]])
@pytest.mark.parametrize("decimal", [None, "."])
def test_prices_in_thirty_seconds_are_refused(
    store: ibt.Store, tmp_path: Path, prices: list[str], decimal: str | None
) -> None:
    rows = [f'2025-03-03T14:30:00Z,{price},"1,000.5"' for price in prices]
    path = text(tmp_path / "notes.csv", "time,price,size", *rows)
    with pytest.raises(errors.InputError, match=r"'price' has .* looks like a price in 32nds"):
        load(store, path, decimal=decimal)
    # A price with decimals shows that the apostrophes are marks of thousands.
    path = text(tmp_path / "index.csv", path.read_text() + "2025-03-03T14:30:00Z,12'345.5,1")
    if prices[0] == "110'165":
        rows = [row.replace("110'16,", "110'160,") for row in path.read_text().splitlines()]
        got = load(store, text(path, *rows), decimal=".")
        assert got["price"].to_list() == [110165, 110160, 12345.5]


def test_an_ambiguous_dot_between_semicolons(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time;price;size", "2025-03-03T14:30:00Z;1.234;2.000")
    with pytest.raises(errors.InputError, match=r"numbers such as 1\.234, which may be thousands"):
        load(store, path)
    assert load(store, path, decimal=",")["price"].to_list() == [1234]
    assert load(store, path, decimal=".", contract_id=8)["price"].to_list() == [1.234]
    # Another number shows it; between commas it can only be a decimal point.
    path = text(tmp_path / "b.csv", "time;price;size", "2025-03-03T14:30:00Z;1.234;0.5")
    assert load(store, path, contract_id=9)["price"].to_list() == [1.234]
    path = text(tmp_path / "c.csv", "time,price", "2025-03-03T14:30:00Z,1.234")
    assert load(store, path, contract_id=10)["price"].to_list() == [1.234]


def test_an_ambiguous_comma(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time,price,size", '2025-03-03T14:30:00Z,"1,234",5')
    with pytest.raises(errors.InputError, match=r"'price' has numbers such as 1,234.*decimal="):
        load(store, path)
    assert load(store, path, decimal=".")["price"].to_list() == [1234]
    assert load(store, path, decimal=",", contract_id=8)["price"].to_list() == [1.234]


@pytest.mark.parametrize("bad", ["1.5", "12,5x", "inf", "1,23,456.0"])
def test_numbers_in_another_notation_are_refused(
    store: ibt.Store, tmp_path: Path, bad: str
) -> None:
    path = text(
        tmp_path / "a.csv",
        "time;price",
        *[f"2025-03-03T14:30:00Z;{n},25" for n in range(10, 10_100)],
        f"2025-03-03T14:30:01Z;{bad}",
    )
    with pytest.raises(errors.InputError, match=r"row 10091: .*decimal comma"):
        load(store, path)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("plain.csv", bytes),
        ("trades.csv", gzip.compress),
        ("trades.csv.gz", bytes),
        ("two members.csv", lambda data: gzip.compress(data[:40]) + gzip.compress(data[40:])),
        ("trades.txt", bz2.compress),
        ("mac.csv", lambda data: data.replace(b"\n", b"\r")),
        ("windows.csv", lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
        ("excel.csv", lambda data: data.decode().encode("utf-16")),
    ],
)
def test_text_is_recognised_by_its_content(
    store: ibt.Store,
    tmp_path: Path,
    name: str,
    wrap: type[bytes] | Callable[..., bytes] | Callable[..., Any],
) -> None:
    data = b'time,"price",size\n2025-03-03T14:30:00Z,"10.5","100"\n2025-03-03T14:30:01Z,11,2\n'
    path = tmp_path / name
    path.write_bytes(wrap(data))
    assert load(store, path)["price"].to_list() == [10.5, 11]


def test_an_archive_is_named(store: ibt.Store, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04" + bytes(30))
    with pytest.raises(errors.InputError, match="is a ZIP archive or a workbook: unpack it"):
        load(store, tmp_path / "a.csv")


# -- bad rows --------------------------------------------------------------------------------------


LAST_FLAGS = ["past_limit", "unreported"]
QUOTE_FLAGS = ["bid_past_low", "ask_past_high"]


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        ("TickAttribLast(pastLimit=False, unreported=False)", (False, False)),
        ("TickAttribLast(pastLimit=True, unreported=False)", (True, False)),
        ("TickAttribLast(unreported=True)", (False, True)),
        ("TickAttribLast()", (False, False)),
        ("{'pastLimit': True, 'unreported': True}", (True, True)),
        ("PastLimit: 0, Unreported: 1", (False, True)),
        ("", (None, None)),
    ],
)
def test_attributes_of_trades_are_flags(
    store: ibt.Store, tmp_path: Path, value: str, flags: tuple[bool | None, bool | None]
) -> None:
    row = f'2025-03-03T14:30:00Z,"{value}",1.5,100'
    path = text(tmp_path / "trades.csv", "time,tickAttribLast,price,size", row)
    result = ibt.import_table(store, path, contract_id=7, tick_type="all_last")
    assert result.ignored == ()
    frame = store.select(7, "all_last", columns=LAST_FLAGS).to_polars()
    assert frame.rows() == [flags]
    assert ibt.import_table(store, path, contract_id=7, tick_type="all_last").added == 0


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        ("TickAttribBidAsk(bidPastLow=True, askPastHigh=False)", (True, False)),
        ("TickAttribBidAsk(askPastHigh=True)", (False, True)),
        ("BidPastLow: 0, AskPastHigh: 0", (False, False)),
    ],
)
def test_attributes_of_quotes_are_flags(
    store: ibt.Store, tmp_path: Path, value: str, flags: tuple[bool, bool]
) -> None:
    row = f'2025-03-03T14:30:00Z,"{value}",1.5,1.6,100,200'
    header = "time,tickAttribBidAsk,priceBid,priceAsk,sizeBid,sizeAsk"
    load(store, text(tmp_path / "quotes.csv", header, row), "bid_ask")
    assert store.select(7, "bid_ask", columns=QUOTE_FLAGS).to_polars().rows() == [flags]


def test_attributes_that_are_structs(store: ibt.Store, tmp_path: Path) -> None:
    attributes = [{"pastLimit": True, "unreported": False}, None]
    moments = [datetime(2025, 3, 3, 14, 30, second, tzinfo=UTC) for second in range(2)]
    table = {"time": moments, "price": [1.0, 2.0], "size": 1.0, "tickAttribLast": attributes}
    pl.DataFrame(table).write_parquet(tmp_path / "trades.parquet")
    load(store, tmp_path / "trades.parquet")
    frame = store.select(7, columns=LAST_FLAGS).to_polars()
    assert frame.rows() == [(True, False), (None, None)]


def test_texts_without_attributes_are_refused(store: ibt.Store, tmp_path: Path) -> None:
    row = "2025-03-03T14:30:00Z,regular,1.5,100"
    path = text(tmp_path / "trades.csv", "time,tickAttribLast,price,size", row)
    with pytest.raises(errors.InputError, match="'regular', which has no attributes of a tick"):
        load(store, path)
    assert load(store, path, mapping=dict.fromkeys(LAST_FLAGS)).height == 1


@pytest.mark.parametrize("clocks", [(93000, 93001), (500, 133001), (93000.0, 133001.0)])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_times_of_day_that_are_numbers_of_six_digits(
    store: ibt.Store, tmp_path: Path, clocks: tuple[float, float], suffix: str
) -> None:
    path = tmp_path / f"trades{suffix}"
    frame = pl.DataFrame({"date": 20250304, "time": clocks, "price": 1.0})
    frame.write_parquet(path) if suffix == ".parquet" else frame.write_csv(path)
    mapping = {"timestamp": "date+time"}
    with pytest.raises(errors.InputError, match="time_format="):
        load(store, path, mapping=mapping, tz="UTC")
    read = load(store, path, mapping=mapping, tz="UTC", time_format="%H%M%S")
    expected = [f"2025-03-04 {int(clock):06}" for clock in clocks]
    assert read["timestamp"].dt.strftime("%Y-%m-%d %H%M%S").to_list() == expected


def bad_file(path: Path) -> Any:
    rows = [f"2025-03-03T14:30:{n:02}Z,{n},x" for n in range(60)]
    rows[10] = "2025-03-03T14:30:10Z,ten,x"
    rows[20] = "2025-03-03T14:30:20Z,20"
    rows[30] = '2025-03-03T14:30:30Z,30,"two\nlines"'
    rows[40] = "2025-03-03,40,x"
    return text(path, "time,price,note", *rows[:15], "", *rows[15:])


def test_bad_rows_are_written_to_a_file_of_rejects(store: ibt.Store, tmp_path: Path) -> None:
    path = bad_file(tmp_path / "trades.csv")
    with pytest.raises(errors.InputError, match="Expected 3 columns, got 2") as ragged:
        load(store, path)
    assert f"{path}, line 23: " in str(ragged.value)
    assert "nothing of the file is stored" in str(ragged.value)
    assert "skip_bad=True" in str(ragged.value)
    assert store.contents() == []
    result = ibt.import_table(store, path, contract_id=7, tick_type="last", skip_bad=True)
    assert (result.read, result.added, result.rejected) == (57, 57, 3)
    assert result.rejects == str(tmp_path / "trades.csv.rejected.csv")
    with Path(str(result.rejects)).open(newline="") as file:
        header, *rejected = csv.reader(file)
    assert header == ["line", "reason", "time", "price", "note"]
    assert [(row[0], row[2]) for row in rejected] == [
        ("12", "2025-03-03T14:30:10Z"),
        ("23", "2025-03-03T14:30:20Z"),
        ("44", "2025-03-03"),
    ]
    lines = path.read_text().splitlines()
    assert all(lines[int(row[0]) - 1].startswith(row[2]) for row in rejected)
    assert "ten" in rejected[0][1]
    assert rejected[1][1] == "2 values instead of 3"
    assert "without a time of day" in rejected[2][1]
    # Again: nothing twice, and what was set aside before is not overwritten.
    again = ibt.import_table(
        store, path, contract_id=7, tick_type="last", skip_bad=tmp_path / "mine.csv"
    )
    assert (again.added, again.known, again.rejects) == (0, 57, str(tmp_path / "mine.csv"))
    third = ibt.import_table(store, path, contract_id=7, tick_type="last", skip_bad=True)
    assert third.rejects == str(tmp_path / "trades.csv.rejected-2.csv")


@pytest.mark.parametrize(
    ("tick_type", "head", "row", "name"),
    [
        ("last", "time,price,size", "10,-5", "size"),
        ("bid_ask", "time,bid,bid_size,ask,ask_size", "10,-1,11,3", "bid size"),
        ("bid_ask", "time,bid,bid_size,ask,ask_size", "10,3,11,-0.5", "ask size"),
    ],
)
def test_a_negative_size_is_absent(
    store: ibt.Store, tmp_path: Path, tick_type: str, head: str, row: str, name: str
) -> None:
    good = row.replace("-", "")
    rows = [f"2025-03-03T14:30:0{n}Z,{row if n == 2 else good}" for n in range(4)]
    path = text(tmp_path / "a.csv", head, *rows)
    with pytest.raises(errors.InputError, match=rf"row 3: the {name} -[\d.]+ is negative"):
        ibt.import_table(store, path, contract_id=7, tick_type=tick_type)
    result = ibt.import_table(store, path, contract_id=7, tick_type=tick_type, skip_bad=True)
    assert (result.added + result.known, result.rejected) == (3, 1)
    assert store.select(7, tick_type).count() == 3


def test_bad_rows_of_parquet(store: ibt.Store, tmp_path: Path) -> None:
    path = tmp_path / "trades.parquet"
    times = [f"2025-03-03T14:30:0{n}Z" if n != 3 else "never" for n in range(6)]
    pl.DataFrame({"time": times, "price": [*range(6)]}).write_parquet(path)
    result = ibt.import_table(store, path, contract_id=7, tick_type="last", skip_bad=True)
    assert (result.added, result.rejected) == (5, 1)
    with Path(str(result.rejects)).open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["line"], row["time"], row["price"]) == ("4", "never", "3")


def test_a_clean_file_has_no_rejects(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time,price", "2025-03-03T14:30:00Z,1")
    result = ibt.import_table(store, path, contract_id=7, tick_type="last", skip_bad=True)
    assert (result.rejected, result.rejects) == (0, None)
    assert list(tmp_path.glob("*rejected*")) == []


def test_a_file_of_bad_rows_alone_is_refused(store: ibt.Store, tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time,price", *["2025-03-03T14:30:00Z,x"] * 3)
    with pytest.raises(errors.InputError, match=r"row 1: .*'x'"):
        load(store, path, skip_bad=True)
    path = text(tmp_path / "b.csv", "time,price", *["2025-03-03T14:30:00,1"] * 3)
    with pytest.raises(errors.NaiveDatetimeError, match="tz="):
        load(store, path, skip_bad=True)
    assert store.contents() == []


def test_a_stopped_import_reports_the_stored_rows(store: ibt.Store, tmp_path: Path) -> None:
    rows = [f"2025-03-03T14:30:{n:02}Z,{n}" for n in range(60)]
    rows[41] = "2025-03-03T14:30:41Z,forty-one"
    path = text(tmp_path / "a.csv", "time,price", *rows)
    with pytest.raises(errors.InputError, match=r"the 41 rows before it are stored: .*skip_bad"):
        load(store, path)
    assert store.select(7, "last").count() == 41
    path = text(tmp_path / "b.csv", "time,price", "x,1")
    with pytest.raises(errors.InputError, match="nothing of the file is stored"):
        load(store, path, contract_id=8)


def test_the_result_reports_the_mapping(store: ibt.Store, tmp_path: Path) -> None:
    path = text(
        tmp_path / "a.csv",
        "time,price,note",
        "2025-03-03T14:31:00Z,1,x",
        "2025-03-03T14:30:00Z,1,x",
    )
    result = ibt.import_table(store, path, contract_id=7, tick_type="last")
    assert (result.first_ns, result.last_ns) == (1741012200 * 10**9, 1741012260 * 10**9)
    assert (result.rows, result.preset, result.ignored) == ({7: 2}, None, ("note",))
    assert json.dumps(result.mapped) == '{"timestamp": ["time"], "price": ["price"]}'


@pytest.mark.parametrize(
    "notes",
    [
        pytest.param(['"abc', "x", "y"], id="to the end of the file"),
        pytest.param(['"abc', '"def', "y"], id="to the next mark"),
        pytest.param(["w", '"two\nlines"', '"abc', "y"], id="behind a value of two lines"),
        pytest.param(['"' + "a" * 100, *["x"] * 6000], id="longer than a value may be"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_quoted_field_that_swallows_rows_is_refused(
    store: ibt.Store, tmp_path: Path, notes: list[str], end: str
) -> None:
    rows = [f"2025-03-03T14:30:00Z,10,{note}" for note in notes]
    path = tmp_path / "a.csv"
    path.write_bytes(end.join(["time,price,note", *rows, ""]).replace("\n", end).encode())
    for skip_bad in (False, True):
        with pytest.raises(errors.InputError, match=r"line \d: a quotation mark opens a value"):
            load(store, path, skip_bad=skip_bad)
    assert store.contents() == []


def test_harmless_quotation_marks(store: ibt.Store, tmp_path: Path) -> None:
    notes = ['5" pipe', '"two\nlines, ""quoted"""', "", '"one"']
    rows = [f"2025-03-03T14:30:00Z,{n},{note}" for n, note in enumerate(notes)]
    path = text(tmp_path / "a.csv", "time,price,note", "", *rows, "")
    assert load(store, path)["price"].to_list() == [0, 1, 2, 3]


# -- quotes and trades in one file -----------------------------------------------------------------

BOTH = "time,type,price,size,bid,bid size,ask,ask size"
TRADE = "2025-03-03T14:30:00Z,Trade,10,1,,,,"
QUOTE = "2025-03-03T14:30:01Z,Quote,,,9,1,11,1"


@pytest.mark.parametrize("tick_type", ["last", "all_last", "bid_ask"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_quote_is_no_trade_without_a_price(
    store: ibt.Store, tmp_path: Path, tick_type: str, kind: str
) -> None:
    path = text(tmp_path / "both.csv", BOTH, TRADE, QUOTE)
    if kind == "parquet":
        frame = pl.read_csv(path).with_columns(pl.col(pl.Float64, pl.Int64).cast(pl.Float64))
        path = tmp_path / "both.parquet"
        frame.with_columns(pl.col(pl.Float64).fill_null(float("nan"))).write_parquet(path)
    row = 1 if tick_type == "bid_ask" else 2
    with pytest.raises(errors.InputError, match=f"row {row}.*no {tick_type} tick: divide the file"):
        load(store, path, tick_type)
    result = ibt.import_table(store, path, contract_id=8, tick_type=tick_type, skip_bad=True)
    assert (result.read, result.rejected) == (1, 1)
    assert store.select(8, tick_type).count() == 1


def test_snapshots_with_a_side_missing(store: ibt.Store, tmp_path: Path) -> None:
    rows = ["9,11,10", ",11,10", ",,10"]
    path = text(
        tmp_path / "a.csv", "time,bid,ask,last", *(f"2025-03-03T14:30:00Z,{row}" for row in rows)
    )
    assert load(store, path, "bid_ask")["bid_price"].to_list() == [9, None, None]
    assert load(store, path, "last")["price"].to_list() == [10, 10, 10]


# -- files of selections ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_exported_selection_is_read_back(store: ibt.Store, tmp_path: Path, kind: str) -> None:
    times = [f"2025-03-03T14:30:0{n}.123456789Z" for n in range(4)]
    frame = pa.table(
        {
            "timestamp": times,
            "price": [1.5, -2.0, None, 1e-9],
            "size": [1.0, None, 0.1, 3.0],
            "exchange": ["Q,X", None, 'a"b', "N"],
            "conditions": [["@", "T", "I"], [], None, [" F", "x,y"]],
            "sequence": pa.array([2**63, None, 1, 2], pa.uint64()),
            "past_limit": [True, False, None, True],
            "exchange_time": [times[0], None, None, times[3]],
            "metadata": pa.array(
                [[("correction", "1")], [], None, [("a", '"é'), ("b", "")]],
                pa.map_(pa.string(), pa.string()),
            ),
        }
    )
    store.write(frame, contract_id=7, tick_type="last")
    columns = ["timestamp", "contract_id", "tick_type", *ALL["last"], "past_limit", "exchange_time"]
    selection = store.select(7, "last", columns=columns)
    path = tmp_path / f"ticks.{kind}"
    getattr(selection, f"write_{kind}")(path)
    # Every tick is known again, and another store has them as they were.
    again = ibt.import_table(store, path, tick_type="last")
    assert (again.added, again.known) == (0, 4)
    with ibt.open(tmp_path / "other") as other:
        ibt.import_table(other, path, tick_type="last")
        assert other.select(7, "last", columns=columns).to_arrow() == selection.to_arrow()


@pytest.mark.parametrize("word", ["[1]", "{", '{"a": 1}', "text"])
def test_invalid_metadata(store: ibt.Store, tmp_path: Path, word: str) -> None:
    columns = "timestamp,contract_id,tick_type,price,metadata"
    quoted = word.replace('"', '""')
    path = text(tmp_path / "a.csv", columns, f'2025-03-03T14:30:00Z,7,last,1,"{quoted}"')
    with pytest.raises(errors.InputError, match=r"row 1: column 'metadata' has .* no JSON object"):
        load(store, path)
