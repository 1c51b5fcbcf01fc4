"""The contract of a store as a test suite: what is written is read, in every output."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from ibticks.coverage import CoverageState, StreamStatus
from ibticks.errors import WriterLockedError
from ibticks.index import ContractRecord
from ibticks.store import Store, open_store
from ibticks.testing._fake_capture import FakeCapture

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TICKS", "StoreContract"]

_TIMES = ["2025-01-10T14:59:59.999999999", "2025-01-10T15:00:00.000000000", "2025-01-10T15:00:00"]
TICKS = pl.DataFrame(
    {
        "timestamp": pl.Series(np.array(_TIMES, "datetime64[ns]")).dt.replace_time_zone("UTC"),
        "price": [1.5, None, 2.5],
        "size": [100.0, 0.0, 3.25],
        "exchange": ["ISLAND", "ARCA", None],
        "conditions": [["T", "I"], [], ["T"]],
        "sequence": pl.Series([7, 8, None], dtype=pl.UInt64),
        "past_limit": [True, None, False],
    }
)
"""Ticks of two hours, two of them of one instant, with and without values."""

_TRADE: dict[str, Any] = {"contract_id": 1, "tick_type": "last"}
_NOON_NS = 1_736_510_400_000_000_000  # 2025-01-10 12:00 UTC
_MINUTE_NS = 60 * 10**9


def _minutes(count: int) -> pl.DataFrame:
    """Return a tick a minute from noon on; the price is the minute."""
    times = pl.Series(_NOON_NS + np.arange(count) * _MINUTE_NS).cast(pl.Datetime("ns", "UTC"))
    return pl.DataFrame({"timestamp": times, "price": np.arange(count) * 1.0})


def _prices(store: Store, **time_range: Any) -> list[float]:
    return store.select(1, **time_range).to_polars()["price"].to_list()


def _message(
    message_type: str, time: str, stream_id: str = "1_last", **data: Any
) -> dict[Any, Any]:
    return {"type": message_type, "stream_id": stream_id, "timestamp": time, "data": data}


class StoreContract:
    """Tests that every :class:`~ibticks.Store` passes, whatever its folder and its index are.

    A subclass, whose name begins with ``Test``, overrides the pytest fixture ``store``, and
    ``reopen`` if :func:`ibticks.open` alone does not find the index again.

    Examples
    --------
    >>> import pytest
    >>> class TestStoreInMyFolder(StoreContract):
    ...     @pytest.fixture
    ...     def store(self, tmp_path):
    ...         with open_store(tmp_path / "ticks") as store:
    ...             yield store
    """

    @pytest.fixture
    def store(self) -> Store:
        """An empty store, closed after the test."""
        raise NotImplementedError(f"{type(self).__name__} overrides the fixture `store`")

    @pytest.fixture
    def reopen(self) -> Callable[[Store], Store]:
        """Open the folder of a store again, which may be open or closed."""
        return lambda store: open_store(store.root, create=False)

    # -- writing and reading -----------------------------------------------------------------------

    @pytest.mark.parametrize("target", ["polars", "pandas", "arrow", "xarray"])
    def test_a_frame_of_any_library_is_read_back(self, store: Store, target: str) -> None:
        """Every value is read as it was written, by whichever library."""
        assert store.write(TICKS, contract_id=265598, tick_type="last") == 3
        selection = store.select(265598)
        first = selection.to_polars()
        for name in TICKS.columns:
            assert first[name].to_list() == TICKS[name].to_list(), name
        frame = getattr(selection, f"to_{target}")()
        assert store.write(frame) == 3  # contract and tick type are in it
        doubled = store.select(265598).to_polars()
        assert doubled.height == 6
        again = pl.concat([first, first]).sort("timestamp", maintain_order=True)
        for name in TICKS.columns:
            if (target, name) != ("xarray", "sequence"):
                assert doubled[name].to_list() == again[name].to_list(), name

    def test_every_output_has_the_same_ticks(self, store: Store) -> None:
        """Frames, lazy frames, counts and messages agree."""
        store.write(_minutes(90), **_TRADE)
        selection = store.select(1, start="2025-01-10T12:15Z", end="2025-01-10T13:15Z")
        frame = selection.to_polars()
        assert frame["price"].to_list() == [float(minute) for minute in range(15, 75)]
        assert selection.lazy().collect().equals(frame)
        assert pl.DataFrame(selection.to_arrow()).equals(frame)
        assert selection.to_pandas()["price"].to_list() == frame["price"].to_list()
        assert selection.to_xarray()["price"].values.tolist() == frame["price"].to_list()
        assert selection.count() == len(list(selection.messages(ticks=True))) == 60

    def test_rows_out_of_order_are_read_in_order(self, store: Store) -> None:
        """Ticks are read by time, those of one instant in the order in which they were written."""
        assert store.write(TICKS.reverse(), contract_id=1, tick_type="last") == 3
        assert store.select(1).to_polars()["price"].to_list() == [1.5, 2.5, None]

    def test_ranges_are_half_open_to_the_nanosecond(self, store: Store) -> None:
        """A tick at the start of a range is in it, one at its end is not."""
        store.write(_minutes(3), **_TRADE)
        at = _NOON_NS + _MINUTE_NS
        assert _prices(store, start=at, end=at + _MINUTE_NS) == [1.0]
        assert _prices(store, start=at, end=at + _MINUTE_NS + 1) == [1.0, 2.0]
        assert _prices(store, start=at + 1, end=at + _MINUTE_NS) == []
        assert store.select(1, start=at, end=at + _MINUTE_NS).count() == 1

    def test_stream_ids(self, store: Store) -> None:
        """The stream id of a write is stored."""
        store.write(TICKS, contract_id=1, tick_type="last", stream_id="research")
        frame = store.select(1, columns=["stream_id"]).to_polars()
        assert frame["stream_id"].to_list() == ["research"] * 3

    def test_an_empty_frame(self, store: Store) -> None:
        """A frame without rows creates no file."""
        assert store.write(TICKS.clear(), contract_id=1, tick_type="last") == 0
        assert store.contents() == []

    def test_messages_come_by_time_over_all_streams(self, store: Store) -> None:
        """Statuses and errors are stored beside the ticks, and are no ticks."""
        finished: dict[str, Any] = {
            "reason": "stopped",
            "total_ticks": 1,
            "duration_seconds": 4200.5,
        }
        details = [
            _message("info", "2025-01-10T14:00:00.000000Z", status="subscribed"),
            _message(
                "error", "2025-01-10T14:30:00.000000Z", code="200", message="no", recoverable=True
            ),
            _message("info", "2025-01-10T14:30:00.000000Z", "2_bid_ask", status="quiet"),
            _message("complete", "2025-01-10T15:10:00.000000Z", **finished),
        ]
        values: dict[str, Any] = {**_TRADE, "price": 1.5, "size": 2.0}
        tick = _message("tick", "2025-01-10T14:20:00.000000Z", **values)
        with store.writer(1, "last") as last, store.writer(2, "bid_ask") as quotes:
            for value in (details[0], details[1], tick, details[3]):
                last.append(value)
            quotes.append(details[2])
        actual = list(store.select([1, 2]).messages())
        assert actual == details
        assert list(store.select(1).messages(ticks=True)) == [
            details[0],
            tick,
            details[1],
            details[3],
        ]
        part = store.select([1, 2], start="2025-01-10T14:30Z", end="2025-01-10T15:10Z")
        assert list(part.messages()) == details[1:3]
        assert list(store.select(2).messages()) == details[2:3]
        # Messages are no ticks.
        assert store.select(1).to_polars().height == store.select(1).count() == 1
        assert store.select(1, start="2025-01-10T14:25Z", end="2025-01-10T15:00Z").count() == 0

    # -- duplicates --------------------------------------------------------------------------------

    @pytest.mark.parametrize("target", ["polars", "pandas", "arrow", "xarray"])
    def test_duplicates_are_skipped_or_kept(self, store: Store, target: str) -> None:
        """With ``duplicates="skip"``, stored ticks are not written again."""
        store.write(TICKS, **_TRADE)
        frame = getattr(store.select(1), f"to_{target}")()
        assert store.write(frame, duplicates="skip") == 0
        assert store.write(frame, duplicates="keep") == 3
        assert store.write(frame, duplicates="skip") == 0
        assert store.select(1).count() == 6

    @pytest.mark.parametrize(
        ("first", "second", "added"),
        [
            ([0, 1], [1, 2], 1),
            ([2, 1, 0], [0, 1, 2], 0),
            ([0], [0, 0, 0], 2),
            ([0, 0, 0], [0], 0),
            ([], [0, 1, 2], 3),
        ],
        ids=["overlap", "order", "repeated", "repeated before", "all new"],
    )
    def test_only_new_ticks_are_written(
        self, store: Store, first: list[int], second: list[int], added: int
    ) -> None:
        """A tick that occurs several times is stored as often as it occurs in one write."""
        store.write(TICKS[first], **_TRADE)
        assert store.write(TICKS[second], **_TRADE, duplicates="skip", stream_id="other") == added
        assert store.select(1).count() == len(first) + added
        assert store.write(TICKS[second], **_TRADE, duplicates="skip") == 0

    def test_duplicates_of_several_streams(self, store: Store) -> None:
        """A tick of one stream is no duplicate of the same tick of another."""
        frame = TICKS.with_columns(contract_id=pl.Series([1, 2, 1]), tick_type=pl.lit("last"))
        assert store.write(frame[:2]) == 2
        assert store.write(frame, duplicates="skip") == 1
        assert [(c.contract_id, c.ticks) for c in store.contents()] == [(1, 2), (2, 1)]

    # -- opening -----------------------------------------------------------------------------------

    def test_reopening_reads_written_ticks(
        self, store: Store, reopen: Callable[[Store], Store]
    ) -> None:
        """Ticks, index and contracts outlast the process."""
        store.add_contract(265598, "AAPL", exchange="SMART")
        store.add_contract(265598, "AAPL", currency="USD")  # fills in what was not known
        assert store.write(_minutes(3), contract_id=265598, tick_type="last") == 3
        contents, files = store.contents(), store.index.files()
        frame = store.select("AAPL").to_polars()
        store.close()
        with reopen(store) as again:
            assert (again.contents(), again.index.files()) == (contents, files)
            assert again.contracts() == [ContractRecord(265598, "AAPL", "SMART", "USD")]
            assert again.select("AAPL").to_polars().equals(frame)
        (content,) = contents
        assert (content.files, content.ticks, content.symbol) == (1, 3, "AAPL")
        assert (content.first_ns, content.last_ns) == (_NOON_NS, _NOON_NS + 2 * _MINUTE_NS)

    def test_a_store_opened_twice_in_a_process(
        self, store: Store, reopen: Callable[[Store], Store]
    ) -> None:
        """A write through one is read through the other."""
        with reopen(store) as again:
            store.write(_minutes(3), **_TRADE)
            assert again.contents() == store.contents() != []
        assert store.contents() != []

    def test_one_writer_a_stream(self, store: Store) -> None:
        """A second writer of a stream is refused while the first one is open."""
        locked = pytest.raises(WriterLockedError, match=f"by process {os.getpid()} on")
        with store.writer(1, "last"), store.writer(1, "bid_ask"), store.writer(2, "last"), locked:
            store.writer(1, "last")
        store.writer(1, "last").close()

    # -- coverage ----------------------------------------------------------------------------------

    def test_captured_time_is_covered_and_an_outage_is_a_gap(self, store: Store) -> None:
        """Coverage follows the statuses of a capture."""
        capture = FakeCapture(store.root, store.index, 1)
        capture.report_status(StreamStatus.SUBSCRIBED, _NOON_NS)
        capture.tick(_NOON_NS + _MINUTE_NS)
        capture.report_status(StreamStatus.DISCONNECTED, _NOON_NS + 5 * _MINUTE_NS, "lost", 1100)
        capture.report_status(StreamStatus.RESTORED, _NOON_NS + 8 * _MINUTE_NS, "restored", 1102)
        capture.stop(_NOON_NS + 10 * _MINUTE_NS)
        coverage = store.select(1, start=_NOON_NS, end=_NOON_NS + 10 * _MINUTE_NS).coverage()
        assert coverage.fraction == 0.7
        (gap,) = coverage.gaps()
        assert (gap.start_ns, gap.end_ns, gap.state) == (
            _NOON_NS + 5 * _MINUTE_NS,
            _NOON_NS + 8 * _MINUTE_NS,
            CoverageState.DISCONNECTED,
        )

    # -- deletion, compression, rebuild ------------------------------------------------------------

    def test_deleted_ticks_are_gone_and_the_rest_is_unchanged(self, store: Store) -> None:
        """A deletion takes ticks out of files, counts and statistics."""
        store.write(_minutes(90), **_TRADE)
        time_range: dict[str, Any] = {"start": "2025-01-10T12:30Z", "end": "2025-01-10T13:10Z"}
        assert store.delete(1, "last", **time_range, dry_run=True).ticks == 40
        assert store.select(1).count() == 90
        assert store.delete(1, "last", **time_range).ticks == 40
        assert _prices(store) == [float(n) for n in (*range(30), *range(70, 90))]
        assert store.select(1).count() == sum(day.ticks for day in store.daily_stats()) == 50
        assert store.delete(1, "last", **time_range).ticks == 0

    @pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy"])
    def test_compressed_ticks_are_the_same_ticks(self, store: Store, compression: str) -> None:
        """A compression changes the files, and no tick."""
        store.write(_minutes(90), **_TRADE)
        before = store.select(1).to_polars()
        records = store.compress(compression, progress=False)
        assert [record.compression for record in records] == [compression] * 2
        assert store.index.files() == records
        assert store.select(1).to_polars().equals(before)

    def test_a_rebuilt_index_equals_the_maintained_one(self, store: Store) -> None:
        """All of the index, but the names of contracts, is in the files."""
        store.write(_minutes(90), **_TRADE)
        store.write(TICKS, contract_id=2, tick_type="all_last")
        files, stats, coverage = store.index.files(), store.daily_stats(), store.index.coverage()
        assert store.rebuild_index(progress=False) == len(files) == 4
        assert store.index.files() == files
        assert store.daily_stats() == stats
        assert store.index.coverage() == coverage
        assert [finding.problem for finding in store.verify(progress=False)] == [None] * 4
