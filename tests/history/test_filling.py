"""Gaps of one stream, filled from a history in memory: whatever was lost, and however it ends."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ibticks.coverage import CoverageState, StreamStatus, missing_intervals, rebuild_coverage
from ibticks.errors import CaptureError, WriterLockedError
from ibticks.format._decode import decode
from ibticks.history._stream_filler import StreamFiller
from ibticks.history._ticks import (
    HistoricalTick,
    StoredTicks,
    encode_tick,
    parse_tick,
    stored_tick,
    subtract_stored,
)
from ibticks.index import MemoryIndex
from ibticks.schema import TickColumns, Values
from ibticks.storage import iter_messages, list_files, seal_files, verify_files
from ibticks.storage._audit import read_all_records
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks._types import Interval
    from ibticks.testing import FakeCapture

CONTRACT, KIND = 8314, "mid_point"
SECOND = 1_000_000_000
T0 = 1_381_240_790 * SECOND  # 2013-10-08 13:59:50 UTC: an hour, and so a file, ends soon
ALL = (-(2**62), 2**62)
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Killed(BaseException):
    """A kill, as the code sees it: it goes no further, and cleans nothing up."""


@dataclass
class World:
    """A market, a capture of it with gaps, and IB's history of it.

    The market's ticks are numbered by their price; ``latency`` later they reach the capture.
    """

    root: Path
    index: MemoryIndex
    fake_capture: type
    ticks: list[tuple[int, float]]  # IB's time in ns, price
    latency: int
    gaps: list[tuple[int, int]]  # by our clock
    unnoticed: int  # how long the line had been dead before a gap was noticed
    begin: int
    end: int
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ticks.sort()
        self.history = [HistoricalTick(time // SECOND, (price,)) for time, price in self.ticks]
        self.seconds = [tick.time for tick in self.history]
        self.index.put_contracts([])
        self.capture()

    def came(self, time: int) -> int:
        """Return the time at which a tick arrived, or would have arrived."""
        return time + self.latency

    def is_captured(self, time: int) -> bool:
        came = self.came(time)
        lost = any(start - self.unnoticed <= came < end for start, end in self.gaps)
        return self.begin <= came < self.end and not lost

    def capture(self) -> None:
        capture = self.fake_capture(self.root, self.index, CONTRACT, KIND)
        events = [(self.begin, StreamStatus.SUBSCRIBED), (self.end, StreamStatus.STOPPED)]
        for start, end in self.gaps:
            events += [(start, StreamStatus.DISCONNECTED), (end, StreamStatus.SUBSCRIBED)]
        live = [(time, price) for time, price in self.ticks if self.is_captured(time)]
        for at, status in sorted(events):
            before = [tick for tick in live if self.came(tick[0]) < at]
            live = live[len(before) :]
            self.write(capture, before)
            assert capture.report_status(status, at) == at
        capture.writer.close()

    def write(self, capture: Any, ticks: list[tuple[int, float]]) -> None:
        times = np.array([time for time, _ in ticks], dtype=np.int64)
        columns: dict[str, Any] = {
            "timestamp": Values(times + self.latency),
            "mid_price": Values(np.array([price for _, price in ticks], dtype=np.float64)),
            "exchange_time": Values(times // SECOND),
        }
        capture.writer.write(TickColumns(len(ticks), columns), stream_id=capture.stream_id)

    def ask(self, start: Any, most: Any) -> list[HistoricalTick]:
        """The page of IB's history that begins with a second."""
        self.asked.append(start)
        first = bisect_left(self.seconds, start)
        page = self.history[first : first + most]
        if page:
            page = self.history[first : bisect_left(self.seconds, page[-1].time + 1)]
        return page

    def filler(
        self, ask: Callable[..., list[HistoricalTick]] | None = None, page_ticks: int = 1000
    ) -> StreamFiller:
        return StreamFiller(
            self.root,
            self.index,
            CONTRACT,
            KIND,
            ask or self.ask,
            run="backfill",
            page_ticks=page_ticks,
            sealer=seal_files,
        )

    def open_gaps(self) -> list[Interval]:
        known = self.index.coverage([CONTRACT], [KIND])
        return missing_intervals(known, self.begin, self.end)

    def fill(self, filler: StreamFiller) -> list[Any]:
        """Fill all gaps; return the reported intervals."""
        parts: list[Any] = []
        for gap in self.open_gaps():
            for start, end in filler.missing_intervals(*gap):
                parts += filler.fill(start, end, *filler.seconds_of(start, end))
        return parts

    def fill_all(self) -> Any:
        with self.filler() as filler:
            return self.fill(filler)

    def stored(self, *, backfilled_rows: bool) -> list[Any]:
        """All ticks of the captured, or the backfilled, files."""
        return [
            stored_tick(message)
            for file in self.index.files()
            if file.backfilled == backfilled_rows
            for message in iter_messages(self.root, file, *ALL)
            if message.HasField("tick_data")
        ]

    def check(self) -> None:
        """Assert that every captured tick is stored once, with a correct ledger."""
        captured, filled = (self.stored(backfilled_rows=kind) for kind in (False, True))
        there = Counter(captured + filled)
        assert there <= Counter(self.history)  # nothing twice, nothing of another world
        # Ticks of the second before the first one of the capture were not captured.
        expected = Counter(
            tick
            for tick, (time, _) in zip(self.history, self.ticks, strict=True)
            if self.begin <= tick.time * SECOND and self.came(time) < self.end
        )
        assert expected <= there
        assert self.open_gaps() == []
        states = {row.state for row in self.index.coverage()}
        assert states <= {CoverageState.CAPTURED, CoverageState.BACKFILLED}
        assert self.index.files() == MemoryIndex(files=read_all_records(self.root)).files()
        assert rebuild_coverage(self.root, self.index.files()) == self.index.coverage()
        assert all(path.problem is None for path in verify_files(self.root, self.index))


@st.composite
def worlds(draw: Any) -> dict[Any, Any]:
    """Gaps from half a second to an hour, with ticks at and around their edges."""
    tenth = SECOND // 10
    at, gaps, edges = 0, [], [0]
    for _ in range(draw(st.integers(1, 4))):
        at += draw(st.integers(50, 200))  # captured
        start, at = at, at + draw(st.one_of(st.integers(1, 120), st.sampled_from([7200, 36_300])))
        gaps.append((T0 + start * tenth, T0 + at * tenth))
        edges += [start, at]
    end = at + draw(st.integers(50, 200))
    unnoticed = draw(st.sampled_from([0, 0, 12, 40, 300]))
    edges += [end, *(start - unnoticed for start, _ in gaps)]
    near = st.builds(lambda edge, step: edge + step, st.sampled_from(edges), st.integers(-25, 25))
    times = draw(st.lists(st.one_of(near, st.integers(-20, end + 20)), max_size=70))
    crowd = draw(st.lists(near, max_size=2))  # seconds with more than a page
    times += [time - time % 10 + step for time in crowd for step in range(10)] * 2
    prices = draw(st.lists(st.integers(0, 3), min_size=len(times), max_size=len(times)))
    return {
        "ticks": [(T0 + t * tenth, float(p)) for t, p in zip(times, prices, strict=True)],
        "latency": draw(st.sampled_from([0, tenth, 7 * tenth, 15 * tenth])),
        "gaps": gaps,
        "unnoticed": unnoticed * tenth,
        "begin": T0,
        "end": T0 + end * tenth,
    }


@pytest.fixture(scope="module")
def build(fake_capture: type[FakeCapture]) -> Callable[..., World]:
    def make(folder: str, how: dict[Any, Any]) -> World:
        return World(Path(folder) / "ticks", MemoryIndex(), fake_capture, **how)

    return make


AT_THE_HOUR = {
    # What belongs to the gap reaches into the next hour, where nothing of the gap is to be noted.
    "ticks": [(T0 + 5 * SECOND, 0.0), (T0 + 10 * SECOND + SECOND // 10, 0.0)],
    "latency": 0,
    "gaps": [(T0 + 5 * SECOND, T0 + 5 * SECOND + SECOND // 10)],
    "unnoticed": 0,
    "begin": T0,
    "end": T0 + 10 * SECOND + SECOND // 10,
}


@example(AT_THE_HOUR, 1)
@settings(max_examples=100, deadline=None)
@given(worlds(), st.integers(1, 9))
def test_live_and_backfilled_ticks_are_complete(
    build: Callable[..., World], how: Any, page_ticks: int
) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        world = build(folder, how)
        before = world.stored(backfilled_rows=False)
        with world.filler(page_ticks=page_ticks) as filler:
            parts = world.fill(filler)
        world.check()
        assert world.stored(backfilled_rows=False) == before
        assert sum(part.ticks for part in parts) == len(world.stored(backfilled_rows=True))
        asked = len(world.asked)
        assert world.fill_all() == []
        assert len(world.asked) == asked


@settings(max_examples=100, deadline=None)
@given(worlds(), st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4))
def test_a_killed_backfill_resumes_without_duplicates(
    build: Callable[..., World], how: Any, kills: list[Any]
) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        world = build(folder, how)
        for steps, is_written in kills:
            filler = world.filler(page_ticks=7)
            die_after(filler, steps, is_written=is_written)
            try:
                world.fill(filler)
            except Killed:
                leave_as_it_is(filler)
            else:
                filler.close()
        world.fill_all()
        world.check()


def die_after(filler: StreamFiller, steps: Any, *, is_written: Any) -> None:
    """Have a filler die at an append, before or after it reached the file."""
    plain = filler._appender.append_frames
    left = [steps]

    def append(frames: Any, time_ns: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            if is_written:
                plain(frames, time_ns)
            raise Killed
        plain(frames, time_ns)

    filler._appender.append_frames = append  # type: ignore[method-assign]


def leave_as_it_is(filler: StreamFiller) -> None:
    appender = filler._appender
    for file in appender._open.values():
        file.close()
    appender._open.clear()
    appender._stream_lock.release()


@settings(max_examples=60, deadline=None)
@given(worlds(), st.lists(st.integers(0, 6), max_size=4))
def test_time_filled_before_a_refusal_is_recorded(
    build: Callable[..., World], how: Any, page_counts: list[Any]
) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        world = build(folder, how)
        for pages in page_counts:
            world.asked.clear()

            def ask(start: Any, most: Any, pages: Any = pages) -> list[HistoricalTick]:
                if len(world.asked) == pages:
                    raise CaptureError("no more today", code=162)
                return world.ask(start, most)

            left = world.open_gaps()
            parts: list[Any] = []
            with world.filler(ask, page_ticks=7) as filler:
                try:
                    for start, end in [p for gap in left for p in filler.missing_intervals(*gap)]:
                        parts += filler.fill(start, end, *filler.seconds_of(start, end))
                except CaptureError:
                    assert len(world.asked) == pages
            assert world.index.files() == MemoryIndex(files=read_all_records(world.root)).files()
            assert rebuild_coverage(world.root, world.index.files()) == world.index.coverage()
        world.fill_all()
        world.check()


# -- one thing at a time ---------------------------------------------------------------------------


@pytest.fixture
def world(build: Callable[..., World], tmp_path: Path) -> Callable[..., World]:
    """Ten ticks a second for a minute; 20 to 30 s were not captured."""

    def make(
        gaps: list[tuple[int, int]] | tuple[tuple[int, int]] = (
            (T0 + 20 * SECOND, T0 + 30 * SECOND),
        ),
        **how: Any,
    ) -> World:
        ticks = [(T0 + n * SECOND // 10, float(n)) for n in range(600)]
        plain = {
            "ticks": ticks,
            "latency": 0,
            "gaps": list(gaps),
            "unnoticed": 0,
            "begin": T0,
            "end": T0 + 60 * SECOND,
        }
        return build(tmp_path, plain | how)

    return make


def test_a_gap_of_whole_seconds_is_filled_by_seconds(world: Callable[..., World]) -> None:
    here = world()
    [part] = here.fill_all()
    assert (part.start_ns, part.end_ns, part.ticks) == (T0 + 20 * SECOND, T0 + 30 * SECOND, 100)
    here.check()
    # The seconds of the last tick before it and the first one after it may have gone on.
    assert here.asked == [T0 // SECOND + 19]
    with here.filler() as filler:
        asked = filler.seconds_of(part.start_ns, part.end_ns)
    assert asked == (T0 // SECOND + 19, T0 // SECOND + 20 + 11)


def test_backfilled_messages_are_marked(world: Callable[..., World]) -> None:
    here = world()
    here.fill_all()
    [file] = [file for file in here.index.files() if file.backfilled]
    assert file.path == f"{CONTRACT}/{KIND}/2013/10/08/14-backfill_ticks.pb"
    messages = list(iter_messages(here.root, file, *ALL))
    assert all(message.metadata["source"] == "backfill" for message in messages)
    *ticks, note = messages
    for message in ticks:
        tick = message.tick_data
        assert (message.timestamp.seconds, message.timestamp.nanos) == (tick.exchange_time, 0)
        assert not tick.HasField("sequence")
    assert note.info_data.status == "backfilled"
    assert (file.ticks, file.first_sequence) == (100, None)


def test_an_outage_is_filled_from_the_last_tick_before_it(world: Callable[..., World]) -> None:
    here = world(unnoticed=15 * SECOND)
    [part] = here.fill_all()
    assert part.ticks == 250
    assert part.start_ns == T0 + 20 * SECOND
    here.check()


def test_two_gaps_in_one_second(world: Callable[..., World]) -> None:
    tenth = SECOND // 10
    gaps = [(T0 + 201 * tenth, T0 + 203 * tenth), (T0 + 206 * tenth, T0 + 208 * tenth)]
    here = world(gaps)
    assert [part.ticks for part in here.fill_all()] == [4, 0]  # the second holds both
    here.check()


def test_a_note_is_stored_beside_its_ticks_and_a_long_quiet_time_needs_one_file(
    world: Callable[..., World],
) -> None:
    """Two seconds before 14:00, then nothing, then ticks again hours later."""
    early = [(T0 + 8 * SECOND + n, float(n)) for n in range(20)]
    late = [(T0 + 30_000 * SECOND + n, float(n)) for n in range(20)]
    gap = (T0 + 5 * SECOND, T0 + 40_000 * SECOND)
    here = world([gap], ticks=early + late, end=T0 + 50_000 * SECOND)
    here.fill_all()
    here.check()
    files = [file for file in here.index.files() if file.backfilled]
    assert [(file.path.split("/")[-1][:2], file.ticks) for file in files] == [
        ("13", 20),
        ("22", 20),
        ("01", 0),
    ]
    assert all(file.messages == file.ticks + 1 for file in files)


def test_a_stream_has_one_backfill_at_a_time_and_is_captured_meanwhile(
    world: Callable[..., World], fake_capture: type[FakeCapture]
) -> None:
    here = world()
    capture = fake_capture(here.root, here.index, CONTRACT, KIND)
    with here.filler() as filler:
        with pytest.raises(WriterLockedError, match=r"the backfill of mid_point .* process"):
            here.filler()
        assert len(here.fill(filler)) == 1
    capture.stop(T0 + 70 * SECOND)
    assert {row.state for row in here.index.coverage()} == {
        CoverageState.CAPTURED,
        CoverageState.BACKFILLED,
    }


def test_a_new_capture_leaves_a_running_backfill_alone(
    world: Callable[..., World], fake_capture: type[FakeCapture]
) -> None:
    here = world()
    [gap] = here.open_gaps()
    with here.filler(page_ticks=7) as filler:
        assert filler.missing_intervals(*gap) == [gap]
        parts = filler.fill(*gap, *filler.seconds_of(*gap))
        next(parts)
        capture = fake_capture(here.root, here.index, CONTRACT, KIND)
        [beside] = [key for key in list_files(here.root) if key.suffix == "backfill"]
        assert not next(f for f in here.index.files() if f.path == beside.path).sealed
        assert list(parts) != []
        capture.stop(T0 + 70 * SECOND)
    here.check()


# -- ticks, as they come and as they are stored ----------------------------------------------------

values = st.integers(0, 2).map(float)
past_ticks = st.builds(
    HistoricalTick,
    st.integers(0, 2),
    st.tuples(values, values),
    st.sampled_from(["NYSE", "ARCA"]),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from([(), ("T",), ("T", "I")]),
)


@given(st.lists(past_ticks, max_size=12), st.data())
def test_not_among_returns_the_missing_ticks(ticks: list[Any], data: st.DataObject) -> None:
    current = data.draw(st.lists(st.sampled_from(ticks), unique_by=id) if ticks else st.just([]))
    rest = subtract_stored(ticks, current)
    assert Counter(rest) == Counter(ticks) - Counter(current)
    positions = iter(ticks)
    assert all(tick in positions for tick in rest)  # in their order


@given(past_ticks, past_ticks)
def test_the_same_tick_with_other_flags_is_the_same_tick(
    tick: HistoricalTick, other: HistoricalTick
) -> None:
    live = tick._replace(flags=other.flags, conditions=other.conditions)
    assert subtract_stored([tick], [live]) == []
    assert subtract_stored([tick, live], [live]) == [tick]


@given(past_ticks)
@pytest.mark.parametrize("tick_type", ["last", "all_last"])
def test_a_trade_is_stored_unchanged(tick_type: str, tick: HistoricalTick) -> None:
    frames = encode_tick(tick, CONTRACT, tick_type, "stream")
    message = StreamMessage.FromString(frames[4:])
    assert stored_tick(message) == tick
    columns = decode(frames, ["timestamp", "price", "size"])
    assert columns.timestamp.tolist() == [tick.time * SECOND]
    assert (columns.numbers("price")[0], columns.numbers("size")[0]) == tick.values


@given(st.integers(0, 2**33), st.tuples(values, values, values, values), st.booleans())
def test_a_quote_is_stored_unchanged(time: int, prices: tuple[Any, ...], flag: bool) -> None:
    tick = HistoricalTick(time, prices, flags=(flag, not flag))
    message = StreamMessage.FromString(encode_tick(tick, CONTRACT, "bid_ask", "stream")[4:])
    # A side of -1 or 0 without a size is no quote.
    sides = [
        (None, None) if price in (-1, 0) and size == 0 else (price, size)
        for price, size in (prices[:2], prices[2:])
    ]
    assert stored_tick(message) == tick._replace(values=(*sides[0], *sides[1]))
    assert not message.tick_data.HasField("exchange")


def test_a_live_tick_without_an_exchange_time_has_its_second_of_arrival() -> None:
    message = StreamMessage.FromString(
        encode_tick(HistoricalTick(7, (1.5,)), CONTRACT, KIND, "s")[4:]
    )
    message.tick_data.ClearField("exchange_time")
    message.timestamp.nanos = 999_999_999
    assert stored_tick(message) == HistoricalTick(7, (1.5,))


def test_a_page_of_ibapi() -> None:
    from decimal import Decimal

    from ibapi.common import HistoricalTick as IbHistoricalTick
    from ibapi.common import HistoricalTickBidAsk, HistoricalTickLast

    trade = HistoricalTickLast()
    trade.time, trade.price, trade.size = 5, 180.5, Decimal(100)
    trade.exchange, trade.specialConditions = "NYSE", "T I"
    trade.tickAttribLast.unreported = True
    for kind in ("last", "all_last"):
        assert parse_tick(kind, trade) == HistoricalTick(
            5, (180.5, 100.0), "NYSE", (False, True), ("T", "I")
        )
    quote = HistoricalTickBidAsk()
    quote.time, quote.priceBid, quote.priceAsk = 6, 180.5, 180.6
    quote.sizeBid, quote.sizeAsk = Decimal("1.5"), Decimal(2)
    quote.tickAttribBidAsk.askPastHigh = True
    assert parse_tick("bid_ask", quote) == HistoricalTick(
        6, (180.5, 1.5, 180.6, 2.0), flags=(False, True)
    )
    mid = IbHistoricalTick()
    mid.time, mid.price = 7, 180.55
    assert parse_tick("mid_point", mid) == HistoricalTick(7, (180.55,))


def test_stored_ticks_include_files_missing_in_the_index(world: Callable[..., World]) -> None:
    here = world()
    current = StoredTicks(here.root, MemoryIndex(), CONTRACT, KIND)
    assert len(current.at(T0 // SECOND + 5)) == 10
    assert current.at(T0 // SECOND + 25) == ()
