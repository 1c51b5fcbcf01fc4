"""Silence: of the line, of one stream among others, of a market that is closed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ibticks._types import Interval
from ibticks.capture import _connection as watchdog
from ibticks.capture import _recorder as recorder_module
from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.tws import Client, TradingHours
from tests.capture_checks import TICKING, check_stored, covered, statuses, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Capture, Store

DAY = timedelta(days=1)


def spoken(*days: str) -> str:
    """Trading hours as IB writes them; ``open`` is all day, beginning yesterday."""
    today = datetime.now(UTC)
    written = []
    for number, what in enumerate(days, -1):
        day = f"{today + number * DAY:%Y%m%d}"
        following = f"{today + (number + 1) * DAY:%Y%m%d}"
        written.append(f"{day}:CLOSED" if what == "closed" else f"{day}:0000-{following}:0000")
    return ";".join(written)


ALWAYS, NEVER = ("open",) * 4, ("closed",) * 4


def with_hours(
    replay: Replay, trading: tuple[str, ...] = (), liquid: tuple[str, ...] | None = None
) -> Replay:
    contracts = [
        GatewayContract(
            contract_id=contract.contract_id,
            symbol=contract.symbol,
            time_zone="UTC",
            trading_hours=spoken(*trading),
            liquid_hours=spoken(*(trading if liquid is None else liquid)),
        )
        for contract in replay.contracts
    ]
    return Replay(contracts, replay.streams.values())


def state(capture: Capture, contract_id: int, kind: str) -> Any:
    streams = capture.status()["status"]["contracts"][str(contract_id)]["streams"]
    return streams[kind]["state"]


def ticks(capture: Capture) -> int:
    return capture.status()["status"]["ticks"]


def never(holds: Callable[[], Any], seconds: float = 1.0) -> None:
    with pytest.raises(AssertionError):
        until(holds, seconds=seconds)


# --- the line -------------------------------------------------------------------------------------


def test_dead_connection_is_detected_and_closed(
    gateway: Gateway, capturing: Callable[..., Capture], store: Store
) -> None:
    capture = capturing(gateway, TICKING, heartbeat=0.2)
    until(lambda: ticks(capture) > 10)
    gateway.stall()
    # A server that is stuck does not notice that we have left, either.
    until(lambda: "(326)" in capture.status()["status"]["last_problem"])
    gateway.flow()
    until(lambda: capture.status()["status"]["connections"] == 2)
    until(lambda: state(capture, 1, "last") == "captured")
    before = ticks(capture)
    until(lambda: ticks(capture) > before)
    until(lambda: len(covered(store, 1, "last")) == 3)
    capture.stop()
    assert ("disconnected", 504) in statuses(store, 1, "last")
    assert covered(store, 1, "last") == ["captured", "disconnected", "captured"]
    reasons = [row.reason for row in store.index.coverage([1], ["last"])]
    assert reasons[1] == "504: heartbeat timeout: the connection is dead"


def test_idle_connection_is_kept(
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers a heartbeat."""
    ask, asked = Client.reqCurrentTime, []
    monkeypatch.setattr(Client, "reqCurrentTime", lambda client: asked.append(ask(client)))
    gateway = serve(steady, speed=1.0)
    gateway.mute(1)
    gateway.mute(2)
    capture = capturing(gateway, TICKING, heartbeat=1.0)
    until(lambda: len(asked) == 3)
    until(lambda: gateway.subscriptions == 3)
    assert capture.status()["status"]["connections"] == 1


def test_a_stall_that_ends_costs_nothing(
    gateway: Gateway, capturing: Callable[..., Capture], store: Store
) -> None:
    capture = capturing(gateway, TICKING, heartbeat=30.0)
    until(lambda: ticks(capture) > 10)
    gateway.stall(0.5)
    before = ticks(capture)
    until(lambda: ticks(capture) > before + 100)
    capture.stop()
    assert capture.status()["status"]["connections"] == 1
    assert covered(store, 1, "last") == ["captured"]


# --- one stream -----------------------------------------------------------------------------------


def test_silent_stream_is_detected_and_subscribed_again(
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "_RENEW_AFTER_SECONDS", 1.2)
    gateway = serve(steady, speed=1.0)
    capture = capturing(gateway, TICKING, quiet_after=1.0)
    until(lambda: ticks(capture) > 10)
    gateway.mute(2)
    until(lambda: state(capture, 2, "bid_ask") == "quiet")
    until(lambda: statuses(store, 2, "bid_ask").count(("subscribed", None)) >= 2, "it is renewed")
    gateway.unmute(2)
    until(lambda: state(capture, 2, "bid_ask") == "captured")
    before = ticks(capture)
    until(lambda: ticks(capture) > before + 50)
    # A stream that the machine kept waiting for a second is renewed, too.
    until(lambda: gateway.subscriptions == 3)
    capture.stop()
    assert covered(store, 1, "bid_ask") == ["captured"]
    assert covered(store, 2, "bid_ask")[:2] == ["captured", "quiet"]
    assert covered(store, 2, "bid_ask")[-1] == "captured"
    check_stored(store, gateway, 2, "bid_ask")


def test_trades_may_be_silent_for_longer_than_quotes(
    gateway: Gateway, capturing: Callable[..., Capture], store: Store
) -> None:
    capture = capturing(gateway, TICKING, quiet_after=0.3)
    until(lambda: ticks(capture) > 10)
    gateway.mute(1, "last")
    gateway.mute(2)
    until(lambda: state(capture, 1, "last") == "quiet")
    capture.stop()

    def quiet_from(*key: Any) -> int:
        rows = store.index.coverage([key[0]], [key[1]])
        return next(row.start_ns for row in rows if row.state == "quiet")

    assert quiet_from(2, "bid_ask") < quiet_from(1, "last")


def test_no_stream_is_silent_in_a_calm_market(
    gateway: Gateway, capturing: Callable[..., Capture]
) -> None:
    """No stream ticks, and by IB's hours none should."""
    capture = capturing(gateway, TICKING, quiet_after=0.1)
    until(lambda: ticks(capture) > 10)
    gateway.mute(1)
    gateway.mute(2)
    until(lambda: gateway.buffered == 0)
    gateway.pause()
    # While some of them had still ticked, others may have seemed silent.
    never(lambda: state(capture, 1, "last") == "quiet", 1.2)


@pytest.mark.parametrize(
    ("trading", "liquid", "is_found"),
    [(ALWAYS, ALWAYS, True), (ALWAYS, NEVER, False), (ALWAYS, (), True), ((), (), False)],
)
def test_single_stream_is_judged_by_trading_hours(
    trading: tuple[str, ...],
    liquid: tuple[str, ...],
    is_found: bool,
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
) -> None:
    """In regular hours it should tick; before and after them it may well be calm."""
    gateway = serve(with_hours(steady, trading, liquid), speed=1.0)
    capture = capturing(gateway, "1:ONE:bid_ask", quiet_after=0.2)
    until(lambda: ticks(capture) > 10)
    gateway.mute(1)
    if is_found:
        until(lambda: state(capture, 1, "bid_ask") == "quiet")
    else:
        never(lambda: state(capture, 1, "bid_ask") == "quiet")


def test_closed_market(
    steady: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    gateway = serve(with_hours(steady, NEVER), speed=1.0)
    gateway.mute(2)
    capture = capturing(gateway, TICKING, quiet_after=1.0)
    until(lambda: state(capture, 2, "bid_ask") == "session_closed")
    # A stream that ticks counts as captured, also outside the trading hours.
    assert state(capture, 1, "bid_ask") == "captured"
    gateway.unmute(2)
    until(lambda: state(capture, 2, "bid_ask") == "captured")
    capture.stop()
    assert covered(store, 2, "bid_ask") == ["captured", "session_closed", "captured"]
    assert covered(store, 1, "bid_ask") == ["captured"]


def test_market_opens(
    steady: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    gateway = serve(with_hours(steady, NEVER), speed=1.0)
    gateway.mute(2)
    capture = capturing(gateway, TICKING, quiet_after=0.3)
    until(lambda: state(capture, 2, "bid_ask") == "session_closed")
    now = time.time_ns()
    contract = capture._supervisor.subscriptions.contracts[2]
    contract.hours = contract.liquid_hours = TradingHours(
        (Interval(now, 2 * now),), Interval(0, 2 * now)
    )
    until(lambda: state(capture, 2, "bid_ask") == "quiet", "it should tick, and does not")
    gateway.unmute(2)
    until(lambda: state(capture, 2, "bid_ask") == "captured")
    capture.stop()
    states = [status for status, _ in statuses(store, 2, "bid_ask")]
    assert states[:4] == ["subscribed", "session_closed", "restored", "quiet"]


def test_market_of_a_quiet_stream_closes(
    steady: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture]
) -> None:
    gateway = serve(with_hours(steady, ALWAYS), speed=1.0)
    gateway.mute(2)
    capture = capturing(gateway, TICKING, quiet_after=0.3)
    until(lambda: state(capture, 2, "bid_ask") == "quiet")
    now = time.time_ns()
    contract = capture._supervisor.subscriptions.contracts[2]
    contract.hours = TradingHours((), Interval(0, 2 * now))
    until(lambda: state(capture, 2, "bid_ask") == "session_closed")


@pytest.mark.parametrize("step", [-7200, 7200])
def test_silence_is_measured_by_the_monotonic_clock(
    step: int,
    gateway: Gateway,
    capturing: Callable[..., Capture],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Set back, it would hide silence for hours; set ahead, it would see it everywhere."""
    capture = capturing(gateway, TICKING, quiet_after=1.0)
    until(lambda: ticks(capture) > 10)
    off = step * 1_000_000_000
    monkeypatch.setattr(recorder_module, "time_ns", lambda: time.time_ns() + off)
    gateway.mute(2)
    until(lambda: state(capture, 2, "bid_ask") == "quiet")
    assert state(capture, 1, "bid_ask") == "captured"
    before = ticks(capture)
    until(lambda: ticks(capture) > before + 50)
    capture.stop()
    assert covered(store, 1, "bid_ask") == ["captured"]
    sequences = store.select(1, "bid_ask").to_polars()["sequence"]
    assert sequences.sort().to_list() == list(range(1, len(sequences) + 1))
    assert len(sequences) == len(gateway.rows_sent(1, "bid_ask"))
