"""Trade signs against plain loops, against tclf, and against trades whose side is known."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks import analysis
from ibticks.errors import InputError, UnknownColumnError
from ibticks.sample import sample

from .frames import both, is_number, made, real, rows_of, ticks, together

METHODS = ("tick", "quote", "lee_ready", "emo", "clnv")
SIGNS = Path(__file__).parent / "data" / "tclf_signs.csv"


def plain(method: str, price: float, bid: Any, ask: Any, before: int) -> int:
    """The rule of the paper, in decimals; ``before`` is the sign of the tick rule."""
    if method == "tick":
        return before
    sound = is_number(bid) and is_number(ask) and bid <= ask
    p, b, a = (Decimal(str(x)) if is_number(x) else Decimal(0) for x in (price, bid, ask))
    sign = 0
    if sound and method in ("quote", "lee_ready"):
        sign = (2 * p > a + b) - (2 * p < a + b)
    elif sound:
        margin = (a - b) * (Decimal("0.3") if method == "clnv" else 0)
        buy, sale = a - margin <= p <= a, b <= p <= b + margin
        sign = buy - sale
    return sign if sign or method == "quote" else before


def plain_signs(method: str, frame: pl.DataFrame) -> list[int]:
    signs = []
    last: dict[Any, Any] = {}
    way = {}
    quote = {}
    for row in rows_of(frame):
        c, price = row["contract_id"], row["price"]
        if is_number(row["bid_price"]) or is_number(row["ask_price"]):
            quote[c] = (row["bid_price"], row["ask_price"])
        if is_number(price):
            if c in last and price != last[c]:
                way[c] = 1 if price > last[c] else -1
            last[c] = price
            signs.append(plain(method, price, *quote.get(c, (None, None)), way.get(c, 0)))
    return signs


@settings(max_examples=60, deadline=None)
@given(ticks(kinds=("trades", "quotes")), st.sampled_from(METHODS))
def test_signs_in_one_frame(frame: pl.DataFrame, method: Any) -> None:
    actual = both(lambda f: analysis.trade_sign(f, method), frame)
    assert actual["sign"].to_list() == plain_signs(method, frame)
    assert actual.schema["sign"] == pl.Int8
    trades = frame.filter(pl.col("price").is_finite())
    assert actual.drop("sign").equals(trades, null_equal=True)


@pytest.mark.parametrize("method", METHODS)
def test_signs_of_a_day(method: Any) -> None:
    trades, quotes = real("ibm_trades")[:8000], real("ibm_quotes")
    actual = both(lambda t, q: analysis.trade_sign(t, method, quotes=q), trades, quotes)
    assert actual["sign"].to_list() == plain_signs(method, together(quotes, trades))


@pytest.mark.parametrize("method", METHODS)
def test_signs_agree_with_tclf(method: Any) -> None:
    known = pl.read_csv(SIGNS, comment_prefix="#")
    rows = [
        {"ns": i, "price": p / 100, "bid_price": b / 100, "ask_price": a / 100}
        for i, (p, b, a) in enumerate(known.select("price", "bid_price", "ask_price").rows())
    ]
    frame = made(rows)
    trades, quotes = frame.select("timestamp", "price"), frame.drop("price")
    actual = analysis.trade_sign(trades, method, quotes=quotes.drop("contract_id"))
    assert actual["sign"].to_list() == known[method].to_list()


def test_a_quote_can_be_too_fresh() -> None:
    frame = made(
        [
            {"ns": 0, "bid_price": 10.0, "ask_price": 10.2},
            {"ns": 5_000_000_000, "bid_price": 10.2, "ask_price": 10.4},
            {"ns": 6_000_000_000, "price": 10.2},
        ]
    )
    signs = [analysis.trade_sign(frame, quote_delay=d)["sign"].item() for d in ("0s", "1s", "2s")]
    assert signs == [-1, -1, 1]


def test_accuracy_against_known_sides() -> None:
    trades = pl.read_parquet(sample("btcusdt_trades").path)
    quotes = pl.read_parquet(sample("btcusdt_quotes").path)
    truth = trades["aggressor"].replace_strict({"buy": 1, "sell": -1})

    def right(method: Any, delay: str) -> Any:
        actual = analysis.trade_sign(trades, method, quotes=quotes, quote_delay=delay)
        return (actual["sign"] == truth).mean()

    assert right("tick", "0s") > 0.95
    assert right("lee_ready", "0s") < 0.55
    assert right("lee_ready", "100ms") > 0.95


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="there are tick, quote, lee_ready, emo, clnv"):
        analysis.trade_sign(real("ibm_trades")[:10], "rock")  # type: ignore[arg-type]
    with pytest.raises(UnknownColumnError, match="store"):
        analysis.trade_sign(real("ibm_trades")[:10].drop("price"))
    with pytest.raises(UnknownColumnError, match="bid_price"):
        analysis.trade_sign(real("ibm_trades")[:10])


def test_the_error_without_quotes_names_the_tick_rule() -> None:
    trades = made([{"ns": 0, "price": 1.0, "size": 1.0}]).select("timestamp", "price", "size")
    for measure in (analysis.trade_sign, analysis.delta, analysis.cumulative_delta):
        with pytest.raises(
            UnknownColumnError, match=r'^trade_sign by lee_ready needs bid_price.*method="tick"$'
        ):
            measure(trades)


def test_quotes_as_the_method_argument_are_refused_with_advice() -> None:
    trades: Any = made([{"ns": 0, "price": 1.0, "size": 1.0}])
    with pytest.raises(InputError, match="given as quotes="):
        analysis.trade_sign(trades, trades)
