"""Published hours, holidays and early closes, checked one by one."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from ibticks.calendar import format_ns, market
from ibticks.errors import NoSessionError


def utc(name: str, day: str, session_type: str = "regular") -> tuple[str, str]:
    """Start and end as ``HH:MM`` in UTC, with the day in front where it is another one."""
    session = market(name).session(day, session_type)
    shown = [format_ns(ns)[:16].replace("T", " ") for ns in (session.start_ns, session.end_ns)]
    start, end = (text.removeprefix(day).strip() for text in shown)
    return start, end


def local(name: str, day: str, session_type: str) -> str:
    return market(name).session(day, session_type).hours


def closed_weekdays(name: str, year: int, session_type: str = "regular") -> list[str]:
    days = {
        session.date
        for session in market(name).sessions(f"{year}-01-01", f"{year}-12-31", session_type)
    }
    every = (date(year, 1, 1) + timedelta(days=n) for n in range(366))
    return [
        f"{day:%m-%d}"
        for day in every
        if day.year == year and day.weekday() < 5 and day not in days
    ]


def early_closes(name: str, year: int, session_type: str = "regular") -> dict[str, str]:
    sessions = market(name).sessions(f"{year}-01-01", f"{year}-12-31", session_type)
    return {
        f"{session.date:%m-%d}": f"{session.end:%H:%M}"
        for session in sessions
        if session.early_close
    }


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("US", "2013-10-08", ("13:30", "20:00")),
        # New York puts its clocks forward on 2025-03-09 and back on 2024-11-03 and 2025-11-02.
        ("US", "2024-11-01", ("13:30", "20:00")),
        ("US", "2024-11-04", ("14:30", "21:00")),
        ("US", "2025-03-07", ("14:30", "21:00")),
        ("US", "2025-03-10", ("13:30", "20:00")),
        ("US", "2025-10-31", ("13:30", "20:00")),
        ("US", "2025-11-03", ("14:30", "21:00")),
        ("US", "2045-07-05", ("13:30", "20:00")),
        # London does so on 2025-03-30, 2024-10-27 and 2025-10-26.
        ("UK", "2024-10-25", ("07:00", "15:30")),
        ("UK", "2024-10-28", ("08:00", "16:30")),
        ("UK", "2025-03-28", ("08:00", "16:30")),
        ("UK", "2025-03-31", ("07:00", "15:30")),
        ("UK", "2025-10-24", ("07:00", "15:30")),
        ("UK", "2025-10-27", ("08:00", "16:30")),
        ("JP", "2024-11-01", ("00:00", "06:00")),
        ("JP", "2024-11-05", ("00:00", "06:30")),
        ("CME", "2025-03-07", ("14:30", "21:00")),
        ("CME", "2025-03-10", ("13:30", "20:00")),
    ],
)
def test_regular_hours_in_utc(name: str, day: str, hours: tuple[str, str]) -> None:
    assert utc(name, day) == hours


@pytest.mark.parametrize(
    ("session_type", "hours"),
    [
        ("pre_market", "04:00–09:30 EST"),
        ("regular", "09:30–13:00 EST"),
        ("after_hours", "13:00–17:00 EST"),
        ("extended", "04:00–17:00 EST"),
        ("overnight", "Thu 20:00–03:50 EST"),
    ],
)
def test_us_day_after_thanksgiving(session_type: str, hours: str) -> None:
    assert local("US", "2024-11-29", session_type) == hours
    assert market("US").session("2024-11-29", session_type).early_close == (
        session_type in {"regular", "after_hours", "extended"}
    )


@pytest.mark.parametrize(
    ("session_type", "hours"),
    [
        ("pre_market", ("08:00", "13:30")),
        ("regular", ("13:30", "20:00")),
        ("after_hours", ("20:00", "2025-03-11 00:00")),
        ("extended", ("08:00", "2025-03-11 00:00")),
        ("overnight", ("00:00", "07:50")),
    ],
)
def test_us_monday_after_the_clocks_went_forward(session_type: str, hours: tuple[str, str]) -> None:
    assert utc("US", "2025-03-10", session_type) == hours


def test_us_overnight_begins_on_sunday_and_ends_on_friday() -> None:
    week = market("US").sessions("2025-01-11", "2025-01-17", "overnight")
    assert [f"{value.start:%a}-{value.end:%a}" for value in week] == [
        "Sun-Mon",
        "Mon-Tue",
        "Tue-Wed",
        "Wed-Thu",
        "Thu-Fri",
    ]


def test_us_overnight_needs_a_trading_day_to_end_on() -> None:
    with pytest.raises(NoSessionError):
        market("US").session("2025-01-20", "overnight")  # Martin Luther King Day
    assert local("US", "2025-01-21", "overnight") == "Mon 20:00–03:50 EST"


@pytest.mark.parametrize(
    ("year", "closed"),
    [
        # NYSE: 2012 with Hurricane Sandy, 2018 with a day of mourning, and as announced.
        (
            2012,
            "01-02 01-16 02-20 04-06 05-28 07-04 09-03 10-29 10-30 11-22 12-25",
        ),
        (2018, "01-01 01-15 02-19 03-30 05-28 07-04 09-03 11-22 12-05 12-25"),
        (2021, "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24"),
        (2022, "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26"),
        (2024, "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25"),
        (2025, "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25"),
        (2026, "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25"),
    ],
)
def test_us_holidays(year: int, closed: str) -> None:
    assert closed_weekdays("US", year) == closed.split()
    assert closed_weekdays("US", year, "after_hours") == closed.split()


@pytest.mark.parametrize(
    ("year", "days"),
    [
        (2013, ["07-03", "11-29", "12-24"]),
        (2021, ["11-26"]),
        (2023, ["07-03", "11-24"]),
        (2024, ["07-03", "11-29", "12-24"]),
        (2025, ["07-03", "11-28", "12-24"]),
        (2026, ["11-27", "12-24"]),
    ],
)
def test_us_early_closes(year: int, days: list[str]) -> None:
    assert early_closes("US", year) == dict.fromkeys(days, "13:00")
    assert early_closes("US", year, "after_hours") == dict.fromkeys(days, "17:00")
    assert early_closes("CME", year) == dict.fromkeys(days, "12:00")


def test_us_late_open_leaves_the_pre_market() -> None:
    # A year after 2001-09-11, New York opened at noon.
    assert local("US", "2002-09-11", "pre_market") == "04:00–12:00 EDT"
    assert local("US", "2002-09-11", "regular") == "12:00–16:00 EDT"
    assert local("US", "2002-09-11", "after_hours") == "16:00–20:00 EDT"


@pytest.mark.parametrize(
    ("year", "closed"),
    [
        (2022, "01-03 04-15 04-18 05-02 06-02 06-03 08-29 09-19 12-26 12-27"),
        (2023, "01-02 04-07 04-10 05-01 05-08 05-29 08-28 12-25 12-26"),
        (2025, "01-01 04-18 04-21 05-05 05-26 08-25 12-25 12-26"),
    ],
)
def test_uk_holidays(year: int, closed: str) -> None:
    assert closed_weekdays("UK", year) == closed.split()


@pytest.mark.parametrize(
    ("year", "days"),
    [(2007, ["12-24", "12-31"]), (2022, ["12-23", "12-30"]), (2024, ["12-24", "12-31"])],
)
def test_uk_half_days(year: int, days: list[str]) -> None:
    assert early_closes("UK", year) == dict.fromkeys(days, "12:30")
    assert early_closes("UK", year, "extended") == dict.fromkeys(days, "13:30")


def test_uk_extended_hours() -> None:
    assert local("UK", "2025-07-01", "extended") == "07:00–17:30 BST"


@pytest.mark.parametrize(
    ("day", "morning", "afternoon", "regular"),
    [
        ("2011-11-21", "09:00–11:30 JST", "12:30–15:00 JST", "09:00–15:00 JST"),
        ("2024-11-01", "09:00–11:30 JST", "12:30–15:00 JST", "09:00–15:00 JST"),
        ("2024-11-05", "09:00–11:30 JST", "12:30–15:30 JST", "09:00–15:30 JST"),
        ("2024-12-30", "09:00–11:30 JST", "12:30–15:30 JST", "09:00–15:30 JST"),
    ],
)
def test_jp_hours(day: str, morning: str, afternoon: str, regular: str) -> None:
    shown = [local("JP", day, value) for value in ("morning", "afternoon", "regular")]
    assert shown == [morning, afternoon, regular]
    assert early_closes("JP", 2024) == {}


@pytest.mark.parametrize(
    ("year", "closed"),
    [
        (
            # The new emperor, and ten days off.
            2019,
            (
                "01-01 01-02 01-03 01-14 02-11 03-21 04-29 04-30 05-01 05-02 05-03 05-06 "
                "07-15 08-12 09-16 09-23 10-14 10-22 11-04 12-31"
            ),
        ),
        (
            # The Olympic games moved holidays, and the exchange failed on 1 October.
            2020,
            (
                "01-01 01-02 01-03 01-13 02-11 02-24 03-20 04-29 05-04 05-05 05-06 07-23 "
                "07-24 08-10 09-21 09-22 10-01 11-03 11-23 12-31"
            ),
        ),
        (
            2024,
            (
                "01-01 01-02 01-03 01-08 02-12 02-23 03-20 04-29 05-03 05-06 07-15 08-12 "
                "09-16 09-23 10-14 11-04 12-31"
            ),
        ),
    ],
)
def test_jp_holidays(year: int, closed: str) -> None:
    assert closed_weekdays("JP", year) == closed.split()
    assert closed_weekdays("JP", year, "morning") == closed.split()


def test_jp_lunch_is_a_break() -> None:
    day = market("JP").session("2025-01-10")
    assert [tuple(map(format_ns, value)) for value in day.breaks] == [
        ("2025-01-10T02:30:00Z", "2025-01-10T03:30:00Z")
    ]


@pytest.mark.parametrize(
    ("day", "hours", "pause"),
    [
        ("2013-01-02", "Tue 17:00–16:15 CST", True),
        ("2015-09-18", "Thu 17:00–16:15 CDT", True),
        ("2015-09-21", "Sun 17:00–16:00 CDT", True),
        ("2021-06-25", "Thu 17:00–16:00 CDT", True),
        ("2021-06-28", "Sun 17:00–16:00 CDT", False),
        ("2025-03-10", "Sun 17:00–16:00 CDT", False),
    ],
)
def test_cme_globex_day(day: str, hours: str, pause: bool) -> None:
    session = market("CME").session(day, "globex")
    assert session.hours == hours
    assert not session.early_close
    expected = [f"{day} 15:15", f"{day} 15:30"] if pause else []
    chicago = [
        format_ns(ns, session.tz)[:16].replace("T", " ") for value in session.breaks for ns in value
    ]
    assert chicago == expected


def test_cme_maintenance_lies_between_two_sessions() -> None:
    one, other = market("CME").sessions("2025-01-13", "2025-01-14", "globex")
    assert format_ns(one.end_ns, one.tz) == "2025-01-13T16:00:00-06:00"
    assert format_ns(other.start_ns, one.tz) == "2025-01-13T17:00:00-06:00"
    assert market("CME").is_open("2025-01-13T15:59:59-06:00", "globex")
    assert not market("CME").is_open("2025-01-13T16:30:00-06:00", "globex")
    assert market("CME").is_open("2025-01-13T17:00:00-06:00", "globex")


def test_cme_weekend() -> None:
    assert not market("CME").is_open("2025-01-10T16:00:00-06:00", "globex")
    assert not market("CME").is_open("2025-01-12T16:59:59-06:00", "globex")
    assert market("CME").is_open("2025-01-12T17:00:00-06:00", "globex")


@pytest.mark.parametrize(
    ("year", "closed"),
    [
        (2013, "01-01 03-29 12-25"),
        (2015, "01-01 12-25"),
        (2021, "01-01 12-24"),
        (2022, "04-15 12-26"),
        (2023, "01-02 12-25"),
        (2024, "01-01 03-29 12-25"),
        (2025, "01-01 04-18 12-25"),
        (2026, "01-01 12-25"),
        (2027, "01-01 03-26 12-24"),
    ],
)
def test_cme_globex_holidays(year: int, closed: str) -> None:
    assert closed_weekdays("CME", year, "globex") == closed.split()


@pytest.mark.parametrize(
    ("year", "closes"),
    [
        (
            2013,
            (
                "01-21 10:30, 02-18 10:30, 05-27 10:30, 07-03 12:15, 07-04 10:30, 09-02 10:30, "
                "11-28 10:30, 11-29 12:15, 12-24 12:15"
            ),
        ),
        (
            2018,
            (
                "01-15 12:00, 02-19 12:00, 05-28 12:00, 07-03 12:15, 07-04 12:00, 09-03 12:00, "
                "11-22 12:00, 11-23 12:15, 12-05 08:30, 12-24 12:15"
            ),
        ),
        (
            2023,
            (
                "01-16 12:00, 02-20 12:00, 04-07 08:15, 05-29 12:00, 06-19 12:00, 07-03 12:15, "
                "07-04 12:00, 09-04 12:00, 11-23 12:00, 11-24 12:15"
            ),
        ),
        (
            2024,
            (
                "01-15 12:00, 02-19 12:00, 05-27 12:00, 06-19 12:00, 07-03 12:15, 07-04 12:00, "
                "09-02 12:00, 11-28 12:00, 11-29 12:15, 12-24 12:15"
            ),
        ),
        (
            2025,
            (
                "01-09 08:30, 01-20 12:00, 02-17 12:00, 05-26 12:00, 06-19 12:00, 07-03 12:15, "
                "07-04 12:00, 09-01 12:00, 11-27 12:00, 11-28 12:15, 12-24 12:15"
            ),
        ),
        (
            2026,
            (
                "01-19 12:00, 02-16 12:00, 04-03 08:15, 05-25 12:00, 06-19 12:00, 07-03 12:00, "
                "09-07 12:00, 11-26 12:00, 11-27 12:15, 12-24 12:15"
            ),
        ),
    ],
)
def test_cme_globex_early_closes(year: int, closes: str) -> None:
    actual = early_closes("CME", year, "globex")
    assert ", ".join(f"{day} {time}" for day, time in actual.items()) == closes


def test_cme_early_close_has_no_pause() -> None:
    assert market("CME").session("2013-11-29", "globex").breaks == ()


def test_cme_regular_needs_new_york() -> None:
    with pytest.raises(NoSessionError):
        market("CME").session("2025-01-20")
    assert market("CME").session("2025-01-20", "globex").early_close


def test_cme_globex_opens_again_on_the_evening_of_a_holiday() -> None:
    assert local("CME", "2024-12-26", "globex") == "Wed 17:00–16:00 CST"
    assert local("CME", "2025-01-21", "globex") == "Mon 17:00–16:00 CST"


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("XETR", "2025-04-22", "09:00–17:30 CEST"),
        ("HKEX", "2025-01-28", "09:30–12:00 HKT"),
        ("XHKG", "2025-01-27", "09:30–16:00 HKT"),
        ("24/7", "2025-01-11", "00:00–00:00 UTC"),
        ("TSX", "2025-01-09", "09:30–16:00 EST"),
        ("EUREX", "2025-04-22", "08:00–22:00 CEST"),
    ],
)
def test_other_calendars(name: str, day: str, hours: str) -> None:
    assert local(name, day, "regular") == hours


def test_a_half_day_has_a_morning_and_no_afternoon() -> None:
    hong_kong = market("HKEX")
    assert hong_kong.session("2025-01-28", "morning").hours.startswith("09:30–12:00")
    with pytest.raises(NoSessionError):
        hong_kong.session("2025-01-28", "afternoon")
    eve = hong_kong.session("2025-01-28")
    assert eve.early_close
    assert eve.breaks == ()


@pytest.mark.parametrize(
    ("name", "year", "closed"),
    [
        # Typhoons Yagi, Talim and Saola, and black rain.
        (
            "HKEX",
            2024,
            (
                "01-01 02-12 02-13 03-29 04-01 04-04 05-01 05-15 06-10 07-01 09-06 09-18 "
                "10-01 10-11 12-25 12-26"
            ),
        ),
        (
            "HKEX",
            2023,
            (
                "01-02 01-23 01-24 01-25 04-05 04-07 04-10 05-01 05-26 06-22 07-17 09-01 "
                "09-08 10-02 10-23 12-25 12-26"
            ),
        ),
        ("EUREX", 2024, "01-01 03-29 04-01 05-01 12-24 12-25 12-26 12-31"),
    ],
)
def test_holidays_of_other_calendars(name: str, year: int, closed: str) -> None:
    assert closed_weekdays(name, year) == closed.split()


def test_currencies_trade_from_sunday_evening_to_friday_evening() -> None:
    week = market("FOREX").sessions("2025-01-11", "2025-01-18")
    assert [f"{value.start:%a %H:%M} {value.end:%a %H:%M}" for value in (week[0], week[-1])] == [
        "Sun 17:00 Mon 17:00",
        "Thu 17:00 Fri 17:00",
    ]
    assert len(week) == 5


def test_a_discontinued_break_is_absent() -> None:
    # Seoul had a lunch break until May 2000.
    assert market("XKRX").session_types == ("regular",)
    assert market("XKRX").session("2025-01-10").breaks == ()


def test_pre_and_post_of_another_calendar() -> None:
    eurex = market("EUREX_PrePost")
    assert eurex.session_types == ("regular", "pre_market", "after_hours", "extended")
    day = {
        session_type: eurex.session("2025-07-01", session_type)
        for session_type in eurex.session_types
    }
    assert day["pre_market"].end_ns == day["regular"].start_ns
    assert day["regular"].end_ns == day["after_hours"].start_ns
    assert day["extended"].start_ns == day["pre_market"].start_ns
    assert day["extended"].end_ns == day["after_hours"].end_ns
