"""Write a stream in bulk: whole columns, at millions of ticks a second."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.errors import StorageError
from ibticks.format import Encoder
from ibticks.schema import StringColumn, mask_absent_values
from ibticks.storage._layout import half_hours, hour_ranges
from ibticks.storage._stream_appender import StreamAppender
from ibticks.storage._whole_hours import WholeHourWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self, SupportsIndex, Unpack

    from ibticks._types import TickTypeLike
    from ibticks.index import Index
    from ibticks.schema import TickColumns
    from ibticks.storage._stream_appender import AppenderOptions

__all__ = ["StreamWriter"]

_BATCH_ROWS: Final = 1 << 18  # rows that are prepared for encoding together
_MIN_STEPS_BACK: Final = 100
_ROWS_PER_STEP_BACK: Final = 1_000
"""Rows, on average, between two that are in an earlier hour than the row before: in this much order
whole hours are looked for."""


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
        self._root = root
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

    def write(
        self,
        columns: TickColumns,
        *,
        stream_id: str = "",
        seal: bool = False,
        on_written: Callable[[int], None] | None = None,
    ) -> int:
        """Write ticks, in their order, each to the file of its hour.

        An hour that has no file yet, and whose ticks follow each other in ``columns``, gets its
        file as a whole: encoded by several threads, sealed and synced. All other ticks are
        appended, and so are those of the last hour, to which more may be appended.

        Parameters
        ----------
        columns : TickColumns
            With ``timestamp``; contract and tick type are those of the writer.
        stream_id : str
            Stream id of ticks without one.
        seal : bool
            Whether the last hour is complete, too.
        on_written : callable, optional
            Called with the number of ticks after each step of the write.

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
        written = 0

        def advance(rows: int) -> None:
            nonlocal written
            written += rows
            if on_written is not None:
                on_written(rows)

        try:
            self._write_hours(columns, stream_id, advance, seal=seal)
        except StorageError as error:
            raise error.with_context(written=written) from error
        return columns.rows

    def _write_hours(
        self,
        columns: TickColumns,
        stream_id: str,
        advance: Callable[[int], None],
        *,
        seal: bool,
    ) -> None:
        steps = columns.rows // _ROWS_PER_STEP_BACK + _MIN_STEPS_BACK
        ranges = hour_ranges(columns.timestamp, max_steps_back=steps)
        if ranges is None or len(ranges) > 1 or seal or columns.rows > _BATCH_ROWS:
            # Columns that cannot be encoded are refused before any tick is written.
            self._encoder(columns.take(slice(0, 0)), stream_id)
        if ranges is None or (len(ranges) == 1 and not seal):
            # Of hours in no order no file could be written as a whole.
            self._append_rows(columns, slice(0, columns.rows), stream_id, advance)
            return
        counts = Counter(hour.hour_ns for hour in ranges)
        is_whole = [counts[hour.hour_ns] == 1 for hour in ranges]
        if ranges and not seal:
            is_whole[-1] = False
        at = stop = 0
        with WholeHourWriter(self._root, self.appender, stream_id, advance) as whole_hours:
            while at < len(ranges):
                stop = max(at, stop)
                while stop < len(ranges) and is_whole[stop]:
                    stop += 1
                if at < stop:
                    at += whole_hours.write(columns, ranges, at, stop)
                if at < len(ranges):
                    _, first, last = ranges[at]
                    self._append_rows(columns, slice(first, last), stream_id, advance)
                    at += 1

    def _append_rows(
        self,
        columns: TickColumns,
        rows: slice,
        stream_id: str,
        advance: Callable[[int], None],
    ) -> None:
        for first in range(rows.start, rows.stop, _BATCH_ROWS):
            batch = columns.take(slice(first, min(first + _BATCH_ROWS, rows.stop)))
            encoder = self._encoder(mask_absent_values(batch), stream_id)
            for start, stop in half_hours(batch.timestamp):
                time_ns = int(batch.timestamp[start])
                for row, frames in encoder.chunks(start, stop):
                    self.appender.append_encoded(frames.data, time_ns)
                    advance(row - start)
                    start = row

    def _encoder(self, columns: TickColumns, stream_id: str) -> Encoder:
        return Encoder(
            columns, contract_id=self.contract_id, tick_type=self.tick_type, stream_id=stream_id
        )

    def check(self, columns: TickColumns) -> None:
        """Raise :class:`~ibticks.errors.InputError` unless all ticks belong to this stream."""
        if "contract_id" in columns.columns:
            contracts = columns.numbers("contract_id")
            strangers = contracts[contracts != self.contract_id]
            if len(strangers):
                self.appender.check_stream(int(strangers[0]), self.tick_type)
        tick_types = columns.columns.get("tick_type")
        if isinstance(tick_types, StringColumn):
            is_used = np.zeros(len(tick_types.values) + 1, dtype=np.bool_)
            is_used[tick_types.codes] = True  # the last one is that of code -1, absent
            for tick_type in itertools.compress((*tick_types.values, ""), is_used):
                self.appender.check_stream(self.contract_id, tick_type)
