"""Pages of historical ticks: whole seconds, without gaps and duplicates."""

from __future__ import annotations

from datetime import UTC, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.errors import InputError
from ibticks.gateway import Gateway, Replay, TickStream
from ibticks.gateway._answers import ib_seconds, in_hours, page, past
from ibticks.schema import TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateway.clients import RawClient

SECONDS = st.lists(st.integers(0, 12), max_size=60)


def stream(seconds: list[int]) -> TickStream:
    columns: dict[str, Any] = {
        "timestamp": Values(np.arange(len(seconds), dtype=np.int64)),
        "exchange_time": Values(np.array(seconds, dtype=np.int64)),
    }
    return TickStream(1, "mid_point", TickColumns(len(seconds), columns))


@given(SECONDS, st.integers(1, 8))
def test_paging_forward_gets_every_tick_once(seconds: list[int], count: int) -> None:
    ticks, got, start, at_start = stream(sorted(seconds)), [], 0, 0
    while True:
        rows = page(ticks, start=start, end=None, count=count + at_start).tolist()
        fresh = rows[at_start:]
        if not fresh:
            break
        got += fresh
        # The next page begins with the last second again: as many of its ticks are known.
        start = int(ticks.seconds[got[-1]])
        at_start = int((ticks.seconds[got] == start).sum())
    assert got == list(range(len(seconds)))


@given(SECONDS, st.integers(1, 8))
def test_paging_backward_gets_every_tick_once(seconds: list[int], count: int) -> None:
    ticks = stream(sorted(seconds))
    got: list[Any] = []
    end = 99
    while rows := page(ticks, start=None, end=end, count=count).tolist():
        got = rows + got
        # What is at the end's own second is not in the page.
        end = int(ticks.seconds[rows[0]])
    assert got == list(range(len(seconds)))


@given(SECONDS, st.integers(0, 12), st.integers(1, 8))
def test_a_page_has_the_requested_ticks_and_whole_seconds(
    seconds: list[int], at: int, count: int
) -> None:
    ticks = stream(seconds)
    after = ticks.seconds[page(ticks, start=at, end=None, count=count)].tolist()
    before = ticks.seconds[page(ticks, start=None, end=at, count=count)].tolist()
    assert len(after) >= min(count, sum(second >= at for second in seconds))
    assert len(before) >= min(count, sum(second < at for second in seconds))
    for got in (after, before):
        assert got == sorted(got)
        assert all(got.count(second) == seconds.count(second) for second in set(got))


def test_a_page_between_two_times() -> None:
    assert page(stream([1, 2, 2, 3, 4]), start=2, end=4, count=9).tolist() == [1, 2, 3]
    assert page(stream([1, 2]), start=5, end=3, count=9).tolist() == []
    assert page(stream([1, 2, 2]), start=None, end=None, count=1).tolist() == [1, 2]


def test_ticks_before_a_row() -> None:
    assert past(5, 3).tolist() == [2, 3, 4]
    assert past(2, 9).tolist() == [0, 1]
    assert past(0, 9).tolist() == []


@pytest.mark.parametrize(
    ("text", "zone", "seconds"),
    [
        ("20131008-13:30:00", ZoneInfo("Asia/Tokyo"), 1381239000),
        ("20131008 13:30:00", UTC, 1381239000),
        ("20131008 09:30:00", ZoneInfo("America/New_York"), 1381239000),
        ("20131008 09:30:00 US/Eastern", UTC, 1381239000),
        (" 20131008  13:30:00  UTC ", ZoneInfo("Asia/Tokyo"), 1381239000),
    ],
)
def test_times_as_ib_writes_them(text: str, zone: ZoneInfo | timezone, seconds: int) -> None:
    assert ib_seconds(text, zone) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2013-10-08 09:30:00",
        "20131308-09:30:00",
        "20131008",
        "20131008 09:30:00 Mars/X",
    ],
)
def test_invalid_times(text: str) -> None:
    with pytest.raises(InputError, match="is not a time as IB writes it"):
        ib_seconds(text, UTC)


def test_regular_hours(
    samples: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    quotes = samples.streams[8314, "bid_ask"]
    hours = "20131008:0930-20131008:1600;20131009:CLOSED"
    inside = in_hours(quotes, hours, "US/Eastern")
    assert inside.seconds[0] == 1381239000
    assert inside.seconds[-1] == 1381239000 + 6.5 * 3600 - 1
    assert in_hours(quotes, "", "US/Eastern") is quotes
    client = dial(serve(samples))
    early = client.history(1, 8314, "BID_ASK", start="20131008 00:00:00 UTC", count=1)
    regular = client.history(2, 8314, "BID_ASK", start="20131008 00:00:00 UTC", count=1, rth=1)
    assert early[3] == "1381219200"
    assert regular[3] == "1381239000"


def test_history_without_changes_of_size(
    ticks: Replay, serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    client = dial(serve())
    fields = client.history(1, 1, "BID_ASK", start="20231114-22:13:20", count=4, ignore_size=1)
    assert fields[3::6][:-1] == ["1700000000", "1700000001", "1700000003", "1700000004"]


def test_pages_that_are_cut_on_command(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    """By default the last or the first second is completed; cut pages have the requested number."""
    gateway = serve()
    client = dial(gateway)

    def seconds(**where: Any) -> list[Any]:
        fields = client.history(1, 1, "BID_ASK", count=3, **where)
        assert len(fields) == 4 + 6 * int(fields[2])
        return [int(field) for field in fields[3:-1:6]]

    forward = {"start": "20231114-22:13:20"}
    backward = {"end": "20231114-22:13:30"}
    for where, remaining in ((forward, slice(3)), (backward, slice(-3, None))):
        whole = seconds(**where)
        assert len(whole) > 3
        gateway.cut_pages()
        assert seconds(**where) == whole[remaining]
        gateway.cut_pages(cuts=False)
        assert seconds(**where) == whole


def test_pages_that_are_refused_on_command(
    serve: Callable[..., Gateway], dial: Callable[..., RawClient]
) -> None:
    gateway = serve()
    client = dial(gateway)

    def answer(what: str) -> str:
        return client.history(7, 1, what, start="20231114-22:13:20", count=1)[0]

    gateway.refuse_history(1, "BID_ASK")
    assert [answer("TRADES"), answer("BID_ASK")] == ["98", "4"]
    gateway.grant_history(1, "BID_ASK")
    assert answer("BID_ASK") == "97"
    gateway.refuse_history(1, code=10187, times=2)
    assert [answer(what) for what in ("TRADES", "BID_ASK", "BID_ASK")] == ["4", "4", "97"]
