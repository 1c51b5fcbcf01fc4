"""Published worked examples, and results of established packages for the same data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ibticks import analysis
from ibticks.analysis._realized_kernel import KERNELS

from .frames import made, real

if TYPE_CHECKING:
    from collections.abc import Callable

# The first 26 of the dollar bars (E-mini S&P 500, 2015) that mlfinlab and mlfinpy test with:
# dollar_bar_sample.csv, its columns close, cum_vol and cum_dollar.
DOLLAR_BARS = [
    (2056.75, 34102, 70001096.75),
    (2064.0, 33968, 70010061.25),
    (2060.5, 33972, 70087834.25),
    (2061.0, 33985, 70006169.75),
    (2063.75, 33958, 70000723.25),
    (2064.5, 33944, 70001009.0),
    (2066.0, 33901, 70010093.25),
    (2063.5, 33921, 70009191.75),
    (2058.75, 34008, 70122046.75),
    (2058.75, 33998, 70015029.25),
    (2060.25, 34014, 70017191.0),
    (2056.0, 34041, 70031565.0),
    (2055.0, 34051, 70032212.75),
    (2051.75, 34093, 70002159.25),
    (2047.75, 34162, 70005202.25),
    (2048.25, 34192, 70013855.25),
    (2050.5, 34159, 70006929.5),
    (2045.5, 34208, 70061993.75),
    (2042.5, 34458, 70448431.0),
    (2043.25, 34252, 70009625.5),
    (2048.0, 34208, 70000535.0),
    (2044.75, 34194, 70003779.0),
    (2046.5, 34224, 70010857.75),
    (2050.5, 34160, 70004435.0),
    (2047.75, 34169, 70001553.5),
    (2045.5, 34168, 70001868.5),
]

# The first 30 days of the data set ttrc of R's TTR: open, high, low, close, volume.
TTRC = [
    (3.18, 3.18, 3.08, 3.08, 1870906),
    (3.09, 3.15, 3.09, 3.11, 3099506),
    (3.11, 3.12, 3.08, 3.09, 2274157),
    (3.09, 3.12, 3.07, 3.1, 2086758),
    (3.1, 3.12, 3.08, 3.11, 2166348),
    (3.12, 3.17, 3.1, 3.16, 3441798),
    (3.16, 3.23, 3.14, 3.22, 7550748),
    (3.23, 3.29, 3.2, 3.23, 4853312),
    (3.23, 3.33, 3.22, 3.32, 5814825),
    (3.32, 3.33, 3.28, 3.3, 8373172),
    (3.3, 3.34, 3.28, 3.32, 9537935),
    (3.32, 3.32, 3.17, 3.26, 12813345),
    (3.26, 3.27, 3.15, 3.16, 6661679),
    (3.17, 3.28, 3.15, 3.25, 7306886),
    (3.28, 3.32, 3.27, 3.29, 8708297),
    (3.29, 3.32, 3.26, 3.31, 5903924),
    (3.31, 3.37, 3.29, 3.32, 5553504),
    (3.32, 3.37, 3.31, 3.37, 4519241),
    (3.37, 3.47, 3.33, 3.42, 5178274),
    (3.42, 3.43, 3.38, 3.42, 3548727),
    (3.43, 3.47, 3.41, 3.44, 5443538),
    (3.43, 3.43, 3.38, 3.41, 6190865),
    (3.4, 3.4, 3.37, 3.4, 4108571),
    (3.4, 3.45, 3.37, 3.43, 4629338),
    (3.45, 3.49, 3.43, 3.46, 9309808),
    (3.46, 3.49, 3.37, 3.39, 7152760),
    (3.4, 3.45, 3.39, 3.43, 6405607),
    (3.43, 3.48, 3.4, 3.47, 4245410),
    (3.47, 3.49, 3.42, 3.48, 4660603),
    (3.48, 3.52, 3.45, 3.5, 3083180),
]
MINUTE = 60_000_000_000


def trades(prices: list[float], sizes: list[float]) -> pl.DataFrame:
    """A trade at the beginning of each minute."""
    rows = zip(prices, sizes, strict=True)
    return made([{"ns": i * MINUTE, "price": p, "size": s} for i, (p, s) in enumerate(rows)])


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        # KarelZe/tclf, tests/test_classical_classifier.py: price, bid, ask, price of the trade
        # before, sign; of each test the rows that its rule decides, and not chance.
        ("tick", [(1, None, None, 2, -1), (2, None, None, 1, 1)]),
        ("quote", [(1, 1, 3, None, -1), (3, 1, 3, None, 1)]),
        ("quote", [(1.5, 1, 3, None, -1), (2.5, 1, 3, None, 1)]),
        ("lee_ready", [(1, 1, 3, 0, -1), (3, 1, 3, 0, 1), (1, 1, 1, 0, 1), (3, 2, 4, 4, -1)]),
        ("emo", [(1, 1, 3, 0, -1), (3, 1, 3, 0, 1), (1, 1, 1, 0, 1), (3, 2, 4, 4, -1)]),
        ("clnv", [(5, 1, 3, 0, 1), (0, 1, 3, 1, -1), (2.9, 1, 3, 1, 1)]),
        ("clnv", [(2.3, 1, 3, 3, -1), (1.7, 1, 3, 0, 1), (1.3, 1, 3, 1, -1)]),
    ],
)
def test_signs_as_tclf_tests_them(method: Any, rows: list[Any]) -> None:
    for price, bid, ask, before, sign in rows:
        ticks = [{"ns": 1, "price": price}]
        if bid is not None:
            ticks.insert(0, {"ns": 0, "bid_price": bid, "ask_price": ask})
        if before is not None:
            ticks.insert(0, {"ns": 0, "price": before})
        frame = made(ticks)
        assert analysis.trade_sign(frame, method)["sign"][-1] == sign


def test_effective_spread_of_sell_orders() -> None:
    # A question of the CFA examination (gaodun.com/q/403v0v): three sales, their quotes, and
    # effective spreads of 0.11, 0.02 and 0.00, on the average 0.0433.
    quotes = [(10.00, 10.07), (9.90, 9.96), (9.88, 9.94)]
    rows = [
        row
        for at, ((bid, ask), price) in enumerate(zip(quotes, [9.98, 9.92, 9.91], strict=True))
        for row in (
            {"ns": 2 * at, "bid_price": bid, "ask_price": ask},
            {"ns": 2 * at + 1, "price": price},
        )
    ]
    frame = made(rows).with_columns(sign=pl.lit(-1))
    spread: Any = analysis.effective_spread(frame)["effective_spread"]
    assert spread.to_list() == pytest.approx([0.11, 0.02, 0.0], abs=1e-9)
    assert round(spread.mean(), 4) == 0.0433


def test_effective_spread_of_a_price_improved() -> None:
    # fincyclopedia.net, "Effective bid-ask spread formula": 25.45 to 25.50, bought at 25.48.
    quote = {"ns": 0, "bid_price": 25.45, "ask_price": 25.50}
    frame = made([quote, {"ns": 1, "price": 25.48}])
    assert analysis.effective_spread(frame)["effective_spread"].item() == pytest.approx(0.01)
    assert analysis.quoted_spread(frame)["quoted_spread"].item() == pytest.approx(0.05)


def test_prices_of_a_quote_as_questdb() -> None:
    # QuestDB, Finance functions: wmid(100, 5, 6, 100) and spread_bps(1.5760, 1.5763)
    frame = made(
        [
            {"ns": 0, "bid_price": 5.0, "bid_size": 100, "ask_price": 6.0, "ask_size": 100},
            {"ns": 1, "bid_price": 1.5760, "ask_price": 1.5763},
        ]
    )
    assert analysis.microprice(frame)["microprice"][0] == 5.5
    share = analysis.spread(frame)["relative_spread"][1]
    assert share * 10_000 == pytest.approx(1.903372140976, rel=1e-9)


def test_vwap_as_questdb() -> None:
    # QuestDB, Finance functions: vwap(x, x) of 1 to 100
    numbers = [float(x) for x in range(1, 101)]
    assert analysis.vwap(trades(numbers, numbers))["vwap"].item() == pytest.approx(67)


def seconds(times: list[int], column: str, values: list[float | None]) -> pl.DataFrame:
    rows = zip(times, values, strict=True)
    return made([{"ns": at * 10**9, column: value} for at, value in rows])


def test_twap_as_cyfrin() -> None:
    # Cyfrin Updraft, Uniswap V2, "TWAP math": cumulative prices of 11800 at 11 and 3100 at 4
    frame = seconds([1, 3, 4, 7, 11], "price", [1000.0, 1100.0, 1300.0, 1200.0, 1500.0])
    assert analysis.twap(frame)["twap"].item() == pytest.approx(11_800 / 10)
    assert analysis.anchored_twap(frame)["twap"][-1] == pytest.approx(11_800 / 10)
    assert analysis.rolling_twap(frame, "7s")["twap"][-1] == pytest.approx(8_700 / 7)


@pytest.mark.parametrize(
    ("times", "values", "wanted"),
    [
        # DolphinDB, twavg: its examples, to the digits they have
        ([0, 5, 10, 20, 30], [1.0, 2.0, 3.0, 4.0, 5.0], 2.83),
        ([0, 5, 10, 20, 30], [1.0, 2.0, None, 4.0, 5.0], 2.5),
        ([0, 5, 12, 60], [25.10, 25.15, 25.08, 25.20], 25.0898),
        ([0, 8, 20, 60], [80.50, 80.60, 80.55, 80.70], 80.5533),
    ],
)
def test_averages_over_time_as_dolphindb(
    times: list[int], values: list[Any], wanted: float
) -> None:
    digits = len(str(wanted).split(".")[1])
    actual = analysis.twap(seconds(times, "price", values))["twap"].item()
    assert round(actual, digits) == wanted
    if None not in values:
        asks = seconds(times, "ask_price", [100 + value for value in values])
        quotes = asks.with_columns(bid_price=pl.lit(100.0))
        actual = analysis.quoted_spread(quotes)["time_weighted_spread"].item()
        assert round(actual, digits) == wanted


def test_order_flow_and_imbalances_as_wickra() -> None:
    quotes = real("ibm_quotes").filter(pl.col("bid_price") < pl.col("ask_price"))
    # wickra 2.0.0: OrderFlowImbalance(1), Microprice, OrderBookImbalanceTop1, of 62331 quotes
    flow = analysis.order_flow_imbalance(quotes)["order_flow_imbalance"]
    assert flow.head(5).to_list() == [None, 100, -100, 200, 100]
    assert (flow.count(), flow.sum(), flow.abs().sum()) == (62330, -188900, 7325100)
    total = analysis.microprice(quotes)["microprice"].sum()
    assert total == pytest.approx(11204810.447892541, rel=1e-13)
    total = analysis.quote_imbalance(quotes)["quote_imbalance"].sum()
    assert total == pytest.approx(2526.388820353384, rel=1e-10)


def test_bands_around_a_vwap_as_wickra() -> None:
    actual = analysis.anchored_vwap(real("ibm_trades"), deviations=2)
    bands = actual.select("vwap_upper", "vwap", "vwap_lower")
    # wickra 2.0.0: VwapStdDevBands(2), after 1000 trades and after all
    assert bands.row(999) == pytest.approx(
        (182.06785888089416, 181.68800768828083, 181.3081564956675), rel=1e-12
    )
    assert bands.row(-1) == pytest.approx(
        (181.35737363005282, 179.79936377191032, 178.24135391376782), rel=1e-12
    )


@pytest.mark.parametrize("times", [1, 1.001])
def test_value_area_as_mind_over_markets(times: float) -> None:
    # Dalton, Jones and Dalton, Mind Over Markets (2013), page 331: most was traded, 22168, at
    # 96-12, 34491 at the two prices above and 43773 at the two below, which thus are the first to
    # join. How the pairs are divided, and what lies beyond them, is not of the book, in whose
    # figure 96-11 is above 96-12.
    volumes = [20000.0, 20000.0, 21886.0, 21887.0, 22168.0, 17246.0, 17245.0]
    ticks = trades([96 - (16 - place) / 32 for place in range(7)], volumes)
    share = times * (22168 + 43773) / sum(volumes)
    actual = analysis.volume_profile(ticks, share=share)
    assert actual["point_of_control"].to_list() == [False] * 4 + [True] + [False] * 2
    # The two further down, at 96-15 and 96-16, are the next.
    assert actual["value_area"].to_list() == [times > 1] * 2 + [True] * 3 + [False] * 2


def test_roll_as_mlfinlab() -> None:
    closes = [close for close, _, _ in DOLLAR_BARS[4:]]
    actual = analysis.roll_spread(trades(closes, [1.0] * len(closes)))
    # mlfinlab, tests/test_microstructural_features.py: get_roll_measure(close, 20)[25]
    assert actual["roll"].item() == pytest.approx(1.176, abs=1e-3)
    assert actual["observations"].item() == 20


def test_amihud_as_mlfinlab() -> None:
    bars = DOLLAR_BARS[5:]
    sizes = [value / close for close, _, value in bars]
    actual = analysis.amihud(trades([close for close, _, _ in bars], sizes), "1m")
    # get_bar_based_amihud_lambda(close, cum_dollar, 20)[25], of log returns; to its delta
    assert actual["amihud"].item() == pytest.approx(1.8439e-11, abs=1e-13)


def test_bulk_classification_as_mlfinlab() -> None:
    closes = [close for close, _, _ in DOLLAR_BARS[5:]]
    actual = analysis.vpin(trades(closes, [1.0] * len(closes)), 1.0, window=1)
    # get_vpin(cum_vol, get_bvc_buy_volume(close, cum_vol, 20), 1)[25]: of one bar
    assert actual["vpin"][-1] == pytest.approx(0.554, abs=1e-3)


def test_vpin_of_signs_as_wickra() -> None:
    ticks = analysis.trade_sign(real("ibm_trades")[:6000], "tick").filter(pl.col("sign") != 0)
    # one trade to a bar, as wickra splits each trade among the buckets
    seconds = pl.int_range(pl.len()) * 10**9
    ticks = ticks.with_columns(timestamp=seconds.cast(pl.Datetime("ns", "UTC")))
    actual = analysis.vpin(ticks, 10_000, window=20, bars="1s", classify="signs")
    # wickra 2.0.0: Vpin(10_000, 20), of the same trades and signs
    measured = actual["vpin"].drop_nulls()
    assert len(measured) == 95
    assert measured[0] == pytest.approx(0.64866, abs=1e-9)
    assert measured[-1] == pytest.approx(0.26981, abs=1e-9)


def test_kyle_lambda_as_r_fits_it() -> None:
    bars = DOLLAR_BARS[5:]
    frame = trades([close for close, _, _ in bars], [float(size) for _, size, _ in bars])
    actual = analysis.kyle_lambda(frame, None, method="tick").row(0, named=True)
    # R 4.2.2: summary(lm(diff(close) ~ x)), x the sizes with the signs of the tick rule
    assert actual["kyle_lambda"] == pytest.approx(7.51078663986e-05, rel=1e-9)
    assert actual["t_statistic"] == pytest.approx(7.59211912171, rel=1e-9)
    assert actual["r_squared"] == pytest.approx(0.762031529718, rel=1e-9)


def ttrc() -> pl.DataFrame:
    names = ["open", "high", "low", "close", "volume"]
    frame = pl.DataFrame(TTRC, schema=names, orient="row")
    day = pl.datetime_range(
        pl.datetime(1985, 1, 1), pl.datetime(1985, 1, 30), "1d", time_unit="ns", time_zone="UTC"
    )
    return frame.with_columns(timestamp=day)


@pytest.mark.parametrize(
    ("measure", "wanted"),
    [
        # R 4.2.2, TTR 0.24.3: tail(volatility(ttrc[1:30, 2:5], n = 10, N = 252, calc = ...), 3)
        ("parkinson", [0.222239889059, 0.194182905334, 0.198530327555]),
        ("garman_klass", [0.242865678353, 0.211702100422, 0.216483013512]),
        ("rogers_satchell", [0.245334707371, 0.219649767018, 0.222089297920]),
        ("yang_zhang", [0.239647486106, 0.215525992708, 0.217822582753]),
    ],
)
def test_ranges_as_ttr(measure: str, wanted: list[float]) -> None:
    actual = getattr(analysis, measure)(ttrc(), 10)[measure].tail(3)
    assert (252 * actual).sqrt().to_list() == pytest.approx(wanted, rel=1e-10)


def test_bollinger_bands_as_ttr() -> None:
    actual = analysis.bollinger_bands(ttrc(), 20, column="close").tail(3)
    # TTR 0.24.3: tail(BBands(ttrc$Close[1:30], n = 20, sd = 2), 3)
    wanted = {
        "bollinger_lower": [3.19821587727, 3.19889630076, 3.20222722530],
        "bollinger_middle": [3.3585, 3.3665, 3.3765],
        "bollinger_upper": [3.51878412273, 3.53410369924, 3.55077277470],
    }
    for name, values in wanted.items():
        assert actual[name].to_list() == pytest.approx(values, rel=1e-10)


def test_rolling_vwap_as_ttr() -> None:
    ticks = ttrc().select("timestamp", price="close", size="volume")
    # TTR 0.24.3: tail(VWAP(ttrc$Close[1:30], ttrc$Volume[1:30], n = 10), 3)
    assert analysis.rolling_vwap(ticks, 10)["vwap"].tail(3).to_list() == pytest.approx(
        [3.42792024919, 3.43301469406, 3.43759037423], rel=1e-10
    )


@pytest.mark.parametrize(
    ("kernel", "wanted"),
    [
        # The weights at 1/4, 1/2 and 3/4 of KK in C, of R's highfrequency before it was rewritten
        # with powers, when its second order became 1 - 2x^3.
        ("bartlett", [0.75, 0.5, 0.25]),
        ("second", [0.5625, 0.25, 0.0625]),
        ("epanechnikov", [0.9375, 0.75, 0.4375]),
        ("cubic", [0.84375, 0.5, 0.15625]),
        ("fifth", [0.896484375, 0.5, 0.103515625]),
        ("sixth", [0.9624023438, 0.65625, 0.1694335938]),
        ("seventh", [0.987121582, 0.7734375, 0.2435913086]),
        ("eighth", [0.9957733154, 0.85546875, 0.3214569092]),
        ("parzen", [0.71875, 0.25, 0.03125]),
        ("tukey_hanning", [0.8535533906, 0.5, 0.1464466094]),
        ("modified_tukey_hanning", [0.597545161, 0.1464466094, 0.009607359798]),
    ],
)
def test_weights_of_kernels_as_highfrequency(kernel: str, wanted: list[float]) -> None:
    actual = KERNELS[kernel].weight(np.array([0.25, 0.5, 0.75]))
    assert actual == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "flat_top"),
    [
        # K. Sheppard's MFE Toolbox, realized_kernel_bandwidth.m: c* of the flat-top kernels, with
        # two places, cut off. For the fifth order it has 3.70, as for Tukey and Hanning's; the
        # formula gives 3.9585.
        ("cubic", 3.68),
        ("sixth", 3.97),
        ("seventh", 4.11),
        ("eighth", 4.31),
        ("parzen", 4.77),
        ("tukey_hanning", 3.70),
        ("modified_tukey_hanning", 5.74),
    ],
)
def test_kernel_constants_as_mfe_toolbox(name: str, flat_top: float) -> None:
    assert math.floor(100 * (KERNELS[name].flat_top or 0)) / 100 == flat_top


def test_constant_of_parzen_as_mfe_toolbox() -> None:
    # nonflatparzen: (12^2 / 0.269)^(1/5)
    assert KERNELS["parzen"].smooth == pytest.approx((12**2 / 0.269) ** 0.2, abs=1e-4)


@pytest.mark.parametrize(
    ("kernel", "jitter", "wanted"),
    [
        # arch 8.0.0 (K. Sheppard), arch.covariance.kernel on the log returns of the sample's trades
        # of IBM, bandwidth=100, center=False: n times cov.long_run. For a jitter of 2, the first
        # two prices and the last two had been averaged.
        ("bartlett", 1, 8.03955160955901e-05),
        ("parzen", 1, 7.38981016801937e-05),
        ("tukey_hanning", 1, 7.285413482155471e-05),
        ("bartlett", 2, 7.864331822516071e-05),
        ("parzen", 2, 7.22270336663321e-05),
        ("tukey_hanning", 2, 7.108895325385638e-05),
    ],
)
def test_realized_kernel_as_arch(kernel: str, jitter: int, wanted: float) -> None:
    actual = analysis.realized_kernel(real("ibm_trades"), kernel, bandwidth=100, jitter=jitter)
    assert actual["realized_kernel"].item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize(
    ("bars", "count", "first", "second", "last"),
    [
        # mlfinpy 0.1.2 on the sample's trades of IBM: get_tick_bars, get_volume_bars,
        # get_dollar_bars; open, high, low, close, volume, cum_buy_volume, cum_ticks.
        (
            lambda ticks: analysis.tick_bars(ticks, 1000),
            33,
            (182.10, 182.10, 181.22, 181.27, 255974, 150378, 1000),
            (181.29, 181.72, 181.18, 181.36, 172902, 84127, 1000),
            (179.14, 179.15, 178.82, 178.91, 137441, 70371, 1000),
        ),
        (
            lambda ticks: analysis.volume_bars(ticks, 100_000),
            52,
            (182.10, 182.10, 181.55, 181.85, 102109, 92773, 89),
            (181.75, 181.99, 181.50, 181.52, 100072, 35124, 571),
            (178.89, 179.05, 178.71, 178.72, 356915, 46915, 568),
        ),
        (
            lambda ticks: analysis.dollar_bars(ticks, 20_000_000),
            47,
            (182.10, 182.10, 181.55, 181.82, 110100, 97344, 141),
            (181.81, 181.99, 181.43, 181.46, 110233, 37847, 638),
            (179.00, 179.01, 178.71, 178.72, 333864, 33474, 403),
        ),
    ],
)
def test_bars_as_mlfinpy(
    bars: Callable[..., Any],
    count: int,
    first: tuple[float, float, float, float, int, int, int],
    second: tuple[float, float, float, float, int, int, int],
    last: tuple[float, float, float, float, int, int, int],
) -> None:
    ticks = analysis.signed_volume(real("ibm_trades"), method="tick")
    actual = bars(ticks)
    assert actual.height == count
    total = ticks["signed_volume"].clip(0).cum_sum()
    ends = actual["count"].cum_sum()
    for place, wanted in ((0, first), (1, second), (count - 1, last)):
        row = actual.row(place, named=True)
        end, begin = ends[place], ends[place] - row["count"]
        bought = total[end - 1] - (total[begin - 1] if begin else 0)
        names = ("open", "high", "low", "close", "volume")
        assert (*(row[name] for name in names), bought, row["count"]) == wanted


@pytest.mark.parametrize(
    ("expected", "first", "bars", "squares"),
    [
        # mlfinpy 0.1.2: get_const_tick_run_bars(num_prev_bars=1, exp_num_ticks_init=expected), the
        # counts of the first four bars, how many there are and the sum of their squared counts.
        # Its first bar has a separate rule; it requires more than the threshold, so that one is
        # taken which no number of trades meets. (With 200.3 its second bar is a trade longer, for
        # the first trade of all, of no known side, is none that was bought.)
        (50.3, [113, 55, 42, 50], 634, 1857035),
        (500.3, [1174, 522, 538, 382], 64, 17547854),
        (1000.3, [2073, 827, 1251, 897], 32, 35862490),
    ],
)
def test_run_bars_as_mlfinpy(expected: float, first: list[int], bars: int, squares: int) -> None:
    actual = analysis.run_bars(
        real("ibm_trades"), expected_ticks=first[0], span=1, limits=(expected, expected)
    )
    counts = actual["count"].to_list()
    assert counts[:4] == first
    assert (len(counts), sum(count**2 for count in counts)) == (bars, squares)


@pytest.mark.parametrize(
    ("amount", "expected", "first", "second"),
    [
        # mlfinpy 0.1.2: get_const_..._imbalance_bars(expected_imbalance_window=10**6,
        # exp_num_ticks_init=expected), the counts of two bars. Later ones have other averages: its
        # span is all the trades so far.
        ("tick", 50.3, 51, 15),
        ("tick", 100.3, 101, 23),
        ("tick", 200.3, 201, 64),
        ("tick", 500.3, 515, 388),
        ("volume", 50.3, 51, 38),
        ("volume", 200.3, 201, 2132),
        ("volume", 500.3, 501, 304),
        ("dollar", 50.3, 51, 38),
        ("dollar", 200.3, 201, 2134),
        ("dollar", 500.3, 501, 304),
    ],
)
def test_imbalance_bars_as_mlfinpy(amount: Any, expected: float, first: int, second: int) -> None:
    actual = analysis.imbalance_bars(
        real("ibm_trades"), amount, expected_ticks=first, span=1, limits=(expected, expected)
    )
    assert actual["count"][:2].to_list() == [first, second]


def test_time_bars_as_pandas() -> None:
    ticks = real("ibm_trades")
    frame = ticks.select("timestamp", "price", "size").to_pandas().set_index("timestamp")
    groups = frame.resample("5min")
    wanted: Any = groups["price"].ohlc().assign(volume=groups["size"].sum(), count=groups.size())
    wanted = pl.from_pandas(wanted.loc[wanted["count"] > 0], include_index=True)
    names = wanted.columns
    actual = analysis.time_bars(ticks, "5m").filter(pl.col("count") > 0).select(names)
    assert_frame_equal(actual, wanted, check_dtypes=False)
