"""Writing a stream in bulk: whole columns, at millions of ticks a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibticks.errors import StorageError
from ibticks.format import Encoder
from ibticks.schema import StringColumn, mask_absent_values
from ibticks.storage._appender import StreamAppender
from ibticks.storage._layout import half_hours

if TYPE_CHECKING:
    from ibticks.schema import TickColumns

__all__ = ["StreamWriter"]


class StreamWriter(StreamAppender):
    """The one writer of a stream of a store, for columns as well as single messages.

    Parameters and errors are those of :class:`~ibticks.storage.StreamAppender`.
    """

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
                    self.append_frames(frames.data, time_ns)
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
                raise self._stranger(int(strangers[0]), self.tick_type)
        kinds = columns.columns.get("tick_type")
        if isinstance(kinds, StringColumn):
            for code in np.unique(kinds.codes):
                kind = kinds.values[code] if code >= 0 else ""
                if kind != self.tick_type:
                    raise self._stranger(self.contract_id, kind)
