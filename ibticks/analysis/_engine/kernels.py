"""Numba kernels for recurrences that polars expressions cannot express.

Every kernel takes the rows of one contract in order of arrival, as numpy arrays, and returns one
number a row. A row depends on itself and on earlier rows only, so that a live buffer gives what the
whole day will give. Each kernel compiles when first called, or loads the machine code an earlier
process left on disk: there are many, and a user wants a few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibticks._jit import compile_lazily, inline
from ibticks.analysis._engine.window_kernels import (
    merge_equal_times,
    neighbour_median,
    refresh_rows,
    trimmed_moments,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

__all__ = [
    "anchored_average",
    "anchored_moments",
    "compensated_cumulative_sum",
    "filled_bars",
    "imbalance_bars",
    "imbalance_bars_after",
    "merge_equal_times",
    "moments",
    "neighbour_median",
    "refresh_rows",
    "run_bars",
    "run_bars_after",
    "time_average",
    "trimmed_moments",
]

_UNIT_ROUNDOFF = 2.0**-53

# A price times a size is rounded three times, a threshold and a compensated sum once each or twice.
_SUM_ROUNDING = 8 * _UNIT_ROUNDOFF

# A threshold made of exponential averages carries the rounding of all bars before it.
_AVERAGE_ROUNDING = 1e-12


@inline
def _two_sum(one: float, other: float) -> tuple[float, float]:
    """Return the sum of two numbers and its rounding error, exactly (Knuth)."""
    total = one + other
    rest = total - one
    return total, (one - (total - rest)) + (other - rest)


@compile_lazily
def filled_bars(amounts: Floats, threshold: float) -> Ints:
    """Return the bar of each row: a bar closes with the row that brings it to the threshold.

    Each bar begins at nothing; what was over is not carried. NaN counts as nothing. The rows of the
    last bar, if it is not full, have its number as ``-1 - number``. Decimal amounts close a bar
    where their decimal sum does, up to 15 digits of it: the sum is compensated, and rounding of the
    amounts and the threshold is allowed for.
    """
    bars = np.empty(len(amounts), dtype=np.int64)
    bar, begun, amount, lost = 0, 0, 0.0, 0.0
    enough = threshold * (1 - _SUM_ROUNDING)
    for row in range(len(amounts)):
        if amounts[row] == amounts[row]:
            amount, rounding = _two_sum(amount, amounts[row])
            lost += rounding
        bars[row] = bar
        if amount + lost >= enough:
            bar, begun, amount, lost = bar + 1, row + 1, 0.0, 0.0
    bars[begun:] = -1 - bar
    return bars


@compile_lazily
def compensated_cumulative_sum(amounts: Floats) -> Floats:
    """Return the cumulative sum of finite amounts, each exact to the last bit but one."""
    sums = np.empty(len(amounts))
    total, lost = 0.0, 0.0
    for row in range(len(amounts)):
        total, rounding = _two_sum(total, amounts[row])
        lost += rounding
        sums[row] = total + lost
    return sums


@compile_lazily
def imbalance_bars(
    prices: Floats,
    amounts: Floats,
    sides: Floats,
    expected: float,
    span: float,
    fewest: float,
    most: float,
) -> tuple[Ints, Floats]:
    """Return the bar of each row, numbered as by :func:`filled_bars`, and its signed amount."""
    nothing = np.empty(0)
    bars, signed, _ = imbalance_bars_after(
        nothing, prices, amounts, sides, expected, span, fewest, most
    )
    return bars, signed


@compile_lazily
def imbalance_bars_after(
    known: Floats,
    prices: Floats,
    amounts: Floats,
    sides: Floats,
    expected: float,
    span: float,
    fewest: float,
    most: float,
) -> tuple[Ints, Floats, Floats]:
    """Return :func:`imbalance_bars` of the rows after closed bars.

    ``known`` is what an earlier call returned last: what is expected when its last bar closed. It
    is empty where nothing is known. The rows begin after that bar.
    """
    bars, signed = np.empty(len(prices), dtype=np.int64), np.empty(len(prices))
    bar, begun, theta, lost, gross = 0, 0, 0.0, 0.0, 0.0
    known = known.copy()
    first = len(known) == 0
    if first:
        side, last, threshold = 0.0, np.nan, np.inf
        length_sum, length_weight, mean_sum, mean_weight = 0.0, 0.0, 0.0, 0.0
    else:
        side, last, threshold = known[0], known[1], known[2]
        length_sum, length_weight, mean_sum, mean_weight = known[3], known[4], known[5], known[6]
    keep_bar = 1 - 2 / (span + 1)
    keep_row = 1 - 2 / (span * expected + 1)
    for row in range(len(prices)):
        if prices[row] != last and last == last:
            side = 1.0 if prices[row] > last else -1.0
        last = prices[row]
        if sides[row] == sides[row]:
            side = np.sign(sides[row])
        signed[row] = side * amounts[row] if side != 0 and amounts[row] == amounts[row] else 0.0
        theta, rounding = _two_sum(theta, signed[row])
        lost += rounding
        gross += abs(signed[row])
        mean_sum = mean_sum * keep_row + signed[row]
        mean_weight = mean_weight * keep_row + 1
        bars[row] = bar
        length = row + 1 - begun
        slack = _SUM_ROUNDING * gross + _AVERAGE_ROUNDING * threshold
        if length >= expected if first else abs(theta + lost) + slack >= threshold:
            length_sum = length_sum * keep_bar + length
            length_weight = length_weight * keep_bar + 1
            rows = min(max(length_sum / length_weight, fewest), most)
            threshold = rows * abs(mean_sum / mean_weight)
            known = np.array(
                [side, last, threshold, length_sum, length_weight, mean_sum, mean_weight]
            )
            bar, begun, theta, lost, gross, first = bar + 1, row + 1, 0.0, 0.0, 0.0, False
    bars[begun:] = -1 - bar
    return bars, signed, known


@compile_lazily
def run_bars(
    prices: Floats,
    amounts: Floats,
    sides: Floats,
    expected: float,
    span: float,
    fewest: float,
    most: float,
) -> tuple[Ints, Floats]:
    """Return the bar of each row and its signed amount, for bars of runs."""
    nothing = np.empty(0)
    bars, signed, _ = run_bars_after(nothing, prices, amounts, sides, expected, span, fewest, most)
    return bars, signed


@compile_lazily
def run_bars_after(
    known: Floats,
    prices: Floats,
    amounts: Floats,
    sides: Floats,
    expected: float,
    span: float,
    fewest: float,
    most: float,
) -> tuple[Ints, Floats, Floats]:
    """Return :func:`run_bars` of the rows after closed bars."""
    bars, signed = np.empty(len(prices), dtype=np.int64), np.empty(len(prices))
    bar, begun, bought, sold, buys, sells = 0, 0, 0.0, 0.0, 0, 0
    bought_lost, sold_lost = 0.0, 0.0
    # Sums and weights of the averages: length, share of buys, amount of a buy, amount of a sell.
    sums, weights = np.zeros(4), np.zeros(4)
    known = known.copy()
    first = len(known) == 0
    if first:
        side, last, threshold = 0.0, np.nan, np.inf
    else:
        side, last, threshold = known[0], known[1], known[2]
        sums[:], weights[:] = known[3:7], known[7:11]
    keep = 1 - 2 / (span + 1)
    for row in range(len(prices)):
        if prices[row] != last and last == last:
            side = 1.0 if prices[row] > last else -1.0
        last = prices[row]
        if sides[row] == sides[row]:
            side = np.sign(sides[row])
        amount = amounts[row] if amounts[row] == amounts[row] else 0.0
        signed[row] = side * amount
        if side > 0:
            bought, rounding = _two_sum(bought, amount)
            bought_lost, buys = bought_lost + rounding, buys + 1
        elif side < 0:
            sold, rounding = _two_sum(sold, amount)
            sold_lost, sells = sold_lost + rounding, sells + 1
        bars[row] = bar
        length = row + 1 - begun
        larger = max(bought + bought_lost, sold + sold_lost)
        if length >= expected if first else larger >= threshold * (1 - _AVERAGE_ROUNDING):
            bought, sold = bought + bought_lost, sold + sold_lost
            result = (
                float(length),
                buys / (buys + sells) if buys + sells else np.nan,
                bought / buys if buys else np.nan,
                sold / sells if sells else np.nan,
            )
            for place in range(4):
                if result[place] == result[place]:
                    sums[place] = sums[place] * keep + result[place]
                    weights[place] = weights[place] * keep + 1
            rows = min(max(sums[0] / weights[0], fewest), most)
            fraction = sums[1] / weights[1] if weights[1] else 0.5
            buy = sums[2] / weights[2] if weights[2] else 0.0
            sell = sums[3] / weights[3] if weights[3] else 0.0
            threshold = rows * max(fraction * buy, (1 - fraction) * sell)
            known = np.concatenate((np.array([side, last, threshold]), sums, weights))
            bar, begun, bought, sold, buys, sells = bar + 1, row + 1, 0.0, 0.0, 0, 0
            bought_lost, sold_lost, first = 0.0, 0.0, False
    bars[begun:] = -1 - bar
    return bars, signed, known


@compile_lazily
def moments(times: Ints, values: Floats, weights: Floats, window: int) -> tuple[Floats, Floats]:
    """Return the weighted mean and population variance of ``(time - window, time]`` for each row.

    A NaN value is no row, and gets NaN; a NaN weight is none.
    """
    rows = len(values)
    means, variances = np.full(rows, np.nan), np.full(rows, np.nan)
    oldest, in_window, removed, reference = 0, 0, 0, 0.0
    weight, first, second = 0.0, 0.0, 0.0
    for row in range(rows):
        if values[row] != values[row]:
            continue
        while oldest < row and times[oldest] <= times[row] - window:
            if values[oldest] == values[oldest]:
                if weights[oldest] == weights[oldest]:
                    away = values[oldest] - reference
                    weight -= weights[oldest]
                    first -= weights[oldest] * away
                    second -= weights[oldest] * away * away
                in_window, removed = in_window - 1, removed + 1
            oldest += 1
        # Sums that are added and subtracted accumulate rounding: begin anew before it matters.
        start = row
        if in_window == 0 or removed > in_window + 1000:
            start, reference, in_window, removed = oldest, values[row], 0, 0
            weight, first, second = 0.0, 0.0, 0.0
        for new in range(start, row + 1):
            if values[new] == values[new]:
                in_window += 1
                if weights[new] == weights[new]:
                    away = values[new] - reference
                    weight += weights[new]
                    first += weights[new] * away
                    second += weights[new] * away * away
        if weight > 0:
            mean = first / weight
            means[row] = reference + mean
            variances[row] = max(second / weight - mean * mean, 0.0)
    return means, variances


@compile_lazily
def time_average(times: Ints, values: Floats, window: int) -> Floats:
    """Return the average over ``[time - window, time]`` of a value held until the next.

    Where the first value is younger than the window, from it on. A NaN value is no row.
    """
    rows = len(values)
    averages = np.full(rows, np.nan)
    # Rows with values. ``in_force`` is the row in force when the window begins; ``area`` sums the
    # later values by their time, up to the newest.
    places = np.empty(rows, dtype=np.int64)
    count, in_force, removed, reference, area = 0, -1, 0, 0.0, 0.0
    for row in range(rows):
        if values[row] != values[row]:
            continue
        places[count] = row
        count += 1
        start = times[row] - window
        low = in_force + 1
        while in_force + 1 < count and times[places[in_force + 1]] <= start:
            in_force += 1
        for gone in range(low, min(in_force + 1, count - 2)):
            span = times[places[gone + 1]] - times[places[gone]]
            area -= (values[places[gone]] - reference) * span
            removed += 1
        newest = count - 2
        # Sums that are added and subtracted accumulate rounding: begin anew before it matters.
        if newest <= in_force + 1 or removed > newest - in_force + 1000:
            newest_known, reference, area, removed = in_force + 1, values[row], 0.0, 0
        else:
            newest_known = newest
        for inside in range(newest_known, newest + 1):
            span = times[places[inside + 1]] - times[places[inside]]
            area += (values[places[inside]] - reference) * span
        if in_force < 0:
            total, span = area, times[row] - times[places[0]]
        elif in_force + 1 < count:
            before = places[in_force]
            first = times[places[in_force + 1]] - start
            total, span = area + (values[before] - reference) * first, window
        else:
            total, span = 0.0, 0
        averages[row] = reference + total / span if span else values[row]
    return averages


@compile_lazily
def anchored_moments(anchors: Ints, values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the weighted mean and population variance of the rows so far of each anchor.

    A NaN value is no row, and gets NaN; so does every row with an anchor below 0. A NaN weight is
    none.
    """
    rows = len(values)
    means, variances = np.full(rows, np.nan), np.full(rows, np.nan)
    anchor, reference, weight, mean, square = np.int64(-1), 0.0, 0.0, 0.0, 0.0
    for row in range(rows):
        if anchors[row] < 0 or values[row] != values[row]:
            continue
        if anchors[row] != anchor:
            anchor, reference = anchors[row], values[row]
            weight, mean, square = 0.0, 0.0, 0.0
        if weights[row] > 0:
            weight += weights[row]
            value = values[row] - reference
            away = value - mean
            mean += away * weights[row] / weight
            square += weights[row] * away * (value - mean)
        if weight > 0:
            means[row], variances[row] = reference + mean, max(square / weight, 0.0)
    return means, variances


@compile_lazily
def anchored_average(anchors: Ints, times: Ints, values: Floats) -> Floats:
    """Return the average over time, since the first row of its anchor, of a held value.

    NaN and anchors below 0 as in :func:`anchored_moments`.
    """
    rows = len(values)
    averages = np.full(rows, np.nan)
    anchor, begun, last, reference, area = np.int64(-1), 0, 0, 0.0, 0.0
    for row in range(rows):
        if anchors[row] < 0 or values[row] != values[row]:
            continue
        if anchors[row] != anchor:
            anchor, begun, last, reference, area = anchors[row], row, row, values[row], 0.0
        area += (values[last] - reference) * (times[row] - times[last])
        last, span = row, times[row] - times[begun]
        averages[row] = reference + area / span if span else values[row]
    return averages
