"""Ticks as a Dask frame: more than fits into memory, one partition after the other."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import pandas as pd

from ibticks.errors import MissingExtraError
from ibticks.frames._schema import arrow_schema
from ibticks.frames._to_pandas import to_pandas
from ibticks.schema import check_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from ibticks._types import Interval

__all__ = ["to_dask"]

P = TypeVar("P")


def to_dask(
    partitions: Sequence[P],
    load: Callable[[P, tuple[str, ...]], pa.Table],
    columns: Sequence[str],
    *,
    times: Sequence[Interval] | None = None,
) -> Any:
    """Make a Dask frame, one partition for each element of ``partitions``.

    Parameters
    ----------
    partitions : sequence
        What ``load`` takes, for example the description of a file. It goes to the workers with
        ``load``, so that both must pickle.
    load : callable
        ``load(partition, columns)`` reads one partition, sorted by time. It is asked for those
        columns alone that the computation uses.
    columns : sequence of str
        The columns of the frame.
    times : sequence of Interval, optional
        Bounds of the times of each partition, which follow each other: the frame has the times as
        its index, instead of the column ``timestamp``.

    Returns
    -------
    dask.dataframe.DataFrame
        Its partitions are frames of :func:`ibticks.frames.to_pandas`, with their dtypes; the
        categories are known when it is computed. With ``times``, its index is ``timestamp`` and the
        divisions are the bounds of the partitions; without, each partition has an index from 0,
        and the divisions are unknown.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    UnknownColumnError
        Naming the columns that exist.

    Examples
    --------
    >>> from ibticks.frames import to_table
    >>> hours = to_dask([14, 15], lambda hour, columns: to_table([], columns), ["price", "size"])
    >>> hours.npartitions, list(hours.columns), len(hours)
    (2, ['price', 'size'], 0)
    """
    try:
        dask, dd = import_module("dask"), import_module("dask.dataframe")
    except ImportError as error:
        raise MissingExtraError("Dask is not installed: pip install 'ibticks[dask]'") from error
    names = [name for name in check_columns(list(columns)) if times is None or name != "timestamp"]
    reader = _Reader(load, is_indexed=times is not None)
    meta = _unknown_categories(
        reader.frame(arrow_schema([*names, "timestamp"]).empty_table(), names)
    )
    # Dask would turn the tuples of conditions into texts such as "('x',)".
    with dask.config.set({"dataframe.convert-string": False}):
        if not partitions:
            return dd.from_pandas(meta, npartitions=1)
        return dd.from_map(
            reader,
            list(partitions),
            meta=meta,
            columns=names,
            label="ticks",
            divisions=None if times is None else _divisions(times),
        )


def _divisions(times: Sequence[Interval]) -> list[pd.Timestamp]:
    """Return the first time of each partition, and the last time of the last."""
    instants = [interval.start_ns for interval in times]
    instants.append(times[-1].end_ns - 1)
    return [pd.Timestamp(instant, tz="UTC") for instant in instants]


@dataclass(frozen=True, slots=True)
class _Reader(Generic[P]):
    """Reads one partition; that it takes ``columns`` tells Dask to ask for what it needs."""

    load: Callable[[P, tuple[str, ...]], pa.Table]
    is_indexed: bool

    def __call__(self, partition: P, columns: Sequence[str]) -> pd.DataFrame:
        used = [*columns, "timestamp"] if self.is_indexed else columns
        return self.frame(self.load(partition, check_columns(tuple(used))), columns)

    def frame(self, table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns of a table as a pandas frame, with the index of the partitions."""
        frame = to_pandas(table)
        if self.is_indexed:
            frame = frame.set_index("timestamp")
        return frame[list(columns)]


def _unknown_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell Dask that the partitions have categories of their own."""
    utilities = import_module("dask.dataframe.utils")
    return cast("pd.DataFrame", utilities.clear_known_categories(frame))
