"""Stored ticks of an interval in the form of a live stream, at the pace at which they came."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.concurrency import run_in_threadpool

from ibticks._types import Interval
from ibticks.errors import InputError
from ibticks.live import Live, LiveOptions, resolve_buffer
from ibticks.selection import ReplayClock
from ibticks.service._broadcast import Broadcaster, Chunk, ClientStream, Notice, encode_batch
from ibticks.service._parameters import time_range

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from ibticks._types import StreamKey
    from ibticks.live import Batch
    from ibticks.store import Store

__all__ = ["ReplayStream", "parse_replay"]


def parse_replay(text: str) -> Interval:
    """Parse ``START/END``.

    Raises
    ------
    InputError
        If the text is no interval, or its times have no zone.

    Examples
    --------
    >>> parse_replay("2025-01-10T14:30:00Z/2025-01-10T14:31:00Z")
    Interval(start_ns=1736519400000000000, end_ns=1736519460000000000)
    """
    start_time, slash, end_time = text.partition("/")
    if not slash:
        raise InputError(
            f"replay={text!r:.60}: give an interval, START/END, as "
            "2025-01-10T14:30:00Z/2025-01-10T15:30:00Z"
        )
    return Interval(*time_range(start_time, end_time, None))


class ReplayStream(ClientStream):
    """The stored ticks of an interval, for one client; a buffer is what is before the interval.

    The pace begins with the first tick of the interval, or the first one after a position. No tick
    is dropped, whatever the policy is.

    Parameters
    ----------
    broadcaster : Broadcaster
    store : Store
    streams : sequence of StreamKey
    interval : Interval
    speed : float
        Seconds of the ticks in a second; may be infinite.
    buffer : str, optional
        Period of the buffer, back from the start of the interval; None for no buffer.
    resume : str, optional
        Position in these streams to begin after.
    **options
        Those of :class:`ClientStream`.

    Raises
    ------
    InputError
        If the period is none, or ``resume`` is no position in these streams.
    """

    end_reason = "replay_complete"

    def __init__(
        self,
        broadcaster: Broadcaster,
        store: Store,
        streams: Sequence[StreamKey],
        interval: Interval,
        speed: float,
        *,
        buffer: str | None,
        resume: str | None,
        **options: Any,
    ) -> None:
        start_ns = interval.start_ns
        if buffer is not None:
            start_ns, _ = resolve_buffer(buffer, start_ns)
        self._has_buffer: Final = buffer is not None
        self._interval: Final = interval
        self._clock: Final = ReplayClock(speed)

        def open_files() -> Live:
            files = LiveOptions(watched=False, markers=False, end_ns=interval.end_ns)
            return Live(store.root, streams, (), start_ns, resume=resume, options=files)

        self._open_files: Final = open_files
        live = open_files()
        super().__init__(broadcaster, live, store.root, streams, **options)
        self._batches: Final = live.batches("batch")
        self._buffer_ticks: int | None = 0 if self._has_buffer else None
        self._files: Final = live

    @property
    def state(self) -> str:
        """Source of the ticks, for people."""
        return "replaying"

    async def items(self) -> AsyncGenerator[Chunk | Notice]:
        """Iterate over the stream.

        Yields
        ------
        Chunk or Notice
            Ticks, notices and heartbeats, until the interval or the service ends.
        """
        self._broadcaster.add(self)
        try:
            if self._has_buffer:
                count = await run_in_threadpool(self._count_buffer)
                yield self._marker("buffer_start", count)
            else:
                yield self._marker("live_start")
            is_live = not self._has_buffer
            while chunks := await run_in_threadpool(self._read):
                for chunk in chunks:
                    if not is_live and not chunk.historical:
                        is_live = True
                        for notice in self._end_of_buffer():
                            yield notice
                    if chunk.historical:
                        self._deliver(chunk)
                        yield chunk
                        continue
                    async for item in self._pace(chunk):
                        yield item
                if self._broadcaster.closing:
                    return
            if not is_live:
                for notice in self._end_of_buffer():
                    yield notice
        finally:
            with anyio.CancelScope(shield=True):
                self._broadcaster.remove(self)
                self.close()

    def _end_of_buffer(self) -> tuple[Notice, Notice]:
        return self._marker("buffer_complete", self.ticks), self._marker("live_start")

    async def _pace(self, chunk: Chunk) -> AsyncGenerator[Chunk | Notice]:
        """Yield the ticks of a chunk as they become due, and heartbeats between them."""
        while len(chunk) and not self._broadcaster.closing:
            due = self._clock.count_due(chunk.times)
            if due:
                self._deliver(chunk.part(0, due))
                yield chunk.part(0, due)
                chunk = chunk.part(due)
                continue
            seconds, most = self._clock.seconds_to(int(chunk.times[0])), self._seconds_to_wait()
            await self._broadcaster.wait_closing(min(max(seconds, 0.0), most))
            if seconds > most:
                yield Notice(None, self._position)

    def _count_buffer(self) -> int:
        """Count the ticks before the first one of the interval."""
        ticks = 0
        with self._open_files() as files:
            for batch in iter(files.batches("batch").poll, None):
                before = self._ticks_before(batch)
                ticks += before
                if before < batch.rows:
                    break
        return ticks

    def _ticks_before(self, batch: Batch) -> int:
        """Return the number of ticks of a batch before the first one of the interval."""
        is_inside = batch.times() >= self._interval.start_ns
        return int(is_inside.argmax()) if is_inside.any() else batch.rows

    def _read(self) -> list[Chunk]:
        """Read the next ticks; those before and in the interval are in chunks of their own."""
        position = self._files.short_position()
        batch = self._batches.poll()
        if batch is None:
            return []
        chunks = []
        if self._buffer_ticks is not None:
            before = self._ticks_before(batch)
            if before:
                stored = replace(batch.first(before), historical=True)
                chunks.append(encode_batch(stored, position, self._buffer_ticks))
                position = chunks[-1].positions[-1]
                self._buffer_ticks += before
            if before == batch.rows:
                return chunks
            batch, self._buffer_ticks = batch.drop_first(before), None
        chunks.append(encode_batch(replace(batch, historical=False), position))
        return chunks
