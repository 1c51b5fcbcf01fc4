"""Ticks out of tables that others wrote."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.frames.foreign import ForeignTable, open_foreign
from ibticks.frames.intake import from_arrow
from ibticks.frames.naming import describe_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import tzinfo

    from ibticks.format.columns import TickColumns
    from ibticks.frames.times import Unit

__all__ = ["BATCH_ROWS", "count_rows", "file_columns", "read_batches"]

BATCH_ROWS: Final = 1 << 18
"""Rows read at a time: some tens of megabytes."""


def file_columns(path: str | PathLike[str]) -> list[str]:
    """The columns of a Parquet or delimited text file.

    Raises
    ------
    InputError
        If there is no such file, or it is neither.
    """
    return open_foreign(path).columns


def count_rows(path: str | PathLike[str]) -> int:
    """Count the rows of a Parquet file (at once) or of a text file (by reading it).

    Raises
    ------
    InputError
        If there is no such file, or it is neither.
    """
    return open_foreign(path).count()


def read_batches(
    path: str | PathLike[str],
    *,
    tick_type: str,
    contract_id: int,
    mapping: Mapping[str, str | None] | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: Unit | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[TickColumns]:
    r"""Read a Parquet or delimited text file as ticks, some rows at a time.

    Parameters
    ----------
    path : path-like
        Parquet, or text with a header, also compressed (``.csv.gz``).
    tick_type, contract_id
        What the rows are; a file that says otherwise is refused.
    mapping : mapping of str to str or None, optional
        Column of a tick to column of the file, where the names do not say it:
        see :func:`ibticks.frames.describe_mapping`.
    tz : str or tzinfo, optional
        Zone of times that do not say theirs.
    timestamp_unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers, if their size leaves a choice.
    batch_rows : int
        Rows at a time.

    Yields
    ------
    TickColumns
        Rows in the order of the file, sorted or not. Nulls, empty texts and NaN texts are absent; a
        condition that is a single text becomes a list of one. ``sequence`` is there if the file
        has it: the number of a row in its file is no part of a tick.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or has a value that fits no tick; the message
        names file and row (from 1), and the rows before it are yielded first. What is wrong with
        the columns is said before the first row is read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "trades.csv")
    >>> _ = path.write_text("time,last,qty\n2025-01-10 09:30:00,187.5,100\n")
    >>> ticks = next(read_batches(path, tick_type="last", contract_id=8314, tz="America/New_York"))
    >>> ticks.timestamp, ticks.numbers("size")
    (array([1736519400000000000]), array([100.]))
    """
    file = open_foreign(path)
    mapped, _ = describe_mapping(file.columns, tick_type, mapping)
    if batch_rows < 1:
        raise InputError(f"batch_rows must be at least 1, not {batch_rows}")

    def convert(batch: pa.Table) -> TickColumns:
        return from_arrow(
            batch,
            contract_id=contract_id,
            tick_type=tick_type,
            tz=tz,
            timestamp_unit=timestamp_unit,
        )

    def read() -> Iterator[TickColumns]:
        row = 0
        for batch in _renamed(file, mapped, batch_rows):
            try:
                yield convert(batch)
            except InputError as error:
                good, cause = _up_to_the_bad_row(batch, convert, error)
                if good is not None:
                    yield good
                bad = row + 1 + (0 if good is None else good.rows)
                raise _placed(cause, fspath(path), mapped, bad) from cause
            row += len(batch)

    return read()


def _up_to_the_bad_row(
    batch: pa.Table, convert: Callable[[pa.Table], TickColumns], error: InputError
) -> tuple[TickColumns | None, InputError]:
    """The rows before the first that cannot be read with them, and why it cannot."""
    good, low, high = None, 0, len(batch)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            good, low = convert(batch[:middle]), middle
        except InputError as earlier:
            error, high = earlier, middle
    return good, error


def _renamed(
    file: ForeignTable, mapped: Mapping[str, tuple[str, ...]], rows: int
) -> Iterator[pa.Table]:
    wanted = dict.fromkeys(source for sources in mapped.values() for source in sources)
    for batch in file.batches(list(wanted), rows):
        yield pa.table({name: _one(batch, sources) for name, sources in mapped.items()})


def _one(batch: pa.Table, sources: tuple[str, ...]) -> pa.ChunkedArray:
    if len(sources) == 1:
        return batch[sources[0]]
    date, time = (batch[source] for source in sources)
    if pa.types.is_timestamp(date.type):
        date = date.cast(pa.date32())
    texts = (part.cast(pa.large_string()) for part in (date, time))
    return pc.binary_join_element_wise(*texts, pa.scalar(" ", pa.large_string()))


def _placed(
    error: InputError, path: str, mapped: Mapping[str, tuple[str, ...]], row: int
) -> InputError:
    """The same error, knowing where in the file it happened."""
    sources = mapped.get(str(error.context.get("column")), ())
    read_from = f" (read from {', '.join(map(repr, sources))})" if sources else ""
    message = f"{path}, row {row}: {error}{read_from}"
    return type(error)(message, **{**error.context, "path": path, "row": row})
