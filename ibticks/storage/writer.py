"""Writing a stream: each tick into the file of its own hour, whatever order they come in."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import SPLIT_BYTES
from ibticks.errors import CorruptFileError, InputError, StorageError
from ibticks.format.encode import Encoder
from ibticks.format.fields import check_contract_id, check_tick_type
from ibticks.format.frames import frame
from ibticks.format.messages import to_protobuf
from ibticks.index.records import FileRecord
from ibticks.storage.hourfile import HourFile, seal
from ibticks.storage.layout import HALF_HOUR, HOUR, FileKey, half_hours, hour_of, list_files
from ibticks.storage.lock import StreamLock
from ibticks.storage.recovery import cut_torn_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from ibticks.format.columns import TickColumns
    from ibticks.index.records import Index

__all__ = ["StreamWriter"]

_log = logging.getLogger(__name__)
_NANOS: Final = 1_000_000_000


class StreamWriter:
    """The one writer of a stream (a contract and a tick type) of a store.

    Files are sealed when a newer hour pushes them out, by :meth:`maintain` once their hour has
    passed, and by :meth:`close`. A tick for a sealed hour opens it again.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    index : Index
        Told of each file when it begins and when it is sealed.
    fsync : float or None
        Seconds that appended ticks may wait before they are forced to the disk; 0: every append,
        None: only when a file is sealed. A killed process loses nothing either way; this is about
        power cuts.
    split_bytes : int
        Size past which the second half of an hour gets a file of its own.
    open_files : int
        Most files kept open at once.
    on_sealed : callable, optional
        Called with the record of each file after it is sealed.

    Raises
    ------
    WriterLockedError
        If another writer has the stream.
    UnknownTickTypeError
    InputError
        If a tick cannot carry that contract id.
    """

    def __init__(
        self,
        root: Path,
        contract_id: int,
        tick_type: str,
        index: Index,
        *,
        fsync: float | None = 1.0,
        split_bytes: int = SPLIT_BYTES,
        open_files: int = 3,
        on_sealed: Callable[[FileRecord], None] | None = None,
    ) -> None:
        self.contract_id: Final = check_contract_id(contract_id)
        self.tick_type: Final = check_tick_type(tick_type)
        self._root = root
        self._index = index
        self._fsync = fsync
        self._split_bytes = split_bytes
        self._most_open = open_files
        self._on_sealed = on_sealed
        self._open: dict[FileKey, HourFile] = {}
        self._halved: set[int] = set()
        self._lock = StreamLock(root, self.contract_id, tick_type)
        try:
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    def _recover(self) -> None:
        """Seal what an earlier writer left open."""
        sealed = {
            record.path
            for record in self._index.files([self.contract_id], [self.tick_type])
            if record.sealed
        }
        for key in list_files(self._root, self.contract_id, self.tick_type):
            if key.path in sealed:
                continue
            try:
                if cut_torn_tail(self._root / key.path) is None:
                    (self._root / key.path).unlink()
                else:
                    self._index.put_files([seal(self._root, key)])
            except CorruptFileError:
                _log.exception("%s is damaged and stays as it is", key.path)

    def write(self, columns: TickColumns, *, stream_id: str = "") -> int:
        """Append ticks, in their order, each to the file of its own hour.

        Parameters
        ----------
        columns : TickColumns
            With ``timestamp``; contract and tick type are those of the writer.
        stream_id : str
            For ticks that do not say theirs.

        Returns
        -------
        int
            How many were written: all, or an error was raised.

        Raises
        ------
        InputError
            If a tick is of another contract or tick type.
        StorageFullError, StorageError
            Those before the failing chunk are kept; ``context["written"]`` says how many.
        """
        self._check(columns)
        encoder = Encoder(
            columns,
            contract_id=self.contract_id,
            tick_type=self.tick_type,
            stream_id=stream_id,
        )
        written = 0
        try:
            for start, stop in half_hours(columns.timestamp):
                time_ns = int(columns.timestamp[start])
                for row, frames in encoder.chunks(start, stop):
                    self._file(time_ns).append(frames.data)
                    written = row
        except StorageError as error:
            raise error.with_context(written=written) from error
        self._sync_due()
        return columns.rows

    def append(self, message: Mapping[str, Any]) -> None:
        """Append one v2 message (a tick, or an error, info or complete message).

        Raises
        ------
        ProtocolError
            If it is not a v2 message.
        InputError
            If it is a tick of another contract or tick type.
        StorageFullError, StorageError
            It is then not in the file.
        """
        stream_message = to_protobuf(message)
        if stream_message.HasField("tick_data"):
            tick = stream_message.tick_data
            if (tick.contract_id, tick.tick_type) != (self.contract_id, self.tick_type):
                raise self._stranger(tick.contract_id, tick.tick_type)
        stamp = stream_message.timestamp
        time_ns = stamp.seconds * _NANOS + stamp.nanos
        self.append_payload(stream_message.SerializeToString(), time_ns)

    def append_payload(self, payload: bytes, time_ns: int) -> None:
        """Append one encoded message, whose timestamp is ``time_ns``, as it is."""
        self.append_frames(frame(payload), time_ns)

    def append_frames(self, frames: bytes | memoryview, time_ns: int) -> None:
        """Append whole frames of one hour, the first of which has the timestamp ``time_ns``."""
        self._file(time_ns).append(frames)
        self._sync_due()

    def maintain(self, now_ns: int | None = None) -> None:
        """Do what is due: sync, and seal the files whose hour is over by more than a minute."""
        now_ns = time.time_ns() if now_ns is None else now_ns
        self._sync_due()
        self.seal(before_ns=now_ns - 60 * _NANOS)

    def seal(self, before_ns: int | None = None) -> None:
        """Seal the open files, or those whose hour ended before ``before_ns``."""
        for key in sorted(self._open):
            if before_ns is None or key.hour_ns + HOUR <= before_ns:
                self._seal(key)

    def close(self) -> None:
        """Seal every open file and let the next writer in."""
        try:
            self.seal()
        finally:
            for file in self._open.values():
                file.close()
            self._open.clear()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, columns: TickColumns) -> None:
        if "contract_id" in columns.columns:
            contracts = columns.numbers("contract_id")
            strangers = contracts[contracts != self.contract_id]
            if len(strangers):
                raise self._stranger(int(strangers[0]), self.tick_type)
        kinds = columns.columns.get("tick_type")
        if kinds is not None:
            for code in np.unique(kinds.codes):  # type: ignore[union-attr]
                kind = kinds.values[code] if code >= 0 else ""
                if kind != self.tick_type:
                    raise self._stranger(self.contract_id, str(kind))

    def _stranger(self, contract_id: int, tick_type: str) -> InputError:
        return InputError(
            f"a {tick_type} tick of contract {contract_id} does not belong to the stream "
            f"{self.tick_type} of contract {self.contract_id}",
            contract_id=contract_id,
            tick_type=tick_type,
        )

    def _file(self, time_ns: int) -> HourFile:
        """The open file for a time, opened or begun as needed."""
        hour = hour_of(time_ns)
        key = FileKey(self.contract_id, self.tick_type, hour)
        if time_ns - hour >= HALF_HOUR:
            half = FileKey(self.contract_id, self.tick_type, hour, half=True)
            if half in self._open:
                return self._open[half]
            first = self._open.get(key)
            if hour in self._halved or (first is not None and first.size > self._split_bytes):
                return self._begin(half, time_ns)
        file = self._open.get(key)
        return file if file is not None else self._begin(key, time_ns)

    def _begin(self, key: FileKey, time_ns: int) -> HourFile:
        while len(self._open) >= self._most_open:
            self._seal(next(iter(self._open)))
        half = FileKey(key.contract_id, key.tick_type, key.hour_ns, half=True)
        if (self._root / half.path).exists():
            self._halved.add(key.hour_ns)
        try:
            file = HourFile(self._root, key, time_ns)
        except CorruptFileError:
            if key.half:
                raise
            # A late tick for an hour that is sealed and damaged: keep both, apart.
            _log.exception("%s is damaged: ticks of its hour go to %s", key.path, half.path)
            return self._begin(half, time_ns)
        self._open[key] = file
        if key.half:
            self._halved.add(key.hour_ns)
        self._index.put_files(
            [
                FileRecord(
                    path=key.path,
                    contract_id=key.contract_id,
                    tick_type=key.tick_type,
                    hour_ns=key.hour_ns,
                    # A later arrival may be earlier in the hour.
                    start_ns=key.hour_ns,
                    end_ns=key.hour_ns + HOUR - 1,
                    size=file.size,
                    messages=file.header.message_count,
                    ticks=0,
                )
            ]
        )
        return file

    def _seal(self, key: FileKey) -> None:
        file = self._open[key]
        record = file.seal()
        del self._open[key]
        self._index.put_files([record])
        if self._on_sealed is not None:
            self._on_sealed(record)

    def _sync_due(self) -> None:
        if self._fsync is None:
            return
        now = time.monotonic()
        for file in self._open.values():
            if now - file.synced_at >= self._fsync:
                file.sync()
