"""``ls``, ``info`` and ``load``: what a store, a contract or a file holds, and its ticks."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ibticks.cli._options import (
    ALL_TIME,
    Dsn,
    Json,
    Root,
    emit,
    facts,
    instant,
    listed,
    notes,
    opened,
    size_text,
    table,
    time_range_options,
)
from ibticks.filesystem import expand_home

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl

    from ibticks.selection import TimeRange

__all__ = ["info", "load", "ls"]

_NOTHING = 4


@time_range_options
def load(
    contracts: Annotated[str, typer.Argument(help="Id or symbol; several with commas.")],
    tick_types: Annotated[
        str | None, typer.Argument(help="Tick types, with commas; all stored by default.")
    ] = None,
    time_range: TimeRange = ALL_TIME,
    root: Root = None,
    dsn: Dsn = None,
    columns: Annotated[str | None, typer.Option(help="Only these, with commas.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail at damaged data.")] = False,
    backfill: Annotated[
        str, typer.Option(help="Of ticks asked of IB afterwards: exclude, include or only.")
    ] = "exclude",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .csv, .parquet or .arrow file.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows shown in the terminal.", min=0)] = 10,
    json: Json = False,
) -> None:
    """Load ticks: print them, or write them to CSV, Parquet or Arrow."""
    from ibticks.frames import json_lines, parse_file_format, to_polars
    from ibticks.selection import check_backfill

    kind = None if output is None else parse_file_format(output)
    with opened(root, dsn) as store:
        begun = time.perf_counter()
        selection = store.select(
            listed(contracts),
            None if tick_types is None else listed(tick_types),
            time_range,
            columns=None if columns is None else listed(columns),
            strict=strict,
            backfill=check_backfill(backfill),
        )
        # Says it in options, at the end.
        selection = replace(selection, counts_from_clock=False, explains_empty_loads=False)
        if output is not None and kind is not None:
            write = {
                "csv": selection.write_csv,
                "ipc": selection.write_ipc,
                "parquet": selection.write_parquet,
            }[kind]
            count = write(output)
            elapsed = time.perf_counter() - begun
        else:
            ticks = selection.to_arrow()
            count, elapsed = ticks.num_rows, time.perf_counter() - begun
            if json:
                sys.stdout.writelines(json_lines(ticks))
            elif count:
                show(to_polars(ticks), rows)
        stored = "" if count else f"; {selection.describe_stored('--now last_tick')}"
    if not json:
        written = "" if output is None else f", written to {output}"
        done = f"{count:,} ticks in {elapsed * 1000:,.0f} ms{written}{stored}"
        notes.print(Text(done), soft_wrap=True)
    if not count:
        raise typer.Exit(_NOTHING)


def show(frame: pl.DataFrame, rows: int) -> None:
    """Print the first and last rows of a frame, without columns that say nothing.

    Those are the columns that are all null and, in the title instead, the contract and the tick
    type where all rows have the same.
    """
    same = [
        name
        for name in ("contract_id", "tick_type")
        if name in frame.columns and frame[name].n_unique() == 1
    ]
    title = " ".join([*(str(frame[name][0]) for name in same), "(times in UTC)"])
    filled = frame.select(
        value.name
        for value in frame
        if value.null_count() < frame.height and value.name not in same
    )
    above = min(rows, filled.height) - rows // 2 if filled.height > rows else filled.height
    below = min(rows, filled.height) - above
    right = [name for name, kind in filled.schema.items() if kind.is_numeric()]
    columns = [f">{name}" if name in right else name for name in filled.columns]
    tail = _rows(filled.tail(below))
    gap = [["…"] * filled.width] if tail else []
    table(title, columns, [*_rows(filled.head(above)), *gap, *tail])


def _rows(frame: pl.DataFrame) -> list[list[str]]:
    texts = frame.with_columns(
        value.dt.to_string("%Y-%m-%d %H:%M:%S%.f") for value in frame if value.dtype.is_temporal()
    )
    return [[_cell(cell) for cell in row] for row in texts.iter_rows()]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def ls(
    contract: Annotated[str | None, typer.Argument(help="Id or symbol; all by default.")] = None,
    root: Root = None,
    dsn: Dsn = None,
    files: Annotated[bool, typer.Option("--files", help="List the files one by one.")] = False,
    json: Json = False,
) -> None:
    """List what is stored, by contract and tick type."""
    with opened(root, dsn) as store:
        ids = None if contract is None else store.contract_ids(contract)
        if files:
            records = store.index.files(ids)
            if json:
                emit([record.to_dict(blocks=False) for record in records])
                return
            table(
                str(store.root),
                ("file", "first (UTC)", "last (UTC)", ">ticks", ">size", "compression", "sealed"),
                (
                    (
                        r.path,
                        _second(r.first_tick_ns),
                        _second(r.last_tick_ns),
                        f"{r.ticks:,}",
                        size_text(r.size),
                        r.compression,
                        "yes" if r.sealed else "open",
                    )
                    for r in records
                ),
            )
            return
        contents = [c for c in store.contents() if ids is None or c.contract_id in ids]
        if json:
            emit([asdict(content) for content in contents])
            return
        table(
            str(store.root),
            (
                ">contract",
                "symbol",
                "tick type",
                "first (UTC)",
                "last (UTC)",
                ">ticks",
                ">files",
                ">size",
            ),
            (
                (
                    c.contract_id,
                    c.symbol,
                    c.tick_type,
                    _second(c.first_ns),
                    _second(c.last_ns),
                    f"{c.ticks:,}",
                    f"{c.files:,}",
                    size_text(c.size),
                )
                for c in contents
            ),
        )


def info(
    target: Annotated[
        str | None,
        typer.Argument(help="A contract (id or symbol) or a tick file; the store by default."),
    ] = None,
    root: Root = None,
    dsn: Dsn = None,
    json: Json = False,
) -> None:
    """Tell about the store, a contract day by day, or one file."""
    if target is not None and target.endswith("_ticks.pb"):
        _file(Path(target), json=json)
        return
    with opened(root, dsn) as store:
        if target is not None:
            days = store.daily_stats(target)
            if json:
                emit([asdict(day) for day in days])
                return
            table(
                f"{target}, by UTC day",
                ("date", "tick type", ">ticks", ">min", ">max", ">average", ">volume", ">VWAP"),
                (
                    (
                        day.date,
                        day.tick_type,
                        f"{day.ticks:,}",
                        _number(day.min_price),
                        _number(day.max_price),
                        _number(day.avg_price),
                        _number(day.volume),
                        _number(day.vwap),
                    )
                    for day in days
                ),
            )
            return
        files, contents = store.index.files(), store.contents()
        about: dict[str, Any] = {
            "root": str(store.root),
            "index": store.index.describe(),
            "contracts": len({record.contract_id for record in files}),
            "files": len(files),
            "open_files": sum(not record.sealed for record in files),
            "ticks": sum(record.ticks for record in files),
            "size": sum(record.size for record in files),
            "first_tick": instant(min(_times(c.first_ns for c in contents), default=None)),
            "last_tick": instant(max(_times(c.last_ns for c in contents), default=None)),
        }
        _show(about, json=json)


def _file(path: Path, *, json: bool) -> None:
    """The header of a file and what it holds, wherever it lies."""
    from ibticks.errors import InputError
    from ibticks.storage import FileKey, summarise_file

    whole = expand_home(path).resolve()
    key = FileKey.parse("/".join(whole.parts[-6:]))
    if key is None:
        raise InputError(
            f"{path} does not lie in a store as contract/tick_type/YYYY/MM/DD/HH_ticks.pb",
            path=str(path),
        )
    summary = summarise_file(whole.parents[5], key)
    header, record = summary.header, summary.record
    about: dict[str, Any] = {
        "path": str(whole),
        "contract_id": header.contract_id,
        "tick_type": header.tick_type,
        "start": instant(record.start_ns),
        "end": instant(record.end_ns),
        "messages": record.messages,
        "ticks": record.ticks,
        "size": record.size,
        "blocks": len(record.blocks),
        "compression": header.compression,
        "sealed": header.sealed,
        "crc32c": None if header.crc32c is None else f"{header.crc32c:#010x}",
        "crc32c_found": f"{summary.body_crc32c:#010x}",
        "writer": header.writer,
        "version": header.version,
        "problem": summary.problem,
    }
    _show(about, json=json)


def _show(about: dict[str, Any], *, json: bool) -> None:
    if json:
        emit(about)
    else:
        facts(about)


def _times(values: Iterable[int | None]) -> Iterator[int]:
    return (value for value in values if value is not None)


def _second(ns: int | None) -> str:
    return instant(ns)[:19].replace("T", " ")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.8g}"
