"""Watching a connection: a dead one is found, and a calm market told from a silent stream.

Silence is measured by a clock that cannot be set; only trading hours go by the clock on the wall.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ibticks.coverage import CoverageState, StreamStatus, closed_reason

if TYPE_CHECKING:
    from ibticks.capture._settings import CaptureSettings
    from ibticks.capture._subscriptions import Subscription, Subscriptions, TrackedDetails
    from ibticks.tws import Client

__all__ = ["Watch"]

_RENEW_AFTER: Final = 300.0
# Trades of a calm contract are far apart in an open market; quotes are not.
_TRADES_ARE_RARER: Final = 10.0


class Watch:
    """Keeps an eye on one connection and its streams.

    Parameters
    ----------
    settings : CaptureSettings
    subscriptions : Subscriptions
    """

    def __init__(self, settings: CaptureSettings, subscriptions: Subscriptions) -> None:
        self._heartbeat = settings.heartbeat
        self._patience = settings.quiet_after
        self._subscriptions = subscriptions
        self._heard = 0.0
        self._asked: float | None = None

    def heard(self, now: float) -> None:
        """Something came that is not a tick."""
        self._heard = now
        self._asked = None

    def is_dead(self, client: Client, now: float) -> bool:
        """Whether the server is gone, with the line open; it is asked for a sign of life first."""
        for each in self._subscriptions:
            if each.listen(now):
                self.heard(now)
        if self._asked is not None:
            return now - self._asked > self._heartbeat
        if now - self._heard > self._heartbeat:
            self._asked = now
            client.reqCurrentTime()
        return False

    def look_for_silence(self, now: float) -> None:
        """Say of each stream whether it is silent, and whether it should be."""
        now_ns = time.time_ns()
        contracts = self._subscriptions.contracts
        streams = [each for each in self._subscriptions if each.request is not None]
        others_tick = any(
            each.heard > each.since and now - each.heard <= self._patience for each in streams
        )
        for each in streams:
            state = each.recorder.state
            details = contracts[each.recorder.contract_id]
            is_open = None if details.hours is None else details.hours.is_open(now_ns)
            if is_open is False:
                is_silent = now - each.heard > self._patience
                if is_silent and state in (CoverageState.CAPTURED, CoverageState.QUIET):
                    opens_ns = details.hours.next_open(now_ns) if details.hours else None
                    each.recorder.note(StreamStatus.SESSION_CLOSED, closed_reason(opens_ns))
            elif state is CoverageState.SESSION_CLOSED:
                each.recorder.note(StreamStatus.RESTORED, "the session has begun")
                each.heard = now
            elif others_tick or _is_busy(details, now_ns):
                self._find_silent(each, now)

    def _find_silent(self, subscription: Subscription, now: float) -> None:
        """Mark a stream that should not be silent and is; after a while, subscribe it anew."""
        recorder = subscription.recorder
        rarer = _TRADES_ARE_RARER if recorder.tick_type in ("last", "all_last") else 1.0
        most = self._patience * rarer
        silence = now - subscription.heard
        if silence <= most:
            return
        if recorder.state is CoverageState.CAPTURED:
            recorder.note(
                StreamStatus.QUIET, f"no tick for {silence:.0f} s while the market is open"
            )
        if now - subscription.since > max(_RENEW_AFTER, most):
            self._subscriptions.renew(subscription, now)


def _is_busy(details: TrackedDetails, now_ns: int) -> bool:
    """Whether a contract surely trades; before and after regular hours it may well be calm."""
    hours = details.liquid_hours or details.hours
    return hours is not None and bool(hours.is_open(now_ns))
