"""``load``: a stretch of ticks to the terminal or into a file."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ibticks.cli._options import Dsn, Json, Root, Zone, listed, notes, opened, table

if TYPE_CHECKING:
    import polars as pl

__all__ = ["load"]

_NOTHING = 4


def load(
    contracts: Annotated[str, typer.Argument(help="Id or symbol; several with commas.")],
    tick_types: Annotated[
        str | None, typer.Argument(help="Tick types, with commas; all stored by default.")
    ] = None,
    period: Annotated[
        str | None, typer.Argument(help="last_hour, 2h30m, today, since_open and the like.")
    ] = None,
    root: Root = None,
    dsn: Dsn = None,
    start: Annotated[str | None, typer.Option(help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option(help="Up to, not including, this time.")] = None,
    tz: Zone = None,
    session: Annotated[str | None, typer.Option(help="regular, pre_market, globex, ...")] = None,
    date: Annotated[str | None, typer.Option(help="Trading day of the session.")] = None,
    sessions: Annotated[int | None, typer.Option(help="The last so many sessions.")] = None,
    market: Annotated[str, typer.Option(help="US, UK, JP, CME, or a calendar's name.")] = "US",
    now: Annotated[
        str | None, typer.Option(help="Instead of the clock; last_tick is the last one stored.")
    ] = None,
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
            period,
            start=start,
            end=end,
            tz=tz,
            session=session,
            date=date,
            sessions=sessions,
            market=market,
            now=now,
            columns=None if columns is None else listed(columns),
            strict=strict,
            backfill=check_backfill(backfill)[0],
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
        each.name for each in frame if each.null_count() < frame.height and each.name not in same
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
        each.dt.to_string("%Y-%m-%d %H:%M:%S%.f") for each in frame if each.dtype.is_temporal()
    )
    return [[_cell(cell) for cell in row] for row in texts.iter_rows()]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
