"""Write a stream in bulk: whole columns, at millions of ticks a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.errors import StorageError
from ibticks.format import Encoder
from ibticks.schema import StringColumn, mask_absent_values
from ibticks.storage._layout import half_hours
from ibticks.storage._stream_appender import StreamAppender

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self, SupportsIndex, Unpack

    from ibticks._types import TickTypeLike
    from ibticks.index import Index
    from ibticks.schema import TickColumns
    from ibticks.storage._stream_appender import AppenderOptions

__all__ = ["StreamWriter"]


class StreamWriter:
    """The one writer of a stream of a store, for columns as well as single messages.

    Parameters and errors are those of :class:`~ibticks.storage.StreamAppender`, through which
    everything is written.

    Attributes
    ----------
    appender : StreamAppender
        The appender of the stream.
    """

    def __init__(
        self,
        root: Path,
        contract_id: SupportsIndex,
        tick_type: TickTypeLike,
        index: Index,
        **options: Unpack[AppenderOptions],
    ) -> None:
        self.appender: Final = StreamAppender(root, contract_id, tick_type, index, **options)
        self.contract_id: Final = self.appender.contract_id
        self.tick_type: Final = self.appender.tick_type

    def append(self, message: Mapping[str, Any]) -> None:
        """Append one v2 message; see :meth:`StreamAppender.append`."""
        self.appender.append(message)

    def encode(self, message: Mapping[str, Any]) -> tuple[bytes, int]:
        """Return the payload of a v2 message, and its time; see :meth:`StreamAppender.encode`."""
        return self.appender.encode(message)

    def append_payload(self, payload: bytes, time_ns: int) -> None:
        """Append one encoded message; see :meth:`StreamAppender.append_payload`."""
        self.appender.append_payload(payload, time_ns)

    def append_frames(self, frames: bytes | memoryview, time_ns: int) -> None:
        """Append whole frames; see :meth:`StreamAppender.append_frames`."""
        self.appender.append_frames(frames, time_ns)

    def maintain(self, now_ns: int | None = None) -> None:
        """Sync and seal what is due; see :meth:`StreamAppender.maintain`."""
        self.appender.maintain(now_ns)

    def seal(self, before_ns: int | None = None) -> None:
        """Seal open files; see :meth:`StreamAppender.seal`."""
        self.appender.seal(before_ns)

    def close(self) -> None:
        """Seal every open file and release the stream; see :meth:`StreamAppender.close`."""
        self.appender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, columns: TickColumns, *, stream_id: str = "") -> int:
        """Append ticks, in their order, each to the file of its hour.

        Parameters
        ----------
        columns : TickColumns
            With ``timestamp``; contract and tick type are those of the writer.
        stream_id : str
            Stream id of ticks without one.

        Returns
        -------
        int
            Number of ticks written: all, or an error was raised.

        Raises
        ------
        InputError
            If a tick is of another contract or tick type.
        StorageFullError, StorageError
            Those before the failing chunk are kept; ``context["written"]`` says how many.
        """
        self.check(columns)
        columns = mask_absent_values(columns)
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
                    self.appender.append_frames(frames.data, time_ns)
                    written = row
        except StorageError as error:
            raise error.with_context(written=written) from error
        return columns.rows

    def check(self, columns: TickColumns) -> None:
        """Raise :class:`~ibticks.errors.InputError` unless all ticks belong to this stream."""
        if "contract_id" in columns.columns:
            contracts = columns.numbers("contract_id")
            strangers = contracts[contracts != self.contract_id]
            if len(strangers):
                self.appender.check_stream(int(strangers[0]), self.tick_type)
        tick_types = columns.columns.get("tick_type")
        if isinstance(tick_types, StringColumn):
            for code in np.unique(tick_types.codes):
                tick_type = tick_types.values[code] if code >= 0 else ""
                self.appender.check_stream(self.contract_id, tick_type)
