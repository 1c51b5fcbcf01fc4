"""Backfilling from the gateway through the official client, into a store with its index."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ibticks as ibt
from ibticks.coverage import CoverageInterval, CoverageState, StreamStatus
from ibticks.errors import (
    ConnectionFailedError,
    IndexUnavailableError,
    InputError,
    TimeRangeError,
    UnknownContractError,
)
from ibticks.gateway import Gateway, GatewayContract, Replay
from ibticks.history import BackfilledInterval
from ibticks.history import _backfill as backfill_module
from ibticks.history import _client as history
from ibticks.history._stream_filler import StreamFiller
from ibticks.schema import TickColumns, Values
from ibticks.storage import StreamLock, seal_files
from ibticks.testing import FakeCapture
from tests.capture_checks import BTC, IBM, SERVER_VERSIONS, check_index, covered
from tests.forking import Children
from tests.recorded_replay import Recorded, everything, of_stream

from . import killed_backfills

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("nothing_left")

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
OPEN = 1_381_239_000 * SECOND  # 2013-10-08 13:30 UTC: New York opens
MIDNIGHT = 1_723_161_600 * SECOND  # 2024-08-09 00:00 UTC
KINDS = ("all_last", "bid_ask", "last", "mid_point")
FAST = ibt.Pacing(requests=10**6, burst=10**6, identical_seconds=0, messages_per_second=1000)
"""For a gateway that has no limits."""


@pytest.fixture(scope="session")
def midnight(samples: Replay) -> Replay:
    """Bitcoin around midnight: hundreds of quotes a second, and IB's clock is ahead."""
    return samples.only([BTC]).between(MIDNIGHT - 10 * SECOND, MIDNIGHT + 15 * SECOND)


@pytest.fixture(scope="session")
def morning(samples: Replay) -> Replay:
    """IBM around the open of New York."""
    return samples.only([IBM]).between(OPEN - MINUTE, OPEN + 4 * MINUTE)


@pytest.fixture
def gap() -> tuple[int, int]:
    """Ten seconds around midnight, neither edge at a second."""
    return (MIDNIGHT - 3_700_000_000, MIDNIGHT + 6_700_000_000)


@pytest.fixture
def fill(store: ibt.Store) -> Callable[..., ibt.BackfillResult]:
    """Backfills of the store from a gateway."""

    def run(gateway: Gateway | int, *what: Any, **how: Any) -> ibt.BackfillResult:
        port = gateway if isinstance(gateway, int) else gateway.port
        options: dict[str, Any] = {"port": port, "pacing": FAST} | how
        return ibt.backfill(store, *what, **options)

    return run


CLOSED_PORT = 1
"""A port on which nobody listens: whoever asks there fails."""


# -- the whole of it -------------------------------------------------------------------------------


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
@pytest.mark.parametrize("page_ticks", [50, 1000])
def test_gaps_of_four_tick_types_are_filled_from_the_history(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    page_ticks: int,
) -> None:
    recorded = Recorded(store, midnight, [gap])
    before = {kind: store.select(BTC, kind).to_polars() for kind in KINDS}
    days = store.daily_stats()
    gaps = store.coverage(BTC).gaps()
    assert {(g.state, g.start_ns, g.end_ns) for g in gaps} == {("disconnected", *gap)}
    result = fill(serve(midnight), page_ticks=page_ticks)
    recorded.check()
    # Nothing that is asked for without a word of backfill has changed.
    for kind in KINDS:
        assert store.select(BTC, kind).to_polars().equals(before[kind])
        assert store.select(BTC, kind).count() == len(before[kind])
    assert store.daily_stats() == days
    # The result lists the gaps and the ticks.
    assert [(g.contract_id, g.tick_type) for g in result.gaps] == [(BTC, kind) for kind in KINDS]
    assert result.remaining == ()
    for part in result.filled:
        assert (part.start_ns, part.end_ns) == gap
        assert part.ticks == recorded.missed(BTC, part.tick_type) > 100
        assert part.ticks == store.select(BTC, part.tick_type, backfill="only").count()
    assert result.ticks == sum(part.ticks for part in result.filled)
    assert covered(store, BTC, "bid_ask") == ["captured", *["backfilled"] * 2, "captured"]
    json.dumps(result.as_json())
    assert f"4 gaps, filled with {result.ticks:,} ticks in {result.requests} requests" == str(
        result
    )
    # There is nothing left to do, so IB is not asked.
    again = fill(CLOSED_PORT)
    assert (again.gaps, again.requests) == ((), 0)


def test_the_sample_day_with_many_gaps(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    samples: Replay,
    fill: Callable[..., ibt.BackfillResult],
) -> None:
    """Quotes of a day, sixty gaps of all lengths."""
    day = samples.only([IBM], ["bid_ask"])
    chance = random.Random(8314)
    edges = sorted(chance.sample(range(OPEN // 10**6, (OPEN + 390 * MINUTE) // 10**6), 120))
    gaps = [(a * 10**6, b * 10**6) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    recorded = Recorded(store, day.between(OPEN - MINUTE, OPEN + 400 * MINUTE), gaps)
    gateway = serve(day)
    # Backfill hour by hour, in several calls.
    ticks = 0
    for hour in range(7):
        start = OPEN + hour * 60 * MINUTE
        ticks += fill(gateway, start=start, end=min(start + 60 * MINUTE, recorded.end)).ticks
    assert ticks == recorded.missed(IBM, "bid_ask") > 10_000
    recorded.check()


def test_a_second_with_more_ticks_than_a_page(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    fill: Callable[..., ibt.BackfillResult],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Pages end within such a second, or with it; IB completes it, other servers may not."""
    counts = {0: 3, 1: 10, 2: 2500, 3: 1000, 4: 5, 5: 1, 9: 1500, 10: 700, 11: 700, 12: 4}
    crowded = crowd(counts)
    gap = (crowded.start_ns + SECOND // 2, crowded.end_ns - SECOND // 2)
    recorded = Recorded(store, crowded, [gap])
    result = fill(serve(crowded))
    assert result.ticks == recorded.missed(1, "mid_point") > 6000
    recorded.check()
    # A page has one second only, and may not contain all of it.
    [reported] = [record for record in caplog.records if record.name == "ibticks.history._plan"]
    assert "all 1000 ticks of a page are of 2023-11-14 22:13:23 UTC" in reported.getMessage()


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_a_server_that_cuts_seconds_causes_no_duplicates(
    store: ibt.Store, serve: Callable[..., Gateway], fill: Callable[..., ibt.BackfillResult]
) -> None:
    counts = {0: 3, 1: 400, 2: 700, 3: 700, 4: 300, 5: 2500, 6: 700, 7: 9}
    crowded = crowd(counts)
    gap = (crowded.start_ns + SECOND // 2, crowded.end_ns - SECOND // 2)
    Recorded(store, crowded, [gap])
    gateway = serve(crowded)
    gateway.cut_pages()
    result = fill(gateway)
    assert result.remaining == ()
    whole = of_stream(crowded.streams[1, "mid_point"])
    there = everything(store, 1, "mid_point")
    assert there <= whole
    # All but what is behind the cut of a second that is longer than a page.
    lost = whole - there
    assert lost.total() == 2500 - 1000
    second: Any
    [second] = {tick[-1] for tick in lost}
    assert int(second.timestamp()) == crowded.start_ns // SECOND + 5
    check_index(store.root, store.index)
    assert fill(CLOSED_PORT).gaps == ()


def crowd(counts: dict[int, int]) -> Replay:
    """A contract with a number of different mid points in each second."""
    begin = 1_700_000_000
    seconds = np.repeat(np.array(list(counts)), np.array(list(counts.values())))
    steps = np.concatenate([np.arange(n) * (SECOND // n) for n in counts.values()])
    columns: dict[str, Any] = {
        "timestamp": Values((begin + seconds) * SECOND + steps),
        "mid_price": Values(1.0 + np.arange(len(seconds)) / 64),
    }
    contract = GatewayContract(contract_id=1, symbol="ONE")
    return Replay.from_columns([contract], {(1, "mid_point"): TickColumns(len(seconds), columns)})


def test_frames_mark_backfilled_ticks(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask"]), [gap])
    fill(serve(midnight))
    plain, both, alone = (
        store.select(BTC, "bid_ask", backfill=how) for how in ("exclude", "include", "only")
    )
    assert plain.count() + alone.count() == both.count() == recorded.replay.rows
    assert store.select(BTC, "bid_ask").count() == plain.count()
    assert [
        selection.to_pandas().attrs["ibticks"]["backfill"] for selection in (plain, both, alone)
    ] == ["exclude", "include", "only"]
    for selection in (plain, both, alone):
        details = selection.to_pandas().attrs["ibticks"]["coverage"]
        assert {row[4] for row in details} == {"captured", "backfilled"}
        assert selection.to_arrow().num_rows == selection.count()
        assert selection.lazy().collect().equals(selection.to_polars())
        assert selection.to_polars()["timestamp"].is_sorted()
    assert "with backfilled ticks" in str(both)
    assert "backfilled ticks only" in str(alone)
    rows = store.select(
        BTC,
        "bid_ask",
        columns=["timestamp", "exchange_time", "sequence", "metadata"],
        backfill="only",
    ).to_polars()
    assert rows["sequence"].is_null().all()
    assert rows["timestamp"].equals(rows["exchange_time"], check_names=False)
    assert (rows["timestamp"].dt.nanosecond() == 0).all()
    assert rows["metadata"].to_list() == [{"source": "backfill"}] * len(rows)
    # Messages, too.
    assert not any(m["data"]["status"] == "backfilled" for m in plain.messages())
    notes = [message for message in alone.messages() if message["type"] == "info"]
    assert sum(note["metadata"]["ticks"] for note in notes) == alone.count()
    with pytest.raises(InputError, match=r"'exclude'.*'include'.*'only'"):
        store.select(BTC, "bid_ask", backfill="yes")  # type: ignore[arg-type]


def test_a_rebuilt_ledger_is_the_same(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    Recorded(store, midnight, [gap])
    fill(serve(midnight))
    rows = store.index.coverage()
    store.rebuild_index(progress=False)
    assert store.index.coverage() == rows
    assert store.coverage(BTC).durations[CoverageState.BACKFILLED].total_seconds() == pytest.approx(
        41.6
    )


def test_compressed_and_pruned_as_any_other_file(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    later = (MIDNIGHT + 9 * SECOND, MIDNIGHT + 11 * SECOND)
    recorded = Recorded(store, midnight.only(None, ["bid_ask"]), [gap, later])
    gateway = serve(midnight)
    assert len(fill(gateway, end=MIDNIGHT + 8 * SECOND).filled) == 1
    assert {record.path.rpartition("/")[2] for record in store.compress(progress=False)} == {
        *("23_ticks.pb", "23-backfill_ticks.pb", "00_ticks.pb", "00-backfill_ticks.pb")
    }
    # The other gap lies in an hour that is compressed already.
    assert len(fill(gateway).filled) == 1
    recorded.check()
    assert len(store.prune("1d", progress=False)) == 4
    assert store.index.files() == []
    assert set(covered(store, BTC, "bid_ask")) == {"deleted"}
    # What was deleted on purpose is not fetched again.
    assert fill(CLOSED_PORT, BTC).gaps == ()


# -- which gaps ------------------------------------------------------------------------------------


def test_a_range_is_half_open_and_exact(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask"]), [gap])
    start, end = MIDNIGHT - 2 * SECOND, MIDNIGHT + SECOND
    gateway = serve(midnight)
    result = fill(gateway, BTC, "bid_ask", start, end)
    assert (result.filled[0].start_ns, result.filled[-1].end_ns) == (start, end)
    times = store.select(BTC, "bid_ask", backfill="only").to_polars()["timestamp"].dt.epoch("ns")
    assert (times.min(), times.max()) == (start, end - SECOND)
    stream = midnight.streams[BTC, "bid_ask"]
    inside = (stream.seconds >= start // SECOND) & (stream.seconds < end // SECOND)
    assert result.ticks == inside.sum() > 100
    left = store.coverage(BTC, "bid_ask").gaps()
    assert [(g.start_ns, g.end_ns) for g in left] == [(gap[0], start), (end, gap[1])]
    # A range that is not of whole seconds is taken as the seconds it touches.
    between = fill(gateway, BTC, "bid_ask", end + 1, end + SECOND + 1)
    assert [(p.start_ns, p.end_ns) for p in between.filled] == [(end, end + 2 * SECOND)]
    fill(gateway, BTC, start="2024-08-08 19:59", end="2024-08-08 20:01", tz="America/New_York")
    recorded.check()


def test_only_selected_streams_are_filled(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    morning: Replay,
    fill: Callable[..., ibt.BackfillResult],
) -> None:
    long = (OPEN + 20 * SECOND, OPEN + 30 * SECOND)
    short = (long[1] + MINUTE, long[1] + MINUTE + SECOND)
    Recorded(store, morning, [long, short])

    def planned(*what: str | int | list[Any], **how: Any) -> tuple[CoverageInterval, ...]:
        return fill(CLOSED_PORT, *what, dry_run=True, **how).gaps

    assert {gap.tick_type for gap in planned("IBM", "last")} == {"last"}
    assert len(planned(IBM, ["last", "bid_ask"])) == 4
    assert len(planned(min_duration="5s")) == 4
    assert planned(market="US", session="pre_market") == ()
    assert len(planned(market="US")) == 8
    assert len(planned(end=long[1])) == 4
    with pytest.raises(UnknownContractError, match="AAPL"):
        planned("AAPL")
    with pytest.raises(TimeRangeError):
        planned(start=OPEN, end=OPEN)
    with pytest.raises(InputError, match="page_ticks=1001"):
        planned(page_ticks=1001)


def test_a_dry_run_sends_no_request_and_changes_nothing(
    store: ibt.Store,
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    Recorded(store, midnight, [gap])
    rows, files = store.index.coverage(), store.index.files()
    result = fill(CLOSED_PORT, dry_run=True)
    assert len(result.gaps) == 4
    assert (result.filled, result.remaining, result.requests) == ((), (), 0)
    assert str(result).splitlines()[0] == "4 gaps to fill"
    assert (store.index.coverage(), store.index.files()) == (rows, files)


def test_a_range_without_an_end_reaches_to_now(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    few: Replay,
    fill: Callable[..., ibt.BackfillResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time after the last capture is a gap, and coverage lists it."""
    monkeypatch.setattr(backfill_module, "SETTLE_SECONDS", 1)
    now = time.time_ns()
    capture = FakeCapture(store.root, store.index, IBM, "last")
    capture.report_status(StreamStatus.SUBSCRIBED, now - 100 * SECOND)
    stopped = capture.stop(now - 60 * SECOND)
    [gap] = store.coverage(IBM, "last", start=now - 100 * SECOND).gaps()
    assert (gap.start_ns, gap.state) == (stopped, "not_running")
    assert fill(CLOSED_PORT).gaps == ()  # as far as anything is known
    result = fill(serve(few), start=now - 100 * SECOND)
    [part] = result.filled
    assert part.start_ns == stopped
    assert part.end_ns >= now
    assert result.remaining == ()
    check_index(store.root, store.index)


def test_open_gaps_are_left_and_recent_gaps_wait(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    few: Replay,
    fill: Callable[..., ibt.BackfillResult],
) -> None:
    now = time.time_ns()
    capture = FakeCapture(store.root, store.index, IBM, "last")
    capture.report_status(StreamStatus.SUBSCRIBED, now - 100 * SECOND)
    capture.report_status(StreamStatus.DISCONNECTED, now - 90 * SECOND)
    capture.report_status(StreamStatus.SUBSCRIBED, now - 80 * SECOND)
    capture.report_status(StreamStatus.DISCONNECTED, now - 60 * SECOND)
    gateway = serve(few)
    [part] = fill(gateway).filled
    assert (part.start_ns, part.end_ns) == (now - 90 * SECOND, now - 80 * SECOND)
    assert covered(store, IBM, "last") == ["captured", "backfilled", "captured", "disconnected"]
    # The gap ended a moment ago, and no live tick has arrived yet to bound it.
    ended = capture.report_status(StreamStatus.SUBSCRIBED, time.time_ns())
    result = fill(gateway)
    [left] = result.remaining
    assert left.reason == "too recent"
    assert left.gap.end_ns == ended
    [part] = result.filled
    assert part.start_ns == now - 60 * SECOND
    assert part.end_ns == left.gap.start_ns <= time.time_ns()
    capture.stop(ended + SECOND)
    check_index(store.root, store.index)


def test_a_capture_that_was_killed_left_a_gap_up_to_the_next_one(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
) -> None:
    stream = midnight.streams[BTC, "bid_ask"]
    begin, until_ns, from_ns, end = (MIDNIGHT + n * SECOND for n in (-11, -4, 2, 17))
    first = FakeCapture(store.root, store.index, BTC, "bid_ask")
    first.report_status(StreamStatus.SUBSCRIBED, begin)
    here = slice(*np.searchsorted(stream.time_ns, (begin, until_ns)).tolist())
    first.writer.write(stream.columns.take(here), stream_id=first.stream_id)
    first.kill()
    second = FakeCapture(store.root, store.index, BTC, "bid_ask")
    second.report_status(StreamStatus.SUBSCRIBED, from_ns)
    here = slice(*np.searchsorted(stream.time_ns, (from_ns, end)).tolist())
    second.writer.write(stream.columns.take(here), stream_id=second.stream_id)
    result = fill(serve(midnight))
    assert [g.state for g in result.gaps] == [CoverageState.NOT_RUNNING]
    second.stop(end)
    assert everything(store, BTC, "bid_ask") == of_stream(stream)
    assert store.coverage(BTC, "bid_ask", end=end).fraction == 1.0
    check_index(store.root, store.index)


# -- what goes wrong -------------------------------------------------------------------------------


def kinds(parts: tuple[BackfilledInterval, ...]) -> list[Any]:
    return list(dict.fromkeys(part.tick_type for part in parts))


@pytest.mark.parametrize("server_version", [200, 226])
@pytest.mark.parametrize("code", [162, 10187, 354])
def test_a_stream_that_ib_refuses_is_left_and_the_others_are_filled(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    code: int,
) -> None:
    recorded = Recorded(store, midnight, [gap])
    gateway = serve(midnight)
    text = "Historical Market Data Service error message:No market data permissions for PAXOS"
    gateway.refuse_history(BTC, "TRADES", code=code, message=text)
    result = fill(gateway)
    assert [left.gap.tick_type for left in result.remaining] == ["all_last", "last"]
    assert {left.reason for left in result.remaining} == {f"{text} ({code})"}
    assert kinds(result.filled) == ["bid_ask", "mid_point"]
    assert f", 2 left\n  {BTC} all_last 2024-08-08T23:59:56.300Z to 2024-08-09T00:00" in str(result)
    assert str(code) in json.dumps(result.as_json())
    assert set(covered(store, BTC, "last")) == {"captured", "disconnected"}
    # When IB can be asked again, the rest is filled.
    gateway.grant_history(BTC, "TRADES")
    assert kinds(fill(gateway).filled) == ["all_last", "last"]
    recorded.check()


def test_a_contract_ib_does_not_know_leaves_the_others(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    both = midnight.only(None, ["last"]).cloned(1, first_id=BTC + 1)
    recorded = Recorded(store, both, [gap])
    # The gateway does not know the first contract.
    result = fill(serve(both.only([BTC + 1])))
    [left] = result.remaining
    assert left.gap.contract_id == BTC
    assert "No security definition has been found for the request (200)" in left.reason
    assert {part.contract_id for part in result.filled} == {BTC + 1}
    assert {part.contract_id for part in fill(serve(both)).filled} == {BTC}
    recorded.check()


def test_a_contract_without_an_exchange(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    """IB is asked first; one it does not know is refused then."""
    recorded = Recorded(store, midnight.only(None, ["last"]), [gap], has_symbols=False)
    assert store.contracts() == []
    [left] = fill(serve(Replay([], []))).remaining
    assert "(200)" in left.reason
    assert fill(serve(midnight)).remaining == ()
    recorded.check()


@pytest.mark.parametrize("page_ticks", [20, 1000])
def test_a_pacing_violation_slows_requests_down(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    page_ticks: int,
) -> None:
    """The first pages come; then it is too fast for IB, twice in a row."""
    recorded = Recorded(store, midnight.only(None, ["bid_ask"]), [gap])
    monkeypatch.setattr(history, "_RETRY_SECONDS", (0.05, 0.1, 0.1))
    gateway = serve(midnight)
    plain = fill(gateway, end=MIDNIGHT - 2 * SECOND, page_ticks=page_ticks)
    gateway.refuse_history(BTC, times=2)  # 162: pacing violation
    result = fill(gateway, page_ticks=page_ticks)
    assert (plain.remaining, result.remaining) == ((), ())
    assert [
        record.getMessage().partition(": ")[0]
        for record in caplog.records
        if record.name == "ibticks.history._client"
    ] == [f"pacing violation, retry in {wait:g} s" for wait in (0.05, 0.1)]
    assert "pacing violation" in caplog.text
    recorded.check()


def test_a_pacing_violation_that_does_not_end_leaves_the_gap(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask", "last"]), [gap])
    monkeypatch.setattr(history, "_RETRY_SECONDS", (0.01, 0.01, 0.01))
    gateway = serve(midnight)
    gateway.refuse_history(BTC, "BID_ASK")
    result = fill(gateway)
    [left] = result.remaining
    assert left.gap.tick_type == "bid_ask"
    assert "pacing violation (162)" in left.reason
    assert {part.tick_type for part in result.filled} == {"last"}
    gateway.grant_history(BTC, "BID_ASK")
    fill(gateway)
    recorded.check()


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_a_connection_lost_during_a_backfill(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask", "last"]), [gap])
    gateway = serve(midnight)
    reported = []

    def hang_up(part: Any) -> None:
        reported.append(part)
        if len(reported) == 1:
            gateway.drop()

    result = fill(gateway, page_ticks=20, on_filled=hang_up)
    assert [left.gap.tick_type for left in result.remaining] == ["bid_ask", "last"]
    assert all("closed" in left.reason or "504" in left.reason for left in result.remaining)
    [done] = result.filled
    assert (done.start_ns, done.end_ns) == (gap[0], result.remaining[0].gap.start_ns)
    assert done.ticks == store.select(BTC, "bid_ask", backfill="only").count() > 0
    assert (result.remaining[0].gap.end_ns, result.remaining[1].gap.start_ns) == gap[::-1]
    # What was filled is not asked for again, and not left out either.
    again = fill(gateway, page_ticks=20)
    assert again.filled[0].start_ns == done.end_ns
    assert result.ticks + again.ticks == sum(
        recorded.missed(BTC, kind) for kind in ("bid_ask", "last")
    )
    recorded.check()


def test_a_gateway_that_does_not_answer(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask", "last"]), [gap])
    gateway = serve(midnight)
    stalled: list[Any] = []
    connections = []
    connect = history.HistoryClient.__init__

    def remember(connection: Any, *args: Any, **options: Any) -> None:
        connections.append(connection)
        connect(connection, *args, **options)

    def stall(part: Any) -> None:
        if not stalled:
            stalled.append(gateway.stall())
            # Only now: a busy machine may take longer than that for an answer that comes.
            connections[-1]._answer_timeout = 0.3

    monkeypatch.setattr(history.HistoryClient, "__init__", remember)
    result = fill(gateway, page_ticks=20, on_filled=stall)
    assert [left.gap.tick_type for left in result.remaining] == ["bid_ask", "last"]
    assert {left.reason for left in result.remaining} == {"no answer within 0.3 s"}
    gateway.flow()
    assert gateway.wait_clients(0)
    fill(gateway)
    recorded.check()


def test_a_gateway_that_is_away_or_refuses_the_client(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    recorded = Recorded(store, midnight.only(None, ["last"]), [gap])
    gateway = serve(midnight)
    gateway.refuse(11)
    with pytest.raises(ConnectionFailedError, match="326"):
        fill(gateway)
    with pytest.raises(ConnectionFailedError, match="502"):
        fill(CLOSED_PORT)
    assert fill(gateway, client_id=12).remaining == ()
    recorded.check()


@pytest.mark.filterwarnings("ignore::ibticks.errors.IndexAwayWarning")
@pytest.mark.parametrize("catalogued", [False, True])
def test_a_database_lost_during_a_backfill(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    outage: Callable[..., None],
    catalogued: bool,
) -> None:
    """A gap that was begun is filled; the ledger is not relied on for the rest."""
    recorded = Recorded(store, midnight.only(None, ["bid_ask", "last"]), [gap])
    if catalogued:
        store.write_catalogue()
    gateway = serve(midnight)
    reported = []

    def take_away(part: Any) -> None:
        reported.append(part)
        if len(reported) == 1:
            outage(away=True)

    result = fill(gateway, page_ticks=20, on_filled=take_away)
    assert (kinds(result.filled), result.filled[-1].end_ns) == (["bid_ask"], gap[1])
    [left] = result.remaining
    assert left.gap.tick_type == "last"
    assert "PostgreSQL is away" in left.reason
    with pytest.raises(IndexUnavailableError, match="PostgreSQL is away"):
        fill(CLOSED_PORT)
    outage(away=False)
    store.index.connect()
    check_index(store.root, store.index)
    assert kinds(fill(gateway).filled) == ["last"]
    recorded.check()


def test_a_backfill_can_be_interrupted(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask", "last"]), [gap])
    stopping = threading.Event()
    result = fill(
        serve(midnight),
        page_ticks=20,
        on_filled=lambda part: stopping.set(),
        stopping=stopping,
    )
    assert {left.reason for left in result.remaining} == {"stopped"}
    assert len(result.filled) == 1
    check_index(store.root, store.index)
    fill(serve(midnight))
    recorded.check()


def test_a_stream_of_another_backfill_is_skipped(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask", "last"]), [gap])
    lock = StreamLock(store.root, BTC, "bid_ask", backfill=True)
    result = fill(serve(midnight))
    lock.release()
    [left] = result.remaining
    assert left.gap.tick_type == "bid_ask"
    assert f"already written by process {os.getpid()}" in left.reason
    assert fill(serve(midnight)).remaining == ()
    recorded.check()


def test_no_unnecessary_request_is_sent(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
) -> None:
    """Only seconds that a page may have cut are requested twice."""
    recorded = Recorded(store, midnight.only(None, ["bid_ask"]), [gap])
    with StreamFiller(
        store.root,
        store.index,
        BTC,
        "bid_ask",
        lambda start, most: [],
        run="look",
        page_ticks=1,
        sealer=seal_files,
    ) as look:
        first, last = look.seconds_of(*gap)
    stream = midnight.streams[BTC, "bid_ask"]
    inside = ((stream.seconds >= first) & (stream.seconds < last)).sum()
    result = fill(serve(midnight), page_ticks=100)
    # Each page completes a second, so there are fewer than the ticks make.
    assert result.requests <= inside // 100 + 1
    assert fill(CLOSED_PORT).requests == 0
    recorded.check()


# -- killed ----------------------------------------------------------------------------------------

STEPS = ["page", "append", "index", "seal"]


@pytest.fixture
def backfills(store: ibt.Store, database: str, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Forks backfills, each to die at one of its steps; gives how it ended."""
    children = Children(killed_backfills.__file__, tmp_path / "prepared")

    def run(gateway: Gateway, *, at: int, where: list[str] = STEPS, page_ticks: int = 50) -> int:
        arguments = {"root": store.root, "dsn": database, "port": gateway.port}
        pid = children.start("run", page_ticks=page_ticks, at=at, where=where, **arguments)
        code = children.wait(pid)
        assert gateway.wait_clients(0)
        return code

    yield run
    children.close()


def test_killed_at_any_step_and_run_again_each_tick_is_stored_once(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    backfills: Callable[..., int],
) -> None:
    recorded = Recorded(store, midnight.only(None, ["bid_ask", "last"]), [gap])
    gateway = serve(midnight)
    chance = random.Random(7)
    codes: list[Any] = []
    while len(codes) < 60 and 0 not in codes:
        codes.append(backfills(gateway, at=chance.randrange(1, 40)))
        for kind in ("bid_ask", "last"):
            assert everything(store, BTC, kind) <= of_stream(midnight.streams[BTC, kind])
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    assert len(codes) > 5
    recorded.check()
    assert all(file.sealed for file in store.index.files())
    assert not any(finding.problem for finding in store.verify(progress=False))
    assert fill(CLOSED_PORT).gaps == ()


@pytest.mark.parametrize("at", [1, 2])
def test_killed_after_the_last_gap_the_next_backfill_seals_the_files(
    store: ibt.Store,
    serve: Callable[..., Gateway],
    midnight: Replay,
    fill: Callable[..., ibt.BackfillResult],
    gap: tuple[int, int],
    backfills: Callable[..., int],
    at: int,
) -> None:
    """No gap is left, so without it the open file would stay open; IB is not asked."""
    recorded = Recorded(store, midnight.only(None, ["bid_ask"]), [gap])
    gateway = serve(midnight)
    assert backfills(gateway, at=at, where=["seal"], page_ticks=1000) == -signal.SIGKILL
    files = store.index.files()
    assert [file.sealed for file in files if file.backfilled] == [False, False]
    fill(CLOSED_PORT, dry_run=True)
    assert store.index.files() == files
    assert fill(CLOSED_PORT).gaps == ()
    recorded.check()
    assert all(file.sealed for file in store.index.files())
