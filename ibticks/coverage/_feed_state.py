"""The condition of captured streams at this moment: live, silent, broken, or not captured.

The coverage ledger has the last state that the capture of a stream wrote, and the lock of the
stream shows whether that capture still runs, since a killed one leaves an open ``captured`` row.
No message goes to the capture, so any process with access to the store can read the state.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import StreamKey
from ibticks.config import NANOSECONDS
from ibticks.coverage._rebuild import closing_rows
from ibticks.coverage._states import CoverageState, next_open_ns
from ibticks.errors import TickIndexError
from ibticks.storage import StreamLock, read_last_tick_ns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ibticks.index import CoverageRecord, Index

__all__ = ["FeedCondition", "FeedState", "feed_states"]

QUOTES_QUIET_SECONDS: Final = 60
TRADES_QUIET_SECONDS: Final = 600
_LOOK_BACK_NS: Final = 21 * 86_400 * NANOSECONDS
_CODE: Final = re.compile(r"(\d+)(?:: (.*))?", re.DOTALL)


class FeedCondition(StrEnum):
    """State of the feed of one stream, from the best to the worst."""

    LIVE = "live"
    CLOSED = "closed"
    QUIET = "quiet"
    UNKNOWN = "unknown"
    NO_CAPTURE = "no capture"
    DISCONNECTED = "disconnected"
    NOT_PERMITTED = "not permitted"


_CONDITIONS: Final[dict[str, FeedCondition]] = {
    CoverageState.CAPTURED: FeedCondition.LIVE,
    CoverageState.QUIET: FeedCondition.QUIET,
    CoverageState.DISCONNECTED: FeedCondition.DISCONNECTED,
    CoverageState.NOT_PERMITTED: FeedCondition.NOT_PERMITTED,
    CoverageState.SESSION_CLOSED: FeedCondition.CLOSED,
}


@dataclass(frozen=True, slots=True)
class FeedState:
    """The condition of one stream.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    condition : FeedCondition
        ``live`` only where a capture holds the stream, is connected, and ticks come.
    since_ns : int or None
        Begin of the condition, UTC nanoseconds; None where it is unknown.
    reason : str
        Text of IB or of the capture.
    code : int or None
        IB's code, where IB sent one.
    next_open_ns : int or None
        Time at which the market opens again, where it is closed and IB has sent its hours.
    last_tick_ns : int or None
        Time of the last stored tick.
    """

    contract_id: int
    tick_type: str
    condition: FeedCondition
    since_ns: int | None = None
    reason: str = ""
    code: int | None = None
    next_open_ns: int | None = None
    last_tick_ns: int | None = None

    def age_seconds(self, now_ns: int | None = None) -> float | None:
        """Return the seconds since the last tick; None where there is none."""
        if self.last_tick_ns is None:
            return None
        now_ns = time.time_ns() if now_ns is None else now_ns
        return max(now_ns - self.last_tick_ns, 0) / NANOSECONDS

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON types, times in ISO 8601."""
        from ibticks.calendar import format_ns

        def instant(ns: int | None) -> str | None:
            return None if ns is None else format_ns(ns)

        return {
            "contract_id": self.contract_id,
            "tick_type": self.tick_type,
            "condition": self.condition.value,
            "since": instant(self.since_ns),
            "reason": self.reason,
            "code": self.code,
            "next_open": instant(self.next_open_ns),
            "last_tick": instant(self.last_tick_ns),
        }

    def __str__(self) -> str:
        from ibticks.calendar import format_ns

        text = self.condition.upper()
        if self.code is not None:
            text += f" ({self.code})"
        if self.since_ns is not None:
            text += f" since {format_ns(self.since_ns)}"
        return f"{text}: {self.reason}" if self.reason else text


def feed_states(
    root: Path,
    index: Index,
    streams: Sequence[StreamKey],
    *,
    last_ticks: Mapping[StreamKey, int] | None = None,
    now_ns: int | None = None,
) -> list[FeedState]:
    """Return the condition of some streams, in their order.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    streams : sequence of StreamKey
    last_ticks : mapping of StreamKey to int, optional
        Times of the last ticks, where the caller knows them; for other streams they are read from
        the files (:func:`ibticks.storage.read_last_tick_ns`).
    now_ns : int, optional
        Instead of the clock, UTC nanoseconds.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    ids = sorted({contract_id for contract_id, _ in streams})
    tick_types = sorted({tick_type for _, tick_type in streams})
    try:
        open_rows = {
            StreamKey(row.contract_id, row.tick_type): row
            for row in index.coverage(ids, tick_types, now_ns)
            if row.end_ns is None
        }
        known = dict(last_ticks or {})
        return [
            _state(root, index, stream, open_rows.get(stream), known.get(stream), now_ns)
            for stream in (StreamKey(*value) for value in streams)
        ]
    except TickIndexError as error:
        return [FeedState(*value, FeedCondition.UNKNOWN, reason=str(error)) for value in streams]


def _state(
    root: Path,
    index: Index,
    stream: StreamKey,
    row: CoverageRecord | None,
    last_ns: int | None,
    now_ns: int,
) -> FeedState:
    if last_ns is None:
        last_ns = read_last_tick_ns(root, index.files([stream[0]], [stream[1]]))
    if not StreamLock.is_locked(root, *stream):
        return _without_capture(root, index, stream, row, last_ns, now_ns)
    if row is None:
        if StreamLock.read_run(root, *stream) is None:
            reason = "the stream is written, but not by a capture"
            return FeedState(*stream, FeedCondition.NO_CAPTURE, None, reason, None, None, last_ns)
        reason = "the capture has not subscribed yet"
        return FeedState(*stream, FeedCondition.DISCONNECTED, None, reason, None, None, last_ns)
    return _captured(stream, row, last_ns, now_ns)


def _captured(
    stream: StreamKey, row: CoverageRecord, last_ns: int | None, now_ns: int
) -> FeedState:
    """Return the state of a stream that a capture writes, from its open row."""
    condition = _CONDITIONS.get(row.state, FeedCondition.UNKNOWN)
    match = _CODE.fullmatch(row.reason)
    code, reason = (int(match[1]), match[2] or "") if match else (None, row.reason)
    since_ns: int | None = row.start_ns
    opens_ns = None
    if condition is FeedCondition.CLOSED:
        opens_ns = next_open_ns(reason)
    trades = stream.tick_type in ("last", "all_last")
    quiet_ns = (TRADES_QUIET_SECONDS if trades else QUOTES_QUIET_SECONDS) * NANOSECONDS
    # The capture may hang, or lack the hours of the market, so the age of the last tick decides.
    if condition is FeedCondition.LIVE:
        began_ns = max(row.start_ns, last_ns or row.start_ns)
    elif opens_ns is not None:
        began_ns = opens_ns
    else:
        began_ns = now_ns
    if condition is FeedCondition.LIVE and began_ns - now_ns > quiet_ns:
        # The clock was set back: the age of the last tick is unknown until it has caught up.
        condition, since_ns, code = FeedCondition.UNKNOWN, None, None
        reason = f"the last tick is {(began_ns - now_ns) // NANOSECONDS} s ahead of the clock"
    elif now_ns - began_ns > quiet_ns:
        condition, since_ns, opens_ns = FeedCondition.QUIET, began_ns, None
        reason, code = f"no tick for {(now_ns - began_ns) // NANOSECONDS} s", None
    return FeedState(*stream, condition, since_ns, reason, code, opens_ns, last_ns)


def _without_capture(
    root: Path,
    index: Index,
    stream: StreamKey,
    row: CoverageRecord | None,
    last_ns: int | None,
    now_ns: int,
) -> FeedState:
    """Return the state of a stream that no process writes."""
    since_ns, reason = None, "no capture has recorded this stream"
    if row is not None:
        rows = closing_rows(root, index, row)
        since_ns = rows[-1].end_ns if rows else row.start_ns
        reason = (
            "the capture ended without a message: its process was killed, or the machine stopped"
        )
    else:
        earlier = index.coverage([stream[0]], [stream[1]], now_ns - _LOOK_BACK_NS, now_ns)
        ends = [value.end_ns for value in earlier if value.end_ns is not None]
        if ends:
            since_ns, reason = max(ends), "the capture has ended"
    return FeedState(*stream, FeedCondition.NO_CAPTURE, since_ns, reason, None, None, last_ns)
