"""Time zones by the names that users write: IANA names in any case, offsets, objects.

Calendar and frames resolve zones here, so that every function that takes ``tz=`` reads it alike.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, available_timezones

from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["close_matches", "find_timezone", "fixed_offset", "refuse_local_mean_time"]

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
