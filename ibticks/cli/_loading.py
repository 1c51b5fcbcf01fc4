"""``load``: an interval of ticks to the terminal or into a file."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ibticks.cli._options import (
    ALL_TIME,
    Dsn,
    Json,
    Root,
    listed,
    notes,
    opened,
    table,
    time_range_options,
)

if TYPE_CHECKING:
    import polars as pl

    from ibticks.selection import TimeRange

__all__ = ["load"]

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
