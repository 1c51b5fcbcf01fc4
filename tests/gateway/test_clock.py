"""The clock of a replay, where each client is in it, and the order of several streams."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks._types import StreamKey
from ibticks.gateway._feed import merged
from ibticks.gateway._state import Clock, Positions

from .conftest import SECOND, START

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.gateway import Replay

QUOTES, MIDS = StreamKey(1, "bid_ask"), StreamKey(1, "mid_point")


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the clock by one that only waits advance."""
    now = [1000]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += int(seconds * SECOND)

    return go_on


def test_a_clock_runs_at_its_speed_and_can_be_paused(wait: Callable[..., None]) -> None:
    clock = Clock(10.0)
    wait(5)
    assert clock.elapsed_ns() == 0
    clock.start()
    wait(2)
    clock.start()
    wait(1)
    clock.stop()
    wait(7)
    clock.stop()
    assert clock.elapsed_ns() == 30 * SECOND
    clock.start()
    wait(1)
    assert clock.elapsed_ns() == 40 * SECOND


def test_at_full_speed_there_is_no_time(wait: Callable[..., None]) -> None:
    clock = Clock(None)
    clock.start()
    wait(9)
    assert (clock.elapsed_ns(), clock.running) == (0, True)


def test_each_client_starts_at_the_beginning_and_misses_passed_ticks(
    ticks: Replay, wait: Callable[..., None]
) -> None:
    clock = Clock(2.0)
    positions = Positions(ticks, clock, "per_subscription")
    clock.start()
    first = positions.resume(1, QUOTES, ignore_size=False)
    wait(10)
    late = positions.resume(2, QUOTES, ignore_size=False)
    again = positions.resume(1, QUOTES, ignore_size=False)
    assert again is first
    # Ten seconds at twice the speed, two ticks a second.
    assert (first.next, late.next) == (40, 0)
    first.next = 50
    assert positions.resume(1, QUOTES, ignore_size=False).next == 50


def test_one_clock_for_all_begins_with_the_replay(ticks: Replay, wait: Callable[..., None]) -> None:
    clock = Clock(1.0)
    positions = Positions(ticks.shifted(0), clock, "shared")
    clock.start()
    wait(30)
    assert positions.resume(1, QUOTES, ignore_size=False).next == 60
    assert positions.resume(2, MIDS, ignore_size=False).next == 60


def test_one_clock_at_full_speed_is_where_the_last_tick_was(ticks: Replay) -> None:
    positions = Positions(ticks, Clock(None), "shared")
    assert positions.resume(1, QUOTES, ignore_size=False).next == 0
    positions.sent(START + 10 * SECOND)
    assert positions.resume(2, MIDS, ignore_size=False).next == 20
    positions.rewind()
    assert positions.resume(2, MIDS, ignore_size=False).next == 0


def test_rows_that_are_skipped_end_with_the_stream(ticks: Replay) -> None:
    positions = Positions(ticks, Clock(None), "per_subscription")
    progress = positions.resume(1, QUOTES, ignore_size=False)
    progress.skip(599)
    assert not progress.ended
    progress.skip(5)
    assert (progress.next, progress.ended) == (600, True)


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=25).map(sorted), max_size=5),
    st.integers(1, 9),
    st.integers(1, 12),
)
def test_streams_merge_by_time_in_chunks_of_any_size(
    streams: list[Any], window: int, limit: int
) -> None:
    at = [0] * len(streams)
    got = []
    while True:
        windows = [
            (np.array(s[i : i + window], dtype=np.int64), i + window < len(s))
            for s, i in zip(streams, at, strict=True)
        ]
        owners = merged(windows, limit).tolist()
        if not owners:
            break
        assert len(owners) <= limit
        for owner in owners:
            got.append((streams[owner][at[owner]], owner))
            at[owner] += 1
    assert at == [len(s) for s in streams]
    assert [t for t, _ in got] == sorted(t for s in streams for t in s)
