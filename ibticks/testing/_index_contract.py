"""The contract of an index as a test suite: every implementation gives the same answers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibticks._types import StreamKey
from ibticks.config import DAY_NS, HOUR_NS
from ibticks.index import Block, ContractRecord, CoverageRecord, FileRecord, Index, MemoryIndex
from ibticks.testing._records import RECORDS_START_NS as DAY
from ibticks.testing._records import (
    make_archived_copy,
    make_companion_record,
    make_coverage_record,
    make_file_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IndexContract"]

_for_each_example = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    # Every example replaces the records of the one before, and each subclass runs all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)

_int64 = st.integers(-(2**63), 2**63 - 1)
_moments = st.integers(DAY - 3 * HOUR_NS, DAY + 30 * HOUR_NS)
_amounts = st.none() | st.floats(allow_nan=False)
_counts = st.integers(0, 2**40)


@st.composite
def _file_records(draw: Any) -> FileRecord:
    contract_id = draw(st.sampled_from([1, 2, 4_000_000_000]))
    tick_type = draw(st.sampled_from(["last", "all_last", "bid_ask"]))
    hour = draw(st.integers(-3, 30))
    hour_ns = DAY + hour * HOUR_NS
    start_ns, end_ns = sorted([draw(_moments), draw(_moments)])
    block = st.builds(Block, *[st.integers(0, 2**62)] * 4, *[_int64] * 3, st.integers(0, 2**32 - 1))
    part = draw(st.sampled_from(["", "-30", "-backfill"]))
    return FileRecord(
        path=f"{contract_id}/{tick_type}/{hour + 3:02d}{part}_ticks.pb",
        contract_id=contract_id,
        tick_type=tick_type,
        hour_ns=hour_ns,
        start_ns=start_ns,
        end_ns=end_ns,
        size=draw(_counts),
        messages=draw(_counts),
        ticks=draw(_counts),
        compression=draw(st.sampled_from(["none", "gzip", "zstd", "snappy"])),
        sealed=draw(st.booleans()),
        crc32c=draw(st.none() | st.integers(0, 2**32 - 1)),
        first_tick_ns=draw(st.none() | _moments),
        last_tick_ns=draw(st.none() | _moments),
        first_sequence=draw(st.none() | st.integers(0, 2**64 - 1)),
        last_sequence=draw(st.none() | st.integers(0, 2**64 - 1)),
        min_price=draw(_amounts),
        max_price=draw(_amounts),
        sum_price=draw(_amounts),
        priced_ticks=draw(st.integers(0, 5)),
        volume=draw(_amounts),
        notional=draw(_amounts),
        blocks=tuple(draw(st.lists(block, max_size=3))),
    )


@st.composite
def _coverage_records(draw: Any) -> CoverageRecord:
    start = draw(_moments)
    return CoverageRecord(
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from(["last", "bid_ask"])),
        start,
        draw(st.none() | st.integers(start, start + 3 * HOUR_NS)),
        draw(st.sampled_from(["captured", "quiet", "disconnected"])),
        draw(st.sampled_from(["", "1100", "größe \"x\" \\ 'y'"])),
    )


_streams = st.fixed_dictionaries(
    {
        "contract_ids": st.none() | st.lists(st.sampled_from([1, 2, 3, 4_000_000_000]), max_size=2),
        "tick_types": st.none() | st.lists(st.sampled_from(["last", "bid_ask"]), max_size=2),
    }
)
_ranges = st.fixed_dictionaries({"start_ns": st.none() | _moments, "end_ns": st.none() | _moments})
_queries = st.lists(st.tuples(_streams, _ranges), max_size=8)


class IndexContract:
    """Tests that every implementation of :class:`~ibticks.index.Index` passes.

    A subclass, whose name begins with ``Test``, overrides the pytest fixture ``index``. The
    reference is :class:`~ibticks.index.MemoryIndex`.

    Examples
    --------
    >>> import pytest
    >>> class TestMemoryIndex(IndexContract):
    ...     @pytest.fixture
    ...     def index(self):
    ...         return MemoryIndex()
    """

    @pytest.fixture
    def index(self) -> Index:
        """An empty index, closed after the test."""
        raise NotImplementedError(f"{type(self).__name__} overrides the fixture `index`")

    # -- files -------------------------------------------------------------------------------------

    @given(st.lists(_file_records(), max_size=6))
    @_for_each_example
    def test_files_are_read_back_exactly(self, index: Index, records: list[FileRecord]) -> None:
        """Every field and block of a file is stored."""
        index.replace_files(records)
        assert index.files() == MemoryIndex(records).files()

    @given(st.lists(_file_records(), max_size=8), _queries)
    @_for_each_example
    def test_reads_equal_those_of_the_memory_index(
        self, index: Index, records: list[FileRecord], queries: list[Any]
    ) -> None:
        """Filters and ranges select the same files, in the same order."""
        index.replace_files(records)
        memory = MemoryIndex(records)
        assert index.streams() == memory.streams()
        streams = {record.stream for record in records} | {StreamKey(1, "last")}
        assert index.last_ticks(streams) == memory.last_ticks(streams)
        assert index.last_ticks([]) == {}
        for stream, times in queries:
            assert index.files(**stream, **times) == memory.files(**stream, **times)
            assert index.open_files(**stream) == memory.open_files(**stream)
            assert index.tick_ranges(**stream) == memory.tick_ranges(**stream)
            assert index.daily_stats(**stream) == memory.daily_stats(**stream)

    def test_an_open_file_reaches_from_its_hour_to_the_end_of_time(self, index: Index) -> None:
        """A file being written may be ahead of its record."""
        index.put_files([make_file_record(0, sealed=False), make_file_record(1)])
        assert [f.hour_ns for f in index.files(end_ns=DAY + 1)] == [DAY]
        assert [f.hour_ns for f in index.files(start_ns=DAY + 99 * HOUR_NS)] == [DAY]

    def test_ranges_are_half_open_to_the_nanosecond(self, index: Index) -> None:
        """The start of a range belongs to it, its end does not."""
        start, end = DAY + 1_000_000_001, DAY + 2_000_000_001
        index.put_files([make_file_record(start_ns=start, end_ns=end)])
        assert index.files(end_ns=start) == []
        assert len(index.files(end_ns=start + 1)) == 1
        assert len(index.files(start_ns=end)) == 1
        assert index.files(start_ns=end + 1) == []
        assert index.files(start_ns=end, end_ns=end) == []

    def test_upserts_create_no_duplicates(self, index: Index) -> None:
        """The last record of a path counts, in one write and over several."""
        index.put_files(
            [make_file_record(sealed=False), make_file_record(sealed=False, messages=13)]
        )
        index.put_files([make_file_record(messages=14)])
        assert index.files() == [make_file_record(messages=14)]

    def test_empty_writes_are_no_ops(self, index: Index) -> None:
        """A write without records does not fail."""
        index.put_files([])
        index.drop_files([])
        index.put_contracts([])
        index.put_coverage([])
        index.put_companions([])
        index.drop_companions([])
        index.put_archived([])
        index.drop_archived([])
        assert index.files() == []

    def test_writes_of_several_batches(self, index: Index) -> None:
        """Thousands of records from an iterator arrive."""
        records = [make_file_record(hour, blocks=1) for hour in range(2_500)]
        index.put_files(iter(records))
        assert index.files() == records
        assert index.daily_stats() == MemoryIndex(records).daily_stats()

    # -- daily statistics --------------------------------------------------------------------------

    @given(st.lists(_file_records(), max_size=8))
    @_for_each_example
    def test_daily_statistics_equal_those_in_python(
        self, index: Index, records: list[FileRecord]
    ) -> None:
        """Statistics agree to the last bit."""
        index.replace_files(records)
        assert index.daily_stats() == MemoryIndex(records).daily_stats()

    def test_statistics_follow_every_write(self, index: Index) -> None:
        """Every write of files updates the statistics of the days it touches."""
        files = [
            make_file_record(hour, tick_type=tick_type)
            for hour in (0, 1, 23, 24)
            for tick_type in ("last", "bid_ask")
        ]
        memory = MemoryIndex()
        steps: tuple[Callable[[Index], None], ...] = (
            lambda i: i.put_files(files),
            lambda i: i.put_files(
                [make_file_record(1, volume=None, notional=None, sum_price=1.25)]
            ),
            lambda i: i.put_files([make_file_record(0, hour_ns=DAY + 48 * HOUR_NS)]),  # other day
            lambda i: i.drop_files([files[2].path, "unknown"]),
            lambda i: i.drop_files([files[6].path, files[7].path]),  # the last of their day
            lambda i: i.replace_files(files[:3]),
            lambda i: i.replace_files([]),
        )
        for step in steps:
            step(index)
            step(memory)
            assert index.daily_stats() == memory.daily_stats()
        assert index.daily_stats() == []

    def test_statistics_of_a_day(self, index: Index) -> None:
        """Counts add up, prices are weighted, and a day is a UTC day."""
        early = make_file_record(
            0, sum_price=10.0, priced_ticks=4, volume=2.0, notional=9.0, min_price=1.0
        )
        late = make_file_record(
            23, sum_price=2.0, priced_ticks=2, volume=1.0, notional=3.0, max_price=None
        )
        next_day = make_file_record(24, volume=0.0, notional=0.0, sum_price=None, priced_ticks=0)
        index.put_files([next_day, late, early])
        first, second = index.daily_stats()
        assert (first.date, first.files, first.ticks, first.messages) == ("2025-01-10", 2, 20, 24)
        assert (first.avg_price, first.volume, first.vwap) == (2.0, 3.0, 4.0)
        assert (first.min_price, first.max_price) == (1.0, 237.1)
        assert (first.first_tick_ns, first.last_tick_ns) == (
            early.first_tick_ns,
            late.last_tick_ns,
        )
        assert (second.date, second.avg_price, second.volume, second.vwap) == (
            "2025-01-11", None, 0.0, None,
        )  # fmt: skip

    def test_backfilled_files_do_not_count(self, index: Index) -> None:
        """Statistics are those of captured files alone."""
        live = make_file_record(13)
        beside = make_file_record(13, path="265598/last/0013-backfill_ticks.pb", ticks=999)
        assert [file.backfilled for file in (live, beside)] == [False, True]
        index.put_files([live])
        stats = index.daily_stats()
        index.put_files([beside])
        assert index.daily_stats() == stats
        index.drop_files([live.path])
        assert index.daily_stats() == []

    @pytest.mark.parametrize(
        ("sums", "expected"),
        [
            ([1.7976931348623157e308, 1.7976931348623157e308], math.inf),
            ([-1.7976931348623157e308, -1.7976931348623157e308], -math.inf),
            ([math.inf, -math.inf], None),
            ([0.1, 0.2], 0.1 + 0.2),
            ([1e16, 1.0, -1e16], 0.0),  # left to right, as IEEE adds; not 1.0
            ([None, 2.5], 2.5),
            ([None, None], None),
            ([math.nan, 2.5], 2.5),
        ],
    )
    def test_sums_beyond_a_double_do_not_fail(
        self, index: Index, sums: list[float | None], expected: float | None
    ) -> None:
        """Sums are those of IEEE additions in order of time; NaN counts as missing."""
        records = [make_file_record(hour, volume=volume) for hour, volume in enumerate(sums)]
        index.put_files(records)
        (day,) = index.daily_stats()
        assert day.volume == expected
        assert index.daily_stats() == MemoryIndex(records).daily_stats()

    # -- contracts ---------------------------------------------------------------------------------

    def test_contracts_are_filled_in(self, index: Index) -> None:
        """Known fields of a contract stay, and its empty ones are filled in."""
        index.put_contracts([ContractRecord(2, "MNQ"), ContractRecord(1, "", "SMART")])
        index.put_contracts(
            [ContractRecord(1, "AAPL", "NYSE", "USD"), ContractRecord(1, "X", "", "", "STK")]
        )
        assert index.contracts() == [
            ContractRecord(1, "AAPL", "SMART", "USD", "STK"),
            ContractRecord(2, "MNQ"),
        ]

    def test_contracts_are_corrected(self, index: Index) -> None:
        """A correction overwrites what is known with the fields that are not empty."""
        memory = MemoryIndex()
        steps: tuple[Callable[[Index], None], ...] = (
            lambda i: i.put_contracts(
                [ContractRecord(1, "APPL", "SMART"), ContractRecord(2, "MNQ")]
            ),
            lambda i: i.correct_contracts(
                [
                    ContractRecord(1, "AAPLE", "", "USD"),
                    ContractRecord(1, "AAPL"),
                    ContractRecord(3, "X"),
                ]
            ),
            lambda i: i.put_contracts([ContractRecord(1, "APPLE INC", "NYSE", "EUR", "STK")]),
        )
        for step in steps:
            step(index)
            step(memory)
        assert index.contracts() == [
            ContractRecord(1, "AAPL", "SMART", "USD", "STK"),
            ContractRecord(2, "MNQ"),
            ContractRecord(3, "X"),
        ]
        assert memory.contracts() == index.contracts()

    # -- coverage ----------------------------------------------------------------------------------

    @given(st.lists(_coverage_records(), max_size=8), _queries)
    @_for_each_example
    def test_coverage_equals_that_of_the_memory_index(
        self, index: Index, records: list[CoverageRecord], queries: list[Any]
    ) -> None:
        """Filters and ranges select the same intervals, in the same order."""
        index.replace_coverage([])
        index.put_coverage(records)
        memory = MemoryIndex(coverage=records)
        assert index.coverage() == memory.coverage()
        for stream, times in queries:
            assert index.coverage(**stream, **times) == memory.coverage(**stream, **times)

    def test_an_open_interval_is_ended(self, index: Index) -> None:
        """An interval of the same stream and start is replaced."""
        index.put_coverage([make_coverage_record(DAY)])
        index.put_coverage(
            [
                make_coverage_record(DAY, DAY + 5),
                make_coverage_record(DAY + 5, state="disconnected", reason="1100"),
            ]
        )
        assert index.coverage() == [
            make_coverage_record(DAY, DAY + 5),
            make_coverage_record(DAY + 5, None, "disconnected", "1100"),
        ]
        index.replace_coverage([make_coverage_record(DAY, DAY + 9)])
        assert index.coverage() == [make_coverage_record(DAY, DAY + 9)]

    def test_intervals_are_dropped_by_stream_and_start(self, index: Index) -> None:
        """The end, state and reason of a dropped interval do not matter."""
        index.put_coverage([make_coverage_record(DAY, DAY + 5), make_coverage_record(DAY + 5)])
        index.drop_coverage(
            [
                make_coverage_record(DAY, DAY + 9, "quiet"),
                make_coverage_record(DAY + 5, contract_id=1),
                make_coverage_record(DAY + 5, tick_type="bid_ask"),
            ]
        )
        assert index.coverage() == [make_coverage_record(DAY + 5)]

    # -- companions --------------------------------------------------------------------------------

    def test_companions_are_read_back_exactly(self, index: Index) -> None:
        """The last record of a path counts; hours keep their order."""
        first = make_companion_record(1, [make_file_record(26), make_file_record(25)])
        first = replace(first, hours=(first.hours[0], replace(first.hours[1], rows=None)))
        index.put_companions([make_companion_record(1), first, make_companion_record(0)])
        index.put_companions([make_companion_record(2, contract_id=1)])
        assert index.companions() == [
            make_companion_record(2, contract_id=1),
            make_companion_record(0),
            first,
        ]
        index.drop_companions([first.path, "unknown"])
        assert [record.day_ns for record in index.companions([265598])] == [DAY]

    def test_companions_are_selected_by_stream_and_day(self, index: Index) -> None:
        """A companion is of a whole UTC day, wherever in it a range begins."""
        index.put_companions([make_companion_record(day) for day in range(3)])
        assert index.companions([1]) == index.companions(None, ["bid_ask"]) == []
        for start_ns, end_ns, days in (
            (None, None, [0, 1, 2]),
            (DAY + DAY_NS - 1, DAY + DAY_NS, [0]),
            (DAY + DAY_NS, None, [1, 2]),
            (None, DAY + DAY_NS + 1, [0, 1]),
            (DAY + 5, DAY + 5, []),
        ):
            companions = index.companions(None, ["last"], start_ns, end_ns)
            assert [(one.day_ns - DAY) // DAY_NS for one in companions] == days

    # -- archived copies ---------------------------------------------------------------------------

    def test_archived_copies_are_read_back_exactly(self, index: Index) -> None:
        """The last record of a path counts; paths select; a dropped file row leaves its copy."""
        files = [make_file_record(hour) for hour in range(3)]
        copies = [make_archived_copy(file) for file in files]
        index.put_files(files)
        index.put_archived([make_archived_copy(files[0], e_tag="", size=1), *reversed(copies)])
        assert index.archived() == copies
        assert index.archived([files[1].path, "unknown"]) == [copies[1]]
        assert index.archived([]) == []
        assert [copy.is_copy_of(file) for copy in copies for file in files[:1]] == [1, 0, 0]
        index.drop_files([files[2].path])
        index.drop_archived([files[1].path, "unknown"])
        assert index.archived() == [copies[0], copies[2]]

    # -- itself ------------------------------------------------------------------------------------

    def test_it_is_writable_and_has_a_location(self, index: Index) -> None:
        """An index for a store takes writes, and can be named in a message."""
        assert index.writable
        assert index.describe()
