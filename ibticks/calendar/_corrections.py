"""Days on which pandas_market_calendars (5.5) is wrong about futures, with sources.

On national days of mourning the share markets of the United States were closed and most futures
traded, some of them for a part of the day. The library has holidays in some of its calendars of
futures, and ordinary days in others.

The calendars without a product (``CME_TradeDate``, ``CMES``, ``ICEUS`` and their aliases) are the
superset of the open days of their products, in the words of the library's maintainer
(github.com/rsheftel/pandas_market_calendars/issues/119).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from typing import Final

__all__ = ["CORRECTIONS", "Correction", "corrections_of"]


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
