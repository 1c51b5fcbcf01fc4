"""Companions of real ticks beside the Parquet files that a user of polars would keep.

The ticks are those of ``ibticks.sample``, or of the folder in ``IBTICKS_REAL_TICKS``: files
``{name}.quotes.parquet`` and ``{name}.trades.parquet`` of whole days. Each stream is stored as it
is, and read by ``Selection.lazy`` from its companions, one a day, the planning included, and by
``scan_parquet`` from files an hour that polars wrote (zstd, all else by default).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.testing import assert_frame_equal

from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.timing import compare, simple
from ibticks.frames import from_arrow, to_polars, to_table
from ibticks.sample import SAMPLES
from ibticks.schema import list_columns
from ibticks.storage import read_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene

__all__ = ["companions"]

_PEER: Final = "polars, zstd Parquet an hour"
_FIRST_CONTRACT: Final = 900_001
_NUMBERS: Final = {"bid_ask": ("bid_price", "ask_price"), "all_last": ("price", "size")}


@dataclass(frozen=True, slots=True)
class _Stream:
    """One stream, as ibticks and as the peer has it.

    Attributes
    ----------
    name, tick_type : str
    scan : callable
        Plans a load and returns a lazy frame.
    sizes : tuple of int
        Bytes of the companions.
    peer_files : list of Path
    """

    name: str
    tick_type: str
    scan: Callable[[], pl.LazyFrame]
    sizes: tuple[int, ...]
    peer_files: list[Path]


def companions(scene: Scene) -> Iterator[Row]:
    """Compare bytes and queries of each stream of real ticks."""
    for contract_id, (path, tick_type) in enumerate(_sources(), _FIRST_CONTRACT):
        stream = _store(scene, path, contract_id, tick_type)
        yield Row(
            f"{stream.name}: bytes",
            Figure.size(sum(stream.sizes)),
            _PEER,
            Figure.size(sum(file.stat().st_size for file in stream.peer_files)),
            share=True,
            goal=at_most(0.85),
        )
        for what, query in _queries(stream).items():
            took = compare(
                [
                    simple("ibticks", partial(_run, query, stream.scan)),
                    simple("polars", partial(_run, query, partial(_peer_scan, stream))),
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


def _run(
    query: Callable[[pl.LazyFrame], pl.LazyFrame], scan: Callable[[], pl.LazyFrame]
) -> pl.DataFrame:
    return query(scan()).collect()


def _peer_scan(stream: _Stream) -> pl.LazyFrame:
    return pl.scan_parquet(stream.peer_files)


def _sources() -> list[tuple[Path, str]]:
    """Return the files of real ticks and their tick types."""
    folder = os.environ.get("IBTICKS_REAL_TICKS")
    if folder is None:
        return [(sample.path, sample.tick_type) for sample in SAMPLES]
    quotes, trades = (
        sorted(Path(folder).glob(f"*.{name}.parquet")) for name in ("quotes", "trades")
    )
    return [*((path, "bid_ask") for path in quotes), *((path, "all_last") for path in trades)]


def _store(scene: Scene, source: Path, contract_id: int, tick_type: str) -> _Stream:
    """Store the ticks of a file, build companions, and write the files of the peer."""
    store = scene.store
    columns = from_arrow(
        _as_captured(source, tick_type), contract_id=contract_id, tick_type=tick_type
    )
    with store.writer(contract_id, tick_type, fsync=None) as writer:
        writer.write(columns)
    peer_files = []
    names = list_columns([tick_type])
    for record in store.index.files([contract_id], [tick_type]):
        hour = to_polars(to_table(read_ticks(store.root, [record], names), names))
        peer_files.append(scene.folder / f"{contract_id}-{record.hour_ns}.parquet")
        hour.write_parquet(peer_files[-1], compression="zstd")
    built = store.build_companions(contract_id, tick_type, progress=False)

    def scan() -> pl.LazyFrame:
        return store.select(contract_id, tick_type).lazy()

    assert "PYTHON SCAN" not in scan().explain()
    assert_frame_equal(scan().collect(), pl.read_parquet(peer_files))
    sizes = tuple(companion.size for companion in built)
    return _Stream(source.stem, tick_type, scan, sizes, peer_files)


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


def _queries(stream: _Stream) -> dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]]:
    """Return the queries by their names."""
    first, second = _NUMBERS[stream.tick_type]
    at = pl.col("timestamp")
    frame = pl.read_parquet(stream.peer_files, columns=["timestamp", first])
    middle = frame["timestamp"][len(frame) // 2]
    high = frame[first].quantile(0.9)
    return {
        "all columns": lambda ticks: ticks,
        "three columns": lambda ticks: ticks.select("timestamp", first, second),
        f"maximum of {first}": lambda ticks: ticks.select(pl.col(first).max()),
        f"maximum of {second}": lambda ticks: ticks.select(pl.col(second).max()),
        "means by minute": lambda ticks: ticks.group_by(at.dt.truncate("1m")).agg(
            (pl.col(second) - pl.col(first)).mean()
        ),
        f"filter on {first}": lambda ticks: ticks.filter(pl.col(first) >= high).select(
            "timestamp", first
        ),
        "five minutes": lambda ticks: ticks.filter(
            (at >= middle) & (at < middle + timedelta(minutes=5))
        ),
        "last five": lambda ticks: ticks.tail(5),
    }
