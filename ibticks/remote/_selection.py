"""A selection whose ticks come from a service."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa

from ibticks._types import Interval, StreamKey
from ibticks.errors import CorruptDataWarning, InputError
from ibticks.frames import from_arrow, metadata_of, parse_bounds, scan, to_dask, to_polars
from ibticks.index import FileRecord
from ibticks.remote._wire import decode_coverage
from ibticks.schema import check_columns
from ibticks.selection import Selection, filter_rows, narrow, partition_by_hour

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import dask.dataframe as dd

    from ibticks._types import StreamKeyLike
    from ibticks.coverage import Coverage
    from ibticks.remote._connection import Connection
    from ibticks.schema import TickColumns

__all__ = ["RemoteSelection"]

_READ_BYTES = 1 << 20


@dataclass(frozen=True, repr=False)
class RemoteSelection(Selection):
    """Ticks of a store that a service has, described by contracts, tick types and intervals.

    Made by :meth:`RemoteStore.select`. Frames are those that the same selection loads on the
    machine of the service, with their metadata; the service reads and filters.
    """

    connection: Connection = field(kw_only=True, compare=False)

    def files(self) -> list[FileRecord]:
        """List the files that may hold its ticks, by contract, tick type and hour."""
        rows = self.connection.get("/v2/ticks/files", self._query())
        return [FileRecord.from_dict(row) for row in rows]

    def count(self) -> int:
        """Count the ticks, on the machine of the service."""
        return int(self.connection.get("/v2/ticks/count", self._query())["count"])

    def describe(self) -> pl.DataFrame:
        """Return the figures of :meth:`ibticks.Selection.describe`."""
        return self._figures("describe")

    def daily(self) -> pl.DataFrame:
        """Return the figures of :meth:`ibticks.Selection.daily`."""
        return self._figures("daily")

    def read(self) -> list[TickColumns]:
        """Load the ticks as numpy columns."""
        return [from_arrow(pl.DataFrame(self.to_arrow()))]

    def to_arrow(self) -> pa.Table:
        """Load an Arrow table; its schema metadata has the selection and its coverage.

        Raises
        ------
        RemoteError
            If the service cannot be reached, or fails.

        Warns
        -----
        CorruptDataWarning
            If damaged data was left out; has the missing time range.
        """
        table = self.connection.table("/v2/ticks", self._query(columns=self.columns))
        if missing := metadata_of(table).get("missing"):
            warnings.warn(_damage(missing), CorruptDataWarning, stacklevel=2)
        return table

    def _tables(self) -> Iterator[pa.Table]:
        return _RemoteBatches(self).batches(self.columns)

    def tail(self, n: int = 5) -> pl.DataFrame:
        """Load the last ``n`` ticks; see :meth:`ibticks.Selection.tail`."""
        if n < 0:
            raise InputError(f"n={n} ticks cannot be loaded: give 0 or more")
        query = self._query(columns=self.columns, limit=n, order="desc")
        return to_polars(self.connection.table("/v2/ticks", query)).reverse()

    def lazy(self) -> pl.LazyFrame:
        """Return a polars lazy frame that pushes columns and bounds of time to the service."""
        return scan(self.columns, _RemoteBatches(self))

    def to_dask(
        self,
        *,
        index: Literal["timestamp"] | None = None,
        where: pl.Expr | None = None,
    ) -> dd.DataFrame:
        """Return a Dask frame whose workers load their hours from the service.

        Parameters, errors and the rows of the frame are those of
        :meth:`ibticks.Selection.to_dask`. Without an index, partitions follow each other stream by
        stream. Workers get the URL and the token of the service, and need neither files nor a
        database.

        Parameters
        ----------
        index : {"timestamp"}, optional
            The index of the frame; with it the divisions are known.
        where : polars.Expr, optional
            Filter, of which the bounds of time, contracts and tick types go to the service.

        Returns
        -------
        dask.dataframe.DataFrame

        Raises
        ------
        InputError
            If ``index`` is another column.
        MissingExtraError
            If Dask is not installed.
        UnknownColumnError
            Naming the columns that exist.
        """
        if index not in (None, "timestamp"):
            raise InputError(f"index={index!r}: a Dask frame has the index 'timestamp', or None")
        narrowed: Selection | None = self
        if where is not None:
            check_columns(tuple(where.meta.root_names()))
            narrowed = narrow(self, **asdict(parse_bounds(where)))
        partitions: list[RemoteSelection] = []
        if narrowed is not None:
            assert isinstance(narrowed, RemoteSelection)
            partitions = [*narrowed._partitions(by_stream=index is None)]
        frame: dd.DataFrame = to_dask(
            partitions,
            partial(_load_partition, where),
            self.columns,
            times=None if index is None else [part.intervals[0] for part in partitions],
        )
        return frame

    def _partitions(self, *, by_stream: bool) -> Iterator[RemoteSelection]:
        """Yield the selection of each hour, or of each hour of each stream."""
        files = self.files()
        streams = {record.stream: None for record in files}
        for stream in streams if by_stream else [None]:
            chosen = [record for record in files if stream in (None, record.stream)]
            for part in partition_by_hour(chosen, self.intervals):
                if part.first_ns < part.after_ns:
                    yield replace(
                        self,
                        contract_ids=self.contract_ids if stream is None else (stream[0],),
                        tick_types=self.tick_types if stream is None else (stream[1],),
                        intervals=(Interval(part.first_ns, part.after_ns),),
                    )

    def messages(self, *, ticks: bool = False) -> Iterator[dict[str, Any]]:
        """Iterate over messages as v2 JSON dictionaries; see :meth:`ibticks.Selection.messages`.

        Yields
        ------
        dict
            A message.
        """
        query = self._query(ticks=ticks)
        with self.connection.stream("/v2/ticks/messages", query) as response:
            for line in response.iter_lines():
                yield json.loads(line)

    def coverage(self, streams: Collection[StreamKeyLike] | None = None) -> Coverage:
        """Return what was captured of the selection and what was not, with reasons."""
        coverage = decode_coverage(self.connection.get("/v2/ticks/coverage", self._query()))
        if streams is None:
            return coverage
        chosen = {StreamKey(*stream) for stream in streams}
        return replace(
            coverage,
            streams=tuple(stream for stream in coverage.streams if stream in chosen),
            state_intervals=tuple(
                part for part in coverage.state_intervals if part.stream in chosen
            ),
        )

    def metadata(self) -> dict[str, Any]:
        """Return the selection and its coverage, as the schema metadata of its frames have them."""
        table = self.connection.table("/v2/ticks", self._query(columns=self.columns, limit=0))
        metadata = metadata_of(table)
        metadata.pop("missing", None)  # nothing was read
        return metadata

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the selection with the URL and the token of its service."""
        values = {value.name: getattr(self, value.name) for value in fields(self)}
        return _restored, (values | {"decoded": None},)

    def _figures(self, kind: str) -> pl.DataFrame:
        with self.connection.stream(f"/v2/ticks/{kind}", self._query()) as response:
            return pl.read_ipc_stream(io.BytesIO(response.read()))

    def _query(self, *, columns: Sequence[str] | None = None, **more: Any) -> dict[str, Any]:
        return {
            "contract_ids": ",".join(map(str, self.contract_ids)),
            "tick_types": ",".join(self.tick_types),
            "intervals": ",".join(f"{start}:{end}" for start, end in self.intervals),
            "label": self.label,
            "strict": self.strict,
            "backfill": self.backfill,
            "columns": None if columns is None else ",".join(columns),
            **more,
        }


def _restored(values: dict[str, Any]) -> RemoteSelection:
    return RemoteSelection(**values)


def _load_partition(
    where: pl.Expr | None, selection: RemoteSelection, columns: tuple[str, ...]
) -> pa.Table:
    """Load a partition of a Dask frame, on a worker."""
    used = check_columns((*columns, *(() if where is None else where.meta.root_names())))
    table = replace(selection, columns=used).to_arrow()
    return (table if where is None else filter_rows(table, where)).select(columns)


@dataclass(frozen=True, slots=True)
class _RemoteBatches:
    """Source of the batches of a remote selection, within bounds."""

    selection: RemoteSelection

    def batches(
        self,
        columns: Sequence[str],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        contract_ids: frozenset[int] | None = None,
        tick_types: frozenset[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield tables as they arrive; None stands for the bounds of the selection."""
        narrowed = narrow(
            self.selection,
            start_ns=start_ns,
            end_ns=end_ns,
            contract_ids=contract_ids,
            tick_types=tick_types,
        )
        if narrowed is None:
            return
        assert isinstance(narrowed, RemoteSelection)
        query = narrowed._query(columns=columns, format="arrow")
        with narrowed.connection.stream("/v2/ticks", query) as response:
            body = _Body(response.iter_bytes(_READ_BYTES))
            with pa.ipc.open_stream(io.BufferedReader(body, _READ_BYTES)) as reader:
                for batch, metadata in reader.iter_batches_with_custom_metadata():
                    if metadata is not None:
                        schema = reader.schema.with_metadata(dict(metadata))
                        missing = metadata_of(schema).get("missing")
                        warnings.warn(_damage(missing), CorruptDataWarning, stacklevel=2)
                    else:
                        yield pa.Table.from_batches([batch])


class _Body(io.RawIOBase):
    """A response as a file that is read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _damage(missing: Any) -> str:
    intervals = ", ".join(f"{start} to {end}" for start, end in missing)
    return (
        f"damaged data was left out, from {intervals}: `ibticks verify` on the machine of the "
        "service names the files"
    )
