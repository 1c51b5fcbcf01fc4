"""The window: bounded, sorted, and made of what came."""

from __future__ import annotations

import random

import pytest

from tests.storage.samples import H13, SECOND

from .simulation import STREAMS, columns

KINDS = ("bid_ask", "last")


def write(writers, choose, number, at):
    """A few ticks of one stream, now and then late ones; returns times and numbers."""
    kind = choose.choice(KINDS)
    count = choose.choice([1, 1, 2, 30, 300])
    late = choose.random() < 0.2
    times = [at - choose.randrange(100 * SECOND) if late else at + i * 1000 for i in range(count)]
    writers[kind].write(columns(kind, times, number))
    return list(zip(times, range(number, number + count), strict=True))


@pytest.mark.parametrize(
    ("rows", "span"), [(10**6, None), (500, None), (10**6, 20 * SECOND), (300, 60 * SECOND)]
)
def test_the_window_is_the_last_of_what_came(writer, follow, rows, span):
    choose = random.Random(7)
    writers = {kind: writer(kind) for kind in KINDS}
    live = follow(H13 - 200 * SECOND, STREAMS, window_rows=rows, window_ns=span)
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
            # All that is late enough is there, and nothing else where only time bounds it.
            whole = {pair for pair in came if pair[0] >= live.window_since}
            assert whole <= set(shown)
            if rows == 10**6:
                assert whole == set(shown)
            assert live.frame() is frame, "nothing came, and it was made anew"
    height = live.frame().height
    if span is not None and rows == 10**6:
        assert live.window_since == max(time for time, _ in came) - span
    if rows == 500:
        assert height == 500


def test_equal_times_keep_the_order_in_which_they_came(writer, follow):
    quotes = writer()
    live = follow(H13)
    for number in range(600):
        quotes.write(columns("bid_ask", [H13 + number // 50], number))
        if number % 7 == 0:
            live.frame()
    assert live.frame()["sequence"].to_list() == list(range(600))


def test_pieces_stay_few(writer, follow):
    quotes = writer()
    live = follow(H13)
    for number in range(1000):
        quotes.write(columns("bid_ask", [H13 + number], number))
        assert live.frame().height == number + 1
    assert len(live._reader._window._chunks) < 12


def test_what_nobody_looks_at_is_decoded_now_and_then(writer, follow):
    quotes = writer()
    live = follow(H13)
    live.read()
    for number in range(600):
        quotes.write(columns("bid_ask", [H13 + number], number))
        live.read()
    assert len(live._reader._window._pending) <= 256
    assert live.frame().height == 600


def test_columns_without_time(writer, follow):
    writer().write(columns("bid_ask", [H13 + 2, H13 + 1], 0))
    live = follow(H13, columns=("sequence",))
    assert live.frame().columns == ["sequence"]
    assert live.frame()["sequence"].to_list() == [1, 0]


def test_an_empty_window_has_its_columns(follow):
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
