"""Seal, compress and delete the files of a stream while their appender does not have them open.

It loads no compiler: the functions that seal and compress are passed in, and may be those of a
:class:`~ibticks.storage.SealProcess`.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from threading import Condition, RLock
from typing import TYPE_CHECKING

from ibticks.config import HOUR_NS
from ibticks.errors import CorruptFileError, StorageError, TickError
from ibticks.filesystem import explained, remove_file, write_anew
from ibticks.storage._hour_file import provisional_record
from ibticks.storage._layout import list_files, list_unfinished
from ibticks.storage._sealing import seal_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ibticks.index import FileRecord, Index
    from ibticks.storage._layout import FileKey
    from ibticks.storage._sealing import Compressor, Sealer

__all__ = ["StreamSealer"]

_log = logging.getLogger(__name__)


class StreamSealer:
    """Seals, compresses and deletes the files of one stream, one owner a file at a time.

    A file is *open* (reserved by the :class:`~ibticks.storage.StreamAppender`), *pending* (closed,
    to be sealed), *busy* (being sealed, compressed or deleted), or at rest. :meth:`reserve` waits
    for a busy file, and a busy file was not open; so no file is appended to while it is worked on.

    Every method may be called by any thread. The condition guards the three sets and is never held
    during input or output; the sealing lock is held by the one thread that seals. No method calls
    back into the appender.

    Parameters
    ----------
    root : Path
        The store.
    contract_id : int
    tick_type : str
    index : Index
        Takes the record of each file, before and after it is sealed or compressed.
    sealer : callable
        Recovers and seals files.
    on_sealed : callable, optional
        Called with the record of each file after it is sealed or compressed.
    """

    def __init__(
        self,
        root: Path,
        contract_id: int,
        tick_type: str,
        index: Index,
        sealer: Sealer,
        on_sealed: Callable[[FileRecord], None] | None = None,
    ) -> None:
        self._root = root
        self._contract_id = contract_id
        self._tick_type = tick_type
        self._index = index
        self._seal_files = sealer
        self._on_sealed = on_sealed
        self._condition = Condition()
        self._open: set[FileKey] = set()
        self._pending: set[FileKey] = set()
        self._encoded: set[FileKey] = set()  # of the pending ones
        self._busy: set[FileKey] = set()
        self._sealing = RLock()
        self._untrusted: set[FileKey] = set()  # pending files of which a sync may have failed

    # -- which files are open ----------------------------------------------------------------------

    def reserve(self, key: FileKey) -> bool:
        """Take a file for open, once it is not sealed, compressed or deleted at this moment.

        Returns
        -------
        bool
            Whether it was to be sealed; it no longer is.
        """
        with self._condition:
            self._condition.wait_for(lambda: key not in self._busy)
            was_pending = key in self._pending
            self._pending.discard(key)
            self._encoded.discard(key)
            self._open.add(key)
        return was_pending

    def release(self, key: FileKey, *, seal: bool, encoded: bool = False) -> None:
        """Take a file for closed, to be sealed by the next :meth:`seal_pending` or not.

        With ``encoded``, this process encoded all that was appended to it.
        """
        with self._condition:
            self._open.discard(key)
            if seal:
                self._pending.add(key)
                if encoded:
                    self._encoded.add(key)

    def is_open(self, key: FileKey) -> bool:
        """Return whether a file is open, or to be sealed."""
        with self._condition:
            return key in self._open or key in self._pending

    def announce(self, key: FileKey) -> None:
        """Put the record of a file whose contents are not known into the index."""
        self._index.put_files([provisional_record(self._root, key)])

    # -- sealing -----------------------------------------------------------------------------------

    def recover(self, *, backfill: bool) -> None:
        """Seal the files that an earlier writer left open, and remove its unfinished ones."""
        for unfinished in list_unfinished(
            self._root, self._contract_id, self._tick_type, backfill=backfill
        ):
            with explained(unfinished, "deleting"):
                unfinished.unlink()
        sealed = {
            record.path
            for record in self._index.files([self._contract_id], [self._tick_type])
            if record.sealed
        }
        files = list_files(self._root, self._contract_id, self._tick_type)
        own = (key for key in files if (key.suffix == "backfill") == backfill)
        _, damaged = self._seal_and_index([key for key in own if key.path not in sealed])
        for key in damaged:
            # A load has to meet it, to report that its ticks are missing.
            self.announce(key)

    def seal_pending(self) -> list[FileKey]:
        """Seal the closed files that are not sealed yet; return the damaged ones.

        Raises
        ------
        StorageError
            They are still to be sealed.
        """
        with self._sealing:
            with self._condition:
                keys = sorted(self._pending)
                self._busy.update(keys)
            sealed = False
            try:
                for key in sorted(self._untrusted.intersection(keys)):
                    if (self._root / key.path).exists():
                        # The next sync would succeed, whatever became of the bytes.
                        write_anew(self._root / key.path)
                self._untrusted.clear()
                try:
                    records, damaged = self._seal_and_index(keys)
                except StorageError:
                    self._untrusted.update(keys)
                    raise
                sealed = True
            finally:
                with self._condition:
                    if sealed:
                        self._pending.difference_update(keys)
                        self._encoded.difference_update(keys)
                    self._busy.difference_update(keys)
                    self._condition.notify_all()
            if self._on_sealed is not None:
                for record in records:
                    self._on_sealed(record)
        return damaged

    def _seal_and_index(self, keys: Sequence[FileKey]) -> tuple[list[FileRecord], list[FileKey]]:
        """Seal files and put them into the index; return their records, and the damaged files."""
        if not keys:
            return [], []
        if self._seal_files is seal_files:
            records = seal_files(self._root, keys, whole=self._encoded.intersection(keys))
        else:
            records = self._seal_files(self._root, keys)
        self._index.put_files(records)
        sealed = {record.path for record in records}
        rest = [key for key in keys if key.path not in sealed]
        damaged = [key for key in rest if (self._root / key.path).exists()]
        if len(damaged) < len(rest):
            self._index.drop_files([key.path for key in rest if key not in damaged])
        return records, damaged

    def enter(self, files: Sequence[tuple[FileKey, FileRecord]], *, durable: bool) -> None:
        """Put the records of open files that were written whole and sealed; they are closed then.

        Where that fails, or with ``durable`` false (the sync of a folder failed), the files are
        sealed by the next :meth:`seal_pending`, like other closed files.
        """
        entered = False
        try:
            if durable:
                try:
                    self._index.put_files([record for _, record in files])
                    entered = True
                except StorageError:
                    _log.exception("not in the index yet; it is tried again with the next seal")
            else:
                with self._sealing:
                    self._untrusted.update(key for key, _ in files)
        finally:
            for key, _ in files:
                self.release(key, seal=not entered)
        if entered and self._on_sealed is not None:
            for _, record in files:
                self._on_sealed(record)

    # -- compressing and deleting ------------------------------------------------------------------

    def compress(self, key: FileKey, compression: str, compressor: Compressor) -> None:
        """Compress a sealed file; only a message for this very file waits meanwhile.

        A file that is open, or gone, is left alone.

        Raises
        ------
        StorageError
            It stays as it is.
        """
        with self._claim(key) as is_claimed:
            if not is_claimed or not (self._root / key.path).exists():
                return
            record = self._compress_and_index(key, compression, compressor)
        if self._on_sealed is not None:
            self._on_sealed(record)

    def _compress_and_index(
        self, key: FileKey, compression: str, compressor: Compressor
    ) -> FileRecord:
        """Compress a file and put its record; after a kill in between, the next writer does."""
        records = self._index.files(
            [self._contract_id], [self._tick_type], key.hour_ns, key.hour_ns + HOUR_NS
        )
        before = [record for record in records if record.path == key.path]
        self.announce(key)  # this record is true of the old file and of the new one
        try:
            record = compressor(self._root, key, compression)
        except (StorageError, CorruptFileError):
            # Either file may be in place; of a damaged one the sealer returns no record.
            with suppress(TickError):
                self._index.put_files(self._seal_files(self._root, [key]) or before)
            raise
        self._index.put_files([record])
        return record

    def delete(self, key: FileKey) -> None:
        """Delete a file, unless it is open; only a message for this very file waits meanwhile.

        Its record has to leave the index before.

        Raises
        ------
        StorageError
            It stays where it is.
        """
        with self._claim(key) as is_claimed:
            if is_claimed:
                remove_file(self._root / key.path)

    @contextmanager
    def _claim(self, key: FileKey) -> Iterator[bool]:
        """Keep the appender from opening a file; False, and it is not kept, if it is open."""
        with self._condition:
            self._condition.wait_for(lambda: key not in self._busy)
            if key in self._open or key in self._pending:
                is_claimed = False
            else:
                is_claimed = True
                self._busy.add(key)
        try:
            yield is_claimed
        finally:
            if is_claimed:
                with self._condition:
                    self._busy.discard(key)
                    self._condition.notify_all()
