"""The rules of Barndorff-Nielsen et al. against plain loops, alone and in their order."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

import ibticks as ibt
from ibticks import analysis
from ibticks.analysis._cleaning import Cleaned
from ibticks.errors import InputError, UnknownColumnError
from ibticks.sample import sample

from .frames import both, is_number, made, real, rows_of, ticks, together

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400_000_000_000


def numbered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(number=pl.int_range(pl.len()))


def remaining_rows(
    measure: Callable[..., Any], frame: pl.DataFrame, *others: pl.DataFrame
) -> list[int]:
    return both(measure, numbered(frame), *others)["number"].to_list()


def sides(row: dict[str, Any]) -> Any:
    bid, ask = row["bid_price"], row["ask_price"]
    return (bid, ask) if is_number(bid) and is_number(ask) else None


def quotes_in(frame: pl.DataFrame) -> list[tuple[int, dict[Any, Any]]]:
    return [
        (place, row)
        for place, row in enumerate(rows_of(frame))
        if is_number(row["bid_price"]) or is_number(row["ask_price"])
    ]


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades", "quotes")))
def test_rules_of_one_row(frame: pl.DataFrame) -> None:
    rows = list(enumerate(rows_of(frame)))
    assert remaining_rows(analysis.no_zero_prices, frame) == [
        place for place, row in rows if is_number(row["price"]) and row["price"] > 0
    ]
    assert remaining_rows(analysis.no_zero_quotes, frame) == [
        place for place, row in rows if sides(row) and min(sides(row)) > 0
    ]
    assert remaining_rows(analysis.rm_negative_spread, frame) == [
        place for place, row in quotes_in(frame) if not sides(row) or sides(row)[0] <= sides(row)[1]
    ]


def wide(row: dict[Any, Any]) -> Decimal:
    """Return the spread by exact decimal arithmetic."""
    return Decimal(str(row["ask_price"])) - Decimal(str(row["bid_price"]))


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("quotes",)))
def test_large_spreads(frame: pl.DataFrame) -> None:
    spreads: dict[tuple[Any, ...], list[Any]] = {}
    for _, row in quotes_in(frame):
        if sides(row):
            key = (row["contract_id"], row["ns"] // DAY)
            spreads.setdefault(key, []).append(wide(row))
    expected = []
    for place, row in quotes_in(frame):
        typical: Any = spreads.get((row["contract_id"], row["ns"] // DAY))
        if not sides(row) or wide(row) <= Decimal("1.5") * median(typical):
            expected.append(place)
    assert remaining_rows(lambda f: analysis.rm_large_spread(f, 1.5), frame) == expected


def test_a_spread_equal_to_the_limit_stays() -> None:
    # 0.5 is 50 times 0.01, "not more than"; but 10.0 - 9.5 > 50 * (10.0 - 9.99) in binary.
    sides_of = [(9.99, 10.0)] * 3 + [(9.5, 10.0), (9.49, 10.0)]
    frame = made([{"ns": 0, "bid_price": bid, "ask_price": ask} for bid, ask in sides_of])
    assert analysis.rm_large_spread(frame)["bid_price"].to_list() == [9.99, 9.99, 9.99, 9.5]


@settings(max_examples=50, deadline=None)
@given(ticks(kinds=("quotes",)))
def test_quote_outliers(frame: pl.DataFrame) -> None:
    mids: dict[int, list[Any]] = {}
    for place, row in quotes_in(frame):
        if sides(row):
            mids.setdefault(row["contract_id"], []).append(
                (place, row["ns"] // DAY, sum(sides(row)) / 2)
            )
    expected = []
    for value in mids.values():
        for i, (place, day, mid) in enumerate(value):
            around = [m for _, _, m in value[max(0, i - 2) : i] + value[i + 1 : i + 3]]
            today = [m for _, d, m in value if d == day]
            middle = median(today)
            allowed = 2 * 1.4826 * median([abs(m - middle) for m in today])
            if not around or abs(mid - median(around)) <= allowed:
                expected.append(place)
    actual = remaining_rows(lambda f: analysis.rm_quote_outliers(f, 2.0, window=4), frame)
    assert actual == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(ticks(kinds=("trades", "quotes")))
def test_trade_outliers(frame: pl.DataFrame) -> None:
    quote, expected = {}, []
    for place, row in enumerate(rows_of(frame)):
        if is_number(row["bid_price"]) or is_number(row["ask_price"]):
            quote[row["contract_id"]] = sides(row)
        if is_number(row["price"]):
            bid_ask = quote.get(row["contract_id"])
            near = True
            if bid_ask:
                bid, ask = bid_ask
                near = 2 * bid - ask - 1e-9 <= row["price"] <= 2 * ask - bid + 1e-9
            if near:
                expected.append(place)
    assert remaining_rows(analysis.rm_trade_outliers, frame) == expected


def test_conditions_are_compared_without_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    """A warning raised in a thread of polars is printed and does not fail a test."""
    ticks = pl.DataFrame({"conditions": [[], ["F", "I"], ["T"], None]})
    assert both(analysis.sales_condition, ticks).height == 3
    assert capfd.readouterr().err == ""


def test_exchanges_and_conditions() -> None:
    frame = made([{"ns": i, "price": 1.0} for i in range(5)]).with_columns(
        exchange=pl.Series(["N", "Q", None, "N", "P"], dtype=pl.Categorical),
        conditions=pl.Series([["F", "I"], [], None, ["T"], ["@", "", " F"]]),
    )
    assert remaining_rows(lambda f: analysis.select_exchange(f, "N"), frame) == [0, 3]
    assert remaining_rows(lambda f: analysis.select_exchange(f, {"Q", "P"}), frame) == [1, 4]
    assert remaining_rows(analysis.sales_condition, frame) == [0, 1, 2, 4]
    assert remaining_rows(lambda f: analysis.sales_condition(f, ["T"]), frame) == [3]
    words = frame.with_columns(conditions=pl.Series(["F I", "", None, "T", "@F"]))
    assert remaining_rows(analysis.sales_condition, words) == [0, 1, 2, 4]


def test_a_day_of_trades() -> None:
    trades = pl.read_parquet(sample("ibm_trades").path).with_columns(
        pl.col("size").cast(pl.Float64)
    )
    quotes = analysis.quotes_cleanup(pl.read_parquet(sample("ibm_quotes").path)).ticks
    actual = analysis.trades_cleanup(trades, quotes=quotes, exchanges="N")
    assert isinstance(actual, Cleaned)
    assert actual.report["rule"].to_list() == [
        "given",
        "no_zero_prices",
        "select_exchange",
        "merge_same_timestamp",
        "rm_trade_outliers",
    ]
    assert actual.report["rows"].to_list()[:4] == [33_381, 33_381, 5_479, 4_925]
    assert actual.report["dropped"].sum() == trades.height - actual.ticks.height
    assert actual.report["rows"][-1] == actual.ticks.height
    assert actual.ticks["timestamp"].is_unique().all()
    by_hand = trades.filter(exchange="N").group_by("timestamp").agg(pl.col("price").median())
    merged = analysis.trades_cleanup(trades, exchanges="N").ticks
    assert_frame_equal(merged.select("timestamp", "price"), by_hand.sort("timestamp"))


def test_lazy_results_equal_eager_ones() -> None:
    trades, quotes = real("ibm_trades"), real("ibm_quotes")
    eager = analysis.trades_cleanup(trades, quotes=quotes)
    lazy = analysis.trades_cleanup(trades.lazy(), quotes=quotes.lazy())
    assert isinstance(lazy.ticks, pl.LazyFrame)
    assert_frame_equal(lazy.ticks.collect(), eager.ticks)
    assert_frame_equal(lazy.report.collect(), eager.report)
    actual, later = analysis.quotes_cleanup(quotes), analysis.quotes_cleanup(quotes.lazy())
    assert_frame_equal(later.ticks.collect(), actual.ticks)
    assert_frame_equal(later.report.collect(), actual.report)
    assert actual.report["rows"].to_list() == [62_875, 62_875, 62_835, 62_831, 48_983, 48_983]


@settings(max_examples=20, deadline=None)
@given(ticks())
def test_any_frame_can_be_cleaned(frame: pl.DataFrame) -> None:
    trades, quotes = analysis.trades_cleanup(frame), analysis.quotes_cleanup(frame)
    for actual in (trades, quotes):
        assert actual.report["rows"][-1] == actual.ticks.height
    assert (trades.ticks["price"] > 0).all()
    assert (quotes.ticks["bid_price"] <= quotes.ticks["ask_price"]).all()


def test_a_mixed_frame_is_cleaned_for_one_tick_type_at_a_time() -> None:
    trades, quotes = real("ibm_trades")[:3000], real("ibm_quotes")[:9000]
    whole = together(quotes, trades)
    alone = analysis.trades_cleanup(trades).ticks
    assert_frame_equal(analysis.trades_cleanup(whole).ticks.select(alone.columns), alone)


def test_invalid_arguments_are_refused() -> None:
    quotes = real("ibm_quotes")[:5]
    with pytest.raises(InputError, match="even"):
        analysis.rm_quote_outliers(quotes, window=3)
    with pytest.raises(UnknownColumnError, match="exchange"):
        analysis.select_exchange(quotes, "N")
    with pytest.raises(UnknownColumnError, match="price"):
        analysis.trades_cleanup(quotes)


CORRECTIONS = ["00", "0", "000", "", " 0", None, "01", "07", "08", "10", "11", "12", "1"]


@pytest.mark.parametrize("lazy", [False, True])
def test_corrected_trades(lazy: bool) -> None:
    ticks = made([{"ns": ns, "price": 1.0, "size": float(ns)} for ns in range(len(CORRECTIONS))])
    text = pl.Series(CORRECTIONS)
    known = [{"key": "source", "value": "taq"}]
    maps = [
        [*known, *([] if correction is None else [{"key": "correction", "value": correction}])]
        for correction in CORRECTIONS
    ]
    frames = [
        ticks.with_columns(correction=text),
        ticks.with_columns(correction=text.cast(pl.Categorical)),
        ticks.with_columns(metadata=pl.Series(maps)),
        ticks.with_columns(correction=text.str.strip_chars().replace("", None).cast(pl.Int64)),
        ticks.with_columns(correction=text.str.strip_chars().replace("", "nan").cast(pl.Float64)),
    ]
    for frame in frames:
        either: Any = frame.lazy() if lazy else frame
        actual = analysis.rm_corrected(either).lazy().collect()
        assert actual["size"].to_list() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    other = ticks.with_columns(TR_CORR=text)
    assert analysis.rm_corrected(other, "TR_CORR").height == 6


def test_corrections_among_the_rules() -> None:
    """After the exchange and before the sale condition, as R's highfrequency has CORR == 0."""
    rows = [{"ns": ns, "price": 1.0, "size": 1.0} for ns in range(4)]
    ticks = made(rows).with_columns(
        exchange=pl.lit("N"),
        conditions=pl.Series(["", "T", "", ""]),
        correction=pl.Series(["00", "08", "01", None]),
    )
    rules = analysis.trades_cleanup(ticks, exchanges="N", conditions=["", "@"]).report
    assert rules.rows()[2:5] == [
        ("select_exchange", 4, 0),
        ("rm_corrected", 2, 2),
        ("sales_condition", 2, 0),
    ]
    assert "rm_corrected" not in analysis.trades_cleanup(made(rows)).report["rule"].to_list()
    with pytest.raises(UnknownColumnError, match="correction"):
        analysis.rm_corrected(made(rows))


def test_corrections_from_a_store(tmp_path: Path) -> None:
    """The metadata map is read back from a store unchanged."""
    rows = [{"ns": ns, "price": 1.0 + ns, "size": 1.0} for ns in range(3)]
    maps = pl.Series([[{"key": "correction", "value": value}] for value in ("00", "07", "00")])
    ticks = made(rows).select("timestamp", "price", "size").with_columns(metadata=maps)
    with ibt.open(tmp_path / "ticks") as store:
        store.write(ticks, contract_id=1, tick_type="last")
        selection = store.select(1, "last").with_columns("timestamp", "price", "size", "metadata")
        frame: Any = selection.to_polars()
        assert analysis.rm_corrected(frame)["price"].to_list() == [1.0, 3.0]
        assert frame.ticks.rm_corrected()["price"].to_list() == [1.0, 3.0]
        pandas = selection.to_pandas().ticks.rm_corrected()
        assert pandas["price"].tolist() == [1.0, 3.0]
