"""Measures of several sessions equal those of each session; no value crosses a close."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import ibticks as ibt
from ibticks import analysis
from ibticks.analysis._engine.sessions import SessionSplit
from ibticks.calendar import market
from ibticks.errors import InputError
from ibticks.frames import to_pandas, to_xarray

from .frames import START, both, made, real, together

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

SHARED = Path("/work/shared/data")
DAYS = (date(2013, 10, 8), date(2013, 10, 9))
MINUTE = 60_000_000_000


@cache
def two_days(kind: str) -> pl.DataFrame:
    """IBM on two days, with hours before and after; the second of the sample is its first."""
    path = SHARED / f"ibm_20131007_20131011.{kind}.parquet"
    sample = real(f"ibm_{kind}")
    if not path.exists():
        second = sample.with_columns(pl.col("timestamp").dt.offset_by("1d"))
        return pl.concat([sample, second])
    ticks = pl.read_parquet(path).with_columns(contract_id=pl.lit(8314, pl.UInt32))
    ticks = ticks.select(pl.col(name).cast(dtype) for name, dtype in sample.schema.items())
    return ticks.filter(new_york_day().is_in(DAYS))


def new_york_day() -> pl.Expr:
    return pl.col("timestamp").dt.convert_time_zone("America/New_York").dt.date()


def day_of(ticks: pl.DataFrame, day: date) -> pl.DataFrame:
    return ticks.filter(new_york_day() == day)


def regular(kind: str) -> pl.DataFrame:
    return analysis.session(two_days(kind))


def intervals() -> list[tuple[int, int]]:
    return [(value.start_ns, value.end_ns) for value in map(market("US").session, DAYS)]


OF_TRADES = {
    "realized_spread": partial(analysis.realized_spread, horizon="5m"),
    "realized_spread of a second": partial(analysis.realized_spread, horizon="1s"),
    "price_impact": partial(analysis.price_impact, horizon="30m", method="emo"),
    "effective_spread": partial(analysis.effective_spread, method="clnv"),
    "quotes_at": partial(analysis.quotes_at, lag="1s"),
    "lee_ready": analysis.trade_sign,
    "tick": partial(analysis.trade_sign, method="tick"),
    "quote with a delay": partial(analysis.trade_sign, method="quote", quote_delay="5s"),
    "rm_trade_outliers": analysis.rm_trade_outliers,
}
OF_ONE_STREAM = {
    "quoted_spread in bars": ("quotes", partial(analysis.quoted_spread, every="7m")),
    "quoted_spread in bars of sessions": (
        "quotes",
        lambda ticks, market="US", sessions=None: analysis.quoted_spread(
            ticks, "7m", anchor="session", market="US"
        ),
    ),
    "interarrival": ("quotes", analysis.interarrival),
    "staleness": ("quotes", analysis.staleness),
    "gaps": ("trades", partial(analysis.gaps, longer_than="5s")),
    "rolling_vwap": ("trades", partial(analysis.rolling_vwap, window="20h")),
    "rolling_twap": ("trades", partial(analysis.rolling_twap, window="20h")),
    "bollinger_bands": ("trades", partial(analysis.bollinger_bands, window="20h")),
    "anchored_twap": ("trades", analysis.anchored_twap),
}


def same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(actual, expected, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("name", OF_TRADES)
def test_trades_of_two_sessions_are_those_of_each_day(name: str) -> None:
    measure, trades, quotes = OF_TRADES[name], regular("trades"), regular("quotes")
    by_day = [measure(day_of(trades, day), quotes=day_of(quotes, day)) for day in DAYS]
    whole = measure(trades, quotes=quotes, market="US")
    same(whole, pl.concat(by_day))
    same(measure(trades, quotes=quotes, sessions=intervals()), whole)
    lazy = measure(trades.lazy(), quotes=quotes.lazy(), market="US")
    same(lazy.collect(), whole)


@pytest.mark.parametrize("method", ["tick", "lee_ready"])
def test_signed_volume_of_two_sessions_is_that_of_each_day(method: Any) -> None:
    trades, quotes = regular("trades"), regular("quotes")
    for measure in (
        partial(analysis.signed_volume, method=method),
        partial(analysis.delta, every="7m", method=method),
    ):
        by_day = [measure(day_of(trades, day), quotes=day_of(quotes, day)) for day in DAYS]
        same(measure(trades, quotes=quotes, sessions=intervals()), pl.concat(by_day))
    whole = analysis.cumulative_delta(trades, quotes=quotes, method=method, sessions=intervals())
    bars = analysis.delta(trades, quotes=quotes, method=method, sessions=intervals())
    assert whole["cumulative_delta"][-1] == pytest.approx(bars["delta"].item())


def test_kyle_lambda_of_two_sessions_signs_each_by_itself() -> None:
    # The first trade of the second day has no price before it to be compared with.
    trades = regular("trades").filter(~new_york_day().is_in([DAYS[0]])).head(2_000)
    before = regular("trades").filter(new_york_day() == DAYS[0]).tail(2_000)
    both_days = pl.concat([before, trades])
    days = [analysis.trade_sign(part, "tick") for part in (before, trades)]
    expected = analysis.kyle_lambda(pl.concat(days), None)
    same(analysis.kyle_lambda(both_days, None, method="tick", sessions=intervals()), expected)
    whole = analysis.kyle_lambda(both_days, None, method="tick")
    assert whole["kyle_lambda"].item() != expected["kyle_lambda"].item()


@pytest.mark.parametrize("name", OF_TRADES)
def test_hours_outside_change_nothing(name: str) -> None:
    """Quotes before the opening and after the close are not in force in the session."""
    measure = OF_TRADES[name]
    full = measure(two_days("trades"), quotes=two_days("quotes"), market="US")
    inside = measure(regular("trades"), quotes=regular("quotes"), market="US")
    same(analysis.session(full), inside)
    if name != "rm_trade_outliers":
        outside = full.filter(~pl.col("timestamp").is_in(inside["timestamp"].implode()))
        added = [column for column in full.columns if column not in two_days("trades").columns]
        assert outside.height > 50
        for value in added:
            values = outside[value]
            assert (values == 0).all() if value == "sign" else values.is_null().all()


@pytest.mark.parametrize("name", OF_ONE_STREAM)
def test_streams_of_two_sessions_are_those_of_each_day(name: str) -> None:
    kind, measure = OF_ONE_STREAM[name]
    ticks = regular(kind)
    by_day = pl.concat([measure(day_of(ticks, day)) for day in DAYS])
    whole = measure(ticks, sessions=intervals())
    same(whole, by_day)
    same(measure(ticks, market="US"), whole)
    same(measure(ticks.lazy(), market="US").collect(engine="streaming"), whole)


@pytest.mark.parametrize(
    ("measure", "kind", "value", "weight"),
    [
        (analysis.twap, "trades", "twap", "seconds"),
        (partial(analysis.twap, column="bid_price"), "quotes", "twap", "seconds"),
    ],
)
def test_averages_over_time_are_weighed_by_the_time_of_each_day(
    measure: Callable[..., Any] | partial[Any], kind: str, value: str, weight: str
) -> None:
    ticks = regular(kind)
    by_day = pl.concat([measure(day_of(ticks, day)) for day in DAYS])
    whole = measure(ticks, market="US")
    assert whole[weight].item() == pytest.approx(by_day[weight].sum())
    assert whole[weight].item() < 2 * 6.5 * 3600 < measure(ticks)[weight].item()
    total = (by_day[value] * by_day[weight]).sum() / by_day[weight].sum()
    assert whole[value].item() == pytest.approx(total, rel=1e-12)
    assert both(lambda f: measure(f, market="US"), ticks)[value].item() == whole[value].item()


def test_the_spread_over_time_does_not_count_the_night() -> None:
    ticks = regular("quotes")
    by_day = [analysis.quoted_spread(day_of(ticks, day)) for day in DAYS]
    lengths = [analysis.twap(day_of(ticks, day), column="bid_price")["seconds"] for day in DAYS]
    seconds = [length.item() for length in lengths]
    whole = both(lambda f: analysis.quoted_spread(f, market="US"), ticks)
    spreads = [value["time_weighted_spread"].item() for value in by_day]
    weighed = sum(s * t for s, t in zip(spreads, seconds, strict=True)) / sum(seconds)
    assert whole["time_weighted_spread"].item() == pytest.approx(weighed, rel=1e-9)
    assert whole["quotes"].item() == sum(value["quotes"].item() for value in by_day)
    same(analysis.quoted_spread(two_days("quotes"), market="US"), whole)


def test_null_at_the_edge() -> None:
    trades, quotes = regular("trades"), regular("quotes")
    actual = analysis.realized_spread(trades, "5m", quotes=quotes, market="US")
    for _, close in intervals():
        ns = pl.col("timestamp").cast(pl.Int64)
        edge = actual.filter(ns >= close - 5 * MINUTE, ns < close)
        before = actual.filter(ns >= close - 7 * MINUTE, ns < close - 6 * MINUTE)
        assert edge["later_mid"].null_count() == edge.height > 100
        assert before["later_mid"].null_count() == 0 < before.height
    first = analysis.quotes_at(trades, quotes, market="US")["quote_timestamp"]
    age = trades["timestamp"] - first
    assert age.max() < timedelta(minutes=5)


def test_several_contracts_and_sessions() -> None:
    other = regular("quotes").with_columns(contract_id=pl.lit(1, pl.UInt32), bid_price=170.0)
    quotes = together(regular("quotes"), other)
    for measure in (
        partial(analysis.quoted_spread, every="1h", market="US"),
        partial(analysis.twap, column="bid_price", market="US"),
        partial(analysis.rolling_twap, window="20h", column="bid_price", market="US"),
    ):
        apart = pl.concat([measure(regular("quotes")), measure(other)])
        keys = [name for name in ("timestamp", "contract_id", "bid_size") if name in apart.columns]
        both_contracts = measure(quotes).sort(*keys, maintain_order=True)
        same(both_contracts, apart.sort(*keys, maintain_order=True))


def frame_of(
    library: str, ticks: pl.DataFrame, spans: list[tuple[int, int]]
) -> pd.DataFrame | xr.Dataset:
    metadata = {
        "intervals": [
            [f"{pd.Timestamp(ns, tz='UTC').isoformat()}" for ns in span] for span in spans
        ]
    }
    table = ticks.to_arrow()
    if library == "pandas":
        frame = to_pandas(table)
        frame.attrs["ibticks"] = metadata
        return frame
    import json

    data = to_xarray(table)
    data.attrs["ibticks"] = json.dumps(metadata)
    return data


@pytest.mark.parametrize("library", ["pandas", "xarray"])
def test_frames_know_the_sessions_of_their_selection(library: str) -> None:
    trades, quotes = regular("trades")[::7], regular("quotes")
    spans = intervals()
    frame = frame_of(library, trades, spans)
    numpy = frame.ticks.realized_spread("5m", quotes=quotes)["realized_spread"].to_numpy()
    wanted = analysis.realized_spread(trades, "5m", quotes=quotes, market="US")
    assert pl.Series(numpy).fill_nan(None).null_count() == wanted["realized_spread"].null_count()
    assert pl.Series(numpy).fill_nan(None).sum() == pytest.approx(wanted["realized_spread"].sum())
    spread = frame_of(library, quotes, spans).ticks.quoted_spread()["time_weighted_spread"]
    wanted = analysis.quoted_spread(quotes, market="US")["time_weighted_spread"].item()
    assert float(spread.to_numpy()[0]) == pytest.approx(wanted, rel=1e-12)
    # One interval divides nothing, and what is asked for goes first.
    one = frame_of(library, quotes, [(spans[0][0], spans[1][1])])
    plain = analysis.quoted_spread(quotes)["time_weighted_spread"].item()
    numpy = one.ticks.quoted_spread()["time_weighted_spread"]
    assert float(numpy.to_numpy()[0]) == pytest.approx(plain, rel=1e-12)
    extended = frame_of(library, quotes, spans).ticks.twap(
        column="bid_price", market="US", session_type="extended"
    )
    assert float(extended["seconds"].to_numpy()[0]) == pytest.approx(
        analysis.twap(quotes, column="bid_price", market="US")["seconds"].item()
    )


@pytest.mark.parametrize("library", ["pandas", "xarray"])
def test_bars_that_begin_before_the_opening(library: str) -> None:
    """Hours of the clock begin at 9:00, half an hour before the session of their selection."""
    frame = frame_of(library, regular("trades"), intervals())
    bars = frame.ticks.time_bars("1h")
    numpy = bars.ticks.bollinger_bands("20h", column="close")["bollinger_middle"].to_numpy()
    plain = analysis.time_bars(regular("trades"), "1h")
    by_day = [analysis.bollinger_bands(day_of(plain, day), "20h", column="close") for day in DAYS]
    assert numpy.tolist() == pytest.approx(pl.concat(by_day)["bollinger_middle"].to_list())


def test_a_selection_of_sessions_from_a_store(tmp_path: Path) -> None:
    """The last two sessions that ended, loaded at once and one by one; one may close early."""
    sessions = market("US").previous_sessions(2)
    shifts = [session.start_ns - market("US").session(DAYS[0]).start_ns for session in sessions]
    day = real("ibm_quotes")
    with ibt.open(tmp_path / "ticks") as store:
        store.add_contract(8314, "IBM")
        for shift in shifts:
            moved = (pl.col("timestamp").cast(pl.Int64) + shift).cast(pl.Datetime("ns", "UTC"))
            store.write(
                day.with_columns(moved).drop("contract_id"), contract_id=8314, tick_type="bid_ask"
            )
        whole = store.select("IBM", "bid_ask", sessions=2)
        parts = [
            store.select("IBM", "bid_ask", start=session.start, end=session.end)
            for session in sessions
        ]
        frame = whole.to_pandas()
        days = [part.to_pandas() for part in parts]
        by_day = pd.concat([day.ticks.quoted_spread() for day in days])
        spans = pd.concat([day.ticks.twap(column="bid_price") for day in days])
        actual, span = frame.ticks.quoted_spread(), frame.ticks.twap(column="bid_price")
        weights = {"quoted_spread": by_day["quotes"], "time_weighted_spread": spans["seconds"]}
        for name, weight in weights.items():
            expected = (by_day[name] * weight).sum() / weight.sum()
            assert actual[name].iloc[0] == pytest.approx(expected, rel=1e-9)
        assert span["seconds"].iloc[0] == pytest.approx(spans["seconds"].sum())
        polars: Any = whole.to_polars()
        assert polars.ticks.quoted_spread(sessions=whole.intervals)[
            "time_weighted_spread"
        ].item() == pytest.approx(actual["time_weighted_spread"].iloc[0], rel=1e-12)


def test_a_lunch_break_divides_a_session() -> None:
    day = market("JP").session("2025-01-10")
    (pause, resume), minutes = day.breaks[0], 60 * 10**9
    at = [pause - minutes, pause - 1, resume, resume + minutes]
    start = pl.Series(at).cast(pl.Datetime("ns", "UTC"))
    ticks = pl.DataFrame({"timestamp": start, "price": [1.0, 2.0, 5.0, 9.0]})
    actual = analysis.twap(ticks, market="JP")
    assert actual["seconds"].item() == pytest.approx(120, abs=1e-6)
    assert actual["twap"].item() == pytest.approx(3.0, rel=1e-6)


def test_ticks_out_of_order_lie_in_their_sessions() -> None:
    split = SessionSplit.of(
        None, "regular", [(START + 10, START + 20), (START + 30, START + 40)], caller="a test"
    )
    at = pl.Series([35, 10, 20, 19, None, 40, 5]) + START
    at = at.cast(pl.Datetime("ns", "UTC"))
    frame = pl.DataFrame({"timestamp": at})
    assert frame.select(split.number).to_series().to_list() == [1, 0, None, 0, None, None, None]
    ordered = frame.sort("timestamp", nulls_last=False).select(split.number).to_series()
    assert ordered.to_list() == [None, None, 0, 0, None, 1, None]


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        ([(START + 20, START + 30), (START + 10, START + 20)], "in order of time"),
        ([(START + 10, START + 30), (START + 20, START + 40)], "none overlapping"),
        ([(START, START)], "none empty"),
        ([START, START + 1], "pairs of times"),
        ([(1, 2)], "if seconds are meant"),
        ([("2025-01-10 09:30", "2025-01-10 16:00")], "time zone"),
    ],
)
def test_invalid_sessions_are_refused(sessions: list[Any], message: str) -> None:
    ticks = made([{"ns": 0, "price": 1.0}])
    with pytest.raises(InputError, match=message):
        analysis.twap(ticks, sessions=sessions)


def test_a_market_or_sessions() -> None:
    ticks = made([{"ns": 0, "price": 1.0}])
    with pytest.raises(InputError, match="both given"):
        analysis.twap(ticks, market="US", sessions=[(0, 1)])


def test_open_intervals_of_a_selection() -> None:
    ticks = made([{"ns": 0, "price": 1.0}, {"ns": 10**9, "price": 3.0}])
    edge = datetime(2025, 1, 10, 14, 29, 0, 500_000, tzinfo=UTC)
    sessions = [("the beginning", edge), (edge, "the end")]
    assert analysis.twap(ticks, sessions=sessions)["seconds"].item() == 0
