"""Published results of the tests of R's *highfrequency*, for the same data.

Source: J. Cornelissen, K. Boudt, O. Kleen and E. Sjoerup, *highfrequency* (CRAN), the files
``tests/testthat/tests_realized_measures.R`` and ``tests_data_handling.R``. Its realised measures
are tested on three days of three prices, drawn by R after ``set.seed(123)``; they are drawn again
here. Where it tests matrices, their sum is that of a product of prices, or of such by polarisation.

Its data of trades and quotes can be had in R only. For the rules of cleaning and for liquidity, the
steps of ``R/dataHandling.R`` and ``R/liquidityMeasures.R`` were run (R 4.2.2, data.table 1.14.8,
the rolling median in plain R) on the packaged trades and quotes of IBM. Prices were in thousandths,
so that no strict comparison rests on binary rounding.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest

from ibticks import analysis

from .frames import made, real

SECONDS = 23_401
DAY = pl.col("timestamp").dt.date()


def drawn(count: int, seed: int) -> np.ndarray:
    """``set.seed(seed); rnorm(count)`` of R: Mersenne Twister, and inversion of two draws each."""
    words, word = [], seed
    for _ in range(50 + 1 + 624):
        word = (69069 * word + 1) % 2**32
        words.append(word)
    source = np.random.RandomState()
    state: Any = ("MT19937", np.array(words[-624:], dtype=np.uint32), 624)
    source.set_state(state)
    uniform = source.randint(0, 2**32, size=2 * count, dtype=np.uint64) * 2.3283064365386963e-10
    fine = (np.floor(2**27 * uniform[::2]) + uniform[1::2]) / 2**27
    quantile = NormalDist().inv_cdf  # AS 241, as R's
    return np.array([quantile(share) for share in fine])


@cache
def logs() -> np.ndarray:
    """Log prices, shape (3, seconds of three days): ``PRICE1``, ``PRICE2``, ``PRICE3``."""
    normal = drawn(9 * SECONDS, 123).reshape(3, 3, SECONDS) * (1 / SECONDS) ** 0.5
    return np.cumsum(np.concatenate(normal, axis=1), axis=1)


def prices(log: np.ndarray, days: int = 3) -> pl.DataFrame:
    """From 9:30:00 to 16:00:00, each second."""
    second = np.arange(SECONDS) + 34_200
    at = np.concatenate([second + 86_400 * day for day in range(days)]) * 10**9
    time = pl.Series(at).cast(pl.Datetime("ns", "UTC"))
    return pl.DataFrame({"timestamp": time, "price": np.exp(log[: len(at)])})


def test_random_numbers_equal_those_of_r() -> None:
    # As any R prints them for set.seed(123); rnorm(3).
    assert drawn(3, 123) == pytest.approx([-0.56047565, -0.23017749, 1.55870831], abs=1e-8)


def test_realized_variance_as_rcov() -> None:
    actual = analysis.realized_variance(prices(logs().sum(axis=0)), per=DAY)
    # test_that("rCov"): lapply(rCov(returnDat), sum)
    assert actual["realized_variance"].to_list() == pytest.approx(
        [2.971967832, 3.032179598, 3.012844796], abs=1e-9
    )


def bipower(log: np.ndarray) -> np.ndarray:
    actual = analysis.bipower_variation(prices(log), per=DAY)
    return actual["bipower_variation"].to_numpy()


def test_bipower_variation_as_rmpvar() -> None:
    # test_that("rMPVar"): lapply(rMPVar(returnDat), sum), of two returns, squared. It weighs with
    # N / (N - 1), where N counts the return of 0 that makeReturns puts first.
    wanted = [3.016532757, 3.004313242, 3.002691466]
    for log, total in zip(logs(), wanted, strict=True):
        assert bipower(log).sum() * SECONDS / (SECONDS - 1) == pytest.approx(total, abs=1e-9)


def test_bipower_variation_as_rbpcov() -> None:
    one, two, three = logs()
    across = [
        (bipower(a + b) - bipower(a - b)) / 2 for a, b in [(one, two), (one, three), (two, three)]
    ]
    total = bipower(one) + bipower(two) + bipower(three) + sum(across)
    # test_that("rBPCov"): lapply(rBPCov(returnDat), sum)
    assert total == pytest.approx([2.98622886, 3.026269417, 2.99293847], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # lapply(rMedRVar(returnDat), sum), and so on: of each price, the sum over the days
        ("med_rv", [3.022290125, 3.003088657, 3.013543419]),
        ("min_rv", [3.027820575, 2.99975133, 3.001113006]),
        ("med_rq", [3.06573359, 3.010144579, 3.030828633]),
        ("min_rq", [3.0696895, 2.977093559, 3.01211734]),
        ("tripower_quarticity", [3.023117658, 3.003898984, 2.966162109]),
        ("quadpower_quarticity", [3.018535259, 3.006780968, 2.95202662]),
        ("realized_skewness", [0.03781808902, 0.0146462315, 0.03046798416]),
        ("realized_kurtosis", [8.963908299, 9.029035031, 9.063772367]),
    ],
)
def test_measures_of_three_days(name: str, wanted: list[float]) -> None:
    for log, total in zip(logs(), wanted, strict=True):
        frame = prices(log)
        # The first return of a day is 0 there: its first price, a second before.
        first = frame.filter(pl.int_range(pl.len()) % SECONDS == 0)
        frame = pl.concat(
            [
                first.with_columns(pl.col("timestamp") - pl.duration(seconds=1, time_unit="ns")),
                frame,
            ]
        ).sort("timestamp")
        actual = getattr(analysis, name)(frame, per=DAY)[name]
        assert (len(actual), actual.sum()) == (3, pytest.approx(total, abs=2e-9))


def test_realized_semivariance_as_rsvar() -> None:
    # lapply(rSVar(returnDat), function(x) lapply(x, sum))[[1]]: of the first day, of three prices
    days = [analysis.realized_semivariance(prices(log, days=1)) for log in logs()]
    actual = pl.concat(days).sum()
    assert actual["downside_semivariance"].item() == pytest.approx(1.501497027, abs=1e-9)
    assert actual["upside_semivariance"].item() == pytest.approx(1.50206646, abs=1e-9)


def first_lag(frame: pl.DataFrame, per: pl.Expr | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance, and the first-lag term of a kernel with weight 1."""
    actual = analysis.realized_kernel(
        frame, "bartlett", bandwidth=1, flat_top=True, jitter=1, per=per
    )
    variance = analysis.realized_variance(frame, per=per)["realized_variance"].to_numpy()
    return variance, actual["realized_kernel"].to_numpy() - variance


def test_realized_kernel_as_rkernelcov() -> None:
    variance, lag = first_lag(prices(logs().sum(axis=0)), DAY)
    # test_that("rKernelCov"): lapply(rKernelCov(returnDat), sum), of one lag. It divides the
    # products of lag h by 1 - h / n; the paper and we do not.
    assert variance + lag * SECONDS / (SECONDS - 1) == pytest.approx(
        [2.941858941, 3.009886185, 3.009261885], abs=1e-9
    )


def test_realized_kernel_as_rkernelcov_of_five_minutes() -> None:
    day = prices(logs()[:2].sum(axis=0), days=1)
    sampled = analysis.align(day, "5m")
    variance, lag = first_lag(sampled)
    # The same test, of two prices, with alignPeriod = 5.
    assert f"{(variance + lag * 78 / 77).item():.4g}" == "1.708"


def test_two_scale_rv_as_rtscov() -> None:
    one, two = logs()[:2]
    slow, n = 300, SECONDS

    def scales(log: np.ndarray, *, adjusted: bool) -> float:
        actual = analysis.two_scale_rv(prices(log, days=1), slow, adjusted=adjusted)
        return actual["two_scale_rv"].item()

    # test_that("rTSCov multivariate"): of two prices, K = 300. Its covariances have a correction
    # for small samples, n / ((K - 1) nbar).
    own = n / ((slow - 1) * (n - slow + 1) / slow)
    cross = scales(one + two, adjusted=False) - sum(
        scales(log, adjusted=False) for log in (one, two)
    )
    total = sum(scales(log, adjusted=True) for log in (one, two)) + own * cross
    assert f"{total:.5g}" == "1.6068"


def test_realized_variance_as_ravgcov() -> None:
    # test_that("rAVGCov"): the diagonal, of five minutes and k = 1. It averages five grids, of
    # which all but the first leave out what is before and after, and make up for it by 78 / 77.
    for log, wanted in zip(logs()[:2], [0.78573656425, 0.73770313284], strict=True):
        day = prices(log, days=1)
        grids = [analysis.realized_variance(day, "5m")["realized_variance"].item()]
        for minute in range(1, 5):
            inside = day[60 * minute : 23_101 + 60 * minute]
            inside = inside.with_columns(pl.col("timestamp") - pl.duration(minutes=minute))
            actual = analysis.realized_variance(inside, "5m")["realized_variance"].item()
            grids.append(actual * 78 / 77)
        assert sum(grids) / 5 == pytest.approx(wanted, abs=1e-9)


def at(*seconds: float) -> list[datetime]:
    return [datetime.fromtimestamp(second, UTC) for second in seconds]


def test_align_as_aggregateprice() -> None:
    # test_that("aggregatePrice edge cases")
    ticks = pl.DataFrame(
        {
            "timestamp": at(
                *(34150, 34201, 34201, 34500, 34500 + 1e-6, 34799, 34799, 34801, 34803, 35099)
            ),
            "price": [float(price) for price in range(10)],
        }
    )
    actual = analysis.align(ticks, "5m").filter(pl.col("timestamp") > at(34200)[0])
    assert actual["timestamp"].to_list() == at(34500, 34800, 35100)
    assert actual["price"].to_list() == [3, 6, 9]


def test_align_as_aggregateprice_fills() -> None:
    # test_that("aggregatePrice filling correctly"): how many seconds each price prevails. What it
    # has at and before the opening is the first price after it; we have none yet.
    seconds = (34201, 34800, 45500, 45799, 50801, 50803, 57599.01)
    ticks = pl.DataFrame({"timestamp": at(*seconds), "price": [float(p) for p in range(1, 8)]})
    counts = analysis.align(ticks, "1s").group_by("price").len().sort("price")["len"].to_list()
    minutes, hours = 60, 3600
    assert counts == [
        10 * minutes - 1,
        2 * hours + 58 * minutes + 20,
        4 * minutes + 59,
        hours + 23 * minutes + 22,
        2,
        hours + 53 * minutes + 17,
        1,
    ]


def test_refresh_time() -> None:
    # test_that("refreshTime"), after K. Boudt, R/Finance 2015
    seconds = {
        1: [1, 2, 4, 5, 9, 14],
        2: [1, 3, 6, 7, 8, 9, 10, 11, 15],
        3: [1, 2, 3, 5, 7, 8, 10, 13],
    }
    rows = [
        {"ns": second * 10**9, "contract_id": contract, "price": float(place)}
        for contract, times in seconds.items()
        for place, second in enumerate(times, 1)
    ]
    actual = analysis.refresh_time(made(sorted(rows, key=lambda row: row["ns"])))
    start = made([{"ns": 0}])["timestamp"][0]
    since = (actual["timestamp"] - start).dt.total_seconds().to_list()
    assert since[::3] == [1, 3, 6, 9, 14]
    values = actual["price"].to_list()
    assert [values[at : at + 3] for at in range(0, 15, 3)] == [
        [1, 1, 1],
        [2, 2, 3],
        [4, 3, 4],
        [5, 6, 6],
        [6, 8, 8],
    ]


@pytest.mark.parametrize(
    ("how", "price", "size", "value"),
    [
        # mergeTradesSameTimestamp(tData, selection): sums of PRICE, SIZE and their product
        ("median", 4693230.24, 5564671, 1000524583.41),
        ("max_volume", 4693235.16, 4738798, 851957653.09),
        ("weighted_average", 4693230.13644446, 5564671, 1000524305.4),
    ],
)
def test_merged_trades(how: Any, price: float, size: int, value: float) -> None:
    actual = analysis.merge_same_timestamp(real("ibm_trades"), how=how)
    assert (actual.height, actual["count"].max()) == (26107, 16)
    assert actual["price"].sum() == pytest.approx(price, rel=1e-14)
    assert actual["size"].sum() == size
    assert (actual["price"] * actual["size"]).sum() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("how", "bid", "ask"),
    [
        # mergeQuotesSameTimestamp(qData, selection): sums of BID and OFR
        ("median", 8807635.38, 8810122.135),
        ("max_volume", 8807634.17, 8810138.42),
        ("weighted_average", 8807630.92818348, 8810125.79945266),
    ],
)
def test_merged_quotes(how: Any, bid: float, ask: float) -> None:
    actual = analysis.merge_same_timestamp(real("ibm_quotes"), of="quotes", how=how)
    assert actual.height == 49000
    assert actual["bid_price"].sum() == pytest.approx(bid, rel=1e-13)
    assert actual["ask_price"].sum() == pytest.approx(ask, rel=1e-13)
    assert actual.select(pl.col("bid_size", "ask_size").sum()).row(0) == (20416500, 14669500)


def open_quotes() -> pl.DataFrame:
    """Without locked ones, too: ``rmNegativeSpread`` takes them out, against rule Q2."""
    actual = analysis.rm_negative_spread(real("ibm_quotes"))
    return actual.filter(pl.col("bid_price") < pl.col("ask_price"))


@pytest.mark.parametrize(("times", "left"), [(49.75, 62327), (4.75, 61008), (2.75, 58709)])
def test_large_spreads(times: float, left: int) -> None:
    assert open_quotes().height == 62331
    # rmLargeSpread(qData, maxi), with maxi such that no spread is exactly the limit: it takes out
    # such a spread, against rule Q3.
    assert analysis.rm_large_spread(open_quotes(), times).height == left


def clean_quotes() -> pl.DataFrame:
    narrow = analysis.rm_large_spread(open_quotes(), 49.75)
    return analysis.merge_same_timestamp(narrow, of="quotes")


@pytest.mark.parametrize(
    ("times", "left"), [(10, 48791), (2, 48790), (1, 48789), (0.5, 48777), (0.2, 48692)]
)
def test_quote_outliers(times: float, left: int) -> None:
    # rmOutliersQuotes(qData, maxi, type = "standard")
    actual = analysis.rm_quote_outliers(clean_quotes(), times, day=pl.lit(0))
    assert actual.height == left


def test_trade_outliers_directions_and_effective_spreads() -> None:
    quotes = clean_quotes()
    merged = analysis.merge_same_timestamp(real("ibm_trades"))
    # rmTradeOutliersUsingQuotes, getTradeDirection and getLiquidityMeasures, one after the other
    trades = analysis.rm_trade_outliers(merged, quotes)
    assert trades.height == 25978
    actual = analysis.effective_spread(trades, quotes=quotes)
    assert (actual["sign"].sum(), (actual["sign"] > 0).sum()) == (-384, 12797)
    assert actual["effective_spread"].mean() == pytest.approx(0.0264187004388329, rel=1e-10)
    assert actual["relative_effective_spread"].mean() == pytest.approx(
        0.00014670742338107, rel=1e-9
    )
    assert (actual["sign"] * actual["size"]).mean() == pytest.approx(-8.76326122103318, rel=1e-12)
    combined = analysis.quote_imbalance(analysis.quotes_at(trades, quotes))
    # depthImbalanceDifference, the other way round; quotedSpread, proportionalQuotedSpread
    depth = -(actual["sign"] * combined["quote_imbalance"]).mean()
    assert depth == pytest.approx(-0.0142036819281161, rel=1e-10)
    wide = analysis.spread(combined)
    assert wide["spread"].mean() == pytest.approx(0.0381170605897298, rel=1e-10)
    assert wide["relative_spread"].mean() == pytest.approx(0.000211683131987779, rel=1e-10)


def test_realized_spread_and_price_impact_each_second() -> None:
    # getLiquidityMeasures(tqData, win = 300) takes the mid 300 rows later, and so wants a regular
    # grid: here each second from 9:31 to 15:59. Its priceImpact is half of that of ibticks.
    day = pl.datetime(2013, 10, 8, time_unit="ns", time_zone="UTC")
    open_, close = day + pl.duration(hours=13, minutes=31), day + pl.duration(hours=19, minutes=59)
    clock = pl.select(pl.datetime_range(open_, close, "1s")).to_series()

    def each_second(name: str, column: str) -> pl.DataFrame:
        actual = analysis.last_value(real(name), clock, column=column)
        return actual.select("timestamp", column)

    trades = each_second("ibm_trades", "price")
    quotes = each_second("ibm_quotes", "bid_price").join(
        each_second("ibm_quotes", "ask_price"), on="timestamp", maintain_order="left"
    )
    spread = analysis.realized_spread(trades, "5m", quotes=quotes)
    impact = analysis.price_impact(trades, "5m", quotes=quotes)
    assert (spread["sign"].sum(), spread["realized_spread"].null_count()) == (1695, 300)
    assert spread["realized_spread"].mean() == pytest.approx(0.0232291893303163, rel=1e-10)
    assert spread["relative_realized_spread"].mean() == pytest.approx(0.000129380873395174)
    assert impact["price_impact"].mean() / 2 == pytest.approx(0.00176558896479701, rel=1e-10)
    assert impact["relative_price_impact"].mean() / 2 == pytest.approx(9.63864734983309e-06)
