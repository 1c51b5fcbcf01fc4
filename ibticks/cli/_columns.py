"""``columns``: the columnar companions of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from ibticks.cli._options import (
    Dsn,
    Json,
    Root,
    Zone,
    console,
    emit,
    listed,
    opened,
    size_text,
    table,
)

__all__ = ["build", "ls", "rm"]

_Contracts = Annotated[
    str | None, typer.Argument(help="Contract ids or symbols, with commas; all by default.")
]
_TickTypes = Annotated[
    str | None, typer.Argument(help="Tick types, with commas; all that are stored by default.")
]
_Start = Annotated[str | None, typer.Option(help="The first day; all by default.")]
_End = Annotated[str | None, typer.Option(help="The day after the last one.")]


def build(
    contracts: _Contracts = None,
    tick_types: _TickTypes = None,
    root: Root = None,
    dsn: Dsn = None,
    start: _Start = None,
    end: _End = None,
    tz: Zone = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Write those, too, that are there.")
    ] = False,
    json: Json = False,
) -> None:
    """Build the Parquet files of sealed hours, one a stream and UTC day, where they lack any."""
    with opened(root, dsn) as store:
        built = store.build_companions(
            _contracts(contracts),
            _tick_types(tick_types),
            start=start,
            end=end,
            tz=tz,
            rebuild=rebuild,
            progress=False if json else None,
        )
    rows, size = (sum(getattr(one, name) for one in built) for name in ("rows", "size"))
    if json:
        emit({"files": [one.path for one in built], "rows": rows, "bytes": size})
    else:
        console.print(f"{len(built):,} files, {rows:,} ticks, {size_text(size)}", highlight=False)


def ls(root: Root = None, dsn: Dsn = None, json: Json = False) -> None:
    """List the columnar companions, and which have all sealed hours of their day as they are."""
    with opened(root, dsn) as store:
        companions = store.index.query("SELECT * FROM companions")
    if json:
        emit(companions)
        return
    table(
        "",
        ("contract", "tick type", "day", ">ticks", ">size", "fresh"),
        (
            (
                one["contract_id"],
                one["tick_type"],
                one["day"],
                f"{one['rows']:,}",
                size_text(one["bytes"]),
                "yes" if one["fresh"] else "no",
            )
            for one in companions
        ),
    )


def rm(
    contracts: _Contracts = None,
    tick_types: _TickTypes = None,
    root: Root = None,
    dsn: Dsn = None,
    start: _Start = None,
    end: _End = None,
    tz: Zone = None,
    json: Json = False,
) -> None:
    """Delete columnar companions; the ticks stay in the hour files."""
    with opened(root, dsn) as store:
        paths = store.delete_companions(
            _contracts(contracts), _tick_types(tick_types), start=start, end=end, tz=tz
        )
    if json:
        emit({"deleted": paths})
    else:
        console.print(f"{len(paths):,} files deleted", highlight=False)


def _contracts(text: str | None) -> list[int | str] | None:
    if text is None:
        return None
    return [int(part) if part.isdecimal() else part for part in listed(text)]


def _tick_types(text: str | None) -> list[str] | None:
    return None if text is None else listed(text)
