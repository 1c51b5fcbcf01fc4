"""Gaps of a capture, filled while it is running."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ibticks as ibt
from ibticks.capture import CaptureSettings
from ibticks.coverage import CoverageInterval, CoverageState
from ibticks.errors import CaptureError
from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.history import _backfill as backfill_module
from ibticks.history import _backfill as filler
from ibticks.history import _client as history
from ibticks.history._backfill import _recaptured_gaps
from ibticks.history._plan import BackfillResult, RemainingGap
from ibticks.history._ticks import HistoricalTick, encode_tick
from ibticks.index import CoverageRecord
from ibticks.schema import TickColumns, Values
from ibticks.storage import StreamAppender, seal_files
from tests.capture_checks import check_index, covered, until
from tests.recorded_replay import as_counter, of_stream

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("nothing_left")

SECOND = 1_000_000_000
FAST = ibt.Pacing(requests=10**6, burst=10**6, identical_seconds=0, messages_per_second=1000)
KINDS = ("bid_ask", "last")
BOTH = "1:ONE:bid_ask;last"


class Live:
    """A gateway whose ticks are of now: a hundred a second of two types, no two alike.

    Its clock begins when every client is connected. On a slow machine its ticks come late, and a
    backfill waits for them as much longer.
    """

    def __init__(self, serve: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.begin = time.time_ns() // SECOND + 2
        rows = 30_000
        times = Values(self.begin * SECOND + np.arange(rows) * 10_000_000)
        prices = Values(1.0 + np.arange(rows) / 64)
        # Sizes too: a price of 0 beside a size of 0 is IB's value for no quote.
        quote = dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size"), prices)
        ticks = {
            (1, "bid_ask"): TickColumns(rows, {"timestamp": times, **quote}),
            (1, "last"): TickColumns(rows, {"timestamp": times, "price": prices}),
        }
        self.replay = Replay.from_columns([GatewayContract(contract_id=1, symbol="ONE")], ticks)
        self.gateway = serve(self.replay, speed=1.0, clock="shared", start_after=0)
        self.port = self.gateway.port

    def start(self, capture: ibt.Capture, streams: int) -> None:
        """Let ticks come, once so many streams are subscribed."""
        until(lambda: self.gateway.subscriptions == streams, "it is subscribed")
        time.sleep(max(self.begin - time.time(), 0))
        self.gateway.resume()
        settle = 3 + math.ceil(max(time.time() - self.begin, 0))
        self._monkeypatch.setattr(backfill_module, "SETTLE_SECONDS", settle)
        self._monkeypatch.setattr(filler, "_SETTLE_SECONDS", settle + 0.5)
        more(capture)

    def lose(self, capture: ibt.Capture, streams: int) -> None:
        """Half a second of ticks; then some more come."""
        before = capture.status()["status"]["connections"]
        self.gateway.nightly_restart(0.5)
        until(lambda: capture.status()["status"]["connections"] > before, "it is back")
        until(lambda: self.gateway.subscriptions == streams, "it is subscribed again")
        more(capture)

    def check(self, store: ibt.Store, tick_type: str) -> None:
        """Assert that every tick is stored once, but for the last second, which goes on."""
        stream = self.replay.streams[1, tick_type]
        frame = store.select(1, tick_type, backfill="include").to_polars()
        second = frame["exchange_time"].dt.epoch("s")
        end = second.max()
        there = as_counter(frame.filter(second < end))
        assert there == of_stream(stream.take(np.flatnonzero(stream.seconds < end)))
        assert there.total() > 100


def more(capture: ibt.Capture, count: int = 40) -> None:
    ticks = capture.status()["status"]["ticks"]
    until(lambda: capture.status()["status"]["ticks"] >= ticks + count, "ticks come")


@pytest.fixture
def live(serve: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch) -> Live:
    # A filler that looks often, at a gateway that may be asked as often.
    monkeypatch.setattr(filler, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(filler, "Pacing", lambda: FAST)
    monkeypatch.setattr(filler, "_MIN_BACKOFF_SECONDS", 0.3)
    return Live(serve, monkeypatch)


def test_a_running_capture_is_backfilled_by_another_process(
    live: Live, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    capture = capturing(live, BOTH, backfill=False)
    live.start(capture, 2)
    for _ in range(3):
        live.lose(capture, 2)
    result = ibt.backfill(store, port=live.port, pacing=FAST)
    assert result.remaining == ()
    assert len(result.gaps) == 6
    assert result.ticks > 6 * 40
    more(capture)
    capture.stop()
    assert list(capture.failures) == []
    assert capture.status()["status"]["backfilled_ticks"] == 0
    for tick_type in KINDS:
        live.check(store, tick_type)
        assert covered(store, 1, tick_type) == ["captured", *["backfilled", "captured"] * 3]
    check_index(store.root, store.index)


def test_a_capture_fills_its_own_gaps(
    live: Live, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    capture = capturing(live, BOTH, backfill=True)
    live.start(capture, 2)
    live.lose(capture, 2)
    for tick_type in KINDS:
        until(lambda kind=tick_type: "backfilled" in covered(store, 1, kind), "it is filled")
        until(lambda kind=tick_type: "disconnected" not in covered(store, 1, kind), "all of it")
    more(capture)
    capture.stop()
    assert list(capture.failures) == []
    alone = store.select(1, backfill="only")
    assert capture.status()["status"]["backfilled_ticks"] == alone.count() > 80
    for tick_type in KINDS:
        live.check(store, tick_type)
        assert covered(store, 1, tick_type) == ["captured", "backfilled", "captured"]
        plain = store.select(1, tick_type).to_polars()
        assert plain["sequence"].to_list() == list(range(1, len(plain) + 1))
    check_index(store.root, store.index)


def test_a_failed_backfill_is_logged_and_retried_and_the_capture_goes_on(
    live: Live, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    live.gateway.refuse(11)
    capture = capturing(live, "1:ONE:bid_ask", backfill=True)
    live.start(capture, 1)
    live.lose(capture, 1)
    until(lambda: capture.failures, "it cannot be filled")
    assert "backfill" in capture.failures[0]
    assert "client id is already in use. (326)" in capture.failures[0]
    more(capture)
    live.gateway.refuse_history(1, code=10187, times=1)
    live.gateway.admit(11)
    until(lambda: "10187" in str(list(capture.failures)), "IB refuses it once")
    until(lambda: "backfilled" in covered(store, 1, "bid_ask"), "it is filled")
    more(capture)
    capture.stop()
    live.check(store, "bid_ask")
    check_index(store.root, store.index)


def test_a_capture_stops_during_a_wait_of_its_backfill(
    live: Live,
    capturing: Callable[..., ibt.Capture],
    store: ibt.Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(history, "_RETRY_SECONDS", (3600.0,))
    live.gateway.refuse_history(1)  # 162: pacing violation
    capture = capturing(live, "1:ONE:bid_ask", backfill=True)
    live.start(capture, 1)
    live.lose(capture, 1)
    until(lambda: "retry in 3600 s" in caplog.text, "it waits")
    capture.stop()
    assert not capture.running
    assert list(capture.failures) == []
    assert covered(store, 1, "bid_ask") == ["captured", "disconnected", "captured"]
    check_index(store.root, store.index)
    # A later backfill fills the gap.
    live.gateway.grant_history(1)
    assert ibt.backfill(store, port=live.port, pacing=FAST).remaining == ()
    live.check(store, "bid_ask")


def test_files_of_a_killed_backfill_are_sealed_by_the_next_capture(
    live: Live, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    left = StreamAppender(store.root, 1, "bid_ask", store.index, fsync=None, backfill=True)
    tick = HistoricalTick(live.begin - 7200, (1.0, 1.0, 2.0, 1.0), flags=(False, False))
    left.append_frames(encode_tick(tick, 1, "bid_ask", "killed"), tick.time * SECOND)
    for opened in left._open.values():
        opened.close()
    left._stream_lock.release()
    [file] = store.index.files()
    assert not file.sealed
    capture = capturing(live, BOTH, backfill=True)
    until(lambda: [file.sealed for file in store.index.files() if file.backfilled] == [True])
    capture.stop()
    check_index(store.root, store.index)


# -- gaps of the ledger ----------------------------------------------------------------------------


def rows(*states: str) -> list[CoverageRecord]:
    """A ledger, a second each; one that lasts still ends with ``…``."""
    made = [
        CoverageRecord(1, "last", n * SECOND, (n + 1) * SECOND, state.rstrip("…"))
        for n, state in enumerate(states)
    ]
    if states[-1].endswith("…"):
        made[-1] = CoverageRecord(1, "last", made[-1].start_ns, None, made[-1].state)
    return made


@pytest.mark.parametrize(
    ("ledger", "gaps"),
    [
        (["captured", "disconnected", "captured…"], [(1, 2)]),
        (["captured", "disconnected", "quiet", "not_permitted", "captured"], [(1, 4)]),
        (["disconnected", "captured", "quiet", "captured…"], [(0, 1), (2, 3)]),
        # A part is filled already.
        (["captured", "backfilled", "disconnected", "captured…"], [(2, 3)]),
        # It is not captured again yet, or the market has closed meanwhile.
        (["captured", "disconnected…"], []),
        (["captured", "disconnected", "quiet…"], []),
        (["captured", "disconnected", "session_closed", "captured…"], []),
        (["captured", "deleted", "captured…"], []),
        ([], []),
    ],
)
def test_gaps_followed_by_captured_time_are_due(ledger: list[str], gaps: list[Any]) -> None:
    known = rows(*ledger) if ledger else []
    actual = list(_recaptured_gaps(known, 0, 100 * SECOND))
    assert [(g.start_ns // SECOND, g.end_ns // SECOND) for g in actual] == gaps


def test_gaps_of_an_earlier_run_and_recent_gaps_are_left() -> None:
    known = rows(
        "disconnected", "captured", "disconnected", "captured", "disconnected", "captured…"
    )
    actual = list(_recaptured_gaps(known, 1, 4 * SECOND))
    assert [(g.start_ns // SECOND, g.end_ns // SECOND) for g in actual] == [(2, 3)]


def test_every_gap_that_remains_is_reported(
    monkeypatch: pytest.MonkeyPatch, store: ibt.Store
) -> None:
    gaps = [
        CoverageInterval(1, tick_type, 0, SECOND, CoverageState.DISCONNECTED) for tick_type in KINDS
    ]
    remaining = tuple(RemainingGap(gap, f"refused {gap.tick_type}") for gap in gaps)
    gap_filler = filler.GapFiller(store, CaptureSettings(()), seal_files, lambda *_: None)
    monkeypatch.setattr(gap_filler, "_ended_gaps", lambda until_ns: iter(gaps))
    monkeypatch.setattr(filler, "connect", lambda *_, **__: nullcontext())
    monkeypatch.setattr(
        filler, "fill_gaps", lambda *_, **__: BackfillResult(tuple(gaps), (), remaining)
    )
    with pytest.raises(CaptureError) as raised:
        gap_filler._fill()
    for tick_type in KINDS:
        assert f"1 {tick_type} is not filled: refused {tick_type}" in str(raised.value)


def test_the_old_name_of_a_reason_warns() -> None:
    gap = CoverageInterval(1, "last", 0, SECOND, CoverageState.DISCONNECTED)
    with pytest.warns(DeprecationWarning, match="reason"):
        assert RemainingGap(gap, "too recent").why == "too recent"
