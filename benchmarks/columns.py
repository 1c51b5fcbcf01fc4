"""Companions of real ticks beside the Parquet files that a user of polars would keep.

The ticks are those of ``ibticks.sample``, or of the folder in ``IBTICKS_REAL_TICKS``: files
``{name}.quotes.parquet`` and ``{name}.trades.parquet`` of whole days. Each stream is stored as it
is, and read from its companions, one a day, and from files an hour that polars wrote (zstd, all
else by default).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from polars.testing import assert_frame_equal

from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.timing import compare, simple
from ibticks.columns import CompanionKey, floor_day, write_companion
from ibticks.frames import from_arrow, to_polars, to_table
from ibticks.index import MemoryIndex
from ibticks.sample import SAMPLES
from ibticks.schema import list_columns
from ibticks.storage import StreamWriter, read_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene

__all__ = ["companions"]

_PEER: Final = "polars, zstd Parquet an hour"
_FIRST_CONTRACT: Final = 900_001
_NUMBERS: Final = {"bid_ask": ("bid_price", "ask_price"), "all_last": ("price", "size")}


@dataclass(frozen=True, slots=True)
class _Stream:
    """The files of one stream: companions, and those of the peer."""

    name: str
    tick_type: str
    ours: list[Path]
    theirs: list[Path]


def companions(scene: Scene) -> Iterator[Row]:
    """Compare bytes and queries of each stream of real ticks."""
    for contract_id, (path, tick_type) in enumerate(_sources(), _FIRST_CONTRACT):
        stream = _store(scene.folder / "columns", path, contract_id, tick_type)
        ours, theirs = (
            Figure.size(sum(file.stat().st_size for file in files))
            for files in (stream.ours, stream.theirs)
        )
        yield Row(f"{stream.name}: bytes", ours, _PEER, theirs, share=True, goal=at_most(0.85))
        for what, query in _queries(stream).items():
            took = compare(
                [
                    simple("ibticks", partial(query, stream.ours)),
                    simple("polars", partial(query, stream.theirs)),
                ],
                scene.repeat,
            )
            yield Row(
                f"{stream.name}: {what}",
                Figure.seconds(took["ibticks"]),
                _PEER,
                Figure.seconds(took["polars"]),
                goal=at_least(1.5 if what == "all columns" else 1.2),
            )


def _sources() -> list[tuple[Path, str]]:
    """Return the files of real ticks and their tick types."""
    folder = os.environ.get("IBTICKS_REAL_TICKS")
    if folder is None:
        return [(sample.path, sample.tick_type) for sample in SAMPLES]
    quotes, trades = (
        sorted(Path(folder).glob(f"*.{name}.parquet")) for name in ("quotes", "trades")
    )
    return [*((path, "bid_ask") for path in quotes), *((path, "all_last") for path in trades)]


def _store(folder: Path, source: Path, contract_id: int, tick_type: str) -> _Stream:
    """Store the ticks of a file, and write companions and the files of the peer."""
    root = folder / "ticks"
    index = MemoryIndex()
    columns = from_arrow(
        _as_captured(source, tick_type), contract_id=contract_id, tick_type=tick_type
    )
    with StreamWriter(root, contract_id, tick_type, index, fsync=None) as writer:
        writer.write(columns)
    ours, theirs = [], []
    for record in index.files():
        names = list_columns([tick_type])
        hour = to_polars(to_table(read_ticks(root, [record], names), names))
        theirs.append(folder / f"{contract_id}-{record.hour_ns}.parquet")
        hour.write_parquet(theirs[-1], compression="zstd")
    for day_ns in sorted({floor_day(record.hour_ns) for record in index.files()}):
        records = [record for record in index.files() if floor_day(record.hour_ns) == day_ns]
        companion = write_companion(root, CompanionKey(contract_id, tick_type, day_ns), records)
        assert companion is not None
        ours.append(root / companion.path)
    wanted = pl.read_parquet(theirs)
    assert_frame_equal(pl.read_parquet(ours, columns=wanted.columns), wanted)
    return _Stream(source.stem, tick_type, ours, theirs)


def _as_captured(source: Path, tick_type: str) -> pl.DataFrame:
    """Return real ticks with every field that a captured tick has."""
    frame = pl.read_parquet(source)
    numbers = {"bid_price", "bid_size", "ask_price", "ask_size", "price", "size"}
    columns: list[pl.Expr] = [
        pl.col("timestamp").cast(pl.Datetime("ns", "UTC")),
        *(pl.col(name).cast(pl.Float64) for name in frame.columns if name in numbers),
        *(pl.lit(False).alias(name) for name in _flags(tick_type)),
        pl.int_range(1, pl.len() + 1, dtype=pl.UInt64).alias("sequence"),
        pl.col("timestamp").dt.truncate("1s").cast(pl.Datetime("ns", "UTC")).alias("exchange_time"),
    ]
    if tick_type == "all_last":
        exchange = pl.col("exchange") if "exchange" in frame.columns else pl.lit("BINANCE")
        columns.append(exchange.alias("exchange"))
        if "conditions" in frame.columns:
            text = pl.col("conditions").fill_null("")
            columns.append(
                pl.when(text != "").then(pl.concat_list(text)).otherwise([]).alias("conditions")
            )
    return frame.select(columns)


def _flags(tick_type: str) -> tuple[str, str]:
    return (
        ("bid_past_low", "ask_past_high")
        if tick_type == "bid_ask"
        else ("past_limit", "unreported")
    )


def _queries(stream: _Stream) -> dict[str, Callable[[list[Path]], Any]]:
    """Return the queries by their names."""
    first, second = _NUMBERS[stream.tick_type]
    at = pl.col("timestamp")
    frame = pl.read_parquet(stream.theirs, columns=["timestamp", first])
    middle = frame["timestamp"][len(frame) // 2]
    high = frame[first].quantile(0.9)
    names = list_columns([stream.tick_type])

    def scan(files: list[Path]) -> pl.LazyFrame:
        return pl.scan_parquet(files).select(names)

    return {
        "all columns": lambda files: scan(files).collect(),
        "three columns": lambda files: scan(files).select("timestamp", first, second).collect(),
        f"maximum of {first}": lambda files: scan(files).select(pl.col(first).max()).collect(),
        f"maximum of {second}": lambda files: scan(files).select(pl.col(second).max()).collect(),
        "means by minute": lambda files: (
            scan(files)
            .group_by(at.dt.truncate("1m"))
            .agg((pl.col(second) - pl.col(first)).mean())
            .collect()
        ),
        f"filter on {first}": lambda files: (
            scan(files).filter(pl.col(first) >= high).select("timestamp", first).collect()
        ),
        "five minutes": lambda files: (
            scan(files).filter((at >= middle) & (at < middle + timedelta(minutes=5))).collect()
        ),
        "last five": lambda files: scan(files).tail(5).collect(),
    }
