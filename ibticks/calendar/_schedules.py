"""Schedules of pandas_market_calendars as plain arrays, and corrections with their sources."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pandas_market_calendars as pmc

from ibticks.calendar._times import find_timezone
from ibticks.errors import UnknownMarketError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = [
    "CORRECTIONS",
    "FIRST",
    "LAST",
    "Correction",
    "Schedule",
    "calendar_names",
    "calendar_years",
    "corrections_of",
    "read_schedule",
    "wall",
]

FIRST: Final = date(2000, 1, 1)
LAST: Final = date(2049, 12, 31)
"""The days any calendar is asked for. Holidays that no exchange has announced yet follow the rules
of today; several lunar and Islamic calendars of the library end with 2049."""
# Holidays of these are listed year by year, or guessed past the list, and nothing in the library
# says where the list ends: it is read from the list.
_LISTED_BY_YEAR: Final = frozenset({"BSE", "XBOM", "NSE", "XNSE", "SSE", "TASE", "XBKK", "XKAR"})
_REFUSED: Final = {
    # Its rules have neither New Year's Day nor Labor Day (seen in 5.5.0).
    "IEX": "it lacks holidays; the US market has them",
    "Investors_Exchange": "it lacks holidays; the US market has them",
}
# Trading was called off for a typhoon and for black rain; the library's other calendar of the
# exchange, HKEX, has these two.
_CLOSED: Final = {"XHKG": pd.DatetimeIndex(["2023-09-01", "2023-09-08"])}
# Opening at 17:00 of the day before, its row for a Sunday would begin on Saturday afternoon.
_NO_SUNDAYS: Final = frozenset({"FOREX", "FX", "Forex"})


@dataclass(frozen=True, slots=True)
class Correction:
    """The true hours of some calendars on one day.

    Attributes
    ----------
    day : datetime.date
    calendars : tuple of str
    is_open : bool
        Whether there was a session.
    close : datetime.time or None
        The close by the clock of the calendar, if it was earlier than usual.
    source : str
        Who says so, and where.
    """

    day: date
    calendars: tuple[str, ...]
    is_open: bool
    close: time | None
    source: str


_AGRICULTURE: Final = (
    "CME_Agriculture",
    "CBOT_Agriculture",
    "COMEX_Agriculture",
    "NYMEX_Agriculture",
)
_GRAINS: Final = ("CMEGlobex_Grains", "CMEGlobex_Oilseeds")
_LIVESTOCK: Final = (
    "CMEGlobex_Livestock",
    "CMEGlobex_Live_Cattle",
    "CMEGlobex_Feeder_Cattle",
    "CMEGlobex_Lean_Hog",
    "CMEGlobex_Port_Cutout",
)
_CME_RATES: Final = ("CME_Rate", "CME_InterestRate", "CME_Bond")
_CBOT_RATES: Final = ("CBOT_Rate", "CBOT_InterestRate", "CBOT_Bond")
_GLOBEX_RATES: Final = ("CME Globex Fixed Income", "CME Globex Interest Rate Products")
_EQUITY: Final = ("CME Globex Equity",)  # read since 2012, for the market CME
_FX: Final = ("CMEGlobex_FX", "CME_FX", "CME_Currency")
_CME_AT_ALL: Final = ("CME_TradeDate", "CMES")
_ICE: Final = ("ICE", "ICEUS", "NYFE", "IEPA")

_CARTER: Final = date(2025, 1, 9)
_CME_2024: Final = (
    "CME Group, 2024-12-30, 'CME Group Announces Trading Hours for U.S. National Day of Mourning': "
    "equity open until 8:30 a.m. CT, interest rates and agriculture until 12:15 p.m. CT, all "
    "others normal"
)
_BUSH: Final = date(2018, 12, 5)
_CME_2018: Final = (
    "CME Group, 2018-12-02, 'CME Group U.S. Equity, Interest Rate Markets to Close for National "
    "Day of Mourning': equity closes at 8:30 a.m. CT, interest rates do not open, others regular"
)
_FORD: Final = date(2007, 1, 2)
_CNBC_2007: Final = (
    "CNBC, 'Most U.S. Markets Will Be Closed Tuesday for Ford's Funeral': CME commodity and equity "
    "closed; CME foreign exchange and interest rates close at 1 p.m. New York time, electronic "
    "interest rates of the CBOT at 1:15 p.m."
)
_REAGAN: Final = date(2004, 6, 11)
_CME_2004: Final = (
    "Chicago Mercantile Exchange, 2004-06-09, 'Chicago Mercantile Exchange Rescinds Extended June "
    "10 Floor Trading Session': floors closed on June 11, GLOBEX markets close at 8 a.m."
)

CORRECTIONS: Final[tuple[Correction, ...]] = (
    Correction(_CARTER, (*_AGRICULTURE, *_GRAINS, *_LIVESTOCK), True, time(12, 15), _CME_2024),
    Correction(_CARTER, (*_CME_RATES, *_CBOT_RATES, *_GLOBEX_RATES), True, time(12, 15), _CME_2024),
    Correction(_CARTER, _EQUITY, True, time(8, 30), _CME_2024),
    Correction(_CARTER, _CME_AT_ALL, True, None, _CME_2024),
    Correction(
        _CARTER,
        _ICE,
        True,
        None,
        "SIFMA, 'Unscheduled Close: Market Matrix', January 2025: ICE has an early close in some "
        "products only",
    ),
    Correction(_BUSH, _AGRICULTURE, True, None, _CME_2018),
    Correction(_BUSH, _EQUITY, True, time(8, 30), _CME_2018),
    Correction(_BUSH, _GLOBEX_RATES, False, None, _CME_2018),
    Correction(_BUSH, _CME_AT_ALL, True, None, _CME_2018),
    Correction(
        _BUSH,
        _ICE,
        True,
        None,
        "github.com/rsheftel/pandas_market_calendars/issues/57: ICE US was open for commodities",
    ),
    Correction(_FORD, (*_CME_RATES, *_GLOBEX_RATES, *_FX), True, time(12, 0), _CNBC_2007),
    Correction(_FORD, _CBOT_RATES, True, time(12, 15), _CNBC_2007),
    Correction(_FORD, _LIVESTOCK, False, None, _CNBC_2007),
    Correction(
        _REAGAN,
        (*_CME_RATES, *_GLOBEX_RATES, *_FX),
        True,
        time(8, 0),
        _CME_2004,
    ),
    Correction(_REAGAN, _LIVESTOCK, False, None, _CME_2004),
)
"""Every correction there is."""


def corrections_of(name: str) -> tuple[Correction, ...]:
    """Return the corrections of a calendar.

    Examples
    --------
    >>> [(f"{each.day}", f"{each.close}") for each in corrections_of("CBOT_Agriculture")]
    [('2025-01-09', '12:15:00'), ('2018-12-05', 'None')]
    """
    return tuple(correction for correction in CORRECTIONS if name in correction.calendars)


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """The trading days of a calendar and their market times.

    Attributes
    ----------
    timezone : str
    days : numpy.ndarray
        Shape ``(days,)``, ``datetime64[D]``.
    times : dict of str to numpy.ndarray
        For ``market_open`` and ``market_close``, and for ``break_start``, ``break_end``, ``pre``
        and ``post`` where the calendar has them: shape ``(days,)``, int64, UTC nanoseconds.
    early : numpy.ndarray
        Shape ``(days,)``, bool: whether the close is earlier than on other days.
    """

    timezone: str
    days: npt.NDArray[np.datetime64]
    times: dict[str, npt.NDArray[np.int64]]
    early: npt.NDArray[np.bool_]


@lru_cache(maxsize=1)
def calendar_names() -> tuple[str, ...]:
    """The names pandas_market_calendars knows, without those it is wrong about."""
    return tuple(name for name in pmc.get_calendar_names() if name not in _REFUSED)


def calendar_years(name: str) -> tuple[date, date]:
    """First and last day, within :data:`FIRST` and :data:`LAST`, that a calendar has data for."""
    calendar = _calendar(name)
    first, last = FIRST, LAST
    mirrored = getattr(type(calendar), "_ec_class", None)  # those of exchange_calendars
    if mirrored is not None:
        bound_min, bound_max = mirrored.bound_min(), mirrored.bound_max()
        first = first if bound_min is None else max(first, bound_min.date())
        last = last if bound_max is None else min(last, bound_max.date())
    if name in _LISTED_BY_YEAR:
        years = [pd.Timestamp(day).year for day in calendar.adhoc_holidays]
        first = max(first, date(min(years), 1, 1))
        last = min(last, date(max(years), 12, 31))
    return first, last


def read_schedule(name: str, first: date, last: date) -> Schedule:
    """The schedule of a calendar from one day to another, both included.

    Raises
    ------
    UnknownMarketError
        A calendar without an opening or closing time, one known to be wrong, or one that fails.
    """
    calendar = _calendar(name)
    remaining = [
        market_time
        for market_time in calendar.market_times
        if market_time in calendar.open_close_map
    ]
    if not {"market_open", "market_close"} <= set(remaining):
        raise UnknownMarketError(f"calendar {name!r} has no opening and closing time", market=name)
    try:
        with _quiet():
            frame = calendar.schedule(first, last, market_times=remaining)
            shorter = calendar.is_different(frame["market_close"], pd.Series.lt)
    except Exception as error:
        # Some of its calendars break with some versions of pandas: ASEX with pandas 3.
        raise UnknownMarketError(
            f"calendar {name!r} of pandas_market_calendars fails with pandas {pd.__version__}: "
            f"{error!r}",
            market=name,
        ) from error
    early = shorter.to_numpy(dtype=np.bool_)
    current = ~frame.index.isin(_CLOSED.get(name, []))
    if name in _NO_SUNDAYS:
        current &= frame.index.day_of_week != 6
    frame, early = frame[current], early[current]
    schedule = Schedule(
        timezone=str(calendar.tz),
        days=frame.index.to_numpy().astype("datetime64[D]"),
        times={value: _nanoseconds(pd.DatetimeIndex(frame[value])) for value in remaining},
        early=early,
    )
    for correction in corrections_of(name):
        if first <= correction.day <= last:
            schedule = _corrected(schedule, correction)
    return schedule


def _corrected(schedule: Schedule, correction: Correction) -> Schedule:
    """The schedule with the true hours of one day, which begin as on the ordinary day before."""
    day = np.datetime64(correction.day, "D")
    place = int(np.searchsorted(schedule.days, day))
    rest = schedule.days != day
    ordinary = np.flatnonzero(~schedule.early & (schedule.days < day))
    if not correction.is_open or not len(ordinary):
        return Schedule(
            schedule.timezone,
            schedule.days[rest],
            {name: values[rest] for name, values in schedule.times.items()},
            schedule.early[rest],
        )
    model = ordinary[-1]
    zone = find_timezone(schedule.timezone)
    close_ns = None
    if correction.close is not None:
        at = correction.close
        close_ns = int(wall(np.array([day]), at.hour, at.minute, timezone=schedule.timezone)[0])
    times = {}
    for name, values in schedule.times.items():
        # The same time of day, by the wall: the clocks may have been changed since.
        local = pd.Timestamp(int(values[model]), tz="UTC").tz_convert(zone).tz_localize(None)
        moved = local + pd.Timedelta(day - schedule.days[model])
        value = moved.tz_localize(zone).as_unit("ns").value
        if close_ns is not None:
            value = close_ns if name == "market_close" else min(value, close_ns)
        times[name] = np.insert(values[rest], place, value)
    return Schedule(
        schedule.timezone,
        np.insert(schedule.days[rest], place, day),
        times,
        np.insert(schedule.early[rest], place, close_ns is not None),
    )


def wall(
    days: npt.NDArray[np.datetime64], hour: int, minute: int = 0, *, timezone: str, shift: int = 0
) -> npt.NDArray[np.int64]:
    """That time of day, local to the zone, on every day or ``shift`` days after it.

    Returns
    -------
    numpy.ndarray
        Shape ``(days,)``, int64, UTC nanoseconds.
    """
    minutes = np.timedelta64((shift * 24 + hour) * 60 + minute, "m")
    return _nanoseconds(pd.DatetimeIndex(days.astype("datetime64[ns]") + minutes), timezone)


def _nanoseconds(index: pd.DatetimeIndex, timezone: str | None = None) -> npt.NDArray[np.int64]:
    # A zone, not its name: pandas 2 would take pytz's, which has no summer time after 2037.
    placed = index if timezone is None else index.tz_localize(find_timezone(timezone))
    return placed.as_unit("ns").asi8


@lru_cache(maxsize=32)
def _calendar(name: str) -> Any:
    if name in _REFUSED:
        raise UnknownMarketError(
            f"calendar {name!r} of pandas_market_calendars is not used: {_REFUSED[name]}",
            market=name,
        )
    with _quiet():
        calendar = pmc.get_calendar(name)
        for market_time in list(calendar.discontinued_market_times):
            calendar.remove_time(market_time)
    return calendar


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings that only the library can heed.

    It uses what pandas has deprecated, and speaks of lunch breaks that ended long ago, which
    are taken out here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", message=r"(?s).*are discontinued")
        yield
