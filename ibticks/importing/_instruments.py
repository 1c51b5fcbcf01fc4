"""Contracts of the instruments that a file names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ibticks.errors import InputError
from ibticks.schema import check_contract_id
from ibticks.tables import plain_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibticks.index import ContractRecord
    from ibticks.tables import Instrument, InstrumentColumn

__all__ = ["new_symbols", "resolve_contracts"]

_MAX_LISTED: Final = 8
_NO_TERMS: Final = ("", "0", "0.0", "?")
"""Strike and right of a share, as IB writes them."""


def resolve_contracts(
    instruments: Sequence[Instrument],
    columns: Sequence[InstrumentColumn],
    known: Sequence[ContractRecord],
    *,
    contract_id: int | None = None,
    symbols: Mapping[str, int] | None = None,
) -> dict[Instrument, int]:
    """Return the contract of each instrument of a file.

    Parameters
    ----------
    instruments : sequence of Instrument
        Values that name the instruments, one for each of ``columns``.
    columns : sequence of InstrumentColumn
    known : sequence of ContractRecord
        Contracts of the store.
    contract_id : int, optional
        Contract of the whole file, as the user gave it.
    symbols : mapping of str to int, optional
        Contract ids by symbol, or by another value of those columns.

    Raises
    ------
    InputError
        If a contract is not known; if two values of an instrument belong to different contracts; if
        the file holds several instruments and one contract was named, or contradicts it.

    Examples
    --------
    >>> from ibticks.tables import InstrumentColumn
    >>> column = InstrumentColumn("symbol", ("ticker",))
    >>> resolve_contracts([("IBM",), ("BAC",)], [column], [], symbols={"IBM": 8314, "BAC": 10098})
    {('IBM',): 8314, ('BAC',): 10098}
    """
    symbol_contracts = {
        str(name): check_contract_id(number) for name, number in (symbols or {}).items()
    }
    if contract_id is not None:
        check_contract_id(contract_id)
    contracts_by_instrument: dict[Instrument, int] = {}
    unknown: list[Instrument] = []
    for instrument in instruments:
        contracts = _candidate_contracts(instrument, columns, known, symbol_contracts)
        if len(set(contracts.values())) > 1:
            listed = ", ".join(
                f"{value} is contract {contract}" for value, contract in contracts.items()
            )
            raise InputError(
                f"the values of one row name different contracts: {listed}; say with symbols= "
                f"which it is, or with mapping={{'symbol': ...}} which column names it",
                candidates=sorted(set(contracts.values())),
            )
        if contracts:
            contracts_by_instrument[instrument] = next(iter(contracts.values()))
        else:
            unknown.append(instrument)
    if contract_id is None:
        if unknown:
            raise _unknown_contract_error(unknown, columns)
        _check_terms(contracts_by_instrument, columns)
        return contracts_by_instrument
    _check_contract_id_argument(contract_id, contracts_by_instrument, unknown, columns, known)
    return dict.fromkeys(instruments, contract_id)


def new_symbols(
    contracts: Mapping[Instrument, int],
    columns: Sequence[InstrumentColumn],
    known: Sequence[ContractRecord],
    symbols: Mapping[str, int],
) -> dict[int, str]:
    """Return the symbols that the user gave for contracts of which the store knows none."""
    contracts_with_symbol = {record.contract_id for record in known if record.symbol}
    symbol_contracts = {str(name): number for name, number in symbols.items()}
    return {
        contract: value
        for instrument, contract in contracts.items()
        for column, value in zip(columns, instrument, strict=False)
        if column.role == "symbol"
        and symbol_contracts.get(value) == contract
        and contract not in contracts_with_symbol
    }


def _candidate_contracts(
    instrument: Instrument,
    columns: Sequence[InstrumentColumn],
    known: Sequence[ContractRecord],
    symbols: Mapping[str, int],
) -> dict[str, int]:
    """Return the contracts that the values of one instrument stand for, by value."""
    contracts: dict[str, int] = {}
    for column, value in zip(columns, instrument, strict=False):
        if not value or column.role == "term":
            continue
        if value in symbols:
            contracts[value] = symbols[value]
        elif column.role == "contract_id":
            if not value.isdecimal():
                raise InputError(
                    f"column {column.sources[0]!r} has {value!r}, which is no contract id: take "
                    f"another column with mapping={{'contract_id': ...}}, or none with "
                    f"mapping={{'contract_id': None}}",
                    column=column.sources[0],
                )
            contracts[value] = check_contract_id(int(value))
        elif column.role == "symbol" and not _has_terms(instrument, columns):
            matches = [record for record in known if record.symbol == value] or [
                record for record in known if record.symbol.casefold() == value.casefold()
            ]
            if len(matches) > 1:
                ids = ", ".join(str(record.contract_id) for record in matches)
                raise InputError(
                    f"symbol {value!r} may be any of the contracts {ids}: say which with "
                    f"symbols={{{value!r}: ...}}",
                    column=column.sources[0],
                    candidates=[record.contract_id for record in matches],
                )
            if matches:
                contracts[value] = matches[0].contract_id
    return contracts


def _has_terms(instrument: Instrument, columns: Sequence[InstrumentColumn]) -> bool:
    """Tell whether an instrument is a derivative, whose symbol may be that of its underlying."""
    return any(
        column.role == "term" and value not in _NO_TERMS
        for column, value in zip(columns, instrument, strict=False)
    )


def _check_terms(contracts: Mapping[Instrument, int], columns: Sequence[InstrumentColumn]) -> None:
    """Refuse rows of one contract whose expiry, strike or right differ.

    The contract id of a row goes before its terms: those of a contract may be written in two ways.
    """
    term_positions = [position for position, column in enumerate(columns) if column.role == "term"]
    if not term_positions or columns[0].role == "contract_id":
        return
    terms: dict[int, Instrument] = {}
    for instrument, contract in contracts.items():
        first = terms.setdefault(contract, instrument)
        if any(first[position] != instrument[position] for position in term_positions):
            names = [name for column in columns if column.role != "id" for name in column.sources]
            column_list = "+".join(names)
            where = _format_sources([columns[position] for position in term_positions])
            raise InputError(
                f"the rows of contract {contract} differ in {where}: "
                f"{_format_instruments([first, instrument])}; name the contract of each with "
                f"mapping={{'symbol': {column_list!r}}} and symbols={{...}}",
                contract_id=contract,
            )


def _check_contract_id_argument(
    contract_id: int,
    contracts_by_instrument: Mapping[Instrument, int],
    unknown: Sequence[Instrument],
    columns: Sequence[InstrumentColumn],
    known: Sequence[ContractRecord],
) -> None:
    """Refuse a contract that was named for a file that holds others."""
    others = {contract for contract in contracts_by_instrument.values() if contract != contract_id}
    where = _format_sources(columns)
    if others:
        listed = ", ".join(
            f"{_format_instrument(instrument)} (contract {contract})"
            for instrument, contract in list(contracts_by_instrument.items())[:_MAX_LISTED]
            if contract != contract_id
        )
        raise InputError(
            f"contract_id={contract_id} was given, and the file has {listed} in {where}: leave "
            f"contract_id= out to import each row by what it names",
            contract_id=contract_id,
            candidates=sorted(others),
        )
    if len(contracts_by_instrument) + len(unknown) > 1 and unknown:
        raise InputError(
            f"contract_id={contract_id} was given for a file of several instruments, "
            f"{_format_instruments([*contracts_by_instrument, *unknown])} in {where}: leave "
            f"contract_id= out and give their contracts with "
            f"symbols={{{_example_value(unknown)!r}: ...}}",
            contract_id=contract_id,
        )
    record = next(
        (record for record in known if record.contract_id == contract_id and record.symbol), None
    )
    for instrument in unknown:
        symbols = [
            value
            for column, value in zip(columns, instrument, strict=False)
            if column.role == "symbol" and value
        ]
        if record is None or not symbols or _has_terms(instrument, columns):
            continue
        if plain_name(record.symbol) not in map(plain_name, symbols):
            raise InputError(
                f"contract_id={contract_id} is {record.symbol} in this store, and the file has "
                f"{', '.join(symbols)} in {where}: if that is the same contract, say so with "
                f"symbols={{{symbols[0]!r}: {contract_id}}}",
                contract_id=contract_id,
            )


def _unknown_contract_error(
    unknown: Sequence[Instrument], columns: Sequence[InstrumentColumn]
) -> InputError:
    if not columns or all(not any(instrument) for instrument in unknown):
        return InputError(
            "the file has no column that names the contract of a row: give contract_id=",
            column="contract_id",
        )
    return InputError(
        f"{len(unknown)} instruments in {_format_sources(columns)} are of no contract that this "
        f"store knows: {_format_instruments(unknown)}; give their contracts with "
        f"symbols={{{_example_value(unknown)!r}: ...}}, or contract_id= if the file is of one "
        f"contract",
        column=columns[0].sources[0],
    )


def _format_sources(columns: Sequence[InstrumentColumn]) -> str:
    names = dict.fromkeys(repr(name) for column in columns for name in column.sources)
    return f"column {', '.join(names)}" if len(names) == 1 else f"columns {', '.join(names)}"


def _format_instrument(instrument: Instrument) -> str:
    return " ".join(value for value in instrument if value) or "rows without one"


def _format_instruments(instruments: Sequence[Instrument]) -> str:
    shown = ", ".join(map(_format_instrument, instruments[:_MAX_LISTED]))
    more = len(instruments) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _example_value(unknown: Sequence[Instrument]) -> str:
    return next((value for instrument in unknown for value in instrument if value), "AAA")
