"""Numba kernels that look at the rows around each row, in blocks on all processors.

They take the rows of one contract in order of arrival, as numpy arrays, and return one number a
row. :func:`neighbour_median` and :func:`trimmed_moments` look at later rows too.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numba
import numpy as np

from ibticks._jit import compile_lazily, inline

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

__all__ = [
    "merge_equal_times",
    "neighbour_median",
    "refresh_rows",
    "run_in_blocks",
    "trimmed_moments",
]

_BLOCK_ROWS: Final = 1 << 19  # the same on every machine, so that rounding is, too


def run_in_blocks(
    rows: int, work: Callable[[int, int], None], rows_per_block: int = _BLOCK_ROWS
) -> None:
    """Call ``work`` for the rows ``[begin, end)`` of each block, on all processors.

    Examples
    --------
    >>> done = []
    >>> run_in_blocks(5, lambda begin, end: done.append((begin, end)), rows_per_block=2)
    >>> sorted(done)
    [(0, 2), (2, 4), (4, 5)]
    """
    begins = range(0, rows, rows_per_block)
    ends = (min(begin + rows_per_block, rows) for begin in begins)
    if len(begins) < 2:
        for begin, end in zip(begins, ends, strict=True):
            work(begin, end)
        return
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(work, begins, ends):
            pass


_ROWS_BETWEEN_RESTARTS = 256


def merge_equal_times(
    times: Ints, values: Floats, weights: Floats, how: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Merge rows of equal times: one value, sum and largest of the weights, number of rows.

    They stand at its last row, elsewhere NaN. ``how`` is 0 for the median, 1 for the highest value
    of the largest weight, 2 for the weighted mean (plain, where no weight is above 0). A NaN value
    is left out, a NaN weight is 0.
    """
    result, sums, most, counts = (np.empty(len(times)) for _ in range(4))
    into = result, sums, most, counts
    run_in_blocks(
        len(times), lambda *block: _merge_equal_times(times, values, weights, how, *block, *into)
    )
    return into


@compile_lazily
def _merge_equal_times(
    times: Ints,
    values: Floats,
    weights: Floats,
    how: int,
    begin: int,
    end: int,
    result: Floats,
    sums: Floats,
    most: Floats,
    counts: Floats,
) -> None:
    rows = len(times)
    begun, size = begin, 0
    while begun > 0 and times[begun - 1] == times[begun]:
        begun -= 1
    known = np.empty(end - begun)
    total, largest, highest, value_sum, value_weight = 0.0, -np.inf, np.nan, 0.0, 0.0
    for row in range(begun, end):
        value, weight = values[row], weights[row]
        if weight != weight:
            weight = 0.0
        total += weight
        if value == value:
            known[size] = value
            size += 1
            value_sum, value_weight = value_sum + value * weight, value_weight + weight
            if weight > largest or (weight == largest and value > highest):
                largest, highest = weight, value
        if row < begin:
            continue
        result[row] = sums[row] = most[row] = counts[row] = np.nan
        if row + 1 < rows and times[row + 1] == times[row]:
            continue
        if size == 1:
            result[row] = known[0]
        elif size and how == 1:
            result[row] = highest
        elif size and how == 2 and value_weight > 0:
            result[row] = value_sum / value_weight
        elif size and how == 2:
            result[row] = known[:size].mean()
        elif size == 2:
            result[row] = (known[0] + known[1]) / 2
        elif size:
            result[row] = np.median(known[:size])
        sums[row], most[row], counts[row] = total, largest, row + 1 - begun
        begun, size = row + 1, 0
        total, largest, highest, value_sum, value_weight = 0.0, -np.inf, np.nan, 0.0, 0.0


@compile_lazily
def refresh_rows(times: Ints, contracts: Ints, many: int) -> Ints:
    """Return the rows of refresh times: all of ``many`` contracts have a new row since the last.

    Takes the rows of all contracts, numbered from 0. Returns, for each refresh time in turn and
    each contract, the place of its last row at or before that time.
    """
    result = np.empty(len(times), dtype=np.int64)
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
            result[count : count + many] = latest
            count += many
            fresh[:] = False
            waiting = many
    return result[:count].copy()


@inline
def _sorted_place(ordered: Floats, size: int, value: float) -> int:
    """Return the first place of a value in sorted values."""
    low = 0
    while size > 1:
        half = size // 2
        low += half if ordered[low + half - 1] < value else 0
        size -= half
    return low


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _distance_sums(ordered: Floats, begin: int, end: int, middle: float) -> tuple[float, float]:
    """Return the sum of distances from the middle, and of their squares."""
    total = squares = 0.0
    for place in range(begin, end):
        off = ordered[place] - middle
        total += off
        squares += off * off
    return total, squares


@inline
def _sorted_insert(ordered: Floats, size: int, value: float) -> int:
    """Insert a value into sorted values."""
    place = size
    while place and ordered[place - 1] > value:
        ordered[place] = ordered[place - 1]
        place -= 1
    ordered[place] = value
    return size + 1


@inline
def _sorted_remove(ordered: Floats, size: int, value: float) -> int:
    """Remove a value from sorted values."""
    for place in range(_sorted_place(ordered, size, value), size - 1):
        ordered[place] = ordered[place + 1]
    return size - 1


@inline
def _sorted_replace(ordered: Floats, size: int, old: float, new: float) -> None:
    """Replace a value in sorted values: only values between the two move."""
    place = _sorted_place(ordered, size, old)
    while place + 1 < size and ordered[place + 1] < new:
        ordered[place] = ordered[place + 1]
        place += 1
    while place and ordered[place - 1] > new:
        ordered[place] = ordered[place - 1]
        place -= 1
    ordered[place] = new


def neighbour_median(values: Floats, half: int) -> Floats:
    """Return the median of the ``half`` values before and after each, without itself.

    Towards the ends there are fewer; of a single value NaN. No value is NaN.
    """
    medians = np.full(len(values), np.nan)
    run_in_blocks(len(values), lambda *block: _neighbour_median(values, half, *block, medians))
    return medians


@compile_lazily
def _neighbour_median(values: Floats, half: int, begin: int, end: int, medians: Floats) -> None:
    n = len(values)
    ordered = np.empty(2 * half + 1)
    size = 0
    for row in range(max(begin - half - 1, 0), min(begin + half, n)):
        size = _sorted_insert(ordered, size, values[row])
    for row in range(begin, end):
        entering, leaving = row + half, row - half - 1
        if entering < n and leaving >= 0:
            if values[entering] != values[leaving]:
                _sorted_replace(ordered, size, values[leaving], values[entering])
        elif entering < n:
            size = _sorted_insert(ordered, size, values[entering])
        elif leaving >= 0:
            size = _sorted_remove(ordered, size, values[leaving])
        others = size - 1
        if others:
            place = _sorted_place(ordered, size, values[row])
            low, high = (others - 1) // 2, others // 2
            # The value itself is among the sorted values; those above it move down by one.
            below = ordered[low + (low >= place)]
            medians[row] = (below + ordered[high + (high >= place)]) / 2


@inline
def _sorted_replace_between(
    ordered: Floats, size: int, low: int, high: int, old: float, new: float
) -> tuple[float, float]:
    """Replace a value; return the values that leave and enter ``[low, high)``."""
    place = _sorted_place(ordered, size, old)
    after = place
    if new > old:
        while after + 1 < size and ordered[after + 1] < new:
            after += 1
        if place >= high or after < low:
            out = into = new
        else:
            out = ordered[max(place, low)]
            into = new if after < high else ordered[high]
        for value in range(place, after):
            ordered[value] = ordered[value + 1]
    else:
        while after and ordered[after - 1] > new:
            after -= 1
        if place < low or after >= high:
            out = into = new
        else:
            out = ordered[min(place, high - 1)]
            into = new if after >= low else ordered[low - 1]
        for value in range(place, after, -1):
            ordered[value] = ordered[value - 1]
    ordered[after] = new
    return out, into


def trimmed_moments(values: Floats, width: int, cut: int) -> tuple[Floats, Floats]:
    """Return mean and sample deviation of ``width`` values around each, less ``cut`` at each end.

    The window of a value near an end is the first or the last ``width`` values. NaN is none of
    them, and has no moments.
    """
    there = values == values
    if not there.all():
        means, deviations = trimmed_moments(values[there], width, cut)
        return _scatter(means, there), _scatter(deviations, there)
    n = len(values)
    means, deviations = np.full(n, np.nan), np.full(n, np.nan)
    width = min(width, n)
    if width > 2 * cut + 1:
        run_in_blocks(
            n, lambda *block: _trimmed_moments(values, width, cut, *block, means, deviations)
        )
    return means, deviations


def _scatter(values: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    result = np.full(len(there), np.nan)
    result[there] = values
    return result


@compile_lazily
def _trimmed_moments(
    values: Floats,
    width: int,
    cut: int,
    first: int,
    end: int,
    means: Floats,
    deviations: Floats,
) -> None:
    n = len(values)
    begun = min(max(first - width // 2, 0), n - width)
    ordered = np.empty(width + 1)
    size = 0
    for row in range(begun, begun + width):
        size = _sorted_insert(ordered, size, values[row])
    low, high = cut, width - cut
    stale, remaining = _ROWS_BETWEEN_RESTARTS, high - low
    middle = total = squares = mean = deviation = 0.0
    for row in range(first, end):
        begin = min(max(row - width // 2, 0), n - width)
        if begin > begun:
            begun = begin
            old, new = values[begin - 1], values[begin + width - 1]
            if old != new:
                out, into = _sorted_replace_between(ordered, width, low, high, old, new)
                total += into - out
                squares += (into - middle) ** 2 - (out - middle) ** 2
                stale += 1
        elif row > first:
            means[row], deviations[row] = mean, deviation
            continue
        if stale >= _ROWS_BETWEEN_RESTARTS:
            # Around the middle value, so that squares of large prices lose no digits; and
            # recomputed regularly, so that rounding does not accumulate.
            middle, stale = ordered[width // 2], 0
            total, squares = _distance_sums(ordered, low, high, middle)
        mean = middle + total / remaining
        deviation = max(0.0, (squares - total * total / remaining) / (remaining - 1)) ** 0.5
        means[row], deviations[row] = mean, deviation
