"""Measures as methods of a frame: ``frame.ticks.time_bars("1m")``.

``import ibticks`` adds ``.ticks`` to ``pandas.DataFrame``, ``polars.DataFrame``,
``polars.LazyFrame`` and ``xarray.Dataset``, whichever is imported first. Methods take the arguments
of the functions of :mod:`ibticks.analysis` and return a frame of the same library; ``.ticks.plot``
draws, ``.ticks.panel`` makes datasets. :func:`ticks` is the same with types.

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
    from ibticks.accessors._registration import ticks

__all__ = ["Plot", "Ticks", "ticks"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
