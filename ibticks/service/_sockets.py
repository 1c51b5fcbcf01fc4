"""Live ticks over WebSockets: one stream on a socket, or several that come and go."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketState

from ibticks.calendar import format_ns, now_ns
from ibticks.errors import InputError, TickError
from ibticks.service._broadcast import Chunk
from ibticks.service._errors import error_data, explain_error
from ibticks.service._parameters import (  # noqa: TC001 - FastAPI reads annotations
    Contract,
    HistoryTypes,
    OpenStore,
)
from ibticks.service._streams import Stream, StreamOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskGroup

    from ibticks.service._broadcast import Notice
    from ibticks.store import Store

__all__ = ["router"]

router: Final = APIRouter()

_Options = Annotated[StreamOptions, Depends()]
_NORMAL_CLOSURE: Final = 1000
_MAX_SUBSCRIPTIONS: Final = 100


@router.websocket("/v2/stream/{contract_id}/with-buffer")
@router.websocket("/v2/stream/{contract_id}/buffer")
async def stream_with_buffer(
    socket: WebSocket,
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    options: _Options,
) -> None:
    """Stream stored ticks, then live ones, without gap or duplicate.

    With ``buffer_period``, stored ticks come as ``{"type": "historical", "data": ...}``, and one
    message ``switching_to_live`` with their number follows.
    """
    encode = _encode if "buffer_period" not in socket.query_params else _WrappedHistory().encode
    stream = await _open(socket, store, contract_id, tick_types, options, has_buffer=True)
    await _serve(socket, stream, encode)


@router.websocket("/v2/stream/{contract_id}")
@router.websocket("/v2/stream/{contract_id}/live")
async def stream_live(
    socket: WebSocket,
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    options: _Options,
) -> None:
    """Stream the ticks that come from now on."""
    stream = await _open(socket, store, contract_id, tick_types, options, has_buffer=False)
    await _serve(socket, stream, _encode)


async def _open(
    socket: WebSocket,
    store: Store,
    contract_id: str | int,
    tick_types: list[str],
    options: StreamOptions,
    *,
    has_buffer: bool,
) -> Stream:
    return await run_in_threadpool(
        Stream,
        socket.app.state.broadcaster,
        store,
        contract_id,
        tick_types,
        options,
        has_buffer=has_buffer,
        shared_streams=socket.app.state.shared_streams,
    )


def _encode(item: Chunk | Notice) -> Iterator[str]:
    """Yield the messages of an item, each with its position."""
    if isinstance(item, Chunk):
        for text, position in zip(item.messages, item.positions, strict=True):
            # The metadata are the last member of a tick.
            yield f'{text[:-2]},"position":"{position}"}}}}'
    elif item.message is None:
        yield json.dumps({"type": "info", "data": {"status": "heartbeat"}})
    else:
        yield json.dumps(item.message | {"metadata": {"position": item.position}})


class _WrappedHistory:
    """The other envelope: stored ticks inside of a message, and one message where they end."""

    def __init__(self) -> None:
        self._count = 0

    def encode(self, item: Chunk | Notice) -> Iterator[str]:
        """Encode an item.

        Yields
        ------
        str
            A message.
        """
        if isinstance(item, Chunk):
            for text in _encode(item):
                yield f'{{"type":"historical","data":{text}}}' if item.historical else text
            self._count += len(item) * item.historical
            return
        status = None if item.message is None else item.message["data"].get("status")
        if status == "live_start":
            data = {"status": "switching_to_live", "historical_count": self._count}
            yield json.dumps({"type": "info", "data": data})
        elif status not in ("buffer_start", "buffer_complete"):
            yield from _encode(item)


async def _serve(
    socket: WebSocket, stream: Stream, encode: Callable[[Chunk | Notice], Iterator[str]]
) -> None:
    """Send a stream over a socket of its own, until either ends."""
    await socket.accept()
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            try:
                while True:
                    await _answer_ping(socket, await socket.receive_text())
            except WebSocketDisconnect:
                group.cancel_scope.cancel()

        group.start_soon(watch)
        await _send(socket, stream, encode)
        if socket.application_state is WebSocketState.CONNECTED:
            await socket.close(_NORMAL_CLOSURE)
        group.cancel_scope.cancel()


async def _send(
    socket: WebSocket, stream: Stream, encode: Callable[[Chunk | Notice], Iterator[str]]
) -> None:
    async with aclosing(stream.items()) as items:
        async for item in items:
            for text in encode(item):
                await socket.send_text(text)


async def _answer_ping(socket: WebSocket, text: str) -> None:
    try:
        message = json.loads(text)
    except ValueError:
        return
    if isinstance(message, dict) and message.get("type") == "ping":
        await socket.send_text(_message("pong"))


@router.websocket("/v2/ws/stream")
async def stream_several(socket: WebSocket, store: OpenStore) -> None:
    """Stream several contracts over one socket, as the client subscribes to them.

    The client sends ``{"type": "subscribe", "data": {"contract_id": ..., "tick_types": [...]}}``
    with the options of a stream, ``unsubscribe`` with a ``stream_id``, and ``ping``.
    """
    await socket.accept()
    try:
        async with anyio.create_task_group() as group:
            session = _Session(socket, store, group)
            while True:
                await session.answer(await socket.receive_text())
    except* WebSocketDisconnect:
        pass


class _Session:
    """The subscriptions of one socket.

    Parameters
    ----------
    socket : WebSocket
    store : Store
    group : TaskGroup
        Where the streams run.
    """

    def __init__(self, socket: WebSocket, store: Store, group: TaskGroup) -> None:
        self._socket: Final = socket
        self._store: Final = store
        self._group: Final = group
        self._scopes: dict[str, anyio.CancelScope] = {}

    async def answer(self, text: str) -> None:
        """Do what a message asks for; what cannot be done is answered with an error."""
        try:
            kind, data = _parse_request(text)
            match kind:
                case "ping":
                    await self._socket.send_text(_message("pong"))
                case "subscribe":
                    await self._subscribe(data)
                case "unsubscribe":
                    await self._unsubscribe(data)
                case _:
                    raise InputError(
                        f"type={kind!r:.40}: use subscribe, unsubscribe or ping", type=str(kind)
                    )
        except TickError as error:
            await self._socket.send_text(_message("error", error_data(*explain_error(error))))

    async def _subscribe(self, data: dict[str, Any]) -> None:
        contract_id, tick_types, options, has_buffer = _parse_subscription(data)
        if len(self._scopes) >= _MAX_SUBSCRIPTIONS:
            raise InputError(f"one socket has at most {_MAX_SUBSCRIPTIONS} streams: open another")
        stream = await _open(
            self._socket, self._store, contract_id, tick_types, options, has_buffer=has_buffer
        )
        stream_id = stream.client_stream.stream_id
        if stream_id in self._scopes:
            stream.close()
            raise InputError(f"{stream_id} is subscribed to already", stream_id=stream_id)
        scope = self._scopes[stream_id] = anyio.CancelScope()
        await self._socket.send_text(_message("subscribed", {}, stream_id))
        self._group.start_soon(self._run, stream, scope)

    async def _run(self, stream: Stream, scope: anyio.CancelScope) -> None:
        with scope:
            await _send(self._socket, stream, _encode)
        self._scopes.pop(stream.client_stream.stream_id, None)

    async def _unsubscribe(self, data: dict[str, Any]) -> None:
        stream_id = data.get("stream_id")
        scope = self._scopes.pop(stream_id, None) if isinstance(stream_id, str) else None
        if scope is None:
            raise InputError(f"stream_id={stream_id!r:.60} is not subscribed to")
        scope.cancel()
        await self._socket.send_text(_message("unsubscribed", {}, str(stream_id)))


def _message(kind: str, data: dict[str, Any] | None = None, stream_id: str = "") -> str:
    message = {"type": kind, "stream_id": stream_id, "timestamp": format_ns(now_ns())}
    return json.dumps(message | ({} if data is None else {"data": data}), default=str)


def _parse_request(text: str) -> tuple[object, dict[str, Any]]:
    """Return type and data of a request.

    Examples
    --------
    >>> _parse_request('{"type": "ping"}')
    ('ping', {})
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the message is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise InputError('send an object: {"type": "subscribe", "data": {...}}')
    data = message.get("data", {})
    if not isinstance(data, dict):
        raise InputError('data is an object: {"contract_id": 8314, "tick_types": ["last"]}')
    return message.get("type"), data


def _parse_subscription(
    data: dict[str, Any],
) -> tuple[str | int, list[str], StreamOptions, bool]:
    """Return contract, tick types, options, and whether a buffer comes first."""
    known = {"contract_id", "tick_types", "tick_type", *StreamOptions.model_fields}
    if unknown := sorted(set(data) - known):
        raise InputError(f"{', '.join(unknown)}: use {', '.join(sorted(known))}")
    contract_id = data.get("contract_id")
    if not isinstance(contract_id, int | str) or isinstance(contract_id, bool):
        raise InputError("contract_id is a contract id or a symbol", contract_id=contract_id)
    names = data.get("tick_types", data.get("tick_type", ["bid_ask"]))
    tick_types = names.split(",") if isinstance(names, str) else names
    if not isinstance(tick_types, list) or not all(isinstance(name, str) for name in tick_types):
        raise InputError("tick_types is a list of tick types")
    try:
        options = StreamOptions(
            **{name: data[name] for name in StreamOptions.model_fields if name in data}
        )
    except ValidationError as error:
        problems = error.errors(include_url=False)
        text = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems)
        raise InputError(text) from error
    has_buffer = bool({"buffer_duration", "buffer_period"} & set(data))
    return contract_id, tick_types, options, has_buffer
