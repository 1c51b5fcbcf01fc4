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
    from ibticks.analysis.anchored import anchored_twap, anchored_vwap
    from ibticks.analysis.bars import time_bars
    from ibticks.analysis.flow import (
        cumulative_delta,
        delta,
        order_flow_imbalance,
        quote_imbalance,
        signed_volume,
    )
    from ibticks.analysis.joins import quotes_at
    from ibticks.analysis.kernels import realized_kernel
    from ibticks.analysis.prices import microprice, mid, spread, twap, vwap
    from ibticks.analysis.ranges import garman_klass, parkinson, rogers_satchell, yang_zhang
    from ibticks.analysis.rolling import bollinger_bands, rolling_twap, rolling_vwap
    from ibticks.analysis.signing import trade_sign
    from ibticks.analysis.toxicity import vpin
    from ibticks.analysis.volatility import (
        bipower_variation,
        realized_variance,
        signature,
        two_scale_rv,
    )
    from ibticks.analysis.volume_profile import volume_profile

__all__ = [
    "anchored_twap",
    "anchored_vwap",
    "bipower_variation",
    "bollinger_bands",
    "cumulative_delta",
    "delta",
    "dollar_bars",
    "garman_klass",
    "imbalance_bars",
    "microprice",
    "mid",
    "order_flow_imbalance",
    "parkinson",
    "quote_imbalance",
    "quotes_at",
    "realized_kernel",
    "realized_variance",
    "rogers_satchell",
    "rolling_twap",
    "rolling_vwap",
    "run_bars",
    "signature",
    "signed_volume",
    "spread",
    "tick_bars",
    "time_bars",
    "trade_sign",
    "twap",
    "two_scale_rv",
    "volume_bars",
    "volume_profile",
    "vpin",
    "vwap",
    "yang_zhang",
]

_HOMES = {
    "activity_bars": "dollar_bars imbalance_bars run_bars tick_bars volume_bars",
    "anchored": "anchored_twap anchored_vwap",
    "bars": "time_bars",
    "flow": "cumulative_delta delta order_flow_imbalance quote_imbalance signed_volume",
    "joins": "quotes_at",
    "kernels": "realized_kernel",
    "prices": "microprice mid spread twap vwap",
    "ranges": "garman_klass parkinson rogers_satchell yang_zhang",
    "rolling": "bollinger_bands rolling_twap rolling_vwap",
    "signing": "trade_sign",
    "toxicity": "vpin",
    "volatility": "bipower_variation realized_variance signature two_scale_rv",
    "volume_profile": "volume_profile",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
