"""Message codes of IB, the action of a capture for each, and the outages they report.

Sources: Interactive Brokers, *TWS API: Message Codes*, and the errors of ``ibapi`` itself
(``ibapi.errors``, codes 501 to 593) for the meanings. Codes that neither list has, or explains, are
from reports of users: 10225 (mementum/backtrader, pull request 396; backtrader2/backtrader, issue
15: cancel first, then subscribe), 10182 (erdewit/ib_insync, issue 670). What to do about a code is
this project's own judgement.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

__all__ = ["CODES", "Action", "Code", "Outages", "find_code"]

_TO_IB: Final = (1100, 2110)
_ALL_RESTORED: Final = (1101, 1102)


class Action(Enum):
    """Reaction of a capture to a code."""

    NOTE = auto()  # log it
    BROKEN = auto()  # IB's side is broken: a gap begins; wait, subscriptions stay
    RESTORED = auto()  # it is back, nothing was lost: the gap ends
    RESUBSCRIBE = auto()  # IB has ended this subscription: cancel it and subscribe again at once
    RESUBSCRIBE_ALL = auto()  # it is back, subscriptions are gone
    RECONNECT = auto()  # this connection is over
    RETRY_SOON = auto()  # this request, once more, with a new id
    RETRY_LATER = auto()  # this request, after some minutes
    SLOW_DOWN = auto()  # too many messages: fewer a second from now on
    GIVE_UP = auto()  # this request will not work: the others go on


@dataclass(frozen=True, slots=True)
class Code:
    """One code of IB: its number, meaning and action."""

    number: int
    text: str
    action: Action


_ALL: Final = (
    # Requests
    Code(100, "more than 50 messages a second", Action.SLOW_DOWN),
    Code(101, "no market data line free", Action.RETRY_LATER),
    Code(102, "ticker id in use", Action.RETRY_SOON),
    Code(200, "no such contract, or several", Action.GIVE_UP),
    Code(203, "security not available or allowed for this account", Action.GIVE_UP),
    Code(300, "cancelled what was not there", Action.NOTE),
    Code(316, "market depth halted: subscribe again", Action.RESUBSCRIBE),
    Code(317, "market depth reset", Action.NOTE),
    Code(320, "request not read", Action.RETRY_SOON),
    Code(321, "request not valid", Action.GIVE_UP),
    Code(322, "request not processed", Action.RETRY_SOON),
    Code(323, "server error", Action.RETRY_SOON),
    Code(326, "client id in use", Action.RECONNECT),
    Code(354, "not subscribed to this market data", Action.GIVE_UP),
    Code(420, "real-time request refused (pacing or permission)", Action.RETRY_LATER),
    # The client's own
    Code(501, "already connected", Action.NOTE),
    Code(502, "TWS cannot be reached", Action.RECONNECT),
    Code(503, "TWS is too old for this request", Action.GIVE_UP),
    Code(504, "not connected", Action.RECONNECT),
    Code(505, "unknown message id", Action.NOTE),
    Code(507, "bad message length", Action.RECONNECT),
    Code(508, "bad message", Action.RECONNECT),
    Code(518, "request for contract details not sent", Action.RETRY_SOON),
    Code(520, "no socket", Action.RECONNECT),
    Code(531, "request for the time not sent", Action.NOTE),
    Code(550, "start of the API not sent", Action.RECONNECT),
    Code(576, "request for ticks not sent", Action.RETRY_SOON),
    Code(577, "cancellation not sent", Action.NOTE),
    Code(579, "invalid symbol", Action.GIVE_UP),
    Code(587, "request for the time not sent", Action.NOTE),
    Code(588, "request cannot be encoded", Action.GIVE_UP),
    # The connection between TWS and IB
    Code(1100, "connection between TWS and IB lost", Action.BROKEN),
    Code(1101, "connection restored, data lost", Action.RESUBSCRIBE_ALL),
    Code(1102, "connection restored, data kept", Action.RESTORED),
    Code(1300, "TWS moved to another port", Action.RECONNECT),
    # Farms, and warnings
    Code(2103, "market data farm broken", Action.BROKEN),
    Code(2104, "market data farm connected", Action.RESTORED),
    Code(2105, "historical data farm broken", Action.NOTE),
    Code(2106, "historical data farm connected", Action.NOTE),
    Code(2107, "historical data farm inactive", Action.NOTE),
    Code(2108, "market data farm inactive", Action.NOTE),
    Code(2109, "outside regular hours", Action.NOTE),
    Code(2110, "connection between TWS and its server broken", Action.BROKEN),
    Code(2119, "market data farm is connecting", Action.NOTE),
    Code(2157, "security definition farm broken", Action.NOTE),
    Code(2158, "security definition farm connected", Action.NOTE),
    Code(2176, "fractional sizes are not shown to this client", Action.NOTE),
    # Market data
    Code(10089, "market data needs an API subscription", Action.GIVE_UP),
    Code(10090, "part of the market data is not subscribed", Action.NOTE),
    Code(10091, "part of the market data needs an API subscription", Action.NOTE),
    Code(10092, "deep market data not supported", Action.GIVE_UP),
    Code(10167, "delayed data instead of live", Action.NOTE),
    Code(10168, "not subscribed to this market data, delayed not enabled", Action.GIVE_UP),
    Code(10182, "live updates failed", Action.RESUBSCRIBE),
    Code(10186, "not subscribed to this market data, delayed not enabled", Action.GIVE_UP),
    Code(10189, "tick-by-tick refused", Action.RETRY_LATER),
    Code(10190, "no tick-by-tick line free", Action.RETRY_LATER),
    Code(10197, "another session has the live data", Action.RETRY_LATER),
    Code(10225, "bust event: subscription deactivated", Action.RESUBSCRIBE),
    Code(10285, "fractional sizes need a newer client", Action.GIVE_UP),
)

CODES: Final[dict[int, Code]] = {code.number: code for code in _ALL}
"""Every code that a capture acts on, or knows to be harmless, by number."""

_UNKNOWN: Final = None
# IB uses the same number for permanent and for temporary refusals, and only the text differs. The
# text of an unlisted number may say that a subscription has ended. The first match counts.
_BY_TEXT: Final[tuple[tuple[tuple[int | None, ...], tuple[str, ...], Action], ...]] = (
    (
        (420, 10189),
        ("permission", "not supported", "no trading permissions", "not available"),
        Action.GIVE_UP,
    ),
    ((322,), ("max number of",), Action.RETRY_LATER),
    (
        (_UNKNOWN,),
        ("resubscribe", "re-subscribe", "subscription is deactivated", "request live updates"),
        Action.RESUBSCRIBE,
    ),
)


def find_code(number: int, text: str = "") -> Code:
    """Return the code of a message; an unknown one is only logged.

    Parameters
    ----------
    number : int
    text : str
        The message, which decides where the number alone does not.

    Examples
    --------
    >>> find_code(1101).action.name
    'RESUBSCRIBE_ALL'
    >>> find_code(10189, "No market data permissions for NYSE").action.name
    'GIVE_UP'
    >>> find_code(10999, "Subscription lost. Please resubscribe.").action.name
    'RESUBSCRIBE'
    """
    code = CODES.get(number, Code(number, text, Action.NOTE))
    known = number if number in CODES else _UNKNOWN
    words = text.lower()
    for numbers, phrases, action in _BY_TEXT:
        if known in numbers and any(phrase in words for phrase in phrases):
            return Code(number, code.text, action)
    return code


class Outages:
    """Outages that are not over: the connection of TWS to IB, and market data farms.

    Examples
    --------
    >>> outages = Outages()
    >>> outages.begin(2103, "Market data farm connection is broken:usfarm")
    >>> outages.end(2104, "Market data farm connection is OK:eufarm")
    False
    >>> outages.end(2104, "Market data farm connection is OK:usfarm")
    True
    """

    def __init__(self) -> None:
        self._broken: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._broken)

    @property
    def is_ib_lost(self) -> bool:
        """Return whether TWS has no connection to IB, so that no request can be answered."""
        return "" in self._broken

    def begin(self, number: int, text: str) -> None:
        """Note the beginning of an outage."""
        self._broken.add("" if number in _TO_IB else _farm(text))

    def end(self, number: int, text: str) -> bool:
        """Note the end of an outage; return whether it was the last one."""
        if not self._broken:
            return False
        if number in _ALL_RESTORED:
            self._broken.clear()
        else:
            self._broken.discard(_farm(text))
        return not self._broken


def _farm(text: str) -> str:
    """Return the farm that a message is about: its end after a colon."""
    return text.rpartition(":")[2].strip() or "farm"
