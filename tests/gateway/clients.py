"""Clients that talk to the gateway: a bare socket, and the official ibapi."""

from __future__ import annotations

# ruff: noqa: N802 -- ibapi names the callbacks
import socket
import threading
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ibapi.connection
from ibapi.client import EClient
from ibapi.comm import read_fields
from ibapi.contract import Contract
from ibapi.wrapper import EWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from ibticks.gateway import TickStream

TIMEOUT_SECONDS = 30.0
KINDS = {"last": "Last", "all_last": "AllLast", "bid_ask": "BidAsk", "mid_point": "MidPoint"}


def request(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return len(payload).to_bytes(4, "big") + payload


def contract_fields(
    con_id: int = 0, symbol: str = "", sec_type: str = "", exchange: str = "", currency: str = ""
) -> tuple[Any, ...]:
    return (con_id, symbol, sec_type, "", "0", "", "", exchange, "", currency, "", "")


class RawClient:
    """A raw client on a socket, which sends and returns bytes."""

    def __init__(
        self, port: int, *, versions: tuple[int, int] | None = (157, 200), client_id: int | None = 1
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.buffer = b""
        if versions is None:
            return
        self.socket.sendall(b"API\0" + _prefixed(b"v%d..%d" % versions))
        if client_id is not None:
            self.version, self.connected_at = self.fields()
            self.send(71, 2, client_id, "")

    def send(self, *fields: object) -> None:
        self.socket.sendall(request(*fields))

    def subscribe(
        self, req_id: int, con_id: int, kind: str = "BidAsk", *, past: int = 0, ignore_size: int = 0
    ) -> None:
        self.send(97, req_id, *contract_fields(con_id), kind, past, ignore_size)

    def history(
        self,
        req_id: int,
        con_id: int,
        what: str,
        *,
        start: str = "",
        end: str = "",
        count: int = 1000,
        rth: int = 0,
        ignore_size: int = 0,
    ) -> list[str]:
        self.send(
            96, req_id, *contract_fields(con_id), 0, start, end, count, what, rth, ignore_size, ""
        )
        return self.until("96", "97", "98", "4")

    def payload(self) -> bytes:
        """The next whole frame; EOFError where the line ends between two, or within one."""
        size = int.from_bytes(self._exactly(4), "big")
        return self._exactly(size)

    def fields(self) -> list[str]:
        payload = self.payload()
        assert payload.endswith(b"\0")
        return payload[:-1].decode().split("\0")

    def until(self, *kinds: str, notices: bool = False) -> list[str]:
        """The next message of one of these ids; farm notices are not errors."""
        while True:
            fields = self.fields()
            notice = fields[0] == "4" and fields[-4 if len(fields) == 6 else 3] in _NOTICES
            if fields[0] in kinds and (notices or not notice):
                return fields

    def error(self) -> tuple[int, int, str]:
        """The next error that is no notice: request id, code, text."""
        fields = self.until("4")
        at = 1 if int(self.version) >= 194 else 2
        return int(fields[at]), int(fields[at + 1]), fields[at + 2]

    def ticks(self, count: int) -> list[list[str]]:
        return [self.until("99") for _ in range(count)]

    def answers(self) -> bool:
        """Return whether the gateway answers, after it has processed all earlier messages."""
        self.send(49, 1)
        self.until("49")
        return True

    def quiet(self, seconds: float = 0.3) -> bool:
        """Return whether no message arrives within a time."""
        if self.buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            self.buffer = self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_SECONDS)
        return False

    def ended(self) -> bytes:
        """Return the bytes that come until the connection ends."""
        rest = self.buffer
        try:
            while data := self.socket.recv(65536):
                rest += data
        except ConnectionError:
            pass
        return rest

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data


_NOTICES = ("2104", "2106", "2158")


def _prefixed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


class Official(EWrapper, EClient):
    """The official client with a fixed reader, which records every callback."""

    def __init__(self, port: int, client_id: int = 10) -> None:
        EClient.__init__(self, self)
        self.recorded = threading.Condition()
        self.next_id: int | None = None
        self.accounts = ""
        self.errors: list[tuple[int, int, str]] = []
        self.ticks: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
        self.details: defaultdict[int, list[Any]] = defaultdict(list)
        self.past: dict[int, list[Any]] = {}
        self.times: list[int] = []
        self.closed = threading.Event()
        self.connect("127.0.0.1", port, client_id)
        self.runner = threading.Thread(target=self.run)
        self.runner.start()
        self.receiver = self.reader

    def wait(self, holds: Callable[..., Any]) -> None:
        with self.recorded:
            assert self.recorded.wait_for(holds, TIMEOUT_SECONDS), "the client got no such callback"

    def ready(self) -> Official:
        self.wait(lambda: self.next_id is not None)
        return self

    def leave(self) -> None:
        self.disconnect()
        self.runner.join(TIMEOUT_SECONDS)
        self.receiver.join(TIMEOUT_SECONDS)
        assert not self.runner.is_alive()
        assert not self.receiver.is_alive()

    def subscribe(self, req_id: int, con_id: int, tick_type: str) -> None:
        self.reqTickByTickData(req_id, contract(con_id), KINDS[tick_type], 0, False)

    def _note(self, note: Callable[[], None]) -> None:
        with self.recorded:
            note()
            self.recorded.notify_all()

    def nextValidId(self, order_id: Any) -> None:
        self._note(lambda: setattr(self, "next_id", order_id))

    def managedAccounts(self, accounts: Any) -> None:
        self._note(lambda: setattr(self, "accounts", accounts))

    def error(self, req_id: Any, at_ms: Any, code: Any, text: Any, reject: str = "") -> None:
        self._note(lambda: self.errors.append((req_id, code, text)))

    def connectionClosed(self) -> None:
        self.closed.set()

    def currentTime(self, time: Any) -> None:
        self._note(lambda: self.times.append(time))

    def currentTimeInMillis(self, millis: Any) -> None:
        self._note(lambda: self.times.append(millis))

    def contractDetails(self, req_id: Any, details: Any) -> None:
        self.details[req_id].append(details)

    def contractDetailsEnd(self, req_id: Any) -> None:
        self._note(lambda: self.details[req_id].append(None))

    def tickByTickAllLast(
        self,
        req_id: Any,
        kind: Any,
        time: Any,
        price: Any,
        size: Any,
        attributes: Any,
        exchange: Any,
        conditions: Any,
    ) -> None:
        self._tick(
            req_id,
            time,
            price,
            float(size),
            attributes.pastLimit,
            attributes.unreported,
            exchange,
            conditions,
        )

    def tickByTickBidAsk(
        self,
        req_id: Any,
        time: Any,
        bid: Any,
        ask: Any,
        bid_size: Any,
        ask_size: Any,
        attributes: Any,
    ) -> None:
        assert isinstance(bid_size, Decimal)
        self._tick(
            req_id,
            time,
            bid,
            ask,
            float(bid_size),
            float(ask_size),
            attributes.bidPastLow,
            attributes.askPastHigh,
        )

    def tickByTickMidPoint(self, req_id: Any, time: Any, mid: Any) -> None:
        self._tick(req_id, time, mid)

    def historicalTicks(self, req_id: Any, ticks: Any, done: Any) -> None:
        self._note(lambda: self.past.update({req_id: ticks}))

    def historicalTicksBidAsk(self, req_id: Any, ticks: Any, done: Any) -> None:
        self._note(lambda: self.past.update({req_id: ticks}))

    def historicalTicksLast(self, req_id: Any, ticks: Any, done: Any) -> None:
        self._note(lambda: self.past.update({req_id: ticks}))

    def _tick(self, req_id: int, *tick: float) -> None:
        self._note(lambda: self.ticks[req_id].append(tick))


def fix_reader(patch: pytest.MonkeyPatch) -> None:
    """Fix the reader of ibapi, which loses data when a burst ends at 4096 bytes."""
    patch.setattr(ibapi.connection.Connection, "_recvAllMsg", lambda self: self.socket.recv(65536))


def interpret(decoder: Any, version: int, payload: bytes) -> None:
    """Decode a message with ibapi's decoder."""
    if version < 201:
        number, _, body = payload.partition(b"\0")
        decoder.interpret(read_fields(body), int(number))
        return
    message_id, body = int.from_bytes(payload[:4], "big"), payload[4:]
    if message_id > 200:
        decoder.processProtoBuf(body, message_id - 200)
    else:
        decoder.interpret(read_fields(body), message_id)


def contract(con_id: int) -> Contract:
    made = Contract()
    made.conId = con_id
    made.exchange = "SMART"
    return made


def expected(stream: TickStream, first: int = 0, last: int | None = None) -> list[tuple[Any, ...]]:
    """The ticks of a stream in the form of :class:`Official`, from its columns."""
    part = stream.take(slice(first, last)).columns
    seconds = part.numbers("exchange_time").tolist()
    if stream.tick_type == "mid_point":
        return list(zip(seconds, part.numbers("mid_price").tolist(), strict=True))
    if stream.tick_type == "bid_ask":
        sides = ("bid_price", "ask_price", "bid_size", "ask_size", "bid_past_low", "ask_past_high")
        columns = [part.numbers(name).tolist() for name in sides]
        return list(zip(seconds, *columns, strict=True))
    names = ("price", "size", "past_limit", "unreported")
    columns = [part.numbers(name).tolist() for name in names]
    exchange, conditions = part.columns["exchange"], part.columns["conditions"]
    exchanges = [exchange.values[code] for code in exchange.codes.tolist()]
    combined = [
        " ".join(conditions.values[c] for c in conditions.codes[start:end])
        for start, end in zip(conditions.offsets[:-1], conditions.offsets[1:], strict=True)
    ]
    return list(zip(seconds, *columns, exchanges, combined, strict=True))
