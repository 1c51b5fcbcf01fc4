"""Stored ticks as a polars ``LazyFrame``: only what the query needs is read."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from polars.io.plugins import register_io_source

from ibticks.format import check_columns
from ibticks.frames._predicate import Bounds, bounds_of
from ibticks.frames._to_polars import polars_schema, to_polars

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["TickSource", "scan"]


class TickSource(Protocol):
    """Where a lazy frame reads its ticks."""

    def batches(
        self,
        columns: Sequence[str],
        *,
        start_ns: int | None,
        end_ns: int | None,
        contract_ids: frozenset[int] | None,
        tick_types: frozenset[str] | None,
    ) -> Iterator[pa.Table]:
        """Read ticks, some of them at a time, sorted by time throughout.

        The bounds are leave to skip: files and blocks outside them need not be read, and ticks
        outside them may be handed out all the same. A generator is closed as soon as no more ticks
        are wanted.

        Parameters
        ----------
        columns : sequence of str
            Columns of each table, in their standard order.
        start_ns, end_ns : int or None
            Half-open range of UTC nanoseconds.
        contract_ids, tick_types : frozenset or None
            The only ones wanted.

        Yields
        ------
        pyarrow.Table
            From :func:`ibticks.frames.to_table`.
        """
        ...


def scan(columns: Sequence[str], source: TickSource) -> pl.LazyFrame:
    """Make a lazy frame over a source of ticks.

    A query reads the columns it uses, stops after the rows it wants (``head``), and where its
    filter bounds ``timestamp``, ``contract_id`` or ``tick_type`` by constants, only files and
    blocks within: see ``bounds_of`` for what is understood.
    ``collect(engine="streaming")`` holds one batch at a time.

    Parameters
    ----------
    columns : sequence of str
        The columns of the frame.
    source : TickSource
        Read when the query is collected, once for each place where the frame stands in it.

    Returns
    -------
    polars.LazyFrame
        With the schema :func:`ibticks.frames.polars_schema`.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.frames import to_table
    >>> class Empty:
    ...     def batches(self, columns, **bounds):
    ...         yield to_table([], columns)
    >>> scan(["timestamp", "price"], Empty()).filter(pl.col("price") > 0).collect().shape
    (0, 2)
    """
    names = check_columns(list(columns))

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # a hint: files and blocks have their own size
    ) -> Iterator[pl.DataFrame]:
        wanted = list(names) if with_columns is None else with_columns
        used = {*wanted, *(() if predicate is None else predicate.meta.root_names())}
        # polars counts rows before it filters them: where it does both, all rows count.
        bounds = Bounds() if predicate is None or n_rows is not None else bounds_of(predicate)
        if bounds.empty or n_rows == 0:
            return
        left = n_rows
        batches = source.batches(check_columns(tuple(used)), **asdict(bounds))
        try:
            for table in batches:
                frame = to_polars(table)
                if left is not None:
                    frame = frame.head(left)
                    left -= frame.height
                if predicate is not None:
                    frame = frame.filter(predicate)
                yield frame.select(wanted)
                if left == 0:
                    break
        finally:
            if isinstance(batches, Generator):
                batches.close()

    return register_io_source(read, schema=polars_schema(names), is_pure=True)
