"""The official ibapi client, made reliable enough to capture with.

It connects, sends requests and decodes messages as ibapi does. It replaces ibapi's two loops, which
lose ticks:

- the reader: :mod:`ibticks.tws._transport` keeps every byte it has read;
- the message loop: an exception in a callback, or a message that cannot be decoded, ends ibapi's
  loop and discards its queue; this one reports the exception and continues with the next message;
- ``connect()`` has a timeout;
- a server whose version ibapi does not know is sent nothing;
- a tick in Protocol Buffers without a time or a price, for which ibapi reads 0, is reported.

A client is used for one connection. The next connection needs a new client, since ibapi keeps
messages of the old one.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ibapi.client import EClient
from ibapi.comm import read_fields
from ibapi.common import PROTOBUF_MSG_ID
from ibapi.contract import Contract
from ibapi.server_versions import (
    MAX_CLIENT_VER,
    MIN_SERVER_VER_CONFIG,
    MIN_SERVER_VER_PROTOBUF,
)
from ibapi.wrapper import EWrapper

from ibticks.errors import ConnectionFailedError, FormatError
from ibticks.tws._schemas import message_class
from ibticks.tws._server_settings import ServerSettings, parse_settings
from ibticks.tws._transport import Transport, connection_advice

if TYPE_CHECKING:
    from decimal import Decimal

    from ibticks.tws._events import TwsEvents

__all__ = ["Client", "make_contract"]

_log = logging.getLogger(__name__)
_DRAIN_SECONDS: Final = 60.0
_SETTINGS_SECONDS: Final = 2.0
_SETTINGS_REQUEST_ID: Final = 2_000_000_000  # far from those of streams
_HALF_CLOSE_SECONDS: Final = 1.0
_UNREACHABLE: Final = 502
_NOT_CONNECTED: Final = 504
_TICK_BY_TICK: Final = {
    "last": "Last",
    "all_last": "AllLast",
    "bid_ask": "BidAsk",
    "mid_point": "MidPoint",
}
_BLOCKED: Final = (
    "Restart TWS or the Gateway, its API is blocked: it accepts connections and does not greet. "
    "Or another program listens on this port"
)
_OLD_SERVER: Final = "Install a current TWS or IB Gateway"
_OLD_CLIENT: Final = "Install a newer client: pip install -U ibapi-latest"
_OUT_OF_DATE: Final = 503
_MIN_SERVER_VERSION: Final = 157
_ADMITTED_SERVER_VERSION: Final = 194
"""That of TWS 10.33; since November 2025 IB admits TWS 10.37 and later."""
_REQUIRED_FIELDS: Final = {
    1: ("historicalTickLast", ("time", "price")),
    2: ("historicalTickLast", ("time", "price")),
    3: ("historicalTickBidAsk", ("time",)),
    4: ("historicalTickMidPoint", ("time", "price")),
}
"""By IB's number of the tick type. A quote may lack a side."""
_HARMLESS_CODES: Final = (2104, 2106, 2107, 2108, 2158)


class Client(EWrapper, EClient):  # type: ignore[misc]
    """One connection to TWS or IB Gateway.

    Parameters
    ----------
    events : TwsEvents
        Receiver of what the server sends.

    Attributes
    ----------
    server_settings : ServerSettings or None
        Settings of the server, once it is connected; mostly unknown below server version 219.
    """

    def __init__(self, events: TwsEvents) -> None:
        self._connection: Any = None
        self._transport: Transport | None = None
        self._timeout_seconds = 0.0
        self._events = events
        self._ready = threading.Event()
        self._decided = threading.Event()  # the server is ready, or never will be
        self._lost = threading.Event()
        self._has_settings = threading.Event()  # or will not get them
        self.server_settings: ServerSettings | None = None
        self._ended = False
        self._refusal: tuple[int, str] | None = None
        self._advice = ""  # what to do about a server that cannot be used, if it is known
        self._loop: threading.Thread | None = None
        EWrapper.__init__(self)
        EClient.__init__(self, self)

    # -- overrides of ibapi ------------------------------------------------------------------------

    @property
    def conn(self) -> Any:
        """The connection of ibapi."""
        return self._connection

    @conn.setter
    def conn(self, connection: Any) -> None:
        # EClient assigns a fresh Connection here when it connects.
        if connection is not None:
            self._transport = Transport(connection, self._timeout_seconds)
            connection.connect = self._transport.connect
            connection.recvMsg = self._transport.receive
            if self._ended:
                self._transport.hang_up()
        self._connection = connection

    def reset(self) -> None:
        """Reset the state of ibapi, before the first connection only.

        A later reset would drop the server version, which decodes the last messages.
        """
        if self._connection is None:
            super().reset()

    def startApi(self) -> None:  # noqa: N802
        """Start the API of a server whose version ibapi and ibticks know.

        A request in a layout that a TWS does not know can block its API until a restart.
        """
        version = self.serverVersion_
        if _MIN_SERVER_VERSION <= version <= MAX_CLIENT_VER:
            if version < _ADMITTED_SERVER_VERSION:
                _log.warning(
                    "server version %d is that of a TWS before 10.33: IB admits 10.37 and later, "
                    "install a current TWS or IB Gateway",
                    version,
                )
            super().startApi()
            return
        self._advice = _OLD_SERVER if version < _MIN_SERVER_VERSION else _OLD_CLIENT
        text = (
            f"it announces server version {version}, ibticks reads {_MIN_SERVER_VERSION} to "
            f"{MAX_CLIENT_VER}"
        )
        self._refusal = _OUT_OF_DATE, text
        assert self._transport is not None
        self._transport.hang_up()

    # -- connecting and closing --------------------------------------------------------------------

    def open(self, host: str, port: int, client_id: int, timeout: float) -> None:
        """Connect, and wait until the server is ready for requests.

        Raises
        ------
        ConnectionFailedError
            If the server cannot be reached, is silent, has a version that ibapi does not know, or
            refuses the client. ``context["code"]`` is IB's code, 502, 503 for the version, or 504
            for a server that accepts the connection and is not ready in time;
            ``context["problem"]`` is the message without advice.
        """
        deadline = time.monotonic() + timeout
        self._timeout_seconds = timeout
        where = f"{host}:{port}"
        try:
            self.connect(host, port, client_id)
        except Exception as error:
            self.close()
            problem = f"{where} does not answer as TWS or IB Gateway: {error!r}"
            raise _unreachable(problem, _UNREACHABLE, host, port, timeout) from error
        if self.reader is not None:  # the server has greeted, and may be gone already
            self._loop = threading.Thread(target=self.run, name="ibticks-client", daemon=True)
            self._loop.start()
            self._decided.wait(max(deadline - time.monotonic(), 0.0))
        if not self._ready.is_set():
            alive, stopped = not self.is_lost, self._ended
            self.close()
            code, text = self._refusal_reason(timeout, alive=alive)
            problem = f"{where} cannot be used: {text} ({code})"
            if code in (_UNREACHABLE, _NOT_CONNECTED, _OUT_OF_DATE) and not stopped:
                if self._transport is not None and self._transport.is_silent:
                    self._advice = _BLOCKED
                if self._advice:
                    text = f"{problem}. {self._advice}"
                    raise ConnectionFailedError(text, code=code, problem=problem)
                raise _unreachable(problem, code, host, port, timeout)
            problem = f"{where} cannot be used with client id {client_id}: {text} ({code})"
            raise ConnectionFailedError(problem, code=code, problem=problem)
        self._request_settings(max(deadline - time.monotonic(), 0.0))

    def _request_settings(self, timeout: float) -> None:
        """Request the settings of the server; they stay unknown if it does not answer soon."""
        version = int(self.serverVersion_)
        if self.server_settings is None:
            self.server_settings = ServerSettings(version)
        if version >= MIN_SERVER_VER_CONFIG:
            request = message_class("ConfigRequest")(reqId=_SETTINGS_REQUEST_ID)
            self.reqConfigProtoBuf(request)
            if not self._has_settings.wait(min(timeout, _SETTINGS_SECONDS)):
                _log.warning("TWS has not sent its settings: the unit of sizes is unknown")

    def configResponseProtoBuf(self, response: Any) -> None:  # noqa: N802
        """Take the settings of the server."""
        self.server_settings = parse_settings(int(self.serverVersion_), response)
        self._has_settings.set()

    def _refusal_reason(self, timeout: float, *, alive: bool) -> tuple[int, str]:
        # ibapi itself reports 504 where it writes to a connection that has ended.
        own_codes = (_UNREACHABLE, _NOT_CONNECTED)
        if self._refusal is not None and self._refusal[0] not in own_codes:
            return self._refusal
        if alive:
            return _NOT_CONNECTED, f"connected, but no nextValidId within {timeout:g} s"
        problem = self._transport.problem if self._transport is not None else ""
        if not problem and self.serverVersion_ is not None:
            version = self.serverVersion_
            problem = f"the server of version {version} greeted and closed the connection"
        return _UNREACHABLE, problem or "the server closed the connection"

    def hang_up(self) -> None:
        """End the connection soon, from any thread; received messages are still handed over."""
        self._ended = True
        if self._transport is not None:
            self._transport.hang_up()

    def close(self) -> None:
        """End the connection, and hand over what the server sent until then.

        The server has a second to end its side.
        """
        if self.reader is not None and self._transport is not None and not self._ended:
            self._transport.half_close()
            self.reader.join(_HALF_CLOSE_SECONDS)
        self.hang_up()
        for thread in (self.reader, self._loop):
            if thread is not None:
                thread.join(_DRAIN_SECONDS)
        self.disconnect()

    def run(self) -> None:
        """Decode messages until the connection ends; the body of the client's thread."""
        transport = self._transport
        assert transport is not None
        try:
            for message in transport.messages():
                if not self._dispatch(message):
                    transport.fail(f"the server sent garbage: {message[:32]!r}")
                    break
        finally:
            self.disconnect()
            self._decided.set()
            self._has_settings.set()
            self._events.closed()

    def _dispatch(self, message: bytes) -> bool:
        """Decode a message, which runs its callback; False if it is not a message."""
        if self.serverVersion_ >= MIN_SERVER_VER_PROTOBUF:
            number, body = int.from_bytes(message[:4], "big"), message[4:]
        else:
            digits, _, body = message.partition(b"\0")
            if not digits.isdigit():
                return False
            number = int(digits)
        try:
            if number > PROTOBUF_MSG_ID:
                self.decoder.processProtoBuf(body, number - PROTOBUF_MSG_ID)
            else:
                self.decoder.interpret(read_fields(body), number)
        except Exception as error:
            # Neither a callback that raises nor a message that cannot be decoded ends the loop.
            _log.exception("a message could not be processed: %.500r", message)
            self._events.callback_failed("message", error)
        return True

    @property
    def is_lost(self) -> bool:
        """Return whether the connection is gone; its last messages may not be decoded yet."""
        return self._lost.is_set() or not self.isConnected()

    @property
    def problem(self) -> str:
        """Why the connection cannot be used any more; empty where it was closed."""
        return "" if self._transport is None else self._transport.problem

    # -- requests ----------------------------------------------------------------------------------

    def subscribe(self, request: int, contract: Contract, tick_type: str) -> None:
        """Request a stream of ticks."""
        self.reqTickByTickData(request, contract, _TICK_BY_TICK[tick_type], 0, False)

    def unsubscribe(self, request: int) -> None:
        """Cancel a stream of ticks."""
        self.cancelTickByTickData(request)

    # -- callbacks of ibapi; ticks first, as they come thousands of times a second -----------------

    def tickByTickDataProtoBuf(self, message: Any) -> None:  # noqa: N802
        """Refuse a tick without what every tick has; ibapi would read 0 for it, or skip it."""
        name, required = _REQUIRED_FIELDS.get(message.tickType, ("", ()))
        if not (name and message.HasField("reqId") and message.HasField(name)):
            raise FormatError("a tick without its request, its tick type or its values")
        tick = getattr(message, name)
        for field in required:
            if not tick.HasField(field):
                raise FormatError(f"a tick of request {message.reqId} without its {field}")

    def tickByTickAllLast(  # noqa: N802
        self,
        reqId: int,  # noqa: N803
        tickType: int,  # noqa: N803
        time: int,
        price: float,
        size: Decimal,
        tickAttribLast: Any,  # noqa: N803
        exchange: str,
        specialConditions: str,  # noqa: N803
    ) -> None:
        self._events.ticks(reqId).trade(
            time,
            price,
            size,
            exchange,
            specialConditions,
            tickAttribLast.pastLimit,
            tickAttribLast.unreported,
        )

    def tickByTickBidAsk(  # noqa: N802
        self,
        reqId: int,  # noqa: N803
        time: int,
        bidPrice: float,  # noqa: N803
        askPrice: float,  # noqa: N803
        bidSize: Decimal,  # noqa: N803
        askSize: Decimal,  # noqa: N803
        tickAttribBidAsk: Any,  # noqa: N803
    ) -> None:
        self._events.ticks(reqId).quote(
            time,
            bidPrice,
            bidSize,
            askPrice,
            askSize,
            tickAttribBidAsk.bidPastLow,
            tickAttribBidAsk.askPastHigh,
        )

    def tickByTickMidPoint(self, reqId: int, time: int, midPoint: float) -> None:  # noqa: N802, N803
        self._events.ticks(reqId).mid_point(time, midPoint)

    def nextValidId(self, orderId: int) -> None:  # noqa: N802, N803
        self._ready.set()
        self._decided.set()

    def connectionClosed(self) -> None:  # noqa: N802
        self._lost.set()

    def currentTime(self, time: int) -> None:  # noqa: N802
        self._events.current_time()

    def contractDetails(self, reqId: int, contractDetails: Any) -> None:  # noqa: N802, N803
        self._events.contract_details(reqId, contractDetails)

    def contractDetailsEnd(self, reqId: int) -> None:  # noqa: N802, N803
        self._events.contract_details_end(reqId)

    def historicalTicks(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: N802, N803
        self._events.historical_ticks(reqId, ticks, done)

    def historicalTicksBidAsk(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: N802, N803
        self._events.historical_ticks(reqId, ticks, done)

    def historicalTicksLast(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: N802, N803
        self._events.historical_ticks(reqId, ticks, done)

    def error(self, reqId: int, *arguments: Any) -> None:  # noqa: N803
        # Before version 10.33 there is no time: (code, text[, advanced]).
        code, text = arguments[:2] if isinstance(arguments[1], str) else arguments[1:3]
        if not self._ready.is_set() and code not in _HARMLESS_CODES:
            self._refusal = (int(code), str(text))
        if reqId == _SETTINGS_REQUEST_ID:
            _log.warning("TWS does not send its settings: %s (%d)", text, code)
            self._has_settings.set()
            return
        self._events.message(reqId, int(code), str(text))


def _unreachable(
    problem: str, code: int, host: str, port: int, timeout: float
) -> ConnectionFailedError:
    """Return the error of a server that cannot be reached, with advice."""
    advice = connection_advice(host, port, timeout)
    return ConnectionFailedError(f"{problem}. {advice}", code=code, problem=problem)


def make_contract(contract_id: int, exchange: str) -> Contract:
    """Return the contract of ibapi that requests ticks or details by contract id."""
    contract = Contract()
    contract.conId = contract_id
    contract.exchange = exchange
    return contract
