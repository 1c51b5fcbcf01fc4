from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from ibticks.accessors._datasets import to_dataset
from ibticks.accessors._delegation import to_arrow
from ibticks.frames import _schema as schema
from ibticks.frames import to_pandas
from ibticks.sample import sample

OPEN = datetime(2013, 10, 8, 13, 30, tzinfo=UTC)
IN = {
    "polars": lambda ticks: ticks,
    "lazy": lambda ticks: ticks.lazy(),
    "pandas": lambda ticks: to_pandas(to_arrow(ticks)),
    "xarray": lambda ticks: to_dataset(to_arrow(ticks), attributes={}),
}


@pytest.fixture(autouse=True)
def no_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    """Titles do not depend on what other tests have loaded."""
    monkeypatch.setattr(schema, "_SYMBOLS", {})


@pytest.fixture(params=IN)
def library(request: pytest.FixtureRequest) -> Any:
    """Each library in turn, by the name in ``IN``."""
    return request.param


def of_two(ticks: pl.DataFrame) -> pl.DataFrame:
    """The same ticks as of two contracts, in one frame by time."""
    first = ticks.with_columns(contract_id=pl.lit(8314, pl.UInt32))
    times = pl.col("timestamp") + pl.duration(milliseconds=1, time_unit="ns")
    second = ticks.with_columns(times, contract_id=pl.lit(4815, pl.UInt32))
    return pl.concat([first, second]).sort("timestamp", maintain_order=True)


def read(name: str) -> pl.DataFrame:
    ticks = pl.read_parquet(sample(name).path).drop("suspicious", strict=False)
    if "conditions" in ticks.columns:
        ticks = ticks.with_columns(
            pl.col("exchange").cast(pl.Categorical),
            pl.col("conditions").str.split(";"),
            pl.col("size").cast(pl.Float64),
        )
    return ticks


@pytest.fixture(scope="session")
def day() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Trades and quotes of IBM, one day."""
    return read("ibm_trades"), read("ibm_quotes")


@pytest.fixture(scope="session")
def minutes(day: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Trades and quotes of two contracts, for the four minutes from the opening."""
    near = pl.col("timestamp").is_between(OPEN, OPEN.replace(minute=34))
    trades, quotes = (of_two(ticks.filter(near)) for ticks in day)
    return trades, quotes


@pytest.fixture(scope="session")
def week(day: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[Any, ...]:
    """Trades and quotes of eight days over two weeks, each the same day but for its level."""
    return tuple(
        pl.concat(
            ticks.gather_every(4).with_columns(
                pl.col("timestamp") + pl.duration(days=days, time_unit="ns"),
                pl.col("^.*price$") * (1 + days / 99),
            )
            for days in (0, 1, 2, 3, 6, 7, 8, 9)
        )
        for ticks in day
    )
