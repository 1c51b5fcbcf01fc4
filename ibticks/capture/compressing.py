"""A capture compresses the old hours of its own streams: nobody else may while it writes them."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from ibticks.config import NANOSECONDS
from ibticks.errors import StorageError
from ibticks.storage.layout import HOUR, FileKey
from ibticks.storage.sealing_apart import SealerApart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ibticks.capture.recorder import Recorder
    from ibticks.index.records import Index

__all__ = ["HourCompressor"]

_log = logging.getLogger(__name__)
_COMPRESSION: Final = "zstd"
_EVERY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0


class HourCompressor:
    """Compresses files once their hour is long over, one at a time, in another process.

    Not the one that seals: what is to be synced and sealed does not wait for it.

    Parameters
    ----------
    recorders : sequence of Recorder
    index : Index
        Where their files are found.
    after : float
        Seconds since the end of an hour.
    on_failure : callable
        Told where, and what exception, of anything unexpected.
    """

    def __init__(
        self,
        recorders: Sequence[Recorder],
        index: Index,
        after: float,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._recorders = recorders
        self._index = index
        self._sealer = SealerApart()
        self._after_ns = round(after * NANOSECONDS)
        self._on_failure = on_failure
        self._refused: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ibticks-compressor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the file that is being compressed is done."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        while not self._stopping.wait(_EVERY_SECONDS):
            for recorder in self._recorders:
                try:
                    for key in self._due(recorder):
                        if not self._stopping.is_set():
                            self._compress(recorder, key)
                except Exception as error:
                    _log.exception("%s: compressing failed", recorder.stream_id)
                    self._on_failure("compress", error)
            self._sealer.close()

    def _due(self, recorder: Recorder) -> Iterator[FileKey]:
        before_ns = time.time_ns() - self._after_ns
        for file in self._index.files(
            [recorder.contract_id], [recorder.tick_type], None, before_ns
        ):
            key = FileKey.parse(file.path)
            if (
                key is not None
                and file.sealed
                and not file.backfilled
                and file.compression != _COMPRESSION
                and file.hour_ns + HOUR <= before_ns
                and file.path not in self._refused
            ):
                yield key

    def _compress(self, recorder: Recorder, key: FileKey) -> None:
        try:
            recorder.compress(key, _COMPRESSION, self._sealer.compress)
        except StorageError as error:
            # It stays as it is, and is not tried every minute.
            self._refused.add(key.path)
            _log.exception("%s is not compressed", key.path)
            self._on_failure("compress", error)
