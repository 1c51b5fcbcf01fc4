"""IB's pacing limits, on a clock that only the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.errors import ConfigError
from ibticks.history import Pacing
from ibticks.history._plan import Pace

pacings = st.builds(
    Pacing,
    requests=st.integers(2, 12),
    seconds=st.sampled_from([0.0, 5.0, 60.0]),
    burst=st.integers(1, 5),
    burst_seconds=st.sampled_from([0.0, 2.0]),
    identical_seconds=st.sampled_from([0.0, 15.0]),
    messages_per_second=st.integers(1, 50),
)
asked = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # page
        st.sampled_from("xy"),  # contract and tick type
        st.integers(1, 2),
        st.floats(0, 30),
    ),
    max_size=60,
)
SLACK = 1e-6


def sent(
    pacing: Pacing, wishes: list[tuple[str, str, int, float]]
) -> list[tuple[float, tuple[str, str], str, int]]:
    """Return the time of each request of a client that waits as long as the pace says."""
    pace, now, log = Pace(pacing), 1000.0, []
    for page, group, weight, pause in wishes:
        now += pause
        wait = pace.wait((group, page), group, weight, now)
        assert wait >= 0
        now += wait
        log.append((now, (group, page), group, weight))
    return log


@given(pacings, asked)
def test_no_limit_is_ever_passed(pacing: Pacing, wishes: list[tuple[str, str, int, float]]) -> None:
    log = sent(pacing, wishes)
    for number, (at, page, group, _) in enumerate(log):
        before = log[:number]
        window = [w for when, _, _, w in log[: number + 1] if when > at - pacing.seconds + SLACK]
        assert sum(window) <= pacing.requests or not pacing.seconds
        same = [when for when, other, _, _ in before if other == page]
        assert all(at - when >= pacing.identical_seconds - SLACK for when in same)
        alike = [when for when, _, other, _ in before if other == group]
        assert len(alike) < pacing.burst or at - alike[-pacing.burst] >= (
            pacing.burst_seconds - SLACK
        )
        if before:
            assert at - before[-1][0] >= 1 / pacing.messages_per_second - SLACK


def test_requests_within_the_limits_do_not_wait() -> None:
    pace = Pace(Pacing())
    for number in range(60):
        assert pace.wait(number, number % 12, 1, number * 1.0) == 0
    assert pace.wait("one more", "another", 1, 60.0) == pytest.approx(540)


def test_quotes_count_twice() -> None:
    pace = Pace(Pacing(burst=100))
    waits = [pace.wait(number, "quotes", 2, 10.0 * number) for number in range(31)]
    assert waits[:30] == [0] * 30
    assert waits[30] == pytest.approx(300)


def test_the_same_page_again_waits_and_another_one_does_not() -> None:
    pace = Pace(Pacing())
    assert pace.wait("page", "group", 1, 0.0) == 0
    assert pace.wait("other", "group", 1, 1.0) == 0
    assert pace.wait("page", "group", 1, 2.0) == pytest.approx(13)


def test_other_messages_count_for_the_second_only() -> None:
    pace = Pace(Pacing(messages_per_second=10, requests=2))
    assert [pace.message(0.0) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])
    assert pace.wait("page", "group", 1, 0.2) == pytest.approx(0.1)
    assert pace.wait("other", "group", 1, 0.5) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"requests": 1}, "requests=1: give 2 or more"),  # quotes count twice
        ({"burst": 0}, "burst=0"),
        ({"messages_per_second": 0}, "messages_per_second=0"),
        ({"seconds": -1.0}, "seconds=-1.0: give seconds"),
        ({"identical_seconds": float("inf")}, "identical_seconds=inf"),
    ],
)
def test_invalid_limits_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Pacing(**wrong)
