"""Replay: stored ticks at the times at which they came, or faster."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.config import NANOSECONDS
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    import numpy.typing as npt
    import polars as pl

    from ibticks.selection._selection import Selection

__all__ = ["Replay", "ReplayClock"]


class ReplayClock:
    """The clock of a replay: ticks are due as far apart as they were, divided by the speed.

    It begins with the first tick that it is asked about. A reader that is late gets what is due at
    once, so that delays do not add up.

    Parameters
    ----------
    speed : float
        Seconds of the ticks in a second of the replay; infinite for ticks without a wait.

    Raises
    ------
    InputError
        If the speed is not above zero.

    Examples
    --------
    >>> import numpy as np
    >>> ReplayClock(math.inf).count_due(np.array([0, 10**18]))
    2
    >>> ReplayClock(0.001).count_due(np.array([0, 10**18]))
    1
    """

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            raise InputError(
                f"speed={speed}: give the seconds of ticks to replay in a second, more than 0"
            )
        self._speed: Final = float(speed)
        self._start: tuple[int, float] | None = None  # of the first tick, and when it was due

    def count_due(self, times: npt.NDArray[np.int64]) -> int:
        """Count the ticks that are due by now, from the first one on.

        Parameters
        ----------
        times : numpy.ndarray
            int64, shape ``(ticks,)``, UTC nanoseconds in the order of the replay. A tick that is
            earlier than the one before it is due with that one.
        """
        if not len(times) or math.isinf(self._speed):
            return len(times)
        start_ns, started = self._begin(int(times[0]))
        elapsed_ns = (time.monotonic() - started) * self._speed * NANOSECONDS
        return int(np.searchsorted(np.maximum.accumulate(times) - start_ns, elapsed_ns, "right"))

    def seconds_to(self, tick_ns: int) -> float:
        """Return the seconds until a tick is due; not above zero once it is.

        Parameters
        ----------
        tick_ns : int
            UTC nanoseconds.
        """
        start_ns, started = self._begin(tick_ns)
        return started + (tick_ns - start_ns) / NANOSECONDS / self._speed - time.monotonic()

    def _begin(self, tick_ns: int) -> tuple[int, float]:
        if self._start is None:
            self._start = tick_ns, time.monotonic()
        return self._start


class Replay:
    """Iterator over the ticks of a selection as they become due, for ``for`` and ``async for``.

    Made by :meth:`Selection.replay`.

    Parameters
    ----------
    selection : Selection
    speed : float
    """

    def __init__(self, selection: Selection, speed: float) -> None:
        self._columns: Final = selection.columns
        self._speed: Final = speed
        self._clock = ReplayClock(speed)
        self._frames: Final = self._read(selection)
        self._frame: pl.DataFrame | None = None
        self._times: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pl.DataFrame:
        if not self._has_ticks() and not self._read_on():
            raise StopIteration
        while (seconds := self._clock.seconds_to(int(self._times[0]))) > 0:
            time.sleep(seconds)
        return self._take_due()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pl.DataFrame:
        if not self._has_ticks() and not await asyncio.to_thread(self._read_on):
            raise StopAsyncIteration
        while (seconds := self._clock.seconds_to(int(self._times[0]))) > 0:
            await asyncio.sleep(seconds)
        return self._take_due()

    def _has_ticks(self) -> bool:
        return bool(len(self._times))

    def _read_on(self) -> bool:
        """Read the next ticks; return False where there are no more."""
        self._frame = next(self._frames, None)
        if self._frame is None:
            return False
        self._times = self._frame["timestamp"].to_physical().to_numpy()
        return True

    def _read(self, selection: Selection) -> Iterator[pl.DataFrame]:
        """Yield frames of some hours; the time between two intervals is left out."""
        from ibticks.frames import to_polars

        columns = selection.columns
        if "timestamp" not in columns:
            columns = ("timestamp", *columns)
        for interval in selection.intervals:
            self._clock = ReplayClock(self._speed)
            for table in replace(selection, columns=columns, intervals=(interval,))._tables():
                if table.num_rows:
                    yield to_polars(table)

    def _take_due(self) -> pl.DataFrame:
        assert self._frame is not None
        rows = max(1, self._clock.count_due(self._times))
        due, self._frame = self._frame.head(rows), self._frame.slice(rows)
        self._times = self._times[rows:]
        return due.select(self._columns)
