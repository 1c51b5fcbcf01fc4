"""The hours of the named markets, from a file that an earlier process left.

They come from pandas_market_calendars, which takes longer to import than ticks to load. Its
hours are stored beside this module as plain arrays, and used for as long as the versions of the
libraries, the sources of this room and the rules of the time zone are the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zoneinfo
from datetime import date
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks._disk_cache import cache_folders, hash_files, is_writable, read_cached, write_cached
from ibticks.calendar._sessions import Hours, SessionTable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["find_hours"]

_HERE: Final = Path(__file__).parent
_SOURCES: Final = tuple(
    _HERE / name for name in ("_hours.py", "_schedules.py", "_sessions.py", "_times.py")
)
_TIMEZONES: Final = {
    "US": "America/New_York",
    "UK": "Europe/London",
    "JP": "Asia/Tokyo",
    "CME": "America/Chicago",
}
_LIBRARY: Final = "pandas_market_calendars"
_DISTRIBUTIONS: Final = (
    _LIBRARY,
    "exchange_calendars",
    "numpy",
    "pandas",
    "python_dateutil",
    "pytz",
    "tzdata",
)
_COLUMNS: Final = ("days", "start_ns", "end_ns", "early", "break_start_ns", "break_end_ns")


@lru_cache(maxsize=64)
def find_hours(market: str) -> Hours:
    """Return the hours of ``US``, ``UK``, ``JP``, ``CME``, or of a calendar by its own name."""
    # A process that uses the library may have registered other calendars with it.
    is_cached = market in _TIMEZONES and _LIBRARY not in sys.modules
    stamp = _stamp(_TIMEZONES[market]) if is_cached else None
    paths = [folder / f"{market}.sessions" for folder in cache_folders(_HERE)]
    if stamp is not None:
        for path in paths:
            content = read_cached(path, stamp)
            if content is not None:
                return _parse(content)
    from ibticks.calendar._hours import hours_of

    hours = hours_of(market)
    target = next((path for path in paths if is_writable(path.parent)), None) if stamp else None
    if stamp is not None and target is not None:
        write_cached(target, stamp, _format(hours))
    return hours


def _stamp(timezone: str) -> bytes | None:
    """Return a hash of everything the hours depend on; None if that is not known."""
    versions = _versions()
    if not any(name.startswith(f"{_LIBRARY}-") for name in versions):
        return None
    total = hashlib.sha256(hash_files(_SOURCES))
    total.update("\n".join(versions).encode())
    for folder in zoneinfo.TZPATH:  # without a file there, the zone is that of tzdata
        path = Path(folder, timezone)
        if path.is_file():
            total.update(path.read_bytes())
            break
    return total.digest()


@cache
def _versions() -> list[str]:
    """Return names and versions of the libraries, as their ``dist-info`` folders are called."""
    folders = {folder for name in _DISTRIBUTIONS for folder in _site_folders(name)}
    prefixes = tuple(f"{name}-" for name in _DISTRIBUTIONS)
    return sorted(
        entry.name.lower()
        for folder in folders
        for entry in folder.iterdir()
        if entry.name.lower().startswith(prefixes)
    )


def _site_folders(distribution: str) -> Iterator[Path]:
    spec = find_spec(distribution.removeprefix("python_"))
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parents[1]


def _format(hours: Hours) -> bytes:
    arrays = {
        session_type: [getattr(table, column) for column in _COLUMNS]
        for session_type, table in hours.tables.items()
    }
    about = {
        "timezone": hours.timezone,
        "days": [hours.first.isoformat(), hours.last.isoformat()],
        "range": [hours.start_ns, hours.end_ns],
        "tables": {
            name: [[array.dtype.str, len(array)] for array in table]
            for name, table in arrays.items()
        },
    }
    text = json.dumps(about).encode()
    text += b" " * (-(len(text) + 8) % 8)  # what follows is aligned
    raw = [array.tobytes() for table in arrays.values() for array in table]
    padded = [part + bytes(-len(part) % 8) for part in raw]
    return b"".join([len(text).to_bytes(8, "little"), text, *padded])


def _parse(content: bytes) -> Hours:
    place = 8 + int.from_bytes(content[:8], "little")
    about = json.loads(content[8:place])
    tables = {}
    for session_type, columns in about["tables"].items():
        arrays: list[Any] = []
        for dtype, rows in columns:
            # Of read-only memory: tables are shared by everyone who asks for the market.
            array = np.frombuffer(content, dtype=dtype, count=rows, offset=place)
            arrays.append(array)
            place += array.nbytes + -array.nbytes % 8
        tables[session_type] = SessionTable(*arrays)
    first, last = map(date.fromisoformat, about["days"])
    start_ns, end_ns = about["range"]
    return Hours(about["timezone"], first, last, start_ns, end_ns, tables)
