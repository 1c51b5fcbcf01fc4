"""``ibticks load``: printed and written rows equal the selection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from ibticks.frames import from_arrow, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Store
    from tests.cli.conftest import Done

SESSION = ["--session", "regular", "--date", "2013-10-08"]


def test_the_first_and_the_last_rows(cli: Callable[..., Done], sample: Store) -> None:
    done = cli("load", "IBM", "all_last", *SESSION, "--rows", 4)
    assert done.code == 0
    title, header, _, *rows = [line.split() for line in done.out.splitlines()]
    assert title[:2] == ["8314", "all_last"]
    assert header == ["timestamp", "price", "size", "exchange", "conditions"]
    assert len(rows) == 5
    assert rows[0][1:4] == ["13:30:03.268", "181.89", "184"]
    assert rows[2][0] == "…"
    assert rows[-1][1:] == ["19:59:59.870", "178.81", "112", "J", "1"]
    assert done.err.startswith("33,323 ticks in ")


@pytest.mark.parametrize(("rows", "shown"), [(0, 0), (1, 1), (2, 3), (9, 10), (100, 33)])
def test_the_rows_option(cli: Callable[..., Done], sample: Store, rows: int, shown: int) -> None:
    """A gap is a row; where all fit there is none."""
    done = cli("load", "IBM", "all_last", "1h", "--now", "2013-10-08T13:31:02Z", "--rows", rows)
    actual = int(done.err.split()[0])
    lines = done.out.splitlines()[3:]
    expected = actual if rows >= actual else rows + (rows > 1)
    assert len(lines) == expected
    assert (rows, len(lines)) in {(0, 0), (1, 1), (2, 3), (9, 10)} or rows == 100


def test_json(cli: Callable[..., Done], sample: Store) -> None:
    done = cli("load", "btcusdt", "all_last,bid_ask", "2s", "--now", "last_tick", "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    frame = sample.select("btcusdt", ["all_last", "bid_ask"], "2s", now="last_tick").to_polars()
    assert len(rows) == len(frame) > 50
    assert list(rows[0]) == frame.columns
    times = frame["timestamp"].dt.epoch("ns").to_list()
    read = pl.Series([row["timestamp"] for row in rows]).str.to_datetime(time_unit="ns")
    assert read.dt.epoch("ns").to_list() == times
    for name in ("contract_id", "tick_type", "price", "bid_price", "conditions", "sequence"):
        assert [row[name] for row in rows] == frame[name].to_list()


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_files_with_every_type(
    cli: Callable[..., Done], sample: Store, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"ticks.{suffix}"
    done = cli("load", "IBM", "all_last", *SESSION, "-o", path)
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith(f"written to {path}\n")
    table = pq.read_table(path) if suffix == "parquet" else feather.read_table(path)
    selection = sample.select("IBM", "all_last", date="2013-10-08")
    assert table.equals(selection.to_arrow())
    details = metadata_of(selection.with_columns("timestamp").to_arrow())
    assert metadata_of(table)["selection"] == details["selection"]
    assert from_arrow(table).rows == 33323


def test_csv(cli: Callable[..., Done], sample: Store, tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    columns = "timestamp,price,size,exchange,conditions,sequence,stream_id,metadata"
    done = cli("load", "ibm", "all_last", *SESSION, "-o", path, "--columns", columns)
    assert done.code == 0
    csv = pl.read_csv(path, schema_overrides={"conditions": pl.String, "metadata": pl.String})
    frame = sample.select("ibm", "all_last", date="2013-10-08").to_polars()
    times = csv["timestamp"].str.to_datetime(time_unit="ns", time_zone="UTC")
    assert times.equals(frame["timestamp"])
    for name in ("price", "size", "exchange", "sequence"):
        assert csv[name].to_list() == frame[name].to_list()
    assert csv["conditions"].to_list() == frame["conditions"].list.join(";").to_list()
    assert set(csv["stream_id"]) == {"import"}
    assert csv["metadata"].null_count() == csv.height


def test_a_csv_can_be_imported_again(
    cli: Callable[..., Done], sample: Store, own: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "ticks.csv"
    cli("load", "btcusdt", "all_last", "-o", path)
    result = cli("import", path, "-c", 990101, "-t", "all_last", *own, "--json").json
    assert (result["added"], result["ignored"]) == (19904, [])
    # As the store it came from would have it: to the last nanosecond, every field.
    again = cli("import", path, "-c", 990101, "-t", "all_last", "-s", sample.root, "--json").json
    assert (again["added"], again["known"]) == (0, 19904)


def test_every_form_of_time_range(cli: Callable[..., Done], sample: Store) -> None:
    def count(*options: str | int) -> int:
        done = cli("load", "IBM", "all_last", *options, "--rows", 0)
        return int(done.err.split()[0].replace(",", ""))

    assert count() == 33381
    assert count(*SESSION, "--market", "US") == 33323
    assert count("--start", "2013-10-08 09:30", "--end", "2013-10-08 16:00", "--tz", "US/Eastern")
    assert count("--sessions", 1, "--now", "2013-10-09T00:00Z") == 33323
    assert count("since_open", "--now", "2013-10-08T20:00:00Z") == 33323
    assert count("last_15_minutes", "--now", "2013-10-08 16:00", "--tz", "America/New_York") == 3107
    assert count("1s", "--now", "last_tick") == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["AAPL"], "no contract with the symbol 'AAPL' in this store; it has IBM (8314, "),
        ([""], "no contract is given"),
        (["IBM", "trades"], "unknown tick type 'trades': use one of last, all_last"),
        (["IBM", "last", "last_fortnight"], "Periods are last_minute, "),
        (["IBM", "--start", "2013-10-08 10:00"], "say which zone is meant"),
        (
            ["IBM", "--start", "2013-10-08T00:00Z", "--end", "2013-10-07T00:00Z"],
            "half-open, [start, end)",
        ),
        (["IBM", "--columns", "prize"], "unknown column 'prize'"),
        (["IBM", "--columns", ","], "no column is given"),
        (["IBM", "--date", "2013-10-05"], "the next one is Monday 2013-10-07"),
        (["IBM", "last", "1h", "--sessions", "2"], "time is given twice"),
        (["[/red]"], "no contract with the symbol '[/red]'"),
        (["IBM", "-o", "ticks.xlsx"], "use .csv, .parquet, .arrow"),
        (["IBM", "-o", "ticks"], "a file without a suffix"),
        (
            ["IBM", "-o", "/none/ticks.csv"],
            "No such file or directory while writing /none/ticks.csv",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_invalid_selections(
    cli: Callable[..., Done], sample: Store, arguments: list[str], says: str
) -> None:
    done = cli("load", *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert says in done.err


def test_nothing_to_load(cli: Callable[..., Done], sample: Store, tmp_path: Path) -> None:
    nothing = ["load", "IBM", "all_last", "1h", "--now", "2001-01-01T00:00Z"]
    done = cli(*nothing)
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("0 ticks in ")
    assert cli(*nothing, "--json").code == 4
    done = cli(*nothing, "-o", tmp_path / "none.parquet")
    assert done.code == 4
    table = pq.read_table(tmp_path / "none.parquet")
    assert table.schema.names == list(sample.select("IBM", "all_last").columns)


def test_an_empty_load_lists_the_stored_days(cli: Callable[..., Done], sample: Store) -> None:
    done = cli("load", "IBM", "all_last", "1h")
    assert (done.code, done.out) == (4, "")
    assert done.err.endswith(
        "; IBM all_last has 2013-10-08; --now last_tick counts back from there\n"
    )
    assert done.err.startswith("0 ticks in ")
