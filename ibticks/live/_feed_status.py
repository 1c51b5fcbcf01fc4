"""The condition of live feeds, and the previous close that the change of a day is measured from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval, StreamKey
from ibticks.calendar import format_ns, from_ns
from ibticks.calendar import market as find_market
from ibticks.config import NANOSECONDS
from ibticks.coverage import FeedCondition, FeedState, feed_states
from ibticks.errors import NoSessionError, TimeRangeError
from ibticks.selection import Selection
from ibticks.storage import StreamLock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ibticks.calendar import Market, Session
    from ibticks.index import Index

__all__ = ["FeedStatus", "PreviousClose", "find_previous_close"]

_CLOSING_NS: Final = 30 * 60 * NANOSECONDS
_SESSIONS_LOOKED_BACK: Final = 2


class FeedStatus:
    """Ask the coverage ledger and the locks of a store for the condition of some streams.

    A stream without a capture keeps its condition until a process writes it, so that idle views do
    not query the index again and again.

    Parameters
    ----------
    root : Path
        The store.
    index : Index or None
        Without one, every condition is ``unknown``.
    streams : sequence of StreamKey
    """

    def __init__(self, root: Path, index: Index | None, streams: Sequence[StreamKey]) -> None:
        self._root: Final = root
        self._index: Final = index
        self._streams: Final = tuple(streams)
        self._states: dict[StreamKey, FeedState] = {}

    @property
    def has_index(self) -> bool:
        """True where there is an index to ask."""
        return self._index is not None

    def states(self, read_ns: Mapping[StreamKey, int], now_ns: int | None) -> list[FeedState]:
        """Return the condition of each stream, in their order.

        Parameters
        ----------
        read_ns : mapping of StreamKey to int
            Times of the last ticks that were read, UTC nanoseconds.
        now_ns : int, optional
            Instead of the clock, UTC nanoseconds.
        """
        before = self._states
        states = {
            stream: replace(state, last_tick_ns=read_ns.get(stream, state.last_tick_ns))
            for stream, state in before.items()
            if state.condition is FeedCondition.NO_CAPTURE
            and state.since_ns is not None
            and not StreamLock.is_locked(self._root, *stream)
        }
        asked = [stream for stream in self._streams if stream not in states]
        last_ticks: dict[StreamKey, int] = {
            stream: last_ns
            for stream in asked
            if (last_ns := read_ns.get(stream, _last_tick_ns(before.get(stream)))) is not None
        }
        if self._index is None:
            answers = [FeedState(*stream, FeedCondition.UNKNOWN) for stream in asked]
        else:
            answers = feed_states(
                self._root, self._index, asked, last_ticks=last_ticks, now_ns=now_ns
            )
        states |= {StreamKey(state.contract_id, state.tick_type): state for state in answers}
        self._states = states
        return [states[stream] for stream in self._streams]

    def previous_close(self, contract_id: int, at_ns: int, market: str) -> PreviousClose | None:
        """Return the previous close of a contract; None without an index."""
        if self._index is None:
            return None
        return find_previous_close(self._root, self._index, contract_id, at_ns, market)


@dataclass(frozen=True, slots=True)
class PreviousClose:
    """The last stored price of a regular session.

    Attributes
    ----------
    price : float
    source : str
        ``last`` or ``all_last`` (a trade), ``mid_point``, or ``bid_ask`` (the mid of the quote).
    session : Session
    """

    price: float
    source: str
    session: Session

    def __str__(self) -> str:
        price = {"bid_ask": "mid", "mid_point": "mid"}.get(self.source, "trade")
        return (
            f"last {price} of the regular session of {self.session.market} on {self.session.date}, "
            f"which closed at {format_ns(self.session.end_ns)}"
        )


def find_previous_close(
    root: Path, index: Index, contract_id: int, at_ns: int, market: str
) -> PreviousClose | None:
    """Return the close of the last regular session before the trading day of a time.

    A trade is preferred to a mid. After the close of a day the reference stays that of the day;
    before the next open it is the last close.

    Parameters
    ----------
    root : Path
        The store.
    index : Index
    contract_id : int
    at_ns : int
        UTC nanoseconds.
    market : str

    Returns
    -------
    PreviousClose or None
        None where no price of that session is stored.

    Raises
    ------
    UnknownMarketError
        Naming the markets.
    """
    session = _session_before(find_market(market), at_ns)
    if session is None:
        return None
    # The end of a session usually has a tick: the whole session is read only where it has none.
    for start_ns in (max(session.end_ns - _CLOSING_NS, session.start_ns), session.start_ns):
        for source in ("last", "all_last", "mid_point", "bid_ask"):
            interval = Interval(start_ns, session.end_ns + 1)
            price = _last_price(root, index, StreamKey(contract_id, source), interval)
            if price is not None:
                return PreviousClose(price, source, session)
    return None


def _session_before(market: Market, at_ns: int) -> Session | None:
    """Return the last regular session that has ended and is of an earlier day than a time."""
    try:
        running = market.current_session(at_ns)
        ended = market.previous_sessions(_SESSIONS_LOOKED_BACK, now=at_ns)
    except (NoSessionError, TimeRangeError):
        return None  # the calendar does not reach there
    day = from_ns(at_ns, market.tz).date() if running is None else running.date
    return next((session for session in reversed(ended) if session.date < day), None)


def _last_price(root: Path, index: Index, stream: StreamKey, interval: Interval) -> float | None:
    """Return the last price of a stream in an interval: of a trade, or a mid."""
    names = {
        "mid_point": ("mid_price",),
        "bid_ask": ("bid_price", "ask_price"),
    }.get(stream.tick_type, ("price",))
    selection = Selection(
        root,
        index,
        (stream.contract_id,),
        (stream.tick_type,),
        (interval,),
        ("timestamp", *names),
    )
    frame = selection.to_polars().drop_nulls(list(names)).drop_nans(list(names))
    if not len(frame):
        return None
    values = [float(frame[name][-1]) for name in names]
    return sum(values) / len(values)


def _last_tick_ns(state: FeedState | None) -> int | None:
    return None if state is None else state.last_tick_ns
