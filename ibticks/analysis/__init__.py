"""The measures of a quant, each written once, on polars frames, eager or lazy alike.

Every function takes ticks with ibticks' columns, as ``store.select(...).to_polars()`` or
``.lazy()`` gives them, and returns a frame of the same kind. Rows are taken in their order of
arrival; contracts that share a frame are kept apart.

Examples
--------
>>> import polars as pl
>>> from ibticks import analysis
>>> from ibticks.sample import sample
>>> trades = pl.read_parquet(sample("ibm_trades").path)
>>> quotes = pl.read_parquet(sample("ibm_quotes").path)
>>> analysis.quotes_at(trades, quotes).select("price", "bid_price", "ask_price").tail(1).rows()
[(179.55, 178.9, 179.55)]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibticks.analysis.activity_bars import (
        dollar_bars,
        imbalance_bars,
        run_bars,
        tick_bars,
        volume_bars,
    )
    from ibticks.analysis.bars import time_bars
    from ibticks.analysis.joins import quotes_at

__all__ = [
    "dollar_bars",
    "imbalance_bars",
    "quotes_at",
    "run_bars",
    "tick_bars",
    "time_bars",
    "volume_bars",
]

_HOMES = {
    "activity_bars": "dollar_bars imbalance_bars run_bars tick_bars volume_bars",
    "bars": "time_bars",
    "joins": "quotes_at",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
