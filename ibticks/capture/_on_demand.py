"""Streams on demand: ticks of one contract as messages, until enough have come.

::

    with stream_ticks(265598, "last", limit=100) as stream:
        for message in stream:
            ...

The first message is an ``info`` (subscribed), the last one a ``complete`` that says why it ended.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture._message_recorder import StreamRecord
from ibticks.capture._messages import (
    complete_message,
    error_message,
    info_message,
    mid_point_data,
    quote_data,
    tick_message,
    trade_data,
)
from ibticks.capture._settings import ON_DEMAND_CLIENT
from ibticks.coverage import StreamStatus
from ibticks.errors import InputError, MissingExtraError, StorageError
from ibticks.index import ContractRecord
from ibticks.schema import check_contract_id, check_tick_type
from ibticks.tws import Action, gateway_address, meaning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal
    from types import TracebackType
    from typing import Self

    from ibticks.store import Store
    from ibticks.tws import Client

__all__ = ["OnDemandStream", "stream_ticks"]

_log = logging.getLogger(__name__)
_DETAILS: Final = 50_000
_FIRST_REQUEST: Final = 50_001
_DETAILS_SECONDS: Final = 10.0
_MOST_WAITING: Final = 10_000
_NOT_CONNECTED: Final = 504


def stream_ticks(
    contract_id: int,
    tick_type: str,
    *,
    host: str | None = None,
    port: int | None = None,
    client_id: int = ON_DEMAND_CLIENT,
    limit: int | None = None,
    timeout_seconds: float | None = None,
    store: Store | None = None,
    connect_timeout: float = 15.0,
) -> OnDemandStream:
    """Subscribe to the ticks of a contract.

    Parameters
    ----------
    contract_id : int
        IB's conId.
    tick_type : str
        ``last``, ``all_last``, ``bid_ask`` or ``mid_point``.
    host, port : optional
        Of TWS or IB Gateway; by default what ``IBTICKS_GATEWAY`` says, or ``127.0.0.1:4002``.
    client_id : int
        One that no other connection uses.
    limit : int, optional
        End after so many ticks.
    timeout_seconds : float, optional
        End after so many seconds.
    store : Store, optional
        Record the stream, too: every message is stored before it is handed out.
    connect_timeout : float
        Seconds the connection may take.

    Returns
    -------
    OnDemandStream
        To be iterated over, once; close it, or use it in a ``with`` statement.

    Raises
    ------
    ConnectionFailedError
        If IB cannot be reached, or refuses the client id.
    WriterLockedError
        If the stream is to be recorded, and a capture has it; names by whom.
    UnknownTickTypeError, InputError
        If there is no such tick type, or no contract can have that id, or limit and timeout let
        nothing through.
    MissingExtraError
        If ibapi is not installed.
    """
    check_contract_id(contract_id)
    check_tick_type(tick_type)
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: give 1 or more, or leave it out")
    if timeout_seconds is not None and not 0 < timeout_seconds < threading.TIMEOUT_MAX:
        raise InputError(f"timeout_seconds={timeout_seconds}: give more than 0, or leave it out")
    try:
        from ibticks.tws import Client
    except ImportError as error:
        if error.name is None or not error.name.startswith("ibapi"):
            raise
        raise MissingExtraError(
            "a stream needs the official client: pip install 'ibticks[capture]'"
        ) from error
    run = f"stream-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
    record = None if store is None else StreamRecord(store, contract_id, tick_type, run)
    listener = _Listener(contract_id, tick_type, run, limit, timeout_seconds, record)
    there = gateway_address()
    client = listener.client = Client(listener)
    try:
        client.open(host or there[0], port or there[1], client_id, connect_timeout)
        listener.begin(client)
    except BaseException:
        listener.give_up()
        raise
    return OnDemandStream(listener)


class OnDemandStream:
    """The messages of one stream, as v2 JSON dictionaries; made by :func:`stream_ticks`.

    An iterator and a context manager. Nothing is dropped: who reads slowly slows the gateway down.
    """

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._over = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._over:
            raise StopIteration
        message = self._listener.next_message()
        self._over = message["type"] == "complete"
        return message

    def close(self) -> None:
        """End it, if it has not ended; what has come is still handed out, and ``complete``."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        listener = getattr(self, "_listener", None)
        if listener is not None:
            listener.close()


class _Listener:
    """What the client tells (its Events), turned into messages that wait to be read."""

    def __init__(
        self,
        contract_id: int,
        tick_type: str,
        run: str,
        limit: int | None,
        timeout_seconds: float | None,
        record: StreamRecord | None,
    ) -> None:
        self._stream = contract_id, tick_type
        self._run = run
        self._id = f"{contract_id}_{tick_type}_{run}"
        self._limit = limit
        self._timeout = timeout_seconds
        self._record = record
        self.client: Client | None = None
        self._contract: ContractRecord | None = None
        self._described = threading.Event()
        self._request = _FIRST_REQUEST - 1
        self._begun = False
        self._subscribed = False
        self._broken = False
        self._ticks = 0
        self._ticks_resubscribed = -1  # how many had come when it was last subscribed anew
        self._sequence = 0 if record is None else record.last_sequence
        self._began = self._ended = time.monotonic()
        self._deadline: float | None = None
        self._reason = ""  # why it ended, once it has
        self._complete: dict[str, Any] | None = None
        self._waiting: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()  # of what waits, and of the two around it
        self._closing = False
        # Held while a message is taken: what comes after the end comes too late.
        self._lock = threading.RLock()
        self._finishing = threading.Lock()

    # -- beginning and ending ----------------------------------------------------------------------

    def begin(self, client: Client) -> None:
        """Have the contract described, and subscribe."""
        from ibticks.tws import contract_of

        self._begun = True
        if client.lost:
            self.closed()
        client.reqContractDetails(_DETAILS, contract_of(self._stream[0], ""))
        if not self._described.wait(_DETAILS_SECONDS):
            _log.warning(
                "IB does not describe contract %d; it is tried with SMART", self._stream[0]
            )
        self._began = self._ended = time.monotonic()
        if self._timeout is not None:
            self._deadline = self._began + self._timeout
        self._subscribe()

    def _subscribe(self) -> None:
        from ibticks.tws import contract_of

        client, contract = self.client, self._contract
        with self._lock:
            if self._reason or client is None:
                return
            self._request += 1
            self._subscribed = True
            self._note(StreamStatus.SUBSCRIBED, "subscribed")
        exchange = contract.exchange if contract is not None and contract.exchange else "SMART"
        client.subscribe(self._request, contract_of(self._stream[0], exchange), self._stream[1])

    def end(self, reason: str) -> None:
        """No more ticks: the first reason counts."""
        with self._lock:
            if self._reason:
                return
            with self._changed:
                self._reason, self._ended = reason, time.monotonic()
                self._changed.notify_all()

    def give_up(self) -> None:
        """It never began: let go of everything, and leave nothing."""
        self.end("error")
        if self.client is not None:
            self.client.shut()
        if self._record is not None:
            self._record.abandon()

    def close(self) -> None:
        """End, from any thread, and let go of everything."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.end("cancelled")
        self.finish()

    def finish(self) -> dict[str, Any]:
        """Let go of the connection and the files; the last message."""
        with self._finishing:
            if self._complete is None:
                self._unsubscribe()
                if self.client is not None:
                    self.client.shut()
                self._complete = complete_message(
                    self._id,
                    self._run,
                    reason=self._reason,
                    total_ticks=self._ticks,
                    duration_seconds=self._ended - self._began,
                    final_sequence=self._sequence if self._ticks else None,
                )
                if self._record is not None:
                    self._record.close(self._complete)
            return self._complete

    def _unsubscribe(self) -> None:
        if self._subscribed and self.client is not None and not self.client.lost:
            self.client.unsubscribe(self._request)
        self._subscribed = False

    def next_message(self) -> dict[str, Any]:
        """The next message, the last of which is ``complete``."""
        with self._changed:
            while not self._waiting and not self._reason:
                left = None if self._deadline is None else self._deadline - time.monotonic()
                if not self._changed.wait(left) and self._is_late():
                    break
            if self._waiting:
                message = self._waiting.popleft()
                self._changed.notify_all()
                return message
        if not self._reason:
            self.end("timeout")
            return self.next_message()
        return self.finish()

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    # -- messages, with the lock held --------------------------------------------------------------

    def _put(self, message: dict[str, Any], status: StreamStatus | None = None) -> None:
        if self._record is not None:
            self._record.write(message, status)
        self._hand_over(message)

    def _hand_over(self, message: dict[str, Any]) -> None:
        with self._changed:
            # A reader that is slow slows the gateway down, too: nothing more is read from the line.
            self._changed.wait_for(lambda: self._closing or len(self._waiting) < _MOST_WAITING)
            self._waiting.append(message)
            self._changed.notify_all()

    def _note(self, status: StreamStatus, reason: str, code: int | None = None) -> None:
        config: dict[str, Any] = {"tick_type": self._stream[1]}
        if self._limit is not None:
            config["limit"] = self._limit
        if self._timeout is not None:
            config["timeout_seconds"] = max(1, round(self._timeout))
        message = info_message(
            self._id,
            self._run,
            status,
            reason,
            code,
            at_ns=None if self._record is None else self._record.after(time.time_ns()),
            contract=self._contract if status is StreamStatus.SUBSCRIBED else None,
            config=config if status is StreamStatus.SUBSCRIBED else None,
        )
        self._put(message, status)

    def _tick(self, event: int, data: dict[str, Any]) -> None:
        with self._lock:
            if self._reason:
                return
            if self._is_late():
                self.end("timeout")
                return
            message = tick_message(self._id, *self._stream, self._sequence + 1, event, data)
            try:
                self._put(message)
            except StorageError as error:
                self._fail(0, str(error), "error", recoverable=False)
                return
            self._ticks += 1
            self._sequence += 1
            if self._ticks == self._limit:
                self.end("limit_reached")
                self._unsubscribe()

    def _fail(self, code: int, text: str, reason: str, *, recoverable: bool) -> None:
        """Tell an error, after which nothing comes."""
        with self._lock:
            # Why there is no connection at all, its maker tells.
            if self._begun and not self._reason:
                message = error_message(self._id, self._run, code, text, recoverable=recoverable)
                try:
                    self._put(message)
                except StorageError:
                    _log.exception("%s: this cannot be stored: %s", self._id, text)
                    self._hand_over(message)
                self.end(reason)
        self._described.set()

    # -- the client's side (Events), in its thread -------------------------------------------------

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
        """A trade."""
        if request == self._request:
            self._tick(time, trade_data(price, size, exchange, conditions, past_limit, unreported))

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
        """A quote."""
        if request == self._request:
            self._tick(
                time,
                quote_data(bid_price, bid_size, ask_price, ask_size, bid_past_low, ask_past_high),
            )

    def mid_point(self, request: int, time: int, mid_price: float) -> None:
        """A mid point."""
        if request == self._request:
            self._tick(time, mid_point_data(mid_price))

    def contract(self, request: int, details: Any) -> None:
        """What IB says of the contract."""
        said = details.contract
        if said.conId == self._stream[0]:
            self._contract = ContractRecord(
                said.conId,
                said.symbol,
                said.exchange or said.primaryExchange,
                said.currency,
                said.secType,
            )
            if self._record is not None:
                self._record.describe(self._contract)

    def contracts_end(self, request: int) -> None:
        """It has said it all."""
        self._described.set()

    def message(self, request: int, code: int, text: str) -> None:
        """An error or a note of IB's."""
        action = meaning(code, text).action
        if action is Action.NOTE or (request == _DETAILS and action is not Action.GIVE_UP):
            _log.info("IB %d (%d): %s", code, request, text)
            if request == _DETAILS:
                self._described.set()
        elif action is Action.RESUBSCRIBE and self._may_resubscribe(request):
            self._turn(StreamStatus.DISCONNECTED, text, code, broken=False)
            self._unsubscribe()
            self._subscribe()
        elif request in (_DETAILS, self._request):
            self._fail(code, text, "error", recoverable=action is not Action.GIVE_UP)
        elif request == -1:
            self._on_line(action, code, text)

    def _may_resubscribe(self, request: int) -> bool:
        """Whether a request is that of the ticks, and some have come since it was made."""
        if request != self._request or self._ticks == self._ticks_resubscribed:
            return False
        self._ticks_resubscribed = self._ticks
        return True

    def _on_line(self, action: Action, code: int, text: str) -> None:
        """Something about the connection."""
        match action:
            case Action.BROKEN:
                self._turn(StreamStatus.DISCONNECTED, text, code, broken=True)
            case Action.RESTORED if self._broken:
                self._turn(StreamStatus.RESTORED, text, code, broken=False)
            case Action.RESUBSCRIBE_ALL:
                self._turn(StreamStatus.DISCONNECTED, text, code, broken=False)
                self._subscribe()
            case Action.RECONNECT:
                self._fail(code, text, "disconnected", recoverable=True)
            case _:
                _log.info("IB %d: %s", code, text)

    def _turn(self, status: StreamStatus, text: str, code: int, *, broken: bool) -> None:
        with self._lock:
            self._broken = broken
            if not self._reason:
                self._note(status, text, code)

    def closed(self) -> None:
        """The connection is over."""
        problem = "" if self.client is None else self.client.problem
        self._fail(
            _NOT_CONNECTED,
            problem or "the connection was closed",
            "disconnected",
            recoverable=True,
        )

    def failed(self, where: str, error: Exception) -> None:
        """A mistake of ours."""
        self._fail(0, f"{where}: {error!r}", "error", recoverable=False)

    def history(self, request: int, ticks: Sequence[Any], done: bool) -> None:
        """Nothing: none are asked for."""

    def alive(self) -> None:
        """Nothing: nobody asks for the time here."""
