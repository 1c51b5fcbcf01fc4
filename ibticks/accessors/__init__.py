"""The measures of :mod:`ibticks.analysis` on the frame at hand: ``frame.ticks.time_bars("1m")``.

``.ticks`` is there on ``pandas.DataFrame``, ``polars.DataFrame``, ``polars.LazyFrame`` and
``xarray.Dataset`` from ``import ibticks`` on, whichever is imported first, and gives back what it
was asked on. It has every measure of :mod:`ibticks.analysis`, windows by session and period, and
plots.

Examples
--------
>>> import ibticks, polars as pl
>>> from ibticks.sample import sample
>>> trades = pl.read_parquet(sample("ibm_trades").path)
>>> trades.ticks.session("regular", market="US").ticks.vwap().row(0)
(179.86..., 5203752.0, 33323)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibticks.accessors._accessor import Ticks
    from ibticks.accessors._plotting import Plot

__all__ = ["Plot", "Ticks"]

_HOME_OF = {"Plot": "plotting", "Ticks": "accessor"}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
