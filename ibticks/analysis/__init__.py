"""Measures of market microstructure on polars frames, eager or lazy.

A measure takes ticks with ibticks' columns, as ``store.select(...).to_polars()`` or ``.lazy()``
gives them, in their order of arrival, and returns a frame of the same kind; contracts that share a
frame are kept apart. :class:`Incremental` updates a measure with new ticks, at the cost of the new
ones. Users, ``.ticks`` and plots (:mod:`ibticks.accessors`) call the measures.

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

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.analysis._averages import (
        anchored_twap,
        anchored_vwap,
        bollinger_bands,
        rolling_twap,
        rolling_vwap,
    )
    from ibticks.analysis._bars import (
        dollar_bars,
        imbalance_bars,
        run_bars,
        tick_bars,
        time_bars,
        volume_bars,
    )
    from ibticks.analysis._cleaning import quotes_cleanup, trades_cleanup
    from ibticks.analysis._cleaning_rules import (
        merge_same_timestamp,
        no_zero_prices,
        no_zero_quotes,
        rm_corrected,
        rm_large_spread,
        rm_negative_spread,
        rm_quote_outliers,
        rm_trade_outliers,
        sales_condition,
        select_exchange,
    )
    from ibticks.analysis._costs import (
        effective_spread,
        price_impact,
        quoted_spread,
        realized_spread,
    )
    from ibticks.analysis._durations import (
        coverage,
        gaps,
        intensity,
        interarrival,
        latency,
        staleness,
    )
    from ibticks.analysis._flow import (
        cumulative_delta,
        delta,
        order_flow_imbalance,
        quote_imbalance,
        signed_volume,
    )
    from ibticks.analysis._incremental.incremental import Incremental
    from ibticks.analysis._joins import align, last_value, quotes_at, refresh_time
    from ibticks.analysis._jumps import bns_jump_test
    from ibticks.analysis._liquidity import amihud, kyle_lambda, roll_spread, vpin
    from ibticks.analysis._prices import microprice, mid, spread, twap, volume_profile, vwap
    from ibticks.analysis._quality import crossed_quotes, duplicates, outliers, quality_report
    from ibticks.analysis._quarticity import (
        med_rq,
        min_rq,
        quadpower_quarticity,
        realized_quarticity,
        tripower_quarticity,
        variance_interval,
    )
    from ibticks.analysis._range_volatility import (
        garman_klass,
        parkinson,
        rogers_satchell,
        yang_zhang,
    )
    from ibticks.analysis._realized_kernel import realized_kernel
    from ibticks.analysis._realized_moments import (
        realized_kurtosis,
        realized_semivariance,
        realized_skewness,
    )
    from ibticks.analysis._robust_volatility import (
        med_rv,
        min_rv,
        preaveraged_rv,
        threshold_rv,
    )
    from ibticks.analysis._signing import trade_sign
    from ibticks.analysis._volatility import (
        bipower_variation,
        realized_variance,
        signature,
        two_scale_rv,
    )
    from ibticks.analysis._windows import session, since_open, trailing_window

__all__ = [
    "Incremental",
    "align",
    "amihud",
    "anchored_twap",
    "anchored_vwap",
    "bipower_variation",
    "bns_jump_test",
    "bollinger_bands",
    "coverage",
    "crossed_quotes",
    "cumulative_delta",
    "delta",
    "dollar_bars",
    "duplicates",
    "effective_spread",
    "gaps",
    "garman_klass",
    "imbalance_bars",
    "intensity",
    "interarrival",
    "kyle_lambda",
    "last_value",
    "latency",
    "med_rq",
    "med_rv",
    "merge_same_timestamp",
    "microprice",
    "mid",
    "min_rq",
    "min_rv",
    "no_zero_prices",
    "no_zero_quotes",
    "order_flow_imbalance",
    "outliers",
    "parkinson",
    "preaveraged_rv",
    "price_impact",
    "quadpower_quarticity",
    "quality_report",
    "quote_imbalance",
    "quoted_spread",
    "quotes_at",
    "quotes_cleanup",
    "realized_kernel",
    "realized_kurtosis",
    "realized_quarticity",
    "realized_semivariance",
    "realized_skewness",
    "realized_spread",
    "realized_variance",
    "refresh_time",
    "rm_corrected",
    "rm_large_spread",
    "rm_negative_spread",
    "rm_quote_outliers",
    "rm_trade_outliers",
    "rogers_satchell",
    "roll_spread",
    "rolling_twap",
    "rolling_vwap",
    "run_bars",
    "sales_condition",
    "select_exchange",
    "session",
    "signature",
    "signed_volume",
    "since_open",
    "spread",
    "staleness",
    "threshold_rv",
    "tick_bars",
    "time_bars",
    "trade_sign",
    "trades_cleanup",
    "trailing_window",
    "tripower_quarticity",
    "twap",
    "two_scale_rv",
    "variance_interval",
    "volume_bars",
    "volume_profile",
    "vpin",
    "vwap",
    "yang_zhang",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__, renamed={"last": "trailing_window", "roll": "roll_spread"}
    )
