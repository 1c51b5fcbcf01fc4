"""Errors as v2 messages, with their HTTP statuses and the standard codes of the v2 protocol."""

from __future__ import annotations

import json
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketState

from ibticks.calendar import format_ns, now_ns
from ibticks.errors import (
    AmbiguousContractError,
    IndexUnavailableError,
    InputError,
    LostPositionError,
    NoSessionError,
    TickError,
    UnknownContractError,
    UnknownTickTypeError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import HTTPConnection

__all__ = [
    "ERROR_HEADER",
    "ERROR_RESPONSES",
    "ErrorKind",
    "add_error_handlers",
    "error_data",
    "error_response",
    "explain_error",
    "refuse_socket",
]

_log = logging.getLogger(__name__)


class ErrorKind(NamedTuple):
    """The HTTP status, the code of the v2 protocol, and whether a client may try again."""

    status: int
    code: str
    recoverable: bool = False


ERROR_HEADER: Final = "X-Ticks-Error"
"""Header with the class of an error, from which a remote store makes the same error."""

_CLOSE_CODES: Final = 4000
_INTERNAL: Final = ErrorKind(500, "INTERNAL_ERROR")
_INVALID: Final = ErrorKind(400, "INVALID_REQUEST")
# The first class that fits counts.
_KINDS: Final[tuple[tuple[type[TickError], ErrorKind], ...]] = (
    (UnknownContractError, ErrorKind(404, "CONTRACT_NOT_FOUND")),
    (AmbiguousContractError, ErrorKind(400, "CONTRACT_AMBIGUOUS")),
    (NoSessionError, ErrorKind(404, "SESSION_NOT_FOUND")),
    (UnknownTickTypeError, ErrorKind(400, "INVALID_TICK_TYPE")),
    (LostPositionError, ErrorKind(409, "POSITION_LOST", recoverable=True)),
    (InputError, _INVALID),
    (IndexUnavailableError, ErrorKind(503, "CONNECTION_ERROR", recoverable=True)),
    (TickError, _INTERNAL),
)
_STATUS_CODES: Final = {
    403: ErrorKind(403, "PERMISSION_DENIED"),
    404: ErrorKind(404, "NOT_FOUND"),
    405: ErrorKind(405, "METHOD_NOT_ALLOWED"),
}


def _example(kind: ErrorKind, message: str) -> dict[str, Any]:
    return {
        "type": "error",
        "stream_id": "8314_last",
        "timestamp": "2025-01-10T14:30:00.123456Z",
        "data": {
            "code": kind.code,
            "message": message,
            "recoverable": kind.recoverable,
            "details": {},
        },
    }


def _documented(kind: ErrorKind, description: str, message: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ErrorMessage"}
    content = {"schema": schema, "example": _example(kind, message)}
    return {"description": description, "content": {"application/json": content}}


ERROR_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    400: _documented(
        ErrorKind(400, "INVALID_TICK_TYPE"),
        "A parameter is wrong; the message says what to give instead.",
        "unknown tick type 'trades': use one of last, all_last, bid_ask, mid_point",
    ),
    404: _documented(
        ErrorKind(404, "CONTRACT_NOT_FOUND"),
        "The store has no such contract, or the market no such session.",
        "no contract 8315 in this store; it has IBM (8314, STK, SMART, USD)",
    ),
    503: _documented(
        ErrorKind(503, "CONNECTION_ERROR", recoverable=True),
        "The server of the index cannot be reached.",
        "the index cannot be reached; try again",
    ),
}
"""Documentation of the errors that every route of ticks has."""


def explain_error(error: Exception) -> tuple[ErrorKind, str, dict[str, Any]]:
    """Return the kind of an error, its message for a client, and its details.

    The message of an error that is not the client's has no path and no DSN: it has a reference, and
    the log of the service has the error under the same reference.

    Parameters
    ----------
    error : Exception

    Examples
    --------
    >>> from ibticks.errors import UnknownPeriodError
    >>> kind, message, _ = explain_error(UnknownPeriodError("period 'x' is not known"))
    >>> kind.status, kind.code, message
    (400, 'INVALID_REQUEST', "period 'x' is not known")
    """
    kind = next((kind for known, kind in _KINDS if isinstance(error, known)), _INTERNAL)
    if isinstance(error, InputError):
        return kind, str(error), error.context
    reference = secrets.token_hex(4)
    _log.error("request failed, reference %s", reference, exc_info=error)
    what = (
        "the index cannot be reached; try again"
        if kind.code == "CONNECTION_ERROR"
        else "the request failed in the service"
    )
    message = f"{what} (the log of the service has the error under the reference {reference})"
    return kind, message, {"reference": reference, "error": type(error).__name__}


def error_response(
    request: Request, kind: ErrorKind, message: str, details: Mapping[str, Any]
) -> Response:
    """Return the response of an error: one v2 message as JSON."""
    text = _error_text(request, kind, message, details)
    return Response(text, kind.status, {"Cache-Control": "no-store"}, "application/json")


def _error_text(
    connection: HTTPConnection, kind: ErrorKind, message: str, details: Mapping[str, Any]
) -> str:
    body = {
        "type": "error",
        "stream_id": _stream_id(connection),
        "timestamp": format_ns(now_ns()),
        "data": error_data(kind, message, details),
    }
    return json.dumps(body, default=str)  # dates and sessions


def error_data(kind: ErrorKind, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``data`` of a v2 error message."""
    return {
        "code": kind.code,
        "message": message,
        "recoverable": kind.recoverable,
        "details": dict(details),
    }


async def refuse_socket(
    socket: WebSocket, kind: ErrorKind, message: str, details: Mapping[str, Any]
) -> None:
    """Send an error over a WebSocket and close it, with 4000 and the HTTP status as the code."""
    if socket.application_state is WebSocketState.CONNECTING:
        await socket.accept()
    await socket.send_text(_error_text(socket, kind, message, details))
    await socket.close(_CLOSE_CODES + kind.status)


def _stream_id(connection: HTTPConnection) -> str:
    """Return contract and tick type of a request as it gives them, in the form of a stream id."""
    contract = connection.path_params.get("contract_id")
    if contract is None:
        return ""
    query = connection.query_params
    tick_types = query.get("tick_type") or query.get("tick_types") or "bid_ask"
    return f"{contract}_{'multi' if ',' in tick_types else tick_types}"


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of an application with a v2 error message."""

    async def on_error(request: HTTPConnection, error: Exception) -> Response | None:
        if isinstance(request, WebSocket):
            await refuse_socket(request, *explain_error(error))
            return None
        assert isinstance(request, Request)
        response = error_response(request, *explain_error(error))
        if isinstance(error, TickError):
            response.headers[ERROR_HEADER] = type(error).__name__
        return response

    async def on_invalid(request: HTTPConnection, error: Exception) -> Response | None:
        assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
        problems = error.errors()
        message = "; ".join(
            f"{problem['loc'][-1]}={problem.get('input')!r}: {problem['msg']}"
            if problem["type"] != "missing"
            else f"{problem['loc'][-1]} is missing"
            for problem in problems
        )
        names = [str(problem["loc"][-1]) for problem in problems]
        if isinstance(request, WebSocket):
            await refuse_socket(request, _INVALID, message, {"parameters": names})
            return None
        assert isinstance(request, Request)
        return error_response(request, _INVALID, message, {"parameters": names})

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = _STATUS_CODES.get(error.status_code, ErrorKind(error.status_code, "INVALID_REQUEST"))
        where = f"{request.method} {request.url.path}"
        response = error_response(request, kind, f"{where}: {error.detail}", {})
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(TickError, on_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(WebSocketRequestValidationError, on_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_error)  # type: ignore[arg-type]
