"""Resolution of what users select: contracts by id or symbol, tick types, and the current time."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import product
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import StreamKey
from ibticks.config import TICK_TYPES, TIME_MIN
from ibticks.errors import AmbiguousContractError, InputError, UnknownContractError
from ibticks.schema import check_contract_id, check_tick_type
from ibticks.selection._selection import (
    Selection,
    backfill_label,
    check_backfill,
    default_columns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from ibticks._types import TickTypes
    from ibticks.calendar import TimeLike
    from ibticks.coverage import Coverage
    from ibticks.index import ContractRecord, Index
    from ibticks.selection._selection import Backfill
    from ibticks.selection._time_range import TimeRange
    from ibticks.storage import ColumnCache

__all__ = [
    "SelectionResolver",
    "as_list",
    "check_tick_types",
    "find_contracts",
    "format_label",
]

_LAST_TICK: Final = "last_tick"
_MAX_CANDIDATES: Final = 12


class SelectionResolver:
    """Resolve contracts, tick types and times against an index.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
    uses_companions : bool
        Whether selections read columnar companions.

    Examples
    --------
    >>> from pathlib import Path
    >>> from ibticks.index import MemoryIndex
    >>> SelectionResolver(Path(), MemoryIndex()).tick_types((8314,), "last")
    ('last',)
    """

    def __init__(self, root: Path, index: Index, *, uses_companions: bool = False) -> None:
        self._root = root
        self._index = index
        self._uses_companions = uses_companions

    def streams(self, contract_ids: Sequence[int] | None = None) -> set[StreamKey]:
        """Return the streams that have files, of some contracts or of all."""
        streams = {StreamKey(*stream) for stream in self._index.streams()}
        if contract_ids is None:
            return streams
        chosen = frozenset(contract_ids)
        return {stream for stream in streams if stream.contract_id in chosen}

    def contract_ids(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """Return the ids of contracts of the store; see :meth:`ibticks.Store.contract_ids`."""
        return find_contracts(as_list(contracts), self._index.contracts(), self.streams)

    def contract_ids_or_new(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """Return the ids of contracts; those given by id need not be in the store yet."""
        contracts = as_list(contracts)
        if not contracts:
            return self.contract_ids(contracts)  # raises
        symbols = [contract for contract in contracts if not isinstance(contract, Integral)]
        by_symbol: dict[Any, int] = {}
        if symbols:
            names = _ContractNames(self._index.contracts(), self.streams)
            by_symbol = {symbol: names.find(symbol) for symbol in symbols}
        return tuple(
            dict.fromkeys(
                check_contract_id(contract)
                if isinstance(contract, Integral)
                else by_symbol[contract]
                for contract in contracts
            )
        )

    def tick_types(
        self, contract_ids: tuple[int, ...], tick_types: TickTypes | None
    ) -> tuple[str, ...]:
        """Return the checked tick types; by default all stored ones of the contracts."""
        if tick_types is None:
            stored = {tick_type for _, tick_type in self.streams(contract_ids)}
            return tuple(value for value in TICK_TYPES if value in stored) or TICK_TYPES
        return check_tick_types(tick_types)

    def select(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: TickTypes | None,
        time_range: TimeRange,
        *,
        columns: str | Sequence[str] | None = None,
        strict: bool = False,
        backfill: Backfill = "exclude",
        decoded: ColumnCache | None = None,
    ) -> Selection:
        """Return a selection; see :meth:`ibticks.Store.select`."""
        check_backfill(backfill)
        ids = self.contract_ids(contracts)
        types = self.tick_types(ids, tick_types)
        now_ns = self.now_ns(time_range.now, time_range.tz, ids, types)
        intervals, suffix = time_range.resolve(now_ns)
        return Selection(
            self._root,
            self._index,
            ids,
            types,
            intervals,
            default_columns(types, columns),
            strict,
            format_label(contracts, types, suffix + backfill_label(backfill)),
            backfill,
            decoded,
            time_range.counts_from_clock,
            uses_companions=self._uses_companions,
        )

    def coverage(
        self,
        contracts: int | str | Sequence[int | str] | None,
        tick_types: TickTypes | None,
        time_range: TimeRange,
    ) -> Coverage:
        """Return the coverage of a time range; see :meth:`ibticks.Store.coverage`."""
        from ibticks.coverage import Coverage

        stored = self.streams()
        if contracts is None and not stored:
            return Coverage((), (), ())
        if contracts is None:
            contracts = sorted({contract_id for contract_id, _ in stored})
        selection = self.select(contracts, tick_types, time_range)
        return selection.coverage(None if len(selection.contract_ids) == 1 else stored)

    def now_ns(
        self,
        now: TimeLike | None,
        tz: str | tzinfo | None,
        contract_ids: tuple[int, ...],
        tick_types: tuple[str, ...],
    ) -> int:
        """Return the time that ranges are relative to, in UTC nanoseconds."""
        from ibticks.calendar import now_ns, to_ns

        if now is None:
            return now_ns()
        if isinstance(now, str) and now == _LAST_TICK:
            return self._last_tick_ns(contract_ids, tick_types)
        return to_ns(now, tz=tz, name="now")

    def _last_tick_ns(self, contract_ids: tuple[int, ...], tick_types: tuple[str, ...]) -> int:
        """Return the time of the last stored tick, open files included."""
        from ibticks.storage import read_ticks

        streams = [StreamKey(*stream) for stream in product(contract_ids, tick_types)]
        indexed_ns = max(self._index.last_ticks(streams).values(), default=TIME_MIN)
        # Later ticks are in open files, whose rows in the index have no statistics.
        open_ns = [
            int(columns.timestamp.max())
            for record in self._index.files(contract_ids, tick_types, indexed_ns + 1)
            if not record.backfilled
            for columns in read_ticks(self._root, [record], ["timestamp"], start_ns=indexed_ns + 1)
            if columns.rows
        ]
        last_ns = max([indexed_ns, *open_ns])
        if last_ns == TIME_MIN:
            raise InputError(
                f"now='last_tick': nothing is stored of {', '.join(tick_types)} of the contracts "
                f"{', '.join(map(str, contract_ids))}"
            )
        return last_ns


def find_contracts(
    contracts: Sequence[object],
    records: Sequence[ContractRecord],
    streams: Callable[[], Collection[StreamKey]],
) -> tuple[int, ...]:
    """Return the ids of contracts given by id or symbol, in their order, without duplicates.

    Parameters
    ----------
    contracts : sequence of int or str
        Symbols are matched exactly, then without regard to case. Text of digits is an id, unless it
        is a symbol, as in Tokyo; where it is both, it is ambiguous.
    records : sequence of ContractRecord
        Contracts that have names.
    streams : callable
        Returns the streams that have files; called only where the names do not suffice.

    Raises
    ------
    UnknownContractError, AmbiguousContractError
        With the candidates, also as ``context["candidates"]`` (ids).
    InputError
        If there is no contract, or one that is neither an id nor a symbol.

    Examples
    --------
    >>> from ibticks.index import ContractRecord
    >>> find_contracts(["ibm"], [ContractRecord(8314, "IBM")], set)
    (8314,)
    """
    if not contracts:
        raise InputError("no contract is given: give an id, a symbol, or a list of them")
    names = _ContractNames(records, streams)
    return tuple(dict.fromkeys(names.find(contract) for contract in contracts))


class _ContractNames:
    """Ids and symbols of the contracts of a store."""

    def __init__(
        self,
        records: Sequence[ContractRecord],
        streams: Callable[[], Collection[StreamKey]],
    ) -> None:
        self._records = {record.contract_id: record for record in records}
        self._streams = streams
        self._all_ids: set[int] | None = None
        self._by_symbol: dict[str, set[int]] = {}
        self._by_folded_symbol: dict[str, set[int]] = {}
        for contract_id, record in self._records.items():
            self._by_symbol.setdefault(record.symbol, set()).add(contract_id)
            self._by_folded_symbol.setdefault(record.symbol.casefold(), set()).add(contract_id)

    def find(self, contract: object) -> int:
        """Return the id of one contract."""
        if isinstance(contract, Integral):
            return self._by_id(int(contract))
        if not isinstance(contract, str):
            raise InputError(
                f"{contract!r} is no contract: give an id (an int) or a symbol (a str)"
            )
        matches = self._with_symbol(contract)
        if contract.isdecimal():
            if not matches:
                return self._by_id(int(contract))
            matches |= {int(contract)} & self._ids()
        if not matches:
            raise self._unknown_symbol(contract)
        if len(matches) > 1:
            raise AmbiguousContractError(
                f"{contract} may be any of {len(matches)} contracts: give the id (an int) of one "
                f"of {self._describe_all(matches)}",
                symbol=contract,
                candidates=sorted(matches),
            )
        return matches.pop()

    def _by_id(self, contract_id: int) -> int:
        if contract_id in self._records or contract_id in self._ids():
            return contract_id
        raise UnknownContractError(
            f"no contract {contract_id} in this store; it has {self._describe_all(self._ids())}",
            contract_id=contract_id,
            candidates=sorted(self._ids()),
        )

    def _with_symbol(self, symbol: str) -> set[int]:
        exact = self._by_symbol.get(symbol)
        return set(exact or self._by_folded_symbol.get(symbol.casefold()) or ())

    def _unknown_symbol(self, symbol: str) -> UnknownContractError:
        symbols = dict.fromkeys(record.symbol.upper() for record in self._records.values())
        close = get_close_matches(symbol.upper(), symbols, n=5)
        similar = {key for key, r in self._records.items() if r.symbol.upper() in close}
        candidates = similar or self._ids()
        return UnknownContractError(
            f"no contract with the symbol {symbol!r} in this store; it has "
            + self._describe_all(candidates),
            symbol=symbol,
            candidates=sorted(candidates),
        )

    def _ids(self) -> set[int]:
        """Return the contracts that have names or files; queries the index once."""
        if self._all_ids is None:
            self._all_ids = set(self._records) | {contract_id for contract_id, _ in self._streams()}
        return self._all_ids

    def _describe_all(self, ids: set[int]) -> str:
        if not ids:
            return "none yet"
        shown = "; ".join(self._describe(value) for value in sorted(ids)[:_MAX_CANDIDATES])
        more = len(ids) - _MAX_CANDIDATES
        return shown + (f" and {more} more" if more > 0 else "")

    def _describe(self, contract_id: int) -> str:
        record = self._records.get(contract_id)
        if record is None or not record.symbol:
            return f"{contract_id}, which has no symbol"
        details = (record.contract_type, record.exchange, record.currency)
        return f"{record.symbol} ({', '.join([str(contract_id), *filter(None, details)])})"


def as_list(value: Any) -> list[Any]:
    """Return one value or several as a list.

    Examples
    --------
    >>> as_list("IBM"), as_list(("IBM", 265598))
    (['IBM'], ['IBM', 265598])
    """
    is_several = isinstance(value, Iterable) and not isinstance(value, str)
    return list(value) if is_several else [value]


def check_tick_types(tick_types: TickTypes) -> tuple[str, ...]:
    """Return one tick type or several, checked, without duplicates.

    Raises
    ------
    UnknownTickTypeError
    InputError
        If there is none.
    """
    listed = as_list(tick_types)
    if not listed:
        raise InputError("no tick type is given: leave tick_types out for all that are stored")
    return tuple(dict.fromkeys(check_tick_type(tick_type) for tick_type in listed))


def format_label(contracts: Any, tick_types: tuple[str, ...], suffix: str = "") -> str:
    """Format contracts as the user gave them, and their tick types, as a description.

    Examples
    --------
    >>> format_label(["IBM", 265598], ("last", "bid_ask"), ", today")
    'IBM, 265598 last, bid_ask, today'
    """
    return f"{', '.join(map(str, as_list(contracts)))} {', '.join(tick_types)}{suffix}"
