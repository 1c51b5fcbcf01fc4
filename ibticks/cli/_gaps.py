"""``gaps``: what of the ticks was not captured, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from ibticks.cli._options import Dsn, Json, Root, Zone, console, emit, listed, opened, table

__all__ = ["gaps"]

_FOUND = 3


def gaps(
    contracts: Annotated[
        str | None, typer.Argument(help="Id or symbol; several with commas; all by default.")
    ] = None,
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
            period,
            start=start,
            end=end,
            tz=tz,
            session=session,
            date=date,
            sessions=sessions,
            market=market,
        )
        if during is not None:
            coverage = coverage.during(market, during)
        found = coverage.gaps(least)
    if json:
        emit(coverage.as_json(least))
    else:
        from ibticks.coverage import GAP_COLUMNS, CoverageState, gap_rows, summary_rows

        table(coverage.label, ("stream", ">covered", "time"), summary_rows(coverage))
        if found:
            columns = [f">{name}" if name == "duration" else name for name in GAP_COLUMNS]
            table("gaps", columns, gap_rows(coverage, found))
        else:
            console.print("no gaps", highlight=False)
        if any(each.state is CoverageState.UNKNOWN for each in coverage.state_intervals):
            meaning = CoverageState.UNKNOWN.meaning
            console.print(f"unknown: {meaning}", highlight=False, soft_wrap=True)
    if found:
        raise typer.Exit(_FOUND)
