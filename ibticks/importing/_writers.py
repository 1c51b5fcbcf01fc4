"""Writers of the streams that one file is imported into."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from ibticks.storage import Ingest

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ibticks.storage import StreamWriter
    from ibticks.store import Store

__all__ = ["StreamWriters"]

_MOST_OPEN: Final = 100
"""Streams that are open at a time: each has some file descriptors."""


class StreamWriters:
    """Open writers of many streams, the least recently used closed first.

    What an import knows of a stream outlives its writer: equal ticks of one file are all kept,
    whether or not the writer was closed between them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: OrderedDict[tuple[int, str], StreamWriter] = OrderedDict()
        self._ingests: dict[tuple[int, str], Ingest] = {}

    def ingest(self, contract_id: int, tick_type: str) -> Ingest:
        """Return the ingest of a stream, its writer open."""
        stream = contract_id, tick_type
        if stream in self._open:
            self._open.move_to_end(stream)
            return self._ingests[stream]
        while len(self._open) >= _MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        writer = self._store.writer(contract_id, tick_type, fsync=None)
        self._open[stream] = writer
        if stream in self._ingests:
            self._ingests[stream].resume(writer)
        else:
            self._ingests[stream] = Ingest(self._store.root, writer)
        return self._ingests[stream]

    @property
    def streams(self) -> tuple[tuple[int, str], ...]:
        """Contract ids and tick types that were written to, in order."""
        return tuple(sorted(self._ingests))

    @property
    def added(self) -> int:
        """Ticks written."""
        return sum(ingest.added for ingest in self._ingests.values())

    @property
    def known(self) -> int:
        """Ticks that the store had already."""
        return sum(ingest.known for ingest in self._ingests.values())

    def close(self) -> None:
        """Close every writer, also where closing one of them fails."""
        while self._open:
            _, writer = self._open.popitem()
            try:
                writer.close()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
