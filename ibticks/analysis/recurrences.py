"""What each row owes to the rows before it, where no expression of polars says it: compiled.

Every kernel takes the rows of one contract in order of arrival, as numpy arrays, and returns one
number a row. A row depends on itself and on earlier rows only, so that a live buffer gives what the
whole day will give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import types

from ibticks.format.jit import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

__all__ = [
    "anchored_average",
    "anchored_moments",
    "filled_bars",
    "imbalance_bars",
    "moments",
    "refreshed",
    "run_bars",
    "time_average",
]

_FLOATS = types.Array(types.float64, 1, "C", readonly=True)
_INTS = types.Array(types.int64, 1, "C", readonly=True)
_F, _I = types.float64, types.int64
_INFORMED = (_FLOATS, _FLOATS, _FLOATS, _F, _F, _F, _F)


@kernel((_FLOATS, _F))
def filled_bars(amounts: Floats, threshold: float) -> Ints:
    """The bar of each row: a bar closes with the row that brings it to the threshold.

    Each bar begins at nothing; what was over is not carried. NaN counts as nothing. The rows of the
    last bar, if it is not full, have its number as ``-1 - number``.
    """
    bars = np.empty(len(amounts), dtype=np.int64)
    bar, begun, amount = 0, 0, 0.0
    for row in range(len(amounts)):
        if amounts[row] == amounts[row]:
            amount += amounts[row]
        bars[row] = bar
        if amount >= threshold:
            bar, begun, amount = bar + 1, row + 1, 0.0
    bars[begun:] = -1 - bar
    return bars


@kernel(_INFORMED)
def imbalance_bars(
    prices: Floats,
    amounts: Floats,
    sides: Floats,
    expected: float,
    span: float,
    fewest: float,
    most: float,
) -> tuple[Ints, Floats]:
    """The bar of each row (as :func:`filled_bars` says it), and its signed amount."""
    bars, signed = np.empty(len(prices), dtype=np.int64), np.empty(len(prices))
    bar, begun, side, last = 0, 0, 0.0, np.nan
    theta, threshold, length_sum, length_weight = 0.0, np.inf, 0.0, 0.0
    mean_sum, mean_weight = 0.0, 0.0
    keep_bar = 1 - 2 / (span + 1)
    keep_row = 1 - 2 / (span * expected + 1)
    for row in range(len(prices)):
        if prices[row] != last and last == last:
            side = 1.0 if prices[row] > last else -1.0
        last = prices[row]
        if sides[row] == sides[row]:
            side = np.sign(sides[row])
        signed[row] = side * amounts[row] if side != 0 and amounts[row] == amounts[row] else 0.0
        theta += signed[row]
        mean_sum = mean_sum * keep_row + signed[row]
        mean_weight = mean_weight * keep_row + 1
        bars[row] = bar
        length = row + 1 - begun
        if abs(theta) >= threshold if bar else length >= expected:
            length_sum = length_sum * keep_bar + length
            length_weight = length_weight * keep_bar + 1
            rows = min(max(length_sum / length_weight, fewest), most)
            threshold = rows * abs(mean_sum / mean_weight)
            bar, begun, theta = bar + 1, row + 1, 0.0
    bars[begun:] = -1 - bar
    return bars, signed


@kernel(_INFORMED)
def run_bars(
    prices: Floats,
    amounts: Floats,
    sides: Floats,
    expected: float,
    span: float,
    fewest: float,
    most: float,
) -> tuple[Ints, Floats]:
    """The same as :func:`imbalance_bars`, of runs."""
    bars, signed = np.empty(len(prices), dtype=np.int64), np.empty(len(prices))
    bar, begun, side, last = 0, 0, 0.0, np.nan
    bought, sold, buys, sells, threshold = 0.0, 0.0, 0, 0, np.inf
    # Sums and weights of the averages: length, share of buys, amount of a buy, amount of a sell.
    sums, weights = np.zeros(4), np.zeros(4)
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
            bought, buys = bought + amount, buys + 1
        elif side < 0:
            sold, sells = sold + amount, sells + 1
        bars[row] = bar
        length = row + 1 - begun
        if max(bought, sold) >= threshold if bar else length >= expected:
            known = (
                float(length),
                buys / (buys + sells) if buys + sells else np.nan,
                bought / buys if buys else np.nan,
                sold / sells if sells else np.nan,
            )
            for place in range(4):
                if known[place] == known[place]:
                    sums[place] = sums[place] * keep + known[place]
                    weights[place] = weights[place] * keep + 1
            rows = min(max(sums[0] / weights[0], fewest), most)
            share = sums[1] / weights[1] if weights[1] else 0.5
            buy = sums[2] / weights[2] if weights[2] else 0.0
            sell = sums[3] / weights[3] if weights[3] else 0.0
            threshold = rows * max(share * buy, (1 - share) * sell)
            bar, begun, bought, sold, buys, sells = bar + 1, row + 1, 0.0, 0.0, 0, 0
    bars[begun:] = -1 - bar
    return bars, signed


@kernel((_INTS, _FLOATS, _FLOATS, _I))
def moments(times: Ints, values: Floats, weights: Floats, window: int) -> tuple[Floats, Floats]:
    """Weighted mean and variance (of the population) of ``(time - window, time]``, up to each row.

    A NaN value is no row, and gets NaN; a NaN weight is none.
    """
    rows = len(values)
    means, variances = np.full(rows, np.nan), np.full(rows, np.nan)
    oldest, held, removed, reference = 0, 0, 0, 0.0
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
                held, removed = held - 1, removed + 1
            oldest += 1
        # What is added and taken away again leaves its rounding behind: begin anew before it tells.
        start = row
        if held == 0 or removed > held + 1000:
            start, reference, held, removed = oldest, values[row], 0, 0
            weight, first, second = 0.0, 0.0, 0.0
        for new in range(start, row + 1):
            if values[new] == values[new]:
                held += 1
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


@kernel((_INTS, _FLOATS, _I))
def time_average(times: Ints, values: Floats, window: int) -> Floats:
    """Average over ``[time - window, time]`` of the value in force, each held until the next.

    Where the first value is younger than the window, from it on. A NaN value is no row.
    """
    rows = len(values)
    averages = np.full(rows, np.nan)
    # Of the rows that count: their places, and the integral of the value up to each.
    places, areas = np.empty(rows, dtype=np.int64), np.empty(rows)
    count, held, reference = 0, 0, 0.0
    for row in range(rows):
        if values[row] != values[row]:
            continue
        if count:
            before = places[count - 1]
            span = times[row] - times[before]
            areas[count] = areas[count - 1] + (values[before] - reference) * span
        else:
            reference, areas[0] = values[row], 0.0
        places[count] = row
        count += 1
        start = times[row] - window
        if start <= times[places[0]]:
            area, span = areas[count - 1], times[row] - times[places[0]]
        else:
            while times[places[held + 1]] <= start:
                held += 1
            inside = areas[held] + (values[places[held]] - reference) * (
                start - times[places[held]]
            )
            area, span = areas[count - 1] - inside, window
        averages[row] = reference + area / span if span else values[row]
    return averages


@kernel((_INTS, _FLOATS, _FLOATS))
def anchored_moments(anchors: Ints, values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and variance (of the population) of all rows of the same anchor, up to each.

    A NaN value is no row, and gets NaN; so does every row with an anchor below 0. A NaN weight is
    none.
    """
    rows = len(values)
    means, variances = np.full(rows, np.nan), np.full(rows, np.nan)
    anchor, weight, mean, square = np.int64(-1), 0.0, 0.0, 0.0
    for row in range(rows):
        if anchors[row] < 0 or values[row] != values[row]:
            continue
        if anchors[row] != anchor:
            anchor, weight, mean, square = anchors[row], 0.0, 0.0, 0.0
        if weights[row] > 0:
            weight += weights[row]
            away = values[row] - mean
            mean += away * weights[row] / weight
            square += weights[row] * away * (values[row] - mean)
        if weight > 0:
            means[row], variances[row] = mean, square / weight
    return means, variances


@kernel((_INTS, _INTS, _FLOATS))
def anchored_average(anchors: Ints, times: Ints, values: Floats) -> Floats:
    """Average since the first row of the same anchor of the value in force, each until the next.

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


@kernel((_INTS, _INTS, _I))
def refreshed(times: Ints, contracts: Ints, many: int) -> Ints:
    """Refresh times: whenever every one of ``many`` contracts has a new row since the last.

    Takes the rows of all contracts, numbered from 0. Returns, for each refresh time in turn and
    each contract, the place of its last row at or before that time.
    """
    found = np.empty(len(times), dtype=np.int64)
    latest, fresh = np.zeros(many, dtype=np.int64), np.zeros(many, dtype=np.bool_)
    waiting, count = many, 0
    for row in range(len(times)):
        contract = contracts[row]
        latest[contract] = row
        if not fresh[contract]:
            fresh[contract] = True
            waiting -= 1
        last_of_instant = row + 1 == len(times) or times[row + 1] != times[row]
        if waiting == 0 and last_of_instant:
            found[count : count + many] = latest
            count += many
            fresh[:] = False
            waiting = many
    return found[:count].copy()
