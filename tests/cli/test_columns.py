"""``ibticks columns``: build, list and delete companions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done

PATHS = [f"columns/8314/last/2025/01/{day}.parquet" for day in (10, 11)]


@pytest.fixture
def trades(cli: Callable[..., Done], own: list[Any], tmp_path: Path) -> Any:
    """Options of a store with a trade on each of two days."""
    file = tmp_path / "trades.csv"
    file.write_text("time,price\n2025-01-10T14:00:00Z,1\n2025-01-11T14:00:00Z,2\n")
    assert cli("import", file, "-c", 8314, "-t", "last", "--symbol", "IBM", *own).code == 0
    return own


def test_columns(cli: Callable[..., Done], trades: Any) -> None:
    done = cli("columns", "build", "IBM", "last", "--start", "2025-01-11T00:00Z", *trades)
    assert done.code == 0
    assert done.out.startswith("1 files, 1 ticks")
    assert cli("columns", "build", *trades, "--json").json["files"] == PATHS[:1]
    rows = cli("columns", "ls", *trades, "--json").json
    assert [(row["path"], row["fresh"]) for row in rows] == [(path, True) for path in PATHS]
    listing = cli("columns", "ls", *trades).out
    assert "2025-01-10" in listing
    assert "yes" in listing
    again = cli("columns", "build", "--rebuild", *trades, "--json").json
    assert (again["files"], again["rows"]) == (PATHS, 2)
    assert pl.read_parquet(trades[1] / PATHS[0])["price"].to_list() == [1.0]
    assert cli("columns", "rm", "8314", *trades, "--json").json == {"deleted": PATHS}
    assert cli("columns", "rm", *trades).out == "0 files deleted\n"
