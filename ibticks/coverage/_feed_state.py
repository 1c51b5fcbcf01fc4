"""The condition of captured streams at this moment: live, silent, broken, or not captured.

The coverage ledger has the last state that the capture of a stream wrote, and the lock of the
stream tells whether that capture still exists: a killed one leaves a ledger that says "captured".
The capture itself is not asked, so that any process with access to the store can read the state.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

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

Stream = tuple[int, str]

QUIET_SECONDS: Final = 60
QUIET_SECONDS_OF_TRADES: Final = 600
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
        When the condition began, UTC nanoseconds; None where nobody knows.
    reason : str
        Words of IB or of the capture.
    code : int or None
        IB's number, where IB gave one.
    next_open_ns : int or None
        When the market opens again, where it is closed and IB has said so.
    last_tick_ns : int or None
        Time of the last tick that is stored.
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
        """Seconds since the last tick; None where there is none."""
        if self.last_tick_ns is None:
            return None
        now_ns = time.time_ns() if now_ns is None else now_ns
        return max(now_ns - self.last_tick_ns, 0) / NANOSECONDS

    def as_json(self) -> dict[str, Any]:
        """Its values as JSON can hold them, times in ISO 8601."""
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

        words = self.condition.upper()
        if self.code is not None:
            words += f" ({self.code})"
        if self.since_ns is not None:
            words += f" since {format_ns(self.since_ns)}"
        return f"{words}: {self.reason}" if self.reason else words


def feed_states(
    root: Path,
    index: Index,
    streams: Sequence[Stream],
    *,
    last_ticks: Mapping[Stream, int] | None = None,
    now_ns: int | None = None,
) -> list[FeedState]:
    """Return the condition of some streams, in their order.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    streams : sequence of (int, str)
        Contract ids and tick types.
    last_ticks : mapping of (int, str) to int, optional
        Times of last ticks, where the caller knows them; those of other streams are read from the
        files.
    now_ns : int, optional
        Instead of the clock, UTC nanoseconds.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    ids = sorted({contract_id for contract_id, _ in streams})
    kinds = sorted({kind for _, kind in streams})
    try:
        lasting = {
            (row.contract_id, row.tick_type): row
            for row in index.coverage(ids, kinds, now_ns)
            if row.end_ns is None
        }
        return [
            _state(root, index, each, lasting.get(each), dict(last_ticks or {}), now_ns)
            for each in streams
        ]
    except TickIndexError as error:
        return [FeedState(*each, FeedCondition.UNKNOWN, reason=str(error)) for each in streams]


def _state(
    root: Path,
    index: Index,
    stream: Stream,
    row: CoverageRecord | None,
    last_ticks: dict[Stream, int],
    now_ns: int,
) -> FeedState:
    last_ns = last_ticks.get(stream)
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


def _captured(stream: Stream, row: CoverageRecord, last_ns: int | None, now_ns: int) -> FeedState:
    """The state of a stream that a capture holds, by its row that lasts."""
    condition = _CONDITIONS.get(row.state, FeedCondition.UNKNOWN)
    found = _CODE.fullmatch(row.reason)
    code, reason = (int(found[1]), found[2] or "") if found else (None, row.reason)
    since_ns: int | None = row.start_ns
    opens_ns = None
    if condition is FeedCondition.CLOSED:
        opens_ns = next_open_ns(reason)
    trades = stream[1] in ("last", "all_last")
    most_ns = (QUIET_SECONDS_OF_TRADES if trades else QUIET_SECONDS) * NANOSECONDS
    # The capture may hang, or not know when the market is open: its word is not enough.
    if condition is FeedCondition.LIVE:
        began_ns = max(row.start_ns, last_ns or row.start_ns)
    elif opens_ns is not None:
        began_ns = opens_ns
    else:
        began_ns = now_ns
    if condition is FeedCondition.LIVE and began_ns - now_ns > most_ns:
        # The clock was set back: the age of the last tick is not known until it has caught up.
        condition, since_ns, code = FeedCondition.UNKNOWN, None, None
        reason = f"the last tick is {(began_ns - now_ns) // NANOSECONDS} s ahead of the clock"
    elif now_ns - began_ns > most_ns:
        condition, since_ns, opens_ns = FeedCondition.QUIET, began_ns, None
        reason, code = f"no tick for {(now_ns - began_ns) // NANOSECONDS} s", None
    return FeedState(*stream, condition, since_ns, reason, code, opens_ns, last_ns)


def _without_capture(
    root: Path,
    index: Index,
    stream: Stream,
    row: CoverageRecord | None,
    last_ns: int | None,
    now_ns: int,
) -> FeedState:
    """The state of a stream that no process writes."""
    since_ns, reason = None, "no capture has recorded this stream"
    if row is not None:
        rows = closing_rows(root, index, row)
        since_ns = rows[-1].end_ns if rows else row.start_ns
        reason = "the capture ended without a word: its process was killed, or the machine stopped"
    else:
        before = index.coverage([stream[0]], [stream[1]], now_ns - _LOOK_BACK_NS, now_ns)
        ends = [each.end_ns for each in before if each.end_ns is not None]
        if ends:
            since_ns, reason = max(ends), "the capture has ended"
    return FeedState(*stream, FeedCondition.NO_CAPTURE, since_ns, reason, None, None, last_ns)
