"""Sides that IB sends for "none", quotes of 0 by 0, mids of 0, negative prices: one tick is one."""

from __future__ import annotations

import math
import sys
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ibticks import analysis
from ibticks.analysis import Incremental

from .frames import both, made, real

UNSET = {
    "integer": 2147483647.0,
    "long": float(2**63 - 1),
    "decimal": float(2**127 - 1),
    "double": sys.float_info.max,
    "infinity": math.inf,
    "NaN": math.nan,
}
# Bid and its size, where the side is none.
NO_SIDE = {
    "minus one": (-1.0, 0.0),
    "zero": (0.0, 0.0),
    "minus one of an unset size": (-1.0, 2147483647.0),
    "unset price": (sys.float_info.max, 0.0),
    "NaN": (math.nan, 5.0),
    "null": (None, None),
}
CALM = {"bid_price": 10.0, "bid_size": 5.0, "ask_price": 10.02, "ask_size": 5.0}


def quote(
    ns: int,
    bid: float | None = 10.0,
    bid_size: float | None = 5.0,
    ask: float | None = 10.02,
    ask_size: float | None = 5.0,
) -> dict[Any, Any]:
    sizes = {"bid_size": bid_size, "ask_size": ask_size}
    return {"ns": ns, "bid_price": bid, "ask_price": ask, **sizes}


def trade(ns: int, price: float = 9.9, size: float = 1.0) -> dict[Any, Any]:
    return {"ns": ns, "price": price, "size": size}


@pytest.mark.parametrize("side", NO_SIDE)
def test_absent_sides(side: str) -> None:
    price, size = NO_SIDE[side]
    frame = made(
        [
            quote(0),
            trade(1),
            quote(2, price, size),
            trade(3),
            quote(4, ask=price, ask_size=size),
            trade(5),
            quote(6, price, size, price, size),
            trade(7),
        ]
    ).with_columns(
        tick_type=pl.when(pl.col("price").is_null())
        .then(pl.lit("bid_ask"))
        .otherwise(pl.lit("last"))
    )
    assert both(analysis.mid, frame)["mid"].to_list() == [10.01, *[None] * 7]
    spreads = both(analysis.spread, frame)
    assert spreads["spread"].null_count() == spreads["relative_spread"].null_count() == 7
    assert both(analysis.microprice, frame)["microprice"].null_count() == 7
    signs = both(lambda f: analysis.trade_sign(f, "quote"), frame)["sign"].to_list()
    assert signs == [-1, 0, 0, 0]
    quotes, trades = (frame.filter(tick_type=kind) for kind in ("bid_ask", "last"))
    two = both(lambda t, q: analysis.trade_sign(t, "quote", quotes=q), trades, quotes)
    assert two["sign"].to_list() == signs
    combined = both(lambda f: analysis.quotes_at(f), frame)
    assert combined["bid_price"].to_list() == [10.0, None, 10.0, None]
    assert combined["ask_price"].to_list() == [10.02, 10.02, None, None]
    assert combined["mid"].to_list() == [10.01, None, None, None]
    assert both(analysis.effective_spread, frame)["effective_spread"].null_count() == 3
    cost = both(analysis.quoted_spread, frame.drop("tick_type"))
    assert cost["quoted_spread"].item() == pytest.approx(0.02)
    assert cost["quotes"].item() == 1
    bars = both(lambda f: analysis.time_bars(f, "1m", of="quotes"), frame)
    assert bars.select("bid_low", "ask_low", "mid_low").row(0) == (10.0, 10.02, 10.01)
    flow = both(analysis.order_flow_imbalance, frame)["order_flow_imbalance"]
    assert flow.null_count() == 4
    assert both(analysis.quote_imbalance, quotes)["quote_imbalance"].to_list() == [0.0, *[None] * 3]
    assert both(analysis.no_zero_quotes, quotes).height == 1
    assert both(analysis.crossed_quotes, quotes).select("crossed", "locked").sum().row(0) == (0, 0)
    assert analysis.quality_report(quotes).select("one_sided", "not_positive").row(0) == (3, 0)
    cleaned = analysis.quotes_cleanup(quotes).ticks
    assert cleaned.select(*CALM).row(0) == tuple(CALM.values())


@pytest.mark.parametrize("name", ["quotes_at", "effective_spread", "trade_sign", "mid"])
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_absent_sides_in_blocks(name: str, pieces: int) -> None:
    rows = [quote(0), quote(1, -1.0, 0.0, -1.0, 0.0), trade(2), quote(3, 0.0, 0.0), trade(4)]
    rows += [quote(5), trade(6), quote(7, None, None, None, None), trade(8)]
    types = ["last" if "price" in row else "bid_ask" for row in rows]
    frame = made(rows).with_columns(tick_type=pl.Series(types))
    measure = Incremental(name)
    actual = pl.concat([measure.update(piece) for piece in frame.iter_slices(pieces)])
    assert_frame_equal(actual, getattr(analysis, name)(frame))


@pytest.mark.parametrize("unset", UNSET)
def test_unset_sizes(unset: str) -> None:
    size = UNSET[unset]
    frame = made([quote(0, bid_size=size), trade(1, 10.0, size), trade(2, 11.0, 3.0)])
    assert both(analysis.microprice, frame)["microprice"].null_count() == 3
    assert both(analysis.mid, frame)["mid"][0] == 10.01
    assert both(analysis.quote_imbalance, frame)["quote_imbalance"].to_list() == [None]
    assert both(analysis.vwap, frame).select("vwap", "volume").row(0) == (11.0, 3.0)
    volumes = both(lambda f: analysis.signed_volume(f, method="tick"), frame)
    assert volumes["signed_volume"].abs().to_list() == [0.0, 3.0]
    for rolling in (lambda f: analysis.rolling_vwap(f, "1m"), analysis.anchored_vwap):
        assert both(rolling, frame)["vwap"].to_list() == [None, None, 11.0]
    assert analysis.volume_bars(frame, 2.0)["count"].to_list() == [2]
    assert analysis.merge_same_timestamp(frame)["size"].to_list() == [0.0, 3.0]


@pytest.mark.parametrize(("price", "size"), [(0.0, 0.0), (-1.0, 0.0), (2147483647.0, 1.0)])
def test_absent_trades(price: float, size: float) -> None:
    frame = made([trade(0, 10.0), trade(1, price, size), trade(2, 11.0)])
    assert both(analysis.vwap, frame).select("vwap", "count").row(0) == (10.5, 2)
    assert both(lambda f: analysis.time_bars(f, "1m"), frame)["low"].to_list() == [10.0]
    assert both(analysis.realized_variance, frame)["returns"].item() == 1
    bands = both(lambda f: analysis.bollinger_bands(f, 2), frame)
    assert bands["bollinger_middle"].to_list() == [10.0, None, 10.5]
    assert analysis.last_value(frame, frame["timestamp"])["price"].to_list() == [10.0, 10.0, 11.0]


def test_a_price_of_minus_one_with_a_size_is_a_price() -> None:
    """A futures spread may well be quoted at -1, or at 0 on one side."""
    frame = made([quote(0, -1.0, 5.0, 0.0, 5.0), trade(1, -1.0, 2.0)])
    assert analysis.mid(frame)["mid"][0] == -0.5
    assert analysis.trade_sign(frame, "quote")["sign"].to_list() == [-1]
    assert analysis.no_zero_prices(frame)["price"].to_list() == [-1.0]
    # Without sizes the prices cannot be detected as absent.
    assert analysis.mid(frame.drop("bid_size", "ask_size"))["mid"][0] == -0.5


BAD = {
    "0 by 0": (0.0, 0.0),
    "a mid of 0": (-0.01, 0.01),
    "unset": (sys.float_info.max, sys.float_info.max),
    "NaN": (math.nan, math.nan),
}


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_quote_does_not_change_averages(bad: str) -> None:
    bid, ask = BAD[bad]
    calm = [quote(second * 10**9) for second in range(50)]
    frame = made([*calm, quote(50 * 10**9, bid, 1.0, ask, 1.0), quote(51 * 10**9)])
    frame = frame.with_columns(tick_type=pl.lit("bid_ask"))
    for measure in (
        analysis.quoted_spread,
        lambda f: analysis.quoted_spread(f, "1h"),
        lambda f: analysis.quoted_spread(f, "10s"),
    ):
        actual = both(measure, frame)
        for name in ("relative_quoted_spread", "relative_time_weighted_spread"):
            assert actual[name].drop_nulls().to_list() == pytest.approx(
                [0.02 / 10.01] * actual[name].count(), rel=1e-9
            )
    relative = both(analysis.spread, frame)["relative_spread"]
    assert (relative.null_count(), relative[50]) == (1, None)
    trades = made([trade(50 * 10**9 + 1, 0.01)])
    for measure in (analysis.effective_spread, analysis.realized_spread, analysis.price_impact):
        arguments: dict[str, Any] = (
            {} if measure is analysis.effective_spread else {"horizon": "1ns"}
        )
        actual = measure(trades, quotes=frame, **arguments)
        assert actual[actual.columns[-1]].to_list() == [None]


def test_an_empty_quote_signs_no_trade() -> None:
    frame = made([quote(0, 0.0, 1.0, 0.0, 1.0), trade(1, 10.0)])
    assert analysis.trade_sign(frame)["sign"].to_list() == [0]
    assert analysis.mid(frame)["mid"].to_list() == [None, None]


OIL = [10.0, 1.0, -37.63, -13.1, 1.0, 10.0]


def oil(**more: Any) -> pl.DataFrame:
    rows = [{**trade(second * 10**9, price), **more} for second, price in enumerate(OIL)]
    return made(rows)


OF_RETURNS = {
    "realized_variance": analysis.realized_variance,
    "realized_variance sampled": lambda f: analysis.realized_variance(f, "2s"),
    "realized_variance on grids": lambda f: analysis.realized_variance(f, "2s", subsamples=2),
    "bipower_variation": analysis.bipower_variation,
    "bipower_variation sampled": lambda f: analysis.bipower_variation(f, "1s"),
    "two_scale_rv": lambda f: analysis.two_scale_rv(f, 2),
    "med_rv": analysis.med_rv,
    "min_rv sampled": lambda f: analysis.min_rv(f, "1s"),
    "threshold_rv": analysis.threshold_rv,
    "preaveraged_rv": analysis.preaveraged_rv,
    "realized_semivariance": analysis.realized_semivariance,
    "realized_skewness": analysis.realized_skewness,
    "realized_kurtosis sampled": lambda f: analysis.realized_kurtosis(f, "2s"),
    "quadpower_quarticity": analysis.quadpower_quarticity,
    "variance_interval": analysis.variance_interval,
    "bns_jump_test": lambda f: analysis.bns_jump_test(f, estimator="min_rv", quarticity="min_rq"),
    "realized_kernel": lambda f: analysis.realized_kernel(f, bandwidth=1),
    "signature": lambda f: analysis.signature(f, ["1s", "6s"]),
}


@pytest.mark.parametrize("name", OF_RETURNS)
def test_no_log_return_of_negative_prices(name: str) -> None:
    """Null for the contract, also where a negative price lies between two samples."""
    measure = OF_RETURNS[name]
    other = oil(contract_id=2).with_columns(pl.col("price").abs())
    actual = both(measure, pl.concat([oil(), other]))
    value = actual.columns[2] if name == "signature" else actual.columns[1]
    negative = actual.filter(contract_id=1)
    assert negative[value].null_count() == negative.height == actual.height / 2
    assert negative["returns"].null_count() == negative.height
    assert_frame_equal(actual.filter(contract_id=2), measure(other))
    assert both(measure, oil())[value].null_count() == negative.height


@pytest.mark.parametrize("rows", [1, 2, 3, 6])
def test_no_log_return_of_negative_prices_in_blocks(rows: int) -> None:
    variance = Incremental("realized_variance")
    for piece in oil().iter_slices(rows):
        actual = variance.update(piece)
    assert actual.select("realized_variance", "returns").row(0) == (None, None)


def test_zero_prices_are_left_out_of_returns() -> None:
    frame = made([trade(0, 10.0), trade(1, 0.0, 5.0), trade(2, 11.0)])
    actual = analysis.realized_variance(frame)
    assert actual["realized_variance"].item() == pytest.approx(math.log(1.1) ** 2)
    assert actual["returns"].item() == 1


def test_amihud_leaves_out_returns_that_do_not_exist() -> None:
    """Six bars have one change from a price above 0 to another: the fifth to the sixth."""
    frame = oil().filter(pl.col("price") != 10.0)
    more = pl.concat([frame, made([trade(9 * 10**9, 2.0, 4.0)])])
    actual = both(lambda f: analysis.amihud(f, "1s"), more)
    assert actual["observations"].item() == 1
    assert actual["amihud"].item() == pytest.approx(1 / 8)


def test_ranges_do_not_bridge_a_negative_bar() -> None:
    bar = {"open": [10.0, -1.0, 12.0, 12.5, 12.0, 12.2], "high": [11.0, -0.5, 13.0, 13.0, 12.9, 13]}
    bar |= {"low": [9.0, -2.0, 11.0, 12.0, 11.5, 12], "close": [10.5, -1.5, 12.5, 12.2, 12.6, 12.4]}
    bars = pl.DataFrame(bar)
    after = both(analysis.yang_zhang, bars[2:])
    whole = both(analysis.yang_zhang, bars)
    assert whole["yang_zhang"].item() == pytest.approx(after["yang_zhang"].item(), rel=1e-12)
    assert whole["bars"].item() == 5
    assert analysis.parkinson(bars)["bars"].item() == 5


def test_negative_quotes_are_quotes() -> None:
    rows = [quote(ns, -37.63 + ns / 100, 5.0, -37.6 + ns / 100, 5.0) for ns in range(5)]
    frame = made(rows)
    assert both(analysis.no_zero_quotes, frame).height == 5
    assert analysis.quotes_cleanup(frame).ticks.height == 5
    spread = both(analysis.quoted_spread, frame)
    assert spread["relative_quoted_spread"].item() == pytest.approx(0.03 / 37.595, rel=1e-3)
    assert both(analysis.spread, frame)["relative_spread"].min() > 0
    paid = both(analysis.effective_spread, made([*rows, trade(9, -37.5)]))
    assert paid["relative_effective_spread"].item() > 0


def test_real_quotes_have_no_absent_sides() -> None:
    quotes = real("ibm_quotes")
    assert analysis.mid(quotes)["mid"].null_count() == 0
    assert analysis.no_zero_quotes(quotes).height == quotes.height
