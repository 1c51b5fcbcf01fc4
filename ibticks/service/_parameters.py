"""Parameters that several routes have, and the values that they stand for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from fastapi import Depends, Path, Query
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads annotations

from ibticks.calendar import TimeLike, now_ns, to_ns
from ibticks.errors import InputError, TimeRangeError
from ibticks.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BufferTypes",
    "Contract",
    "EndTime",
    "HistoryTypes",
    "Now",
    "OpenStore",
    "StartTime",
    "Zone",
    "choose_synonym",
    "clock",
    "mend_offset",
    "parse_time",
    "time_range",
]

_DEFAULT_TYPES: Final = ("bid_ask",)
# An offset whose plus sign was not escaped arrives with a space.
_UNESCAPED_PLUS: Final = re.compile(r"(.*\d\d:\d\d(?::\d\d(?:\.\d+)?)?) (\d\d:?\d\d)", re.ASCII)
_TIME_TEXT: Final = (
    "ISO 8601 with an offset or `Z`, to the nanosecond; a time without one needs `tz`."
)

Contract: TypeAlias = Annotated[
    str, Path(description="Contract id, or a symbol of the store.", examples=["8314", "IBM"])
]
StartTime: TypeAlias = Annotated[
    str, Query(description=f"First instant. {_TIME_TEXT}", examples=["2013-10-08T14:00:00Z"])
]
EndTime: TypeAlias = Annotated[
    str,
    Query(
        description=f"End, which is not in the range: ranges are half-open. {_TIME_TEXT}",
        examples=["2013-10-08T14:01:00Z"],
    ),
]
Zone: TypeAlias = Annotated[
    str | None,
    Query(description="Time zone of times without an offset.", examples=["America/New_York"]),
]
Now: TypeAlias = Annotated[
    str | None,
    Query(
        description="Time that replaces the clock; `last_tick` is the last stored tick.",
        examples=["last_tick"],
    ),
]


# Dependencies are coroutines: FastAPI runs each plain function in another thread of its pool.
async def _open_store(connection: HTTPConnection) -> Store:
    store = connection.app.state.store
    assert isinstance(store, Store)
    return store


OpenStore: TypeAlias = Annotated[Store, Depends(_open_store)]


_TYPES_TEXT: Final = (
    "last, all_last, bid_ask or mid_point; several with commas between them, merged by time. "
    "By default "
)


async def _history_types(
    tick_type: Annotated[
        list[str] | None, Query(description=f"{_TYPES_TEXT}bid_ask.", examples=[["last"]])
    ] = None,
    tick_types: Annotated[
        list[str] | None,
        Query(description="The same as `tick_type`.", examples=[["bid_ask,last"]]),
    ] = None,
) -> Sequence[str]:
    chosen = _requested_types(tick_type, tick_types)
    return _DEFAULT_TYPES if chosen is None else chosen


HistoryTypes: TypeAlias = Annotated[list[str], Depends(_history_types)]
"""Tick types of a request for history."""


async def _buffer_types(
    tick_type: Annotated[
        list[str] | None,
        Query(
            description=f"{_TYPES_TEXT}those that the capture tracks, else all that are stored.",
            examples=[["last"]],
        ),
    ] = None,
    tick_types: Annotated[
        list[str] | None,
        Query(description="The same as `tick_type`.", examples=[["bid_ask,last"]]),
    ] = None,
) -> Sequence[str] | None:
    return _requested_types(tick_type, tick_types)


BufferTypes: TypeAlias = Annotated[list[str] | None, Depends(_buffer_types)]
"""Tick types of a request for a buffer; None if the request names none."""


def _requested_types(tick_type: list[str] | None, tick_types: list[str] | None) -> list[str] | None:
    if tick_type is not None and tick_types is not None:
        raise InputError("tick_type and tick_types are both given: keep one of them")
    values = tick_type if tick_types is None else tick_types
    if values is None:
        return None
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def choose_synonym(**values: str | None) -> str | None:
    """Return the value of parameters that mean the same; None if a request has none of them.

    Raises
    ------
    InputError
        If a request has several of them.

    Examples
    --------
    >>> choose_synonym(period=None, buffer_period="last_hour")
    'last_hour'
    """
    present = [value for value in values.values() if value is not None]
    if len(present) > 1:
        *names, last = values
        raise InputError(f"{', '.join(names)} and {last} have one meaning: keep one of them")
    return present[0] if present else None


def parse_time(text: str, tz: str | None, name: str) -> int:
    """Parse a time of a query; returns UTC nanoseconds.

    Parameters
    ----------
    text : str
        A plus sign that was not escaped as ``%2B`` arrives as a space and is read as one.
    tz : str, optional
        Zone of a time without an offset.
    name : str
        Name of the parameter, for errors.

    Examples
    --------
    >>> parse_time("2025-01-10T14:30:00 00:00", None, "start_time")
    1736519400000000000
    """
    return to_ns(mend_offset(text), tz=tz, name=name)


def mend_offset(text: str) -> str:
    """Return a time with the plus sign of its offset, where that was not escaped in a URL.

    Examples
    --------
    >>> mend_offset("2025-01-10T14:30 01:00")
    '2025-01-10T14:30+01:00'
    """
    match = _UNESCAPED_PLUS.fullmatch(text)
    return text if match is None else f"{match[1]}+{match[2]}"


def time_range(start_time: str, end_time: str, tz: str | None) -> tuple[int, int]:
    """Parse a half-open range of a query; returns UTC nanoseconds.

    Parameters
    ----------
    start_time, end_time : str
    tz : str, optional

    Raises
    ------
    NaiveDatetimeError
        For a time without an offset, where ``tz`` is not given.
    TimeRangeError
        If start is not before end.
    InputError
        For a text that is no time.

    Examples
    --------
    >>> time_range("2025-01-10T14:30:00Z", "2025-01-10T14:31:00Z", None)
    (1736519400000000000, 1736519460000000000)
    """
    start_ns = parse_time(start_time, tz, "start_time")
    end_ns = parse_time(end_time, tz, "end_time")
    if start_ns >= end_ns:
        raise TimeRangeError(
            f"start_time={start_time} is not before end_time={end_time}: a range is half-open, "
            "[start_time, end_time)",
            start_ns=start_ns,
            end_ns=end_ns,
        )
    return start_ns, end_ns


def clock(now: str | None, tz: str | None) -> TimeLike:
    """Return the time that ranges are relative to: of a query, or of the clock."""
    if now is None or now == "last_tick":
        return now_ns() if now is None else now
    return parse_time(now, tz, "now")
