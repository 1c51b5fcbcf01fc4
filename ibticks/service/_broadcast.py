"""Live ticks for many clients: each tick is read and encoded once.

A :class:`Channel` follows the files of some streams and holds the latest encoded ticks in a ring. A
:class:`Subscription` first reads the files by itself, up to the tick that the channel is at, and
is a cursor into the ring from there on. One that falls behind the ring reads the files again from
its position: a slow client costs no memory and loses nothing.

All of it runs in the event loop of the service, so that a channel and a subscription stand still
while they are compared.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
from starlette.concurrency import run_in_threadpool

from ibticks.calendar import format_ns, now_ns
from ibticks.live import Live, LiveOptions
from ibticks.service._encoding import dump_json, encode_live
from ibticks.service._problems import CaptureProblems, storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from ibticks._types import StreamKey
    from ibticks.capture import StreamLease
    from ibticks.live import Batch
    from ibticks.store import Store

__all__ = [
    "Broadcaster",
    "Chunk",
    "ClientStream",
    "Notice",
    "StreamPolicy",
    "Subscription",
    "encode_batch",
    "open_live",
]

_log = logging.getLogger(__name__)

_ChannelKey: TypeAlias = "tuple[Path, tuple[StreamKey, ...]]"
StreamPolicy: TypeAlias = Literal["wait", "latest"]
"""Whether a slow client gets every tick, or the latest ones and the number of those it misses."""

_RING_BYTES: Final = 8 << 20
_CHUNK_SECONDS: Final = 0.01
_JOIN_ATTEMPTS: Final = 8
_MAX_PENDING_TICKS: Final = 2_000
_RETRY_SECONDS: Final = 0.02
_WATCH_SECONDS: Final = 0.5
_MAX_NOTICES: Final = 1_000  # of a client that does not read
_MIN_COLUMN_ROWS: Final = 100


@dataclass(frozen=True)
class Chunk:
    """Consecutive ticks as v2 messages, with the position after each.

    Attributes
    ----------
    messages : list of str
        JSON objects.
    positions : list of str
        Resume tokens.
    times : numpy.ndarray
        int64, UTC nanoseconds.
    historical : bool
        Whether the ticks are of a buffer.
    """

    messages: list[str]
    positions: list[str]
    times: npt.NDArray[np.int64]
    historical: bool = False

    def __len__(self) -> int:
        return len(self.messages)

    @cached_property
    def events(self) -> bytes:
        """The ticks as server-sent events."""
        pairs = zip(self.positions, self.messages, strict=True)
        return "".join([f"id: {place}\ndata: {text}\n\n" for place, text in pairs]).encode()

    @cached_property
    def memory_bytes(self) -> int:
        """Bytes that the chunk and its events take in memory."""
        lists = (self.messages, self.positions)
        texts = sum(getsizeof(text) for texts in lists for text in texts)
        return texts + sum(map(getsizeof, (*lists, self.events))) + self.times.nbytes

    def part(self, start: int, stop: int | None = None) -> Chunk:
        """Return the ticks from one place to another as a chunk."""
        places = slice(start, stop)
        return Chunk(
            self.messages[places], self.positions[places], self.times[places], self.historical
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """A message that is no tick, or None for a heartbeat, with the position of the stream."""

    message: dict[str, Any] | None
    position: str

    @property
    def is_final(self) -> bool:
        """True for an error after which the stream does not go on."""
        message = self.message
        return (
            message is not None
            and message["type"] == "error"
            and not message["data"]["recoverable"]
        )


def encode_batch(batch: Batch, before: str, buffer_index: int | None = None) -> Chunk:
    """Encode the ticks of a batch.

    Parameters
    ----------
    batch : Batch
    before : str
        Resume token before the batch.
    buffer_index : int, optional
        Place of the first tick in the buffer, for ticks of one.
    """
    encode = _encode_each if batch.rows < _MIN_COLUMN_ROWS else encode_live
    messages = encode(batch, buffer_index)
    return Chunk(messages, batch.positions(before), batch.times(), batch.historical)


def _encode_each(batch: Batch, buffer_index: int | None = None) -> list[str]:
    """Encode a few ticks one by one, which takes less time than columns would; as encode_live."""
    messages = []
    for number, message in enumerate(batch.messages()):
        message["stream_id"] = message["stream_id"] or "{contract_id}_{tick_type}".format_map(
            message["data"]
        )
        metadata = message.pop("metadata", {}) | {"historical": batch.historical}
        if batch.historical and buffer_index is not None:
            metadata["buffer_index"] = buffer_index + number
        message["metadata"] = metadata
        messages.append(dump_json(message))
    return messages


class Channel:
    """The latest ticks of some streams, encoded, for any number of subscriptions.

    Parameters
    ----------
    live : Live
        Without a buffer; the channel closes it.

    Attributes
    ----------
    live : Live
    clients : int
        Number of subscriptions.
    error : Exception or None
        Why reading has ended.
    closing : bool
        Whether every stream is to be completed.
    """

    def __init__(self, live: Live) -> None:
        self.live: Final = live
        self.clients = 0
        self.error: Exception | None = None
        self.closing = False
        self._batches: Final = live.batches("batch", every=_CHUNK_SECONDS)
        self._position = live.short_position()
        self._ring: deque[tuple[Chunk, int]] = deque()  # with the ticks before each
        self._ring_bytes = 0
        self._ticks = 0
        self._first_number = 0
        self._changed = asyncio.Event()
        self._task: Final = asyncio.create_task(self._run())

    @property
    def position(self) -> str:
        """Resume token after the latest tick of the ring."""
        return self._position

    @property
    def first_number(self) -> int:
        """Number of the oldest chunk of the ring."""
        return self._first_number

    @property
    def next_number(self) -> int:
        """Number of the chunk that comes next."""
        return self._first_number + len(self._ring)

    @property
    def ticks(self) -> int:
        """Number of ticks since the channel was opened."""
        return self._ticks

    def chunk(self, number: int) -> Chunk:
        """Return a chunk of the ring."""
        return self._ring[number - self._first_number][0]

    def ticks_before(self, number: int) -> int:
        """Return the number of ticks before a chunk of the ring."""
        if number == self.next_number:
            return self._ticks
        return self._ring[number - self._first_number][1]

    def drain(self) -> None:
        """Read what the files have now into the ring."""
        for batch in self.live.drain():
            self._append(batch)
        self._position = self.live.short_position()

    async def wait(
        self, number: int, seconds: float, is_over: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait until a chunk is there, or reading has ended; False after some seconds without.

        Parameters
        ----------
        number : int
            Number of the chunk.
        seconds : float
        is_over : callable
            Ends waiting, too; it is asked after :meth:`wake`.
        """
        end = time.monotonic() + seconds
        while (
            number >= self.next_number and self.error is None and not self.closing and not is_over()
        ):
            try:
                await asyncio.wait_for(self._changed.wait(), end - time.monotonic())
            except TimeoutError:
                return False
        return True

    def end_streams(self) -> None:
        """Complete the stream of every subscription."""
        self.closing = True
        self.wake()

    async def close(self) -> None:
        """End reading."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.live.close()

    async def _run(self) -> None:
        try:
            async for batch in self._batches:
                self._append(batch)
                self._position = self.live.short_position()
        except Exception as error:
            _log.exception("reading for the clients of %s failed", self.live.label)
            self.error = error
            self.wake()

    def _append(self, batch: Batch) -> None:
        chunk = encode_batch(batch, self._position)
        self._position = chunk.positions[-1]
        self._ring.append((chunk, self._ticks))
        self._ticks += len(chunk)
        self._ring_bytes += chunk.memory_bytes
        while self._ring_bytes > _RING_BYTES and len(self._ring) > 1:
            self._ring_bytes -= self._ring.popleft()[0].memory_bytes
            self._first_number += 1
        self.wake()

    def wake(self) -> None:
        """Wake everything that waits."""
        self._changed.set()
        self._changed = asyncio.Event()


class Broadcaster:
    """The channels of a store: each is opened for its first client and closed after its last.

    Parameters
    ----------
    store : Store

    Attributes
    ----------
    closing : bool
        Whether the service is to end: every stream is then completed.
    """

    def __init__(self, store: Store) -> None:
        self._problems: Final = CaptureProblems(store.root)
        self._watch: asyncio.Task[None] | None = None
        self._events: deque[tuple[StreamKey, str, dict[str, Any]]] = deque()
        self._errors: dict[StreamKey, tuple[str, dict[str, Any]]] = {}
        self._channels: dict[_ChannelKey, Channel] = {}
        self._opening: Final = asyncio.Lock()
        self._streams: set[ClientStream] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: Final = asyncio.Event()
        self.closing = False

    def close(self) -> None:
        """Complete every stream; any thread may call it."""
        self.closing = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_streams)

    def _end_streams(self) -> None:
        self._closed.set()
        for channel in self._channels.values():
            channel.end_streams()

    def describe(self) -> list[dict[str, Any]]:
        """Return the streams that have clients."""
        return [
            {
                "contract_ids": sorted({stream.contract_id for stream in streams}),
                "tick_types": _ordered_types(streams),
                "clients": channel.clients,
                "ticks": channel.ticks,
            }
            for (_, streams), channel in self._channels.items()
        ]

    def describe_clients(self) -> list[dict[str, Any]]:
        """Return the clients, each with its stream, its ticks and its state."""
        return [stream.describe() for stream in self._streams]

    async def acquire(
        self, root: Path, streams: Sequence[StreamKey]
    ) -> tuple[_ChannelKey, Channel]:
        """Return the channel of some streams and its key; :meth:`release` gives it back."""
        key = root, tuple(streams)
        async with self._opening:
            channel = self._channels.get(key)
            if channel is None:
                live = await run_in_threadpool(open_live, root, streams)
                channel = self._channels[key] = Channel(live)
            channel.clients += 1
            return key, channel

    async def release(self, key: _ChannelKey) -> None:
        """Give a channel back."""
        channel = self._channels[key]
        channel.clients -= 1
        if not channel.clients:
            del self._channels[key]
            await channel.close()

    def add(self, stream: ClientStream) -> None:
        """Count a client."""
        self._loop = asyncio.get_running_loop()
        self._streams.add(stream)
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_capture())
        self._post_events()
        problems = {key: storage_error(key, text) for key, text in self._problems.current.items()}
        for key, (kind, data) in (problems | self._errors).items():
            self._post_to(stream, key, kind, data)

    def remove(self, stream: ClientStream) -> None:
        """Count a client no more."""
        self._streams.discard(stream)
        if not self._streams and self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def post(self, key: StreamKey, kind: str, data: dict[str, Any]) -> None:
        """Send a message to the clients of a stream; any thread may call it.

        An error is sent to those that come later, too, until an info about the stream follows.
        """
        self._events.append((key, kind, data))
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._post_events)

    def _post_events(self) -> None:
        while self._events:
            key, kind, data = self._events.popleft()
            if kind == "error":
                self._errors[key] = kind, data
            else:
                self._errors.pop(key, None)
            self._post(key, kind, data)

    def _post(self, key: StreamKey, kind: str, data: dict[str, Any]) -> None:
        for stream in self._streams:
            self._post_to(stream, key, kind, data)
        for channel in self._channels.values():
            channel.wake()

    @staticmethod
    def _post_to(stream: ClientStream, key: StreamKey, kind: str, data: dict[str, Any]) -> None:
        if key in stream.streams:
            stream.post(kind, data)

    async def _watch_capture(self) -> None:
        """Tell clients when the capture of the store cannot write, and when it can again."""
        while True:
            for key, kind, data in await run_in_threadpool(self._problems.changes):
                self._post(key, kind, data)
            await asyncio.sleep(_WATCH_SECONDS)

    async def wait_closing(self, seconds: float) -> None:
        """Wait until the service is to end, but not longer than some seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)


class ClientStream(ABC):
    """The ticks of some streams for one client, with notices among them.

    Parameters
    ----------
    broadcaster : Broadcaster
    live : Live or None
        The files of this client, which the stream closes.
    root : Path
        Folder of the hour files.
    streams : sequence of StreamKey
    policy : {"wait", "latest"}
    heartbeat : float
        Seconds without a tick after which a heartbeat is yielded.
    deadline : float, optional
        Time of the monotonic clock at which waiting ends.

    Attributes
    ----------
    root : Path
    streams : tuple of StreamKey
    stream_id : str
    ticks : int
        Number of ticks for the client.
    end_reason : str
        Reason of a stream that has ended by itself.
    """

    end_reason: str = "service_closed"

    def __init__(
        self,
        broadcaster: Broadcaster,
        live: Live | None,
        root: Path,
        streams: Sequence[StreamKey],
        *,
        policy: StreamPolicy = "wait",
        heartbeat: float = 15.0,
        deadline: float | None = None,
    ) -> None:
        self.root: Final = root
        self.streams: Final = tuple(streams)
        self.stream_id: Final = _stream_id(streams)
        self.ticks = 0
        self._broadcaster: Final = broadcaster
        self._live = live
        self._policy: Final = policy
        self._heartbeat: Final = heartbeat
        self._deadline: Final = deadline
        self._position = "" if live is None else live.short_position()
        self._notices: deque[Notice] = deque()
        self._last_ns: int | None = None
        self._since_ns = now_ns()  # of the last tick, or of the begin

    @property
    @abstractmethod
    def state(self) -> str:
        """Source of the ticks, for people."""

    @abstractmethod
    def items(self) -> AsyncGenerator[Chunk | Notice]:
        """Iterate over ticks, notices and heartbeats, until the stream or the service ends."""

    def post(self, kind: str, data: dict[str, Any]) -> None:
        """Send a message among the live ticks, as soon as the client has read what is before it."""
        if len(self._notices) < _MAX_NOTICES:
            self._notices.append(self.notice(kind, data))

    def close(self) -> None:
        """Close the files."""
        if self._live is not None:
            self._live.close()

    def describe(self) -> dict[str, Any]:
        """Return the stream, the number of ticks and the state of this client."""
        return {
            "stream_id": self.stream_id,
            "ticks": self.ticks,
            "state": self.state,
            "policy": self._policy,
            "last_tick": None if self._last_ns is None else format_ns(self._last_ns),
        }

    def notice(self, kind: str, data: dict[str, Any]) -> Notice:
        """Return a message about the stream."""
        message = {
            "type": kind,
            "stream_id": self.stream_id,
            "timestamp": format_ns(now_ns()),
            "data": data,
        }
        return Notice(message, self._position)

    def _deliver(self, chunk: Chunk) -> None:
        self.ticks += len(chunk)
        self._position = chunk.positions[-1]
        self._last_ns = self._since_ns = int(chunk.times[-1])

    def _seconds_to_wait(self) -> float:
        if self._deadline is None:
            return self._heartbeat
        return max(0.0, min(self._heartbeat, self._deadline - time.monotonic()))

    def _marker(self, status: str, count: int | None = None) -> Notice:
        data: dict[str, Any] = {"status": status}
        if count is not None:
            data["buffer_message_count"] = count
        return self.notice("info", data)


class Subscription(ClientStream):
    """The ticks that some streams have and get, for one client.

    Parameters
    ----------
    broadcaster : Broadcaster
    live : Live or None
        The stream of this client, with its buffer or its position; None to begin with what comes.
    root : Path
        Folder of the hour files.
    streams : sequence of StreamKey
    lease : StreamLease, optional
        Right to streams on demand, which is closed with the files.
    **options
        Those of :class:`ClientStream`.
    """

    def __init__(
        self,
        broadcaster: Broadcaster,
        live: Live | None,
        root: Path,
        streams: Sequence[StreamKey],
        *,
        lease: StreamLease | None = None,
        **options: Any,
    ) -> None:
        super().__init__(broadcaster, live, root, streams, **options)
        self._lease: Final = lease
        self._in_ring = False
        self._number = -1  # of the next chunk of the ring
        self._ring_ticks = 0  # of the channel, before that chunk

    @property
    def state(self) -> str:
        """Source of the ticks, for people."""
        return "live" if self._in_ring else "reading files"

    def close(self) -> None:
        """Close the files, and give streams on demand back."""
        super().close()
        if self._lease is not None:
            self._lease.close()

    async def items(self) -> AsyncGenerator[Chunk | Notice]:
        """Iterate over the stream.

        Yields
        ------
        Chunk or Notice
            Ticks, notices and heartbeats, until the service ends.
        """
        self._broadcaster.add(self)
        key = None
        try:
            key, channel = await self._broadcaster.acquire(self.root, self.streams)
            if self._live is None:
                channel.drain()
                self._enter_ring(channel)
                yield self._marker("live_start")
            else:
                async for item in self._read_buffer(self._live):
                    yield item
            while not self._broadcaster.closing:
                async for item in self._next(channel):
                    yield item
        finally:
            # A client that has left has cancelled this task; the files are closed all the same.
            with anyio.CancelScope(shield=True):
                self._broadcaster.remove(self)
                self.close()
                if key is not None:
                    await self._broadcaster.release(key)

    async def _next(self, channel: Channel) -> AsyncGenerator[Chunk | Notice]:
        """Yield what comes next: a chunk of the ring, or what is needed to get there."""
        while self._notices:
            # The position may have moved since the message was made.
            yield replace(self._notices.popleft(), position=self._position)
        is_behind = self._number < channel.first_number
        is_latest = self._policy == "latest" and self._in_ring
        if is_latest and (is_behind or channel.ticks - self._ring_ticks > _MAX_PENDING_TICKS):
            yield self._skip(channel)
        elif is_behind:
            async for chunk in self._catch_up(channel):
                yield chunk
        elif channel.error is not None:
            raise channel.error
        elif self._number < channel.next_number:
            chunk = channel.chunk(self._number)
            self._number += 1
            self._ring_ticks += len(chunk)
            self._deliver(chunk)
            yield chunk
        elif not await channel.wait(
            self._number, self._seconds_to_wait(), lambda: bool(self._notices)
        ):
            yield Notice(None, self._position)

    def _enter_ring(self, channel: Channel) -> None:
        """Go on with what comes into the ring from now on."""
        self._number, self._ring_ticks = channel.next_number, channel.ticks
        self._position = channel.position
        self._in_ring = True

    async def _read_buffer(self, live: Live) -> AsyncGenerator[Chunk | Notice]:
        """Yield the ticks that were stored before the stream was opened, between markers."""
        if live.historical:
            count = await run_in_threadpool(live.count_unread_buffer)
            yield self._marker("buffer_start", count)
            batches, index = live.batches("batch"), 0
            while True:
                before = live.short_position()
                batch = await run_in_threadpool(batches.poll)
                if batch is None or not batch.historical:
                    break
                chunk = await run_in_threadpool(encode_batch, batch, before, index)
                index += len(chunk)
                self._deliver(chunk)
                yield chunk
            yield self._marker("buffer_complete", index)
            yield self._marker("live_start")
            if batch is not None:
                chunk = await run_in_threadpool(encode_batch, batch, before)
                self._deliver(chunk)
                yield chunk
        else:
            yield self._marker("live_start")

    async def _catch_up(self, channel: Channel) -> AsyncGenerator[Chunk | Notice]:
        """Yield ticks of the files up to the last one of the channel."""
        self._in_ring = False
        if self._live is None:
            self._live = await run_in_threadpool(
                open_live, self.root, self.streams, resume=self._position
            )
        live = self._live
        most = _MAX_PENDING_TICKS if self._policy == "latest" else None
        while True:
            dropped, chunks = await run_in_threadpool(_read_on, live, most)
            if dropped:
                yield self._dropped(dropped, chunks[0])
            for chunk in chunks:
                self._deliver(chunk)
                yield chunk
            if chunks:
                continue
            # No other task runs before the cursor stands in the ring.
            chunks, is_level = _join(channel, live)
            for chunk in chunks:
                self._deliver(chunk)
            if is_level:
                self._enter_ring(channel)
                self._live = None
                live.close()
            for chunk in chunks:
                yield chunk
            if is_level:
                return
            await asyncio.sleep(_RETRY_SECONDS)

    def _skip(self, channel: Channel) -> Notice:
        """Go on with the newest chunk; return a notice of the ticks before it."""
        newest = channel.next_number - 1
        dropped = channel.ticks_before(newest) - self._ring_ticks
        self._number, self._ring_ticks = newest, channel.ticks_before(newest)
        return self._dropped(dropped, channel.chunk(newest))

    def _dropped(self, count: int, following: Chunk) -> Notice:
        """Return a notice of the ticks between the last one and a chunk."""
        data = {
            "status": "dropped",
            "count": count,
            "start": format_ns(self._since_ns),
            "end": format_ns(int(following.times[0])),
        }
        return self.notice("info", data)


def _read_on(live: Live, most: int | None = None) -> tuple[int, list[Chunk]]:
    """Read the next ticks of a stream, which are live ones however late they are read.

    Parameters
    ----------
    live : Live
    most : int, optional
        Read all there are and encode about this many, the latest, instead of the next batch.

    Returns
    -------
    dropped : int
        Number of earlier ticks.
    chunks : list of Chunk
        Empty where the files have no more.
    """
    batches = live.batches("batch")
    latest: deque[tuple[Batch, str]] = deque()
    ticks = dropped = 0
    while True:
        before = live.short_position()
        batch = batches.poll()
        if batch is None:
            break
        latest.append((batch, before))
        ticks += batch.rows
        if most is None:
            break
        while ticks - latest[0][0].rows >= most:
            rows = latest.popleft()[0].rows
            ticks, dropped = ticks - rows, dropped + rows
    chunks = [
        encode_batch(replace(batch, historical=False), position) for batch, position in latest
    ]
    if most is not None and ticks > most:
        chunks[0] = chunks[0].part(ticks - most)
        dropped += ticks - most
    return dropped, chunks


def _join(channel: Channel, live: Live) -> tuple[list[Chunk], bool]:
    """Read a channel and a stream up to the same tick; return the ticks of the stream."""
    chunks: list[Chunk] = []
    before = live.short_position()
    for _ in range(_JOIN_ATTEMPTS):
        for batch in live.drain():
            chunk = encode_batch(replace(batch, historical=False), before)
            chunks.append(chunk)
            before = chunk.positions[-1]
        channel.drain()
        if live.is_level_with(channel.live):
            return chunks, True
    return chunks, False


def open_live(
    root: Path,
    streams: Sequence[StreamKey],
    start_ns: int | None = None,
    *,
    resume: str | None = None,
) -> Live:
    """Open the files of some streams, with a buffer from a time or after a position."""
    options = LiveOptions(markers=False)
    label = ", ".join(f"{stream.contract_id}/{stream.tick_type}" for stream in streams)
    return Live(root, streams, (), start_ns, label=label, resume=resume, options=options)


def _stream_id(streams: Sequence[StreamKey]) -> str:
    """Return the name of a stream of one contract or several.

    Examples
    --------
    >>> from ibticks._types import StreamKey
    >>> _stream_id([StreamKey(8314, "bid_ask"), StreamKey(8314, "last")])
    '8314_multi'
    """
    contract_ids = {stream.contract_id for stream in streams}
    tick_types = {stream.tick_type for stream in streams}
    contract = contract_ids.pop() if len(contract_ids) == 1 else "multi"
    return f"{contract}_{tick_types.pop() if len(tick_types) == 1 else 'multi'}"


def _ordered_types(streams: Sequence[StreamKey]) -> list[str]:
    return list(dict.fromkeys(stream.tick_type for stream in streams))
