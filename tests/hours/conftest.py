"""Hour files of real ticks in a folder, without a store."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import ibticks as ibt
from ibticks.sample import sample

NAMES = ("ibm_quotes", "ibm_trades", "btcusdt_trades")


@pytest.fixture(scope="session")
def written_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three streams of real ticks; only to be read."""
    folder = tmp_path_factory.mktemp("hours") / "ticks"
    for name in NAMES:
        source = sample(name)
        with ibt.HourWriter(folder, source.contract_id, source.tick_type) as writer:
            writer.write(recorded(name))
    return folder


@pytest.fixture
def quotes_file(written_folder: Path, tmp_path: Path) -> Path:
    """A copy of an hour of IBM quotes, under a name that does not state its stream."""
    path = tmp_path / "quotes.pb"
    path.write_bytes((written_folder / QUOTES_HOUR).read_bytes())
    return path


QUOTES_HOUR = "8314/bid_ask/2013/10/08/14_ticks.pb"
"""An hour of some thousand quotes."""

COLUMNS = {
    "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size"),
    "all_last": ("price", "size"),
}


def recorded(name: str) -> pl.DataFrame:
    """The numbers of a sample, as Parquet has them, with the columns of a tick."""
    frame = pl.read_parquet(sample(name).path)
    return frame.select("timestamp", *COLUMNS[sample(name).tick_type])


def in_hour(frame: pl.DataFrame, hour: int) -> pl.DataFrame:
    """The rows of one UTC hour of a day."""
    return frame.filter(pl.col("timestamp").dt.hour() == hour)
