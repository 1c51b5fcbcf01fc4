"""Several streams as one, by time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.live._frame_batch import Stretch
from ibticks.live._merge import Merge
from ibticks.live._position import Cursor
from tests.storage.samples import KEY

NOTHING = np.empty(0, dtype=np.uint8)
DELAY = 5.0


def stretch(times, numbers=None) -> Stretch:
    """Ticks at these times; their sizes are their numbers."""
    stamps = np.array(times, dtype=np.int64)
    sizes = np.array(range(len(times)) if numbers is None else numbers, dtype=np.int64)
    return Stretch(KEY, NOTHING, 0, np.zeros(len(times), np.int64), sizes, stamps, Cursor())


def ticks(parts) -> list[tuple[int, int, int]]:
    """Key, stream and time of each tick, by time as a batch orders them."""
    found = [
        (int(part.keys[i]), part.stream, int(part.stretch.times[part.start + i]))
        for part in parts
        for i in range(part.ticks)
    ]
    return sorted(found, key=lambda each: each[0])


@given(
    st.lists(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=6), min_size=1, max_size=4)
)
def test_what_is_stored_comes_by_time_and_each_stream_in_its_order(streams):
    """Streams are read as the feed reads them: where nothing is held, or nothing can go."""
    merge = Merge(len(streams), DELAY)
    left = [list(pieces) for pieces in streams]
    came = []
    while True:
        for stream, pieces in enumerate(left):
            if pieces and not merge.holds(stream):
                merge.add(stream, stretch(pieces.pop(0)), 0.0)
        more = [stream for stream, pieces in enumerate(left) if pieces]
        parts = merge.take(0.0, more, hold=False)
        came += ticks(parts)
        if not parts:
            if not more:
                break
            stream = min(more, key=merge.reach)
            merge.add(stream, stretch(left[stream].pop(0)), 0.0)
    assert merge.ticks == 0
    assert [key for key, _, _ in came] == sorted(key for key, _, _ in came)
    for stream, pieces in enumerate(streams):
        times = [time for each in pieces for time in each]
        assert [time for _, which, time in came if which == stream] == times
    equal = [(key, stream) for key, stream, _ in came]
    assert equal == sorted(equal), "equal times are not in the order of the streams"


def test_one_stream_is_not_held():
    merge = Merge(1, DELAY)
    merge.add(0, stretch([3, 4]), 0.0)
    assert ticks(merge.take(0.0)) == [(3, 0, 3), (4, 0, 4)]


def test_a_tick_is_held_until_the_others_are_past_it():
    merge = Merge(2, DELAY)
    merge.add(0, stretch([10, 20]), 0.0)
    assert merge.take(1.0) == []
    assert merge.due() == DELAY
    merge.add(1, stretch([15]), 1.0)
    assert ticks(merge.take(1.0)) == [(10, 0, 10)]
    merge.add(1, stretch([30]), 2.0)
    assert ticks(merge.take(2.0)) == [(15, 1, 15)]
    # It may be followed by another one at 20, which then comes after it.
    assert ticks(merge.take(DELAY)) == [(20, 0, 20)]
    assert merge.due() == 2.0 + DELAY
    assert ticks(merge.take(2.0 + DELAY)) == [(30, 1, 30)]
    assert merge.due() is None


def test_what_is_due_takes_what_is_earlier_along():
    merge = Merge(2, DELAY)
    merge.add(0, stretch([50]), 0.0)
    merge.add(1, stretch([40, 60]), 4.0)
    assert ticks(merge.take(DELAY)) == [(40, 1, 40), (50, 0, 50)]


def test_who_is_behind_is_waited_for():
    merge = Merge(2, DELAY)
    merge.add(0, stretch([50]), -math.inf)
    merge.add(1, stretch([40, 45]), -math.inf)
    assert ticks(merge.take(0.0, [1])) == [(40, 1, 40)]
    merge.add(1, stretch([70]), -math.inf)
    assert ticks(merge.take(0.0, [1])) == [(45, 1, 45), (50, 0, 50)]


def test_a_late_tick_keeps_its_place_in_the_file():
    merge = Merge(2, DELAY)
    merge.add(0, stretch([10, 5]), 0.0)
    merge.add(1, stretch([8]), 0.0)
    assert ticks(merge.take(0.0, hold=False)) == [(8, 1, 8), (10, 0, 10), (10, 0, 5)]
    merge.add(0, stretch([6]), 0.0)
    assert ticks(merge.take(0.0, hold=False)) == [(10, 0, 6)]


@pytest.mark.parametrize("keep", [1, 3, 5, 6, 9])
def test_the_earliest_are_dropped(keep):
    merge = Merge(2, DELAY)
    merge.add(0, stretch([10, 30, 50]), 0.0)
    merge.add(1, stretch([20, 40, 60]), 0.0)
    dropped = ticks(merge.drop(keep))
    assert [key for key, _, _ in dropped] == [10, 20, 30, 40, 50, 60][: max(0, 6 - keep)]
    assert merge.ticks == min(keep, 6)
    assert len(ticks(merge.take(0.0, hold=False))) == min(keep, 6)


def test_of_equal_times_none_is_dropped_before_the_others():
    merge = Merge(1, DELAY)
    merge.add(0, stretch([7, 7, 7, 7]), 0.0)
    assert merge.drop(2) == []
    assert merge.ticks == 4


def test_stretches_without_a_tick_come_along():
    merge = Merge(2, DELAY)
    for times in ([], [5], []):
        merge.add(0, stretch(times), 0.0)
    assert [part.ticks for part in merge.take(0.0)] == [0]
    assert [part.ticks for part in merge.take(DELAY)] == [1, 0]
    assert not merge.holds(0)
