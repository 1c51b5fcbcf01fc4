"""``ls`` and ``info``: what a store, a contract or a file holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ibticks.cli._options import Dsn, Json, Root, emit, facts, instant, opened, size_text, table
from ibticks.filesystem import expand_home

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["info", "ls"]


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
