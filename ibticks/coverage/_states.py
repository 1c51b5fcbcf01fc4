"""What a capture says about itself in a stream, and what that means for the ticks around it.

A capture writes ``info`` messages into the stream it records. Their ``status`` is one of
:class:`Status`; from one to the next, the stream is in the state :data:`STATES` gives. The ledger
of coverage is nothing but these messages read again, so that it can always be rebuilt
(:mod:`ibticks.coverage`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from ibticks.config import NANOSECONDS

__all__ = [
    "MEANINGS",
    "NOTHING_MISSING",
    "STATES",
    "State",
    "Status",
    "closed_reason",
    "next_open_ns",
]

_CLOSED: Final = "outside of IB's trading hours"
_OPENS: Final = "; the next session opens at "


class State(StrEnum):
    """What a stretch of time of a stream is worth; :data:`MEANINGS` has them in words."""

    CAPTURED = "captured"
    BACKFILLED = "backfilled"
    SESSION_CLOSED = "session_closed"
    QUIET = "quiet"
    DISCONNECTED = "disconnected"
    NOT_PERMITTED = "not_permitted"
    DELETED = "deleted"
    # What is left when a ledger says nothing; no ledger has rows of these.
    NOT_RUNNING = "not_running"
    ENDED = "ended"
    UNKNOWN = "unknown"


MEANINGS: Final[dict[State, str]] = {
    State.CAPTURED: "subscribed and connected: what came is what there was",
    State.BACKFILLED: "not captured live, but asked of IB afterwards: times are whole seconds",
    State.SESSION_CLOSED: "the market was closed: nothing is missing",
    State.QUIET: "subscribed, but silent while it should not have been",
    State.DISCONNECTED: "no connection, or IB's own was broken",
    State.NOT_PERMITTED: "IB refused this stream",
    State.DELETED: "stored once, and deleted since; ticks that are here all the same came later",
    State.NOT_RUNNING: "no capture was running; ticks that are here all the same were imported",
    State.ENDED: "no longer captured: it is no gap where all time is asked for",
    State.UNKNOWN: "before any capture of this stream: imported or never stored, nobody can say "
    "whether ticks are missing",
}
"""Each state in words."""

NOTHING_MISSING: Final = frozenset({State.CAPTURED, State.BACKFILLED, State.SESSION_CLOSED})
"""The states in which no tick is missing, as far as anyone can tell."""


class Status(StrEnum):
    """``data.status`` of the info messages that change a stream's state.

    Their ``metadata`` has ``run`` (names the run of the capture that speaks; a message without it
    does not count), ``reason`` (words) and, where IB said it, ``code`` (its number).
    """

    SUBSCRIBED = "subscribed"
    RESTORED = "restored"  # the connection is back and no data was lost (1102)
    QUIET = "quiet"
    DISCONNECTED = "disconnected"
    NOT_PERMITTED = "not_permitted"
    SESSION_CLOSED = "session_closed"
    STOPPED = "stopped"  # a clean end: from here on nobody was listening
    BACKFILLED = "backfilled"  # metadata start_ns, end_ns, ticks, at_ns: a gap filled afterwards
    DELETED = "deleted"  # the same metadata: ticks taken out on purpose
    # The same metadata, and deleted_at_ns, the at_ns of a deletion of the same run: it is undone.
    UNDELETED = "undeleted"


STATES: Final[dict[Status, State | None]] = {
    Status.SUBSCRIBED: State.CAPTURED,
    Status.RESTORED: State.CAPTURED,
    Status.QUIET: State.QUIET,
    Status.DISCONNECTED: State.DISCONNECTED,
    Status.NOT_PERMITTED: State.NOT_PERMITTED,
    Status.SESSION_CLOSED: State.SESSION_CLOSED,
    Status.STOPPED: None,
}
"""The state that begins with a status; None: nobody listens. ``BACKFILLED``,
``DELETED`` and ``UNDELETED`` change no state."""


def closed_reason(opens_ns: int | None) -> str:
    """Return the reason of ``session_closed``, with the time of the next session where known.

    Parameters
    ----------
    opens_ns : int or None
        UTC nanoseconds, a whole second.

    Examples
    --------
    >>> closed_reason(1_381_305_600_000_000_000)
    "outside of IB's trading hours; the next session opens at 2013-10-09T08:00:00Z"
    >>> next_open_ns(_)
    1381305600000000000
    """
    if opens_ns is None:
        return _CLOSED
    opens = datetime.fromtimestamp(opens_ns // NANOSECONDS, UTC)
    return f"{_CLOSED}{_OPENS}{opens:%Y-%m-%dT%H:%M:%SZ}"


def next_open_ns(reason: str) -> int | None:
    """Return the time of the next session that :func:`closed_reason` put into words."""
    _, opens, instant = reason.partition(_OPENS)
    try:
        return int(datetime.fromisoformat(instant).timestamp()) * NANOSECONDS if opens else None
    except ValueError:
        return None
