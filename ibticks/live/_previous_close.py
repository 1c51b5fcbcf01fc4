"""The close before a day: the price that the change of the day is measured from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ibticks.calendar import format_ns, from_ns
from ibticks.calendar import market as find_market
from ibticks.config import NANOSECONDS
from ibticks.errors import NoSessionError, TimeRangeError
from ibticks.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.calendar import Market, Session
    from ibticks.index import Index

__all__ = ["PreviousClose", "find_previous_close"]

_LAST_MINUTES_NS: Final = 30 * 60 * NANOSECONDS
_SESSIONS: Final = 2


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
        what = {"bid_ask": "mid", "mid_point": "mid"}.get(self.source, "trade")
        return (
            f"last {what} of the regular session of {self.session.market} on {self.session.date}, "
            f"which closed at {format_ns(self.session.end_ns)}"
        )


def find_previous_close(
    root: Path, index: Index, contract_id: int, at_ns: int, market: str
) -> PreviousClose | None:
    """Return the close of the last regular session before the trading day of a time.

    A trade is preferred to a mid. After the close of a day, the reference is still that of the day;
    before the next open, it is the close that has been.

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
        None where nothing is stored of that session.

    Raises
    ------
    UnknownMarketError
        Naming the markets.
    """
    session = _session_before(find_market(market), at_ns)
    if session is None:
        return None
    # The end of the session mostly has a tick: all of it is read only where it has none.
    for start_ns in (max(session.end_ns - _LAST_MINUTES_NS, session.start_ns), session.start_ns):
        for source in ("last", "all_last", "mid_point", "bid_ask"):
            price = _last_price(root, index, contract_id, source, (start_ns, session.end_ns + 1))
            if price is not None:
                return PreviousClose(price, source, session)
    return None


def _session_before(market: Market, at_ns: int) -> Session | None:
    """The last regular session that has ended and is of an earlier day than a time."""
    try:
        running = market.current_session(at_ns)
        ended = market.previous_sessions(_SESSIONS, now=at_ns)
    except (NoSessionError, TimeRangeError):
        return None  # the calendar does not reach there
    day = from_ns(at_ns, market.tz).date() if running is None else running.date
    return next((session for session in reversed(ended) if session.date < day), None)


def _last_price(
    root: Path, index: Index, contract_id: int, source: str, interval: tuple[int, int]
) -> float | None:
    """The last price of a stream in an interval: of a trade, or a mid."""
    prices = {
        "mid_point": ("mid_price",),
        "bid_ask": ("bid_price", "ask_price"),
    }.get(source, ("price",))
    columns = ("timestamp", *prices)
    frame = Selection(root, index, (contract_id,), (source,), (interval,), columns).to_polars()
    frame = frame.drop_nulls(list(prices)).drop_nans(list(prices))
    if not len(frame):
        return None
    values = [float(frame[name][-1]) for name in prices]
    return sum(values) / len(values)
