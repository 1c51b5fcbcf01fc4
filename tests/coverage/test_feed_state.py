"""The condition of captured streams, from the ledger and the lock."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import polars as pl
import pytest

from ibticks._types import StreamKey
from ibticks.calendar import to_ns
from ibticks.coverage import FeedCondition, FeedState, StreamStatus, closed_reason, feed_states
from ibticks.errors import TickIndexError
from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.index import MemoryIndex
from ibticks.schema import TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store
    from ibticks.testing import FakeCapture

AAPL = 265598
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
NOW = to_ns("2025-01-10T15:00Z")


@pytest.fixture
def capture(store: Store, fake_capture: type[FakeCapture]) -> Iterator[FakeCapture]:
    """A capture that subscribed ten minutes ago, and had a tick five seconds ago."""
    running = fake_capture(store.root, store.index, AAPL, "last")
    running.report_status(StreamStatus.SUBSCRIBED, NOW - 10 * MINUTE)
    running.tick(NOW - 5 * SECOND)
    yield running
    running.kill()


def state_of(store: Store, now_ns: int = NOW, kind: str = "last") -> FeedState:
    (state,) = feed_states(store.root, store.index, [StreamKey(AAPL, kind)], now_ns=now_ns)
    return state


def test_a_connected_capture_with_ticks_is_live(store: Store, capture: FakeCapture) -> None:
    state = state_of(store)
    assert state.condition is FeedCondition.LIVE
    assert (state.since_ns, state.last_tick_ns) == (NOW - 10 * MINUTE, NOW - 5 * SECOND)
    assert state.age_seconds(NOW) == 5
    assert state.as_json() == {
        "contract_id": AAPL,
        "tick_type": "last",
        "condition": "live",
        "since": "2025-01-10T14:50:00Z",
        "reason": "",
        "code": None,
        "next_open": None,
        "last_tick": "2025-01-10T14:59:55Z",
    }


STATUSES = [
    (StreamStatus.DISCONNECTED, "connection lost", 1100, FeedCondition.DISCONNECTED),
    (StreamStatus.DISCONNECTED, "no room on the disk", None, FeedCondition.DISCONNECTED),
    (StreamStatus.NOT_PERMITTED, "no permission", 10189, FeedCondition.NOT_PERMITTED),
    (StreamStatus.NOT_PERMITTED, "not subscribed", 354, FeedCondition.NOT_PERMITTED),
    (StreamStatus.QUIET, "another session has the live data", 10197, FeedCondition.QUIET),
    (StreamStatus.QUIET, "no tick for 61 s", None, FeedCondition.QUIET),
]


@pytest.mark.parametrize(("status", "reason", "code", "condition"), STATUSES)
def test_the_last_status_of_the_capture(
    store: Store,
    capture: FakeCapture,
    status: StreamStatus,
    reason: str,
    code: int | None,
    condition: FeedCondition,
) -> None:
    capture.report_status(status, NOW - SECOND, reason, code)
    state = state_of(store)
    assert (state.condition, state.since_ns) == (condition, NOW - SECOND)
    assert (state.reason, state.code) == (reason, code)
    number = "" if code is None else f" ({code})"
    assert str(state) == f"{condition.upper()}{number} since 2025-01-10T14:59:59Z: {reason}"
    capture.report_status(StreamStatus.RESTORED, NOW, "data kept", 1102)
    assert state_of(store, NOW + 1).condition is FeedCondition.LIVE


@pytest.mark.parametrize(("kind", "seconds"), [("last", 600), ("all_last", 600), ("bid_ask", 60)])
def test_a_silent_stream_is_not_live(
    store: Store, fake_capture: type[FakeCapture], kind: str, seconds: int
) -> None:
    """The capture may hang, or not know that the market is open."""
    running = fake_capture(store.root, store.index, AAPL, kind)
    running.report_status(StreamStatus.SUBSCRIBED, NOW)
    at = NOW + seconds * SECOND
    assert state_of(store, at, kind).condition is FeedCondition.LIVE
    state = state_of(store, at + 1, kind)
    assert (state.condition, state.since_ns) == (FeedCondition.QUIET, NOW)
    running.tick(NOW + 5 * SECOND)
    assert state_of(store, at, kind).condition is FeedCondition.LIVE
    later = state_of(store, at + 6 * SECOND, kind)
    assert (later.condition, later.since_ns) == (FeedCondition.QUIET, NOW + 5 * SECOND)
    running.kill()


def test_a_closed_market_has_its_next_session(store: Store, capture: FakeCapture) -> None:
    opens = NOW + 60 * MINUTE
    capture.report_status(StreamStatus.SESSION_CLOSED, NOW, closed_reason(opens))
    state = state_of(store, NOW + 30 * MINUTE)
    assert (state.condition, state.next_open_ns) == (FeedCondition.CLOSED, opens)
    late = state_of(store, opens + 11 * MINUTE)
    assert (late.condition, late.since_ns) == (FeedCondition.QUIET, opens), "it has begun"


@pytest.mark.parametrize("reason", ["outside of IB's trading hours", "", "opens at noon"])
def test_a_closed_market_without_a_known_next_session(
    store: Store, capture: FakeCapture, reason: str
) -> None:
    capture.report_status(StreamStatus.SESSION_CLOSED, NOW, reason)
    state = state_of(store, NOW + 3000 * MINUTE)
    assert (state.condition, state.next_open_ns) == (FeedCondition.CLOSED, None)


def test_a_killed_capture_leaves_an_open_captured_interval(
    store: Store, capture: FakeCapture
) -> None:
    capture.kill()
    state = state_of(store)
    assert state.condition is FeedCondition.NO_CAPTURE
    assert state.since_ns == NOW - 5 * SECOND + 1, "just after its last tick"
    assert "killed" in state.reason


@pytest.mark.parametrize("back", [HOUR, 11 * MINUTE, 24 * HOUR])
def test_a_clock_that_was_set_back_is_not_live(
    store: Store, capture: FakeCapture, back: int
) -> None:
    """A stopped capture would count as live until the clock reaches its last tick."""
    capture.tick(NOW)
    assert state_of(store, NOW).condition is FeedCondition.LIVE
    state = state_of(store, NOW - back)
    assert (state.condition, state.since_ns) == (FeedCondition.UNKNOWN, None)
    assert state.reason == f"the last tick is {back // SECOND} s ahead of the clock"
    assert state_of(store, NOW - 5 * SECOND).condition is FeedCondition.LIVE


def test_a_capture_that_was_stopped(store: Store, capture: FakeCapture) -> None:
    capture.stop(NOW)
    state = state_of(store, NOW + MINUTE)
    assert (state.condition, state.since_ns) == (FeedCondition.NO_CAPTURE, NOW)
    assert state.reason == "the capture has ended"


def test_a_capture_that_begins(store: Store, fake_capture: type[FakeCapture]) -> None:
    running = fake_capture(store.root, store.index, AAPL)
    state = state_of(store)
    assert (state.condition, state.since_ns) == (FeedCondition.DISCONNECTED, None)
    assert "not subscribed yet" in state.reason
    running.kill()


def test_a_writer_that_is_no_capture(store: Store) -> None:
    with store.writer(AAPL, "last"):
        state = state_of(store)
    assert state.condition is FeedCondition.NO_CAPTURE
    assert "not by a capture" in state.reason
    assert state_of(store).reason == "no capture has recorded this stream"


def test_an_index_that_does_not_answer_is_not_live(store: Store, capture: FakeCapture) -> None:
    class Gone(MemoryIndex):
        def coverage(self, *_: Any) -> NoReturn:
            raise TickIndexError("the server is gone")

    (state,) = feed_states(store.root, Gone(), [StreamKey(AAPL, "last")], now_ns=NOW)
    assert (state.condition, state.reason) == (FeedCondition.UNKNOWN, "the server is gone")


def test_the_streams_of_a_store_and_of_a_live_stream(store: Store, capture: FakeCapture) -> None:
    store.add_contract(AAPL, "AAPL")
    frame = pl.DataFrame({"timestamp": ["2025-01-10T14:30:00Z"], "mid_price": [1.5]})
    store.write(frame, contract_id=AAPL, tick_type="mid_point")
    states = store.feed_states()
    assert [state.tick_type for state in states] == ["last", "mid_point"]
    # The reason has the seconds since the last tick, which go on between two calls.
    facts = [replace(state, reason="") for state in states]
    assert [replace(state, reason="") for state in store.feed_states("AAPL")] == facts
    [trades] = store.feed_states(tick_types="last")
    assert replace(trades, reason="") == facts[0]
    assert states[0].condition is FeedCondition.QUIET, "by the clock it is years ago"
    with store.live("AAPL", ["last", "mid_point"], "1h", now="last_tick") as live:
        assert [state.condition for state in live.feed_states()] == ["quiet", "no capture"]
        live.read()
        assert live.feed_states(NOW)[0].condition is FeedCondition.LIVE
        capture.tick(NOW + 5 * SECOND)
        live.read()
        assert live.feed_states(NOW)[0].last_tick_ns == NOW + 5 * SECOND
        assert "QUIET" in live._repr_html_()
        capture.kill()
        killed = live.feed_states(NOW)[0]
        assert (killed.condition, killed.since_ns) == ("no capture", NOW + 5 * SECOND + 1)
        assert live.feed_states(NOW)[0] == killed


OTHER = """
import sys, time, ibticks as ibt
with ibt.open(sys.argv[1], dsn=sys.argv[2]) as store:
    capture = ibt.Capture(store, "1:ONE:bid_ask", port=int(sys.argv[3]), same_contract_seconds=0)
    with capture:
        while True:
            time.sleep(1)
"""


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_a_capture_of_another_process_and_its_end(store: Store, database: str) -> None:
    """Connected, disconnected, connected again, killed: this process sees each."""
    rows = np.arange(6000)
    quotes: dict[str, Any] = {
        "timestamp": Values(NOW + 10_000_000 * rows),
        "bid_price": Values(rows + 1.0),
        "ask_price": Values(rows + 2.0),
    }
    replay = Replay.from_columns(
        [GatewayContract(contract_id=1, symbol="ONE")],
        {(1, "bid_ask"): TickColumns(len(rows), quotes)},
    )
    gateway = Gateway(replay, speed=1.0).start()
    command: Any = [sys.executable, "-c", OTHER, store.root, database, str(gateway.port)]

    def condition() -> FeedCondition:
        return store.feed_states(1, "bid_ask")[0].condition

    assert condition() is FeedCondition.NO_CAPTURE
    with subprocess.Popen(command) as process:
        try:
            until(lambda: condition() is FeedCondition.LIVE, "live")
            gateway.lose_contact()
            until(lambda: condition() is FeedCondition.DISCONNECTED, "disconnected")
            assert store.feed_states(1, "bid_ask")[0].code == 1100
            gateway.regain_contact(data_lost=False)
            until(lambda: condition() is FeedCondition.LIVE, "live again")
        finally:
            process.kill()
    gateway.close()
    state = store.feed_states(1, "bid_ask")[0]
    assert state.condition is FeedCondition.NO_CAPTURE
    assert abs(state.since_ns - state.last_tick_ns) < SECOND
    assert json.loads(json.dumps(state.as_json()))["condition"] == "no capture"
