"""A live stream: what was stored, then what comes."""

from __future__ import annotations

import threading
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args, overload

from ibticks.calendar import format_ns
from ibticks.coverage import FeedCondition, FeedState, feed_states
from ibticks.errors import InputError
from ibticks.live._background import Background
from ibticks.live._batch import Batch
from ibticks.live._delivery import Delivery
from ibticks.live._follower import Follower
from ibticks.live._position import read_token
from ibticks.live._reading import Batches, Messages
from ibticks.live._ring import Ring
from ibticks.schema import check_columns
from ibticks.storage import is_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    import polars as pl
    import pyarrow as pa

    from ibticks.index import Index
    from ibticks.live._previous_close import PreviousClose

__all__ = ["Live", "Policy"]

Policy: TypeAlias = Literal["all", "latest"]
"""What becomes of ticks that come faster than they are read."""


class Live:
    """The ticks of some streams: first those that are stored already, then those that come.

    Made by :meth:`ibticks.Store.live`. It is one way through the ticks: what was read in one manner
    is not read again in another; to read twice, open two.

    The files of several streams are listed one after the other when it is opened. Where a capture
    writes meanwhile, a tick that is stored after its stream was listed comes live, be it earlier
    than the last of what was stored of another stream: nothing is left out.

    Nothing waits in memory: what has not been asked for is in the files, so that a slow reader
    loses nothing. Close it, or use it in a ``with`` or ``async with`` statement.

    Attributes
    ----------
    streams : tuple of (int, str)
        Contract ids and tick types.
    columns : tuple of str
        Of the frames.
    label : str
        What was asked for, in words.
    symbols : mapping of int to str
        What the contracts are called, as far as it is known.
    """

    def __init__(
        self,
        root: Path,
        streams: Sequence[tuple[int, str]],
        columns: Sequence[str],
        start_ns: int | None,
        *,
        label: str = "",
        symbols: Mapping[int, str] | None = None,
        resume: str | None = None,
        delay: float = 0.005,
        policy: Policy = "all",
        most_waiting: int = 10_000,
        window_rows: int = 500_000,
        window_ns: int | None = None,
        markers: bool = True,
        watched: bool = True,
        index: Index | None = None,
    ) -> None:
        if policy not in get_args(Policy):
            raise InputError(
                f"policy={policy!r}: use 'all', which drops nothing, or 'latest', which drops "
                "what is not read in time"
            )
        if min(most_waiting, window_rows) < 1 or delay < 0:
            raise InputError("most_waiting and window_rows are at least 1, and delay at least 0")
        self.streams: Final = tuple(sorted(streams))
        self.columns: Final = check_columns(tuple(columns))
        self.label: Final = label
        self.symbols: Final[dict[int, str]] = dict(symbols or {})
        cursors = None
        if resume is not None:
            position = read_token(resume)
            if position.streams != self.streams:
                raise InputError(
                    f"resume= is a position in {_words(position.streams)}, not in "
                    f"{_words(self.streams)}: ask for the same contracts and tick types"
                )
            start_ns, cursors = position.start_ns, position.cursors
        self._follower: Final = Follower(
            root,
            self.streams,
            self.columns,
            start_ns,
            cursors=cursors,
            delay=delay,
            keep=most_waiting if policy == "latest" else None,
            watched=watched,
        )
        self._root: Final = root
        self._index: Final = index
        self._feed_states: dict[tuple[int, str], FeedState] = {}
        self._ring: Final = Ring(self.columns, window_rows, window_ns)
        self._markers: Final = markers
        self._lock = threading.RLock()
        self._delivery: Final = Delivery(self._follower, self._ring, self.streams)
        self._is_read = False
        self._background: Final = Background()
        self._closed = False

    # -- reading -----------------------------------------------------------------------------------

    def __iter__(self) -> Messages:
        return self._messages()

    def __aiter__(self) -> Messages:
        return self._messages()

    def _messages(self) -> Messages:
        self._begin_reading()
        return Messages(self, markers=self._markers)

    @overload
    def batches(
        self, format: Literal["polars"] = ..., *, every: float = ...
    ) -> Batches[pl.DataFrame]: ...
    @overload
    def batches(self, format: Literal["arrow"], *, every: float = ...) -> Batches[pa.Table]: ...
    @overload
    def batches(self, format: Literal["batch"], *, every: float = ...) -> Batches[Batch]: ...
    def batches(
        self,
        format: str = "polars",  # noqa: A002 - what the reader of a notebook expects
        *,
        every: float = 0.0,
    ) -> Batches[Any]:
        """Batch after batch, for ``for`` and for ``async for``.

        Parameters
        ----------
        format : {"polars", "arrow", "batch"}
            What comes: a polars frame, an Arrow table, or a :class:`~ibticks.live.Batch`, which
            becomes either, and says whether its ticks were stored before.
        every : float
            Seconds from one batch to the next, at least: then there are fewer, and larger ones.
        """
        makers: dict[str, Callable[[Batch], Any]] = {
            "polars": Batch.to_polars,
            "arrow": Batch.to_arrow,
            "batch": lambda batch: batch,
        }
        if format not in makers:
            raise InputError(f"format={format!r}: use one of {', '.join(makers)}")
        self._begin_reading()
        return Batches(self, makers[format], every)

    def read(self) -> pl.DataFrame:
        """What has come since it was last read, as one frame; it does not wait."""
        from ibticks.frames import to_polars, to_table

        self._begin_reading()
        parts = [part for batch in self._take_all() for part in batch.read()]
        return to_polars(to_table(parts, self.columns))

    def frame(self) -> pl.DataFrame:
        """The last ticks, as many as the window holds, sorted by timestamp.

        Where nobody else reads the stream, it is read on first. It costs little, however large the
        window is: only what came since the last look is decoded, and no column is copied.
        """
        with self._lock:
            if not self._is_read:
                for _ in self._take_all():
                    pass
            return self._ring.frame()

    # -- in the background -------------------------------------------------------------------------

    def on_batch(self, callback: Callable[[Batch], object]) -> Callable[[Batch], object]:
        """Have a function called with each batch, once the stream has been started.

        It is called in the thread that reads. One that raises is not called again: the error goes
        to the log with its traceback, and is raised by :meth:`stop` or :meth:`close`.
        """
        self._background.add(callback)
        return callback

    def start(self, *, every: float = 0.0) -> Self:
        """Read in a thread of its own from now on, calling the functions of :meth:`on_batch`.

        Parameters
        ----------
        every : float
            Seconds from one batch to the next, at least.
        """
        with self._lock:
            batches = self.batches("batch", every=every)
            self._background.start(batches.poll, lambda: self.wait(*batches.patience()))
        return self

    def stop(self) -> None:
        """End the thread, if one was started; :meth:`start` goes on from there.

        Raises
        ------
        Exception
            What a callback or reading has failed with; a group, if there were several.
        """
        self._background.stop(self._follower.wake)

    def close(self) -> None:
        """Let go of files and threads: whoever waits for ticks gets no more.

        Raises
        ------
        Exception
            As :meth:`stop`; everything is closed nevertheless.
        """
        self._closed = True
        try:
            self.stop()
        finally:
            with self._lock:
                self._follower.close()

    # -- where it is -------------------------------------------------------------------------------

    @property
    def position(self) -> str:
        """How far it has been read, as one word: ``store.live(..., resume=position)`` goes on.

        Every tick that was handed out is before it, and no other.
        """
        with self._lock:
            return self._delivery.position

    @property
    def historical(self) -> bool:
        """Whether what was stored when it was opened is still being read."""
        return self._follower.feed.historical

    @property
    def start_ns(self) -> int:
        """No tick is earlier, UTC nanoseconds."""
        return self._follower.start_ns

    @property
    def window_since(self) -> int:
        """From when on the window has everything that was read, UTC nanoseconds."""
        return self._ring.since_ns

    @property
    def intact(self) -> bool:
        """Whether all files are what they were when they were read, and could be read."""
        return self._follower.intact

    @property
    def running(self) -> bool:
        """Whether it is read in a thread of its own."""
        return self._background.running

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    @property
    def buffer_ticks(self) -> int:
        """How many ticks have been handed out of those that were stored when it was opened."""
        return self._delivery.buffer_ticks

    def stats(self) -> dict[str, Any]:
        """Figures: what has been read, and dropped, and whether it is read to the end.

        Returns
        -------
        dict
            ``ticks`` read, ``by_stream``, ``buffer_ticks`` of them stored before, ``dropped`` by
            the policy ``latest``, ``last_tick`` (UTC) or None, ``historical``, ``behind`` (more
            lies in the files), ``running``, ``closed``, ``failures`` of callbacks.
        """
        with self._lock:
            feed, counts, last_ns = (
                self._follower.feed,
                self._delivery.counts,
                self._delivery.last_ns,
            )
            return {
                "ticks": sum(counts.values()),
                "by_stream": {
                    f"{contract}/{kind}": count for (contract, kind), count in counts.items()
                },
                "buffer_ticks": self.buffer_ticks,
                "dropped": feed.dropped,
                "last_tick": None if last_ns is None else format_ns(last_ns),
                "historical": feed.historical,
                "behind": feed.behind,
                "running": self.running,
                "closed": self._closed,
                "failures": [repr(error) for error in self._background.failures],
            }

    def feed_states(self, now_ns: int | None = None) -> list[FeedState]:
        """Return the condition of each stream: live, quiet, disconnected, without a capture ...

        The ledger of coverage and the locks of the store are asked, whichever process captures.

        Parameters
        ----------
        now_ns : int, optional
            Instead of the clock, UTC nanoseconds.

        Returns
        -------
        list of FeedState
            In the order of :attr:`streams`; all ``unknown`` where it was made without an index.
        """
        with self._lock:
            read = dict(self._delivery.last_by_stream)
        before = self._feed_states
        # What is known of a stream that no process writes does not change until one does.
        known = {
            stream: replace(state, last_tick_ns=read.get(stream, state.last_tick_ns))
            for stream, state in before.items()
            if state.condition is FeedCondition.NO_CAPTURE
            and state.since_ns is not None
            and not is_written(self._root, *stream)
        }
        asked = [stream for stream in self.streams if stream not in known]
        last_ticks = {
            stream: last_ns
            for stream in asked
            if (last_ns := read.get(stream, _last_tick(before.get(stream)))) is not None
        }
        if self._index is None:
            found = [FeedState(*stream, FeedCondition.UNKNOWN) for stream in asked]
        else:
            found = feed_states(
                self._root, self._index, asked, last_ticks=last_ticks, now_ns=now_ns
            )
        known |= {(state.contract_id, state.tick_type): state for state in found}
        self._feed_states = known
        return [known[stream] for stream in self.streams]

    def previous_close(
        self, contract_id: int, at_ns: int, *, market: str = "US"
    ) -> PreviousClose | None:
        """Return the last stored price of the session before a day; None where none is stored.

        Parameters
        ----------
        contract_id : int
        at_ns : int
            A time of the day, UTC nanoseconds.
        market : str
            Whose regular sessions count.

        Raises
        ------
        UnknownMarketError
            Naming the markets.
        """
        from ibticks.live._previous_close import find_previous_close

        if self._index is None:
            return None
        return find_previous_close(self._root, self._index, contract_id, at_ns, market)

    # -- for those who read ------------------------------------------------------------------------

    def take(self, *, at_once: bool = True, hold: bool = True) -> Batch | None:
        """The next batch, if there is one at this moment.

        Parameters
        ----------
        at_once : bool
            Whether it counts as handed out; else each tick does, by :meth:`hand_out`.
        hold : bool
            Whether ticks are held back for earlier ones of other streams.
        """
        with self._lock:
            return None if self._closed else self._delivery.take(at_once=at_once, hold=hold)

    def hand_out(self, batch: Batch) -> bool:
        """Count one more tick of a batch, if it is still the one that is read."""
        with self._lock:
            return self._delivery.hand_out(batch)

    def count_buffer(self) -> int:
        """How many ticks are stored that were when it was opened, and are not handed out."""
        with self._lock:
            return self._follower.count_history()

    def patience(self) -> float:
        """Seconds until it is worth asking again, unless a file changes before."""
        with self._lock:
            return self._follower.patience()

    def wait(self, seconds: float, changes: bool = True) -> None:
        """Wait: so long, or until a file changes if wanted, or it is stopped."""
        self._follower.wait(seconds, changes=changes)

    async def wait_async(self, seconds: float, changes: bool = True) -> None:
        """Let the event loop go on meanwhile."""
        await self._follower.wait_async(seconds, changes=changes)

    def _begin_reading(self) -> None:
        if self._closed:
            raise InputError(f"the live stream of {self.label} is closed: open another one")
        if self.running:
            raise InputError(
                f"the live stream of {self.label} is read by a thread of its own: use on_batch() "
                "and frame(), or stop() it first, or open another one"
            )
        self._is_read = True

    def _take_all(self) -> Iterator[Batch]:
        while (batch := self.take(hold=False)) is not None:
            yield batch

    # -- as an object ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        follower = getattr(self, "_follower", None)
        if follower is not None:
            follower.close()

    def __repr__(self) -> str:
        return f"<Live {self.label}: {self._state()}>"

    def _state(self) -> str:
        if self._closed:
            return "closed"
        where = "in the buffer" if self.historical else "live"
        return f"{where}, {sum(self._delivery.counts.values()):,} ticks read"

    def _repr_html_(self) -> str:
        stats = self.stats()
        feeds = {
            f"{state.contract_id}/{state.tick_type} feed": str(state)
            for state in self.feed_states()
            if self._index is not None
        }
        rows = {
            "state": self._state(),
            **feeds,
            "read by": "a thread of its own" if stats["running"] else "whoever asks",
            "last tick": stats["last_tick"] or "–",
            "dropped": f"{stats['dropped']:,}",
            **{name: f"{count:,} ticks" for name, count in stats["by_stream"].items()},
        }
        body = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table><caption>ibticks Live {escape(self.label)}</caption>{body}</table>"


def _last_tick(state: FeedState | None) -> int | None:
    return None if state is None else state.last_tick_ns


def _words(streams: Sequence[tuple[int, str]]) -> str:
    return ", ".join(f"{kind} of {contract}" for contract, kind in streams)
