"""Columns, types and units that measures require of a frame."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ibticks import analysis
from ibticks.analysis._engine import columns
from ibticks.errors import InputError, NaiveDatetimeError, TickError, UnknownColumnError

from .frames import both, made, real, together

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_missing_column_is_named_with_a_way_to_get_it() -> None:
    with pytest.raises(UnknownColumnError, match=r"vwap .* needs price, size; .*bid_price") as info:
        columns.require(pl.DataFrame({"bid_price": [1.0]}), "price", "size", caller="vwap of all")
    assert 'store.select(..., "last")' in str(info.value)
    assert isinstance(info.value, TickError)
    assert pickle.loads(pickle.dumps(info.value)).context == {"columns": ["price", "size"]}


def test_columns_that_no_tick_type_carries_together() -> None:
    with pytest.raises(UnknownColumnError, match=r"\['bid_ask', 'last'\]"):
        columns.require(pl.DataFrame({"x": [1]}), "price", "bid_price", caller="costs")


def test_an_unknown_missing_column_has_no_advice() -> None:
    with pytest.raises(UnknownColumnError, match=r"needs fee; the frame has x$"):
        columns.require(pl.DataFrame({"x": [1]}), "fee", caller="delta")


@pytest.mark.parametrize(
    ("names", "maker"),
    [(["sign"], "trade_sign"), (["mid"], "mid"), (["open", "high", "close"], "time_bars")],
)
def test_a_column_that_a_measure_makes(names: list[str], maker: str) -> None:
    with pytest.raises(UnknownColumnError, match=rf"the measure {maker} makes it$".capitalize()):
        columns.require(pl.DataFrame({"x": [1]}), *names, caller="it")


def test_a_lazy_frame_is_refused_before_it_is_collected() -> None:
    with pytest.raises(UnknownColumnError, match="mid_price"):
        columns.mids(pl.LazyFrame({"x": [1]}))


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_naive_times_are_refused(zone: str | None) -> None:
    frame = pl.DataFrame({"timestamp": [datetime(2025, 1, 10)]}).with_columns(
        pl.col("timestamp").dt.replace_time_zone(zone)
    )
    if zone is None:
        with pytest.raises(NaiveDatetimeError, match="replace_time_zone"):
            columns.require(frame, "timestamp", caller="bars")
    else:
        columns.require(frame, "timestamp", caller="bars")


def test_columns_that_are_not_times_are_refused() -> None:
    with pytest.raises(InputError, match="not Int64"):
        columns.require(pl.DataFrame({"timestamp": [1]}), "timestamp", caller="bars")


@pytest.mark.parametrize("dtype", [pl.String, pl.Decimal(10, 2), pl.Boolean])
@pytest.mark.parametrize("measure", [analysis.vwap, lambda t: analysis.time_bars(t, "1m")])
def test_prices_that_are_not_numbers_are_refused(
    measure: Callable[..., Any], dtype: type[pl.String] | pl.Decimal | type[pl.Boolean]
) -> None:
    trades = made([{"ns": 0, "price": 1.0, "size": 1.0}]).with_columns(pl.col("size").cast(dtype))
    for ticks in (trades, trades.lazy()):
        with pytest.raises(InputError, match=r'numbers in column size, .*pl.col\("size"\).cast'):
            measure(ticks)


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Int64, pl.UInt32])
def test_numbers_of_any_width_are_taken(
    dtype: type[pl.Float32] | type[pl.Int64] | type[pl.UInt32],
) -> None:
    trades = made([{"ns": 0, "price": 2.0, "size": 1.0}]).with_columns(pl.col("size").cast(dtype))
    assert analysis.vwap(trades)["vwap"].item() == 2.0


def test_a_frame_of_another_library_is_refused() -> None:
    with pytest.raises(InputError, match=r"vwap .*takes a frame of polars, not a dict; .*\.ticks"):
        analysis.vwap({"price": [1.0]})  # type: ignore[type-var]


def test_rows_of_each_tick_type() -> None:
    frame = made(
        [
            {"ns": 0, "price": 1.0},
            {"ns": 1, "price": math.nan},
            {"ns": 2, "bid_price": 1.0},
            {"ns": 3, "ask_price": 2.0, "bid_price": math.nan},
            {"ns": 4, "bid_price": math.inf},
            {"ns": 5, "mid_price": 1.5},
            {"ns": 6},
        ]
    )
    place = [(columns.trades, [0]), (columns.quotes, [2, 3]), (columns.mids, [5])]
    for kind, wanted in place:
        # A side that is NaN is absent.
        assert both(kind, frame).equals(
            frame[wanted].with_columns(pl.col("^bid_.*$").fill_nan(None))
        )


def test_keys() -> None:
    one, two = pl.DataFrame({"contract_id": [1, 1]}), pl.DataFrame({"contract_id": [1, 2]})
    none = pl.DataFrame({"price": [1.0]})
    assert [columns.key_columns(value) for value in (one, two, none)] == [["contract_id"]] * 2 + [
        []
    ]
    assert (
        columns.grouping_keys(one)
        == columns.grouping_keys(one.clear())
        == columns.grouping_keys(none)
        == []
    )
    assert columns.grouping_keys(two) == columns.grouping_keys(one.lazy()) == ["contract_id"]
    assert columns.grouping_keys(one, one + 1) == ["contract_id"]


@pytest.mark.parametrize(
    ("text", "ns"),
    [("0s", 0), ("0", 0), (timedelta(0), 0), ("5s", 5 * 10**9), (timedelta(microseconds=1), 1000)],
)
def test_durations(text: str | timedelta, ns: int) -> None:
    assert columns.duration_ns(text) == ns


def test_a_month_is_no_minute() -> None:
    assert columns.duration_ns("1m") == 60 * 10**9
    with pytest.raises(InputError, match="1mo"):
        columns.duration_ns("1mo")


def test_instants_in_any_unit_and_zone() -> None:
    frame = real("ibm_trades").select("timestamp").head(3)
    unit: Any
    for unit, zone in (("ms", "UTC"), ("us", "Asia/Tokyo"), ("ns", "America/New_York")):
        other = frame.with_columns(
            pl.col("timestamp").dt.cast_time_unit(unit).dt.convert_time_zone(zone)
        )
        wanted = frame.select(pl.col("timestamp").cast(pl.Int64))
        assert other.select(columns.time_ns()).equals(wanted)
        back = other.select(timestamp=columns.time_ns()).select(
            columns.times_from_ns("timestamp", other)
        )
        assert back.to_series().equals(frame["timestamp"].dt.convert_time_zone(zone))


def test_every_name_is_a_function_each_time_it_is_asked_for() -> None:
    """A module of the same name must not come into its place once it was imported."""
    for _ in range(2):
        for name in analysis.__all__:
            assert callable(getattr(analysis, name)), name
    assert analysis.__all__ == sorted(set(analysis.__all__))
    assert set(analysis.__all__) <= set(dir(analysis))
    with pytest.raises(AttributeError, match="no attribute 'time_bar'"):
        _ = analysis.time_bar  # type: ignore[attr-defined]


def test_the_zone_of_a_frame_is_kept() -> None:
    tokyo = real("ibm_trades").with_columns(pl.col("timestamp").dt.convert_time_zone("Asia/Tokyo"))
    bars = analysis.time_bars(tokyo, "1h")
    assert bars.schema["timestamp"] == pl.Datetime("ns", "Asia/Tokyo")
    assert bars["timestamp"][0] == datetime(2013, 10, 8, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "measure",
    [
        lambda ticks: analysis.time_bars(ticks, "1m"),
        analysis.vwap,
        lambda ticks: analysis.delta(ticks, method="tick"),
        analysis.interarrival,
        lambda ticks: analysis.tick_bars(ticks, 1),
    ],
)
def test_null_contract_ids_form_a_group(measure: Callable[..., Any]) -> None:
    """As where frames with and without a contract were put together."""
    rows = [{"ns": place, "price": 1.0 + place, "size": 1.0} for place in range(3)]
    ticks = made(rows).with_columns(
        contract_id=pl.Series([8314, None, 8314], dtype=pl.UInt32), sequence=pl.int_range(3)
    )
    mine = measure(ticks.filter(pl.col("contract_id") == 8314))
    actual = both(measure, ticks).filter(pl.col("contract_id") == 8314)
    assert actual.equals(mine)


QUOTE = {"bid_price": 1.0, "ask_price": 2.0, "bid_size": 1.0, "ask_size": 1.0}
BY_TIME = {
    "quotes_at": lambda t, q: analysis.quotes_at(t, q),
    "trade_sign": lambda t, q: analysis.trade_sign(t, "emo", quotes=q),
    "delta": lambda t, q: analysis.delta(t, quotes=q),
    "effective_spread": lambda t, q: analysis.effective_spread(t, quotes=q),
    "price_impact": lambda t, q: analysis.price_impact(t, "1s", quotes=q),
    "align": lambda t, q: analysis.align(t, "1s"),
}


@pytest.mark.parametrize("name", BY_TIME)
def test_disorder_is_refused_where_order_matters(name: str) -> None:
    rows = [{"ns": i * 10**9, "price": 1.0 + i % 3, "size": 1.0} for i in range(9)]
    trades = made(rows)
    quotes = made([{"ns": i * 10**9, **QUOTE} for i in range(9)])
    BY_TIME[name](trades, quotes)
    with pytest.raises(InputError, match=r"in order of time, and in row 1 they go back: \.sort"):
        BY_TIME[name](trades.reverse(), quotes)
    if name != "align":
        with pytest.raises(InputError, match="in order of time"):
            BY_TIME[name](trades, quotes.reverse())


@pytest.mark.parametrize("measure", ["rolling_vwap", "rolling_twap", "bollinger_bands"])
def test_a_time_window_requires_order(measure: str) -> None:
    trades = made([{"ns": i * 10**9, "price": 1.0 + i, "size": 1.0} for i in range(9)]).reverse()
    with pytest.raises(InputError, match=f"{measure} needs ticks in order of time"):
        getattr(analysis, measure)(trades, "5s")
    assert analysis.rolling_vwap(trades, 2)["vwap"][0] == 9.0  # the last two rows, of any value


@pytest.mark.parametrize("name", BY_TIME)
def test_concatenated_contracts_are_in_order(name: str) -> None:
    trades, quotes = (
        together(*(f.with_columns(contract_id=pl.lit(i, pl.UInt32)) for i in (2, 1)))
        for f in (real("ibm_trades").gather_every(40), real("ibm_quotes").gather_every(40))
    )
    blocks = [f.sort("contract_id", maintain_order=True) for f in (trades, quotes)]
    actual, expected = BY_TIME[name](*blocks), BY_TIME[name](trades, quotes)
    order = [value for value in ("contract_id", "timestamp") if value in actual.columns]
    assert_frame_equal(
        actual.sort(order, maintain_order=True), expected.sort(order, maintain_order=True)
    )
