"""Heavy libraries load when the hours of a market are computed, and not before."""

from __future__ import annotations

import subprocess
import sys

import ibticks.calendar


def test_instants_and_periods_need_no_pandas() -> None:
    code = (
        "import sys\n"
        "from ibticks.calendar import market, parse_duration, to_ns\n"
        "to_ns('2025-01-10 09:30', tz='America/New_York'), parse_duration('1h'), market('US')\n"
        "heavy = {'pandas', 'pandas_market_calendars', 'exchange_calendars', 'polars', 'pytz'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


def test_every_public_name_is_there() -> None:
    assert ibticks.calendar.__all__ == sorted(ibticks.calendar.__all__, key=_as_ruff_sorts)
    for name in ibticks.calendar.__all__:
        assert getattr(ibticks.calendar, name) is not None
        assert name in dir(ibticks.calendar)


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
