"""The questions a market answers."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, get_args
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks._types import SessionType
from ibticks.calendar import (
    MARKETS,
    Market,
    Session,
    current_session,
    format_ns,
    is_market_open,
    market,
    next_session,
    now_ns,
    previous_session,
    session_rows,
    to_ns,
)
from ibticks.errors import (
    InputError,
    NaiveDatetimeError,
    NoSessionError,
    TimeRangeError,
    UnknownMarketError,
)

TYPES = [(name, item) for name in MARKETS for item in market(name).session_types]
DAYS = st.dates(date(2012, 11, 19), date(2049, 12, 31))
INSTANTS = st.integers(to_ns("2013-01-03T00:00Z"), to_ns("2049-12-01T00:00Z"))


def test_a_market_is_one_object() -> None:
    assert market("US") is market("us") is market(" US ") is market("NYSE") is market("NASDAQ")
    assert market("LSE") is market("UK")
    assert market("XTKS") is market("JP")
    assert market("CME_Equity") is market("CME")
    assert pickle.loads(pickle.dumps(market("JP"))) is market("JP")


def test_the_type_of_session_types_has_those_of_all_markets() -> None:
    assert {session_type for _, session_type in TYPES} == set(get_args(SessionType))


def test_session_types() -> None:
    assert {name: market(name).session_types for name in MARKETS} == {
        "US": ("pre_market", "regular", "after_hours", "extended", "overnight"),
        "UK": ("regular", "extended"),
        "JP": ("regular", "morning", "afternoon"),
        "CME": ("regular", "globex"),
    }


def test_time_zones() -> None:
    assert market("US").tz == ZoneInfo("America/New_York")
    assert market("24/7").tz == UTC
    assert market("HKEX").timezone in {"Asia/Hong_Kong", "Asia/Shanghai"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("NYS", "'NYSE'"), ("XETRA", "'XETR'"), ("hkx", "'HKEX'"), ("Mars", "US, UK")],
)
def test_an_unknown_market_has_suggestions(name: str, hint: str) -> None:
    with pytest.raises(UnknownMarketError, match=rf"no market '{name}'.*{hint}"):
        market(name)


@pytest.mark.parametrize("name", ["IEX", "XSGO"])
def test_calendars_known_to_be_wrong_are_not_used(name: str) -> None:
    with pytest.raises(UnknownMarketError):
        market(name).session("2025-01-02")


def test_a_market_is_named_by_a_string() -> None:
    with pytest.raises(InputError, match="named by a string"):
        market(None)  # type: ignore[arg-type]


def test_an_unknown_session_type_has_suggestions() -> None:
    with pytest.raises(UnknownMarketError, match=r"did you mean 'pre_market'.*overnight"):
        market("US").session("2025-01-10", "premarket")


@pytest.mark.parametrize(
    "day",
    [
        "2025-01-10",
        date(2025, 1, 10),
        datetime(2025, 1, 10, 23, 59),
        "2025-01-11T02:00:00Z",  # still Friday in New York
        datetime(2025, 1, 11, 2, 0, tzinfo=UTC),
        pd.Timestamp("2025-01-10"),
        np.datetime64("2025-01-10"),
        to_ns("2025-01-11T02:00:00Z"),
    ],
)
def test_a_day_in_many_ways(day: Any) -> None:
    assert market("US").session(day).date == date(2025, 1, 10)


@pytest.mark.parametrize("day", ["tomorrow", "2025-1-1", "", None, 3.5])
def test_invalid_days_are_refused(day: Any) -> None:
    with pytest.raises(InputError):
        market("US").session(day)


@pytest.mark.parametrize(
    ("name", "day", "before", "after"),
    [
        ("US", "2025-01-11", "2025-01-10", "2025-01-13"),  # Saturday
        ("US", "2025-01-09", "2025-01-08", "2025-01-10"),  # mourning
        ("US", "2001-09-12", "2001-09-10", "2001-09-17"),
        ("UK", "2025-12-26", "2025-12-24", "2025-12-29"),
        ("JP", "2025-01-01", "2024-12-30", "2025-01-06"),
        ("CME", "2025-04-18", "2025-04-17", "2025-04-21"),
    ],
)
def test_a_day_without_a_session_names_its_neighbours(
    name: str, day: str, before: str, after: str
) -> None:
    with pytest.raises(NoSessionError, match=rf"{day}.*previous.*{before}.*next.*{after}") as info:
        market(name).session(day)
    assert info.value.context["previous"].date == date.fromisoformat(before)
    assert info.value.context["next"].date == date.fromisoformat(after)
    assert pickle.loads(pickle.dumps(info.value)).context == info.value.context


def test_the_first_days_have_no_previous_session() -> None:
    with pytest.raises(NoSessionError, match="; the next one is Monday 2000-01-03"):
        market("US").session("2000-01-01")


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("US", "1999-12-31"),
        ("US", "2050-01-03"),
        ("JP", "2011-11-18"),
        ("CME", "2012-11-16"),
        ("SSE", "2099-01-05"),
        ("TASE", "2018-06-04"),
    ],
)
def test_days_outside_the_calendar_are_refused(name: str, day: str) -> None:
    with pytest.raises(TimeRangeError, match=r"known from \d{4}-\d\d-\d\d to \d{4}"):
        market(name).session(day)
    with pytest.raises(TimeRangeError, match="known from"):
        market(name).sessions(day, day)
    with pytest.raises(TimeRangeError, match="known from"):
        market(name).is_open(f"{day}T12:00:00Z")


def test_calendars_end_where_their_list_of_holidays_does() -> None:
    assert market("XSHG").last_date < date(2049, 12, 31)
    assert market("TASE").first_date == date(2019, 1, 1)


def test_sessions_include_both_ends() -> None:
    week = market("US").sessions("2025-01-08", "2025-01-14")
    assert [value.date.day for value in week] == [8, 10, 13, 14]
    assert market("US").sessions("2025-01-11", "2025-01-12") == []
    with pytest.raises(TimeRangeError, match="is after"):
        market("US").sessions("2025-01-10", "2025-01-09")


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2025-01-10T09:29:59.999999999-05:00", False),
        ("2025-01-10T09:30:00-05:00", True),
        ("2025-01-10T15:59:59.999999999-05:00", True),
        ("2025-01-10T16:00:00-05:00", False),
        ("2025-01-11T12:00:00-05:00", False),
        ("2025-01-09T12:00:00-05:00", False),
        ("2024-11-29T12:59:00-05:00", True),
        ("2024-11-29T13:00:00-05:00", False),
    ],
)
def test_open_from_the_start_up_to_the_end(now: str, is_open: bool) -> None:
    assert market("US").is_open(now) is is_open
    assert is_market_open("US", now) is is_open
    assert is_market_open(market("US"), to_ns(now)) is is_open


@pytest.mark.parametrize(
    ("at", "is_open", "running"),
    [
        ("08:59", False, None),
        ("09:00", True, "morning"),
        ("11:29", True, "morning"),
        ("11:30", False, None),
        ("12:00", False, None),
        ("12:30", True, "afternoon"),
        ("15:29", True, "afternoon"),
        ("15:30", False, None),
    ],
)
def test_lunch_in_tokyo(at: str, is_open: bool, running: str | None) -> None:
    now = f"2025-01-10T{at}:00+09:00"
    session = current_session("JP", now)
    assert market("JP").is_open(now) is is_open
    assert (session and session.session_type) == running


@pytest.mark.parametrize(
    ("name", "now", "running"),
    [
        ("US", "2025-01-10T03:49:59-05:00", "overnight"),
        ("US", "2025-01-10T03:50:00-05:00", None),
        ("US", "2025-01-10T04:00:00-05:00", "pre_market"),
        ("US", "2025-01-10T09:30:00-05:00", "regular"),
        ("US", "2025-01-10T16:00:00-05:00", "after_hours"),
        ("US", "2025-01-10T20:00:00-05:00", None),  # Friday evening
        ("US", "2025-01-12T20:00:00-05:00", "overnight"),  # Sunday evening
        ("US", "2024-11-29T16:00:00-05:00", "after_hours"),
        ("US", "2024-11-29T17:00:00-05:00", None),
        ("UK", "2025-01-10T07:30:00Z", "extended"),
        ("UK", "2025-01-10T08:30:00Z", "regular"),
        ("CME", "2025-01-10T03:00:00-06:00", "globex"),
        ("CME", "2025-01-10T09:00:00-06:00", "regular"),
        ("CME", "2025-01-10T15:30:00-06:00", "globex"),
        ("CME", "2020-01-10T15:20:00-06:00", None),  # the pause CME had then
        ("CME", "2025-01-10T16:30:00-06:00", None),
    ],
)
def test_the_session_that_runs_is_the_most_specific(
    name: str, now: str, running: str | None
) -> None:
    session = market(name).current_session(now)
    assert (session and session.session_type) == running
    assert session is None or now in session


def test_previous_current_next() -> None:
    us, noon = market("US"), "2025-01-10T12:00:00-05:00"
    assert us.previous_session(noon).date == date(2025, 1, 8)
    assert us.latest_session(noon).date == date(2025, 1, 10)
    assert us.next_session(noon).date == date(2025, 1, 13)
    assert previous_session("US", noon) == us.previous_session(noon)
    assert next_session("US", noon) == us.next_session(noon)
    assert us.previous_session("2025-01-10T16:00:00-05:00").date == date(2025, 1, 10)
    assert us.next_session("2025-01-10T09:30:00-05:00").date == date(2025, 1, 13)
    assert us.previous_session(noon, "pre_market").date == date(2025, 1, 10)
    assert us.next_session(noon, "after_hours").date == date(2025, 1, 10)


def test_previous_sessions_over_thanksgiving() -> None:
    us = market("US")
    days = [
        f"{session.date:%m-%d}" for session in us.previous_sessions(5, now="2024-12-02T14:00:00Z")
    ]
    assert days == ["11-22", "11-25", "11-26", "11-27", "11-29"]
    # On Friday at noon the short day still runs, and Thursday was none.
    friday = us.previous_sessions(2, now="2024-11-29T12:00:00-05:00")
    assert [value.date.day for value in friday] == [26, 27]
    # At its early close it has taken place.
    assert us.previous_sessions(1, now="2024-11-29T13:00:00-05:00")[0].date.day == 29


@pytest.mark.parametrize("n", [0, -1])
def test_zero_sessions_are_refused(n: int) -> None:
    with pytest.raises(InputError, match="one or more"):
        market("US").previous_sessions(n, now="2025-01-10T12:00:00Z")


def test_more_sessions_than_the_calendar_has() -> None:
    with pytest.raises(NoSessionError, match="known from 2000-01-01"):
        market("US").previous_sessions(10_000, now="2025-01-10T12:00:00Z")
    with pytest.raises(NoSessionError, match="known from 2000-01-01"):
        market("US").previous_session("2000-01-02T12:00:00Z")
    with pytest.raises(NoSessionError, match="to 2049-12-31"):
        market("UK").next_session("2049-12-31T20:00:00Z")


def test_now_defaults_to_the_current_time() -> None:
    us = market("US")
    before = us.previous_session(now_ns())
    assert us.previous_session() in {before, us.previous_session(now_ns())}
    assert us.next_session().start_ns > now_ns() - 60_000_000_000
    assert us.previous_sessions(3)[-1] == us.previous_session()
    assert us.is_open() in {True, False}


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(NaiveDatetimeError, match="now="):
        market("US").is_open(datetime(2025, 1, 10, 12))


def test_rows_for_the_database() -> None:
    start, end = date(2024, 11, 28), date(2024, 12, 2)
    rows = list(session_rows(MARKETS, start, end))
    sessions = [
        session
        for name in MARKETS
        for session_type in market(name).session_types
        for session in market(name).sessions(start, end, session_type)
    ]
    assert rows == [
        (s.market, s.session_type, s.date, s.start_ns, s.end_ns, s.early_close) for s in sessions
    ]
    assert (
        "US",
        "regular",
        date(2024, 11, 29),
        1732890600 * 10**9,
        1732903200 * 10**9,
        True,
    ) in rows
    assert [type(value) for value in rows[0]] == [str, str, date, int, int, bool]


def test_rows_of_years_outside_the_calendar() -> None:
    rows = session_rows(["CME", "US"], date(1990, 1, 1), date(2012, 11, 19))
    firsts: dict[Any, Any] = {}
    for name, session_type, day, *_ in rows:
        firsts.setdefault((name, session_type), day)
    assert firsts[("US", "regular")] == date(2000, 1, 3)
    assert firsts[("CME", "globex")] == date(2012, 11, 19)


def test_invalid_rows_are_refused() -> None:
    with pytest.raises(TimeRangeError, match="is after"):
        session_rows(MARKETS, date(2025, 1, 2), date(2025, 1, 1))
    with pytest.raises(UnknownMarketError):
        session_rows(["Mars"], date(2025, 1, 1), date(2025, 1, 2))


def test_notebook_views() -> None:
    for name in MARKETS:
        html = market(name)._repr_html_()
        assert all(session_type in html for session_type in market(name).session_types)
        assert market(name).timezone in html
    assert repr(market("US")) == "<Market US: US shares (NYSE, Nasdaq), America/New_York>"


@pytest.mark.parametrize(
    ("at", "state"), [("08:00", "next"), ("10:00", "open"), ("12:00", "break"), ("16:00", "next")]
)
def test_the_notebook_view_has_the_running_session(
    monkeypatch: pytest.MonkeyPatch, at: str, state: str
) -> None:
    now = to_ns(f"2025-01-10T{at}:00+09:00")
    monkeypatch.setattr("ibticks.calendar._markets.now_ns", lambda: now)
    regular = market("JP")._repr_html_().split("<tr>")[2]
    assert f">{state}<" in regular
    assert ("2025-01-10" in regular) == (at != "16:00")


def test_the_notebook_view_after_the_end_of_the_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibticks.calendar._markets.now_ns", lambda: to_ns("2055-01-01T00:00Z"))
    assert market("US")._repr_html_().count("not known") == len(market("US").session_types)


def test_the_arrays_of_a_market_are_read_only() -> None:
    table = market("US").tables["regular"]
    with pytest.raises(ValueError, match="read-only"):
        table.start_ns[0] = 0


@given(st.sampled_from(TYPES), DAYS, st.integers(0, 60))
def test_sessions_are_in_order_and_do_not_overlap(which: Any, first: date, length: int) -> None:
    name, session_type = which
    last = min(first + timedelta(days=length), market(name).last_date)
    sessions = market(name).sessions(first, last, session_type)
    for session in sessions:
        assert first <= session.date <= last
        assert session.start_ns < session.end_ns
        assert session.end.date() in {session.date, session.date + timedelta(days=1)}
        assert all(session.start_ns < start < end < session.end_ns for start, end in session.breaks)
        assert market(name).session(session.date, session_type) == session
    for one, other in pairwise(sessions):
        assert one.end_ns <= other.start_ns
        assert one.date < other.date


@given(st.sampled_from(TYPES), INSTANTS)
def test_an_instant_lies_between_previous_and_next(which: Any, now: int) -> None:
    name, session_type = which
    here = market(name)
    before, latest, after = (
        ask(now, session_type)
        for ask in (here.previous_session, here.latest_session, here.next_session)
    )
    assert before.end_ns <= now < after.start_ns
    assert latest.start_ns <= now
    assert here.is_open(now, session_type) == latest.is_open(now)
    between = here.sessions(before.date, after.date, session_type)
    assert between == [before, *([latest] if latest != before else []), after]


@given(INSTANTS, st.sampled_from(MARKETS))
def test_the_running_session_contains_the_instant(now: int, name: Any) -> None:
    here = market(name)
    running = here.current_session(now)
    assert (running is not None) == any(
        here.is_open(now, session_type) for session_type in here.session_types
    )
    if running is not None:
        assert now in running
        assert running.is_open(now)


@given(st.dates(date(2007, 1, 1), date(2049, 12, 31)))
def test_the_sessions_of_a_day_in_new_york_are_adjacent(day: date) -> None:
    us = market("US")
    try:
        parts = {session_type: us.session(day, session_type) for session_type in us.session_types}
    except NoSessionError:
        return
    assert parts["overnight"].end_ns < parts["pre_market"].start_ns
    assert parts["pre_market"].end_ns == parts["regular"].start_ns
    assert parts["regular"].end_ns == parts["after_hours"].start_ns
    assert parts["extended"].start_ns == parts["pre_market"].start_ns
    assert parts["extended"].end_ns == parts["after_hours"].end_ns
    regular = parts["regular"]
    assert f"{regular.start:%F %H:%M}" == f"{day} 09:30"
    assert f"{regular.end:%F %H:%M}" == f"{day} {'13:00' if regular.early_close else '16:00'}"
    # Independent of the tables: the wall clock, placed by the standard library.
    opening = datetime(day.year, day.month, day.day, 9, 30, tzinfo=ZoneInfo("America/New_York"))
    assert regular.start_ns == int(opening.timestamp()) * 10**9


def test_public_names() -> None:
    assert isinstance(market("US"), Market)
    assert isinstance(market("US").session("2025-01-10"), Session)
    assert format_ns(market("US").session("2025-01-10").start_ns) == "2025-01-10T14:30:00Z"
