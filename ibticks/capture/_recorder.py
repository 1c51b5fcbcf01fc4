"""The recorder of one stream: it writes each tick and message before its callback returns."""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ibticks.capture._messages import error_message, info_message
from ibticks.coverage import STATE_OF_STATUS, CoverageState, StreamStatus, resume_ledger
from ibticks.errors import StorageError, StorageFullError
from ibticks.format import TickEncoder, encode_frame, encode_message
from ibticks.schema import clean_number, clean_side
from ibticks.storage import StreamAppender
from ibticks.tws import TickSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path
    from typing import Unpack

    from ibticks.coverage import Ledger
    from ibticks.index import ContractRecord, FileRecord, Index
    from ibticks.storage import AppenderOptions, Compressor, FileKey
    from ibticks.tws import ServerSettings

__all__ = ["LastStatus", "Recorder", "last_sequence", "open_recorder"]

_log = logging.getLogger(__name__)
_CAPTURED: Final = CoverageState.CAPTURED
_MAX_PENDING: Final = 200_000
_MIN_TICK_BYTES: Final = 16  # less than any frame with a sequence number


class LastStatus(NamedTuple):
    """The status that was noted last, with its reason, IB's code and its time."""

    status: StreamStatus
    reason: str
    code: int | None
    time_ns: int


class Recorder(TickSink):
    """The only writer of one stream: its ticks, its messages and its coverage.

    Ticks come decoded (:meth:`trade`, :meth:`quote`, :meth:`mid_point`) and are encoded straight to
    wire frames, or as whole v2 messages (:meth:`write`). When one of these methods returns, the
    tick has been handed to the operating system, and a kill of the process does not lose it. While
    the disk is full, decoded ticks wait in memory, in order, until there is room again; a message
    raises instead.

    Its methods may be called from any thread: one lock guards the state of the stream.

    Parameters
    ----------
    appender : StreamAppender
        Appender of the stream; the recorder closes it.
    run : str
        Name of this run of the capture in stream ids and messages.
    sequence : int
        Sequence number of the last tick that is stored.
    ledger : Ledger
        Coverage ledger of the stream.
    index : Index
        Where coverage is stored.

    Attributes
    ----------
    contract : ContractRecord or None
        Details of the contract, written with the status ``subscribed``.
    server : ServerSettings or None
        Settings of the TWS that sends the ticks, written with the status ``subscribed``.
    state : CoverageState or None
        Coverage state; None before the first status.
    sequence, ticks, lost, errors : int
        Last sequence number, and counts of this run.
    last_ns, last_event : int
        Arrival of the last tick in nanoseconds, and its time at IB in seconds.
    last_error : str
    last_status : LastStatus or None
    storage_problem : str
        Why messages wait in memory; empty while they can be written.
    copies : tuple of Recorder
        Recorders of the same stream in other stores, which get its ticks, statuses and errors.
    on_message : callable or None
        Called with each message that is no tick, and with an error when storage fails; it must not
        block.
    """

    def __init__(
        self, appender: StreamAppender, run: str, sequence: int, ledger: Ledger, index: Index
    ) -> None:
        self.contract_id: Final = appender.contract_id
        self.tick_type: Final = appender.tick_type
        self.stream_id: Final = f"{self.contract_id}_{self.tick_type}_{run}"
        self.run: Final = run
        self.contract: ContractRecord | None = None
        self.server: ServerSettings | None = None
        self.state: CoverageState | None = None
        self.sequence = sequence
        self.ticks = 0
        self.lost = 0
        self.errors = 0
        self.last_ns = 0
        self.last_event = 0
        self.last_error = ""
        self.last_status: LastStatus | None = None
        self.storage_problem = ""
        self.copies: tuple[Recorder, ...] = ()
        self.on_message: Callable[[Mapping[str, Any]], None] | None = None
        self._appender = appender
        self._ledger = ledger
        self._index = index
        self._encoder = TickEncoder(self.contract_id, self.tick_type, self.stream_id)
        self._append = appender.append_frames
        # Guards all of the above: ticks, statuses and upkeep come from different threads.
        self._lock = threading.RLock()
        self._pending: deque[tuple[bytes, int]] = deque()
        self._closed = False

    # -- ticks, in the client's thread -------------------------------------------------------------

    def quote(
        self,
        time: int,
        bid_price: float,
        bid_size: Decimal,
        ask_price: float,
        ask_size: Decimal,
        bid_past_low: bool,
        ask_past_high: bool,
    ) -> None:
        """Record a bid_ask tick."""
        bid, bid_volume = clean_side(bid_price, bid_size)
        ask, ask_volume = clean_side(ask_price, ask_size)
        with self._lock:
            now = time_ns()
            self._record(
                self._encoder.bid_ask(
                    now,
                    bid,
                    bid_volume,
                    ask,
                    ask_volume,
                    self.sequence + 1,
                    time,
                    bid_past_low,
                    ask_past_high,
                ),
                now,
                time,
            )
        for copy in self.copies:
            copy.quote(time, bid_price, bid_size, ask_price, ask_size, bid_past_low, ask_past_high)

    def trade(
        self,
        time: int,
        price: float,
        size: Decimal,
        exchange: str,
        conditions: str,
        past_limit: bool,
        unreported: bool,
    ) -> None:
        """Record a last or all_last tick."""
        with self._lock:
            now = time_ns()
            self._record(
                self._encoder.trade(
                    now,
                    clean_number(price),
                    clean_number(size),
                    exchange,
                    conditions.split(" ") if conditions else (),
                    self.sequence + 1,
                    time,
                    past_limit,
                    unreported,
                ),
                now,
                time,
            )
        for copy in self.copies:
            copy.trade(time, price, size, exchange, conditions, past_limit, unreported)

    def mid_point(self, time: int, mid_price: float) -> None:
        """Record a mid_point tick."""
        with self._lock:
            now = time_ns()
            mid = clean_number(mid_price)
            self._record(self._encoder.mid_point(now, mid, self.sequence + 1, time), now, time)
        for copy in self.copies:
            copy.mid_point(time, mid_price)

    def _record(self, frames: bytes, now: int, event: int) -> None:
        """Append a tick; the caller holds the lock."""
        if self.state is not _CAPTURED:
            if self._closed:
                self.lost += 1
                return
            if not self._pending:
                # A stream that was noted as silent or disconnected is not.
                self._note(StreamStatus.RESTORED, "ticks are coming", None, now)
        if self._pending:
            self._hold(frames, now)
        else:
            try:
                self._append(frames, now)
            except StorageError as error:
                self._report_refusal(error)
                self._hold(frames, now)
        self.sequence += 1
        self.ticks += 1
        self.last_ns = now
        self.last_event = event

    def _hold(self, frames: bytes, now: int) -> None:
        """Keep a tick in memory until there is room on the disk."""
        if len(self._pending) < _MAX_PENDING:
            self._pending.append((frames, now))
            return
        self.lost += 1
        if self.state is _CAPTURED:
            self._note(StreamStatus.DISCONNECTED, "no room on the disk: ticks are lost", None, now)

    def _report_refusal(self, error: StorageError) -> None:
        self.errors += 1
        self.last_error = str(error)
        is_full = isinstance(error, StorageFullError)
        self.storage_problem = "no space left on the disk" if is_full else "its file is refused"
        _log.error("%s: %s; ticks wait in memory until there is room", self.stream_id, error)
        if self.on_message is not None:
            text = f"ticks cannot be stored: {self.storage_problem}"
            self.on_message(error_message(self.stream_id, self.run, 0, text, recoverable=True))

    # -- whole messages, of a stream on demand -----------------------------------------------------

    def write(self, message: Mapping[str, Any], status: StreamStatus | None = None) -> None:
        """Store a v2 message of the stream.

        Parameters
        ----------
        message : mapping
        status : StreamStatus, optional
            Status that an info message reports; the coverage of the stream changes with it.

        Raises
        ------
        StorageFullError, StorageError
            The message is then not stored.
        """
        with self._lock:
            payload, message_ns = self._appender.encode(message)
            self._appender.append_payload(payload, message_ns)
            if status is None:
                self._ledger.touch(message_ns)
            else:
                metadata = message["metadata"]
                self._change(status, metadata["reason"], metadata.get("code"), message_ns)

    def next_status_ns(self, now_ns: int) -> int:
        """Return the time that a status of now gets: after everything that was recorded."""
        return self._ledger.next_time_ns(now_ns)

    def store_contract(self, contract: ContractRecord) -> None:
        """Store a contract in the index, so that it can be selected by its symbol."""
        self.contract = contract
        self._index.put_contracts([contract])

    # -- copies in other stores --------------------------------------------------------------------

    def begin_copy(self, copy: Recorder) -> None:
        """Give a recorder of another store all that is recorded from now on."""
        with self._lock:
            copy.contract, last = self.contract, self.last_status
            self.copies = (*self.copies, copy)
        if self.contract is not None:
            copy.store_contract(self.contract)
        if last is not None:
            copy.note(last.status, last.reason, last.code)

    def end_copies(self) -> tuple[Recorder, ...]:
        """Give the copies no more, and return them; they are still to be closed."""
        with self._lock:
            copies, self.copies = self.copies, ()
        return copies

    # -- statuses and errors -----------------------------------------------------------------------

    def note(self, status: StreamStatus, reason: str = "", code: int | None = None) -> None:
        """Record a status of the stream, as a message and in the coverage ledger."""
        with self._lock:
            self._note(status, reason, code, max(time_ns(), self.last_ns))
        for copy in self.copies:
            copy.note(status, reason, code)

    def _note(self, status: StreamStatus, reason: str, code: int | None, now: int) -> None:
        now = self._ledger.next_time_ns(now)
        is_subscribed = status is StreamStatus.SUBSCRIBED
        message = info_message(
            self.stream_id,
            self.run,
            status,
            reason,
            code,
            at_ns=now,
            contract=self.contract if is_subscribed else None,
            config={"tick_type": self.tick_type} if is_subscribed else None,
            server=self.server if is_subscribed else None,
        )
        self._append_message(message, now)
        self._change(status, reason, code, now)

    def _change(self, status: StreamStatus, reason: str, code: int | None, at_ns: int) -> None:
        """Apply a status to the state and to the coverage."""
        if status in STATE_OF_STATUS:
            self.state = STATE_OF_STATUS[status]
            self.last_status = LastStatus(status, reason, code, at_ns)
        rows = self._ledger.change(status, at_ns, reason, code)
        if rows:
            self._index.put_coverage(rows)

    def error(self, code: int, text: str, *, recoverable: bool) -> None:
        """Record an error of IB, or with code 0 of the capture."""
        with self._lock:
            self.errors += 1
            self.last_error = f"{code}: {text}"
            now = time_ns()
            message = error_message(
                self.stream_id, self.run, code, text, recoverable=recoverable, at_ns=now
            )
            self._append_message(message, now)
        for copy in self.copies:
            copy.error(code, text, recoverable=recoverable)

    def _append_message(self, message: Mapping[str, Any], now: int) -> None:
        if self.on_message is not None:
            self.on_message(message)
        frames = encode_frame(encode_message(message))
        if not self._pending:
            try:
                self._append(frames, now)
            except StorageError as error:
                self._report_refusal(error)
            else:
                return
        self._pending.append((frames, now))

    # -- upkeep, in the keeper's thread ------------------------------------------------------------

    @property
    def index(self) -> Index:
        """Index of the store that the stream is recorded into."""
        return self._index

    @property
    def waiting(self) -> int:
        """Messages that wait for room on the disk."""
        return len(self._pending)

    def sync(self) -> None:
        """Force what was appended to the disk; ticks do not wait for it."""
        if not self._closed:
            self._appender.sync()

    def maintain(self, now_ns: int | None = None) -> None:
        """Write pending messages, if there is room again, and seal the hours that have ended."""
        with self._lock:
            if self._closed:
                return
            self._write_pending()
            self._ledger.touch(self.last_ns)
        self._appender.seal_ended_hours(now_ns)

    def compress(self, key: FileKey, compression: str, compressor: Compressor) -> None:
        """Compress a sealed file of the stream; ticks do not wait for it.

        Raises
        ------
        StorageError
            The file then stays as it is.
        """
        self._appender.compress(key, compression, compressor)

    def has_open(self, key: FileKey) -> bool:
        """Return whether a file of the stream is open, or about to be sealed."""
        return self._appender.has_open(key)

    def forget_before(self, before_ns: int) -> None:
        """Remove the coverage of files that are about to be deleted.

        If the last status is in one of them, it is recorded again: otherwise a ledger that is
        rebuilt from the files would not contain it.
        """
        with self._lock:
            last = self.last_status
            if self.state is not None and last is not None and last.time_ns < before_ns:
                now = max(time_ns(), self.last_ns)
                self._note(last.status, last.reason, last.code, now)
            rows = self._ledger.mark_deleted(before_ns)
            if rows:
                self._index.put_coverage(rows)

    def delete(self, key: FileKey) -> None:
        """Delete a file of the stream, unless it is open; ticks do not wait for it.

        Raises
        ------
        StorageError
            The file then stays where it is.
        """
        self._appender.delete(key)

    def _write_pending(self) -> None:
        count = len(self._pending)
        while self._pending:
            frames, now = self._pending[0]
            try:
                self._append(frames, now)
            except StorageError as error:
                self.last_error = str(error)
                return
            self._pending.popleft()
        self.storage_problem = ""
        if count:
            _log.warning("%s: %d messages that waited are written", self.stream_id, count)

    def close(self, last_message: Mapping[str, Any] | None = None) -> None:
        """Note the end, seal the files and release the stream to the next writer.

        Parameters
        ----------
        last_message : mapping, optional
            A message to store before the end.

        Raises
        ------
        StorageError
            The last message could not be stored; the stream is released nevertheless.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if last_message is not None:
                    self.write(last_message)
                if self.state is not None:
                    self._note(StreamStatus.STOPPED, "stopped", None, max(time_ns(), self.last_ns))
                self._write_pending()
                if self._pending:
                    _log.critical(
                        "%s: %d messages could not be written: %s",
                        self.stream_id,
                        len(self._pending),
                        self.last_error,
                    )
            finally:
                self._appender.close()


def open_recorder(
    root: Path,
    contract_id: int,
    tick_type: str,
    index: Index,
    run: str,
    **options: Unpack[AppenderOptions],
) -> Recorder:
    """Open the only writer of a stream, where the run before it ended.

    Parameters
    ----------
    root : Path
        Folder of the store.
    contract_id : int
    tick_type : str
    index : Index
    run : str
        Name of the run.
    **options
        Those of :class:`~ibticks.storage.StreamAppender`.

    Raises
    ------
    WriterLockedError
        If another writer has the stream; it is named.
    """
    appender = StreamAppender(root, contract_id, tick_type, index, **options)
    try:
        sequence = last_sequence(index.files([contract_id], [tick_type]))
        ledger = resume_ledger(root, index, contract_id, tick_type, run)
    except BaseException:
        appender.close()
        raise
    return Recorder(appender, run, sequence, ledger, index)


def last_sequence(files: Sequence[FileRecord]) -> int:
    """Return an upper bound of the sequence numbers in the files of a stream.

    A damaged file that could not be sealed has no last sequence: it counts with all that may fit.
    """
    sealed = (file.last_sequence for file in files if file.last_sequence is not None)
    return max(sealed, default=0) + sum(
        file.size // _MIN_TICK_BYTES for file in files if not file.sealed
    )
