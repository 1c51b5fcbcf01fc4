"""``import``: foreign files into the store."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from ibticks.cli._options import Dsn, Json, Root, Zone, console, emit, in_options, instant, opened
from ibticks.errors import InputError
from ibticks.filesystem import explained
from ibticks.index import ContractRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibticks.importing import ImportResult
    from ibticks.store import Store

__all__ = ["import_"]

_MOST_CONTRACTS: Final = 12


def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV, Parquet, v2 messages as JSON lines, or a tick file.")
    ],
    root: Root = None,
    dsn: Dsn = None,
    contract: Annotated[
        int | None,
        typer.Option(
            "--contract", "-c", help="Contract id of all rows, where no column of the file has it."
        ),
    ] = None,
    tick_type: Annotated[
        str | None,
        typer.Option(
            "--type",
            "-t",
            help="Tick type of CSV and Parquet rows: last, all_last, bid_ask or mid_point.",
        ),
    ] = None,
    symbol: Annotated[
        str, typer.Option(help="Symbol of the contract; replaces the one the store has.")
    ] = "",
    exchange: Annotated[str, typer.Option(help="Exchange of the contract; replaces it too.")] = "",
    currency: Annotated[str, typer.Option(help="Currency of the contract; replaces it too.")] = "",
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="COLUMN OF IBTICKS=COLUMN OF THE FILE, as price=Px; timestamp=DATE+TIME joins two "
            "columns; repeatable.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Whose column names the file has: taq, databento, ib_async, polygon, tardis, kdb, "
            "ibticks or none.",
            show_default="found by the columns",
        ),
    ] = None,
    symbols: Annotated[
        Path | None, typer.Option(help="CSV with the columns symbol and contract_id.")
    ] = None,
    map_symbol: Annotated[
        list[str] | None,
        typer.Option("--map-symbol", help="SYMBOL=CONTRACT_ID of the file; repeatable."),
    ] = None,
    tz: Zone = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of times that are numbers: s, ms, us or ns.")
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option("--format", help="Format of times, such as '%d/%m/%Y %H:%M:%S.%f'."),
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(help="Decimal mark of numbers, where they do not show it: . or ,")
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave out rows that cannot be read, and write them to a file."
        ),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="The file for the rows that --skip-bad leaves out.",
            show_default="FILE.rejected.csv",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Import quotes or trades; what the store holds already is not written twice."""
    from ibticks.importing import import_messages, import_table, import_tick_file, is_tick_file

    pairs = _pairs(mapping or [])
    contracts = _contracts(symbols, map_symbol or [])
    if is_tick_file(file) or file.suffix in (".jsonl", ".ndjson"):
        if contract is not None or tick_type is not None:
            raise typer.BadParameter(
                "messages and tick files say their own: leave --contract and --type out"
            )
        of_tables = {
            "--map": mapping,
            "--preset": preset,
            "--symbols": symbols,
            "--map-symbol": map_symbol,
            "--tz": tz,
            "--unit": unit,
            "--format": time_format,
            "--decimal": decimal,
            "--skip-bad": skip_bad,
            "--rejects": rejects,
        }
        if wrong := [option for option, value in of_tables.items() if value]:
            raise typer.BadParameter(f"{wrong[0]} is for tables, and {file} is none")
    elif tick_type is None:
        raise typer.BadParameter(
            f"--type is missing: say which ticks the rows of {file} are, with --type "
            "last, all_last, bid_ask or mid_point"
        )
    about = ContractRecord(0, symbol, exchange, currency)
    with opened(root, dsn, create=True) as store:
        # Before the file is read: the contract has that symbol though the file may be refused.
        corrected = "" if contract is None else _describe(store, file, {contract}, about)
        if is_tick_file(file):
            result = import_tick_file(store, file)
        elif tick_type is None:
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
                preset=preset,
                time_format=time_format,
                decimal=decimal,
                symbols=contracts,
                skip_bad=rejects or skip_bad,
                format_reason=in_options,
            )
        if contract is None:
            ids = {contract_id for contract_id, _ in result.streams}
            corrected = _describe(store, file, ids, about)
        names = {one.contract_id: one.symbol for one in store.contracts()}
    if json:
        emit(asdict(result))
        return
    _summarize(result, names)
    if corrected:
        console.print(Text(corrected), soft_wrap=True)


def _summarize(result: ImportResult, names: Mapping[int, str]) -> None:
    """Print what was read from where, into which contracts."""
    console.print(
        f"{result.read:,} read, [bold]{result.added:,} added[/], {result.known:,} there already",
        highlight=False,
    )
    lines = []
    if result.first_ns is not None:
        lines.append(f"time: {instant(result.first_ns)} to {instant(result.last_ns)}")
    if result.rows:
        shown = [
            " ".join(filter(None, [str(contract_id), names.get(contract_id, "")])) + f": {rows:,}"
            for contract_id, rows in list(result.rows.items())[:_MOST_CONTRACTS]
        ]
        more = len(result.rows) - len(shown)
        lines.append("contracts: " + ", ".join([*shown, *([f"{more} more"] if more else [])]))
    if result.mapped:
        columns = (f"{ours}={'+'.join(theirs)}" for ours, theirs in result.mapped.items())
        preset = f" (preset {result.preset})" if result.preset else ""
        lines.append(f"columns{preset}: {', '.join(columns)}")
    if result.ignored:
        lines.append(f"columns without a place in a tick: {', '.join(result.ignored)}")
    lines += [in_options(note) for note in result.notes]
    if result.rejects is not None:
        lines.append(f"{result.rejected:,} rows were left out: see {result.rejects}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _describe(store: Store, file: Path, ids: set[int], details: ContractRecord) -> str:
    """Record the details of the imported contract; return the details that differed before."""
    options = {
        name: getattr(details, name)
        for name in ("symbol", "exchange", "currency")
        if getattr(details, name)
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
    store.add_contract(
        contract_id, details.symbol, exchange=details.exchange, currency=details.currency
    )
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


def _contracts(file: Path | None, pairs: list[str]) -> dict[str, int]:
    """Read the contract ids of symbols, from a file and from options."""
    result: dict[str, int] = {}
    if file is not None:
        with explained(file, "reading"), file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            names = {name.strip().lower(): name for name in reader.fieldnames or ()}
            if not {"symbol", "contract_id"} <= names.keys():
                raise InputError(
                    f"{file} has no columns symbol and contract_id: its first line is "
                    f"{','.join(reader.fieldnames or ())!r}",
                    path=str(file),
                )
            for row in reader:
                name, number = row[names["symbol"]], row[names["contract_id"]]
                _add_contract(result, name, number, f"{file}, line {reader.line_num}")
    for pair in pairs:
        name, separator, number = pair.rpartition("=")
        if not separator:
            raise typer.BadParameter(f"--map-symbol {pair}: write it as SYMBOL=CONTRACT_ID")
        _add_contract(result, name, number, f"--map-symbol {pair}")
    return result


def _add_contract(
    contracts: dict[str, int], name: str | None, number: str | None, where: str
) -> None:
    symbol, text = (name or "").strip(), (number or "").strip()
    if not symbol or not text.isdecimal():
        raise InputError(f"{where}: {text!r} is no contract id of a symbol {symbol!r}")
    if contracts.setdefault(symbol, int(text)) != int(text):
        raise InputError(
            f"{where}: {symbol} is contract {contracts[symbol]} already, and now {text}"
        )
