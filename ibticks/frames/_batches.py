"""Tables that follow each other as Arrow record batches, and as a stream of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["batch_stream", "slice_batches"]


def slice_batches(tables: Iterable[pa.Table], rows: int | None = None) -> Iterator[pa.RecordBatch]:
    """Cut tables that follow each other into record batches.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        From :func:`ibticks.frames.to_table`, all with the same columns.
    rows : int, optional
        Rows of each batch, of which the last may have fewer; by default batches are the chunks of
        the tables, which copies nothing.

    Yields
    ------
    pyarrow.RecordBatch
        With at least one row; its categories are those of its rows.

    Examples
    --------
    >>> tables = [pa.table({"size": [1, 2]}), pa.table({"size": [3, 4, 5]})]
    >>> [batch["size"].to_pylist() for batch in slice_batches(tables, 4)]
    [[1, 2, 3, 4], [5]]
    """
    if rows is None:
        for table in tables:
            yield from table.to_batches()
        return
    left: pa.Table | None = None
    for table in tables:
        left = table if left is None else pa.concat_tables([left, table])
        end = left.num_rows - left.num_rows % rows
        for start in range(0, end, rows):
            yield from left.slice(start, rows).combine_chunks().to_batches()
        left = left.slice(end)
    if left is not None and left.num_rows:
        yield from left.combine_chunks().to_batches()


def batch_stream(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.RecordBatchReader:
    """Return a stream that takes each table when its batches are read.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        With the columns of the schema, in its order.
    schema : pyarrow.Schema
        Of the stream, with its metadata.

    Examples
    --------
    >>> batch_stream([], pa.schema({"size": pa.int64()})).read_all().num_rows
    0
    """
    batches = slice_batches(table.replace_schema_metadata(schema.metadata) for table in tables)
    return pa.RecordBatchReader.from_batches(schema, batches)
