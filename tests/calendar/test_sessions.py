"""A session by itself, and the table it comes from."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from ibticks.calendar import Session, market, to_ns
from ibticks.calendar._sessions import sorted_table
from ibticks.errors import NaiveDatetimeError


@pytest.fixture(scope="module")
def tokyo() -> Session:
    return market("JP").session("2025-01-10")


def test_start_and_end_are_aware_and_local(tokyo: Session) -> None:
    assert tokyo.start.isoformat() == "2025-01-10T09:00:00+09:00"
    assert tokyo.end.isoformat() == "2025-01-10T15:30:00+09:00"
    assert tokyo.duration == timedelta(hours=6, minutes=30)
    assert to_ns(tokyo.start) == tokyo.start_ns
    assert to_ns(tokyo.end) == tokyo.end_ns


def test_a_session_is_half_open(tokyo: Session) -> None:
    assert tokyo.start in tokyo
    assert tokyo.end not in tokyo
    assert tokyo.end_ns - 1 in tokyo
    assert "2025-01-10T00:00:00Z" in tokyo
    assert datetime(2025, 1, 10, tzinfo=UTC) in tokyo
    with pytest.raises(NaiveDatetimeError):
        assert datetime(2025, 1, 10, 10) in tokyo


def test_lunch_is_inside_a_session_but_not_open(tokyo: Session) -> None:
    lunch = "2025-01-10T12:00:00+09:00"
    assert lunch in tokyo
    assert not tokyo.is_open(lunch)
    assert tokyo.is_open("2025-01-10T12:30:00+09:00")


def test_sessions_are_values(tokyo: Session) -> None:
    assert tokyo == market("JP").session("2025-01-10")
    assert len({tokyo, market("JP").session(date(2025, 1, 10))}) == 1
    assert pickle.loads(pickle.dumps(tokyo)) == tokyo
    with pytest.raises(dataclasses.FrozenInstanceError):
        tokyo.start_ns = 0  # type: ignore[misc]


def test_the_repr_of_a_session() -> None:
    assert repr(market("CME").session("2025-01-20", "globex")) == (
        "<Session CME globex 2025-01-20 Sun 17:00–12:00 CST, early close>"
    )
    html = market("JP").session("2025-01-10")._repr_html_()
    for text in ("JP regular", "Friday 2025-01-10", "2025-01-10T00:00:00Z", "11:30 – 12:30"):
        assert text in html


def test_html_is_escaped() -> None:
    session = Session("<b>", "regular", date(2025, 1, 10), 0, 1)
    assert "<b>" not in session._repr_html_()


def _days(*days: str) -> np.ndarray:
    return np.array(days, dtype="datetime64[D]")


def test_sessions_without_length_are_left_out() -> None:
    table = sorted_table(_days("2025-01-09", "2025-01-10"), np.array([5, 20]), np.array([5, 30]))
    assert table.days.tolist() == [date(2025, 1, 10)]


@pytest.mark.parametrize(
    ("days", "starts", "ends"),
    [
        (("2025-01-09", "2025-01-10"), [0, 5], [10, 20]),
        (("2025-01-10", "2025-01-09"), [0, 10], [10, 20]),
        (("2025-01-10", "2025-01-10"), [0, 10], [10, 20]),
    ],
)
def test_a_table_out_of_order_is_refused(
    days: tuple[str, str], starts: list[int], ends: list[int]
) -> None:
    with pytest.raises(ValueError, match="overlap"):
        sorted_table(_days(*days), np.array(starts), np.array(ends))


def test_sessions_may_touch() -> None:
    table = sorted_table(_days("2025-01-09", "2025-01-10"), np.array([0, 10]), np.array([10, 20]))
    assert [table.started(ns) for ns in (-1, 0, 9, 10)] == [0, 1, 1, 2]
    assert [table.ended(ns) for ns in (9, 10, 19, 20)] == [0, 1, 1, 2]
    assert [table.is_open(ns) for ns in (-1, 0, 10, 19, 20)] == [False, True, True, True, False]
