"""What a user asks a store for, as ids, tick types and an instant."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import TICK_TYPES, TIME_MIN
from ibticks.errors import InputError
from ibticks.schema import check_contract_id, check_tick_type
from ibticks.selection._contracts import find_all, find_contracts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo
    from pathlib import Path

    from ibticks.calendar import TimeLike
    from ibticks.index import Index

__all__ = ["Lookup", "check_tick_types", "in_words", "listed"]

_LAST_TICK: Final = "last_tick"


class Lookup:
    """Finds in an index what a user names.

    Parameters
    ----------
    root : Path
        Of the store.
    index : Index

    Examples
    --------
    >>> from pathlib import Path
    >>> from ibticks.index import MemoryIndex
    >>> Lookup(Path(), MemoryIndex()).tick_types((8314,), "last")
    ('last',)
    """

    def __init__(self, root: Path, index: Index) -> None:
        self._root = root
        self._index = index

    def streams(self, ids: Sequence[int] | None = None) -> set[tuple[int, str]]:
        """Contract ids and tick types that have files."""
        streams: set[tuple[int, str]] = set(self._index.streams())
        if ids is None:
            return streams
        chosen = frozenset(ids)
        return {stream for stream in streams if stream[0] in chosen}

    def contract_ids(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """The ids of contracts that the store knows; see :meth:`ibticks.Store.contract_ids`."""
        return find_contracts(listed(contracts), self._index.contracts(), self.streams)

    def ids_to_come(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """The ids of contracts, of which nothing need be stored yet where they are given by id."""
        given = listed(contracts)
        if not given:
            return self.contract_ids(given)  # which says what is wrong
        symbols = [each for each in given if not isinstance(each, Integral)]
        found = iter(find_all(symbols, self._index.contracts(), self.streams) if symbols else ())
        return tuple(
            dict.fromkeys(
                check_contract_id(each) if isinstance(each, Integral) else next(found)
                for each in given
            )
        )

    def tick_types(
        self, ids: tuple[int, ...], tick_types: str | Sequence[str] | None
    ) -> tuple[str, ...]:
        """The tick types that are meant: by default all that are stored of the contracts."""
        if tick_types is None:
            stored = {kind for _, kind in self.streams(ids)}
            return tuple(kind for kind in TICK_TYPES if kind in stored) or TICK_TYPES
        return check_tick_types(tick_types)

    def now(
        self,
        now: TimeLike | None,
        tz: str | tzinfo | None,
        ids: tuple[int, ...],
        kinds: tuple[str, ...],
    ) -> int:
        """The instant that times are relative to, UTC nanoseconds."""
        from ibticks.calendar import now_ns, to_ns

        if now is None:
            return now_ns()
        if isinstance(now, str) and now == _LAST_TICK:
            return self._last_tick(ids, kinds)
        return to_ns(now, tz=tz, name="now")

    def _last_tick(self, ids: tuple[int, ...], kinds: tuple[str, ...]) -> int:
        from ibticks.storage import read_ticks

        days = self._index.daily_stats(ids, kinds)
        ends = (day.last_tick_ns for day in days)
        known = max((end for end in ends if end is not None), default=TIME_MIN)
        # What is later is in files still being written, of which the index knows only that.
        later = [
            part.timestamp.max()
            for record in self._index.files(ids, kinds, known + 1)
            if not record.backfilled
            for part in read_ticks(self._root, [record], ["timestamp"], start_ns=known + 1)
            if part.rows
        ]
        last = max([known, *map(int, later)])
        if last == TIME_MIN:
            raise InputError(
                f"now='last_tick': nothing is stored of {', '.join(kinds)} of the contracts "
                f"{', '.join(map(str, ids))}"
            )
        return last


def listed(given: Any) -> list[Any]:
    """One of something, or several, as a list.

    Examples
    --------
    >>> listed("IBM"), listed(("IBM", 265598))
    (['IBM'], ['IBM', 265598])
    """
    several = isinstance(given, Iterable) and not isinstance(given, str)
    return list(given) if several else [given]


def check_tick_types(tick_types: str | Sequence[str]) -> tuple[str, ...]:
    """One tick type or several, checked, each once.

    Raises
    ------
    UnknownTickTypeError
    InputError
        If there is none.
    """
    given = listed(tick_types)
    if not given:
        raise InputError("no tick type is given: leave tick_types out for all that are stored")
    return tuple(dict.fromkeys(check_tick_type(kind) for kind in given))


def in_words(contracts: Any, kinds: tuple[str, ...], when: str = "") -> str:
    """Contracts as they were given, their tick types, and when.

    Examples
    --------
    >>> in_words(["IBM", 265598], ("last", "bid_ask"), ", today")
    'IBM, 265598 last, bid_ask, today'
    """
    return f"{', '.join(map(str, listed(contracts)))} {', '.join(kinds)}{when}"
