"""Walking through history: each second once and whole, whatever a server makes of the pages."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.gateway import TickStream
from ibticks.gateway._answers import page as gateway_page
from ibticks.history._plan import QUARTER_SECONDS, iter_seconds
from ibticks.history._ticks import HistoricalTick
from ibticks.schema import TickColumns, Values

T0 = 1_700_000_100  # 2023-11-14 22:15:00 UTC: a quarter of an hour
SECOND = 1_000_000_000


def numbered(seconds: list[int] | filter[Any]) -> list[Any]:
    """Ticks of these seconds, in order; each has its number for a price."""
    return [HistoricalTick(T0 + second, (float(n),)) for n, second in enumerate(sorted(seconds))]


class Server:
    """A server that counts its requests."""

    def __init__(self, ticks: Any) -> None:
        self.ticks = ticks
        self.times = [tick.time for tick in ticks]
        self.asked: list[Any] = []

    def __call__(self, start: Any, most: Any) -> Any:
        self.asked.append((start, most))
        assert len(self.asked) < 500, "it does not come to an end"
        return self.page(start, most)

    def page(self, start: Any, most: Any) -> Any:
        raise NotImplementedError

    def rest(self, start: Any) -> Any:
        return self.ticks[bisect_left(self.times, start) :]


class Cutting(Server):
    """A server whose pages have the requested number, even if a second is not complete."""

    def page(self, start: Any, most: Any) -> Any:
        return self.rest(start)[:most]


class Completing(Server):
    """Completes the last second, as IB does: the simulated gateway's own rule."""

    def __init__(self, ticks: list[Any]) -> None:
        super().__init__(ticks)
        times = Values(np.array(self.times, dtype=np.int64) * SECOND)
        prices = Values(np.array([tick.values[0] for tick in ticks]))
        self.stream = TickStream(
            1, "mid_point", TickColumns(len(ticks), {"timestamp": times, "mid_price": prices})
        )

    def page(self, start: Any, most: Any) -> list[Any]:
        rows = gateway_page(self.stream, start=start, end=None, count=most)
        return [self.ticks[row] for row in rows.tolist()]


class BySession(Completing):
    """A server whose pages end with the session of the requested second."""

    sessions = ((0, 900), (1800, 5400), (9000, 9900), (10800, 40000))

    def page(self, start: Any, most: Any) -> list[Any]:
        for opens, closes in self.sessions:
            if T0 + opens <= start < T0 + closes:
                return [t for t in super().page(start, most) if t.time < T0 + closes]
        return []


def in_session(second: Any) -> bool:
    return any(opens <= second < closes for opens, closes in BySession.sessions)


few_seconds = st.lists(st.integers(0, 12), max_size=40)
many_seconds = st.lists(
    st.one_of(
        st.integers(0, 20_000),
        st.sampled_from([edge + step for edge in (900, 1800, 5400, 9000) for step in (-1, 0, 1)]),
    ),
    max_size=60,
)


def walked(server: Any, start: int, end: int, most: int) -> list[Any]:
    """Return the ticks of all pages, after asserting that the steps are in order."""
    actual, at = [], start
    for until, ticks in iter_seconds(server, start, end, most):
        assert at < until <= end
        assert all(at <= tick.time < until for tick in ticks)
        actual += ticks
        at = until
    assert at == max(start, end)
    return actual


@pytest.mark.parametrize("server", [Completing, Cutting])
@given(few_seconds, st.integers(-2, 14), st.integers(0, 16), st.integers(1, 9))
def test_every_tick_of_a_range_is_returned_once_and_in_order(
    server: type[Completing] | type[Cutting], seconds: list[int], start: int, length: int, most: int
) -> None:
    if server is Cutting:  # a second of more ticks than a page cannot be completed
        seconds = [second for second in seconds if seconds.count(second) <= most]
    ticks = numbered(seconds)
    begin, end = T0 + start, T0 + start + length
    expected = [tick for tick in ticks if begin <= tick.time < end]
    assert walked(server(ticks), begin, end, most) == expected


@given(many_seconds, st.integers(1, 9))
def test_sessions_are_found_across_the_hours_between_them(seconds: list[int], most: int) -> None:
    ticks = numbered(filter(in_session, seconds))
    assert walked(BySession(ticks), T0, T0 + 20_001, most) == ticks


def test_a_page_that_ends_with_its_second_loses_and_doubles_nothing() -> None:
    ticks = numbered([0, 0, 1, 1, 2, 2])
    server = Completing(ticks)
    assert walked(server, T0, T0 + 3, 4) == ticks
    # The second one may have been cut, and is asked for again.
    assert server.asked == [(T0, 4), (T0 + 1, 4), (T0 + 2, 4)]


def test_a_page_longer_than_requested_is_used_completely() -> None:
    ticks = numbered([0, 0, 0, 1])
    server = Completing(ticks)
    assert walked(server, T0, T0 + 2, 2) == ticks
    assert server.asked == [(T0, 2), (T0 + 1, 2)]


@pytest.mark.parametrize("server", [Completing, Cutting])
def test_a_second_longer_than_a_page_does_not_stop_paging(
    server: type[Completing] | type[Cutting],
) -> None:
    ticks = numbered([0, *[1] * 50, 2])
    actual = walked(server(ticks), T0, T0 + 3, 10)
    assert [tick for tick in actual if tick.time != T0 + 1] == [ticks[0], ticks[-1]]
    # Where the server cuts, what is behind the cut cannot be asked for.
    assert len(actual) == (52 if server is Completing else 12)


def test_an_empty_history() -> None:
    server = Completing([])
    assert walked(server, T0 + 5, T0 + 3 * QUARTER_SECONDS, 1000) == []
    assert [start - T0 for start, _ in server.asked] == [5, QUARTER_SECONDS, 2 * QUARTER_SECONDS]


def test_a_first_tick_after_the_end_skips_the_hours_before_it() -> None:
    server = Completing(numbered([50_000]))
    assert walked(server, T0, T0 + 40_000, 1000) == []
    assert len(server.asked) == 1


@given(st.integers(0, 10_000))
def test_after_empty_pages_paging_continues_at_the_next_session(second: int) -> None:
    steps = [until for until, _ in iter_seconds(Completing([]), T0 + second, T0 + 20_000, 10)]
    assert all(until % QUARTER_SECONDS == 0 for until in steps[:-1])
    assert all(0 < later - earlier <= QUARTER_SECONDS for earlier, later in pairwise(steps))


def test_ticks_before_the_page_are_ignored() -> None:
    """A server that begins too early, and not in order."""
    ticks = numbered([0, 1, 2, 3])

    def ask(start: Any, most: Any) -> Any:
        return ticks[::-1]

    assert walked(ask, T0 + 2, T0 + 4, 10) == ticks[2:]
