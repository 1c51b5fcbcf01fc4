"""``gaps``: what of the ticks was not captured, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ibticks.cli._options import (
    ALL_TIME,
    EXIT_FINDINGS,
    Dsn,
    Json,
    Root,
    console,
    emit,
    listed,
    opened,
    table,
    time_range_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.selection import TimeRange

__all__ = ["gaps"]


@time_range_options
def gaps(
    contracts: Annotated[
        str | None, typer.Argument(help="Id or symbol; several with commas; all by default.")
    ] = None,
    tick_types: Annotated[
        str | None, typer.Argument(help="Tick types, with commas; all stored by default.")
    ] = None,
    time_range: TimeRange = ALL_TIME,
    root: Root = None,
    dsn: Dsn = None,
    during: Annotated[
        str | None,
        typer.Option(help="Only while this session of the market ran: regular, globex, ..."),
    ] = None,
    least: Annotated[
        str | None, typer.Option("--min", help="Only gaps at least this long, such as 1m.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what was captured and what was not; exit code 3 where ticks may be missing."""
    with opened(root, dsn) as store:
        coverage = store.coverage(
            None if contracts is None else listed(contracts),
            None if tick_types is None else listed(tick_types),
            time_range,
        )
        if during is not None:
            coverage = coverage.during(time_range.market, during)
        result = coverage.gaps(least)
    if json:
        emit(coverage.as_json(least))
    else:
        from ibticks.coverage import CoverageState

        columns, rows = coverage.summary_table()
        table(coverage.label, _right_aligned(columns, "covered"), rows)
        columns, rows = coverage.gap_table(least)
        if rows:
            table("gaps", _right_aligned(columns, "duration"), rows)
        else:
            console.print("no gaps", highlight=False)
        if any(
            state_interval.state is CoverageState.UNKNOWN
            for state_interval in coverage.state_intervals
        ):
            meaning = CoverageState.UNKNOWN.meaning
            console.print(f"unknown: {meaning}", highlight=False, soft_wrap=True)
    if result:
        raise typer.Exit(EXIT_FINDINGS)


def _right_aligned(columns: Iterable[str], right: str) -> list[str]:
    return [f">{name}" if name == right else name for name in columns]
