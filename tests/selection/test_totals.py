"""Answers from the index and the block tables: those of the loaded frame, at any time range."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ibticks.config import DAY_NS, HOUR_NS
from ibticks.errors import CorruptDataWarning, CorruptFileError, InputError
from ibticks.format import Encoder
from ibticks.schema import StringColumn, TickColumns, Values
from ibticks.storage import StreamAppender

if TYPE_CHECKING:
    import ibticks as ibt
    from ibticks.selection import Backfill
    from tests.fix_files import Reads

FIRST_NS = 1_736_539_200_000_000_000  # 2025-01-10 20:00 UTC: the third hour is of another day
TYPES = ("last", "bid_ask", "mid_point")
CONTRACT = 265598
BACKFILLS: tuple[Backfill, ...] = ("exclude", "include", "only")


def ticks(tick_type: str, rows: int, seed: int, start_ns: int, duration_ns: int) -> TickColumns:
    """Ticks with nulls, unset numbers and quotes of one side; sums of them are exact."""
    rng = np.random.default_rng(seed)
    times = np.sort(start_ns + rng.integers(0, duration_ns, rows) // 50_000 * 50_000)
    columns: dict[str, Any] = {"timestamp": Values(times)}
    names = {
        "last": ("price", "size"),
        "mid_point": ("mid_price",),
        "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size"),
    }
    for name in names[tick_type]:
        values = rng.integers(1, 800, rows) / 8
        values[rng.random(rows) < 0.05] = 0.0
        values[rng.random(rows) < 0.02] = -1.0
        columns[name] = Values(values, rng.random(rows) > 0.1)
    codes = np.zeros(rows, dtype=np.int32)
    columns["exchange"] = StringColumn(codes, ("X" * 60,))  # so that hours have several blocks
    return TickColumns(rows, columns)


def expected(selection: ibt.Selection, *, by_day: bool) -> pl.DataFrame:
    """The totals of the loaded frame, by polars."""
    frame = selection.to_polars().with_columns(pl.col("tick_type").cast(pl.String))
    for name in ("price", "size", "mid_price", "bid_price", "bid_size", "ask_price", "ask_size"):
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.Float64).alias(name))
    bid = priced("bid_price", "bid_size")
    ask = priced("ask_price", "ask_size")
    price = priced("price", "size")
    size = pl.when(price.is_not_null()).then(pl.col("size"))
    day = ["date"] if by_day else []
    rows = (
        frame.with_columns(pl.col("timestamp").dt.date().alias("date"))
        .group_by("contract_id", "tick_type", *day)
        .agg(
            pl.len().cast(pl.Int64).alias("ticks"),
            pl.col("timestamp").min().alias("first_tick"),
            pl.col("timestamp").max().alias("last_tick"),
            pl.coalesce(bid.min(), price.min(), pl.col("mid_price").min()).alias("min_price"),
            pl.coalesce(ask.max(), price.max(), pl.col("mid_price").max()).alias("max_price"),
            size.sum().alias("volume"),
            (size * price).sum().alias("notional"),
        )
        .sort("contract_id", "tick_type", *day)
    )
    is_traded = pl.col("tick_type") == "last"
    return rows.with_columns(
        pl.when(is_traded).then(pl.col("volume")),
        pl.when(is_traded & (pl.col("volume") != 0))
        .then(pl.col("notional") / pl.col("volume"))
        .alias("vwap"),
    ).drop("notional")


def priced(price: str, size: str) -> pl.Expr:
    """A price where it is one of a quote or a trade: of -1 or 0 only beside a size, if any."""
    is_none = pl.col(price).is_in([-1.0, 0.0]) & (pl.col(size) == 0.0).fill_null(False)
    return pl.when(~is_none).then(pl.col(price))


def ranges(seed: int, count: int) -> list[tuple[int | None, int | None]]:
    """Random time ranges, edges of hours and single instants among them."""
    rng = random.Random(seed)
    edges = [FIRST_NS + hour * HOUR_NS for hour in range(7)]
    pairs: list[tuple[int | None, int | None]] = [(None, None), (edges[0], edges[-1])]
    while len(pairs) < count:
        start, end = sorted(
            rng.choice(edges) if rng.random() < 0.3 else rng.randrange(edges[0], edges[-1])
            for _ in range(2)
        )
        if start < end:
            pairs.append((start, end if rng.random() < 0.9 else start + 50_000))
    return pairs


def check(store: ibt.Store, seed: int, count: int = 6) -> None:
    for number, (start, end) in enumerate(ranges(seed, count)):
        backfill = BACKFILLS[number % len(BACKFILLS)]
        selection = store.select(CONTRACT, TYPES, start=start, end=end, backfill=backfill)
        assert selection.count() == selection.to_polars().height
        for by_day, answer in ((False, selection.describe()), (True, selection.daily())):
            wanted = expected(selection, by_day=by_day)
            assert_frame_equal(answer, wanted.select(answer.columns), check_exact=True)
        for rows in (1, 7, 20_000):
            assert_frame_equal(selection.tail(rows), selection.to_polars().tail(rows))


def frames(tick_type: str, rows: int, seed: int, start_ns: int) -> tuple[bytes, int]:
    """Frames of a quarter of an hour, and the time of the first."""
    columns = ticks(tick_type, rows, seed, start_ns, HOUR_NS // 4)
    encoder = Encoder(columns, contract_id=CONTRACT, tick_type=tick_type)
    return b"".join(part.tobytes() for _, part in encoder.chunks()), int(columns.timestamp[0])


def test_answers_are_those_of_the_frame_whatever_happened_to_the_store(store: ibt.Store) -> None:
    for kind in TYPES:
        for hour in (0, 1, 3, 4):
            rows = 24_000 if hour == 1 else 300
            with store.writer(CONTRACT, kind, fsync=None) as writer:
                writer.write(ticks(kind, rows, hour, FIRST_NS + hour * HOUR_NS, HOUR_NS))
    assert max(len(record.blocks) for record in store.index.files([CONTRACT])) > 2
    check(store, 1, 15)
    # A backfill, an open hour, and late ticks of a sealed one, which is open meanwhile.
    for kind in TYPES:
        with StreamAppender(store.root, CONTRACT, kind, store.index, backfill=True) as appender:
            appender.append_frames(*frames(kind, 200, 5, FIRST_NS + 2 * HOUR_NS))
            check(store, 2)
    for kind in TYPES:
        with StreamAppender(store.root, CONTRACT, kind, store.index) as appender:
            appender.append_frames(*frames(kind, 500, 6, FIRST_NS + 5 * HOUR_NS))
            appender.append_frames(*frames(kind, 100, 7, FIRST_NS + HOUR_NS))
            check(store, 3)
    check(store, 4)
    # Messages that are no ticks, compression, deletion.
    with store.writer(CONTRACT, "last") as writer:
        writer.append(
            {
                "type": "info",
                "stream_id": "s",
                "timestamp": "2025-01-10T21:30:00Z",
                "data": {"status": "ok"},
            }
        )
    check(store, 5)
    store.compress("zstd", older_than="1h")
    check(store, 6, 9)
    start = FIRST_NS + HOUR_NS + HOUR_NS // 3
    store.delete(CONTRACT, "last", start=start, end=start + HOUR_NS // 3)
    store.delete(CONTRACT, "bid_ask", start=FIRST_NS + 3 * HOUR_NS, end=FIRST_NS + 4 * HOUR_NS)
    check(store, 7, 9)


def test_files_inside_are_not_read_and_of_others_only_blocks_that_are_cut(
    store: ibt.Store, reads: Reads
) -> None:
    for hour in (0, 1):
        with store.writer(CONTRACT, "last", fsync=None) as writer:
            writer.write(ticks("last", 30_000, hour, FIRST_NS + hour * HOUR_NS, HOUR_NS))
    reads.clear()
    every = store.select(CONTRACT, "last")
    assert (
        every.count() == every.describe()["ticks"].sum() == every.daily()["ticks"].sum() == 60_000
    )
    assert not reads
    assert 30_000 < store.select(CONTRACT, "last", start=FIRST_NS + HOUR_NS // 2).count() < 60_000
    (record, _) = store.index.files([CONTRACT])
    assert reads.files == {record.path}
    assert reads.bytes < record.size / 2


def test_a_file_that_is_not_as_the_index_says_is_read(store: ibt.Store) -> None:
    with store.writer(CONTRACT, "last", fsync=None) as writer:
        writer.write(ticks("last", 30_000, 1, FIRST_NS, HOUR_NS))
    (record,) = store.index.files([CONTRACT])
    # An index that lacks the last 10,000 ticks.
    store.index.put_files([replace(record, ticks=20_000, size=record.size - 1_000_000)])
    selection = store.select(CONTRACT, "last")
    assert selection.count() == selection.to_polars().height == 30_000
    assert selection.describe()["ticks"].to_list() == [30_000]
    (store.root / record.path).unlink()
    with pytest.warns(CorruptDataWarning):
        assert selection.count() == 0
    with pytest.warns(CorruptDataWarning):
        assert selection.describe().height == 0


def test_damage_in_a_block_that_is_read_is_reported(store: ibt.Store) -> None:
    with store.writer(CONTRACT, "last", fsync=None) as writer:
        writer.write(ticks("last", 30_000, 1, FIRST_NS, HOUR_NS))
    (record,) = store.index.files([CONTRACT])
    path = store.root / record.path
    content = bytearray(path.read_bytes())
    content[record.blocks[1].offset + 1000] ^= 0xFF
    path.write_bytes(content)
    end = (record.blocks[1].min_ns + record.blocks[1].max_ns) // 2
    selection = store.select(CONTRACT, "last", start=FIRST_NS, end=end)
    with pytest.warns(CorruptDataWarning):
        loaded = selection.to_polars().height
    with pytest.warns(CorruptDataWarning):
        assert selection.count() == loaded == record.blocks[0].messages
    with pytest.raises(CorruptFileError):
        replace(selection, strict=True).count()


def test_a_side_without_a_quote_has_no_range(store: ibt.Store) -> None:
    times = Values(np.array([FIRST_NS, FIRST_NS + 1000]))
    asks = {"ask_price": Values(np.array([9.0, 8.0])), "ask_size": Values(np.array([1.0, 1.0]))}
    with store.writer(CONTRACT, "bid_ask", fsync=None) as writer:
        writer.write(TickColumns(2, {"timestamp": times, **asks}))
    (row,) = store.select(CONTRACT, "bid_ask").describe().rows(named=True)
    assert (row["min_price"], row["max_price"]) == (None, 9.0)
    assert row["volume"] is row["vwap"] is None


def test_a_tail_reads_the_blocks_that_hold_it(store: ibt.Store, reads: Reads) -> None:
    for kind in ("last", "bid_ask"):
        for hour in (0, 1, 70):
            with store.writer(CONTRACT, kind, fsync=None) as writer:
                writer.write(ticks(kind, 20_000, hour, FIRST_NS + hour * HOUR_NS, HOUR_NS))
    size = sum(record.size for record in store.index.files([CONTRACT]))
    every = store.select(CONTRACT)
    wanted = every.to_polars()
    reads.clear()
    assert_frame_equal(every.tail(), wanted.tail())
    assert len(reads.files) == 2  # one of each tick type
    assert reads.bytes < size / 4
    reads.clear()
    assert_frame_equal(every.tail(40_100), wanted.tail(40_100))  # over the days without ticks
    assert len(reads.files) == 4
    assert_frame_equal(every.tail(10**6), wanted)
    assert_frame_equal(every.tail(0), wanted.tail(0))
    assert_frame_equal(every.with_columns("bid_price").tail(3), wanted.select("bid_price").tail(3))
    with pytest.raises(InputError, match="n=-1"):
        every.tail(-1)


def test_a_tail_of_what_the_index_does_not_know(store: ibt.Store) -> None:
    with StreamAppender(store.root, CONTRACT, "last", store.index) as appender:
        appender.append_frames(*frames("last", 300, 1, FIRST_NS))
        selection = store.select(CONTRACT, "last")
        assert_frame_equal(selection.tail(7), selection.to_polars().tail(7))
    empty = store.select(CONTRACT, "last", start=FIRST_NS - DAY_NS, end=FIRST_NS)
    assert_frame_equal(empty.tail(), empty.to_polars())


def test_an_empty_selection_has_the_columns(store: ibt.Store) -> None:
    with store.writer(CONTRACT, "last", fsync=None) as writer:
        writer.write(ticks("last", 10, 1, FIRST_NS, HOUR_NS))
    empty = store.select(CONTRACT, "last", start=FIRST_NS - DAY_NS, end=FIRST_NS)
    assert empty.count() == 0
    assert empty.describe().columns == [name for name in empty.daily().columns if name != "date"]
    assert empty.daily().schema == store.select(CONTRACT, "last").daily().schema
    assert empty.daily().schema["date"] == pl.Date
