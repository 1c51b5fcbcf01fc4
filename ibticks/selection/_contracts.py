"""Finding contracts by id or symbol, and saying which there are."""

from __future__ import annotations

from difflib import get_close_matches
from numbers import Integral
from typing import TYPE_CHECKING, Final

from ibticks.errors import AmbiguousContractError, InputError, UnknownContractError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibticks.index import ContractRecord

__all__ = ["find_all", "find_contracts"]

_MOST_NAMED: Final = 12


def find_contracts(
    wanted: Sequence[object],
    known: Sequence[ContractRecord],
    streams: Callable[[], set[tuple[int, str]]],
) -> tuple[int, ...]:
    """The ids of contracts given by id or symbol, in the order given, each once.

    Parameters
    ----------
    wanted : sequence of int or str
        Symbols are looked for as they are, then without regard to case. Text of digits is an id,
        unless it is a symbol, as in Tokyo; where it is both, it is ambiguous.
    known : sequence of ContractRecord
        Contracts that have names.
    streams : callable
        Contract ids (and tick types) that have files; asked only where names do not do.

    Raises
    ------
    UnknownContractError, AmbiguousContractError
        With the candidates, also as ``context["candidates"]`` (ids).
    InputError
        If nothing is wanted, or something that is neither an id nor a symbol.

    Examples
    --------
    >>> from ibticks.index import ContractRecord
    >>> find_contracts(["ibm"], [ContractRecord(8314, "IBM")], set)
    (8314,)
    """
    if not wanted:
        raise InputError("no contract is given: give an id, a symbol, or a list of them")
    return tuple(dict.fromkeys(find_all(wanted, known, streams)))


def find_all(
    wanted: Sequence[object],
    known: Sequence[ContractRecord],
    streams: Callable[[], set[tuple[int, str]]],
) -> list[int]:
    """Return one id for each contract given, as :func:`find_contracts` finds them."""
    store = _Known(known, streams)
    return [store.find(each) for each in wanted]


class _Known:
    """The contracts of a store."""

    def __init__(
        self, named: Sequence[ContractRecord], streams: Callable[[], set[tuple[int, str]]]
    ) -> None:
        self._named = {record.contract_id: record for record in named}
        self._streams = streams
        self._all_ids: set[int] | None = None
        self._by_symbol: dict[str, set[int]] = {}
        self._by_folded: dict[str, set[int]] = {}
        for key, record in self._named.items():
            self._by_symbol.setdefault(record.symbol, set()).add(key)
            self._by_folded.setdefault(record.symbol.casefold(), set()).add(key)

    def find(self, wanted: object) -> int:
        """The id of one contract."""
        if isinstance(wanted, Integral):
            return self._by_id(int(wanted))
        if not isinstance(wanted, str):
            raise InputError(f"{wanted!r} is no contract: give an id (an int) or a symbol (a str)")
        same = self._with_symbol(wanted)
        if wanted.isdecimal():
            if not same:
                return self._by_id(int(wanted))
            same |= {int(wanted)} & self._ids()
        if not same:
            raise self._unknown_symbol(wanted)
        if len(same) > 1:
            raise AmbiguousContractError(
                f"{wanted} may be any of {len(same)} contracts: give the id (an int) of one of "
                + self._listed(same),
                symbol=wanted,
                candidates=sorted(same),
            )
        return same.pop()

    def _by_id(self, contract_id: int) -> int:
        if contract_id in self._named or contract_id in self._ids():
            return contract_id
        raise UnknownContractError(
            f"no contract {contract_id} in this store; it has {self._listed(self._ids())}",
            contract_id=contract_id,
            candidates=sorted(self._ids()),
        )

    def _with_symbol(self, symbol: str) -> set[int]:
        found = self._by_symbol.get(symbol) or self._by_folded.get(symbol.casefold())
        return set(found or ())

    def _unknown_symbol(self, symbol: str) -> UnknownContractError:
        symbols = {record.symbol.upper(): key for key, record in self._named.items()}
        close = get_close_matches(symbol.upper(), symbols, n=5)
        likely = {key for key, r in self._named.items() if r.symbol.upper() in close}
        candidates = likely or self._ids()
        return UnknownContractError(
            f"no contract with the symbol {symbol!r} in this store; it has "
            + self._listed(candidates),
            symbol=symbol,
            candidates=sorted(candidates),
        )

    def _ids(self) -> set[int]:
        """The contracts that have names or files; the index is asked once."""
        if self._all_ids is None:
            self._all_ids = set(self._named) | {contract_id for contract_id, _ in self._streams()}
        return self._all_ids

    def _listed(self, ids: set[int]) -> str:
        if not ids:
            return "none yet"
        shown = "; ".join(self._words(contract_id) for contract_id in sorted(ids)[:_MOST_NAMED])
        return shown + (f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else "")

    def _words(self, contract_id: int) -> str:
        record = self._named.get(contract_id)
        if record is None or not record.symbol:
            return f"{contract_id}, which has no symbol"
        details = (record.contract_type, record.exchange, record.currency)
        return f"{record.symbol} ({', '.join([str(contract_id), *filter(None, details)])})"
