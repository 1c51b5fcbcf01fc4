"""Incremental measures: the results of any blocks equal those of the whole frame."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks import Store, analysis
from ibticks.analysis import Incremental
from ibticks.analysis.engine import MEASURES
from ibticks.errors import InputError, UnknownColumnError, UnknownPeriodError
from ibticks.schema import TickColumns, Values

from .frames import START, made, real, ticks, together

if TYPE_CHECKING:
    from collections.abc import Iterable

INSTANTS = pl.Series([START + ns * 1_000_000_000 for ns in (-5, 0, 1, 17, 18, 30, 3600, 9000)])
INSTANTS = INSTANTS.cast(pl.Datetime("ns", "UTC"))
SESSION = {"market": "US"}
BY_SESSION = {"anchor": "session", **SESSION}
# A short session, a break of a second, and a long session, in the midst of the ticks.
SESSIONS = {
    "sessions": [
        (START + 1, START + 20 * 10**9),
        (START + 21 * 10**9, START + 3601 * 10**9),
        (START + 2 * 3600 * 10**9, START + 30 * 3600 * 10**9),
    ]
}
Case: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
DIVIDED: list[dict[str, Any]] = [SESSION, SESSIONS]
SIGNED: list[Case] = [
    ((), {}),
    ((), {"method": "tick"}),
    ((), {"method": "emo"}),
    ((), {"method": "lee_ready", "quote_delay": "17s"}),
]
INFORMED: list[Case] = [
    ((), {"expected_ticks": 3}),
    ((), {"expected_ticks": 1, "partial": True, "limits": (1, 4)}),
    (("volume",), {"expected_ticks": 2, "sign": "side", "span": 3, "partial": True}),
]
OF_BARS = {"parkinson", "garman_klass", "rogers_satchell", "yang_zhang"}
WINDOWS: list[Case] = [(("17s",), {}), ((3,), {}), (("1h",), {})]

# Arguments of each incremental measure that differ in their lookback.
CASES: dict[str, list[Case]] = {
    "align": [(("10s",), {}), (("1h",), {"tolerance": "1m"}), (("5m",), SESSION)],
    "anchored_twap": [((), {}), ((), {**SESSION, "column": "mid_price"}), ((), SESSIONS)],
    "anchored_vwap": [((), {}), ((), SESSION), ((), {"deviations": 0})],
    "bollinger_bands": [
        *WINDOWS,
        ((2,), {"column": "mid_price"}),
        *((("40h",), value) for value in DIVIDED),
    ],
    "crossed_quotes": [((), {})],
    "cumulative_delta": [
        *SIGNED,
        (("30s",), {}),
        (("1h",), {"method": "tick", **BY_SESSION}),
        ((), SESSIONS),
        (("30s",), {"method": "tick", **SESSIONS}),
    ],
    "delta": [
        *SIGNED,
        (("30s",), BY_SESSION),
        (("1h",), {"by_price": True, "step": 0.5, "quote_delay": "1s"}),
        ((), {"by_price": True, "method": "tick"}),
        ((), SESSIONS),
        (("30s",), {"method": "tick", **SESSIONS}),
    ],
    "dollar_bars": [((20_000,), {}), ((20_000,), {"partial": True})],
    "duplicates": [((), {})],
    "effective_spread": [*SIGNED, *(((), value) for value in DIVIDED)],
    "gaps": [(("2s",), {}), *((("2s",), value) for value in DIVIDED)],
    "garman_klass": [((), {}), ((3,), {})],
    "imbalance_bars": INFORMED,
    "intensity": [(("30s",), {}), (("1h",), BY_SESSION)],
    "interarrival": [((), {}), *(((), value) for value in DIVIDED)],
    "trailing_window": [(("30s",), {}), (("2h",), {})],
    "last_value": [((INSTANTS,), {}), ((INSTANTS,), {"column": "mid_price", "tolerance": "17s"})],
    "latency": [((), {})],
    "merge_same_timestamp": [((), {}), ((), {"of": "quotes", "how": "max_volume"})],
    "microprice": [((), {})],
    "mid": [((), {})],
    "no_zero_prices": [((), {})],
    "no_zero_quotes": [((), {})],
    "order_flow_imbalance": [((), {}), (("30s",), {}), (("1h",), BY_SESSION)],
    "parkinson": [((), {}), ((3,), {})],
    "price_impact": [
        (("17s",), {}),
        (("1h",), {"method": "tick"}),
        (("17s",), SESSIONS),
        (("1h",), {"method": "tick", **SESSION}),
    ],
    "quote_imbalance": [((), {})],
    "quoted_spread": [
        (("30s",), {}),
        (("1h",), {}),
        (("1h",), BY_SESSION),
        *((("1h",), value) for value in DIVIDED),
    ],
    "quotes_at": [
        ((), {}),
        ((), {"strict": True}),
        ((), {"lag": "17s", "tolerance": "1h"}),
        ((), {"lag": "1s", "strict": True}),
        *(((), {"lag": "1s", **value}) for value in DIVIDED),
    ],
    "realized_spread": [
        (("1s",), {"quote_delay": "1s"}),
        (("1h",), {}),
        *((("1h",), value) for value in DIVIDED),
    ],
    "realized_semivariance": [((), {}), ((), {"column": "mid_price", "per": "exchange"})],
    "realized_variance": [((), {}), ((), {"column": "mid_price", "per": "exchange"})],
    "rm_corrected": [((), {"column": "exchange_number"})],
    "rm_negative_spread": [((), {})],
    "rm_trade_outliers": [((), {}), ((), {"quote_delay": "17s"}), ((), SESSIONS)],
    "rogers_satchell": [((), {}), ((2,), {})],
    "rolling_twap": [
        (("17s",), {}),
        (("1h",), {"column": "mid_price"}),
        *((("40h",), value) for value in DIVIDED),
    ],
    "rolling_vwap": [*WINDOWS, *((("40h",), value) for value in DIVIDED), ((3,), SESSIONS)],
    "run_bars": INFORMED,
    "sales_condition": [((), {})],
    "select_exchange": [(("N",), {})],
    "session": [((), SESSION)],
    "signed_volume": [*SIGNED, ((), SESSIONS), ((), {"method": "tick", **SESSIONS})],
    "spread": [((), {"tick_size": 0.01})],
    "staleness": [((), {}), *(((), value) for value in DIVIDED)],
    "tick_bars": [((3,), {}), ((2,), {"of": "quotes", "partial": True}), ((1,), {"of": "mids"})],
    "time_bars": [
        (("30s",), {}),
        (("1h",), {"of": "quotes"}),
        (("10s",), {"of": "mids", "empty": True}),
        (("10m",), BY_SESSION),
        (("45m",), {**BY_SESSION, "empty": True}),
        (("1d",), BY_SESSION),
    ],
    "trade_sign": [
        *SIGNED,
        ((), {"method": "clnv"}),
        ((), {"method": "quote"}),
        *(((), {"method": method, **SESSIONS}) for method in ("tick", "quote", "emo")),
        ((), SESSION),
    ],
    "twap": [
        ((), {}),
        ((), {"column": "mid_price"}),
        *(((), value) for value in DIVIDED),
        ((), {"column": "mid_price", **SESSIONS}),
    ],
    "volume_bars": [((500,), {}), ((500,), {"partial": True})],
    "volume_profile": [((), {}), ((0.5,), {"share": 0.5})],
    "vwap": [((), {})],
    "yang_zhang": [((2,), {}), ((3,), {})],
}
# Of each measure that does not, arguments, and a word of the reason.
REFUSED = {
    "amihud": ((), "mean over bars"),
    "bipower_variation": ((), "samples prices"),
    "bns_jump_test": ((), "samples prices"),
    "coverage": ((), "intensity"),
    "kyle_lambda": ((), "a fit"),
    "med_rq": ((), "samples prices"),
    "med_rv": ((), "samples prices"),
    "min_rq": ((), "samples prices"),
    "min_rv": ((), "samples prices"),
    "outliers": ((), "comes after"),
    "preaveraged_rv": ((), "samples prices"),
    "quadpower_quarticity": ((), "samples prices"),
    "quality_report": ((), "look ahead"),
    "quotes_cleanup": ((), "whole day"),
    "realized_kernel": ((), "samples prices"),
    "realized_kurtosis": ((), "samples prices"),
    "realized_quarticity": ((), "samples prices"),
    "realized_skewness": ((), "samples prices"),
    "refresh_time": ((), "all contracts"),
    "rm_large_spread": ((), "whole day"),
    "rm_quote_outliers": ((), "comes after"),
    "roll_spread": ((), "a fit"),
    "signature": ((), "samples prices"),
    "since_open": ((), "buffer='since_open'"),
    "threshold_rv": ((), "samples prices"),
    "trades_cleanup": ((), "no_zero_prices"),
    "tripower_quarticity": ((), "samples prices"),
    "two_scale_rv": ((), "samples prices"),
    "variance_interval": ((), "samples prices"),
    "vpin": ((), "all bars"),
}
REFUSED_SO = {
    "quoted_spread": ((), "every='1m'"),
    "realized_variance": (("5m",), "leave out every="),
    "yang_zhang": ((), "window=20"),
}

CALLS = [(name, *call) for name, calls in CASES.items() for call in calls]
IDS = [f"{name}-{place}" for name, calls in CASES.items() for place in range(len(calls))]


def full(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the other columns of a store's ticks, and a partly known side."""
    ns = pl.col("timestamp").cast(pl.Int64)
    trade = pl.col("price").is_not_null()
    return frame.with_columns(
        tick_type=pl.when(trade).then(pl.lit("last")).otherwise(pl.lit("bid_ask")),
        exchange_time=pl.col("timestamp").dt.truncate("1s"),
        exchange=pl.when(ns % 2 == 0).then(pl.lit("N")).otherwise(pl.lit("Q")),
        conditions=pl.when(trade).then(pl.lit("F I")),
        side=pl.when(pl.col("size") > 200).then(pl.lit(1)).otherwise(pl.lit(-1)),
        exchange_number=ns % 3,
    )


def cut(frame: pl.DataFrame, places: list[int]) -> list[pl.DataFrame]:
    """Pieces, some of them empty."""
    edges = [0, *sorted(place % (frame.height + 1) for place in places), frame.height]
    return [frame[low:high] for low, high in pairwise(edges)]


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Sort by contract: the order of rows is promised within one contract only."""
    keys = [name for name in ("contract_id", "tick_type") if name in frame.columns]
    return frame.sort(keys, maintain_order=True) if keys else frame


def check(
    name: str, args: tuple[Any, ...], kwargs: dict[Any, Any], pieces: list[pl.DataFrame]
) -> Incremental:
    """Assert that the results of blocks equal the result of the whole frame."""
    measure, function = Incremental(name, *args, **kwargs), getattr(analysis, name)
    whole = pl.concat(pieces)
    details = [measure.update(piece) for piece in pieces]
    if measure._state.is_total:
        so_far = pieces[0].clear()
        for piece, actual in zip(pieces, details, strict=True):
            so_far = pl.concat([so_far, piece])
            same(actual, function(so_far, *args, **kwargs))
        same(measure.pending(), details[-1])
    else:
        actual, expected = (
            pl.concat([*details, measure.pending()]),
            function(whole, *args, **kwargs),
        )
        if name == "gaps" or whole.get_column("contract_id", default=whole).n_unique() > 1:
            actual, expected = in_order(actual), in_order(expected)
        # Where all prices are one, a deviation is the root of what rounding left of the variance.
        same(actual, expected, 1e-6 if name == "bollinger_bands" else 1e-9)
    return measure


def same(actual: pl.DataFrame, expected: pl.DataFrame, absolute: float = 1e-9) -> None:
    assert_frame_equal(actual, expected, rel_tol=1e-9, abs_tol=absolute)


def ticks_of(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    return analysis.time_bars(frame, "1s") if name in OF_BARS else full(frame)


def test_every_public_measure_is_registered_and_tested() -> None:
    functions = {name: getattr(analysis, name) for name in analysis.__all__}
    assert set(MEASURES) == set(functions) - {"Incremental"}
    assert all(measure.function is functions[name] for name, measure in MEASURES.items())
    assert set(CASES) == set(MEASURES) - set(REFUSED)


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=IDS)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_blocks_give_the_result_of_the_whole_frame(
    name: str, args: tuple[Any, ...], kwargs: dict[Any, Any], data: st.DataObject
) -> None:
    frame = ticks_of(name, data.draw(ticks(contracts=2)))
    if data.draw(st.booleans()):
        frame = frame.filter(pl.col("contract_id") == 1).drop("contract_id")
    check(name, args, kwargs, cut(frame, data.draw(st.lists(st.integers(0, 40), max_size=5))))


@pytest.mark.parametrize("name", CASES)
def test_a_real_day_in_blocks(name: str) -> None:
    """The number of lookback rows does not grow, either."""
    args, kwargs = CASES[name][0]
    frame = ticks_of(name, together(real("ibm_trades"), real("ibm_quotes")))
    places = random.Random(name)
    pieces = cut(frame, [places.randrange(frame.height) for _ in range(8)])
    assert check(name, args, kwargs, pieces).lookback_rows < 1_000


@pytest.mark.parametrize("name", CASES)
def test_columns_keep_their_types(name: str) -> None:
    """The average of sizes is not one of the sizes."""
    args, kwargs = CASES[name][0]
    day = together(real("ibm_trades")[:300], real("ibm_quotes")[:600])
    times = pl.col("timestamp").dt.cast_time_unit("us").dt.convert_time_zone("Asia/Tokyo")
    frame = day.with_columns(times, pl.col("size").cast(pl.UInt32), contract_id=pl.lit("IBM"))
    check(name, args, kwargs, cut(ticks_of(name, frame), [100, 101, 450, 800]))


DAYS = [(name, *call) for name, *call in CALLS if "market" in call[1]]


@pytest.mark.parametrize(("name", "args", "kwargs"), DAYS, ids=lambda value: str(value)[:30])
def test_session_after_session(name: Any, args: Any, kwargs: Any) -> None:
    """Nights, a weekend, and days that begin before a pending bar has its full length."""
    hours = together(real("ibm_trades")[::150], real("ibm_quotes")[::300]).with_columns(
        mid_price=pl.col("bid_price")
    )
    days = [
        hours.with_columns(pl.col("timestamp").dt.offset_by(f"{day}d")) for day in (0, 1, 4, 27)
    ]
    frame = full(pl.concat(days))
    places = random.Random(name)
    check(name, args, kwargs, cut(frame, [places.randrange(frame.height) for _ in range(12)]))


OF_BOTH = [
    *[("trade_sign", *call) for call in SIGNED],
    *[("effective_spread", *call) for call in SIGNED],
    ("quotes_at", (), {"lag": "1s"}),
    ("rm_trade_outliers", (), {}),
    ("realized_spread", ("10s",), {}),
    ("order_flow_imbalance", (), {}),
    ("quoted_spread", ("10s",), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), OF_BOTH, ids=lambda value: str(value)[:30])
def test_rows_that_are_trades_and_quotes_at_once(
    name: str, args: tuple[str, ...], kwargs: dict[str, str]
) -> None:
    quotes = real("ibm_quotes")[:600]
    trades = analysis.quotes_at(real("ibm_trades")[:300], quotes).drop("mid", "quote_timestamp")
    frame, places = together(quotes, trades), random.Random(name)
    check(name, args, kwargs, cut(frame, [places.randrange(frame.height) for _ in range(12)]))


def test_single_ticks_do_not_accumulate() -> None:
    bars: Any
    window: Any
    bars, window = Incremental("time_bars", "1d"), Incremental("rolling_vwap", "1h")
    for tick in real("ibm_trades")[:200].iter_slices(1):
        bars.update(tick)
        window.update(tick)
    assert bars.lookback_rows == window.lookback_rows == 200
    assert bars._state.ticks.n_chunks() == 1
    assert window._state.ticks.n_chunks() == 1


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [(name, *details) for name, details in [*REFUSED.items(), *REFUSED_SO.items()]],
)
def test_other_measures_raise_with_the_reason(
    name: str, args: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(InputError, match=f"^{name} cannot take ticks as they come: .*{reason}"):
        Incremental(name, *args)


def test_invalid_arguments_are_refused_at_construction() -> None:
    with pytest.raises(InputError, match="time_bar is no measure"):
        Incremental("time_bar", "1m")
    with pytest.raises(InputError, match="len is no measure"):
        Incremental(len)
    with pytest.raises(InputError, match="time_bars: missing a required argument: 'every'"):
        Incremental("time_bars")
    with pytest.raises(InputError, match="mid: got an unexpected keyword argument 'every'"):
        Incremental(analysis.mid, every="1m")
    with pytest.raises(UnknownPeriodError):
        Incremental("time_bars", "1 lightyear")
    with pytest.raises(InputError, match="from the same frame"):
        Incremental("trade_sign", quotes=real("ibm_quotes"))


def test_the_measure_refuses_invalid_ticks() -> None:
    measure = Incremental("volume_bars", 100)
    with pytest.raises(UnknownColumnError, match="volume_bars of trades needs price, size"):
        measure.update(real("ibm_quotes"))
    with pytest.raises(UnknownColumnError, match="needs timestamp"):
        Incremental("mid").update(real("ibm_quotes").drop("timestamp"))
    trades = real("ibm_trades")
    measure.update(trades[:10])
    with pytest.raises(InputError, match=r"have columns timestamp .*; those before had timestamp"):
        measure.update(trades[10:20].drop("contract_id"))
    assert measure.update(trades[10:]).equals(
        analysis.volume_bars(trades, 100)[analysis.volume_bars(trades[:10], 100).height :]
    )


def second(at: int, price: float = 10.0, **more: Any) -> dict[Any, Any]:
    return {"ns": at * 1_000_000_000, "price": price, "size": 1.0, **more}


def test_a_bar_is_final_when_a_tick_of_any_type_came_after_its_end() -> None:
    bars = Incremental(analysis.time_bars, timedelta(seconds=10))
    rows = [second(1), second(2, contract_id=2), {"ns": 9_999_999_999, "bid_price": 9.0}]
    assert bars.update(made(rows)).is_empty()
    assert bars.update(made([])).is_empty()
    assert bars.pending()["contract_id"].to_list() == [1, 2]
    assert bars.pending().equals(bars.pending())
    assert (
        bars.update(made([{"ns": 10_000_000_000, "contract_id": 3, "mid_price": 9.0}])).height == 2
    )
    assert bars.pending().is_empty()
    assert bars.pending().schema == analysis.time_bars(made(rows), "10s").schema


LATE = {
    "bars": (("time_bars", "10s"), "its bar, of 2025-01-10T14:29:00Z, was final already"),
    "signed": (("delta", "10s"), "its bar, of 2025-01-10T14:29:00Z"),
    "a grid": (("align", "10s"), "2025-01-10T14:29:10Z was given already"),
    "merged": (("merge_same_timestamp",), "its bar, of 2025-01-10T14:29:09Z, was final already"),
}


@pytest.mark.parametrize("name", LATE)
def test_a_tick_that_is_too_late_is_refused_and_nothing_changed(name: str) -> None:
    (measure, *args), message = LATE[name]
    kwargs = {"method": "tick"} if measure == "delta" else {}
    going = Incremental(measure, *args, **kwargs)
    first = made([second(1), second(12, 11.0)])
    late = made([second(14, 10.5), second(9, 12.0), second(30, 11.0)])
    details = [going.update(first)]
    before = repr(going), going.pending()
    match = f"{measure}: a tick of contract 1 of 2025-01-10T14:29:09Z came late, when {message}"
    with pytest.raises(InputError, match=match):
        going.update(late)
    assert repr(going) == before[0]
    assert going.pending().equals(before[1])
    in_time = late.filter(pl.col("price") != 12.0)
    details += [going.update(in_time), going.pending()]
    whole = pl.concat([first, in_time])
    same(pl.concat(details), getattr(analysis, measure)(whole, *args, **kwargs))


def test_ticks_out_of_order_within_an_open_bar_are_taken() -> None:
    frame = made([second(5), second(3, 11.0), second(8), second(4, 12.0), second(11)])
    check("time_bars", ("10s",), {}, cut(frame, [1, 2, 3, 4]))


def test_bars_chain() -> None:
    """The output of one incremental measure is the input of another."""
    trades = real("ibm_trades")
    bars, ranges = Incremental("time_bars", "5m"), Incremental("parkinson", 12)
    details = [ranges.update(bars.update(piece)) for piece in trades.iter_slices(5_000)]
    details.append(ranges.update(bars.pending()))
    same(pl.concat(details), analysis.parkinson(analysis.time_bars(trades, "5m"), 12))


def test_repr() -> None:
    measure = Incremental("tick_bars", 3, of="quotes")
    assert repr(measure) == "<Incremental tick_bars(3, of='quotes'): 0 ticks, 0 rows kept>"
    assert measure.pending().equals(pl.DataFrame())
    measure.update(made([{"ns": ns, "bid_price": 1.0} for ns in range(4)]))
    text = "tick_bars(3, of='quotes'): 4 ticks to 2025-01-10T14:29:00.000000003Z, 1 row kept"
    assert repr(measure) == f"<Incremental {text}>"
    shown = measure._repr_html_()
    assert "<code>tick_bars(3, of=&#x27;quotes&#x27;)</code>" in shown
    assert "4 ticks to 2025-01-10T14:29:00.000000003Z" in shown


def columns_of(frame: pl.DataFrame, *names: str) -> TickColumns:
    times = frame["timestamp"].cast(pl.Int64).to_numpy()
    values = {name: Values(frame[name].to_numpy()) for name in names}
    return TickColumns(frame.height, {"timestamp": Values(times), **values})


def test_bars_of_a_live_stream(store: Store) -> None:
    """A thread writes like another process; bars of a live stream equal those of the store."""
    trades = real("ibm_trades")[:9_000]
    bars, details = Incremental("time_bars", "1m"), []

    def write(pieces: Iterable[pl.DataFrame]) -> None:
        with store.writer(8314, "last", fsync=None) as writer:
            for piece in pieces:
                writer.write(columns_of(piece, "price", "size"))

    async def follow() -> None:
        async with store.live(8314, "last", buffer=trades["timestamp"][0]) as live:
            async for batch in live.batches():
                details.append(bars.update(batch))
                if live.stats()["ticks"] == trades.height:
                    break

    async def both() -> None:
        first, *others = trades.iter_slices(700)
        write([first])
        async with asyncio.timeout(60):
            await asyncio.gather(follow(), asyncio.to_thread(write, others))

    asyncio.run(both())
    actual = pl.concat([*details, bars.pending()])
    same(actual, analysis.time_bars(store.select(8314, "last").to_polars(), "1m"))
    assert actual.height > 60


def test_measures_of_trades_and_quotes_of_a_live_stream(store: Store) -> None:
    """Trades and quotes in one frame, as a feed of both has them."""
    frame = together(real("ibm_quotes")[:4_000], real("ibm_trades")[:1_500])
    sides = ("bid_price", "bid_size", "ask_price", "ask_size")
    paid, spreads = Incremental("effective_spread"), Incremental("quoted_spread", "1m")
    details = []
    with (
        store.writer(8314, "bid_ask", fsync=None) as quotes,
        store.writer(8314, "last", fsync=None) as trades,
        store.live(8314, ["bid_ask", "last"]) as live,
    ):
        for piece in frame.iter_slices(400):
            quotes.write(columns_of(piece.filter(pl.col("price").is_null()), *sides))
            trades.write(columns_of(piece.filter(pl.col("price").is_not_null()), "price", "size"))
            came = live.read()
            details.append((paid.update(came), spreads.update(came)))
        whole = store.select(8314, ["bid_ask", "last"]).to_polars()
    one, other = (pl.concat(value) for value in zip(*details, strict=True))
    same(one, analysis.effective_spread(whole))
    same(pl.concat([other, spreads.pending()]), analysis.quoted_spread(whole, "1m"))


def test_instants_in_any_form() -> None:
    frame = made([{"ns": i * 10**9, "price": 1.0 + i, "size": 1.0} for i in range(5)])
    at = [datetime.fromtimestamp(START / 1e9 + value, UTC) for value in (3, 1, 3)]
    running = Incremental("last_value", at)
    actual = pl.concat([*map(running.update, frame.iter_slices(2)), running.pending()])
    assert_frame_equal(actual, analysis.last_value(frame, at))


def test_renamed_members_warn() -> None:
    bars = Incremental("time_bars", "1h")
    bars.update(real("ibm_trades")[:10])
    with pytest.warns(
        DeprecationWarning, match=r"Incremental.open\(\) is called .*pending\(\) now"
    ):
        assert bars.open().equals(bars.pending())
    with pytest.warns(DeprecationWarning, match=r"Incremental.kept is called .*lookback_rows now"):
        assert bars.kept == bars.lookback_rows
