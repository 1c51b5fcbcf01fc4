"""Finding contracts by id or symbol, and saying which there are."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from ibticks.errors import AmbiguousContractError, InputError, UnknownContractError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibticks.index.records import ContractRecord

__all__ = ["find_contracts"]

_MOST_NAMED: Final = 12


def find_contracts(
    wanted: Sequence[int | str],
    known: Sequence[ContractRecord],
    streams: Callable[[], set[tuple[int, str]]],
) -> tuple[int, ...]:
    """The ids of contracts given by id or symbol, in the order given, each once.

    Parameters
    ----------
    wanted : sequence of int or str
        Text of digits is an id. Symbols are looked for as they are, then without regard to case.
    known : sequence of ContractRecord
        Contracts that have names.
    streams : callable
        Contract ids (and tick types) that have files; asked only for an id without a name.

    Raises
    ------
    UnknownContractError, AmbiguousContractError
        With the candidates, also as ``context["candidates"]`` (ids).
    InputError
        If nothing is wanted.

    Examples
    --------
    >>> from ibticks.index.records import ContractRecord
    >>> find_contracts(["ibm"], [ContractRecord(8314, "IBM")], set)
    (8314,)
    """
    if not wanted:
        raise InputError("no contract is given: give an id, a symbol, or a list of them")
    found = [
        _by_id(int(each), known, streams)
        if isinstance(each, int) or each.isdecimal()
        else _by_symbol(each, known)
        for each in wanted
    ]
    return tuple(dict.fromkeys(found))


def _by_id(
    contract_id: int, known: Sequence[ContractRecord], streams: Callable[[], set[tuple[int, str]]]
) -> int:
    if any(record.contract_id == contract_id for record in known):
        return contract_id
    stored = {contract for contract, _ in streams()}
    if contract_id in stored:
        return contract_id
    named = {record.contract_id: _words(record) for record in known}
    candidates = sorted(stored | set(named))
    raise UnknownContractError(
        f"no contract {contract_id} in this store; it has "
        + _listed([named.get(candidate, str(candidate)) for candidate in candidates]),
        contract_id=contract_id,
        candidates=candidates,
    )


def _by_symbol(symbol: str, known: Sequence[ContractRecord]) -> int:
    for same in (str, str.casefold):
        matches = [record for record in known if same(record.symbol) == same(symbol)]
        if len(matches) == 1:
            return matches[0].contract_id
        if matches:
            raise AmbiguousContractError(
                f"{len(matches)} contracts have the symbol {symbol}: give the id of one of "
                + _listed([_words(record) for record in matches]),
                symbol=symbol,
                candidates=[record.contract_id for record in matches],
            )
    close = get_close_matches(symbol.upper(), [record.symbol.upper() for record in known], n=5)
    likely = [record for record in known if record.symbol.upper() in close] or list(known)
    raise UnknownContractError(
        f"no contract with the symbol {symbol!r} in this store; it has "
        + _listed([_words(record) for record in likely]),
        symbol=symbol,
        candidates=[record.contract_id for record in likely],
    )


def _words(record: ContractRecord) -> str:
    details = ", ".join(
        part for part in (record.contract_type, record.exchange, record.currency) if part
    )
    return f"{record.symbol} ({record.contract_id}{', ' + details if details else ''})"


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none yet"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return "; ".join(names[:_MOST_NAMED]) + more
