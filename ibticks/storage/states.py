"""What a capture says about itself in a stream, and what that means for the ticks around it.

A capture writes ``info`` messages into the stream it records. Their ``status`` is one of
:class:`Status`; from one to the next, the stream is in the state :data:`STATES` gives. The ledger
of coverage is nothing but these messages read again, so that it can always be rebuilt.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["STATES", "State", "Status"]


class State(StrEnum):
    """What a stretch of time of a stream is worth."""

    CAPTURED = "captured"  # subscribed and connected: what came is what there was
    QUIET = "quiet"  # subscribed, but silent while it should not be
    DISCONNECTED = "disconnected"  # no connection, or IB's own is broken
    NOT_PERMITTED = "not_permitted"  # IB refuses this stream
    SESSION_CLOSED = "session_closed"  # the market is closed: nothing is missing


class Status(StrEnum):
    """``data.status`` of the info messages that change a stream's state.

    Their ``metadata`` has ``reason`` (words) and, where IB said it, ``code`` (its number).
    """

    SUBSCRIBED = "subscribed"
    RESTORED = "restored"  # the connection is back and no data was lost (1102)
    QUIET = "quiet"
    DISCONNECTED = "disconnected"
    NOT_PERMITTED = "not_permitted"
    SESSION_CLOSED = "session_closed"
    STOPPED = "stopped"  # a clean end: from here on nobody was listening
    BACKFILLED = "backfilled"  # metadata start_ns, end_ns, ticks: a gap filled afterwards


STATES: Final[dict[Status, State | None]] = {
    Status.SUBSCRIBED: State.CAPTURED,
    Status.RESTORED: State.CAPTURED,
    Status.QUIET: State.QUIET,
    Status.DISCONNECTED: State.DISCONNECTED,
    Status.NOT_PERMITTED: State.NOT_PERMITTED,
    Status.SESSION_CLOSED: State.SESSION_CLOSED,
    Status.STOPPED: None,
}
"""The state that begins with a status; None: nobody listens. ``BACKFILLED`` changes no state."""
