"""The window: bounded, sorted, and complete from some time on."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.storage.samples import H13, SECOND

from .simulation import STREAMS, columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Live
    from ibticks.storage import StreamWriter

TICK_TYPES = ("bid_ask", "last")


def write(
    writers: dict[str, StreamWriter], choose: random.Random, number: int, at: int
) -> list[Any]:
    """Write a few ticks of one stream, some of them late; return times and numbers."""
    tick_type = choose.choice(TICK_TYPES)
    count = choose.choice([1, 1, 2, 30, 300])
    late = choose.random() < 0.2
    times = [at - choose.randrange(100 * SECOND) if late else at + i * 1000 for i in range(count)]
    writers[tick_type].write(columns(tick_type, times, number))
    return list(zip(times, range(number, number + count), strict=True))


@pytest.mark.parametrize(
    ("rows", "duration_ns"), [(10**6, None), (500, None), (10**6, 20 * SECOND), (300, 60 * SECOND)]
)
def test_window_has_the_last_ticks(
    writer: Callable[..., StreamWriter],
    follow: Callable[..., Live],
    rows: int,
    duration_ns: int | None,
) -> None:
    choose = random.Random(7)
    writers = {tick_type: writer(tick_type) for tick_type in TICK_TYPES}
    live = follow(H13 - 200 * SECOND, STREAMS, window_rows=rows, window_ns=duration_ns)
    came: list[tuple[int, int]] = []
    at = H13
    for _ in range(120):
        at += choose.randrange(2 * SECOND)
        came += write(writers, choose, len(came), at)
        if choose.random() < 0.4:
            frame = live.frame()
            times = frame["timestamp"].to_physical().to_list()
            shown = list(zip(times, frame["sequence"].to_list(), strict=True))
            assert times == sorted(times)
            assert len(shown) == len(set(shown)) <= rows
            assert set(shown) <= set(came)
            # Every tick late enough is there, and no other where only time bounds the window.
            whole = {pair for pair in came if pair[0] >= live.window_since}
            assert whole <= set(shown)
            if rows == 10**6:
                assert whole == set(shown)
            assert live.frame() is frame, "no tick came, and the frame was built again"
    height = live.frame().height
    if duration_ns is not None and rows == 10**6:
        assert live.window_since == max(time for time, _ in came) - duration_ns
    if rows == 500:
        assert height == 500


def test_equal_times_keep_their_order_of_arrival(
    writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    quotes = writer()
    live = follow(H13)
    for number in range(600):
        quotes.write(columns("bid_ask", [H13 + number // 50], number))
        if number % 7 == 0:
            live.frame()
    assert live.frame()["sequence"].to_list() == list(range(600))


def test_chunks_stay_few(writer: Callable[..., StreamWriter], follow: Callable[..., Live]) -> None:
    quotes = writer()
    live = follow(H13)
    for number in range(1000):
        quotes.write(columns("bid_ask", [H13 + number], number))
        assert live.frame().height == number + 1
    assert len(live._reader._window._chunks) < 12


def test_pending_batches_are_bounded(
    writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    quotes = writer()
    live = follow(H13)
    live.read()
    for number in range(600):
        quotes.write(columns("bid_ask", [H13 + number], number))
        live.read()
    assert len(live._reader._window._pending) <= 256
    assert live.frame().height == 600


def test_window_without_a_timestamp_column(
    writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    writer().write(columns("bid_ask", [H13 + 2, H13 + 1], 0))
    live = follow(H13, columns=("sequence",))
    assert live.frame().columns == ["sequence"]
    assert live.frame()["sequence"].to_list() == [1, 0]


def test_empty_window_has_its_columns(follow: Callable[..., Live]) -> None:
    frame = follow(H13).frame()
    assert frame.height == 0
    assert frame.columns == [
        "timestamp",
        "contract_id",
        "tick_type",
        "price",
        "bid_price",
        "sequence",
    ]
