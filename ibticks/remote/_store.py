"""``RemoteStore``: the store of a service, for a notebook on another machine."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ibticks._async import in_thread
from ibticks._types import Interval
from ibticks.config import TICK_TYPES
from ibticks.index import ContractRecord, DailyStats, MemoryIndex
from ibticks.remote._connection import Connection
from ibticks.remote._live import RemoteLive
from ibticks.remote._selection import RemoteSelection
from ibticks.remote._wire import decode_coverage, encode_time_range
from ibticks.selection import DEFAULT_MARKET, Contents, TimeRange, contents_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo
    from typing import Self

    from ibticks._types import SessionTypeLike, TickTypes
    from ibticks.calendar import TimeLike
    from ibticks.coverage import Coverage
    from ibticks.selection import Backfill

__all__ = ["RemoteStore"]


class RemoteStore:
    """A store that a service has: selections, contracts, coverage and live ticks.

    Made by ``ibt.open("http://box:8001", token=...)``. Times, sessions and periods are those of
    the machine of the service: its clock and its calendars. Nothing can be written.

    Parameters
    ----------
    url : str
        Base URL of a service.
    token : str, optional
        For a service that asks for one.

    Attributes
    ----------
    url : str

    Raises
    ------
    RemoteError
        If nothing answers there, or what answers is no service of ibticks.
    RemoteAccessError
        If the service refuses the token.
    MissingExtraError
        If the extra ``remote`` is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import ibticks as ibt
    >>> import polars as pl
    >>> from ibticks.service import Service
    >>> frame = pl.DataFrame(
    ...     {"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01], "size": [100.0]}
    ... )
    >>> with ibt.open(tempfile.mkdtemp()) as store, Service(store, port=0) as service:
    ...     _ = store.write(frame, contract_id=265598, tick_type="last")
    ...     with ibt.open(service.url) as remote:
    ...         remote.select(265598, "last").to_polars()["price"].to_list()
    [240.01]
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._connection: Final = Connection(url, token)
        self.url: Final = self._connection.url

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
    ) -> RemoteSelection:
        """Select ticks; nothing is loaded yet.

        Parameters, errors and the result are those of :meth:`ibticks.Store.select`.
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
        return self._resolve(
            {
                "contracts": _plain(contracts),
                "tick_types": _plain(tick_types),
                "time": encode_time_range(time_range),
                "columns": _plain(columns),
                "strict": strict,
                "backfill": backfill,
            }
        )

    def buffer(
        self,
        contracts: int | str | Sequence[int | str],
        tick_types: TickTypes | None = None,
        buffer: TimeLike | timedelta = "1h",
        *,
        market: str = DEFAULT_MARKET,
        tz: str | tzinfo | None = None,
        now: TimeLike | None = None,
        columns: str | Sequence[str] | None = None,
        strict: bool = False,
    ) -> RemoteSelection:
        """Select the latest ticks; parameters and errors are those of :meth:`ibticks.Store.buffer`.

        Returns
        -------
        RemoteSelection
            From the begin of the buffer to now; each load asks the service.
        """
        if isinstance(buffer, str | timedelta):
            time_range = TimeRange(buffer, market=market, tz=tz, now=now)
        else:
            time_range = TimeRange(start=buffer, market=market, tz=tz, now=now)
        return self._resolve(
            {
                "contracts": _plain(contracts),
                "tick_types": _plain(tick_types),
                "time": encode_time_range(time_range),
                "columns": _plain(columns),
                "strict": strict,
                "is_buffer": True,
            }
        )

    def _resolve(self, question: dict[str, Any]) -> RemoteSelection:
        """Return the selection that the service answers a question with."""
        chosen = self._connection.post("/v2/select", question)
        return RemoteSelection(
            self.url,  # type: ignore[arg-type]  # where the files are; no path of this machine
            MemoryIndex(contracts=map(ContractRecord.from_dict, chosen["contracts"])),
            tuple(chosen["contract_ids"]),
            tuple(chosen["tick_types"]),
            tuple(Interval(*interval) for interval in chosen["intervals"]),
            tuple(chosen["columns"]),
            question["strict"],
            chosen["label"],
            question.get("backfill", "exclude"),
            connection=self._connection,
        )

    def live(
        self,
        contract: int | str,
        tick_types: TickTypes | None = None,
        buffer: str | timedelta | None = None,
        *,
        markers: bool = True,
        resume: str | None = None,
    ) -> RemoteLive:
        """Stream the messages of a contract: stored ticks of a buffer, then live ones.

        Parameters
        ----------
        contract : int or str
            Contract id or symbol.
        tick_types : str or sequence of str, optional
            All that are stored by default.
        buffer : str or timedelta, optional
            Stored ticks that come first, as in :meth:`ibticks.Store.live`.
        markers : bool
            Whether ``info`` messages mark where the buffer begins and ends.
        resume : str, optional
            Position of another stream of the same contract and tick types.

        Returns
        -------
        RemoteLive
        """
        types = [tick_types] if isinstance(tick_types, str) else tick_types
        if types is None:
            types = self.select(contract).tick_types or TICK_TYPES
        period = f"{buffer // _MICROSECOND}us" if isinstance(buffer, timedelta) else buffer
        return RemoteLive(
            self._connection, str(contract), types, buffer=period, resume=resume, markers=markers
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
        """Return what was captured and what was not; see :meth:`ibticks.Store.coverage`."""
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
        question = {
            "contracts": _plain(contracts),
            "tick_types": _plain(tick_types),
            "time": encode_time_range(time_range),
        }
        return decode_coverage(self._connection.post("/v2/coverage", question))

    def contracts(self) -> list[ContractRecord]:
        """List the contracts that have names, by id."""
        rows = self._connection.get("/v2/contracts")
        return [ContractRecord.from_dict(row) for row in rows]

    def contract_ids(self, contracts: int | str | Sequence[int | str]) -> tuple[int, ...]:
        """Return the ids of contracts given by id or symbol.

        Raises
        ------
        UnknownContractError, AmbiguousContractError
            With the candidates.
        """
        return self.select(contracts).contract_ids

    def contents(self) -> list[Contents]:
        """List what is stored, by contract and tick type."""
        return [Contents(**row) for row in self._connection.get("/v2/contents")]

    def daily_stats(
        self,
        contracts: int | str | Sequence[int | str] | None = None,
        tick_types: TickTypes | None = None,
    ) -> list[DailyStats]:
        """List the statistics of each UTC day, contract and tick type.

        Raises
        ------
        UnknownContractError, AmbiguousContractError, UnknownTickTypeError
            Listing the valid values.
        """
        question = {"contracts": _plain(contracts), "tick_types": _plain(tick_types)}
        return [DailyStats(**row) for row in self._connection.post("/v2/daily", question)]

    select_async = in_thread(
        select, "Select ticks as :meth:`select` does, without blocking the event loop."
    )
    buffer_async = in_thread(
        buffer, "Select the latest ticks as :meth:`buffer` does, without blocking the event loop."
    )

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RemoteStore {self.url}, ibticks {self._connection.version}>"

    def _repr_html_(self) -> str:
        return contents_table(self.contents(), f"ibticks RemoteStore {self.url}")


_MICROSECOND: Final = timedelta(microseconds=1)


def _plain(values: Any) -> Any:
    """Return a value, or several as a list."""
    return values if values is None or isinstance(values, int | str) else list(values)
