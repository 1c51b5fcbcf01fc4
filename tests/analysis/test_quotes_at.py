"""The quote in force at each trade."""

from __future__ import annotations

from functools import partial
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks.analysis import quotes_at
from ibticks.errors import InputError, UnknownColumnError, UnknownPeriodError

from .frames import PATIENT, both, is_number, made, real, rows_of, ticks, together

SIDES = ("bid_price", "bid_size", "ask_price", "ask_size")


def slowly(
    trades: pl.DataFrame,
    quotes: pl.DataFrame | None,
    *,
    lag_ns: int = 0,
    tolerance_ns: Any = None,
    strict: bool = False,
) -> list[list[dict[Any, Any] | None]]:
    """The definition, trade by trade; ``quotes`` is None if they are among the trades."""
    actual = []
    candidates = rows_of(trades if quotes is None else quotes)
    for place, trade in enumerate(rows_of(trades)):
        if not is_number(trade["price"]):
            continue
        latest = trade["ns"] - lag_ns
        in_force = None
        for other, quote in enumerate(candidates):
            if not (is_number(quote["bid_price"]) or is_number(quote["ask_price"])):
                continue
            if quote.get("contract_id") != trade.get("contract_id"):
                continue
            if quotes is None and not lag_ns and not strict:
                arrived = other < place
            else:
                arrived = quote["ns"] < latest or (quote["ns"] == latest and not strict)
            if arrived:
                in_force = quote
        if in_force and tolerance_ns is not None and latest - in_force["ns"] > tolerance_ns:
            in_force = None
        actual.append([in_force and in_force[name] for name in SIDES])
    return actual


def _absent(wanted: Any, frame: pl.DataFrame) -> pl.DataFrame:
    """The sides of quotes, null where they are NaN."""
    return pl.DataFrame(wanted, frame.select(SIDES).schema, orient="row").fill_nan(None)


@PATIENT
@given(ticks(), st.sampled_from([0, 1, 10**9]), st.sampled_from([None, 0, 10**9]), st.booleans())
def test_one_frame(frame: pl.DataFrame, lag_ns: Any, tolerance_ns: Any, strict: bool) -> None:
    tolerance = None if tolerance_ns is None else f"{tolerance_ns}ns"
    measure = partial(quotes_at, lag=f"{lag_ns}ns", tolerance=tolerance, strict=strict)
    actual = both(measure, frame)
    wanted = slowly(frame, None, lag_ns=lag_ns, tolerance_ns=tolerance_ns, strict=strict)
    assert_frame_equal(actual.select(SIDES), _absent(wanted, actual))


@PATIENT
@given(ticks(), ticks(kinds=("quotes",)), st.sampled_from([0, 1, 10**9]), st.booleans())
def test_two_frames(trades: pl.DataFrame, quotes: pl.DataFrame, lag_ns: Any, strict: bool) -> None:
    def measure(trades: Any, quotes: Any) -> Any:
        return quotes_at(trades, quotes, lag=f"{lag_ns}ns", strict=strict)

    actual = both(measure, trades, quotes)
    wanted = slowly(trades, quotes, lag_ns=lag_ns, strict=strict)
    assert_frame_equal(actual.select(SIDES), _absent(wanted, actual))
    mid = (actual["bid_price"] + actual["ask_price"]) / 2
    assert_frame_equal(actual.select("mid"), mid.alias("mid").to_frame())


@pytest.mark.parametrize("strict", [False, True])
def test_real_trades_and_quotes(strict: bool) -> None:
    # Around the opening, when trades and quotes of the same millisecond abound.
    trades = real("ibm_trades")[:400]
    quotes = real("ibm_quotes").filter(pl.col("timestamp") <= trades["timestamp"].max())[-900:]
    actual = quotes_at(trades, quotes, strict=strict)
    wanted = slowly(trades, quotes, strict=strict)
    assert actual.select(SIDES).rows() == [tuple(row or ()) for row in wanted]
    assert actual["bid_price"].null_count() < len(actual)
    times = actual.drop_nulls("quote_timestamp").select("timestamp", "quote_timestamp")
    late = (
        times["quote_timestamp"] >= times["timestamp"]
        if strict
        else (times["quote_timestamp"] > times["timestamp"])
    )
    assert not late.any()


def test_the_order_of_equal_times_matters_in_one_frame_only() -> None:
    trade = {"ns": 5, "price": 10.0}
    quote = {"ns": 5, "bid_price": 9.0, "ask_price": 11.0}
    before, after = made([quote, trade]), made([trade, quote])
    assert quotes_at(before)["mid"].to_list() == [10.0]
    assert quotes_at(after)["mid"].to_list() == [None]
    apart = quotes_at(made([trade]), made([quote]))
    assert apart["mid"].to_list() == [10.0]
    for frame in (before, after):
        assert quotes_at(frame, strict=True)["mid"].to_list() == [None]


def test_a_quote_of_one_side_ends_the_one_before() -> None:
    frame = made(
        [
            {"ns": 0, "bid_price": 9.0, "ask_price": 11.0},
            {"ns": 1, "bid_price": 9.5},
            {"ns": 2, "price": 10.0},
        ]
    )
    assert quotes_at(frame).select("bid_price", "ask_price", "mid").rows() == [(9.5, None, None)]


def test_the_last_quote_of_a_time_counts() -> None:
    quotes = made([{"ns": 0, "bid_price": float(bid), "ask_price": 20.0} for bid in range(5)])
    assert quotes_at(made([{"ns": 0, "price": 1.0}]), quotes)["bid_price"].item() == 4.0


def test_merged_streams_equal_two_frames() -> None:
    trades, quotes = real("ibm_trades"), real("ibm_quotes")
    assert_frame_equal(
        quotes_at(together(quotes, trades)).select("timestamp", "price", "mid", "quote_timestamp"),
        quotes_at(trades, quotes).select("timestamp", "price", "mid", "quote_timestamp"),
    )


def test_existing_quote_columns_are_replaced() -> None:
    once = quotes_at(real("ibm_trades")[:50], real("ibm_quotes"))
    again = quotes_at(once, real("ibm_quotes"))
    assert_frame_equal(again, once)
    assert once.columns[-6:] == [*SIDES, "mid", "quote_timestamp"]


def test_frames_without_contracts_are_of_one() -> None:
    trades, quotes = (real(n).drop("contract_id") for n in ("ibm_trades", "ibm_quotes"))
    assert quotes_at(trades, quotes)["mid"].equals(
        quotes_at(real("ibm_trades"), real("ibm_quotes"))["mid"]
    )


def test_contract_ids_of_another_integer_type() -> None:
    quotes = real("ibm_quotes").with_columns(pl.col("contract_id").cast(pl.Int64))
    for trades in (real("ibm_trades"), together(real("ibm_trades"), real("btcusdt_trades"))):
        actual = quotes_at(trades, quotes)
        assert actual.schema["contract_id"] == pl.UInt32
        assert actual["mid"].count() > 30_000


def test_frames_that_cannot_be_joined_are_refused() -> None:
    trades, quotes = real("ibm_trades"), real("ibm_quotes")
    with pytest.raises(InputError, match="no contract_id"):
        quotes_at(trades, quotes.drop("contract_id"))
    with pytest.raises(UnknownColumnError, match="bid_ask"):
        quotes_at(trades)
    with pytest.raises(UnknownPeriodError, match="soon"):
        quotes_at(trades, quotes, lag="soon")
