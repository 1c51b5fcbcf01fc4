"""Instants and time zones: users' input as UTC nanoseconds and back."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

from ibticks.config import NANOSECONDS
from ibticks.errors import InputError, NaiveDatetimeError, TimeRangeError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "TimeLike",
    "close_matches",
    "find_timezone",
    "fixed_offset",
    "format_ns",
    "from_ns",
    "now_ns",
    "refuse_local_mean_time",
    "start_of_day_ns",
    "to_ns",
]

# -05:00, +0530, -05, UTC-5, UTC+05:30. "GMT+5" is left out: POSIX means five hours west by it.
_OFFSET: Final = re.compile(r"(?:(?:UTC)([+-])(\d{1,2})|([+-])(\d{2}))(?::?(\d{2}))?", re.ASCII)
_MOST_OFFSET_MINUTES: Final = 24 * 60


def find_timezone(tz: str | tzinfo) -> tzinfo:
    """Return the zone of that name, or ``tz`` itself if it is one already.

    Parameters
    ----------
    tz : str or tzinfo
        An IANA name in any case (``America/New_York``, ``us/eastern``), an offset to UTC
        (``-05:00``, ``UTC-5``), or a ``tzinfo``: of datetime, zoneinfo, pytz or dateutil. A zone
        of pytz comes back as the ``zoneinfo`` zone of the same name, whose datetimes need no
        ``localize`` or ``normalize``.

    Returns
    -------
    tzinfo

    Raises
    ------
    InputError
        No such zone; the message has the nearest names.

    Examples
    --------
    >>> find_timezone("Europe/London")
    zoneinfo.ZoneInfo(key='Europe/London')
    >>> find_timezone("-05:00")
    datetime.timezone(datetime.timedelta(days=-1, seconds=68400))
    >>> find_timezone("New_York")
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: there is no time zone 'New_York'; did you mean 'America/New_York'?
    """
    if isinstance(tz, str):
        return _zone_by_name(tz)
    if isinstance(tz, tzinfo):
        zone = getattr(tz, "zone", None)
        return _zone_by_name(zone) if isinstance(zone, str) else tz
    raise InputError(f"tz={tz!r} is not a time zone; give a name such as 'America/New_York'")


def fixed_offset(zone: tzinfo) -> timedelta | None:
    """Return the offset to UTC of a zone that has the same one always, else None.

    Examples
    --------
    >>> fixed_offset(find_timezone("+01:00")), fixed_offset(find_timezone("Europe/Paris"))
    (datetime.timedelta(seconds=3600), None)
    """
    return zone.utcoffset(None)


def close_matches(word: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'a', 'b' or 'c'?"`` for a message, or an empty string.

    Case does not count, and a name also matches by what follows its last slash.

    Examples
    --------
    >>> close_matches("londn", ["Europe/London", "Asia/Tokyo"])
    "; did you mean 'Europe/London'?"
    """
    from difflib import get_close_matches

    keys: dict[str, list[str]] = {}
    for name in names:
        for key in {name.lower(), name.lower().rpartition("/")[2]}:
            keys.setdefault(key, []).append(name)
    result = [name for key in get_close_matches(word.lower(), keys, 3, 0.7) for name in keys[key]]
    shown = [repr(name) for name in dict.fromkeys(result)][:3]
    if not shown:
        return ""
    *first, last = shown
    return f"; did you mean {', '.join(first)} or {last}?" if first else f"; did you mean {last}?"


def refuse_local_mean_time(value: datetime, name: str) -> None:
    """Refuse a datetime to which a pytz zone was given as ``tzinfo=``.

    It has the zone's first offset on record, its local mean time of the 19th century: minutes off,
    and without a word. No other ``tzinfo`` does that.

    Raises
    ------
    InputError
        Saying what to write instead.
    """
    if hasattr(value.tzinfo, "localize") and value.tzname() == "LMT" and value.year > 1950:
        raise InputError(
            f"{name}={value.isoformat()} is in the local mean time of the 19th century, because a "
            "pytz zone was given as tzinfo=; pass the datetime without it and tz=, or use "
            "zone.localize(datetime)",
            name=name,
        )


@lru_cache(maxsize=64)
def _zone_by_name(name: str) -> tzinfo:
    if name.upper() in ("UTC", "Z"):
        return UTC
    if (offset := _offset_zone(name)) is not None:
        return offset
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        names = available_timezones()
    for known in names:
        if known.lower() == name.lower():
            return ZoneInfo(known)
    hint = close_matches(name, names) or "; names are such as 'America/New_York' or '-05:00'"
    raise InputError(f"there is no time zone {name!r}{hint}", tz=name)


def _offset_zone(name: str) -> tzinfo | None:
    match = _OFFSET.fullmatch(name.upper())
    if match is None:
        return None
    hours, minutes = int(match[2] or match[4]), int(match[5] or 0)
    total = hours * 60 + minutes
    if minutes >= 60 or total >= _MOST_OFFSET_MINUTES:
        return None
    sign = -1 if (match[1] or match[3]) == "-" else 1
    return timezone(sign * timedelta(minutes=total)) if total else UTC


class _HasIsoformat(Protocol):
    def isoformat(self) -> str: ...


TimeLike: TypeAlias = str | int | date | datetime | np.datetime64 | _HasIsoformat
"""Anything :func:`to_ns` reads as an instant."""

_DAY_SECONDS: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()
_INT64: Final = range(-(2**63), 2**63)

# An int nearer to 1970 than this (March 1973) is far more likely seconds, milliseconds or
# microseconds than nanoseconds.
_SMALLEST_NS: Final = 10**17

# The longest way to write a date alone; the shortest one with an hour, 20250110T09, is longer.
_DATE_WIDTH: Final = 10

# Python parses fractions to the microsecond and drops the rest, so they are split off first.
_FRACTION: Final = re.compile(r"(.+[T ]\d{2}:?\d{2}:?\d{2})[.,](\d{1,9})([^\d.,][^.,]*)?")


def now_ns() -> int:
    """The current instant, in UTC nanoseconds."""
    return time.time_ns()


def to_ns(value: TimeLike, *, tz: str | tzinfo | None = None, name: str = "start") -> int:
    """The instant ``value`` means, in UTC nanoseconds.

    Parameters
    ----------
    value : str, datetime, date, numpy.datetime64, pandas.Timestamp or int
        A string is ISO 8601, to the nanosecond; a date (also as a string) is its midnight, or
        where the clocks skip midnight, the first instant of that day. Anything else with an
        ``isoformat()`` method is read from what that gives. An int is UTC nanoseconds already.
    tz : str or tzinfo, optional
        Zone of a ``value`` that carries none: an IANA name in any case (``America/New_York``,
        ``us/eastern``), an offset (``-05:00``) or a ``tzinfo``, pytz's included. A ``value`` with
        its own offset keeps it.
    name : str
        What the caller calls the value, for messages.

    Returns
    -------
    int

    Raises
    ------
    NaiveDatetimeError
        No zone in ``value`` and no ``tz``.
    TimeRangeError
        A local time that the clocks skipped or passed twice, or an instant outside of int64.
    InputError
        Something that is not an instant, or an unknown zone.

    Examples
    --------
    >>> to_ns("2025-01-10T14:30:00.000000001Z")
    1736519400000000001
    >>> to_ns("2025-01-10 09:30", tz="America/New_York")
    1736519400000000000
    >>> to_ns("2025-01-10 09:30")
    Traceback (most recent call last):
        ...
    ibticks.errors.NaiveDatetimeError: start='2025-01-10 09:30' has no time zone; write its offset
    ('2025-01-10 09:30Z' is UTC), or say which zone is meant, as in tz='America/New_York'
    """
    if isinstance(value, str):
        ns = _from_text(value, tz, name)
    elif isinstance(value, datetime):  # pandas.Timestamp is one
        ns = _from_datetime(value, getattr(value, "nanosecond", 0), tz, name, value)
    elif isinstance(value, date):
        ns = start_of_day_ns(value, _zone_of_naive(value, tz, name))
    elif isinstance(value, np.datetime64):
        ns = _from_numpy(value, tz, name)
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        ns = _from_int(int(value), name)
    elif callable(isoformat := getattr(value, "isoformat", None)):
        ns = _from_text(str(isoformat()), tz, name)
    else:
        raise InputError(
            f"{name}={value!r} is not a time; give an ISO 8601 string such as "
            "'2025-01-10T14:30:00Z', a datetime, a date, a pandas Timestamp or a numpy datetime64",
            name=name,
        )
    if ns not in _INT64:
        raise TimeRangeError(
            f"{name}={value!r} lies outside of the years 1678 to 2261, which is what nanoseconds "
            "in 64 bits can count",
            name=name,
        )
    return ns


def format_ns(ns: int, tz: str | tzinfo | None = None) -> str:
    """The instant as ISO 8601, which :func:`to_ns` reads back.

    Parameters
    ----------
    ns : int
        UTC nanoseconds.
    tz : str or tzinfo, optional
        Zone to write it in, with its offset; UTC, written ``Z``, by default.

    Returns
    -------
    str
        With no fraction, or 3, 6 or 9 digits of it, as the instant needs.

    Examples
    --------
    >>> format_ns(1736519400000000001)
    '2025-01-10T14:30:00.000000001Z'
    >>> format_ns(1736519400000000000, "America/New_York")
    '2025-01-10T09:30:00-05:00'
    """
    local = from_ns(ns - ns % NANOSECONDS, UTC if tz is None else tz)
    text = local.isoformat()
    if tz is None:
        text = text.removesuffix("+00:00") + "Z"
    fraction = ns % NANOSECONDS
    if not fraction:
        return text
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text[:19]}.{digits}{text[19:]}"


def from_ns(ns: int, tz: str | tzinfo) -> datetime:
    """The instant as an aware ``datetime`` in that zone; what is below the microsecond is cut.

    Examples
    --------
    >>> from_ns(1736519400_000000000, "Asia/Tokyo").isoformat()
    '2025-01-10T23:30:00+09:00'
    """
    zone = find_timezone(tz)
    return (_EPOCH + timedelta(microseconds=ns // 1000)).astimezone(zone)


def start_of_day_ns(day: date, tz: str | tzinfo) -> int:
    """The first instant of a calendar day in a zone, in UTC nanoseconds.

    That is midnight; the first of two where the clocks go back over it, and the instant the
    clocks jump where they skip it.

    Examples
    --------
    >>> format_ns(start_of_day_ns(date(2018, 11, 4), "America/Sao_Paulo"), "America/Sao_Paulo")
    '2018-11-04T01:00:00-02:00'
    """
    # With fold 0 the offset is the one before the change, which is right in both cases.
    midnight = datetime(day.year, day.month, day.day, tzinfo=find_timezone(tz))
    return _utc_seconds(midnight) * NANOSECONDS


def _zone_of_naive(value: object, tz: str | tzinfo | None, name: str) -> tzinfo:
    if tz is not None:
        return find_timezone(tz)
    text = value if isinstance(value, str) else str(value)
    written = text if len(text) > _DATE_WIDTH else f"{text}T00:00"
    raise NaiveDatetimeError(
        f"{name}={text!r} has no time zone; write its offset ({written + 'Z'!r} is UTC), or say "
        "which zone is meant, as in tz='America/New_York'",
        name=name,
    )


def _from_text(text: str, tz: str | tzinfo | None, name: str) -> int:
    plain, fraction = text.strip(), 0
    if match := _FRACTION.fullmatch(plain):
        plain = match[1] + (match[3] or "")
        fraction = int(match[2].ljust(9, "0"))
    elif "." in plain or "," in plain:
        raise _unreadable(text, name)
    day_only = len(plain) <= _DATE_WIDTH
    try:
        parsed = date.fromisoformat(plain) if day_only else datetime.fromisoformat(plain)
    except ValueError:
        raise _unreadable(text, name) from None
    if isinstance(parsed, datetime):
        return _from_datetime(parsed, 0, tz, name, text) + fraction
    return start_of_day_ns(parsed, _zone_of_naive(text, tz, name))


def _unreadable(text: str, name: str) -> InputError:
    return InputError(
        f"{name}={text!r} cannot be read as a time; write ISO 8601, such as '2025-01-10', "
        "'2025-01-10 09:30' or '2025-01-10T14:30:00.123456789Z' (at most nine decimals)",
        name=name,
    )


def _from_datetime(
    value: datetime, nanosecond: int, tz: str | tzinfo | None, name: str, original: object
) -> int:
    if value != value:  # pandas.NaT is a datetime that equals nothing
        raise InputError(f"{name} is NaT, which is no time", name=name)
    if value.utcoffset() is None:
        zone = _zone_of_naive(original, tz, name)
        seconds = _utc_seconds(_place(value, zone, name))
    else:
        refuse_local_mean_time(value, name)
        seconds = _utc_seconds(value)
    return seconds * NANOSECONDS + value.microsecond * 1000 + nanosecond


def _utc_seconds(value: datetime) -> int:
    """Whole seconds since 1970 of an aware datetime; exact, where ``timestamp()`` is a float."""
    offset = value.utcoffset() or timedelta(0)
    seconds = (value.toordinal() - _EPOCH_ORDINAL) * _DAY_SECONDS
    seconds += value.hour * 3600 + value.minute * 60 + value.second
    return seconds - (offset.days * _DAY_SECONDS + offset.seconds)


def _place(naive: datetime, zone: tzinfo, name: str) -> datetime:
    """The naive local time in its zone, if it happened there exactly once."""
    first = datetime(*naive.timetuple()[:6], tzinfo=zone)
    second = first.replace(fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    # PEP 495: around a change of the clocks, fold 0 takes the offset before it, fold 1 after it.
    twice = first.utcoffset() > second.utcoffset()  # type: ignore[operator]
    choices = [
        datetime.fromtimestamp(_utc_seconds(value), UTC).astimezone(zone)
        for value in (first, second)
    ]
    one, other = (f"{choice.isoformat()} ({choice.tzname()})" for choice in choices)
    what = (
        "happened twice: the clocks went back"
        if twice
        else "did not happen: the clocks went forward"
    )
    raise TimeRangeError(
        f"{name}: {naive:%Y-%m-%d %H:%M:%S} in {zone} {what}; write {one} or {other}",
        name=name,
        choices=tuple(choice.isoformat() for choice in choices),
    )


def _from_numpy(value: np.datetime64, tz: str | tzinfo | None, name: str) -> int:
    if np.isnat(value):
        raise InputError(f"{name} is NaT, which is no time", name=name)
    unit = np.datetime_data(value.dtype)[0]
    if unit in {"Y", "M", "W", "D"}:
        day: Any = value.astype("datetime64[D]").item()
        return to_ns(day, tz=tz, name=name)
    nanoseconds = value.astype("datetime64[ns]")
    if nanoseconds.astype(value.dtype) != value:
        raise TimeRangeError(f"{name}={value} does not fit nanoseconds in 64 bits", name=name)
    seconds, rest = divmod(int(nanoseconds.astype(np.int64)), NANOSECONDS)
    naive = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    return _from_datetime(naive.replace(tzinfo=None), rest, tz, name, str(value))


def _from_int(value: int, name: str) -> int:
    if 0 < abs(value) < _SMALLEST_NS:
        raise InputError(
            f"{name}={value} as UTC nanoseconds is {format_ns(value)}; if seconds are meant, "
            "multiply by 1_000_000_000 (milliseconds by 1_000_000, microseconds by 1_000)",
            name=name,
        )
    return value
