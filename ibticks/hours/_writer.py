"""Write the ticks of one stream into hour files, without an index."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ibticks.errors import CorruptFileError, InputError
from ibticks.filesystem import expand_home, make_folder
from ibticks.format import from_protobuf
from ibticks.hours._files import describe_file
from ibticks.index import MemoryIndex
from ibticks.schema import TickColumns, check_contract_id, check_tick_type
from ibticks.storage import (
    FileKey,
    Ingest,
    StreamLock,
    StreamWriter,
    check_compression,
    compress_file,
    list_files,
)
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo
    from os import PathLike
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from ibticks._types import CompressionLike, TickTypeLike, TimeUnit
    from ibticks.index import FileRecord

__all__ = ["Duplicates", "HourWriter"]

Duplicates: TypeAlias = Literal["keep", "skip"]


class HourWriter:
    """Writer of one stream's hour files in a folder, without a store, an index or a database.

    The files have the places of a store, ``265598/last/2025/01/10/14_ticks.pb`` below the folder,
    so that a store can be opened there later. Ticks that a file has already are never overwritten:
    others of the same hour are appended. Files are sealed by :meth:`close`, at the end of a
    ``with`` block also where it raises. One writer has a stream at a time, in all processes.

    Parameters
    ----------
    folder : path-like
        Created where it does not exist.
    contract_id : int
    tick_type : {"last", "all_last", "bid_ask", "mid_point"}
    stream_id : str
        For ticks that have none.
    duplicates : {"keep", "skip"}
        ``keep`` writes every tick; ``skip`` those that the files do not have yet, so that a write
        can be interrupted and repeated.
    compression : {"none", "gzip", "zstd", "snappy"}
        Of the files that this writer has sealed, by :meth:`close`.

    Attributes
    ----------
    folder : Path
    contract_id : int
    tick_type : str

    Raises
    ------
    UnknownTickTypeError
    InputError
        If the contract id, the compression or ``duplicates`` is none there is.
    WriterLockedError
        If another writer, such as a capture, has the stream.
    StorageError
        If the folder cannot be written to.

    Notes
    -----
    The index of a store in the same folder is not updated: write with ``Store.write`` there, or run
    ``ibticks index rebuild`` afterwards.

    Examples
    --------
    >>> import tempfile
    >>> import polars as pl
    >>> import ibticks as ibt
    >>> folder = tempfile.mkdtemp()
    >>> frame = pl.DataFrame(
    ...     {"timestamp": ["2013-10-08T13:30:00Z", "2013-10-08T14:00:00Z"], "price": [179.8, 180.1]}
    ... )
    >>> with ibt.HourWriter(folder, 8314, "last", compression="zstd") as writer:
    ...     writer.write(frame)
    2
    >>> [path.relative_to(folder).as_posix() for path in writer.files]
    ['8314/last/2013/10/08/13_ticks.pb', '8314/last/2013/10/08/14_ticks.pb']
    >>> with ibt.HourWriter(folder, 8314, "last", duplicates="skip") as again:
    ...     again.write(frame)
    0
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        contract_id: int,
        tick_type: TickTypeLike,
        *,
        stream_id: str = "",
        duplicates: Duplicates = "keep",
        compression: CompressionLike = "none",
    ) -> None:
        if duplicates not in ("keep", "skip"):
            raise InputError(
                f"duplicates={duplicates!r} is neither 'keep' (write every tick) nor 'skip' (write "
                "the ticks that are not in the files yet)",
                duplicates=duplicates,
            )
        self.folder: Final = expand_home(folder)
        self.contract_id: Final = check_contract_id(contract_id)
        self.tick_type: Final = check_tick_type(tick_type)
        self._stream_id: Final = stream_id
        self._skips: Final = duplicates == "skip"
        self._compression: Final = check_compression(compression)
        self._sealed: dict[str, FileRecord] = {}
        self._is_closed = False
        make_folder(self.folder)
        self._writer: Final = StreamWriter(
            self.folder,
            self.contract_id,
            self.tick_type,
            MemoryIndex(self._sealed_files()),
            fsync=None,
            on_sealed=self._add_sealed,
        )
        self._tick_ingest: Final = Ingest(self.folder, self._writer)
        self._message_ingest: Final = Ingest(self.folder, self._writer)

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of the files that this writer has sealed, by time."""
        return tuple(self.folder / path for path in sorted(self._sealed))

    def write(
        self,
        frame: Any,
        *,
        tz: str | tzinfo | None = None,
        timestamp_unit: TimeUnit | None = None,
    ) -> int:
        """Write the ticks of a frame, each to the file of its hour.

        Parameters
        ----------
        frame : pyarrow.Table, polars.DataFrame, pandas.DataFrame, xarray.Dataset, or another
            Any frame that ``Store.write`` takes, :class:`ibticks.hours.HourTicks`, or
            ``TickColumns``. Contract and tick type are those of the writer; columns that state
            others are refused.
        tz : str or tzinfo, optional
            Zone of times that have none.
        timestamp_unit : {"s", "ms", "us", "ns"}, optional
            Unit of times that are numbers, if their size leaves a choice.

        Returns
        -------
        int
            Ticks written; with ``duplicates="skip"`` without those that the files had already.

        Raises
        ------
        InputError
            If the frame has no ticks of this stream, or the writer is closed.
        StorageFullError, StorageError
            Ticks before the failing one are kept.
        """
        self._check_open()
        if isinstance(frame, TickColumns):
            columns = frame
        else:
            from ibticks.frames import from_arrow

            columns = from_arrow(
                frame,
                contract_id=self.contract_id,
                tick_type=self.tick_type,
                tz=tz,
                timestamp_unit=timestamp_unit,
            )
        if not self._skips:
            return self._writer.write(columns, stream_id=self._stream_id)
        before = self._tick_ingest.added
        self._tick_ingest.add(columns, stream_id=self._stream_id)
        return self._tick_ingest.added - before

    def append(self, message: Mapping[str, Any] | StreamMessage) -> bool:
        """Append one message of any type: a v2 message as a dictionary, or a ``StreamMessage``.

        Returns
        -------
        bool
            Whether it was written; False for one that the files had already, with
            ``duplicates="skip"``.

        Raises
        ------
        ProtocolError
            If it is no v2 message.
        InputError
            If it is a tick of another stream, or the writer is closed.
        StorageFullError, StorageError
            The message is then not in the file.
        """
        self._check_open()
        v2 = from_protobuf(message) if isinstance(message, StreamMessage) else message
        if not self._skips:
            self._writer.append(v2)
            return True
        before = self._message_ingest.added
        self._message_ingest.add_messages([v2])
        return self._message_ingest.added > before

    def close(self) -> None:
        """Seal the files, and compress them; a second call does nothing.

        Raises
        ------
        CorruptFileError
            If a file cannot be sealed, since what it had before is damaged.
        StorageError
            If the operating system refuses.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._writer.close()
        if self._compression == "none" or not self._sealed:
            return
        lock = StreamLock(self.folder, self.contract_id, self.tick_type)
        try:
            for path in self._sealed:
                key = FileKey.parse(path)
                if key is not None:
                    compress_file(self.folder, key, self._compression)
        finally:
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"HourWriter({str(self.folder)!r}, {self.contract_id}, {self.tick_type!r}, {state})"

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError(f"{self!r}: open another writer, which appends to the same files")

    def _add_sealed(self, record: FileRecord) -> None:
        self._sealed[record.path] = record

    def _sealed_files(self) -> list[FileRecord]:
        """Describe the sealed files of the stream, which the writer need not read through."""
        records = []
        for key in list_files(self.folder, self.contract_id, self.tick_type):
            try:
                file = describe_file(self.folder / key.path)
            except CorruptFileError:
                continue
            if file.is_sealed:
                records.append(replace(file.record, path=key.path, sealed=True))
        return records
