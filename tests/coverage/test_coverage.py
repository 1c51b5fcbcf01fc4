"""Coverage of a selection: clipped, printed, drawn, and in the metadata of every frame."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ibticks as ibt
import ibticks.coverage
from ibticks._types import Interval, StreamKey
from ibticks.calendar import to_ns
from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.coverage import (
    Coverage,
    CoverageInterval,
    CoverageState,
    StreamStatus,
    coverage_metadata,
    query_coverage,
)
from ibticks.coverage._report import render_svg
from ibticks.coverage._states import COMPLETE_STATES, MEANINGS, clip_intervals
from ibticks.errors import UnknownMarketError, UnknownPeriodError
from ibticks.frames import metadata_of
from ibticks.index import CoverageRecord, MemoryIndex
from ibticks.schema import TickColumns, Values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.testing import FakeCapture

AAPL, MNQ = 265598, 711280073
NEW_YORK = "America/New_York"
T0 = to_ns("2025-01-10T14:30Z")  # the regular session of the US opens
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

UNSAID = (CoverageState.NOT_RUNNING, CoverageState.ENDED, CoverageState.UNKNOWN)
STORED = [state for state in CoverageState if state not in UNSAID]


def interval(
    start: int,
    end: int,
    state: str = "captured",
    reason: str = "",
    stream: tuple[int, str] = (AAPL, "last"),
) -> CoverageInterval:
    return CoverageInterval(*stream, T0 + start, T0 + end, CoverageState(state), reason)


def coverage(
    *state_intervals: CoverageInterval,
    streams: Any = ((AAPL, "last"),),
    intervals: list[Any] | None = None,
) -> Coverage:
    spans: Any = intervals or ((state_intervals[0].start_ns, state_intervals[-1].end_ns),)
    return Coverage(tuple(streams), tuple(spans), state_intervals)


def brief(intervals: Iterable[CoverageInterval]) -> list[Any]:
    return [(value.start_ns - T0, value.end_ns - T0, value.state.value) for value in intervals]


@pytest.fixture
def day(fake_capture: type[FakeCapture], store: ibticks.Store) -> ibticks.Store:
    """A store in which AAPL was captured from 14:30, lost from 14:40 to 14:45, stopped 15:30."""
    store.add_contract(AAPL, "AAPL")
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.tick(T0 + MINUTE)
    capture.report_status(StreamStatus.DISCONNECTED, T0 + 10 * MINUTE, "connection lost", 1100)
    capture.report_status(StreamStatus.RESTORED, T0 + 15 * MINUTE, "data kept", 1102)
    capture.tick(T0 + 50 * MINUTE)
    capture.stop(T0 + HOUR)
    return store


def asked(store: ibticks.Store, start: int, end: int) -> ibticks.Selection:
    first, last = (datetime.fromtimestamp((T0 + t) // SECOND, UTC) for t in (start, end))
    return store.select(AAPL, "last", start=first, end=last)


# -- asking ----------------------------------------------------------------------------------------


def test_coverage_is_clipped_to_the_selection(day: ibticks.Store) -> None:
    actual = asked(day, 5 * MINUTE, 12 * MINUTE).coverage()
    assert brief(actual.state_intervals) == [
        (5 * MINUTE, 10 * MINUTE, "captured"),
        (10 * MINUTE, 12 * MINUTE, "disconnected"),
    ]
    assert actual.state_intervals[1].reason == "1100: connection lost"
    assert actual.symbols == {AAPL: "AAPL"}
    assert actual.fraction == pytest.approx(5 / 7)
    assert actual.durations == {
        CoverageState.CAPTURED: timedelta(minutes=5),
        CoverageState.DISCONNECTED: timedelta(minutes=2),
    }


def test_coverage_is_unknown_before_the_first_capture_and_not_running_after_it(
    day: ibticks.Store,
) -> None:
    actual = asked(day, -MINUTE, HOUR + MINUTE).coverage()
    assert brief(actual.state_intervals)[0] == (-MINUTE, 0, "unknown")
    assert brief(actual.state_intervals)[-1] == (HOUR, HOUR + MINUTE, "not_running")
    assert [gap.state for gap in actual.gaps()] == [
        CoverageState.DISCONNECTED,
        CoverageState.NOT_RUNNING,
    ]
    later = asked(day, 2 * HOUR, 3 * HOUR).coverage()
    assert brief(later.state_intervals) == [(2 * HOUR, 3 * HOUR, "not_running")]
    earlier = asked(day, -2 * HOUR, -HOUR).coverage()
    assert (brief(earlier.state_intervals), earlier.gaps()) == ([(-2 * HOUR, -HOUR, "unknown")], [])


def test_without_a_range_coverage_spans_all_known_time(day: ibticks.Store) -> None:
    actual = day.select("AAPL", "last").coverage()
    assert brief(actual.state_intervals) == [
        (0, 10 * MINUTE, "captured"),
        (10 * MINUTE, 15 * MINUTE, "disconnected"),
        (15 * MINUTE, HOUR, "captured"),
    ]
    assert day.coverage().state_intervals == actual.state_intervals


def test_an_interval_left_open_by_a_kill_ends_with_its_last_tick(
    fake_capture: type[FakeCapture], store: ibticks.Store, database: str
) -> None:
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.tick(T0 + 5 * MINUTE)
    capture.kill()
    imported = store.writer(MNQ, "last")
    imported.write(TickColumns(2, {"timestamp": Values(np.array([9, 1]) * MINUTE + T0)}))
    for file in imported.appender._open.values():  # killed, too
        file.close()
    imported.appender._open.clear()
    imported.appender._stream_lock.release()
    assert [file.sealed for file in store.index.files()] == [False, False]
    captured, written = (store.select(value, "last").coverage() for value in (AAPL, MNQ))
    assert brief(captured.state_intervals) == [(0, 5 * MINUTE + 1, "captured")]
    assert brief(written.state_intervals) == [(MINUTE, 9 * MINUTE + 1, "unknown")]
    with ibt.open(store.root, dsn=database) as again:
        assert again.select(AAPL, "last").coverage().state_intervals == captured.state_intervals
    with store.writer(AAPL, "last"), store.writer(MNQ, "last"):
        pass  # which seals them, and nothing is different
    assert [file.sealed for file in store.index.files()] == [True, True]
    assert store.select(AAPL, "last").coverage().state_intervals == captured.state_intervals
    assert store.select(MNQ, "last").coverage().state_intervals == written.state_intervals


def test_coverage_is_the_same_while_a_file_is_open_and_when_it_is_sealed(
    fake_capture: type[FakeCapture], store: ibticks.Store
) -> None:
    begin = T0 + 23 * MINUTE
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, begin)
    for minute in (2, 1, 4):
        capture.tick(begin + minute * MINUTE)
    now = begin + 5 * MINUTE
    everything = [Interval(TIME_MIN, TIME_MAX)]
    open_ = query_coverage(
        store.root, store.index, [StreamKey(AAPL, "last")], everything, now_ns=now
    )
    capture.stop(now)
    assert brief(open_.state_intervals) == [(23 * MINUTE, 28 * MINUTE, "captured")]
    assert store.select(AAPL, "last").coverage().state_intervals == open_.state_intervals


@pytest.mark.parametrize("minutes", [(7,), (7, 9), (9, 7, 8)])
def test_an_open_file_spans_its_first_to_its_last_tick(
    store: ibticks.Store, minutes: tuple[int, ...]
) -> None:
    times = Values(np.array(minutes) * MINUTE + T0)
    with store.writer(MNQ, "last") as writer:
        writer.write(TickColumns(len(minutes), {"timestamp": times}))
        written = store.select(MNQ, "last").coverage().state_intervals
    expected = [(7 * MINUTE, max(minutes) * MINUTE + 1, "unknown")]
    assert brief(written) == expected
    assert store.select(MNQ, "last").coverage().state_intervals == written


def test_a_capture_without_a_tick_begins_with_its_first_ledger_row(
    fake_capture: type[FakeCapture], store: ibticks.Store
) -> None:
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0 + 12 * MINUTE)
    everything = [Interval(TIME_MIN, TIME_MAX)]
    actual = query_coverage(
        store.root, store.index, [StreamKey(AAPL, "last")], everything, now_ns=T0 + 20 * MINUTE
    )
    capture.stop(T0 + 20 * MINUTE)
    assert brief(actual.state_intervals) == [(12 * MINUTE, 20 * MINUTE, "captured")]


def test_future_time_is_left_out(fake_capture: type[FakeCapture], store: ibticks.Store) -> None:
    now = datetime.now(UTC)
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, to_ns(now) - HOUR)
    selection = store.select(AAPL, "last", start=now - timedelta(hours=2), end="2100-01-01T00:00Z")
    before, running = selection.coverage().state_intervals
    assert (before.state, running.state) == (CoverageState.UNKNOWN, CoverageState.CAPTURED)
    assert timedelta(hours=1) <= running.duration < timedelta(hours=1, minutes=5)
    later = store.select(AAPL, "last", start="2099-01-01T00:00Z", end="2100-01-01T00:00Z")
    assert later.coverage().state_intervals == ()
    assert later.to_arrow().num_rows == 0
    # Killed, it has captured no more than it stored.
    capture.tick(to_ns(now) - HOUR + MINUTE)
    capture.kill()
    states = [
        (state_interval.state.value, state_interval.duration)
        for state_interval in selection.coverage().state_intervals[1:]
    ]
    assert states[0] == ("captured", timedelta(minutes=1))
    assert states[1][0] == "not_running"


def test_imported_ticks_have_unknown_coverage(sample_store: ibticks.Store) -> None:
    actual = sample_store.select("IBM", "bid_ask", date="2013-10-08").coverage()
    assert [state_interval.state for state_interval in actual.state_intervals] == [
        CoverageState.UNKNOWN
    ]
    assert (actual.gaps(), actual.fraction) == ([], 0.0)
    assert "imported or never stored" in str(actual)
    everything = sample_store.coverage()
    assert set(everything.streams) == {
        (content.contract_id, content.tick_type) for content in sample_store.contents()
    }
    assert {state_interval.state for state_interval in everything.state_intervals} == {
        CoverageState.UNKNOWN
    }
    table = sample_store.select("IBM", "bid_ask", date="2013-10-08").to_arrow()
    assert metadata_of(table)["coverage"] == []


def test_an_empty_store(store: ibticks.Store) -> None:
    actual = store.coverage()
    assert (actual.streams, actual.state_intervals, actual.gaps(), actual.fraction) == (
        (),
        (),
        [],
        0.0,
    )
    assert "nothing is known" in str(actual)
    assert "nothing is known" in actual._repr_html_()
    assert actual.during("US").state_intervals == ()
    assert actual.to_polars().height == 0


def test_coverage_of_several_contracts_has_stored_streams_only(
    fake_capture: type[FakeCapture], day: ibticks.Store
) -> None:
    day.add_contract(MNQ, "MNQ")
    other = fake_capture(day.root, day.index, MNQ, "bid_ask")
    other.report_status(StreamStatus.NOT_PERMITTED, T0, "no permission", 354)
    other.stop(T0 + HOUR)
    assert day.coverage().streams == ((AAPL, "last"), (MNQ, "bid_ask"))
    assert day.coverage(["AAPL", "MNQ"]).streams == ((AAPL, "last"), (MNQ, "bid_ask"))
    assert day.coverage("AAPL", ["last", "bid_ask"]).streams == ((AAPL, "last"), (AAPL, "bid_ask"))
    assert [gap.contract_id for gap in day.coverage().gaps()] == [AAPL, MNQ]


def test_the_time_after_a_capture_is_no_gap_without_a_time_range(
    fake_capture: type[FakeCapture], day: ibticks.Store
) -> None:
    """MNQ is still captured and AAPL is not: without a range, AAPL has no gap until now."""
    day.add_contract(MNQ, "MNQ")
    other = fake_capture(day.root, day.index, MNQ)
    other.report_status(StreamStatus.SUBSCRIBED, T0)
    other.stop(T0 + 3 * HOUR)
    actual = day.coverage()
    assert brief(actual.state_intervals)[-2:] == [
        (HOUR, 3 * HOUR, "ended"),
        (0, 3 * HOUR, "captured"),
    ]
    assert [gap.state for gap in actual.gaps()] == [CoverageState.DISCONNECTED]
    assert actual.fraction == pytest.approx((4 * 60 - 5) / (4 * 60))
    assert "ended 2h" in str(actual)
    assert [gap.state for gap in actual.during("US").gaps()] == [CoverageState.DISCONNECTED]
    # Up to a time that is named, it counts.
    names = day.coverage(start=datetime.fromtimestamp(T0 // SECOND, UTC), end="2025-01-10T17:30Z")
    assert brief(names.gaps()) == [
        (10 * MINUTE, 15 * MINUTE, "disconnected"),
        (HOUR, 3 * HOUR, "not_running"),
    ]


# -- against looking at every instant --------------------------------------------------------------


@st.composite
def ledgers(draw: Any) -> tuple[list[CoverageRecord], list[tuple[Any, Any]], Any]:
    """Ledger rows of two streams, some intervals, and the current time."""
    rows = []
    for kind in ("last", "bid_ask"):
        at = 0
        for gap, length, state in draw(
            st.lists(
                st.tuples(st.integers(0, 20), st.integers(1, 30), st.sampled_from(STORED)),
                max_size=6,
            )
        ):
            at += gap
            rows.append(CoverageRecord(AAPL, kind, at, at + length, state.value))
            at += length
    edges = sorted(draw(st.sets(st.integers(0, 130), min_size=2, max_size=8)))
    return rows, list(zip(edges[::2], edges[1::2], strict=False)), draw(st.integers(0, 140))


@settings(max_examples=300)
@given(ledgers())
def test_state_intervals_cover_the_range_and_agree_with_the_ledger(
    tmp_path_factory: pytest.TempPathFactory, ledger: Any
) -> None:
    rows, intervals, now = ledger
    index, root = MemoryIndex(coverage=rows), tmp_path_factory.getbasetemp()
    streams = [StreamKey(AAPL, "last"), StreamKey(AAPL, "bid_ask")]
    actual = query_coverage(root, index, streams, intervals, now_ns=now)
    within = [(start, min(end, now)) for start, end in intervals if start < now]
    assert list(actual.intervals) == within
    for stream, state_intervals in actual.by_stream():
        mine = [
            value for value in index.coverage() if (value.contract_id, value.tick_type) == stream
        ]
        for instant in range(now):
            details = [
                value.state for value in state_intervals if value.start_ns <= instant < value.end_ns
            ]
            assert len(details) == any(start <= instant < end for start, end in within)
            if details:
                assert details == [expected(mine, instant)]
    assert all(
        one.end_ns != two.start_ns
        or (one.state, one.reason) != (two.state, two.reason)
        or any(one.end_ns == start for start, _ in intervals)
        for _, state_intervals in actual.by_stream()
        for one, two in pairwise(state_intervals)
    )


def expected(rows: list[CoverageRecord], instant: int) -> CoverageState:
    """Return the state of the row at an instant, or the state that its absence means."""
    begun = [row for row in rows if row.start_ns <= instant]
    if begun and instant < begun[-1].end_ns:
        return CoverageState(begun[-1].state)
    return CoverageState.NOT_RUNNING if begun else CoverageState.UNKNOWN


spans = st.lists(st.integers(0, 60), max_size=12, unique=True).map(
    lambda edges: list(map(Interval, sorted(edges)[::2], sorted(edges)[1::2]))
)


@given(spans, spans)
def test_clipping(some: list[Interval], within: list[Interval]) -> None:
    parts = list(clip_intervals(some, within))
    for instant in range(61):
        both = all(any(a <= instant < b for a, b in value) for value in (some, within))
        assert sum(a <= instant < b for a, b in parts) == both


# -- gaps ------------------------------------------------------------------------------------------


def test_adjacent_gaps_are_merged() -> None:
    actual = coverage(
        interval(0, 10),
        interval(10, 40 * SECOND, "disconnected"),
        interval(40 * SECOND, 70 * SECOND, "not_running"),
        interval(70 * SECOND, 80 * SECOND),
        interval(80 * SECOND, 110 * SECOND, "quiet"),
        interval(110 * SECOND, 120 * SECOND, "backfilled"),
        interval(120 * SECOND, 180 * SECOND, "session_closed"),
        interval(180 * SECOND, 190 * SECOND, "unknown"),
        interval(190 * SECOND, 191 * SECOND, "deleted"),
    )
    assert [gap.state.value for gap in actual.gaps()] == [
        "disconnected",
        "not_running",
        "quiet",
        "deleted",
    ]
    assert [gap.state.value for gap in actual.gaps("1m")] == ["disconnected", "not_running"]
    assert actual.gaps(timedelta(minutes=2)) == []
    assert repr(actual) == "<Coverage of 1 stream, 15.3% covered, 3 gaps>"
    with pytest.raises(UnknownPeriodError):
        actual.gaps("soon")


def test_closed_time_does_not_count() -> None:
    half = coverage(
        interval(0, 10, "session_closed"), interval(10, 20), interval(20, 30, "not_running")
    )
    assert half.fraction == 0.5
    assert coverage(interval(0, 10, "session_closed")).fraction == 1.0


def test_gaps_while_the_market_was_open() -> None:
    """From Friday 15:30 in New York to Tuesday 10:00; Monday was a holiday."""
    start = to_ns("2025-01-17T15:30", tz=NEW_YORK) - T0
    end = to_ns("2025-01-21T10:00", tz=NEW_YORK) - T0
    actual = coverage(interval(start, end, "not_running"))
    assert [(gap.duration, gap.state) for gap in actual.gaps(market="US")] == [
        (timedelta(minutes=30), CoverageState.NOT_RUNNING),
        (timedelta(minutes=30), CoverageState.NOT_RUNNING),
    ]
    assert [gap.duration for gap in actual.gaps(market="US", session="after_hours")] == [
        timedelta(hours=4)
    ]
    assert actual.gaps("31m", market="US") == []
    friday = actual.during("US").intervals[0]
    assert friday == (T0 + start, to_ns("2025-01-17T16:00", tz=NEW_YORK))
    with pytest.raises(UnknownMarketError):
        actual.gaps(market="Mars")
    with pytest.raises(UnknownMarketError):
        actual.gaps(market="US", session="lunch")


def test_a_lunch_break_is_no_gap() -> None:
    start, end = (to_ns(f"2025-01-10T{hour}:00", tz="Asia/Tokyo") - T0 for hour in (11, 13))
    actual = coverage(interval(start, end, "disconnected")).gaps(market=ibt.market("JP"))
    assert [gap.duration for gap in actual] == [timedelta(minutes=30), timedelta(minutes=30)]


# -- in frames -------------------------------------------------------------------------------------


def test_every_frame_has_coverage_metadata(day: ibticks.Store) -> None:
    selection = asked(day, 0, HOUR)
    expected_rows = [
        [AAPL, "last", "2025-01-10T14:30:00Z", "2025-01-10T14:40:00Z", "captured", ""],
        [
            *(AAPL, "last", "2025-01-10T14:40:00Z", "2025-01-10T14:45:00Z", "disconnected"),
            "1100: connection lost",
        ],
        [
            AAPL,
            "last",
            "2025-01-10T14:45:00Z",
            "2025-01-10T15:30:00Z",
            "captured",
            "1102: data kept",
        ],
    ]
    assert metadata_of(selection.to_arrow())["coverage"] == expected_rows
    assert selection.to_pandas().attrs["ibticks"]["coverage"] == expected_rows
    assert metadata_of(selection.to_xarray())["coverage"] == expected_rows
    assert metadata_of(pl.DataFrame(selection).to_arrow()) == {}  # polars has no place for it
    nothing = asked(day, 2 * HOUR, 3 * HOUR).to_pandas()
    assert len(nothing) == 0
    assert nothing.attrs["ibticks"]["coverage"][0][4] == "not_running"


def test_metadata_stays_small_and_keeps_the_gaps() -> None:
    many = [
        interval(at, at + 10, "captured" if at % 20 else "quiet", str(at))
        for at in range(0, 5000, 10)
    ]
    long = interval(5000, 9000)
    listed = coverage(*many, long).metadata()
    assert len(listed) == 100
    assert {value[4] for value in listed} == {"quiet"}
    few = coverage(*many[:40], long).metadata()
    assert [value[5] for value in few] == [value.reason for value in [*many[:40], long]]


def test_loading_a_frame_does_not_query_files_for_coverage(
    day: ibticks.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = day.select("AAPL", "last")
    streams, everything = [StreamKey(AAPL, "last")], [Interval(TIME_MIN, TIME_MAX)]
    for name in ("files", "tick_ranges", "open_files"):
        for base in type(day.index).__mro__:
            if name in vars(base):
                monkeypatch.delattr(base, name)
    assert len(coverage_metadata(day.root, day.index, streams, everything)) == 3
    with pytest.raises(AttributeError):
        selection.coverage()


def test_as_frames(day: ibticks.Store) -> None:
    actual = asked(day, 0, HOUR).coverage()
    frame = actual.to_polars()
    columns: dict[str, Any] = {
        "contract_id": pl.UInt32,
        "tick_type": pl.String,
        "start": pl.Datetime("ns", "UTC"),
        "end": pl.Datetime("ns", "UTC"),
        "duration": pl.Duration("ns"),
        "state": pl.String,
        "reason": pl.String,
    }
    assert frame.schema == pl.Schema(columns)
    assert frame["duration"].to_list() == [
        state_interval.duration for state_interval in actual.state_intervals
    ]
    assert frame["start"].dt.epoch("ns").to_list() == [
        state_interval.start_ns for state_interval in actual.state_intervals
    ]
    plain = actual.to_pandas()
    assert list(plain["state"]) == ["captured", "disconnected", "captured"]
    assert str(plain["start"].dtype) == "datetime64[ns, UTC]"
    assert plain["duration"].sum() == timedelta(hours=1)


# -- the index -------------------------------------------------------------------------------------


def test_a_rebuilt_index_has_the_same_coverage(day: ibticks.Store) -> None:
    before = day.index.coverage()
    assert len(before) == 3
    day.index.replace_coverage([])
    assert day.select("AAPL", "last").coverage().gaps() == []
    day.rebuild_index()
    assert day.index.coverage() == before


def test_opening_a_store_closes_intervals_of_killed_captures(
    fake_capture: type[FakeCapture], tmp_path: Path, database: str
) -> None:
    with ibt.open(tmp_path / "ticks", dsn=database) as store:
        capture = fake_capture(store.root, store.index, AAPL)
        capture.report_status(StreamStatus.SUBSCRIBED, T0)
        capture.tick(T0 + 5)
        with ibt.open(tmp_path / "ticks", dsn=database) as other:
            assert [row.end_ns for row in other.index.coverage()] == [None]  # it runs
        capture.kill()
    with ibt.open(tmp_path / "ticks", dsn=database) as store:
        assert [row.end_ns for row in store.index.coverage()] == [T0 + 6]
        store.rebuild_index()
        assert [row.end_ns for row in store.index.coverage()] == [T0 + 6]


def test_an_open_row_of_a_dead_capture_ends_at_the_next_one(
    store: ibticks.Store, database: str
) -> None:
    """A rebuild that met a capture at work may leave one open."""
    store.add_contract(AAPL, "AAPL")
    rows = [
        CoverageRecord(AAPL, "last", T0, None, "captured"),
        CoverageRecord(AAPL, "last", T0 + HOUR, T0 + 2 * HOUR, "disconnected"),
    ]
    store.index.put_coverage(rows)
    actual = asked(store, 0, 3 * HOUR).coverage()
    assert brief(actual.state_intervals) == [
        (0, HOUR, "captured"),
        (HOUR, 2 * HOUR, "disconnected"),
        (2 * HOUR, 3 * HOUR, "not_running"),
    ]
    with ibt.open(store.root, dsn=database):
        assert [row.end_ns for row in store.index.coverage()] == [T0 + HOUR, T0 + 2 * HOUR]


def test_rebuilding_during_a_capture(store: ibticks.Store, fake_capture: type[FakeCapture]) -> None:
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    before = store.index.coverage()
    store.rebuild_index()
    assert store.index.coverage() == before
    capture.stop(T0 + HOUR)
    assert [row.end_ns for row in store.index.coverage()] == [T0 + HOUR]


def test_rebuilding_during_a_capture_without_a_status_yet(
    store: ibticks.Store, fake_capture: type[FakeCapture], database: str
) -> None:
    """An interval that a killed capture left open does not belong to its successor."""
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.tick(T0 + 5)
    capture.kill()
    following = fake_capture(store.root, store.index, AAPL)
    store.rebuild_index()
    assert [row.end_ns for row in store.index.coverage()] == [T0 + 6]
    following.report_status(StreamStatus.SUBSCRIBED, T0 + HOUR)
    expected = [(T0, T0 + 6, "captured"), (T0 + HOUR, None, "captured")]
    for _ in range(2):
        rows = store.index.coverage()
        assert [(row.start_ns, row.end_ns, row.state) for row in rows] == expected
        store.rebuild_index()
    following.stop(T0 + 2 * HOUR)


def test_every_state_can_be_stored(store: ibticks.Store) -> None:
    rows = [
        CoverageRecord(AAPL, "last", at, at + 1, value.value) for at, value in enumerate(STORED)
    ]
    store.index.put_coverage(rows)
    assert store.index.coverage() == rows


def test_pruned_time_is_deleted_and_not_quiet(day: ibticks.Store) -> None:
    paths = day.prune("1h", now="2025-01-10T16:00Z", progress=False)
    assert paths == [f"{AAPL}/last/2025/01/10/14_ticks.pb"]
    pruned = [
        (0, 10 * MINUTE, "deleted"),
        (10 * MINUTE, 15 * MINUTE, "disconnected"),
        (15 * MINUTE, 30 * MINUTE, "deleted"),
        (30 * MINUTE, HOUR, "captured"),
    ]
    assert brief(asked(day, 0, HOUR).coverage().state_intervals) == pruned
    assert len(asked(day, 0, HOUR).coverage().gaps()) == 3
    day.rebuild_index()
    assert brief(asked(day, 0, HOUR).coverage().state_intervals) == pruned


def test_a_dry_run_deletes_nothing_from_the_ledger(day: ibticks.Store) -> None:
    before = day.index.coverage()
    day.prune("1h", now="2025-01-10T16:00Z", dry_run=True)
    assert day.index.coverage() == before


# -- to look at ------------------------------------------------------------------------------------


def test_the_report(day: ibticks.Store) -> None:
    gap = "2025-01-10T14:40:00Z to 2025-01-10T14:45:00Z  5m  disconnected 1100: connection lost"
    assert str(asked(day, -MINUTE, HOUR).coverage()).splitlines()[1:] == [
        "  2025-01-10T14:29:00Z to 2025-01-10T15:30:00Z",
        "  AAPL last   90.2 %  captured 55m, disconnected 5m, unknown 1m",
        "gaps: 1",
        f"  AAPL last  {gap}",
        f"unknown: {MEANINGS[CoverageState.UNKNOWN]}",
    ]
    assert str(asked(day, 0, 10 * MINUTE).coverage()).splitlines()[-1] == "gaps: none"


def test_a_long_report_lists_the_longest_gaps() -> None:
    many = coverage(
        *(
            interval(at * 100, (at + 1) * 100 + at, "quiet" if at % 2 else "captured")
            for at in range(100)
        )
    )
    lines = str(many).splitlines()
    assert lines[3] == "gaps: 50, the 20 longest"
    assert len(lines) == 24


def picture(value: Coverage) -> Any:
    """Render a coverage as SVG and parse it as XML, which fails on a mistake."""
    text = render_svg(value)
    assert not re.search(r"<script|href|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    return ElementTree.fromstring(text.replace(" xmlns='http://www.w3.org/2000/svg'", ""))


def test_the_picture(day: ibticks.Store) -> None:
    actual = asked(day, -MINUTE, HOUR).coverage()
    svg = picture(actual)
    assert svg.get("role") == "img"
    assert svg.get("aria-label").endswith(
        "2025-01-10T14:29:00Z to 2025-01-10T15:30:00Z. AAPL last 90.2 %"
    )
    bars = [rect for rect in svg.iter("rect") if rect.find("title") is not None]
    assert [bar.find("title").text.split("  ")[2] for bar in bars] == [
        "captured",
        "captured 1102: data kept",
        "disconnected 1100: connection lost",
        "unknown",
    ]
    edges = sorted((float(bar.get("x")), float(bar.get("width"))) for bar in bars)
    assert edges[0][0] == 170
    assert sum(edges[-1]) == pytest.approx(900, abs=0.2)
    assert all(
        left + width == pytest.approx(right, abs=0.2)
        for (left, width), (right, _) in pairwise(edges)
    )
    legend = [text.text for text in svg.iter("text") if text.find("title") is not None]
    assert legend == ["captured", "disconnected", "unknown"]


def test_a_short_gap_is_visible_in_a_long_picture() -> None:
    year = 365 * 24 * HOUR
    actual = coverage(
        interval(0, year // 2),
        interval(year // 2, year // 2 + SECOND, "disconnected"),
        interval(year // 2 + SECOND, year),
    )
    (gap,) = (r for r in picture(actual).iter("rect") if "disconnected" in "".join(r.itertext()))
    assert float(gap.get("width")) == 1.0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 400 * 24 * HOUR), st.sampled_from(CoverageState), st.text(max_size=5)
        ),
        min_size=1,
        max_size=300,
    )
)
def test_any_coverage_can_be_drawn_and_is_bounded(made: list[Any]) -> None:
    state_intervals, at = [], 0
    for length, state, reason in made:
        text = "".join(c for c in reason if c.isprintable())
        state_intervals.append(interval(at, at + length % HOUR + 1, state, text))
        at += length % HOUR + 1
    actual = coverage(*state_intervals)
    bars = list(picture(actual).iter("rect"))
    assert len(bars) <= 900 * 2
    assert all(170 <= float(r.get("x")) <= 901 for r in bars if r.find("title") is not None)


def test_several_intervals_are_drawn_side_by_side() -> None:
    days = [(at * 24 * HOUR, at * 24 * HOUR + HOUR) for at in range(30)]
    actual = coverage(
        *(interval(start, end) for start, end in days),
        intervals=[(T0 + start, T0 + end) for start, end in days],
    )
    svg = picture(actual)
    bars = [rect for rect in svg.iter("rect") if rect.find("title") is not None]
    assert len(bars) == 30
    dates = [text.text for text in svg.iter("text") if (text.text or "").startswith("2025-")]
    assert dates[0] == "2025-01-10"
    assert len(dates) == len(set(dates)) > 3


def test_symbols_and_reasons_are_escaped() -> None:
    evil = "<script>'\"&"
    actual = Coverage(
        (StreamKey(AAPL, "last"),),
        (Interval(T0, T0 + 9),),
        (interval(0, 9, "quiet", evil),),
        label=evil,
        symbols={AAPL: evil},
    )
    assert picture(actual).get("aria-label").startswith(f"coverage of {evil}")
    assert "<script" not in actual._repr_html_()


def test_a_page_lists_the_longest_gaps() -> None:
    many = coverage(
        *(interval(at * 10, at * 10 + 10, "quiet" if at % 2 else "captured") for at in range(50))
    )
    page = many._repr_html_()
    assert "the 10 longest of 25" in page
    assert page.count("<tr>") == 11
    assert "no gaps" in coverage(interval(0, 10))._repr_html_()


def test_every_state_has_a_description() -> None:
    assert set(MEANINGS) == set(CoverageState)
    assert set(CoverageState) > COMPLETE_STATES


@pytest.mark.parametrize(
    ("old", "new"),
    [("Stretch", CoverageInterval), ("State", CoverageState), ("Status", StreamStatus)],
)
def test_old_names_warn(
    old: str, new: type[CoverageInterval] | type[CoverageState] | type[StreamStatus]
) -> None:
    with pytest.warns(DeprecationWarning, match=new.__name__):
        assert getattr(ibticks.coverage, old) is new


def test_the_old_name_of_state_intervals_warns() -> None:
    actual = coverage(interval(0, 10))
    with pytest.warns(DeprecationWarning, match="state_intervals"):
        assert actual.stretches == actual.state_intervals
