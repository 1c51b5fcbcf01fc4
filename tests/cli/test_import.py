"""``ibticks import``: its options, its summary, and errors in the words of the command line."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ibticks as ibt

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

TWO = "ticker,time,price\nAAA,2025-03-03T14:30:00Z,10\nBBB,2025-03-03T14:30:01.000000001Z,500\n"
PYTHON_ARGUMENT = re.compile(r"\b[a-z_]+=(?=[\s{'.,;:]|$)")


@pytest.fixture
def own(tmp_path: Path, database: str) -> list[Any]:
    """Options for a new store."""
    return ["-s", tmp_path / "ticks", "--dsn", database]


def test_symbols_from_options_and_from_a_file(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(TWO)
    done = cli("import", path, "-t", "last", "--map-symbol", "AAA=11", *own)
    assert done.code == 1
    assert "BBB; give their contracts with --map-symbol 'BBB=ID' or --symbols FILE" in done.err
    symbols = tmp_path / "symbols.csv"
    symbols.write_text("symbol,contract_id,name\nBBB,12,b\n")
    options = ["--map-symbol", "AAA=11", "--symbols", symbols]
    done = cli("import", path, "-t", "last", *options, *own)
    assert done.out.splitlines() == [
        "2 read, 2 added, 0 there already",
        "time: 2025-03-03T14:30:00Z to 2025-03-03T14:30:01.000000001Z",
        "contracts: 11 AAA: 1, 12 BBB: 1",
        "columns: timestamp=time, price=price",
    ]
    with ibt.open(own[1], dsn=own[3]) as store:
        assert store.select("BBB", "last").to_polars()["price"].to_list() == [500]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name,id\nAAA,1\n", "has no columns symbol and contract_id"),
        ("symbol,contract_id\nAAA,one\n", "line 2: 'one' is no contract id"),
        ("symbol,contract_id\nAAA,1\nAAA,2\n", "line 3: AAA is contract 1 already, and now 2"),
    ],
)
def test_files_of_symbols_that_cannot_be_read(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(TWO)
    (tmp_path / "symbols.csv").write_text(content)
    done = cli("import", path, "-t", "last", "--symbols", tmp_path / "symbols.csv", *own)
    assert done.code == 1
    assert says in done.err
    assert cli("import", path, "-t", "last", "--map-symbol", "AAA", *own).code == 2


@pytest.mark.parametrize(
    ("header", "row", "options", "says"),
    [
        ("time,price", "2025-03-03 09:30:00,1", [], "say which with --tz"),
        ("time,price", "342000000000,1", [], "say which with --unit s, ms, us or ns"),
        ("time,price", "03/04/2025 09:30,1", [], "say their format with --format"),
        ("t,price", "2025-03-03T14:30:00Z,1", [], "say which it is with --map timestamp=COLUMN"),
        ("date,price", "2025-03-03,1", [], "--map 'timestamp=DATE+TIME'"),
        ("date,time,price", "20250304,93000,1", [], "(and --format %H%M%S where 93000 is"),
        ("time,price", "2025-03-03T14:30:00Z,1", ["--map", "price=px"], "--map reads price"),
        ("time,price", '2025-03-03T14:30:00Z,"1,234"', [], "--decimal . or --decimal ,"),
        ("time,price", "2025-03-03T14:30:00Z,x", [], "leave such rows out with --skip-bad"),
        ("conid,time,price", "5,2025-03-03T14:30:00Z,1", [], "--contract 1 was given"),
        ("time,time_utc,price", "x,2025-03-03 14:30,1", ["--tz", "Asia/Tokyo"], "leave --tz out"),
    ],
)
def test_errors_name_options(
    cli: Callable[..., Done],
    own: list[Any],
    tmp_path: Path,
    header: str,
    row: str,
    options: list[str],
    says: str,
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(f"{header}\n{row}\n")
    done = cli("import", path, "-c", 1, "-t", "last", *options, *own)
    assert (done.code, done.out) == (1, "")
    assert says in done.err
    assert PYTHON_ARGUMENT.search(done.err) is None


@pytest.mark.parametrize("option", [["--map", "a=b"], ["--tz", "UTC"], ["--skip-bad"]])
def test_options_of_tables_with_messages(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path, option: list[str]
) -> None:
    (tmp_path / "all.jsonl").write_text("")
    done = cli("import", tmp_path / "all.jsonl", *option, *own)
    assert done.code == 2
    assert option[0] in done.err


@pytest.mark.parametrize("name", ["trades.csv", "quotes.parquet"])
def test_a_table_without_a_tick_type(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path, name: str
) -> None:
    done = cli("import", tmp_path / name, *own)
    assert done.code == 2
    for word in ("--type", "last", "all_last", "bid_ask", "mid_point"):
        assert word in done.err


def test_a_table_without_a_contract(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("time,price\n2025-03-03T14:30:00Z,1\n")
    done = cli("import", path, "-t", "last", *own)
    assert done.code == 1
    assert "no column that names the contract of a row: give --contract" in done.err


def test_formats_presets_and_bad_rows(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(
        "Date;TIME_M;PRICE;SIZE;TR_CORR\n"
        "03/04/2025;9:30:00.123456789;1.234,5;1.000;00\n"
        "03/04/2025;9:30:01;1.234,75;2.000;01\n"
        "April;9:30:02;1.234,5;1.000;00\n"
    )
    options = ["--format", "%d/%m/%Y", "--tz", "America/New_York"]
    done = cli("import", path, "-c", 1, "-t", "last", *options, *own)
    assert done.code == 1
    assert "row 3: " in done.err
    assert "the 2 rows before it are stored" in done.err
    rejects = tmp_path / "bad.csv"
    done = cli(
        "import", path, "-c", 1, "-t", "last", *options, "--skip-bad", "--rejects", rejects, *own
    )
    assert done.out.splitlines() == [
        "2 read, 0 added, 2 there already",
        "time: 2025-04-03T13:30:00.123456789Z to 2025-04-03T13:30:01Z",
        "contracts: 1: 2",
        (
            "columns (preset taq): timestamp=Date+TIME_M, price=PRICE, size=SIZE, "
            "metadata.correction=TR_CORR"
        ),
        f"1 rows were left out: see {rejects}",
    ]
    assert rejects.read_text().splitlines()[1].startswith("4,")
    assert cli("import", path, "-c", 1, "-t", "last", "--preset", "x", *own).code == 1


@pytest.mark.parametrize(
    ("header", "rows", "options", "says"),
    [
        (
            "Date,Time,price",
            ["2025-03-03,09:30:00,1", "2025-03-03,09:30:01,1", "2025-03-03,half past,1"],
            ["--tz", "UTC"],
            "say their format with --format (read from 'Date', 'Time')",
        ),
        (
            "time,Px",
            ["2025-03-03T14:30:00Z,1", "2025-03-03T14:30:00Z,x"],
            ["--map", "price=Px"],
            "which character is the decimal mark with --decimal (read from 'Px')",
        ),
        (
            "when,price,Lots",
            ["2025-03-03T14:30:00Z,1,2", "2025-03-03T14:30:00Z,1,-2"],
            ["--map", "timestamp=when", "--map", "size=Lots"],
            "or leave such rows out with --skip-bad (read from 'Lots')",
        ),
    ],
)
def test_reasons_of_bad_rows_name_options_and_columns(
    cli: Callable[..., Done],
    own: list[Any],
    tmp_path: Path,
    header: str,
    rows: list[str],
    options: list[str],
    says: str,
) -> None:
    path, rejects = tmp_path / "trades.csv", tmp_path / "bad.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    rejecting = ["--skip-bad", "--rejects", rejects]
    done = cli("import", path, "-c", 1, "-t", "last", *options, *rejecting, *own)
    assert done.code == 0
    with rejects.open(newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert [says in reason for reason in reasons] == [True]
    assert PYTHON_ARGUMENT.search(reasons[0]) is None
