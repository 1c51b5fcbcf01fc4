"""A capture compresses the old hours of its own streams: nobody else may while it writes them."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from ibticks.capture._maintenance import Rounds
from ibticks.config import NANOSECONDS
from ibticks.storage import HOUR, FileKey, SealerApart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ibticks.capture._recorder import Recorder
    from ibticks.index import Index

__all__ = ["HourCompressor"]

_COMPRESSION: Final = "zstd"


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
        self._index = index
        self._sealer = SealerApart()
        self._after_ns = round(after * NANOSECONDS)
        self._rounds = Rounds(
            "compress", recorders, self._visit, on_failure, at_end=self._sealer.close
        )

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> None:
        """End, once the file that is being compressed is done."""
        self._rounds.stop()

    def _visit(self, recorder: Recorder) -> None:
        for key in self._due(recorder):
            if not self._rounds.stopping:
                work = partial(recorder.compress, key, _COMPRESSION, self._sealer.compress)
                self._rounds.attempt(key, work)

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
                and file.path not in self._rounds.refused
            ):
                yield key
