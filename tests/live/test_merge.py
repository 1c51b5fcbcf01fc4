"""The merge of several streams by time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.live._batch import FrameBatch, FrameSlice
from ibticks.live._follower import StreamMerge
from ibticks.live._stream_files import Cursor
from tests.storage.samples import KEY

EMPTY = np.empty(0, dtype=np.uint8)
DELAY_SECONDS = 5.0


def frame_batch(times: list[int], numbers: Any = None) -> FrameBatch:
    """Ticks at these times; their sizes are their numbers."""
    stamps = np.array(times, dtype=np.int64)
    sizes = np.array(range(len(times)) if numbers is None else numbers, dtype=np.int64)
    return FrameBatch(KEY, EMPTY, 0, np.zeros(len(times), np.int64), sizes, stamps, Cursor())


def ticks(slices: list[FrameSlice]) -> list[tuple[int, int, int]]:
    """Key, stream and time of each tick, by time as a batch orders them."""
    merged = [
        (int(one.keys[i]), one.stream, int(one.frames.times[one.start + i]))
        for one in slices
        for i in range(one.ticks)
    ]
    return sorted(merged, key=lambda tick: tick[0])


@given(
    st.lists(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=6), min_size=1, max_size=4)
)
def test_merge_is_by_time_and_keeps_each_streams_order(streams: list[Any]) -> None:
    """Streams are read as by the follower: if no tick is waiting, or none can be released."""
    merge = StreamMerge(len(streams), DELAY_SECONDS)
    left = [list(batches) for batches in streams]
    merged = []
    while True:
        for stream, batches in enumerate(left):
            if batches and not merge.has_held(stream):
                merge.add(stream, frame_batch(batches.pop(0)), 0.0)
        unread = [stream for stream, batches in enumerate(left) if batches]
        slices = merge.take(0.0, unread, hold=False)
        merged += ticks(slices)
        if not slices:
            if not unread:
                break
            stream = min(unread, key=merge.latest_ns)
            merge.add(stream, frame_batch(left[stream].pop(0)), 0.0)
    assert merge.held_ticks == 0
    assert [key for key, _, _ in merged] == sorted(key for key, _, _ in merged)
    for stream, batches in enumerate(streams):
        times = [time for batch in batches for time in batch]
        assert [time for _, which, time in merged if which == stream] == times
    equal = [(key, stream) for key, stream, _ in merged]
    assert equal == sorted(equal), "equal times are not in the order of the streams"


def test_single_stream_is_not_held() -> None:
    merge = StreamMerge(1, DELAY_SECONDS)
    merge.add(0, frame_batch([3, 4]), 0.0)
    assert ticks(merge.take(0.0)) == [(3, 0, 3), (4, 0, 4)]


def test_tick_is_held_until_other_streams_are_past_it() -> None:
    merge = StreamMerge(2, DELAY_SECONDS)
    merge.add(0, frame_batch([10, 20]), 0.0)
    assert merge.take(1.0) == []
    assert merge.due_at() == DELAY_SECONDS
    merge.add(1, frame_batch([15]), 1.0)
    assert ticks(merge.take(1.0)) == [(10, 0, 10)]
    merge.add(1, frame_batch([30]), 2.0)
    assert ticks(merge.take(2.0)) == [(15, 1, 15)]
    # It may be followed by another one at 20, which then comes after it.
    assert ticks(merge.take(DELAY_SECONDS)) == [(20, 0, 20)]
    assert merge.due_at() == 2.0 + DELAY_SECONDS
    assert ticks(merge.take(2.0 + DELAY_SECONDS)) == [(30, 1, 30)]
    assert merge.due_at() is None


def test_overdue_tick_takes_earlier_ticks_along() -> None:
    merge = StreamMerge(2, DELAY_SECONDS)
    merge.add(0, frame_batch([50]), 0.0)
    merge.add(1, frame_batch([40, 60]), 4.0)
    assert ticks(merge.take(DELAY_SECONDS)) == [(40, 1, 40), (50, 0, 50)]


def test_unread_stream_is_waited_for() -> None:
    merge = StreamMerge(2, DELAY_SECONDS)
    merge.add(0, frame_batch([50]), -math.inf)
    merge.add(1, frame_batch([40, 45]), -math.inf)
    assert ticks(merge.take(0.0, [1])) == [(40, 1, 40)]
    merge.add(1, frame_batch([70]), -math.inf)
    assert ticks(merge.take(0.0, [1])) == [(45, 1, 45), (50, 0, 50)]


def test_late_tick_keeps_its_place_in_the_file() -> None:
    merge = StreamMerge(2, DELAY_SECONDS)
    merge.add(0, frame_batch([10, 5]), 0.0)
    merge.add(1, frame_batch([8]), 0.0)
    assert ticks(merge.take(0.0, hold=False)) == [(8, 1, 8), (10, 0, 10), (10, 0, 5)]
    merge.add(0, frame_batch([6]), 0.0)
    assert ticks(merge.take(0.0, hold=False)) == [(10, 0, 6)]


@pytest.mark.parametrize("keep", [1, 3, 5, 6, 9])
def test_oldest_ticks_are_dropped(keep: int) -> None:
    merge = StreamMerge(2, DELAY_SECONDS)
    merge.add(0, frame_batch([10, 30, 50]), 0.0)
    merge.add(1, frame_batch([20, 40, 60]), 0.0)
    dropped = ticks(merge.drop_oldest(keep))
    assert [key for key, _, _ in dropped] == [10, 20, 30, 40, 50, 60][: max(0, 6 - keep)]
    assert merge.held_ticks == min(keep, 6)
    assert len(ticks(merge.take(0.0, hold=False))) == min(keep, 6)


def test_equal_times_are_dropped_together() -> None:
    merge = StreamMerge(1, DELAY_SECONDS)
    merge.add(0, frame_batch([7, 7, 7, 7]), 0.0)
    assert merge.drop_oldest(2) == []
    assert merge.held_ticks == 4


def test_frame_batches_without_a_tick_come_along() -> None:
    merge = StreamMerge(2, DELAY_SECONDS)
    for times in ([], [5], []):
        merge.add(0, frame_batch(times), 0.0)
    assert [one.ticks for one in merge.take(0.0)] == [0]
    assert [one.ticks for one in merge.take(DELAY_SECONDS)] == [1, 0]
    assert not merge.has_held(0)
