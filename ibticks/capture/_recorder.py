"""One captured stream: what the client hands over, written before the callback returns."""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from ibticks.config import NANOSECONDS
from ibticks.coverage import STATE_OF_STATUS, CoverageState, StreamStatus
from ibticks.errors import StorageError
from ibticks.format import TickEncoder, encode_frame, encode_message
from ibticks.schema import clean_number, clean_side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from ibticks.coverage import Ledger
    from ibticks.index import ContractRecord, FileRecord, Index
    from ibticks.storage import Compressor, FileKey, StreamAppender

__all__ = ["Recorder", "last_sequence"]

_log = logging.getLogger(__name__)
_CAPTURED: Final = CoverageState.CAPTURED
_MOST_WAITING: Final = 200_000
_SMALLEST_TICK: Final = 16  # bytes of a frame with a sequence number in it, and surely more


class Recorder:
    """Records one stream.

    When :meth:`trade`, :meth:`quote` or :meth:`mid_point` returns, the tick has been handed to the
    operating system, and a kill of the process loses nothing of it. If the disk is full, ticks
    wait in memory, in order, until there is room again.

    Parameters
    ----------
    appender : StreamAppender
        Of the stream; the recorder closes it.
    run : str
        Names this run of the capture in stream ids and messages.
    sequence : int
        Of the last tick of the stream that is stored.
    ledger : Ledger
        Of the stream's coverage.
    index : Index
        Told of coverage.
    """

    def __init__(
        self, appender: StreamAppender, run: str, sequence: int, ledger: Ledger, index: Index
    ) -> None:
        self.contract_id: Final = appender.contract_id
        self.tick_type: Final = appender.tick_type
        self.stream_id: Final = f"{self.contract_id}_{self.tick_type}_{run}"
        self.run: Final = run
        self.contract: ContractRecord | None = None
        self.state: CoverageState | None = None
        self.sequence = sequence
        self.ticks = 0
        self.lost = 0
        self.errors = 0
        self.last_ns = 0
        self.last_event = 0
        self.last_error = ""
        self._appender = appender
        self._ledger = ledger
        self._index = index
        self._encoder = TickEncoder(self.contract_id, self.tick_type, self.stream_id)
        self._append = appender.append_frames
        # Of all of the above: ticks, notes and upkeep come from threads of their own.
        self._lock = threading.RLock()
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._closed = False
        # What was said last of the state, and when.
        self._said: tuple[StreamStatus, str, int | None, int] | None = None

    @property
    def said(self) -> tuple[StreamStatus, str, int | None, int] | None:
        """The status noted last: with its reason, IB's code and its time."""
        return self._said

    # -- ticks, in the client's thread -------------------------------------------------------------

    def quote(
        self,
        event: int,
        bid_price: float,
        bid_size: Decimal,
        ask_price: float,
        ask_size: Decimal,
        bid_past_low: bool,
        ask_past_high: bool,
    ) -> None:
        """Record a bid_ask tick; ``event`` is IB's time, UTC seconds."""
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
                    event,
                    bid_past_low,
                    ask_past_high,
                ),
                now,
                event,
            )

    def trade(
        self,
        event: int,
        price: float,
        size: Decimal,
        exchange: str,
        conditions: str,
        past_limit: bool,
        unreported: bool,
    ) -> None:
        """Record a last or all_last tick; IB's conditions are words, separated by spaces."""
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
                    event,
                    past_limit,
                    unreported,
                ),
                now,
                event,
            )

    def mid_point(self, event: int, mid_price: float) -> None:
        """Record a mid_point tick."""
        with self._lock:
            now = time_ns()
            mid = clean_number(mid_price)
            self._record(self._encoder.mid_point(now, mid, self.sequence + 1, event), now, event)

    def _record(self, frames: bytes, now: int, event: int) -> None:
        """With the lock held."""
        if self.state is not _CAPTURED:
            if self._closed:
                self.lost += 1
                return
            if not self._waiting:
                # A stream that was thought silent or broken is not.
                self._note(StreamStatus.RESTORED, "ticks are coming", None, now)
        if self._waiting:
            self._hold(frames, now)
        else:
            try:
                self._append(frames, now)
            except StorageError as error:
                self._refused(error)
                self._hold(frames, now)
        self.sequence += 1
        self.ticks += 1
        self.last_ns = now
        self.last_event = event

    def _hold(self, frames: bytes, now: int) -> None:
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((frames, now))
            return
        self.lost += 1
        if self.state is _CAPTURED:
            self._note(StreamStatus.DISCONNECTED, "no room on the disk: ticks are lost", None, now)

    def _refused(self, error: StorageError) -> None:
        self.errors += 1
        self.last_error = str(error)
        _log.error("%s: %s; ticks wait in memory until there is room", self.stream_id, error)

    # -- what is said about the stream -------------------------------------------------------------

    def note(self, status: StreamStatus, reason: str = "", code: int | None = None) -> None:
        """Record what becomes of the stream, in it and in the ledger."""
        with self._lock:
            self._note(status, reason, code, max(time_ns(), self.last_ns))

    def _note(self, status: StreamStatus, reason: str, code: int | None, now: int) -> None:
        metadata: dict[str, Any] = {"run": self.run, "reason": reason}
        if code is not None:
            metadata["code"] = code
        now = self._ledger.after(now)
        self._say("info", {"status": str(status), **self._about(status)}, metadata, now)
        if status in STATE_OF_STATUS:
            self.state = STATE_OF_STATUS[status]
            self._said = status, reason, code, now
        rows = self._ledger.change(status, now, reason, code)
        if rows:
            self._index.put_coverage(rows)

    def error(self, code: int, text: str, *, recoverable: bool) -> None:
        """Record an error of IB's, or of ours, in the stream."""
        with self._lock:
            self.errors += 1
            self.last_error = f"{code}: {text}"
            said = {"code": str(code), "message": text, "recoverable": recoverable}
            self._say("error", said, {"run": self.run}, time_ns())

    def _about(self, status: StreamStatus) -> dict[str, Any]:
        if status is not StreamStatus.SUBSCRIBED:
            return {}
        about: dict[str, Any] = {"stream_config": {"tick_type": self.tick_type}}
        if self.contract is not None:
            about["contract_info"] = {
                "symbol": self.contract.symbol,
                "exchange": self.contract.exchange,
                "currency": self.contract.currency,
                "contract_type": self.contract.contract_type,
            }
        return about

    def _say(self, kind: str, data: dict[str, Any], metadata: dict[str, Any], now: int) -> None:
        stamp = datetime.fromtimestamp(now // NANOSECONDS, UTC)
        payload = encode_message(
            {
                "type": kind,
                "stream_id": self.stream_id,
                "timestamp": f"{stamp:%Y-%m-%dT%H:%M:%S}.{now % NANOSECONDS:09d}Z",
                "data": data,
                "metadata": metadata,
            }
        )
        frames = encode_frame(payload)
        if not self._waiting:
            try:
                self._append(frames, now)
            except StorageError as error:
                self._refused(error)
            else:
                return
        self._waiting.append((frames, now))

    # -- upkeep, in the keeper's thread ------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Messages that wait for room on the disk."""
        return len(self._waiting)

    def sync(self) -> None:
        """Force what was appended to the disk, without holding ticks up meanwhile."""
        self._appender.sync()

    def maintain(self, now_ns: int | None = None) -> None:
        """Write what waited, if there is room again; seal the hours that are over."""
        with self._lock:
            self._write_waiting()
            self._ledger.touch(self.last_ns)
        self._appender.seal_ended_hours(now_ns)

    def compress(self, key: FileKey, compression: str, compressor: Compressor) -> None:
        """Have a sealed file of the stream compressed; ticks do not wait for it.

        Raises
        ------
        StorageError
            It stays as it is.
        """
        self._appender.compress(key, compression, compressor)

    def has_open(self, key: FileKey) -> bool:
        """Whether a file of the stream is written, or about to be sealed."""
        return self._appender.has_open(key)

    def forget(self, before_ns: int) -> None:
        """Note that the files of the stream with all before some time are about to be deleted.

        If what was said last of its state is among that, it is said again: else whoever makes the
        ledger anew from the files would not find it.
        """
        with self._lock:
            if self.state is not None and self._said is not None:
                status, reason, code, said_ns = self._said
                if said_ns < before_ns:
                    self._note(status, reason, code, max(time_ns(), self.last_ns))
            rows = self._ledger.mark_deleted(before_ns)
            if rows:
                self._index.put_coverage(rows)

    def delete(self, key: FileKey) -> None:
        """Delete a file of the stream, unless it is open; ticks do not wait for it.

        Raises
        ------
        StorageError
            It stays where it is.
        """
        self._appender.delete(key)

    def _write_waiting(self) -> None:
        waited = len(self._waiting)
        while self._waiting:
            frames, now = self._waiting[0]
            try:
                self._append(frames, now)
            except StorageError as error:
                self.last_error = str(error)
                return
            self._waiting.popleft()
        if waited:
            _log.warning("%s: %d messages that waited are written", self.stream_id, waited)

    def close(self) -> None:
        """Note the end, seal the files and let the next writer in."""
        with self._lock:
            if self._closed:
                return
            if self.state is not None:
                self.note(StreamStatus.STOPPED, "stopped")
            self._closed = True
            self._write_waiting()
            if self._waiting:
                _log.critical(
                    "%s: %d messages could not be written: %s",
                    self.stream_id,
                    len(self._waiting),
                    self.last_error,
                )
            self._appender.close()


def last_sequence(files: Sequence[FileRecord]) -> int:
    """The last sequence number a stream may have used, of its files.

    A file that could not be sealed, being damaged, does not say: none it may hold is used again.
    """
    told = max((file.last_sequence for file in files if file.last_sequence is not None), default=0)
    return told + sum(file.size // _SMALLEST_TICK for file in files if not file.sealed)
