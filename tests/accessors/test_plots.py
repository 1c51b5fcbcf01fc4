"""The data of figures: which times, which values, how many."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from ibticks import analysis
from ibticks.errors import InputError, UnknownColumnError, UnknownMarketError

from .conftest import IN, OPEN

US = {"market": "US"}
KINDS = ["price", "candles", "cumulative_delta", "volume_profile", "day", "heatmap", "signature"]


def clock(values: Any) -> list[str]:
    return [str(value)[:19] for value in values]


def traces(figure: Any) -> dict[Any, Any]:
    return {trace.name: trace for trace in figure.data}


def test_the_axis_is_the_clock_of_the_market(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    trades, quotes = day
    figure = trades.ticks.plot(quotes=quotes, name="IBM", **US)
    bid = traces(figure)["bid"]
    assert clock(bid.x)[0] == "2013-10-08T09:30:00"
    assert clock(bid.x)[-1].startswith("2013-10-08T15:59")
    assert figure.layout.xaxis2.title.text == "New York"
    assert "<b>IBM</b>" in figure.layout.title.text
    assert "Tuesday, 8 October 2013: 33,323 trades and 62,0" in figure.layout.title.text


def test_without_a_market_all_is_shown_in_utc(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    candles = day[0].ticks.plot.candles("1h")
    assert clock(candles.data[0].x)[0] == "2013-10-08T12:00:00"
    assert candles.layout.xaxis2.title.text == "UTC"
    assert not candles.layout.xaxis.rangebreaks
    tokyo = day[0].ticks.plot.candles("1h", tz="Asia/Tokyo")
    assert clock(tokyo.data[0].x)[0] == "2013-10-08T21:00:00"


def test_nights_and_weekends_are_folded_away(week: tuple[Any, ...]) -> None:
    figure = week[0].ticks.plot.candles("30m", **US)
    breaks = [rangebreak.bounds for rangebreak in figure.layout.xaxis.rangebreaks]
    assert len(breaks) == 7
    assert breaks[0] == ("2013-10-08T16:00:00", "2013-10-09T09:30:00")
    assert breaks[3] == ("2013-10-11T16:00:00", "2013-10-14T09:30:00")
    assert figure.layout.xaxis2.rangebreaks == figure.layout.xaxis.rangebreaks


def test_a_lunch_break_is_folded_away() -> None:
    at = [datetime(2025, 1, 10, hour, 30, tzinfo=UTC) for hour in (0, 1, 4, 5)]
    trades = pl.DataFrame({"timestamp": at, "price": [1.0, 2.0, 3.0, 2.0], "size": [1.0] * 4})
    figure = trades.ticks.plot.candles("30m", market="JP")
    (lunch,) = [rangebreak.bounds for rangebreak in figure.layout.xaxis.rangebreaks]
    assert lunch == ("2025-01-10T11:30:00", "2025-01-10T12:30:00")


def test_bars_of_sessions_are_drawn_at_their_days(week: tuple[Any, ...]) -> None:
    """Between nights that are folded away they would be drawn over each other."""
    bars = week[0].ticks.time_bars("1d", anchor="session", market="US")
    days = ["08", "09", "10", "11", "14", "15", "16", "17"]
    for figure in (
        bars.ticks.plot(**US),
        week[0].ticks.plot.candles("1d", **US),
        week[0].ticks.plot.cumulative_delta("1d", **US),
    ):
        for trace in figure.data:
            assert clock(trace.x) == [f"2013-10-{day}T00:00:00" for day in days]
            assert trace.type != "bar" or trace.width == 0.85 * 86_400_000
        (weekend,) = [rangebreak.bounds for rangebreak in figure.layout.xaxis.rangebreaks]
        assert weekend == ("2013-10-12", "2013-10-14")
        assert "8 October 2013 to 17 October 2013" in figure.layout.title.text


def test_a_session_of_the_evening_is_drawn_at_its_trading_day() -> None:
    at = [datetime(2025, 1, day, 12, tzinfo=UTC) for day in (9, 10, 13)]
    trades = pl.DataFrame({"timestamp": at, "price": [1.0, 2.0, 3.0], "size": [1.0] * 3})
    futures = {"market": "CME", "session": "globex"}
    candles = trades.ticks.plot.candles("1d", **futures)
    assert clock(candles.data[0].x) == [f"2025-01-{day}T00:00:00" for day in ("09", "10", "13")]


def test_candles_of_quotes_and_of_mid_points_are_of_the_middle(
    day: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    quotes = day[1]
    bars = quotes.ticks.time_bars("30m", of="quotes", anchor="session", market="US")
    mids = quotes.ticks.mid().select("timestamp", mid_price="mid")
    for figure, expected in (
        (quotes.ticks.plot.candles("30m", **US), bars["mid_close"]),
        (bars.ticks.plot(**US), bars["mid_close"]),
        (mids.ticks.plot.candles("30m", **US), bars["mid_close"]),
    ):
        (candles,) = figure.data
        assert list(candles.close) == pytest.approx(expected.to_list())
    assert "13 bars of 30m, of the middle of bid and ask" in (
        quotes.ticks.plot.candles("30m", **US).layout.title.text
    )


def test_mid_points_are_a_line(day: tuple[pl.DataFrame, pl.DataFrame], library: Any) -> None:
    mids = day[1].ticks.mid().select("timestamp", mid_price="mid").head(500)
    (line,) = IN[library](mids).ticks.plot().data
    assert list(line.y) == mids["mid_price"].to_list()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_frames_are_not_plotted(
    day: tuple[pl.DataFrame, pl.DataFrame], library: Any, kind: str
) -> None:
    with pytest.raises(InputError, match="there is nothing to plot"):
        getattr(IN[library](day[0].head(0)).ticks.plot, kind)()


def test_trades_of_equal_size_are_drawn_at_all_times() -> None:
    start = datetime(2025, 1, 10, 15, tzinfo=UTC)
    at = [start + timedelta(seconds=i) for i in range(4000)]
    trades = pl.DataFrame({"timestamp": at, "price": 1.0, "size": 1.0})
    dots = traces(trades.ticks.plot())["the 300 largest trades"]
    hour = [np.datetime64(value) for value in dots.x]
    assert len(hour) == 300
    quarters = np.histogram([(value - hour[0]).astype(int) for value in hour], 4)[0]
    assert quarters.min() > 40


def test_a_line_ends_with_the_session(week: tuple[Any, ...]) -> None:
    delta = traces(week[0].ticks.plot.cumulative_delta("30m", **US))
    assert sum(value is None or np.isnan(value) for value in delta["price"].y) == 7
    vwap = traces(week[0].ticks.plot.candles("30m", **US))["VWAP"]
    assert sum(value is None or np.isnan(value) for value in vwap.y) == 7


def test_candles_are_the_bars(day: tuple[pl.DataFrame, pl.DataFrame], library: Any) -> None:
    trades = day[0]
    expected = analysis.time_bars(trades, "5m", anchor="session", market="US")
    figure = IN[library](trades).ticks.plot.candles("5m", **US)
    actual = traces(figure)
    assert list(actual["price"].close) == expected["close"].to_list()
    assert list(actual["volume"].y) == pytest.approx(expected["volume"].to_list())
    whole = (expected["vwap"] * expected["volume"]).sum() / expected["volume"].sum()
    assert actual["VWAP"].y[-1] == pytest.approx(whole)
    again = traces(IN[library](expected).ticks.plot(**US))
    assert list(again["price"].close) == expected["close"].to_list()


@pytest.mark.parametrize(
    ("session", "bars"), [("regular", 100), ("extended", 100)], ids=["regular", "extended"]
)
def test_a_length_is_chosen_that_makes_about_two_hundred_bars(
    day: tuple[pl.DataFrame, pl.DataFrame], week: tuple[Any, ...], session: str, bars: int
) -> None:
    for trades in (day[0], week[0], day[0].head(2000)):
        figure = trades.ticks.plot.candles(market="US", session=session)
        assert bars // 2 <= len(figure.data[0].x) <= 4 * bars


def test_cumulative_delta_is_that_of_the_measure(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    trades, quotes = day
    session = trades.ticks.session("regular", market="US")
    expected = session.ticks.cumulative_delta("1h", quotes=quotes)["cumulative_delta"]
    actual = traces(trades.ticks.plot.cumulative_delta("1h", quotes=quotes, **US))
    assert actual["cumulative delta"].y[-1] == pytest.approx(expected[-1])
    assert sum(actual["delta"].y) == pytest.approx(expected[-1])
    tick = trades.ticks.plot.cumulative_delta("1h", **US)
    assert "by tick" in tick.layout.title.text
    signed = trades.with_columns(sign=pl.lit(1, pl.Int8))
    known = traces(signed.ticks.plot.cumulative_delta("1h"))
    assert known["cumulative delta"].y[-1] == pytest.approx(trades["size"].sum())


def test_the_volume_profile_names_its_lines(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    figure = day[0].ticks.plot.volume_profile(0.5)
    levels = analysis.volume_profile(day[0], 0.5)
    assert list(traces(figure)["volume"].x) == levels["volume"].to_list()
    details = [annotation.text for annotation in figure.layout.annotations]
    area: Any = levels.filter("value_area")["price"]
    control = levels.filter("point_of_control")["price"].item()
    assert details == [
        f"value high {area.max():g}",
        f"control {control:g}",
        f"value low {area.min():g}",
    ]


def test_the_spread_through_the_day_is_weighed_by_time() -> None:
    """One quote is in force for four minutes, another for one."""
    start = datetime(2025, 1, 10, 15, tzinfo=UTC)
    at = [start, start + timedelta(minutes=4), start + timedelta(minutes=5)]
    quotes = pl.DataFrame(
        {"timestamp": at, "bid_price": [10.0, 10.0, 10.0], "ask_price": [11.0, 16.0, 10.5]}
    )
    spread, count = quotes.ticks.plot.day("5m").data
    assert spread.y[0] == pytest.approx((1 * 4 + 6 * 1) / 5)
    assert list(count.y) == [2, 1]


def test_several_days_show_the_median(week: tuple[Any, ...]) -> None:
    figure = week[0].ticks.plot.day("1h", quotes=week[1], **US)
    spread, volume = figure.data
    assert len(spread.x) == len(volume.x) == 7
    assert "middle half of 8 days" in figure.layout.title.text
    assert volume.error_y.array is not None


def test_a_heat_map_has_a_row_for_each_day(week: tuple[Any, ...]) -> None:
    trades, quotes = week
    (cells,) = trades.ticks.plot.heatmap("volume", "1h", **US).data
    assert len(cells.y) == 8
    assert cells.y[0] == "Tue 08 Oct 2013"
    session = trades.ticks.session("regular", market="US")
    assert np.nansum(np.array(cells.z, dtype=float)) == pytest.approx(session["size"].sum())
    for value, ticks in (("count", trades), ("range", trades), ("spread", quotes)):
        (cells,) = ticks.ticks.plot.heatmap(value, "1h", **US).data
        assert np.nanmin(np.array(cells.z, dtype=float)) >= 0
    with pytest.raises(InputError, match="no heat map of 'delta': there are volume"):
        trades.ticks.plot.heatmap("delta")


@pytest.mark.parametrize("unit", ["ns", "us"])
def test_a_heat_map_has_a_column_for_each_time_of_day(unit: Any) -> None:
    """Cells without a neighbour have the usual width, and empty cells have no value."""
    at = [datetime(2025, 1, 10, 23, 50, tzinfo=UTC), datetime(2025, 1, 11, 0, 1, tzinfo=UTC)]
    trades = pl.DataFrame({"timestamp": at, "price": 1.0, "size": [5.0, 7.0]})
    trades = trades.with_columns(pl.col("timestamp").dt.cast_time_unit(unit))
    (cells,) = trades.ticks.plot.heatmap(every="10m").data
    assert {np.datetime64(b) - np.datetime64(a) for a, b in pairwise(cells.x)} == {
        np.timedelta64(10, "m")
    }
    values = np.array(cells.z, dtype=float)
    assert values.shape == (2, 144)
    assert [values[0, 143], values[1, 0], np.nansum(values)] == [5.0, 7.0, 12.0]
    assert cells.text[0][0] == "00:00"
    assert not cells.hoverongaps
    assert cells.xgap == 1
    (fine,) = trades.ticks.plot.heatmap(every="1m").data
    assert fine.xgap == 0


def test_hover_labels_show_numbers_in_full(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """Prices to the step of the market, and sizes of a thousandth of a coin."""
    trades, quotes = day
    candles = traces(trades.ticks.plot.candles("5m", **US))
    assert candles["price"].yhoverformat == ",.6~f"
    figures = [
        trades.ticks.plot(quotes=quotes, **US),
        trades.ticks.plot.cumulative_delta(quotes=quotes, **US),
        trades.ticks.plot.day(quotes=quotes, **US),
        trades.ticks.plot.heatmap(**US),
        trades.ticks.plot.volume_profile(**US),
    ]
    for figure in figures:
        for trace in figure.data:
            assert ",.6~f" in trace.hovertemplate
        if figure.layout.yaxis.type != "category" and figure is not figures[2]:
            assert figure.layout.yaxis.title.text == "price"
    assert traces(figures[0])["bid to ask"].hovertemplate.endswith("<extra>ask</extra>")


def test_the_signature_is_that_of_the_measure(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    trades, quotes = day
    figure = trades.ticks.plot.signature(["1m", "5m"], quotes=quotes)
    expected = analysis.signature(trades, ["1m", "5m"])["realized_variance"]
    assert list(traces(figure)["trades"].y) == pytest.approx((expected.sqrt() * 100).to_list())
    assert {"mids of quotes", "trades"} < set(traces(figure))


@pytest.fixture(scope="module")
def many(week: tuple[Any, ...]) -> Any:
    trades = pl.concat([week[0].with_columns(pl.col("price") + i / 1000) for i in range(12)])
    return trades.sort("timestamp")


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_stays_small(many: Any, week: tuple[Any, ...], kind: str) -> None:
    assert many.height > 800_000
    asks = ("price", "signature", "day", "cumulative_delta")
    more = {"quotes": week[1]} if kind in asks else {}
    figure = getattr(many.ticks.plot, kind)(**more, **US)
    assert len(figure.to_json()) < 700_000


@pytest.mark.parametrize(("level", "span"), [(60_000, 300), (180, 3), (1.08, 0.002)])
def test_prices_have_the_decimals_they_need(level: float, span: float) -> None:
    """As many as the distance of the labels asks for: a fixed number repeats labels on zooming."""
    at = [OPEN + timedelta(minutes=minute) for minute in (0, 9)]
    trades = pl.DataFrame({"timestamp": at, "price": [level, level + span], "size": [1.0, 1.0]})
    for kind in KINDS[:4]:
        figure = getattr(trades.ticks.plot, kind)()
        assert figure.layout.yaxis.tickformat is None
        assert figure.layout.yaxis.separatethousands
        assert figure.layout.yaxis.exponentformat == "none"


def test_thinning_keeps_extremes(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    quotes = day[1]
    bid = traces(quotes.ticks.plot.price(**US))["bid"]
    regular = quotes.ticks.session("regular", market="US")
    sound = regular.filter(pl.col("ask_price") >= pl.col("bid_price"))
    assert (min(bid.y), max(bid.y)) == (sound["bid_price"].min(), sound["bid_price"].max())
    assert len(bid.x) < 6_000


def test_one_mixed_frame_is_drawn_like_two_frames(
    minutes: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    trades, quotes = (ticks.filter(pl.col("contract_id") == 8314) for ticks in minutes)
    both = pl.concat([quotes, trades], how="diagonal").sort("timestamp", maintain_order=True)
    one, two = both.ticks.plot(), trades.ticks.plot(quotes=quotes)
    assert [trace.name for trace in one.data] == [trace.name for trace in two.data]
    assert "Contract 8314" in one.layout.title.text


@pytest.mark.parametrize("kind", KINDS)
def test_several_contracts_and_none(minutes: tuple[pl.DataFrame, pl.DataFrame], kind: str) -> None:
    trades, _ = minutes
    draw = getattr(trades.ticks.plot, kind)
    with pytest.raises(InputError, match="of one contract, and there are 4815, 8314: choose one"):
        draw()
    assert draw(contract=8314).data
    with pytest.raises(InputError, match="there is nothing of contract 1 to plot"):
        draw(contract=1)
    with pytest.raises(InputError, match="nothing to plot in the pre_market sessions of US"):
        getattr(trades.filter(pl.col("contract_id") == 8314).ticks.plot, kind)(
            market="US", session="pre_market"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_trade_is_plotted(kind: str) -> None:
    trade = pl.DataFrame({"timestamp": [OPEN], "price": [10.5], "size": [100.0]})
    assert getattr(trade.ticks.plot, kind)().data


def test_missing_columns_are_named(day: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    trades, quotes = day
    for kind in KINDS[2:4]:
        with pytest.raises(UnknownColumnError, match="price"):
            getattr(quotes.ticks.plot, kind)()
    with pytest.raises(UnknownColumnError, match="bid_price"):
        trades.ticks.plot(quotes=trades)
    with pytest.raises(UnknownColumnError, match="bid_price"):
        trades.ticks.plot.heatmap("spread")
    with pytest.raises(UnknownMarketError, match="lunch"):
        trades.ticks.plot(market="US", session="lunch")
    with pytest.raises(InputError, match="chosen by its id"):
        trades.ticks.plot(contract="IBM")


def test_without_plotly_the_error_names_the_install_command() -> None:
    code = """if True:
        import sys, polars as pl, ibticks
        from datetime import datetime, UTC
        sys.modules["plotly"] = None
        trade = {"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)], "price": [1.0], "size": [1.0]}
        try: pl.DataFrame(trade).ticks.plot()
        except ibticks.errors.MissingExtraError as error: print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "plotly is not installed: pip install 'ibticks[lab]'"
