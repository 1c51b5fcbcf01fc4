"""``Live``: the ticks of some streams, first the stored ones of a buffer, then new ones."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from ibticks._html import html_table
from ibticks._types import StreamKey
from ibticks.errors import InputError
from ibticks.live._batch import Batch
from ibticks.live._feed_status import FeedStatus
from ibticks.live._follower import LiveOptions
from ibticks.live._reader import Batches, CallbackThread, LiveReader, Messages
from ibticks.live._stream_files import Cursor, format_position, parse_position, shorten_position
from ibticks.schema import check_columns
from ibticks.storage import floor_hour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path
    from typing import Self

    import polars as pl
    import pyarrow as pa

    from ibticks._types import StreamKeyLike
    from ibticks.coverage import FeedState
    from ibticks.index import Index
    from ibticks.live._feed_status import PreviousClose

__all__ = ["Live"]

_MOVED: Final = {
    "take": "take",
    "hand_out": "deliver_tick",
    "count_buffer": "count_buffer",
    "patience": "seconds_to_next",
    "wait": "wait",
    "wait_async": "wait_async",
}
"""Former methods of Live, and those of LiveReader that took their place."""


class Live:
    """The ticks of some streams: first those that are stored already, then those that come.

    Made by :meth:`ibticks.Store.live`. A live stream is read once: a tick that one consumer (an
    iterator, :meth:`read`, a callback) has taken does not come to another. To read twice, open two.

    The files of several streams are listed one after the other when it is opened. Where a capture
    writes meanwhile, a tick that is stored after its stream was listed comes live, even if it is
    earlier than the last stored tick of another stream: nothing is left out.

    Ticks that were not asked for stay in the files, so that a slow reader loses nothing. Close it,
    or use it in a ``with`` or ``async with`` statement.

    Parameters
    ----------
    root : Path
        The store.
    streams : sequence of StreamKey
    columns : sequence of str
        Columns of the frames.
    start_ns : int or None
        Where the buffer begins, UTC nanoseconds; None without a buffer.
    label : str
        Description of what was asked for.
    symbols : mapping of int to str, optional
        Known symbols of the contracts.
    resume : str, optional
        Resume token (:attr:`position`) that says where to begin instead.
    options : LiveOptions, optional
    index : Index, optional
        Index that :meth:`feed_states` and :meth:`previous_close` ask.

    Attributes
    ----------
    streams : tuple of StreamKey
    columns : tuple of str
    label : str
    symbols : mapping of int to str
    """

    def __init__(
        self,
        root: Path,
        streams: Sequence[StreamKeyLike],
        columns: Sequence[str],
        start_ns: int | None,
        *,
        label: str = "",
        symbols: Mapping[int, str] | None = None,
        resume: str | None = None,
        options: LiveOptions | None = None,
        index: Index | None = None,
    ) -> None:
        options = LiveOptions() if options is None else options
        self.streams: Final = tuple(sorted(StreamKey(*stream) for stream in streams))
        self.columns: Final = check_columns(tuple(columns))
        self.label: Final = label
        self.symbols: Final[dict[int, str]] = dict(symbols or {})
        self._reader: Final = LiveReader(
            root, self.streams, self.columns, start_ns, resume=resume, options=options
        )
        self._feed_status: Final = FeedStatus(root, index, self.streams)
        self._markers: Final = options.markers
        self._has_consumer = False
        self._start_lock: Final = threading.Lock()
        self._callbacks: Final = CallbackThread()

    # -- reading -----------------------------------------------------------------------------------

    def __iter__(self) -> Messages:
        return self._messages()

    def __aiter__(self) -> Messages:
        return self._messages()

    def _messages(self) -> Messages:
        self._add_consumer()
        return Messages(self._reader, markers=self._markers)

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
        """Return an iterator over batches, for ``for`` and ``async for``.

        Parameters
        ----------
        format : {"polars", "arrow", "batch"}
            Type of the items: a polars frame, an Arrow table, or a :class:`~ibticks.live.Batch`,
            which converts to either, and says whether its ticks were stored before.
        every : float
            Least seconds from one batch to the next: then there are fewer, and larger ones.
        """
        converters: dict[str, Callable[[Batch], Any]] = {
            "polars": Batch.to_polars,
            "arrow": Batch.to_arrow,
            "batch": lambda batch: batch,
        }
        if format not in converters:
            raise InputError(f"format={format!r}: use one of {', '.join(converters)}")
        self._add_consumer()
        return Batches(self._reader, converters[format], every)

    def read(self) -> pl.DataFrame:
        """Return the ticks that came since the last read as one frame; it does not wait."""
        from ibticks.frames import to_polars, to_table

        self._add_consumer()
        chunks = [chunk for batch in self._reader.take_all() for chunk in batch.read()]
        return to_polars(to_table(chunks, self.columns))

    def frame(self) -> pl.DataFrame:
        """Return the last ticks, as many as the window holds, sorted by timestamp.

        Without another consumer, the stream is read on first. The cost does not depend on the size
        of the window: only ticks that came since the last call are decoded, and no column is
        copied.
        """
        return self._reader.frame(read_on=not self._has_consumer)

    # -- in the background -------------------------------------------------------------------------

    def drain(self) -> list[Batch]:
        """Return the ticks that came since the last read; it does not wait.

        Ticks are not held for earlier ones of other streams: the position is then where the files
        end.
        """
        self._add_consumer()
        return list(self._reader.take_all())

    def on_batch(self, callback: Callable[[Batch], object]) -> Callable[[Batch], object]:
        """Call a function with each batch, once the stream has been started.

        It is called in the thread that reads. A callback that raises is not called again: the error
        goes to the log with its traceback, and is raised by :meth:`stop` or :meth:`close`.
        """
        self._callbacks.add(callback)
        return callback

    def start(self, *, every: float = 0.0) -> Self:
        """Start a thread that reads and calls the callbacks of :meth:`on_batch`.

        Parameters
        ----------
        every : float
            Least seconds from one batch to the next.
        """
        with self._start_lock:
            batches = self.batches("batch", every=every)
            self._callbacks.start(batches.poll, lambda: self._reader.wait(*batches.next_poll()))
        return self

    def stop(self) -> None:
        """Stop the thread, if one was started; :meth:`start` goes on from there.

        Raises
        ------
        Exception
            The failure of a callback or of reading; a group of several.
        """
        self._callbacks.stop(self._reader.wake)

    def close(self) -> None:
        """Close files and threads: consumers that wait for ticks get no more.

        Raises
        ------
        Exception
            As :meth:`stop`; everything is closed nevertheless.
        """
        self._reader.closed = True
        try:
            self.stop()
        finally:
            self._reader.close()

    # -- state -------------------------------------------------------------------------------------

    @property
    def position(self) -> str:
        """Resume token: ``store.live(..., resume=position)`` goes on from here.

        Every tick that was delivered is before it, and no other.
        """
        return self._reader.position

    def short_position(self, span: str | timedelta = "2h") -> str:
        """Return a resume token without the files that are long behind.

        It stays short, however long the buffer was. What is written later into hours that begin
        earlier than ``span`` before the latest one is not read by a stream that resumes there.

        Parameters
        ----------
        span : str or timedelta
        """
        from ibticks.calendar import parse_duration

        position = parse_position(self.position)
        return format_position(shorten_position(position, parse_duration(span)))

    def is_level_with(self, other: Live) -> bool:
        """Return whether two streams have delivered the same ticks of the files they both read."""
        mine, others = (parse_position(live.position) for live in (self, other))
        since_ns = floor_hour(max(mine.start_ns, others.start_ns))
        keys = {key for key in (*mine.cursors, *others.cursors) if key.hour_ns >= since_ns}
        start = Cursor()
        return all(
            mine.cursors.get(key, start).offset == others.cursors.get(key, start).offset
            for key in keys
        )

    def count_unread_buffer(self) -> int:
        """Count the ticks of the buffer that are still to come."""
        return self._reader.count_buffer()

    @property
    def historical(self) -> bool:
        """True while ticks that were stored when it was opened are still to be read."""
        return self._reader.historical

    @property
    def start_ns(self) -> int:
        """Earlier ticks are left out, UTC nanoseconds."""
        return self._reader.start_ns

    @property
    def window_since(self) -> int:
        """Time from which on the window has every tick that was read, UTC nanoseconds."""
        return self._reader.window_complete_since_ns

    @property
    def intact(self) -> bool:
        """True while every file is still the one that was read, and could be read."""
        return self._reader.intact

    @property
    def running(self) -> bool:
        """True while a thread reads the stream."""
        return self._callbacks.running

    @property
    def closed(self) -> bool:
        """True once the stream has been closed."""
        return self._reader.closed

    @property
    def buffer_ticks(self) -> int:
        """Number of delivered ticks that were stored when the stream was opened."""
        return self._reader.buffer_ticks

    def stats(self) -> dict[str, Any]:
        """Return figures about what has been read and dropped.

        Returns
        -------
        dict
            ``ticks`` read, ``by_stream``, ``buffer_ticks`` of them stored before, ``dropped`` by
            the policy ``latest``, ``last_tick`` (UTC) or None, ``historical``, ``behind`` (more
            lies in the files), ``running``, ``closed``, ``failures`` of callbacks.
        """
        return {
            **self._reader.stats(),
            "running": self.running,
            "closed": self.closed,
            "failures": [repr(error) for error in self._callbacks.failures],
        }

    def feed_states(self, now_ns: int | None = None) -> list[FeedState]:
        """Return the condition of each stream: live, quiet, disconnected, without a capture ...

        The condition comes from the coverage ledger and the locks of the store, whichever process
        captures.

        Parameters
        ----------
        now_ns : int, optional
            Instead of the clock, UTC nanoseconds.

        Returns
        -------
        list of FeedState
            In the order of :attr:`streams`; all ``unknown`` without an index.
        """
        return self._feed_status.states(self._reader.last_tick_ns(), now_ns)

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
            Market of the regular sessions.

        Raises
        ------
        UnknownMarketError
            Naming the markets.
        """
        return self._feed_status.previous_close(contract_id, at_ns, market)

    def _add_consumer(self) -> None:
        if self.closed:
            raise InputError(f"the live stream of {self.label} is closed: open another one")
        if self.running:
            raise InputError(
                f"the live stream of {self.label} is read by a background thread: use on_batch() "
                "and frame(), or stop() it first, or open another one"
            )
        self._has_consumer = True

    # -- as an object ------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name not in _MOVED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warnings.warn(
            f"Live.{name} is not public any more: use Live.batches('batch'), whose poll() and "
            "next_poll() do not wait",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(self._reader, _MOVED[name])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Live {self.label}: {self._describe()}>"

    def _describe(self) -> str:
        if self.closed:
            return "closed"
        where = "in the buffer" if self.historical else "live"
        return f"{where}, {self._reader.ticks:,} ticks read"

    def _repr_html_(self) -> str:
        stats = self.stats()
        feeds = {
            f"{state.contract_id}/{state.tick_type} feed": state
            for state in (self.feed_states() if self._feed_status.has_index else ())
        }
        rows = {
            "state": self._describe(),
            **feeds,
            "read by": "a background thread" if stats["running"] else "the caller",
            "last tick": stats["last_tick"] or "–",
            "dropped": f"{stats['dropped']:,}",
            **{name: f"{count:,} ticks" for name, count in stats["by_stream"].items()},
        }
        return html_table(rows.items(), caption=f"ibticks Live {self.label}", row_headers=True)
