"""The official ibapi client, made safe to record with.

Three things of it would lose ticks, and are cured here:

- its socket loop goes on reading as long as a read fills 4096 bytes, and when nothing follows
  within a second it throws all of them away: ours reads once, as much as there is;
- an exception in a callback ends its message loop: ours are caught, told and counted;
- ``connect()`` waits for a silent server for ever: it runs in a thread that is watched.

A connection is used once. For the next one a new client is made, since ibapi keeps messages of
the old one.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.wrapper import EWrapper

from ibticks.errors import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

__all__ = ["Client", "Events", "contract_of"]

_log = logging.getLogger(__name__)
_READ_BYTES: Final = 65536
_DRAIN_SECONDS: Final = 60.0
_TICK_BY_TICK: Final = {
    "last": "Last",
    "all_last": "AllLast",
    "bid_ask": "BidAsk",
    "mid_point": "MidPoint",
}


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
        """The connection is over; told once."""

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
        self._events = events
        self._ready = threading.Event()
        self._lost = threading.Event()
        self._refusal: tuple[int, str] | None = None
        self._loop: threading.Thread | None = None
        EWrapper.__init__(self)
        EClient.__init__(self, self)

    @property
    def conn(self) -> Any:
        """Ibapi's connection."""
        return self._connection

    @conn.setter
    def conn(self, connection: Any) -> None:
        # EClient assigns a fresh Connection here each time it connects.
        if connection is not None:

            def receive() -> bytes:
                socket = connection.socket
                return b"" if socket is None else socket.recv(_READ_BYTES)

            connection._recvAllMsg = receive
        self._connection = connection

    def open(self, host: str, port: int, client_id: int, timeout: float) -> None:
        """Connect, and wait until the server takes requests.

        Raises
        ------
        ConnectionFailedError
            If it cannot be reached, is silent, or refuses; ``context["code"]`` is IB's, or 502.
        """
        connecting = threading.Thread(
            target=self.connect, args=(host, port, client_id), name="ibticks-connect", daemon=True
        )
        connecting.start()
        connecting.join(timeout)
        where = f"{host}:{port}"
        if connecting.is_alive():
            self.shut()
            raise ConnectionFailedError(
                f"{where} took the connection but said nothing for {timeout:g} s; is it TWS or IB "
                "Gateway, with API connections enabled?",
                code=504,
            )
        if self.isConnected():
            self._loop = threading.Thread(target=self._run, name="ibticks-client", daemon=True)
            self._loop.start()
            self._wait(timeout)
        if not self._ready.is_set():
            code, text = self._refusal or (502, "nobody answers there, or it hung up")
            self.shut()
            raise ConnectionFailedError(
                f"{where} cannot be used with client id {client_id}: {text} ({code})", code=code
            )

    def _wait(self, timeout: float) -> None:
        waited = 0.0
        while waited < timeout and not self._ready.wait(0.05) and not self._lost.is_set():
            waited += 0.05

    def shut(self) -> None:
        """End the connection; what was read before is still handed over."""
        connection = self._connection
        if connection is not None and connection.socket is not None:
            self.disconnect()
        if self._loop is not None and self._loop is not threading.current_thread():
            self._loop.join(_DRAIN_SECONDS)

    def _run(self) -> None:
        try:
            self.run()
        except Exception as error:
            self._guard("message loop", self._events.failed, "message loop", error)
        finally:
            # What was read before the connection was lost has been handed over by now.
            self._guard("closed", self._events.closed)

    @property
    def lost(self) -> bool:
        """Whether the connection is gone, though what it brought may still be handed over."""
        return self._lost.is_set() or not self.isConnected()

    def subscribe(self, request: int, contract: Contract, tick_type: str) -> None:
        """Ask for a stream of ticks."""
        self.reqTickByTickData(request, contract, _TICK_BY_TICK[tick_type], 0, False)

    def unsubscribe(self, request: int) -> None:
        """End a stream of ticks."""
        self.cancelTickByTickData(request)

    def _guard(self, where: str, call: Callable[..., None], *arguments: Any) -> None:
        """Let no exception of ours end ibapi's loop, and none go unseen."""
        try:
            call(*arguments)
        except Exception as error:
            _log.exception("a callback failed: %s", where)
            self._events.failed(where, error)

    # What ibapi calls. The ticks first: they come thousands of times a second.

    def tickByTickAllLast(  # noqa: D102, N802
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
        try:
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
        except Exception as error:
            _log.exception("a trade could not be taken")
            self._events.failed("trade", error)

    def tickByTickBidAsk(  # noqa: D102, N802
        self,
        reqId: int,  # noqa: N803
        time: int,
        bidPrice: float,  # noqa: N803
        askPrice: float,  # noqa: N803
        bidSize: Decimal,  # noqa: N803
        askSize: Decimal,  # noqa: N803
        tickAttribBidAsk: Any,  # noqa: N803
    ) -> None:
        try:
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
        except Exception as error:
            _log.exception("a quote could not be taken")
            self._events.failed("quote", error)

    def tickByTickMidPoint(self, reqId: int, time: int, midPoint: float) -> None:  # noqa: D102, N802, N803
        self._guard("mid_point", self._events.mid_point, reqId, time, midPoint)

    def nextValidId(self, orderId: int) -> None:  # noqa: D102, N802, N803
        self._ready.set()

    def connectionClosed(self) -> None:  # noqa: D102, N802
        self._lost.set()

    def currentTime(self, time: int) -> None:  # noqa: D102, N802
        self._guard("alive", self._events.alive)

    def contractDetails(self, reqId: int, contractDetails: Any) -> None:  # noqa: D102, N802, N803
        self._guard("contract", self._events.contract, reqId, contractDetails)

    def contractDetailsEnd(self, reqId: int) -> None:  # noqa: D102, N802, N803
        self._guard("contracts_end", self._events.contracts_end, reqId)

    def historicalTicks(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: D102, N802, N803
        self._guard("history", self._events.history, reqId, ticks, done)

    def historicalTicksBidAsk(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: D102, N802, N803
        self._guard("history", self._events.history, reqId, ticks, done)

    def historicalTicksLast(self, reqId: int, ticks: Any, done: bool) -> None:  # noqa: D102, N802, N803
        self._guard("history", self._events.history, reqId, ticks, done)

    def error(self, reqId: int, *said: Any) -> None:  # noqa: D102, N803
        # Before version 10.33 there is no time: (code, text[, advanced]).
        code, text = said[:2] if isinstance(said[1], str) else said[1:3]
        if not self._ready.is_set() and code not in (2104, 2106, 2108, 2158):
            self._refusal = (int(code), str(text))
        self._guard("message", self._events.message, reqId, int(code), str(text))


def contract_of(contract_id: int, exchange: str) -> Contract:
    """What ibapi needs to know of a contract to stream its ticks."""
    contract = Contract()
    contract.conId = contract_id
    contract.exchange = exchange
    return contract
