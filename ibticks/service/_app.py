"""The FastAPI application of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette_compress import CompressMiddleware, remove_compress_type

from ibticks._version import __version__
from ibticks.service._broadcast import Broadcaster
from ibticks.service._buffer import SharedResults
from ibticks.service._buffer import router as buffer
from ibticks.service._errors import add_error_handlers
from ibticks.service._historical import router as historical
from ibticks.service._hosts import LOOPBACK_HOSTS, HostCheck
from ibticks.service._metrics import RequestMetrics, RequestTimer
from ibticks.service._metrics import router as metrics
from ibticks.service._page import router as page
from ibticks.service._problems import share_streams
from ibticks.service._remote import router as remote
from ibticks.service._sockets import router as sockets
from ibticks.service._status import router as status
from ibticks.service._streams import router as streams

if TYPE_CHECKING:
    from collections.abc import Collection

    from ibticks.capture import SharingOptions
    from ibticks.store import Store

__all__ = ["create_app"]

_MIN_COMPRESSED_BYTES: Final = 1000
# Events are encoded once for all clients, and a proxy may compress them.
remove_compress_type("text/event-stream")

_DESCRIPTION: Final = """\
Stored ticks of Interactive Brokers, as the v2 messages of IB-Stream.

Ranges are half-open: a tick at `end_time` is not in the range. Times without an offset need `tz`.
Sessions follow the calendar of the market: holidays, early closes, and `overnight`, too. Several
tick types are merged by time. Every error is one v2 message of the type `error`.
"""


def _message_schema(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "stream_id", "timestamp", "data"],
        "properties": {
            "type": {"type": "string"},
            "stream_id": {"type": "string"},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": data,
            "metadata": {"type": "object"},
        },
    }


_NUMBERS: Final = (
    *("price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "mid_price"),
    *("sequence", "exchange_time"),
)
_FLAGS: Final = ("past_limit", "unreported", "bid_past_low", "ask_past_high")
_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "TickMessage": _message_schema(
        {
            "type": "object",
            "required": ["contract_id", "tick_type"],
            "properties": {
                "contract_id": {"type": "integer"},
                "tick_type": {"type": "string"},
                **{name: {"type": ["number", "null"]} for name in _NUMBERS},
                "exchange": {"type": "string"},
                "conditions": {"type": "array", "items": {"type": "string"}},
                **{name: {"type": "boolean"} for name in _FLAGS},
            },
        }
    ),
    "ErrorMessage": _message_schema(
        {
            "type": "object",
            "required": ["code", "message", "recoverable", "details"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "recoverable": {"type": "boolean"},
                "details": {"type": "object"},
            },
        }
    ),
    "Messages": {
        "type": "object",
        "required": ["messages"],
        "properties": {
            "messages": {"type": "array", "items": {"$ref": "#/components/schemas/TickMessage"}},
            "count": {"type": "integer"},
            "current_time": {"type": "string"},
            "period": {"type": "string"},
            "session": {
                "type": "object",
                "required": ["type", "market", "start", "end"],
                "properties": {
                    name: {"type": "string"} for name in ("type", "market", "start", "end")
                },
            },
            "missing": {
                "type": "array",
                "description": "Intervals whose data is damaged and was left out; only if any.",
                "items": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in ("start", "end")},
                },
            },
        },
    },
}


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document: with the schemas of v2 messages, without status 422.

        A parameter of a wrong type is answered with 400 and a v2 error, like every other one.
        """
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas.update(_SCHEMAS)
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
        assert self.openapi_schema is not None
        return self.openapi_schema


def create_app(
    store: Store,
    *,
    hosts: Collection[str] | None = LOOPBACK_HOSTS,
    on_demand: SharingOptions | None = None,
) -> FastAPI:
    """Create the application of a store: an ASGI application with OpenAPI at ``/openapi.json``.

    Parameters
    ----------
    store : Store
        Stays open while the application is used.
    hosts : collection of str or None
        Host names that requests may be sent to; others are refused. With None, none is: a page of
        another site cannot reach a Unix socket.
    on_demand : SharingOptions, optional
        Address of TWS and client id, for streams of contracts that are not captured.
        ``app.state.shared_streams``, if any, is to be closed.

    Returns
    -------
    fastapi.FastAPI

    Examples
    --------
    >>> import tempfile
    >>> import ibticks as ibt
    >>> with ibt.open(tempfile.mkdtemp()) as store:
    ...     app = create_app(store)
    >>> "/v2/stream/{contract_id}/with-buffer" in app.openapi()["paths"]
    True
    """
    app = _App(title="ibticks", version=__version__, description=_DESCRIPTION)
    app.state.store = store
    app.state.broadcaster = Broadcaster(store)
    app.state.shared_streams = None
    if on_demand is not None:
        app.state.shared_streams = share_streams(store, app.state.broadcaster, on_demand)
    app.state.shared_results = SharedResults()
    app.state.request_metrics = RequestMetrics()
    app.include_router(historical)
    app.include_router(buffer)
    app.include_router(streams)
    app.include_router(remote)
    app.include_router(sockets)
    app.include_router(status)
    app.include_router(metrics)
    app.include_router(page)
    add_error_handlers(app)
    app.add_middleware(CompressMiddleware, minimum_size=_MIN_COMPRESSED_BYTES)
    if hosts is not None:
        app.add_middleware(HostCheck, hosts=hosts)
    app.add_middleware(RequestTimer, metrics=app.state.request_metrics)
    return app
