"""Watchdog of one connection: finds a dead server, and silent streams while the market is open.

Silence is measured by the monotonic clock; only trading hours go by the wall clock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ibticks.coverage import CoverageState, StreamStatus, closed_reason

if TYPE_CHECKING:
    from ibticks.capture._settings import CaptureSettings
    from ibticks.capture._subscriptions import Subscription, Subscriptions, TrackedDetails
    from ibticks.tws import Client

__all__ = ["Watchdog"]

_RENEW_AFTER_SECONDS: Final = 300.0
# Trades of a calm contract are far apart in an open market; quotes are not.
_TRADE_SILENCE_FACTOR: Final = 10.0


class Watchdog:
    """Liveness checks of one connection and its streams; for the supervisor's thread alone.

    Parameters
    ----------
    settings : CaptureSettings
    subscriptions : Subscriptions
    """

    def __init__(self, settings: CaptureSettings, subscriptions: Subscriptions) -> None:
        self._heartbeat_seconds = settings.heartbeat
        self._quiet_seconds = settings.quiet_after
        self._subscriptions = subscriptions
        self._last_message = 0.0
        self._heartbeat_sent: float | None = None

    def note_message(self, now: float) -> None:
        """Note that the server has sent something."""
        self._last_message = now
        self._heartbeat_sent = None

    def is_dead(self, client: Client, now: float) -> bool:
        """Return whether the server has stopped answering; a heartbeat is requested first."""
        for subscription in self._subscriptions:
            if subscription.has_new_ticks(now):
                self.note_message(now)
        if self._heartbeat_sent is not None:
            return now - self._heartbeat_sent > self._heartbeat_seconds
        if now - self._last_message > self._heartbeat_seconds:
            self._heartbeat_sent = now
            client.reqCurrentTime()
        return False

    def check_silence(self, now: float) -> None:
        """Note the state of every stream that is silent, or whose market has closed or opened."""
        now_ns = time.time_ns()
        contracts = self._subscriptions.contracts
        streams = [stream for stream in self._subscriptions if stream.request is not None]
        others_tick = any(
            stream.last_tick > stream.since and now - stream.last_tick <= self._quiet_seconds
            for stream in streams
        )
        for stream in streams:
            state = stream.recorder.state
            details = contracts[stream.recorder.contract_id]
            is_open = None if details.hours is None else details.hours.is_open(now_ns)
            if is_open is False:
                is_silent = now - stream.last_tick > self._quiet_seconds
                if is_silent and state in (CoverageState.CAPTURED, CoverageState.QUIET):
                    opens_ns = details.hours.next_open(now_ns) if details.hours else None
                    stream.recorder.note(StreamStatus.SESSION_CLOSED, closed_reason(opens_ns))
            elif state is CoverageState.SESSION_CLOSED:
                stream.recorder.note(StreamStatus.RESTORED, "the session has begun")
                stream.last_tick = now
            elif others_tick or _is_busy(details, now_ns):
                self._check_stream(stream, now)

    def _check_stream(self, subscription: Subscription, now: float) -> None:
        """Note that a stream is silent and should not be; after a while, subscribe it anew."""
        recorder = subscription.recorder
        is_trades = recorder.tick_type in ("last", "all_last")
        limit = self._quiet_seconds * (_TRADE_SILENCE_FACTOR if is_trades else 1.0)
        silence = now - subscription.last_tick
        if silence <= limit:
            return
        if recorder.state is CoverageState.CAPTURED:
            recorder.note(
                StreamStatus.QUIET, f"no tick for {silence:.0f} s while the market is open"
            )
        if now - subscription.since > max(_RENEW_AFTER_SECONDS, limit):
            self._subscriptions.renew(subscription, now)


def _is_busy(details: TrackedDetails, now_ns: int) -> bool:
    """Return whether a contract surely trades; outside of liquid hours it may well be calm."""
    hours = details.liquid_hours or details.hours
    return hours is not None and bool(hours.is_open(now_ns))
