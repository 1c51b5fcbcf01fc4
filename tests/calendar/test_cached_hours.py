"""Hours of markets from the file that an earlier process left, without pandas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ibticks._disk_cache import read_cached, write_cached
from ibticks.calendar import MARKETS
from ibticks.calendar import _cached_hours as cached
from ibticks.calendar._hours import hours_of

ASK = """
import json, sys
from ibticks.calendar import market
session = market({market!r}).session("2024-11-29")
heavy = [name for name in ("pandas", "pandas_market_calendars") if name in sys.modules]
print(json.dumps([str(session), market({market!r}).timezone, heavy]))
"""


def asked(folder: Path, market: str = "US", setup: str = "") -> list[Any]:
    """Return a session, a time zone, and which heavy modules are loaded, in a new process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", setup + ASK.format(market=market)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
    )
    return json.loads(done.stdout)


LIBRARY = ["pandas", "pandas_market_calendars"]
US = ["<Session US regular 2024-11-29 09:30–13:00 EST, early close>", "America/New_York"]


@pytest.mark.parametrize("market", MARKETS)
def test_cached_hours_are_those_of_the_library(market: str) -> None:
    hours = hours_of(market)
    read = cached._parse(cached._format(hours))
    assert read.timezone == hours.timezone == cached._TIMEZONES[market]
    assert (read.first, read.last) == (hours.first, hours.last)
    assert (read.start_ns, read.end_ns) == (hours.start_ns, hours.end_ns)
    assert list(read.tables) == list(hours.tables)
    for session_type, table in hours.tables.items():
        for column in cached._COLUMNS:
            one, other = getattr(read.tables[session_type], column), getattr(table, column)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
            assert not one.flags.writeable


def test_only_the_first_process_imports_the_library(tmp_path: Path) -> None:
    assert asked(tmp_path) == [*US, LIBRARY]
    assert asked(tmp_path) == [*US, []]
    (path,) = tmp_path.glob("*/US.sessions")
    path.write_bytes(path.read_bytes()[:-1])
    assert asked(tmp_path) == [*US, LIBRARY]
    assert asked(tmp_path) == [*US, []]


def test_where_the_library_is_in_use_it_is_asked(tmp_path: Path) -> None:
    """A user may have given it calendars: they count, and are not kept for others."""
    assert asked(tmp_path, setup="import pandas_market_calendars\n") == [*US, LIBRARY]
    assert not list(tmp_path.glob("*/*.sessions"))


def test_without_a_folder_the_library_is_asked() -> None:
    assert asked(Path("/dev/null/nowhere")) == [*US, LIBRARY]


def test_other_versions_have_another_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = cached._stamp("America/New_York")
    assert stamp is not None
    assert stamp == cached._stamp("America/New_York")
    versions = cached._versions()
    assert any(name.startswith("pandas-") for name in versions)
    newer = [*versions[:-1], "tzdata-2099.1.dist-info"]
    monkeypatch.setattr(cached, "_versions", lambda: newer)
    assert cached._stamp("America/New_York") != stamp
    monkeypatch.setattr(cached, "_versions", list)
    assert cached._stamp("America/New_York") is None  # without versions, no stamp


def test_what_was_cached_is_used_with_its_stamp_only(tmp_path: Path) -> None:
    path = tmp_path / "US.sessions"
    write_cached(path, bytes(32), b"content")
    assert read_cached(path, bytes(32)) == b"content"
    assert read_cached(path, bytes([1] * 32)) is None
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_cached(path, bytes(32)) is None
    path.unlink()
    assert read_cached(path, bytes(32)) is None
    write_cached(tmp_path / "none" / "US.sessions", bytes(32), b"content")  # no such folder
