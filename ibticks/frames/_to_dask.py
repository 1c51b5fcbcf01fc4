"""Ticks as a Dask frame: more than fits into memory, one file after the other."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ibticks.errors import MissingExtraError
from ibticks.frames._schema import arrow_schema
from ibticks.frames._to_pandas import to_pandas
from ibticks.schema import check_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    import pyarrow as pa

__all__ = ["to_dask"]

P = TypeVar("P")


def to_dask(
    partitions: Sequence[P],
    load: Callable[[P, tuple[str, ...]], pa.Table],
    columns: Sequence[str],
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

    Returns
    -------
    dask.dataframe.DataFrame
        Its partitions are frames of :func:`ibticks.frames.to_pandas`, with their dtypes; the
        categories are known when it is computed. Each has an index from 0, so the divisions are
        unknown: ``ddf.set_index("timestamp", sorted=True)`` makes them known where the
        partitions follow each other in time.

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
    names = list(check_columns(list(columns)))
    meta = _unknown_categories(to_pandas(arrow_schema(names).empty_table()))
    # Dask would turn the tuples of conditions into texts such as "('x',)".
    with dask.config.set({"dataframe.convert-string": False}):
        if not partitions:
            return dd.from_pandas(meta, npartitions=1)
        return dd.from_map(_Reader(load), list(partitions), meta=meta, columns=names, label="ticks")


@dataclass(frozen=True, slots=True)
class _Reader(Generic[P]):
    """Reads one partition; that it takes ``columns`` tells Dask to ask for what it needs."""

    load: Callable[[P, tuple[str, ...]], pa.Table]

    def __call__(self, partition: P, columns: Sequence[str]) -> pd.DataFrame:
        frame = to_pandas(self.load(partition, check_columns(tuple(columns))))
        return frame[list(columns)]


def _unknown_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell Dask that the partitions have categories of their own."""
    utilities = import_module("dask.dataframe.utils")
    return cast("pd.DataFrame", utilities.clear_known_categories(frame))
