"""Streams on demand: the ticks of one contract as messages, up to a limit or a timeout.

::

    with stream_ticks(265598, "last", limit=100) as stream:
        for message in stream:
            ...

The first message is an ``info`` (subscribed), the last one a ``complete`` with the reason.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import StreamKey
from ibticks.capture._messages import (
    TickData,
    complete_message,
    error_message,
    info_message,
    tick_message,
)
from ibticks.capture._recorder import open_recorder
from ibticks.capture._settings import ON_DEMAND_CLIENT_ID
from ibticks.coverage import StreamStatus
from ibticks.errors import InputError, MissingExtraError, StorageError
from ibticks.index import ContractRecord
from ibticks.schema import check_contract_id, check_tick_type
from ibticks.tws import NO_TICKS, Action, TickSink, TwsEvents, find_code, gateway_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from ibticks._types import TickTypeLike
    from ibticks.capture._recorder import Recorder
    from ibticks.store import Store
    from ibticks.tws import Client

__all__ = ["OnDemandStream", "stream_ticks"]

_log = logging.getLogger(__name__)
_DETAILS_REQUEST_ID: Final = 50_000
_FIRST_REQUEST_ID: Final = 50_001
_DETAILS_TIMEOUT_SECONDS: Final = 10.0
_MAX_UNREAD: Final = 10_000
_NOT_CONNECTED: Final = 504


def stream_ticks(
    contract_id: int,
    tick_type: TickTypeLike,
    *,
    host: str | None = None,
    port: int | None = None,
    client_id: int = ON_DEMAND_CLIENT_ID,
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
        Address of TWS or IB Gateway; by default ``IBTICKS_GATEWAY``, or ``127.0.0.1:4002``.
    client_id : int
        Id that no other connection uses.
    limit : int, optional
        Number of ticks after which the stream ends.
    timeout_seconds : float, optional
        Seconds after which the stream ends.
    store : Store, optional
        Store that records the stream: every message is stored before it is handed out.
    connect_timeout : float
        Seconds that connecting may take.

    Returns
    -------
    OnDemandStream
        An iterator, to be used once; close it, or use it in a ``with`` statement.

    Raises
    ------
    ConnectionFailedError
        If IB cannot be reached, or refuses the client id.
    WriterLockedError
        If the stream is to be recorded, and a capture has it; the error names that capture.
    UnknownTickTypeError, InputError
        If there is no such tick type, no contract can have that id, or limit or timeout is not
        above zero.
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
    recorder = None
    if store is not None:
        recorder = open_recorder(
            store.root,
            contract_id,
            tick_type,
            store.index,
            run,
            on_sealed=lambda _: store.note_change(),
        )
    listener = _Listener(contract_id, tick_type, run, limit, timeout_seconds, recorder)
    default_host, default_port = gateway_address()
    client = listener.client = Client(listener)
    try:
        client.open(host or default_host, port or default_port, client_id, connect_timeout)
        listener.begin(client)
    except BaseException:
        listener.abandon()
        raise
    return OnDemandStream(listener)


class OnDemandStream:
    """The messages of one stream, as v2 JSON dictionaries; made by :func:`stream_ticks`.

    An iterator and a context manager. No message is dropped: a slow reader slows the gateway down.
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
        """End the stream; unread messages can still be read, up to ``complete``."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        listener = getattr(self, "_listener", None)
        if listener is not None:
            listener.close()


class _Listener(TwsEvents):
    """Receiver of the connection that queues its messages for the reader.

    Locks, in the order in which they are taken: ``_finishing`` while the connection and the files
    are closed, ``_lock`` for the order of messages and the end, ``_changed`` for the queue.
    """

    def __init__(
        self,
        contract_id: int,
        tick_type: str,
        run: str,
        limit: int | None,
        timeout_seconds: float | None,
        recorder: Recorder | None,
    ) -> None:
        self._stream = StreamKey(contract_id, tick_type)
        self._run = run
        self._stream_id = f"{contract_id}_{tick_type}_{run}"
        self._limit = limit
        self._timeout = timeout_seconds
        self._recorder = recorder
        self.client: Client | None = None
        self._contract: ContractRecord | None = None
        self._has_details = threading.Event()
        self._request = _FIRST_REQUEST_ID - 1
        self._begun = False
        self._subscribed = False
        self._broken = False
        self._ticks = 0
        self._ticks_at_resubscription = -1
        self._sequence = 0 if recorder is None else recorder.sequence
        self._began = self._ended = time.monotonic()
        self._deadline: float | None = None
        self._reason = ""  # of the end; empty until then
        self._complete: dict[str, Any] | None = None
        self._unread: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._tick_data = TickData(self._tick)
        self._lock = threading.RLock()
        self._finishing = threading.Lock()

    # -- beginning and ending ----------------------------------------------------------------------

    def begin(self, client: Client) -> None:
        """Request the details of the contract, and subscribe."""
        from ibticks.tws import make_contract

        self._begun = True
        if client.is_lost:
            self.closed()
        client.reqContractDetails(_DETAILS_REQUEST_ID, make_contract(self._stream.contract_id, ""))
        if not self._has_details.wait(_DETAILS_TIMEOUT_SECONDS):
            _log.warning(
                "IB sends no details of contract %d; it is requested from SMART",
                self._stream.contract_id,
            )
        self._began = self._ended = time.monotonic()
        if self._timeout is not None:
            self._deadline = self._began + self._timeout
        self._subscribe()

    def _subscribe(self) -> None:
        from ibticks.tws import make_contract

        client, contract = self.client, self._contract
        with self._lock:
            if self._reason or client is None:
                return
            self._request += 1
            self._subscribed = True
            self._note(StreamStatus.SUBSCRIBED, "subscribed")
        exchange = contract.exchange if contract is not None and contract.exchange else "SMART"
        client.subscribe(
            self._request, make_contract(self._stream.contract_id, exchange), self._stream.tick_type
        )

    def end(self, reason: str) -> None:
        """End the stream; the first reason counts."""
        with self._lock:
            if self._reason:
                return
            with self._changed:
                self._reason, self._ended = reason, time.monotonic()
                self._changed.notify_all()

    def abandon(self) -> None:
        """Close the connection and the files of a stream that never began."""
        self.end("error")
        if self.client is not None:
            self.client.close()
        if self._recorder is not None:
            self._recorder.close()

    def close(self) -> None:
        """End the stream, from any thread, and close the connection and the files."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.end("cancelled")
        self.finish()

    def finish(self) -> dict[str, Any]:
        """Close the connection and the files; return the last message."""
        with self._finishing:
            if self._complete is None:
                self._unsubscribe()
                if self.client is not None:
                    self.client.close()
                self._complete = complete_message(
                    self._stream_id,
                    self._run,
                    reason=self._reason,
                    total_ticks=self._ticks,
                    duration_seconds=self._ended - self._began,
                    final_sequence=self._sequence if self._ticks else None,
                )
                if self._recorder is not None:
                    self._recorder.close(self._complete)
            return self._complete

    def _unsubscribe(self) -> None:
        if self._subscribed and self.client is not None and not self.client.is_lost:
            self.client.unsubscribe(self._request)
        self._subscribed = False

    def next_message(self) -> dict[str, Any]:
        """Wait for the next message; the last one is ``complete``."""
        with self._changed:
            while not self._unread and not self._reason:
                remaining = None if self._deadline is None else self._deadline - time.monotonic()
                if not self._changed.wait(remaining) and self._is_late():
                    break
            if self._unread:
                message = self._unread.popleft()
                self._changed.notify_all()
                return message
        if not self._reason:
            self.end("timeout")
            return self.next_message()
        return self.finish()

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    # -- messages; the caller holds the lock -------------------------------------------------------

    def _put(self, message: dict[str, Any], status: StreamStatus | None = None) -> None:
        if self._recorder is not None:
            self._recorder.write(message, status)
        self._hand_over(message)

    def _hand_over(self, message: dict[str, Any]) -> None:
        with self._changed:
            # A slow reader slows the gateway down: the client's thread waits here.
            self._changed.wait_for(lambda: self._closing or len(self._unread) < _MAX_UNREAD)
            self._unread.append(message)
            self._changed.notify_all()

    def _note(self, status: StreamStatus, reason: str, code: int | None = None) -> None:
        config: dict[str, Any] = {"tick_type": self._stream.tick_type}
        if self._limit is not None:
            config["limit"] = self._limit
        if self._timeout is not None:
            config["timeout_seconds"] = max(1, round(self._timeout))
        server = None if self.client is None else self.client.server_settings
        message = info_message(
            self._stream_id,
            self._run,
            status,
            reason,
            code,
            at_ns=None if self._recorder is None else self._recorder.next_status_ns(time.time_ns()),
            contract=self._contract if status is StreamStatus.SUBSCRIBED else None,
            config=config if status is StreamStatus.SUBSCRIBED else None,
            server=server if status is StreamStatus.SUBSCRIBED else None,
        )
        self._put(message, status)

    def _tick(self, event: int, data: dict[str, Any]) -> None:
        with self._lock:
            if self._reason:
                return
            if self._is_late():
                self.end("timeout")
                return
            message = tick_message(self._stream_id, *self._stream, self._sequence + 1, event, data)
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
        """Report an error, and end the stream."""
        with self._lock:
            # Before the begin, `stream_ticks` raises the error of the connection.
            if self._begun and not self._reason:
                message = error_message(
                    self._stream_id, self._run, code, text, recoverable=recoverable
                )
                try:
                    self._put(message)
                except StorageError:
                    _log.exception("%s: an error cannot be stored: %s", self._stream_id, text)
                    self._hand_over(message)
                self.end(reason)
        self._has_details.set()

    # -- callbacks, in the client's thread ---------------------------------------------------------

    def ticks(self, request: int) -> TickSink:
        """Return the receiver of the current subscription; ticks of older ones are discarded."""
        return self._tick_data if request == self._request else NO_TICKS

    def contract_details(self, request: int, details: Any) -> None:
        """Note the details of the contract."""
        contract = details.contract
        if contract.conId == self._stream.contract_id:
            self._contract = ContractRecord(
                contract.conId,
                contract.symbol,
                contract.exchange or contract.primaryExchange,
                contract.currency,
                contract.secType,
            )
            if self._recorder is not None:
                self._recorder.store_contract(self._contract)

    def contract_details_end(self, request: int) -> None:
        """Note that the details are complete."""
        self._has_details.set()

    def message(self, request: int, code: int, text: str) -> None:
        """React to an error or a notice of IB."""
        action = find_code(code, text).action
        if action is Action.NOTE or (
            request == _DETAILS_REQUEST_ID and action is not Action.GIVE_UP
        ):
            _log.info("IB %d (%d): %s", code, request, text)
            if request == _DETAILS_REQUEST_ID:
                self._has_details.set()
        elif action is Action.RESUBSCRIBE and self._may_resubscribe(request):
            self._change_status(StreamStatus.DISCONNECTED, text, code, broken=False)
            self._unsubscribe()
            self._subscribe()
        elif request in (_DETAILS_REQUEST_ID, self._request):
            self._fail(code, text, "error", recoverable=action is not Action.GIVE_UP)
        elif request == -1:
            self._on_connection(action, code, text)

    def _may_resubscribe(self, request: int) -> bool:
        """Return whether a request is the current subscription, and has brought ticks."""
        if request != self._request or self._ticks == self._ticks_at_resubscription:
            return False
        self._ticks_at_resubscription = self._ticks
        return True

    def _on_connection(self, action: Action, code: int, text: str) -> None:
        """React to a message about the connection."""
        match action:
            case Action.BROKEN:
                self._change_status(StreamStatus.DISCONNECTED, text, code, broken=True)
            case Action.RESTORED if self._broken:
                self._change_status(StreamStatus.RESTORED, text, code, broken=False)
            case Action.RESUBSCRIBE_ALL:
                self._change_status(StreamStatus.DISCONNECTED, text, code, broken=False)
                self._subscribe()
            case Action.RECONNECT:
                self._fail(code, text, "disconnected", recoverable=True)
            case _:
                _log.info("IB %d: %s", code, text)

    def _change_status(self, status: StreamStatus, text: str, code: int, *, broken: bool) -> None:
        with self._lock:
            self._broken = broken
            if not self._reason:
                self._note(status, text, code)

    def closed(self) -> None:
        """End the stream with the connection."""
        problem = "" if self.client is None else self.client.problem
        self._fail(
            _NOT_CONNECTED,
            problem or "the connection was closed",
            "disconnected",
            recoverable=True,
        )

    def callback_failed(self, where: str, error: Exception) -> None:
        """End the stream with the exception of a callback."""
        self._fail(0, f"{where}: {error!r}", "error", recoverable=False)
