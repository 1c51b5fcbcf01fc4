"""What IB's message codes mean for a capture, and what it does about each.

Sources: Interactive Brokers, *TWS API: Message Codes*, for the meanings; what to do about them is
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
    Code(100, "more than 50 messages a second", Action.SLOW_DOWN),
    Code(101, "no market data line free", Action.RETRY_LATER),
    Code(102, "ticker id in use", Action.RETRY_SOON),
    Code(200, "no such contract, or several", Action.GIVE_UP),
    Code(300, "cancelled what was not there", Action.NOTE),
    Code(322, "request not processed", Action.RETRY_SOON),
    Code(326, "client id in use", Action.RECONNECT),
    Code(354, "not subscribed to this market data", Action.GIVE_UP),
    Code(420, "real-time request refused (pacing or permission)", Action.RETRY_LATER),
    Code(502, "TWS cannot be reached", Action.RECONNECT),
    Code(504, "not connected", Action.RECONNECT),
    Code(1100, "connection between TWS and IB lost", Action.BROKEN),
    Code(1101, "connection restored, data lost", Action.RESUBSCRIBE_ALL),
    Code(1102, "connection restored, data kept", Action.RESTORED),
    Code(1300, "TWS moved to another port", Action.RECONNECT),
    Code(2103, "market data farm broken", Action.BROKEN),
    Code(2104, "market data farm connected", Action.RESTORED),
    Code(2105, "historical data farm broken", Action.NOTE),
    Code(2106, "historical data farm connected", Action.NOTE),
    Code(2107, "historical data farm inactive", Action.NOTE),
    Code(2108, "market data farm inactive", Action.NOTE),
    Code(2109, "outside regular hours", Action.NOTE),
    Code(2110, "connection between TWS and its server broken", Action.BROKEN),
    Code(2158, "security definition farm connected", Action.NOTE),
    Code(10089, "market data needs an API subscription", Action.GIVE_UP),
    Code(10090, "part of the market data is not subscribed", Action.NOTE),
    Code(10167, "delayed data instead of live", Action.NOTE),
    Code(10189, "tick-by-tick refused", Action.RETRY_LATER),
    Code(10190, "no tick-by-tick line free", Action.RETRY_LATER),
    Code(10197, "another session has the live data", Action.RETRY_LATER),
)

CODES: Final[dict[int, Code]] = {code.number: code for code in _ALL}
"""Every code a capture acts on, or knows to be harmless."""

# IB says the same number for what will never work and for what will, and only the text differs.
_PERMANENT: Final = ("permission", "not supported", "no trading permissions", "not available")


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
    """
    code = CODES.get(number)
    if code is None:
        return Code(number, text, Action.NOTE)
    if number in (420, 10189) and any(word in text.lower() for word in _PERMANENT):
        return Code(number, code.text, Action.GIVE_UP)
    return code
