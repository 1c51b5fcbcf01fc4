"""The hours of each market: what each session type means, since when, and who says so.

Trading days, holidays and the opens and closes of the exchanges come from pandas_market_calendars;
the sessions around them, and what that library has wrong, are here.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pandas as pd
from pandas.tseries.holiday import GoodFriday

from ibticks.calendar._schedules import (
    FIRST,
    LAST,
    Schedule,
    calendar_years,
    read_schedule,
    wall,
)
from ibticks.calendar._sessions import Hours, SessionTable, sorted_table
from ibticks.calendar._times import start_of_day_ns
from ibticks.errors import UnknownMarketError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["cme_hours", "hours_of", "jp_hours", "listed_hours", "uk_hours", "us_hours"]

Tables: TypeAlias = dict[str, SessionTable]

_NEW_YORK: Final = "America/New_York"
_LONDON: Final = "Europe/London"
_TOKYO: Final = "Asia/Tokyo"
_CHICAGO: Final = "America/Chicago"


def hours_of(market: str) -> Hours:
    """The hours of ``US``, ``UK``, ``JP``, ``CME``, or of a calendar by its own name."""
    if market in _OWN:
        timezone, first, build = _OWN[market]
        return _hours(timezone, first, LAST, build(first, LAST))
    return listed_hours(market)


def _hours(timezone: str, first: date, last: date, tables: Tables) -> Hours:
    start_ns = start_of_day_ns(first, timezone)
    end_ns = start_of_day_ns(last + timedelta(days=1), timezone)
    return Hours(timezone, first, last, start_ns, end_ns, tables)


def us_hours(first: date, last: date) -> Tables:
    """US shares (NYSE, Nasdaq), New York time.

    - ``pre_market``: 04:00 to the open. NYSE Arca's early session and Nasdaq's pre-market.
    - ``regular``: the open (09:30) to the close (16:00; 13:00 on days of early close).
    - ``after_hours``: the close to 20:00; to 17:00 when the close is at 13:00 (Nasdaq's notice
      ETA2019-93: extended session to 5:00 p.m. on early closes, to 8:00 p.m. otherwise).
    - ``extended``: all three, 04:00 to the end of after-hours.
    - ``overnight``: 20:00 of the evening before to 03:50, dated by the day it ends, which must be
      a trading day. IB's own overnight session: "from 8:00 pm to 3:50 am ET, with the first
      session beginning on Sunday at 8:00 pm ET and the last session ending at 3:50 am on Friday.
      Trades executed between 8:00 pm and 12:00 am carry a trade date of the following day"
      (interactivebrokers.co.uk/de/trading/etf-overnight-trading.php). It is a recent offer; for
      older dates the name means the same hours.

    Known from 2000 on.

    Parameters
    ----------
    first, last : datetime.date

    Returns
    -------
    dict of str to SessionTable
    """
    nyse = read_schedule("NYSE", first, last)
    days, opens, closes = nyse.days, nyse.times["market_open"], nyse.times["market_close"]
    # The library's own pre and post are not used: on days of a late open (2001-09-17, 2002-09-11,
    # ...) it moves 04:00 to the open, and before 5.4 it moved 20:00 to an early close
    # (github.com/rsheftel/pandas_market_calendars/issues/387).
    pre = wall(days, 4, timezone=_NEW_YORK)
    half = closes <= wall(days, 13, timezone=_NEW_YORK)
    post = np.where(half, wall(days, 17, timezone=_NEW_YORK), wall(days, 20, timezone=_NEW_YORK))
    return {
        "pre_market": sorted_table(days, pre, opens),
        "regular": sorted_table(days, opens, closes, nyse.early),
        "after_hours": sorted_table(days, closes, post, half),
        "extended": sorted_table(days, pre, post, half),
        "overnight": sorted_table(
            days,
            wall(days, 20, timezone=_NEW_YORK, shift=-1),
            wall(days, 3, 50, timezone=_NEW_YORK),
        ),
    }


def uk_hours(first: date, last: date) -> Tables:
    """Shares on the London Stock Exchange, London time.

    - ``regular``: continuous trading, 08:00 to 16:30; to 12:30 on the last trading day before
      Christmas and before New Year's Day.
    - ``extended``: 07:00 to an hour after the close (17:30; 13:30 on half days), which holds the
      opening auction (from 07:50), the closing auction (to 16:35) and the trade reporting that
      ends 45 minutes after the close. The Exchange's Christmas and New Year arrangements of
      2007/2008 (close 12:30, trade reports to 13:15, news from 07:00 to 13:30) have the half days.

    Known from 2000 on.

    Parameters
    ----------
    first, last : datetime.date

    Returns
    -------
    dict of str to SessionTable
    """
    lse = read_schedule("LSE", first, last)
    opens, closes = lse.times["market_open"], lse.times["market_close"]
    return {
        "regular": sorted_table(lse.days, opens, closes, lse.early),
        "extended": sorted_table(
            lse.days, wall(lse.days, 7, timezone=_LONDON), closes + _HOUR, lse.early
        ),
    }


def jp_hours(first: date, last: date) -> Tables:
    """Shares on the Tokyo Stock Exchange, Tokyo time.

    - ``morning``: 09:00 to 11:30.
    - ``afternoon``: 12:30 to the close: 15:00, and 15:30 from 2024-11-05 on (the Exchange's
      arrowhead 4.0; nippon.com/en/news/yjj2024110500956).
    - ``regular``: 09:00 to the close, the lunch break inside it.

    Known from 2011-11-21 on: until then the morning ended at 11:00, and in earlier years the first
    and last trading days were half days, which the library does not know. 2020-10-01, when the
    exchange could not open for a failure of its system, has no session.

    Parameters
    ----------
    first, last : datetime.date

    Returns
    -------
    dict of str to SessionTable
    """
    jpx = read_schedule("JPX", first, last)
    return _with_lunch(jpx)


def cme_hours(first: date, last: date) -> Tables:
    """Equity index futures on CME Globex (ES, NQ, MES, MNQ, ...), Chicago time.

    - ``globex``: 17:00 of the evening before to 16:00, Sunday evening to Friday; the daily
      maintenance from 16:00 to 17:00 lies between two sessions. To 16:15 before 2015-09-21
      (ninjatrader.com/Advisories/Advisory25). Before 2021-06-28 trading paused from 15:15 to
      15:30, which is a break in the session
      (cmegroup.com/notices/electronic-trading/2021/06/20210621.html).
    - ``regular``: 08:30 to 15:00, to 12:00 on half days, when the shares trade in New York: what
      CME's rules on price limits call U.S. trading hours, up to "the 3:00 p.m. CT close of the
      cash equity market"
      (cmegroup.com/trading/equity-index/faq-us-based-equity-index-price-limits.html). There is
      none on days when New York is closed.

    A session is dated by the day it ends. On US holidays Globex halts at 12:00 (10:30 until
    February 2014) and opens again at 17:00: that is a ``globex`` session of its own with an early
    close, though CME books its trades under the next trade date. On 3 July, the day after
    Thanksgiving and Christmas Eve it closes at 12:15.

    Known from 2012-11-19 on, when CME gave Globex this day: until then it began at 15:30 and was
    interrupted from 16:30 to 17:00.

    Parameters
    ----------
    first, last : datetime.date

    Returns
    -------
    dict of str to SessionTable
    """
    globex = read_schedule("CME Globex Equity", first, last)
    days = globex.days[~_closed_good_friday(globex.days)]
    modern = days >= np.datetime64("2015-09-21")
    usual = np.where(
        modern, wall(days, 16, timezone=_CHICAGO), wall(days, 16, 15, timezone=_CHICAGO)
    )
    closes = usual.copy()
    short = globex.early & np.isin(globex.days, days)
    closes[np.isin(days, globex.days[short])] = globex.times["market_close"][short]
    early = closes < usual
    paused = (days < np.datetime64("2021-06-28")) & ~early
    pause = wall(days, 15, 15, timezone=_CHICAGO)
    pause_end = np.where(paused, wall(days, 15, 30, timezone=_CHICAGO), pause)
    nyse = read_schedule("NYSE", first, last)
    return {
        "regular": sorted_table(
            nyse.days, nyse.times["market_open"], nyse.times["market_close"], nyse.early
        ),
        "globex": sorted_table(
            days,
            wall(days, 17, timezone=_CHICAGO, shift=-1),
            closes,
            early,
            (pause, pause_end),
        ),
    }


_HOUR: Final = 3_600_000_000_000


def _closed_good_friday(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.bool_]:
    """Good Fridays on which Globex does not open.

    It opens, until 08:15, only when the US employment report comes out that morning, the first
    Friday of a month: 2015, 2021, 2023, 2026. The library opens it on every Good Friday from 2023
    on, but it was closed on 2024-03-29 and 2025-04-18 (the library's own calendar of CME's bonds
    has them closed; so had the press).
    """
    good_fridays = GoodFriday.dates(pd.Timestamp(days[0]), pd.Timestamp(days[-1]))
    closed = good_fridays[good_fridays.day > 7].to_numpy().astype("datetime64[D]")
    return np.isin(days, closed)


def _with_lunch(schedule: Schedule) -> Tables:
    days, times = schedule.days, schedule.times
    opens, closes = times["market_open"], times["market_close"]
    lunch, lunch_end = times["break_start"], times["break_end"]
    tables = {"regular": sorted_table(days, opens, closes, schedule.early, (lunch, lunch_end))}
    # Some futures pause before their day session; only a break at noon parts a day in two.
    noon = wall(days, 12, timezone=schedule.timezone)
    if (abs(lunch - noon) <= _HOUR).all():
        tables["morning"] = sorted_table(days, opens, lunch)
        tables["afternoon"] = sorted_table(days, lunch_end, closes, schedule.early)
    return tables


def listed_hours(name: str) -> Hours:
    """A calendar of pandas_market_calendars, with the days in :mod:`ibticks.calendar`.

    Its other mistakes are included. Users have reported wrong early closes of its CME calendars
    other than equity, for example (github.com/rsheftel/pandas_market_calendars/issues, 464).

    - ``regular``: its open to its close, with its break, if it has one, inside.
    - ``morning``, ``afternoon``: before and after that break.
    - ``pre_market``, ``after_hours``, ``extended``: where it has a ``pre`` and a ``post``.
    """
    first, last = calendar_years(name)
    schedule = read_schedule(name, first, last)
    days, times = schedule.days, schedule.times
    opens, closes = times["market_open"], times["market_close"]
    try:
        if {"break_start", "break_end"} <= times.keys():
            tables = _with_lunch(schedule)
        else:
            tables = {"regular": sorted_table(days, opens, closes, schedule.early)}
        if {"pre", "post"} <= times.keys():
            tables["pre_market"] = sorted_table(days, times["pre"], opens)
            tables["after_hours"] = sorted_table(days, closes, times["post"], schedule.early)
            tables["extended"] = sorted_table(days, times["pre"], times["post"], schedule.early)
    except ValueError as error:
        raise UnknownMarketError(
            f"calendar {name!r} of pandas_market_calendars cannot be used: {error}", market=name
        ) from error
    return _hours(schedule.timezone, first, last, {k: t for k, t in tables.items() if len(t)})


_OWN: Final[dict[str, tuple[str, date, Callable[[date, date], Tables]]]] = {
    "US": (_NEW_YORK, FIRST, us_hours),
    "UK": (_LONDON, FIRST, uk_hours),
    "JP": (_TOKYO, date(2011, 11, 21), jp_hours),
    "CME": (_CHICAGO, date(2012, 11, 19), cme_hours),
}
