"""``gaps`` and ``backfill``: what was not captured, and what IB's history has of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ibticks.cli._options import (
    ALL_TIME,
    EXIT_FINDINGS,
    Dsn,
    Json,
    Root,
    Zone,
    console,
    emit,
    instant,
    listed,
    notes,
    opened,
    table,
    time_range_options,
    when_asked_to_end,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.history import BackfilledInterval, BackfillResult
    from ibticks.selection import TimeRange

__all__ = ["backfill", "gaps"]


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


def backfill(
    contracts: Annotated[
        str | None, typer.Argument(help="Id or symbol; several with commas; all by default.")
    ] = None,
    tick_types: Annotated[
        str | None, typer.Argument(help="Tick types, with commas; all stored by default.")
    ] = None,
    root: Root = None,
    dsn: Dsn = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="How far back, such as 24h, or from this time on; or all.",
            show_default="24h, without what came after a stream was captured last",
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Up to, not including, this time; now by default.")
    ] = None,
    tz: Zone = None,
    market: Annotated[
        str | None, typer.Option(help="Only while this market was open: US, UK, JP, CME, ...")
    ] = None,
    session: Annotated[str, typer.Option(help="Session type of the market.")] = "regular",
    least: Annotated[
        str | None, typer.Option("--min", help="Only gaps at least this long, such as 1m.")
    ] = None,
    gateway: Annotated[
        str,
        typer.Option(envvar="IBTICKS_GATEWAY", help="host:port of TWS or IB Gateway."),
    ] = "127.0.0.1:4002",
    client_id: Annotated[int, typer.Option(help="Client id at TWS; not that of a capture.")] = 11,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what there is to fill.")
    ] = False,
    json: Json = False,
) -> None:
    """Fill gaps with ticks of IB's history; exit code 3 where something is left.

    They are stored apart: load them with --backfill include. A capture may run meanwhile. Broken
    off, it goes on where it was.
    """
    from ibticks.history import backfill as fill
    from ibticks.tws import parse_address

    host, port = parse_address(gateway)
    stopping = threading.Event()
    with opened(root, dsn) as store, when_asked_to_end(stopping.set):
        result = fill(
            store,
            None if contracts is None else listed(contracts),
            None if tick_types is None else listed(tick_types),
            _begin(since or "24h"),
            until,
            tz=tz,
            to_now=since is not None,
            market=market,
            session=session,
            min_duration=least,
            host=host,
            port=port,
            client_id=client_id,
            dry_run=dry_run,
            on_filled=None if json else _tell,
            stopping=stopping,
        )
    if json:
        emit(result.as_json())
    else:
        _print(result)
    if result.remaining:
        raise typer.Exit(EXIT_FINDINGS)


def _begin(since: str) -> str | int | None:
    """A time, or one so long ago."""
    from ibticks.calendar import now_ns, parse_duration
    from ibticks.errors import UnknownPeriodError

    if since == "all":
        return None
    try:
        return now_ns() - parse_duration(since)
    except UnknownPeriodError:
        return since


def _tell(part: BackfilledInterval) -> None:
    details = (
        f"{part.contract_id} {part.tick_type} {instant(part.start_ns)} to "
        f"{instant(part.end_ns)}: {part.ticks:,} ticks"
    )
    notes.print(Text(details), soft_wrap=True)


def _print(result: BackfillResult) -> None:
    if result.dry_run and result.gaps:
        table(
            "to be filled",
            ("contract", "tick type", "start", "end", "state", "reason"),
            (
                (
                    gap.contract_id,
                    gap.tick_type,
                    instant(gap.start_ns),
                    instant(gap.end_ns),
                    gap.state,
                    gap.reason,
                )
                for gap in result.gaps
            ),
        )
    else:
        typer.echo(str(result))
