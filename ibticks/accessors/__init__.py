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

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.accessors._accessor import Ticks
    from ibticks.accessors._plotting import Plot

__all__ = ["Plot", "Ticks"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
