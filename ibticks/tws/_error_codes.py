"""What IB's message codes mean for a capture, and what it does about each.

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

__all__ = ["CODES", "Action", "Code", "meaning"]


class Action(Enum):
    """What a capture does about a code."""

    NOTE = auto()  # keep it in the log
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
    """One code of IB: its number, what it means, what is done."""

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
"""Every code a capture acts on, or knows to be harmless."""

_UNKNOWN: Final = None
# IB says the same number for what will never work and for what will, and only the text differs; and
# it has numbers in no list, whose text says that a subscription has ended. The first that fits.
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


def meaning(number: int, text: str = "") -> Code:
    """What a code means; one that is not known is noted.

    Parameters
    ----------
    number : int
    text : str
        IB's own words, which decide where a number alone does not.

    Examples
    --------
    >>> meaning(1101).action.name
    'RESUBSCRIBE_ALL'
    >>> meaning(10189, "No market data permissions for NYSE").action.name
    'GIVE_UP'
    >>> meaning(10999, "Subscription lost. Please resubscribe.").action.name
    'RESUBSCRIBE'
    """
    code = CODES.get(number, Code(number, text, Action.NOTE))
    known = number if number in CODES else _UNKNOWN
    words = text.lower()
    for numbers, parts, action in _BY_TEXT:
        if known in numbers and any(part in words for part in parts):
            return Code(number, code.text, action)
    return code
