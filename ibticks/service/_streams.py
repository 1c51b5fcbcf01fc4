"""Live ticks, with or without a buffer before them, and their routes as server-sent events."""

from __future__ import annotations

import json
import math
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ibticks.calendar import now_ns
from ibticks.capture import read_status
from ibticks.errors import InputError
from ibticks.live import resolve_buffer
from ibticks.service._broadcast import (
    Broadcaster,
    Chunk,
    ClientStream,
    Notice,
    StreamPolicy,
    Subscription,
    open_live,
)
from ibticks.service._choice import choose_streams
from ibticks.service._errors import ERROR_RESPONSES, error_data, explain_error
from ibticks.service._parameters import (  # noqa: TC001 - FastAPI reads annotations
    Contract,
    HistoryTypes,
    OpenStore,
)
from ibticks.service._replay import ReplayStream, parse_replay
from ibticks.service._resume import check_resume

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from starlette.types import Receive, Scope, Send

    from ibticks.capture import SharedStreams, StreamLease
    from ibticks.live import Live
    from ibticks.store import Store

__all__ = ["Stream", "StreamOptions", "router"]

router: Final = APIRouter(tags=["streams"])

_EVENTS: Final = "text/event-stream"
_RETRY_MS: Final = 2_000
_DEFAULT_HEARTBEAT_SECONDS: Final = 15.0
_HEADERS: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


_Speed = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class StreamOptions(BaseModel):
    """Options that every stream has, as parameters of a request."""

    buffer_duration: Annotated[
        str | None,
        Query(
            description="Stored ticks that come first: `1h`, `2h30m`, `today`, `since_open` and "
            "the like. By default the buffer hours of a tracked contract, or `1h`.",
            examples=["1h"],
        ),
    ] = None
    buffer_period: Annotated[str | None, Query(description="The same as `buffer_duration`.")] = None
    limit: Annotated[
        int | None, Query(ge=1, le=2**53, description="Ticks after which the stream ends.")
    ] = None
    timeout: Annotated[
        float | None, Query(gt=0, le=1e9, description="Seconds after which the stream ends.")
    ] = None
    resume: Annotated[
        str | None, Query(description="Position after which to go on: the id of an event.")
    ] = None
    heartbeat: Annotated[
        float,
        Query(
            ge=0.1,
            le=3600,
            description="Seconds without a tick after which a heartbeat is sent; a client that "
            "hears nothing for twice as long should connect again.",
        ),
    ] = _DEFAULT_HEARTBEAT_SECONDS
    policy: Annotated[
        StreamPolicy,
        Query(
            description="For clients that read too slowly: `wait` sends every tick, `latest` goes "
            "on with the latest and says how many were dropped, from when to when."
        ),
    ] = "wait"

    record: Annotated[
        bool,
        Query(description="Record a stream on demand into the store while this client reads it."),
    ] = False
    replay: Annotated[
        str | None,
        Query(
            description="Stream the stored ticks of an interval as if they came now: `START/END`, "
            "half-open. A buffer is then before its start.",
            examples=["2025-01-10T14:30:00Z/2025-01-10T15:30:00Z"],
        ),
    ] = None
    speed: Annotated[
        _Speed | Literal["max"] | None,
        Query(description="Seconds of a replay in a second (1 by default), or `max`: no waiting."),
    ] = None

    @property
    def buffer(self) -> str | None:
        """Period of the buffer; None for that of the contract.

        Raises
        ------
        InputError
            If it is given twice.
        """
        if self.buffer_duration is not None and self.buffer_period is not None:
            raise InputError("buffer_duration and buffer_period have one meaning: keep one of them")
        return self.buffer_duration if self.buffer_period is None else self.buffer_period


_Options = Annotated[StreamOptions, Depends()]


class Stream:
    """One stream for one client: its ticks until a limit, a timeout or the end of the service.

    Parameters
    ----------
    broadcaster : Broadcaster
    store : Store
    contract_id : str or int
        Contract id or symbol.
    tick_types : sequence of str
    options : StreamOptions
    has_buffer : bool
        Whether stored ticks come first.
    shared_streams : SharedStreams, optional
        Streams on demand of contracts that are not captured.

    Raises
    ------
    TickError
        If the stream cannot be opened.
    """

    def __init__(
        self,
        broadcaster: Broadcaster,
        store: Store,
        contract_id: str | int,
        tick_types: Sequence[str],
        options: StreamOptions,
        *,
        has_buffer: bool,
        shared_streams: SharedStreams | None = None,
    ) -> None:
        streams, is_on_demand = choose_streams(
            store, contract_id, tick_types, can_subscribe=shared_streams is not None
        )
        if options.record and shared_streams is None:
            raise InputError(
                "record=1 records streams on demand, which this service has not: start it with "
                "--on-demand"
            )
        self._broadcaster: Final = broadcaster
        self._started = time.monotonic()
        self._limit: Final = options.limit
        self._deadline: Final = None if options.timeout is None else self._started + options.timeout
        buffer = options.buffer
        if buffer is None and has_buffer:
            buffer = _buffer_period(store, streams[0].contract_id)
        client: dict[str, Any] = {
            "policy": options.policy,
            "heartbeat": options.heartbeat,
            "deadline": self._deadline,
        }
        self.client_stream: ClientStream
        if options.speed is not None and options.replay is None:
            raise InputError("speed is that of a replay: give replay=START/END, too")
        shared = shared_streams if is_on_demand and options.replay is None else None
        root = store.root if shared is None else shared.root
        if options.resume is not None:
            check_resume(store, options.resume, root)
        if options.replay is not None:
            self.client_stream = ReplayStream(
                broadcaster,
                store,
                streams,
                parse_replay(options.replay),
                math.inf if options.speed == "max" else options.speed or 1.0,
                buffer=buffer if has_buffer else None,
                resume=options.resume,
                **client,
            )
            return
        live: Live | None = None
        if options.resume is not None:
            live = open_live(root, streams, resume=options.resume)
        elif has_buffer and buffer is not None:
            live = open_live(root, streams, resolve_buffer(buffer, now_ns())[0])
        elif shared is not None:
            # Before the subscription, so that its first tick is not missed.
            live = open_live(root, streams)
        lease: StreamLease | None = None
        if shared is not None:
            try:
                lease = shared.acquire(streams, record=options.record)
            except BaseException:
                if live is not None:
                    live.close()
                raise
        self.client_stream = Subscription(broadcaster, live, root, streams, lease=lease, **client)

    def close(self) -> None:
        """Close a stream that was never read."""
        self.client_stream.close()

    async def items(self) -> AsyncGenerator[Chunk | Notice]:
        """Iterate over the stream.

        Yields
        ------
        Chunk or Notice
            Ticks, notices and heartbeats; at last a ``complete`` or an ``error``.
        """
        left = math.inf if self._limit is None else self._limit
        reason, position = "service_closed", ""
        async with aclosing(self.client_stream.items()) as items:
            try:
                async for item in items:
                    if isinstance(item, Chunk):
                        chunk = item if len(item) <= left else item.part(0, int(left))
                        left -= len(chunk)
                        position = chunk.positions[-1]
                        yield chunk
                    else:
                        position = item.position
                        yield item
                        if item.is_final:
                            return
                    if left <= 0:
                        reason = "limit"
                        break
                    if self._deadline is not None and time.monotonic() >= self._deadline:
                        reason = "timeout"
                        break
                    if self._broadcaster.closing:
                        break
                else:
                    if not self._broadcaster.closing:
                        reason = self.client_stream.end_reason
            except Exception as error:
                yield self.client_stream.notice("error", error_data(*explain_error(error)))
                return
        ticks = self.client_stream.ticks if self._limit is None else int(self._limit - left)
        seconds = round(time.monotonic() - self._started, 3)
        data = {"reason": reason, "total_ticks": ticks, "duration_seconds": seconds}
        # After the last tick that was sent: the subscription may have read further.
        yield replace(self.client_stream.notice("complete", data), position=position)


def _buffer_period(store: Store, contract_id: int) -> str:
    """Return the buffer of a contract: its buffer hours where it is tracked, or an hour."""
    contracts = read_status(store.root)["status"]["contracts"]
    hours = contracts.get(str(contract_id), {}).get("buffer_hours", 1)
    return f"{hours}h"


class _EventResponse(StreamingResponse):
    """Server-sent events of a stream."""

    media_type = _EVENTS

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        super().__init__(self._events(stream), headers=_HEADERS)

    @staticmethod
    async def _events(stream: Stream) -> AsyncIterator[bytes]:
        yield f"retry: {_RETRY_MS}\n\n".encode()
        async with aclosing(stream.items()) as items:
            async for item in items:
                if isinstance(item, Chunk):
                    yield item.events
                elif item.message is None:
                    yield b": heartbeat\n\n"
                else:
                    place = f"id: {item.position}\n" if item.position else ""
                    yield f"{place}data: {json.dumps(item.message)}\n\n".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, and close the stream when the client has left."""
        try:
            async with aclosing(self.body_iterator):  # type: ignore[type-var]
                await super().__call__(scope, receive, send)
        finally:
            self._stream.close()


_EXAMPLE: Final = """\
retry: 2000

id: eJyLjjbUUTA0...
data: {"type": "info", "stream_id": "8314_last", "data": {"status": "buffer_start", \
"buffer_message_count": 1}}

id: eJyLjjbUUTA0....8314~last~383633~~90~-1~5
data: {"type":"tick","stream_id":"8314_last","timestamp":"2013-10-08T14:00:00.189000Z","data":\
{"contract_id":8314,"tick_type":"last","price":180.63,"size":100.0},"metadata":\
{"historical":true,"buffer_index":0}}

"""
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **ERROR_RESPONSES,
    200: {
        "description": "Server-sent events, each with its position as its id.",
        "content": {_EVENTS: {"schema": {"type": "string"}, "example": _EXAMPLE}},
    },
    409: {
        "description": "The position cannot be resumed from; `first_position` can.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorMessage"}}},
    },
}
_LastEventId = Annotated[
    str | None, Header(description="As `resume`; browsers send it when they connect again.")
]


@router.get(
    "/v2/stream/{contract_id}/with-buffer", response_class=StreamingResponse, responses=_RESPONSES
)
@router.get(
    "/v2/stream/{contract_id}/buffer", response_class=StreamingResponse, responses=_RESPONSES
)
async def stream_with_buffer(
    request: Request,
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    options: _Options,
    last_event_id: _LastEventId = None,
) -> StreamingResponse:
    """Stream stored ticks, then live ones, without gap or duplicate."""
    return await _respond(
        request, store, contract_id, tick_types, options, last_event_id, has_buffer=True
    )


@router.get("/v2/stream/{contract_id}", response_class=StreamingResponse, responses=_RESPONSES)
@router.get("/v2/stream/{contract_id}/live", response_class=StreamingResponse, responses=_RESPONSES)
async def stream_live(
    request: Request,
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    options: _Options,
    last_event_id: _LastEventId = None,
) -> StreamingResponse:
    """Stream the ticks that come from now on."""
    return await _respond(
        request, store, contract_id, tick_types, options, last_event_id, has_buffer=False
    )


async def _respond(
    request: Request,
    store: Store,
    contract_id: str,
    tick_types: Sequence[str],
    options: StreamOptions,
    last_event_id: str | None,
    *,
    has_buffer: bool,
) -> StreamingResponse:
    if last_event_id:
        # What a browser has received last counts more than the address that it began with.
        options.resume = last_event_id
    stream = await run_in_threadpool(
        Stream,
        request.app.state.broadcaster,
        store,
        contract_id,
        tick_types,
        options,
        has_buffer=has_buffer,
        shared_streams=request.app.state.shared_streams,
    )
    return _EventResponse(stream)


@router.get("/stream/active", tags=["status"])
def read_active(request: Request) -> dict[str, Any]:
    """Return the streams that are read, and their clients."""
    broadcaster: Broadcaster = request.app.state.broadcaster
    return {"streams": broadcaster.describe(), "clients": broadcaster.describe_clients()}
