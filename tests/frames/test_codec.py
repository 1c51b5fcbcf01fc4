"""Columns made of a user's table go through the codec unchanged, in read-only memory, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.format._decode import decode
from ibticks.format._encode import encode
from ibticks.frames import from_arrow, to_pandas, to_polars, to_table
from ibticks.tables import read_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import polars as pl


@pytest.mark.parametrize("through", [to_polars, to_pandas])
@pytest.mark.parametrize(
    ("name", "tick_type"),
    [("ibm_20131007.quotes", "bid_ask"), ("ibm_20131007.trades", "all_last")],
)
def test_a_real_table_survives_encoding(
    real: Path,
    rows: Callable[..., list[dict[Any, Any]]],
    name: str,
    tick_type: str,
    through: Callable[..., pl.DataFrame] | Callable[..., pd.DataFrame],
) -> None:
    (batch,) = read_batches(real / f"{name}.parquet", tick_type=tick_type, contract_id=8314)
    names = list(batch.columns)
    read = decode(encode(from_arrow(through(to_table([batch], names)))), names)
    assert rows(read) == rows(batch)
    assert to_table([read], names).equals(to_table([batch], names))
