"""Time ranges and coverage as JSON, the same in both directions."""

from __future__ import annotations

from dataclasses import fields
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import Interval, StreamKey
from ibticks.calendar import to_ns
from ibticks.coverage import Coverage, CoverageInterval, CoverageState
from ibticks.errors import InputError
from ibticks.selection import TimeRange

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PROTOCOL",
    "decode_coverage",
    "decode_time_range",
    "encode_coverage",
    "encode_time_range",
]

PROTOCOL: Final = 1
"""Version of the routes of a remote store; a service answers every version up to its own."""

_TIMES: Final = ("start", "end", "date", "now")
_TEXTS: Final = ("tz", "session", "market")


def encode_time_range(time_range: TimeRange) -> dict[str, Any]:
    """Return the values of a time range that are not those of all time, as JSON has them.

    Examples
    --------
    >>> encode_time_range(TimeRange(start=datetime.fromisoformat("2025-01-10T14:30+00:00")))
    {'start': {'datetime': '2025-01-10T14:30:00+00:00'}}
    >>> encode_time_range(TimeRange(timedelta(minutes=5)))
    {'period': {'microseconds': 300000000}}
    """
    default = TimeRange()
    values: dict[str, Any] = {}
    for item in fields(TimeRange):
        value = getattr(time_range, item.name)
        if value == getattr(default, item.name):
            continue
        if item.name in _TIMES:
            values[item.name] = _encode_time(value, time_range, item.name)
        elif isinstance(value, timedelta):
            values[item.name] = {"microseconds": value // timedelta(microseconds=1)}
        else:
            values[item.name] = str(value) if item.name in _TEXTS else value
    return values


def _encode_time(value: Any, time_range: TimeRange, name: str) -> Any:
    if isinstance(value, str):
        return value
    if type(value) is datetime:
        return {"datetime": value.isoformat()}
    if type(value) is date:
        return {"date": value.isoformat()}
    return {"ns": to_ns(value, tz=time_range.tz, name=name)}


def decode_time_range(values: Mapping[str, Any]) -> TimeRange:
    """Return the time range that :func:`encode_time_range` encoded.

    Raises
    ------
    InputError
        If a value is none of a time range.

    Examples
    --------
    >>> decode_time_range({"period": "last_hour", "now": {"ns": 5}}).now
    5
    """
    known = {item.name for item in fields(TimeRange)}
    if unknown := sorted(set(values) - known):
        raise InputError(f"{', '.join(unknown)}: a time range has {', '.join(sorted(known))}")
    return TimeRange(**{name: _decode_value(name, value) for name, value in values.items()})


def _decode_value(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        if isinstance(value, str) or (name == "sessions" and type(value) is int):
            return value
        raise InputError(f"{name}={value!r:.60} is no value of a time range")
    try:
        match value:
            case {"ns": int(ns)}:
                return ns
            case {"datetime": str(text)}:
                return datetime.fromisoformat(text)
            case {"date": str(text)}:
                return date.fromisoformat(text)
            case {"microseconds": int(length)}:
                return timedelta(microseconds=length)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: {error}") from error
    raise InputError(f"{name}={value!r:.60} is no value of a time range")


def encode_coverage(coverage: Coverage) -> dict[str, Any]:
    """Return a coverage as JSON has it."""
    return {
        "streams": [list(stream) for stream in coverage.streams],
        "intervals": [list(interval) for interval in coverage.intervals],
        "state_intervals": [
            [part.contract_id, part.tick_type, part.start_ns, part.end_ns, part.state, part.reason]
            for part in coverage.state_intervals
        ],
        "label": coverage.label,
        "symbols": {str(number): symbol for number, symbol in coverage.symbols.items()},
    }


def decode_coverage(values: Mapping[str, Any]) -> Coverage:
    """Return the coverage that :func:`encode_coverage` encoded."""
    return Coverage(
        tuple(StreamKey(*stream) for stream in values["streams"]),
        tuple(Interval(*interval) for interval in values["intervals"]),
        tuple(
            CoverageInterval(contract_id, tick_type, start, end, CoverageState(state), reason)
            for contract_id, tick_type, start, end, state, reason in values["state_intervals"]
        ),
        values["label"],
        {int(number): symbol for number, symbol in values["symbols"].items()},
    )
