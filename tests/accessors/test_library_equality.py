"""The same names, the same arguments and the same numbers in every library."""

from __future__ import annotations

import inspect
from math import isclose
from typing import Any

import numpy as np
import polars as pl
import pytest

from ibticks import Store, analysis
from ibticks.accessors import Ticks
from ibticks.accessors._delegation import library_of, to_polars

from .conftest import IN, OPEN

KINDS = {"polars": pl.DataFrame, "lazy": pl.LazyFrame}
SIGNED = {"method": "lee_ready"}

# Of each measure: the frame it is asked of, and its arguments. ``quotes`` stands for the quotes.
CALLS: dict[str, tuple[str, tuple[Any, ...], dict[Any, Any]]] = {
    "align": ("trades", ("30s",), {}),
    "amihud": ("trades", ("30s",), {}),
    "anchored_twap": ("trades", (), {"market": "US"}),
    "anchored_vwap": ("trades", (), {"market": "US"}),
    "bipower_variation": ("trades", ("10s",), {}),
    "bns_jump_test": ("trades", ("10s",), {}),
    "bollinger_bands": ("trades", (20,), {}),
    "coverage": ("trades", ("1m",), {}),
    "crossed_quotes": ("quotes", (), {}),
    "cumulative_delta": ("trades", ("1m",), {"quotes": "quotes"}),
    "delta": ("trades", ("1m",), {"by_price": True, "step": 0.1, "quotes": "quotes"}),
    "dollar_bars": ("trades", (2e6,), {}),
    "duplicates": ("quotes", (), {}),
    "effective_spread": ("trades", (), {"quotes": "quotes"}),
    "gaps": ("trades", ("2s",), {}),
    "garman_klass": ("bars", (3,), {}),
    "imbalance_bars": ("trades", ("tick",), {"expected_ticks": 20}),
    "intensity": ("trades", ("1m",), {}),
    "interarrival": ("trades", (), {}),
    "kyle_lambda": ("trades", ("1m",), {"quotes": "quotes"}),
    "last_value": ("trades", (pl.Series([OPEN.replace(minute=m) for m in (31, 32)]),), {}),
    "latency": ("arrivals", (), {}),
    "med_rq": ("trades", ("10s",), {}),
    "med_rv": ("trades", ("10s",), {}),
    "merge_same_timestamp": ("trades", (), {"how": "weighted_average"}),
    "microprice": ("quotes", (), {}),
    "mid": ("quotes", (), {}),
    "min_rq": ("trades", ("10s",), {}),
    "min_rv": ("trades", ("10s",), {}),
    "no_zero_prices": ("trades", (), {}),
    "no_zero_quotes": ("quotes", (), {}),
    "order_flow_imbalance": ("quotes", ("1m",), {}),
    "outliers": ("trades", (), {}),
    "parkinson": ("bars", (), {}),
    "preaveraged_rv": ("trades", (0.8,), {}),
    "price_impact": ("trades", ("10s",), {"quotes": "quotes"}),
    "quadpower_quarticity": ("trades", ("10s",), {}),
    "quality_report": ("trades", (), {}),
    "quote_imbalance": ("quotes", (), {}),
    "quoted_spread": ("quotes", ("1m",), {}),
    "quotes_at": ("trades", (), {"quotes": "quotes", "lag": "1s"}),
    "quotes_cleanup": ("quotes", (), {}),
    "realized_kernel": ("trades", (), {}),
    "realized_kurtosis": ("trades", ("10s",), {}),
    "realized_quarticity": ("trades", ("10s",), {}),
    "realized_semivariance": ("trades", ("10s",), {}),
    "realized_skewness": ("trades", ("10s",), {}),
    "realized_spread": ("trades", ("10s",), {"quotes": "quotes"}),
    "realized_variance": ("trades", ("10s",), {"subsamples": 2}),
    "refresh_time": ("trades", (), {}),
    "rm_corrected": ("corrected", (), {}),
    "rm_large_spread": ("quotes", (), {}),
    "rm_negative_spread": ("quotes", (), {}),
    "rm_quote_outliers": ("quotes", (), {}),
    "rm_trade_outliers": ("trades", (), {"quotes": "quotes"}),
    "rogers_satchell": ("bars", (2,), {}),
    "roll_spread": ("trades", ("1m",), {}),
    "rolling_twap": ("trades", ("10s",), {}),
    "rolling_vwap": ("trades", ("10s",), {}),
    "run_bars": ("trades", ("tick",), {"expected_ticks": 20}),
    "sales_condition": ("trades", (["1"],), {}),
    "select_exchange": ("trades", ("P",), {}),
    "session": ("trades", ("regular",), {"market": "US"}),
    "signature": ("trades", (["5s", "30s"],), {}),
    "signed_volume": ("trades", (), {"quotes": "quotes"}),
    "since_open": ("trades", (), {"market": "US"}),
    "spread": ("quotes", (), {"tick_size": 0.01}),
    "staleness": ("quotes", (), {}),
    "threshold_rv": ("trades", ("10s",), {}),
    "tick_bars": ("trades", (25,), {"partial": True}),
    "time_bars": ("trades", ("30s",), {"empty": True}),
    "trade_sign": ("trades", ("emo",), {"quotes": "quotes"}),
    "trades_cleanup": ("trades", (), {"quotes": "quotes"}),
    "trailing_window": ("trades", ("90s",), {}),
    "tripower_quarticity": ("trades", ("10s",), {}),
    "twap": ("trades", (), {}),
    "two_scale_rv": ("trades", (10,), {}),
    "variance_interval": ("trades", ("10s",), {}),
    "volume_bars": ("trades", (9_000,), {}),
    "volume_profile": ("trades", (0.1,), {}),
    "vpin": ("trades", (5_000,), {"window": 2, "bars": "10s"}),
    "vwap": ("trades", (), {}),
    "yang_zhang": ("bars", (3,), {}),
}


@pytest.fixture(scope="session")
def sources(minutes: tuple[pl.DataFrame, pl.DataFrame]) -> dict[Any, Any]:
    trades, quotes = minutes
    behind = pl.col("timestamp").dt.truncate("1s") - pl.duration(seconds=1, time_unit="ns")
    return {
        "trades": trades,
        "quotes": quotes,
        "bars": analysis.time_bars(trades, "20s"),
        "arrivals": trades.with_columns(exchange_time=behind),
        "corrected": trades.with_columns(
            correction=pl.when(pl.col("size") > 100).then(pl.lit("00")).otherwise(pl.lit("08"))
        ),
    }


def plain(frame: pl.DataFrame) -> dict[str, list[Any]]:
    """The values of a frame by column, as Python has them: absent ones None, times as numbers."""
    eager = to_polars(frame).lazy().collect()
    values = {}
    for value in eager:
        if value.dtype.is_temporal():
            value = value.dt.cast_time_unit("ns") if value.dtype != pl.Date else value
            value = value.to_physical()
        elif value.dtype.is_float():
            value = value.fill_nan(None)
        elif value.dtype == pl.Categorical:
            value = value.cast(pl.String)
        values[value.name] = value.to_list()
    return values


def alike(actual: list[Any], true: list[Any]) -> bool:
    """Equal, floats up to the order in which polars adds them: that differs from run to run."""
    return len(actual) == len(true) and all(
        one == other
        or (isinstance(other, float) and one is not None and isclose(one, other, rel_tol=1e-11))
        for one, other in zip(actual, true, strict=True)
    )


def filled(value: Any, quotes: Any) -> Any:
    return quotes if isinstance(value, str) and value == "quotes" else value


def test_every_measure_is_there() -> None:
    assert set(CALLS) == set(analysis.__all__) - {"Incremental"}
    assert set(CALLS) <= set(dir(Ticks))


@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers_in_every_library(
    sources: dict[Any, Any], name: str, library: Any
) -> None:
    source, args, kwargs = CALLS[name]
    second = {key: filled(value, sources["quotes"]) for key, value in kwargs.items()}
    expected = getattr(analysis, name)(sources[source], *args, **second)
    frame = IN[library](sources[source])
    second = {key: filled(value, IN[library](sources["quotes"])) for key, value in kwargs.items()}
    actual = getattr(frame.ticks, name)(*args, **second)
    pairs = (
        zip(actual, expected, strict=True) if isinstance(actual, tuple) else [(actual, expected)]
    )
    for one, true in pairs:
        assert isinstance(one, type(frame))
        values, truth = plain(one), plain(true)
        assert set(values) == set(truth)
        assert next(map(len, truth.values())) > 0
        for column in truth:
            assert alike(values[column], truth[column]), column


@pytest.mark.parametrize("name", CALLS)
def test_methods_are_the_functions_without_their_frame(name: str) -> None:
    function, method = getattr(analysis, name), getattr(Ticks, name)
    first, *others = inspect.signature(function).parameters.values()
    itself, *arguments = inspect.signature(method).parameters.values()
    assert itself.name == "self"
    assert arguments == others
    assert first.name not in {other.name for other in others}
    assert method.__doc__ == function.__doc__
    assert method.__name__ == name
    assert method.__qualname__ == f"Ticks.{name}"


def test_the_accessor_is_the_same_in_every_library(sources: dict[Any, Any]) -> None:
    frames = [put(sources["trades"]) for put in IN.values()]
    assert len({library_of(frame) for frame in frames}) == 3
    assert {type(frame.ticks) for frame in frames} == {Ticks}
    completions = {tuple(dir(frame.ticks)) for frame in frames}
    assert len(completions) == 1
    assert set(CALLS) | {"panel", "plot"} <= set(completions.pop())


@pytest.mark.parametrize("other", IN)
def test_quotes_of_any_library(sources: dict[Any, Any], library: Any, other: str) -> None:
    quotes = IN[other](sources["quotes"])
    signed = IN[library](sources["trades"]).ticks.trade_sign(quotes=quotes)
    expected = analysis.trade_sign(sources["trades"], quotes=sources["quotes"])
    assert plain(signed)["sign"] == expected["sign"].to_list()


def test_a_lazy_frame_is_not_collected(sources: dict[Any, Any]) -> None:
    """The frame of quotes passed to the measure is not collected either."""

    def fail(frame: pl.DataFrame) -> pl.DataFrame:
        raise AssertionError("collected")

    quotes = sources["quotes"].lazy()
    quotes = quotes.map_batches(fail, schema=sources["quotes"].schema)
    signed = sources["trades"].lazy().ticks.trade_sign(quotes=quotes)
    assert isinstance(signed, pl.LazyFrame)
    with pytest.raises(AssertionError, match="collected"):
        signed.collect()


def test_bars_are_made_from_the_store_a_file_at_a_time(sample_store: Store) -> None:
    """Only the columns that bars need are read, and the whole is never in memory."""
    selection = sample_store.select([8314, 990101], "all_last")
    query = selection.lazy().ticks.time_bars("1m")
    assert isinstance(query, pl.LazyFrame)
    assert "PROJECT 4/11 COLUMNS" in query.explain()
    bars = query.collect(engine="streaming")
    expected = selection.to_polars().ticks.time_bars("1m")
    values, truth = plain(bars), plain(expected)
    assert all(alike(values[column], truth[column]) for column in truth)


def test_missing_columns_name_their_tick_types(sources: dict[Any, Any], library: Any) -> None:
    from ibticks.errors import UnknownColumnError

    with pytest.raises(UnknownColumnError, match=r'needs price.*store\.select\(\.\.\., "last"\)'):
        IN[library](sources["quotes"]).ticks.vwap()


def test_nan_of_numpy_is_absent(sources: dict[Any, Any], library: Any) -> None:
    sizes = sources["quotes"].with_columns(bid_size=pl.lit(np.nan))
    assert plain(IN[library](sizes).ticks.microprice())["microprice"].count(None) == sizes.height
