"""``import``: foreign files into the store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ibticks.cli.options import Dsn, Json, Root, Zone, console, emit, opened
from ibticks.errors import InputError
from ibticks.index.records import ContractRecord

if TYPE_CHECKING:
    from ibticks.store import Store

__all__ = ["import_"]


def import_(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet, or v2 messages as JSON lines.")],
    root: Root = None,
    dsn: Dsn = None,
    contract: Annotated[int | None, typer.Option("--contract", "-c", help="Contract id.")] = None,
    tick_type: Annotated[
        str | None,
        typer.Option("--type", "-t", help="last, all_last, bid_ask or mid_point."),
    ] = None,
    symbol: Annotated[
        str, typer.Option(help="Symbol to find the contract by; counts, whatever was known.")
    ] = "",
    exchange: Annotated[str, typer.Option(help="The contract's exchange; counts as well.")] = "",
    currency: Annotated[str, typer.Option(help="The contract's currency; counts as well.")] = "",
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", help="ours=theirs, where a column is not recognised; repeatable."),
    ] = None,
    tz: Zone = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of times that are numbers: s, ms, us or ns.")
    ] = None,
    json: Json = False,
) -> None:
    """Import quotes or trades; what the store holds already is not written twice."""
    from ibticks.importing import import_messages, import_table

    pairs = _pairs(mapping or [])
    if file.suffix in (".jsonl", ".ndjson"):
        if contract is not None or tick_type is not None:
            raise typer.BadParameter("messages say their own: leave --contract and --type out")
    elif contract is None or tick_type is None:
        raise typer.BadParameter("a table needs --contract and --type")
    with opened(root, dsn, create=True) as store:
        if contract is None or tick_type is None:
            result = import_messages(store, file)
        else:
            result = import_table(
                store,
                file,
                contract_id=contract,
                tick_type=tick_type,
                mapping=pairs,
                tz=tz,
                timestamp_unit=unit,  # type: ignore[arg-type]
            )
        ids = {contract_id for contract_id, _ in result.streams}
        corrected = _describe(store, file, ids, ContractRecord(0, symbol, exchange, currency))
    if json:
        emit(asdict(result))
        return
    console.print(
        f"{result.read:,} read, [bold]{result.added:,} added[/], {result.known:,} there already",
        highlight=False,
    )
    if corrected:
        console.print(Text(corrected), soft_wrap=True)
    if result.ignored:
        ignored = f"columns without a place in a tick: {', '.join(result.ignored)}"
        console.print(Text(ignored), soft_wrap=True)


def _describe(store: Store, file: Path, ids: set[int], said: ContractRecord) -> str:
    """Keep what was said of the contract that was imported; what of it was known otherwise."""
    options = {
        name: getattr(said, name)
        for name in ("symbol", "exchange", "currency")
        if getattr(said, name)
    }
    if not options or not ids:
        return ""
    if len(ids) > 1:
        words = " ".join(f"--{name} {value}" for name, value in options.items())
        raise InputError(
            f"{words} describes one contract, and {file} has {len(ids)}; its messages were "
            "imported, and none of the contracts was described"
        )
    (contract_id,) = ids
    known = {one.contract_id: one for one in store.contracts()}.get(contract_id)
    store.add_contract(contract_id, said.symbol, exchange=said.exchange, currency=said.currency)
    changes = [
        f"{name} {getattr(known, name)} is {value} now"
        for name, value in options.items()
        if getattr(known, name, "") not in ("", value)
    ]
    return f"contract {contract_id}: {', '.join(changes)}" if changes else ""


def _pairs(mapping: list[str]) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for pair in mapping:
        ours, separator, theirs = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"--map {pair}: write it as ours=theirs")
        pairs[ours] = theirs or None
    return pairs
