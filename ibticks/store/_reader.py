"""``StoreReader``: what every store answers from its index and its files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._types import StreamKey
from ibticks.selection import (
    DEFAULT_MARKET,
    Contents,
    Selection,
    SelectionResolver,
    TimeRange,
    check_tick_types,
    summarise_contents,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta, tzinfo
    from pathlib import Path

    from ibticks._types import SessionTypeLike, TickTypeLike, TickTypes
    from ibticks.calendar import TimeLike
    from ibticks.coverage import Coverage
    from ibticks.index import ContractRecord, DailyStats, Index
    from ibticks.selection import Backfill
    from ibticks.storage import ColumnCache

__all__ = ["StoreReader"]


class StoreReader:
    """The read methods that a :class:`~ibticks.Store` and an archive have in common.

    Parameters
    ----------
    root : Path
        Folder of the files.
    index : Index
    cache : int
        Bytes of memory for the LRU cache of decoded columns.
    uses_companions : bool
        Whether selections read columnar companions.
    """

    def __init__(self, root: Path, index: Index, cache: int, *, uses_companions: bool) -> None:
        self._index = index
        self._resolver = SelectionResolver(root, index, uses_companions=uses_companions)
        self._cache = cache
        self._kept_decoded: ColumnCache | None = None

    def select(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: TickTypes | None = None,
        period: str | timedelta | TimeRange | None = None,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        session: SessionTypeLike | None = None,
        date: TimeLike | None = None,
        sessions: int | None = None,
        market: str = DEFAULT_MARKET,
        now: TimeLike | None = None,
        columns: str | Sequence[str] | None = None,
        strict: bool = False,
        backfill: Backfill = "exclude",
    ) -> Selection:
        """Select ticks; nothing is read yet.

        Time is given in one of four ways, or not at all (everything):

        - ``period``: back from now, such as ``"last_hour"``, ``"2h30m"``, ``"today"`` or
          ``"since_open"`` (see :func:`ibticks.calendar.resolve_period`);
        - ``start`` and ``end``: half-open; without ``end``, to now;
        - ``session`` and ``date``: one session of a market; without ``date``, the one that runs
          or ran last;
        - ``sessions``: a number of sessions, the last ones that have ended.

        Parameters
        ----------
        contracts : int, str or a sequence of them
            Contract ids or symbols.
        tick_types : str or sequence of str, optional
            Of ``last``, ``all_last``, ``bid_ask``, ``mid_point``; all that are stored by default.
        period : str, timedelta or TimeRange, optional
            A :class:`~ibticks.selection.TimeRange` has all values of time.
        start, end : optional
            Anything :func:`ibticks.calendar.to_ns` reads.
        tz : str or tzinfo, optional
            Zone of naive times, and of ``today``.
        session : str, optional
            Session type, such as ``"regular"``; for ``sessions``, regular by default.
        date : optional
            Trading day of the session.
        sessions : int, optional
        market : str
            ``US``, ``UK``, ``JP``, ``CME`` or the name of any calendar.
        now : optional
            Time that replaces the clock; ``"last_tick"`` is the last stored tick of the
            selection, open files included.
        columns : str or sequence of str, optional
            By default those of the tick types.
        strict : bool
            Whether damaged data raises, instead of being left out with a warning.
        backfill : {"exclude", "include", "only"}
            Whether to include backfilled ticks, whose times are whole seconds.

        Returns
        -------
        Selection

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        UnknownTickTypeError, UnknownColumnError, UnknownPeriodError, UnknownMarketError
            Listing the valid values.
        NoSessionError
            If the market had no such session that day; names the previous and the next one.
        NaiveDatetimeError
            For a time without a zone, where ``tz`` is not given.
        TimeRangeError
            If start is not before end.
        InputError
            If time is given in more than one way, or a list is empty.
        """
        return self._resolver.select(
            contracts,
            tick_types,
            TimeRange.of(
                period,
                start=start,
                end=end,
                tz=tz,
                session=session,
                date=date,
                sessions=sessions,
                market=market,
                now=now,
            ),
            columns=columns,
            strict=strict,
            backfill=backfill,
            decoded=self._decoded,
        )

    def coverage(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: TickTypes | None = None,
        period: str | timedelta | TimeRange | None = None,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tz: str | tzinfo | None = None,
        session: SessionTypeLike | None = None,
        date: TimeLike | None = None,
        sessions: int | None = None,
        market: str = DEFAULT_MARKET,
        now: TimeLike | None = None,
    ) -> Coverage:
        """Return what was captured and what was not; by default of all that is stored.

        Parameters and errors are those of :meth:`select`; of several contracts, or of all, the
        coverage has the stored streams only.

        Returns
        -------
        Coverage
        """
        time_range = TimeRange.of(
            period,
            start=start,
            end=end,
            tz=tz,
            session=session,
            date=date,
            sessions=sessions,
            market=market,
            now=now,
        )
        return self._resolver.coverage(contracts, tick_types, time_range)

    def contract_ids(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """Return the ids of contracts given by id or symbol.

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        """
        return self._resolver.contract_ids(contracts)

    def contracts(self) -> list[ContractRecord]:
        """List the contracts that have names, by id."""
        return self._index.contracts()

    def contents(self) -> list[Contents]:
        """List what is stored, by contract and tick type."""
        return summarise_contents(self._index.daily_stats(), self.contracts())

    def daily_stats(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: TickTypes | None = None,
    ) -> list[DailyStats]:
        """List the statistics of each UTC day, contract and tick type from the index.

        Raises
        ------
        UnknownContractError, AmbiguousContractError, UnknownTickTypeError
            Listing the valid values.
        """
        ids = None if contracts is None else self.contract_ids(contracts)
        return self._index.daily_stats(
            ids, None if tick_types is None else check_tick_types(tick_types)
        )

    def clear_cache(self) -> None:
        """Free the memory of the LRU cache of decoded columns; frames made from it stay valid.

        Examples
        --------
        >>> import tempfile
        >>> import ibticks as ibt
        >>> with ibt.open(tempfile.mkdtemp(), cache=100_000_000) as store:
        ...     store.clear_cache()
        """
        if self._kept_decoded is not None:
            self._kept_decoded.clear()

    def _stream(self, contract: int | str, tick_type: TickTypeLike) -> StreamKey:
        (contract_id,) = self.contract_ids(contract)
        (checked,) = check_tick_types(tick_type)
        return StreamKey(contract_id, checked)

    def _stored_streams(
        self, contracts: int | str | Sequence[int | str] | None, tick_types: TickTypes | None
    ) -> list[StreamKey]:
        """Return the stored streams of contracts and tick types; None stands for all."""
        ids = None if contracts is None else self.contract_ids(contracts)
        types = None if tick_types is None else check_tick_types(tick_types)
        return sorted(
            stream
            for stream in self._resolver.streams(ids)
            if types is None or stream.tick_type in types
        )

    @property
    def _decoded(self) -> ColumnCache:
        if self._kept_decoded is None:
            from ibticks.storage import ColumnCache

            self._kept_decoded = ColumnCache(self._cache)
        return self._kept_decoded
