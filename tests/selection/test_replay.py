"""Replays of selections: the rows of the frame, at the pace of the ticks."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from ibticks.errors import InputError
from ibticks.schema import TickColumns, Values
from ibticks.selection import ReplayClock

if TYPE_CHECKING:
    from ibticks import Selection, Store

SECOND = 10**9
HOUR = 3_600 * SECOND
START = 1_736_517_600 * SECOND  # 2025-01-10 14:00 UTC


@pytest.fixture
def mids(store: Store) -> Selection:
    """Pairs of ticks at one time, the pairs 40 minutes apart."""
    times = np.repeat(START + np.arange(6) * 40 * 60 * SECOND, 2)
    columns: dict[str, Any] = {"timestamp": Values(times), "mid_price": Values(np.arange(12.0))}
    with store.writer(1, "mid_point") as writer:
        writer.write(TickColumns(len(times), columns))
    return store.select(1, "mid_point", start=START, end=START + 5 * HOUR)


def test_a_replay_without_waiting(mids: Selection) -> None:
    frames = list(mids.replay(math.inf))
    assert pl.concat(frames).equals(mids.to_polars())


def test_ticks_of_one_time_come_together(mids: Selection) -> None:
    speed = 60_000
    began = time.monotonic()
    frames = list(mids.replay(speed))
    assert time.monotonic() - began >= 200 * 60 / speed
    assert pl.concat(frames).equals(mids.to_polars())
    assert all(frame.height % 2 == 0 for frame in frames)


def test_an_asynchronous_replay(mids: Selection) -> None:
    async def read() -> list[pl.DataFrame]:
        return [frame async for frame in mids.replay(10**9)]

    assert pl.concat(asyncio.run(read())).equals(mids.to_polars())


def test_the_columns_of_a_replay(mids: Selection) -> None:
    prices = mids.with_columns("mid_price")
    assert pl.concat(list(prices.replay(math.inf))).equals(prices.to_polars())


def test_the_time_between_two_intervals_is_left_out(store: Store, mids: Selection) -> None:
    times = np.array([START, START + 10**6 * HOUR])
    columns: dict[str, Any] = {"timestamp": Values(times), "price": Values(np.ones(2))}
    with store.writer(2, "last") as writer:
        writer.write(TickColumns(2, columns))
    far = store.select(2, "last")
    parts = [store.select(2, "last", start=at, end=at + 1).intervals[0] for at in times.tolist()]
    frames = list(replace(far, intervals=tuple(parts)).replay(1.0))
    assert [frame.height for frame in frames] == [1, 1]


def test_a_replay_without_ticks(store: Store, mids: Selection) -> None:
    assert list(store.select(1, "mid_point", start=START - HOUR, end=START).replay()) == []


@pytest.mark.parametrize("speed", [0, -1, math.nan])
def test_a_wrong_speed(mids: Selection, speed: float) -> None:
    with pytest.raises(InputError, match="more than 0"):
        mids.replay(speed)


def test_a_clock_does_not_wait_for_late_ticks() -> None:
    clock = ReplayClock(1e-6)
    times = np.array([START, START - HOUR, START, START + HOUR, START])
    assert clock.count_due(times) == 3
    assert clock.seconds_to(START) <= 0
    assert clock.seconds_to(START + HOUR) > HOUR / SECOND
