"""The official ibapi client, made safe to record with.

Of ibapi it uses how to connect, ask and decode, and not its loops, which would lose ticks:

- its reader throws away what it has read: ours (:mod:`ibticks.tws`) does not;
- an exception in a callback, or a message it cannot read, ends its message loop, and what was read
  already goes with it: ours tells of the exception and goes on with the next message;
- ``connect()`` waits for a silent server for ever: ours for as long as it is told.

A connection is used once. For the next one a new client is made, since ibapi keeps messages of
the old one.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from ibapi.client import EClient
from ibapi.comm import read_fields
from ibapi.common import PROTOBUF_MSG_ID
from ibapi.contract import Contract
from ibapi.server_versions import MIN_SERVER_VER_PROTOBUF
from ibapi.wrapper import EWrapper

from ibticks.errors import ConnectionFailedError
from ibticks.tws._address import connection_advice
from ibticks.tws._transport import Line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

__all__ = ["Client", "Events", "contract_of"]

_log = logging.getLogger(__name__)
_DRAIN_SECONDS: Final = 60.0
_GOODBYE_SECONDS: Final = 1.0
_UNREACHABLE: Final = 502
_NOT_CONNECTED: Final = 504
_TICK_BY_TICK: Final = {
    "last": "Last",
    "all_last": "AllLast",
    "bid_ask": "BidAsk",
    "mid_point": "MidPoint",
}
_FARMS_ARE_FINE: Final = (2104, 2106, 2107, 2108, 2158)


class Events(Protocol):
    """Who is told what the server says; called in the client's thread, so: quickly."""

    def trade(
        self,
        request: int,
        time: int,
        price: float,
        size: Decimal,
        exchange: str,
        conditions: str,
        past_limit: bool,
        unreported: bool,
    ) -> None:
        """A tick of type last or all_last."""

    def quote(
        self,
        request: int,
        time: int,
        bid_price: float,
        bid_size: Decimal,
        ask_price: float,
        ask_size: Decimal,
        bid_past_low: bool,
        ask_past_high: bool,
    ) -> None:
        """A tick of type bid_ask."""

    def mid_point(self, request: int, time: int, mid_price: float) -> None:
        """A tick of type mid_point."""

    def history(self, request: int, ticks: Sequence[Any], done: bool) -> None:
        """A page of historical ticks."""

    def contract(self, request: int, details: Any) -> None:
        """One contract that fits a request."""

    def contracts_end(self, request: int) -> None:
        """No more contracts fit."""

    def message(self, request: int, code: int, text: str) -> None:
        """An error, or a note, of IB's; request -1: about the connection."""

    def alive(self) -> None:
        """The server said its time."""

    def closed(self) -> None:
        """The connection is over, and everything it brought has been handed over; told once."""

    def failed(self, where: str, error: Exception) -> None:
        """One of the above raised ``error``."""


class Client(EWrapper, EClient):  # type: ignore[misc]
    """One connection to TWS or IB Gateway.

    Parameters
    ----------
    events : Events
    """

    def __init__(self, events: Events) -> None:
        self._connection: Any = None
        self._line: Line | None = None
        self._patience = 0.0
        self._events = events
        self._ready = threading.Event()
        self._settled = threading.Event()  # it is ready, or never will be
        self._lost = threading.Event()
        self._ended = False
        self._refusal: tuple[int, str] | None = None
        self._loop: threading.Thread | None = None
        EWrapper.__init__(self)
        EClient.__init__(self, self)

    # -- what ibapi assigns to, and does, that must not be as it is --------------------------------

    @property
    def conn(self) -> Any:
        """Ibapi's connection."""
        return self._connection

    @conn.setter
    def conn(self, connection: Any) -> None:
        # EClient assigns a fresh Connection here when it connects.
        if connection is not None:
            self._line = Line(connection, self._patience)
            connection.connect = self._line.connect
            connection.recvMsg = self._line.receive
            if self._ended:
                self._line.hang_up()
        self._connection = connection

    def reset(self) -> None:
        """Begin anew: before the first connection, and never again.

        Afterwards it would forget what the last messages are to be read with.
        """
        if self._connection is None:
            super().reset()

    # -- beginning and ending ----------------------------------------------------------------------

    def open(self, host: str, port: int, client_id: int, timeout: float) -> None:
        """Connect, and wait until the server takes requests.

        Raises
        ------
        ConnectionFailedError
            If it cannot be reached, is silent, or refuses; ``context["code"]`` is IB's, or 502, or
            504 for a server that let us in and no more, and ``context["problem"]`` is the message
            without advice.
        """
        until = time.monotonic() + timeout
        self._patience = timeout
        where = f"{host}:{port}"
        try:
            self.connect(host, port, client_id)
        except Exception as error:
            self.shut()
            problem = f"{where} does not answer as TWS or IB Gateway do: {error!r}"
            raise _unreachable(problem, _UNREACHABLE, host, port, timeout) from error
        if self.reader is not None:  # it has greeted, and may be gone already
            self._loop = threading.Thread(target=self.run, name="ibticks-client", daemon=True)
            self._loop.start()
            self._settled.wait(max(until - time.monotonic(), 0.0))
        if not self._ready.is_set():
            alive, stopped = not self.lost, self._ended
            self.shut()
            code, text = self._why_not(timeout, alive=alive)
            if code in (_UNREACHABLE, _NOT_CONNECTED) and not stopped:
                problem = f"{where} cannot be used: {text} ({code})"
                raise _unreachable(problem, code, host, port, timeout)
            problem = f"{where} cannot be used with client id {client_id}: {text} ({code})"
            raise ConnectionFailedError(problem, code=code, problem=problem)

    def _why_not(self, timeout: float, *, alive: bool) -> tuple[int, str]:
        if self._refusal is not None and self._refusal[0] != _UNREACHABLE:
            return self._refusal
        if alive:
            return _NOT_CONNECTED, f"it let us in and was not ready within {timeout:g} s"
        problem = self._line.problem if self._line is not None else ""
        return _UNREACHABLE, problem or "it hung up"

    def hang_up(self) -> None:
        """End the connection soon, from any thread; what has arrived is still handed over."""
        self._ended = True
        if self._line is not None:
            self._line.hang_up()

    def shut(self) -> None:
        """End the connection; what the server sent until then is handed over before this returns.

        A server that does not end its side within a second is not waited for.
        """
        if self.reader is not None and self._line is not None and not self._ended:
            self._line.say_goodbye()
            self.reader.join(_GOODBYE_SECONDS)
        self.hang_up()
        for thread in (self.reader, self._loop):
            if thread is not None:
                thread.join(_DRAIN_SECONDS)
        self.disconnect()

    def run(self) -> None:
        """Hand over what the server says until the connection is over."""
        line = self._line
        assert line is not None
        try:
            for message in line.messages():
                if not self._take(message):
                    line.give_up(f"it sent garbage: {message[:32]!r}")
                    break
        finally:
            self.disconnect()
            self._settled.set()
            self._events.closed()

    def _take(self, message: bytes) -> bool:
        """Have a message decoded, which calls us back; False if it is none."""
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
            # Neither an exception of ours nor a message that cannot be read ends the loop; and none
            # goes unseen.
            _log.exception("a message could not be taken: %.500r", message)
            self._events.failed("message", error)
        return True

    @property
    def lost(self) -> bool:
        """Whether the connection is gone, though what it brought may still be handed over."""
        return self._lost.is_set() or not self.isConnected()

    @property
    def problem(self) -> str:
        """Why the connection is of no use any more, if it was not simply closed."""
        return "" if self._line is None else self._line.problem

    # -- what is asked -----------------------------------------------------------------------------

    def subscribe(self, request: int, contract: Contract, tick_type: str) -> None:
        """Ask for a stream of ticks."""
        self.reqTickByTickData(request, contract, _TICK_BY_TICK[tick_type], 0, False)

    def unsubscribe(self, request: int) -> None:
        """End a stream of ticks."""
        self.cancelTickByTickData(request)

    # -- what ibapi calls; the ticks first, as they come thousands of times a second ---------------

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
        self._events.trade(
            reqId,
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
        self._events.quote(
            reqId,
            time,
            bidPrice,
            bidSize,
            askPrice,
            askSize,
            tickAttribBidAsk.bidPastLow,
            tickAttribBidAsk.askPastHigh,
        )

    def tickByTickMidPoint(self, reqId: int, time: int, midPoint: float) -> None:  # noqa: N802, N803
        self._events.mid_point(reqId, time, midPoint)

    def nextValidId(self, orderId: int) -> None:  # noqa: N802, N803
        self._ready.set()
        self._settled.set()

    def connectionClosed(self) -> None:  # noqa: N802
        self._lost.set()

    def currentTime(self, time: int) -> None:  # noqa: N802
        self._events.alive()

    def contractDetails(self, reqId: int, contractDetails: Any) -> None:  # noqa: N802, N803
        self._events.contract(reqId, contractDetails)

    def contractDetailsEnd(self, reqId: int) -> None:  # noqa: N802, N803
        self._events.contracts_end(reqId)

    def historicalTicks(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: N802, N803
        self._events.history(reqId, ticks, done)

    def historicalTicksBidAsk(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: N802, N803
        self._events.history(reqId, ticks, done)

    def historicalTicksLast(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: N802, N803
        self._events.history(reqId, ticks, done)

    def error(self, reqId: int, *said: Any) -> None:  # noqa: N803
        # Before version 10.33 there is no time: (code, text[, advanced]).
        code, text = said[:2] if isinstance(said[1], str) else said[1:3]
        if not self._ready.is_set() and code not in _FARMS_ARE_FINE:
            self._refusal = (int(code), str(text))
        self._events.message(reqId, int(code), str(text))


def _unreachable(
    problem: str, code: int, host: str, port: int, timeout: float
) -> ConnectionFailedError:
    """Return the error of a server that is not there, with advice."""
    advice = connection_advice(host, port, timeout)
    return ConnectionFailedError(f"{problem}. {advice}", code=code, problem=problem)


def contract_of(contract_id: int, exchange: str) -> Contract:
    """What ibapi needs to know of a contract to stream its ticks."""
    contract = Contract()
    contract.conId = contract_id
    contract.exchange = exchange
    return contract
