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

_MOST_NAMED: Final = 8
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
        Contract that the user named for the whole file.
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
    given = {str(name): check_contract_id(number) for name, number in (symbols or {}).items()}
    if contract_id is not None:
        check_contract_id(contract_id)
    found: dict[Instrument, int] = {}
    unknown: list[Instrument] = []
    for instrument in instruments:
        contracts = _contracts_of(instrument, columns, known, given)
        if len(set(contracts.values())) > 1:
            listed = ", ".join(f"{value} is contract {one}" for value, one in contracts.items())
            raise InputError(
                f"the values of one row name different contracts: {listed}; say with symbols= "
                f"which it is, or with mapping={{'symbol': ...}} which column names it",
                candidates=sorted(set(contracts.values())),
            )
        if contracts:
            found[instrument] = next(iter(contracts.values()))
        else:
            unknown.append(instrument)
    if contract_id is None:
        if unknown:
            raise _unknown(unknown, columns)
        _check_terms(found, columns)
        return found
    _check_named(contract_id, found, unknown, columns, known)
    return dict.fromkeys(instruments, contract_id)


def new_symbols(
    contracts: Mapping[Instrument, int],
    columns: Sequence[InstrumentColumn],
    known: Sequence[ContractRecord],
    symbols: Mapping[str, int],
) -> dict[int, str]:
    """Return the symbols that the user gave for contracts of which the store knows none."""
    named = {record.contract_id for record in known if record.symbol}
    given = {str(name): number for name, number in symbols.items()}
    return {
        contract: value
        for instrument, contract in contracts.items()
        for column, value in zip(columns, instrument, strict=False)
        if column.kind == "symbol" and given.get(value) == contract and contract not in named
    }


def _contracts_of(
    instrument: Instrument,
    columns: Sequence[InstrumentColumn],
    known: Sequence[ContractRecord],
    symbols: Mapping[str, int],
) -> dict[str, int]:
    """Return the contracts that the values of one instrument stand for, by value."""
    contracts: dict[str, int] = {}
    for column, value in zip(columns, instrument, strict=False):
        if not value or column.kind == "term":
            continue
        if value in symbols:
            contracts[value] = symbols[value]
        elif column.kind == "contract_id":
            if not value.isdecimal():
                raise InputError(
                    f"column {column.sources[0]!r} has {value!r}, which is no contract id: take "
                    f"another column with mapping={{'contract_id': ...}}, or none with "
                    f"mapping={{'contract_id': None}}",
                    column=column.sources[0],
                )
            contracts[value] = check_contract_id(int(value))
        elif column.kind == "symbol" and not _has_terms(instrument, columns):
            same = [record for record in known if record.symbol == value] or [
                record for record in known if record.symbol.casefold() == value.casefold()
            ]
            if len(same) > 1:
                ids = ", ".join(str(record.contract_id) for record in same)
                raise InputError(
                    f"symbol {value!r} may be any of the contracts {ids}: say which with "
                    f"symbols={{{value!r}: ...}}",
                    column=column.sources[0],
                    candidates=[record.contract_id for record in same],
                )
            if same:
                contracts[value] = same[0].contract_id
    return contracts


def _has_terms(instrument: Instrument, columns: Sequence[InstrumentColumn]) -> bool:
    """Tell whether an instrument is a derivative, whose symbol may be that of its underlying."""
    return any(
        column.kind == "term" and value not in _NO_TERMS
        for column, value in zip(columns, instrument, strict=False)
    )


def _check_terms(contracts: Mapping[Instrument, int], columns: Sequence[InstrumentColumn]) -> None:
    """Refuse rows of one contract whose expiry, strike or right differ.

    The contract id of a row goes before its terms: those of a contract may be written in two ways.
    """
    places = [place for place, column in enumerate(columns) if column.kind == "term"]
    if not places or columns[0].kind == "contract_id":
        return
    terms: dict[int, Instrument] = {}
    for instrument, contract in contracts.items():
        first = terms.setdefault(contract, instrument)
        if any(first[place] != instrument[place] for place in places):
            names = [name for column in columns if column.kind != "id" for name in column.sources]
            joined = "+".join(names)
            where = _sources([columns[place] for place in places])
            raise InputError(
                f"the rows of contract {contract} differ in {where}: "
                f"{_listed([first, instrument])}; name the contract of each with "
                f"mapping={{'symbol': {joined!r}}} and symbols={{...}}",
                contract_id=contract,
            )


def _check_named(
    contract_id: int,
    found: Mapping[Instrument, int],
    unknown: Sequence[Instrument],
    columns: Sequence[InstrumentColumn],
    known: Sequence[ContractRecord],
) -> None:
    """Refuse a contract that was named for a file that holds others."""
    others = {contract for contract in found.values() if contract != contract_id}
    where = _sources(columns)
    if others:
        listed = ", ".join(
            f"{_shown(instrument)} (contract {contract})"
            for instrument, contract in list(found.items())[:_MOST_NAMED]
            if contract != contract_id
        )
        raise InputError(
            f"contract_id={contract_id} was given, and the file has {listed} in {where}: leave "
            f"contract_id= out to import each row by what it names",
            contract_id=contract_id,
            candidates=sorted(others),
        )
    if len(found) + len(unknown) > 1 and unknown:
        raise InputError(
            f"contract_id={contract_id} was given for a file of several instruments, "
            f"{_listed([*found, *unknown])} in {where}: leave contract_id= out and give their "
            f"contracts with symbols={{{_example(unknown)!r}: ...}}",
            contract_id=contract_id,
        )
    record = next((one for one in known if one.contract_id == contract_id and one.symbol), None)
    for instrument in unknown:
        symbols = [
            value
            for column, value in zip(columns, instrument, strict=False)
            if column.kind == "symbol" and value
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


def _unknown(unknown: Sequence[Instrument], columns: Sequence[InstrumentColumn]) -> InputError:
    if not columns or all(not any(instrument) for instrument in unknown):
        return InputError(
            "the file has no column that names the contract of a row: give contract_id=",
            column="contract_id",
        )
    return InputError(
        f"{len(unknown)} instruments in {_sources(columns)} are of no contract that this store "
        f"knows: {_listed(unknown)}; give their contracts with symbols={{{_example(unknown)!r}: "
        f"...}}, or contract_id= if the file is of one contract",
        column=columns[0].sources[0],
    )


def _sources(columns: Sequence[InstrumentColumn]) -> str:
    names = dict.fromkeys(repr(name) for one in columns for name in one.sources)
    return f"column {', '.join(names)}" if len(names) == 1 else f"columns {', '.join(names)}"


def _shown(instrument: Instrument) -> str:
    return " ".join(value for value in instrument if value) or "rows without one"


def _listed(instruments: Sequence[Instrument]) -> str:
    shown = ", ".join(map(_shown, instruments[:_MOST_NAMED]))
    more = len(instruments) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _example(unknown: Sequence[Instrument]) -> str:
    return next((value for one in unknown for value in one if value), "AAA")
