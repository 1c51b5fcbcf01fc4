"""Which ticks: a description that costs nothing until it is turned into a frame."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.errors import InputError
from ibticks.schema import check_columns, list_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from os import PathLike
    from pathlib import Path

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import xarray as xr

    from ibticks.coverage import Coverage
    from ibticks.index import FileRecord, Index
    from ibticks.schema import TickColumns
    from ibticks.storage import ColumnCache

__all__ = ["Backfill", "Interval", "Selection"]

_log = logging.getLogger(__name__)

Interval = tuple[int, int]
"""Half-open range of UTC nanoseconds."""

Backfill: TypeAlias = Literal["exclude", "include", "only"]
"""What of a selection comes of ticks that were asked of IB afterwards, and not captured."""

_IN_WORDS: Final[dict[Backfill, str]] = {
    "exclude": "",
    "include": ", with backfilled ticks",
    "only": ", backfilled ticks only",
}
_MANY: Final = 3


@dataclass(frozen=True, repr=False)
class Selection:
    """Some ticks of a store: contracts, tick types and stretches of time.

    Made by :meth:`ibticks.Store.select`. It is cheap and lazy: the index is asked and files are
    read each time it is turned into a frame. Everything it gives has the same columns, in the
    same order, with the same dtypes, sorted by timestamp; equal timestamps keep the order of
    arrival.

    Attributes
    ----------
    contract_ids : tuple of int
    tick_types : tuple of str
    intervals : tuple of (int, int)
        Half-open ranges of UTC nanoseconds, in order, none overlapping another.
    columns : tuple of str
        In their standard order.
    strict : bool
        Whether damaged data raises, instead of being left out with a warning.
    label : str
        What was asked for, in words.
    backfill : {"exclude", "include", "only"}
        Whether ticks that were asked of IB afterwards are among them. Their times are whole
        seconds; the column ``metadata`` has ``source: backfill``, and ``sequence`` is null.
    decoded : Decoded or None
        What earlier loads have decoded, to be used again.
    counts_from_clock : bool
        Whether its time was given relative to now by the clock, as in ``"1h"``: if that has no
        ticks, a load logs what there is.
    explains_empty_loads : bool
        Whether a load without ticks logs which tick types the store has of the contracts, if it has
        none of those selected.
    """

    root: Path
    index: Index = field(compare=False)
    contract_ids: tuple[int, ...]
    tick_types: tuple[str, ...]
    intervals: tuple[Interval, ...]
    columns: tuple[str, ...]
    strict: bool = False
    label: str = ""
    backfill: Backfill = "exclude"
    decoded: ColumnCache | None = field(default=None, compare=False)
    counts_from_clock: bool = field(default=False, compare=False)
    explains_empty_loads: bool = field(default=True, compare=False)

    def files(self) -> list[FileRecord]:
        """The files that may hold its ticks, by contract, tick type and hour."""
        found: dict[str, FileRecord] = {}
        for start_ns, end_ns in self.intervals:
            for record in self.index.files(self.contract_ids, self.tick_types, start_ns, end_ns):
                if self.backfill == "include" or record.backfilled == (self.backfill == "only"):
                    found[record.path] = record
        return sorted(found.values(), key=lambda r: (r.contract_id, r.tick_type, r.hour_ns, r.path))

    def with_columns(self, *columns: str) -> Selection:
        """The same ticks with these columns only; ``stream_id`` and ``metadata`` come this way.

        Raises
        ------
        UnknownColumnError
            Naming the columns that exist.
        InputError
            If there is none.
        """
        return replace(self, columns=_some_columns(columns))

    def count(self) -> int:
        """How many ticks there are; files that lie wholly inside are not read for it."""
        total = 0
        for record in self.files():
            for start_ns, end_ns in self.intervals:
                if not _overlaps(record, start_ns, end_ns):
                    continue
                if record.sealed and start_ns <= record.start_ns and record.end_ns < end_ns:
                    total += record.ticks
                else:
                    parts = self._read([record], ["timestamp"], start_ns, end_ns)
                    total += sum(part.rows for part in parts)
        return total

    def read(self) -> list[TickColumns]:
        """The ticks as plain numpy columns, stream by stream, each in the order of its files.

        What every frame is made of; warnings and errors are those of :meth:`to_arrow`.
        """
        return [
            part
            for stream in _by_stream(self.files())
            for start_ns, end_ns in self.intervals
            for part in self._read(
                [r for r in stream if _overlaps(r, start_ns, end_ns)],
                [*self.columns, "timestamp"],
                start_ns,
                end_ns,
                self.decoded,
            )
        ]

    def to_arrow(self) -> pa.Table:
        """An Arrow table; its schema metadata says what was selected and what is missing.

        Returns
        -------
        pyarrow.Table
            With the columns of the selection; :func:`ibticks.frames.arrow_type` has their types.

        Warns
        -----
        CorruptDataWarning
            Where damaged data was left out, and which time range is missing.

        Raises
        ------
        CorruptFileError
            With ``strict``, at damaged data.
        """
        from ibticks.frames import to_table

        table = to_table(self.read(), self.columns, metadata=self._metadata())
        if not table.num_rows and (self.counts_from_clock or self._is_of_other_tick_types()):
            _log.warning("0 ticks; %s", self.describe_stored())
        return table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The ticks through the Arrow PyCapsule interface, for any library that speaks it."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_polars(self) -> pl.DataFrame:
        """A polars frame; warnings and errors are those of :meth:`to_arrow`."""
        from ibticks.frames import to_polars

        return to_polars(self.to_arrow())

    def to_pandas(self) -> pd.DataFrame:
        """A pandas frame, rows numbered from 0; ``df.attrs["ibticks"]`` says what was selected.

        Warnings and errors are those of :meth:`to_arrow`.
        """
        from ibticks.frames import to_pandas

        return to_pandas(self.to_arrow())

    def to_xarray(self) -> xr.Dataset:
        """An xarray dataset along one dimension; warnings and errors as :meth:`to_arrow`."""
        from ibticks.frames import to_xarray

        return to_xarray(self.to_arrow())

    def lazy(self) -> pl.LazyFrame:
        """A polars lazy frame: filters, columns and ``head`` reach down to the files.

        Examples
        --------
        A query over years reads only the hours, the blocks and the columns it needs::

            (
                store.select("AAPL", "last")
                .lazy()
                .filter(pl.col("timestamp") >= datetime(2025, 1, 10, 15, tzinfo=UTC))
                .group_by_dynamic("timestamp", every="1m")
                .agg(pl.col("size").sum())
                .collect()
            )
        """
        from ibticks.frames import scan

        self._symbols()
        return scan(self.columns, _HourByHour(self))

    def write_parquet(self, path: str | PathLike[str]) -> int:
        """Write the ticks to a Parquet file, an hour at a time; every type and the metadata stay.

        Parameters
        ----------
        path : path-like
            Replaced once the new file is complete; until then it is as it was.

        Returns
        -------
        int
            Ticks written.

        Warns
        -----
        CorruptDataWarning
            As :meth:`to_arrow`.

        Raises
        ------
        StorageFullError, StoreAccessError, StorageError
            The file cannot be written.
        CorruptFileError
            With ``strict``, at damaged data.
        """
        return self._write(path, "parquet")

    def write_csv(self, path: str | PathLike[str]) -> int:
        """Write the ticks to a CSV file, an hour at a time; as :meth:`write_parquet`.

        Times are ISO 8601 in UTC to the nanosecond, conditions are joined by ``;`` and the column
        ``metadata`` is JSON. ``ibticks import`` reads the file again.
        """
        return self._write(path, "csv")

    def write_ipc(self, path: str | PathLike[str]) -> int:
        """Write the ticks to an Arrow (Feather) file, an hour at a time; as :meth:`write_parquet`.

        The rows pass through an intermediate file in the same folder.
        """
        return self._write(path, "ipc")

    def _write(self, path: str | PathLike[str], kind: Literal["csv", "ipc", "parquet"]) -> int:
        from ibticks.filesystem import expand_home, written_beside
        from ibticks.frames import write_tables

        target = expand_home(path)
        batches = _HourByHour(self).batches(
            self.columns, start_ns=None, end_ns=None, contract_ids=None, tick_types=None
        )
        with written_beside(target) as descriptor, open(descriptor, "w+b", closefd=False) as file:
            return write_tables(
                batches,
                self.columns,
                file,
                kind,
                metadata=self._metadata(),
                scratch=target.parent,
            )

    def to_dask(self) -> Any:
        """A Dask frame with one partition for each file.

        Raises
        ------
        MissingExtraError
            If Dask is not installed.
        """
        from ibticks.frames import to_dask

        partitions = [
            (record, start_ns, end_ns)
            for record in self.files()
            for start_ns, end_ns in self.intervals
            if _overlaps(record, start_ns, end_ns)
        ]
        return to_dask(partitions, _LoadFile(self.root, self.strict), self.columns)

    def messages(self, *, ticks: bool = False) -> Iterator[dict[str, Any]]:
        """The errors, infos and completions in between, as v2 JSON dictionaries.

        Parameters
        ----------
        ticks : bool
            Whether the ticks come too.

        Yields
        ------
        dict
            ``type``, ``stream_id``, ``timestamp``, ``data`` and maybe ``metadata``; by time.
        """
        from ibticks.storage import read_messages

        files = self.files()
        for start_ns, end_ns in self.intervals:
            for hour in _by_hour(files, start_ns, end_ns):
                found = list(
                    read_messages(
                        self.root,
                        hour,
                        start_ns=start_ns,
                        end_ns=end_ns,
                        ticks=ticks,
                        strict=self.strict,
                        index=self.index,
                    )
                )
                found.sort(key=lambda pair: pair[0])
                for _, message in found:
                    yield message

    def describe_stored(self, remedy: str = "now='last_tick'") -> str:
        """Return in words which days the store has of the streams selected, for an empty load.

        Parameters
        ----------
        remedy : str
            The argument or option that counts times back from the last tick.

        Examples
        --------
        ``IBM bid_ask has 2013-10-08 to 2013-10-09; now='last_tick' counts back from there``
        """
        days: dict[tuple[int, str], list[str]] = {}
        for day in self.index.daily_stats(self.contract_ids, self.tick_types):
            if day.ticks:
                days.setdefault((day.contract_id, day.tick_type), []).append(day.date)
        symbols = self._symbols()
        if not days:
            stored = {
                f"{symbols.get(day.contract_id, day.contract_id)} {day.tick_type}": None
                for day in self.index.daily_stats(self.contract_ids)
                if day.ticks
            }
            others = f"; the store has {', '.join(list(stored)[:_MANY])}" if stored else ""
            return f"nothing is stored of {self.label}{others}"
        extents = [
            f"{symbols.get(contract, contract)} {kind} has {min(dates)}"
            + (f" to {max(dates)}" if len(dates) > 1 else "")
            for (contract, kind), dates in list(days.items())[:_MANY]
        ]
        if len(days) > _MANY:
            extents.append(f"{len(days) - _MANY} more streams have others")
        return f"{', '.join(extents)}; {remedy} counts back from there"

    def _is_of_other_tick_types(self) -> bool:
        """Return whether the store has ticks of the contracts, and none of the tick types."""
        return (
            type(self) is Selection  # a buffer may be read before its first tick
            and self.explains_empty_loads
            and not self.index.files(self.contract_ids, self.tick_types)
            and bool(self.index.files(self.contract_ids))
        )

    def coverage(self, streams: Collection[tuple[int, str]] | None = None) -> Coverage:
        """What of this was captured, and what was not, so that no gap is taken for a calm market.

        Parameters
        ----------
        streams : collection of (int, str), optional
            Only these contract ids and tick types.

        Returns
        -------
        Coverage
            In a notebook a picture; printed, a report. What is later than now is left out.
        """
        from ibticks.coverage import query_coverage

        return query_coverage(
            self.root,
            self.index,
            [each for each in self._streams() if streams is None or each in streams],
            self.intervals,
            label=self.label,
        )

    def _streams(self) -> list[tuple[int, str]]:
        return [(contract, kind) for contract in self.contract_ids for kind in self.tick_types]

    def _read(
        self,
        records: Sequence[FileRecord],
        columns: Sequence[str],
        start_ns: int,
        end_ns: int,
        decoded: ColumnCache | None = None,
    ) -> list[TickColumns]:
        from ibticks.storage import read_cached_ticks, read_ticks

        read = read_ticks if decoded is None else partial(read_cached_ticks, cache=decoded)
        return read(
            self.root,
            records,
            columns,
            start_ns=start_ns,
            end_ns=end_ns,
            strict=self.strict,
            index=self.index,
        )

    def _metadata(self) -> dict[str, Any]:
        from ibticks._version import __version__
        from ibticks.coverage import coverage_metadata

        return {
            "selection": self.label,
            "contract_ids": list(self.contract_ids),
            "symbols": self._symbols(),
            "tick_types": list(self.tick_types),
            "intervals": [[_text(start), _text(end)] for start, end in self.intervals],
            "backfill": self.backfill,
            "coverage": coverage_metadata(self.root, self.index, self._streams(), self.intervals),
            "writer": f"ibticks {__version__}",
        }

    def _symbols(self) -> dict[int, str]:
        """Return the symbols of its contracts, which titles of frames made from it then use."""
        from ibticks.frames import remember_symbols

        wanted = set(self.contract_ids)
        known = (each for each in self.index.contracts() if each.contract_id in wanted)
        symbols = {each.contract_id: each.symbol for each in known if each.symbol}
        remember_symbols(symbols)
        return symbols

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        spans = [f"{_text(start)} to {_text(end)}" for start, end in self.intervals[:_MANY]]
        more = ["…"] if len(self.intervals) > _MANY else []
        return f"<Selection {self.label}: {', '.join([*spans, *more]) or 'no time'}>"

    def _repr_html_(self) -> str:
        files = self.files()
        size = sum(record.size for record in files)
        shown = [f"{_text(start)} to {_text(end)}" for start, end in self.intervals[:_MANY]]
        if len(self.intervals) > _MANY:
            shown.append(f"and {len(self.intervals) - _MANY} more")
        rows = {
            "what": self.label,
            "contracts": ", ".join(map(str, self.contract_ids)),
            "tick types": ", ".join(self.tick_types),
            "time": "<br>".join(map(escape, shown)),
            "will read": f"{len(files):,} files, up to {size / 1e6:,.1f} MB and "
            f"{sum(record.messages for record in files):,} messages",
            "columns": ", ".join(self.columns),
        }
        body = "".join(
            f"<tr><th style='text-align:left'>{name}</th>"
            f"<td style='text-align:left'>{value if name == 'time' else escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table><caption>ibticks Selection</caption>{body}</table>"


@dataclass(frozen=True, slots=True)
class _LoadFile:
    """Reads one file of a selection: what a Dask worker is sent."""

    root: Path
    strict: bool

    def __call__(
        self, partition: tuple[FileRecord, int, int], columns: tuple[str, ...]
    ) -> pa.Table:
        from ibticks.frames import to_table
        from ibticks.storage import read_ticks

        record, start_ns, end_ns = partition
        parts = read_ticks(
            self.root,
            [record],
            [*columns, "timestamp"],
            start_ns=start_ns,
            end_ns=end_ns,
            strict=self.strict,
            threads=1,
        )
        return to_table(parts, columns)


@dataclass(frozen=True, slots=True)
class _HourByHour:
    """A selection as a source of batches: an hour at a time, over all its streams."""

    selection: Selection

    def batches(
        self,
        columns: Sequence[str],
        *,
        start_ns: int | None,
        end_ns: int | None,
        contract_ids: frozenset[int] | None,
        tick_types: frozenset[str] | None,
    ) -> Iterator[pa.Table]:
        from ibticks.frames import to_table

        wanted = self.selection
        narrowed = replace(
            wanted,
            contract_ids=tuple(
                c for c in wanted.contract_ids if contract_ids is None or c in contract_ids
            ),
            tick_types=tuple(t for t in wanted.tick_types if tick_types is None or t in tick_types),
            intervals=tuple(_clipped(wanted.intervals, start_ns, end_ns)),
        )
        if not (narrowed.contract_ids and narrowed.tick_types and narrowed.intervals):
            return
        files = narrowed.files()
        for first, last in narrowed.intervals:
            for hour in _by_hour(files, first, last):
                parts = [
                    part
                    for stream in _by_stream(hour)
                    for part in narrowed._read(stream, [*columns, "timestamp"], first, last)
                ]
                yield to_table(parts, columns)  # a polars frame carries no metadata


def check_backfill(backfill: str) -> tuple[Backfill, str]:
    """Whether backfilled ticks are wanted, and that in words, for a label.

    Raises
    ------
    InputError
        Naming what there is.
    """
    if backfill not in get_args(Backfill):
        raise InputError(
            f"backfill={backfill!r}: use 'exclude' for captured ticks only, 'include' for those "
            "asked of IB afterwards too, or 'only' for those alone"
        )
    chosen = cast("Backfill", backfill)
    return chosen, _IN_WORDS[chosen]


def default_columns(
    tick_types: Sequence[str], columns: str | Sequence[str] | None
) -> tuple[str, ...]:
    """The columns asked for, or those the tick types carry.

    Raises
    ------
    UnknownColumnError
        Naming the columns that exist.
    InputError
        If an empty list is asked for.
    """
    if columns is None:
        return list_columns(tuple(tick_types))
    return _some_columns((columns,) if isinstance(columns, str) else tuple(columns))


def _some_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    if not columns:
        raise InputError(
            "no column is given: name some, or leave columns out for those the ticks have"
        )
    return check_columns(columns)


def _overlaps(record: FileRecord, start_ns: int, end_ns: int) -> bool:
    # An open file goes on: its row says only where it began.
    return record.start_ns < end_ns and (not record.sealed or record.end_ns >= start_ns)


def _clipped(
    intervals: Sequence[Interval], start_ns: int | None, end_ns: int | None
) -> Iterator[Interval]:
    for first, last in intervals:
        start = first if start_ns is None else max(first, start_ns)
        end = last if end_ns is None else min(last, end_ns)
        if start < end:
            yield start, end


def _by_stream(files: Sequence[FileRecord]) -> Iterator[list[FileRecord]]:
    ordered = sorted(files, key=lambda r: (r.contract_id, r.tick_type, r.hour_ns, r.path))
    for _, stream in groupby(ordered, key=lambda r: (r.contract_id, r.tick_type)):
        yield list(stream)


def _by_hour(files: Sequence[FileRecord], start_ns: int, end_ns: int) -> Iterator[list[FileRecord]]:
    inside = [record for record in files if _overlaps(record, start_ns, end_ns)]
    inside.sort(key=lambda r: (r.hour_ns, r.contract_id, r.tick_type, r.path))
    for _, hour in groupby(inside, key=lambda r: r.hour_ns):
        yield list(hour)


def _text(ns: int) -> str:
    from ibticks.calendar import format_ns

    if ns in (TIME_MIN, TIME_MAX):
        return "the beginning" if ns == TIME_MIN else "the end"
    return format_ns(ns)
