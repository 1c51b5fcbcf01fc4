"""Ticks out of tables that others wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from os import PathLike, fspath
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.format import COLUMNS, Kind, Values
from ibticks.frames._chunks import joined
from ibticks.frames._foreign import ForeignTable, open_foreign
from ibticks.frames._from_arrow import from_arrow
from ibticks.frames._naming import (
    TRADE_IDS,
    match_columns,
    other_prices,
    plain_name,
    time_names,
)
from ibticks.frames._numerals import check_no_fractions, find_decimal_mark, read_numerals
from ibticks.frames._tick_attributes import is_attributes, read_flag
from ibticks.frames._time_columns import TimeReader, choose_time, fits_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import tzinfo

    import numpy.typing as npt

    from ibticks.format import TickColumns
    from ibticks.frames._foreign import BadRow
    from ibticks.frames._naming import ColumnMapping, InstrumentColumn
    from ibticks.frames._times import Unit

__all__ = [
    "BATCH_ROWS",
    "Instrument",
    "TickTable",
    "count_rows",
    "file_columns",
    "open_table",
    "read_batches",
]

BATCH_ROWS: Final = 1 << 18
"""Rows read at a time: some tens of megabytes."""

Instrument = tuple[str, ...]
"""Values that name the instrument of a row, one for each instrument column; empty where absent."""

_SAMPLE_ROWS: Final = 10_000
_SEPARATOR: Final = "\x1f"  # ASCII's own separator of units, which no symbol has
_FIXED_POINT: Final = 1_000_000_000
_FIXED_POINT_ABSENT: Final = 2**63 - 1
_FIXED_POINT_LEAST: Final = 1_000_000  # smaller integers throughout are plain prices
_SIZE_ABSENT: Final = 2**32 - 1
_TIME_ABSENT: Final = 2**64 - 1
_EXACT_FLOAT: Final = 2**53
_NOT_CORRECTED: Final = r"^0*$"


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
    preset: str | None = None,
    time_format: str | None = None,
    decimal: str | None = None,
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
    preset, time_format, decimal : str, optional
        As for :func:`open_table`.

    Yields
    ------
    TickColumns
        Rows in the order of the file, sorted or not. Nulls, empty texts and NaN texts are absent; a
        condition that is a single text becomes a list of one. ``sequence`` is there if the file
        has it: the number of a row in its file is no part of a tick.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, holds several instruments, or has a value that
        fits no tick; the message names file and row (from 1), and the rows before it are yielded
        first. What is wrong with the columns is said before the first row is read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "trades.csv")
    >>> _ = path.write_text("time,last,qty\n2025-01-10 09:30:00,187.5,100\n")
    >>> ticks = next(read_batches(path, tick_type="last", contract_id=8314, tz="America/New_York"))
    >>> ticks.timestamp, ticks.numbers("size")
    (array([1736519400000000000]), array([100.]))
    """
    table = open_table(
        path,
        tick_type=tick_type,
        mapping=mapping,
        preset=preset,
        tz=tz,
        timestamp_unit=timestamp_unit,
        time_format=time_format,
        decimal=decimal,
    )
    if batch_rows < 1:
        raise InputError(f"batch_rows must be at least 1, not {batch_rows}")
    return table.batches(contract_id, batch_rows=batch_rows)


def open_table(
    path: str | PathLike[str],
    *,
    tick_type: str,
    mapping: Mapping[str, str | None] | None = None,
    preset: str | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: Unit | None = None,
    time_format: str | None = None,
    decimal: str | None = None,
) -> TickTable:
    """Open a foreign table and match its columns with those of a tick, by names and values.

    Parameters
    ----------
    path, tick_type, mapping, tz, timestamp_unit
        As for :func:`read_batches`.
    preset : str, optional
        Name of one of ``PRESETS``, or ``"none"``; by default the one
        that the columns match.
    time_format : str, optional
        Format of times that are texts, in the words of ``strptime``, such as
        ``"%d/%m/%Y %H:%M:%S.%f"``. A format of a date or of a time of day alone is for that column.
    decimal : "." or ",", optional
        Decimal mark of numbers that are texts; by default what the numbers show.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, or columns are ambiguous.
    """
    if decimal not in (None, ".", ","):
        raise InputError(f"decimal={decimal!r} is no decimal mark: use '.' or ','", decimal=decimal)
    return TickTable(path, tick_type, mapping, preset, tz, timestamp_unit, time_format, decimal)


@dataclass(frozen=True, slots=True)
class _Numerals:
    """Notation of a file's numbers."""

    decimal: str | None
    fixed_point: bool


class TickTable:
    """A foreign table whose columns are matched with those of a tick.

    Made by :func:`open_table`.

    Attributes
    ----------
    path : str
    tick_type : str
    mapping : ColumnMapping
    notes : tuple of str
        What a user should know about the way the file is read.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        tick_type: str,
        mapping: Mapping[str, str | None] | None,
        preset: str | None,
        tz: str | tzinfo | None,
        unit: Unit | None,
        time_format: str | None,
        decimal: str | None,
    ) -> None:
        self.path: Final = fspath(path)
        self.tick_type: Final = tick_type
        self._file: Final[ForeignTable] = open_foreign(path)
        chosen = self._with_trade_ids(dict(mapping or {}), preset)
        self.mapping, sample = self._match(chosen, preset, tz, unit, time_format)
        self._tz, self._unit, self._format = tz, unit, time_format
        self._metadata_column = self._has_metadata()
        self._numerals = self._find_numerals(sample, decimal)
        self._readers = self._time_readers(sample)
        self._other_prices = self._find_other_prices()
        self.notes: Final = tuple(self._find_notes(sample))

    @property
    def columns(self) -> list[str]:
        """Columns of the file."""
        return self._file.columns

    def count(self) -> int:
        """Count the rows."""
        return self._file.count()

    @property
    def ragged(self) -> int:
        """Rows with too many or too few values that the last pass left out."""
        return self._file.ragged

    def instruments(self, *, skip_ragged: bool = False) -> dict[Instrument, int]:
        """Count the rows of each instrument; one empty instrument where no column names any.

        Raises
        ------
        InputError
            If the file cannot be read, or a row has too many or too few values.
        """
        columns = self.mapping.instruments
        sources = list(dict.fromkeys(name for one in columns for name in one.sources))
        events = self._event_column()
        sources += [events] if events is not None and events not in sources else []
        sources = sources or self._file.columns[:1]
        rows: dict[Instrument, int] = {}
        batches = self._file.batches(
            sources, BATCH_ROWS, skip_ragged=skip_ragged, verbatim=self._symbol_columns()
        )
        for batch in batches:
            if events is not None:
                self._check_events(batch[events], events)
            for counted in pc.value_counts(_instrument_keys(batch, columns)).to_pylist():
                instrument = tuple(counted["values"].split(_SEPARATOR))
                rows[instrument] = rows.get(instrument, 0) + counted["counts"]
        return rows

    def bad_rows(self, numbers: list[int]) -> Iterator[BadRow]:
        """Read rows by their numbers, and all ragged ones: line and values of each."""
        return self._file.bad_rows(numbers)

    def batches(
        self,
        contracts: int | Mapping[Instrument, int],
        *,
        batch_rows: int = BATCH_ROWS,
        on_bad_row: Callable[[int, InputError], None] | None = None,
    ) -> Iterator[TickColumns]:
        """Read the rows as ticks, some at a time.

        Parameters
        ----------
        contracts : int or mapping of Instrument to int
            Contract of all rows, or of each instrument of the file.
        batch_rows : int
        on_bad_row : callable, optional
            Called with the number of each row that cannot be read and the reason, and the row is
            left out. By default the first such row raises.

        Raises
        ------
        InputError
            As for :func:`read_batches`.
        """
        seen: set[str] = set()
        row, good_rows = 0, 0
        sources = [*self.mapping.sources(), *(["metadata"] if self._metadata_column else [])]
        sources += self._other_prices
        batches = self._file.batches(
            sources,
            batch_rows,
            skip_ragged=on_bad_row is not None,
            verbatim=self._symbol_columns(),
        )
        for batch in batches:

            def convert(part: pa.Table) -> TickColumns:
                return self._convert(part, contracts, seen)

            if on_bad_row is not None:

                def reject(number: int, error: InputError) -> None:
                    on_bad_row(number, _with_sources(error, self.mapping))

                failures: list[InputError] = []
                numbers = np.arange(row + 1, row + 1 + len(batch))
                others = self._rows_of_others(batch)
                if others.any():
                    # At once: a file of quotes and trades has too many to look for each.
                    failures.append(self._no_tick())
                    for number in numbers[others].tolist():
                        reject(number, failures[0])
                good_batch = batch.filter(pa.array(~others)) if others.any() else batch
                for good in _good_parts(good_batch, convert, numbers[~others], reject, failures):
                    good_rows += good.rows
                    yield good
                if failures and not good_rows:
                    raise _placed(failures[0], self.path, self.mapping, row + 1)
            else:
                try:
                    yield convert(batch)
                except InputError as error:
                    good_part, cause = _up_to_the_bad_row(batch, convert, error)
                    if good_part is not None:
                        yield good_part
                    bad = row + 1 + (0 if good_part is None else good_part.rows)
                    raise _placed(cause, self.path, self.mapping, bad) from cause
            row += len(batch)

    def _with_trade_ids(
        self, chosen: dict[str, str | None], preset: str | None
    ) -> dict[str, str | None]:
        """Read the ids of trades, which tell equal trades at one time apart.

        Numbers become ``sequence``, texts become ``metadata.trade_id``. An ``id`` that counts the
        rows of its file, from 0 or 1, is not read: a tick has another one in the next file.
        """
        if self.tick_type not in ("last", "all_last") or "sequence" in chosen:
            return chosen
        matched = match_columns(self._file.columns, self.tick_type, chosen, preset)
        numbered = matched.columns.get("sequence", ())
        if numbered and plain_name(numbered[0]) not in TRADE_IDS:
            return chosen
        read = set(matched.sources()) - set(numbered)
        there = [one for one in self._file.columns if one not in read]
        names = [one for plain in TRADE_IDS for one in there if plain_name(one) == plain]
        if not names or (len(names) > 1 and plain_name(names[0]) == plain_name(names[1])):
            return chosen
        sample = next(self._file.batches(names[:1], _SAMPLE_ROWS, skip_ragged=True), None)
        if sample is None:
            return chosen
        column = sample[names[0]]
        # A column of the name metadata is not read beside single keys.
        are_texts = "metadata" not in self._file.columns and _are_texts(column)
        if numbered:
            return _with_text_ids(chosen, names[0]) if are_texts else chosen
        texts = _texts(column)
        if len(texts) < 2 or texts.null_count or len(pc.unique(texts)) < len(texts):
            return chosen
        if are_texts:
            return _with_text_ids(chosen, names[0])
        if not pc.all(pc.match_substring_regex(texts, r"^\d{1,19}$")).as_py():
            return chosen
        numbers = np.sort(texts.cast(pa.uint64()).to_numpy())
        counts_rows = numbers[0] <= 1 and bool((np.diff(numbers) == 1).all())
        return chosen if counts_rows else {**chosen, "sequence": names[0]}

    def _match(
        self,
        chosen: dict[str, str | None],
        preset: str | None,
        tz: str | tzinfo | None,
        unit: Unit | None,
        time_format: str | None,
    ) -> tuple[ColumnMapping, pa.Table]:
        """Match by names, then decide by the first values where the time is."""
        columns = self._file.columns
        by_name = match_columns(columns, self.tick_type, chosen, preset)
        explicit = by_name.columns["timestamp"] if "timestamp" in chosen else None
        given = {
            name
            for tick, source in chosen.items()
            if source and tick != "timestamp" and not tick.startswith("metadata.")
            for name in ([source] if source in columns else source.split("+"))
        }
        names = time_names(columns, by_name.preset, exclude=given)
        times = [name for name in names.all if name in columns]
        wanted = list(dict.fromkeys([*times, *(explicit or ()), *by_name.sources()]))
        sample = next(self._file.batches(wanted, _SAMPLE_ROWS, skip_ragged=True), None)
        if sample is None:
            return by_name, pa.table({name: pa.array([], pa.large_string()) for name in wanted})
        time_sample = sample.select(list(dict.fromkeys([*times, *(explicit or ())])))
        try:
            found = choose_time(
                names, time_sample, unit=unit, time_format=time_format, explicit=explicit
            )
        except InputError as error:
            raise type(error)(
                f"{self.path}: {error}", **{**error.context, "path": self.path}
            ) from error
        if found is None:
            return by_name, sample
        zones = {names.zones[name] for name in found if name in names.zones}
        zone = zones.pop() if len(zones) == 1 else None
        if explicit is not None and tz is not None:
            zone = None
        matched = match_columns(columns, self.tick_type, chosen, preset, timestamp=(found, zone))
        lacking = [name for name in matched.sources() if name not in wanted]
        if lacking:
            wanted += lacking
            sample = next(self._file.batches(wanted, _SAMPLE_ROWS, skip_ragged=True))
        return matched, sample

    def _symbol_columns(self) -> list[str]:
        symbols = (one.sources for one in self.mapping.instruments if one.kind == "symbol")
        return [sources[0] for sources in symbols]

    def _event_column(self) -> str | None:
        """Return the column that tells trades from other events of an order book."""
        preset = self.mapping.preset
        if preset is None or not preset.trade_event or "price" not in self.mapping.columns:
            return None
        name, _ = preset.trade_event
        return next((one for one in self._file.columns if plain_name(one) == name), None)

    def _check_events(self, column: pa.ChunkedArray, name: str) -> None:
        preset = self.mapping.preset
        trade = preset.trade_event[1] if preset is not None else ""
        others = sorted({one or "none" for one in pc.unique(_texts(column)).to_pylist()} - {trade})
        if others:
            raise InputError(
                f"{self.path}: column {name!r} has the events {', '.join(others)}, which are no "
                f"trades: import the rows with {name} {trade} alone, or the file as bid_ask",
                path=self.path,
                column=name,
            )

    def _has_metadata(self) -> bool:
        """Tell whether the file is one of ours, with the column of that name."""
        if "metadata" not in self._file.columns or self.mapping.metadata:
            return False
        first = next(self._file.batches(["metadata"], 1), None)
        kind = None if first is None else first["metadata"].type
        if kind is not None and _is_text(kind):
            return self.mapping.preset is not None and self.mapping.preset.name == "ibticks"
        return kind is not None and bool(
            pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
        )

    def _find_other_prices(self) -> tuple[str, ...]:
        """Return the columns of prices that make a row without its own price another tick.

        None where rows have prices of both kinds: in a file of snapshots, a side that is missing
        is a market without a quote.
        """
        if self.mapping.preset is not None and self.mapping.preset.trade_event:
            return ()
        own, others = other_prices(self._file.columns, self.tick_type, self.mapping)
        if not others or self.tick_type != "bid_ask":
            return others
        sample = next(self._file.batches([*own, *others], _SAMPLE_ROWS, skip_ragged=True), None)
        if sample is None or pc.any(pc.and_(_any(sample, own), _any(sample, others))).as_py():
            return ()
        return others

    def _rows_of_others(self, batch: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows are ticks of another type."""
        if not self._other_prices:
            return np.zeros(len(batch), dtype=np.bool_)
        own, _ = other_prices(self._file.columns, self.tick_type, self.mapping)
        rows: npt.NDArray[np.bool_] = pc.and_not(
            _any(batch, self._other_prices), _any(batch, own)
        ).to_numpy(zero_copy_only=False)
        return rows

    def _no_tick(self) -> InputError:
        names = other_prices(self._file.columns, self.tick_type, self.mapping)
        own, others = (" and ".join(map(repr, several)) for several in names)
        return InputError(
            f"the row has no value in {own} but one in {others}, so it is no {self.tick_type} "
            f"tick: divide the file into trades and quotes",
            column=names[0][0],
        )

    def _find_numerals(self, sample: pa.Table, decimal: str | None) -> _Numerals:
        preset = self.mapping.preset
        floats = [
            (name, sources[0])
            for name, sources in self.mapping.columns.items()
            if COLUMNS[name].kind is Kind.FLOAT
        ]
        fixed = False
        if preset is not None and preset.fixed_point:
            prices = [sample[source] for name, source in floats if name.endswith("price")]
            fixed = any(_is_fixed_point(column) for column in prices)
        for name, source in floats:
            if name.endswith("price"):
                check_no_fractions(source, sample[source])
        if decimal is None and not fixed:
            numbers = [(source, sample[source]) for _, source in floats]
            decimal = find_decimal_mark(numbers, self._file.delimiter)
        return _Numerals(decimal, fixed)

    def _time_readers(self, sample: pa.Table) -> dict[str, TimeReader]:
        readers: dict[str, TimeReader] = {}
        for name in ("timestamp", "exchange_time"):
            sources = self.mapping.columns.get(name)
            if sources is None:
                continue
            time_format = self._format
            if time_format is not None and name == "exchange_time":
                time_format = time_format if fits_format(sample[sources[0]], time_format) else None
            readers[name] = TimeReader(
                sources,
                name=name,
                zone=self.mapping.zone if name == "timestamp" else None,
                tz=self._tz,
                unit=self._unit,
                time_format=time_format,
            )
        return readers

    def _find_notes(self, sample: pa.Table) -> Iterator[str]:
        if self._numerals.fixed_point:
            yield "integer prices are read as fixed point, multiples of 1e-9"
        sources = self.mapping.columns.get("exchange_time")
        if sources and self._has_fractions(sample):
            yield (
                f"exchange_time is in whole seconds, so that fractions of {sources[0]!r} are not "
                f"stored: mapping={{'metadata.{sources[0]}': {sources[0]!r}}} stores its text"
            )

    def _has_fractions(self, sample: pa.Table) -> bool:
        try:
            times = self._column("exchange_time", sample, self.mapping.columns["exchange_time"])
        except InputError:
            return False  # the row that cannot be read is named when it is read
        whole = pc.floor_temporal(times, unit="second")
        return bool(pc.any(pc.not_equal(times, whole)).as_py())

    def _convert(
        self, batch: pa.Table, contracts: int | Mapping[Instrument, int], seen: set[str]
    ) -> TickColumns:
        columns: dict[str, pa.ChunkedArray] = {}
        if self._rows_of_others(batch).any():
            raise self._no_tick()
        for name, sources in self.mapping.columns.items():
            columns[name] = self._column(name, batch, sources)
        if self.mapping.metadata:
            self._add_metadata(columns, batch)
        elif self._metadata_column:
            columns["metadata"] = _read_json(batch["metadata"])
        contract_id: int | None = None
        if isinstance(contracts, int) or not self.mapping.instruments:
            contract_id = contracts if isinstance(contracts, int) else contracts[("",)]
            if self.mapping.instruments:
                self._check_one_instrument(batch, contract_id, seen)
        else:
            columns["contract_id"] = _contract_ids(batch, self.mapping.instruments, contracts)
        ticks = from_arrow(pa.table(columns), contract_id=contract_id, tick_type=self.tick_type)
        _check_sizes(ticks)
        return ticks

    def _column(self, name: str, batch: pa.Table, sources: tuple[str, ...]) -> pa.ChunkedArray:
        preset = self.mapping.preset
        fixed = preset is not None and preset.fixed_point
        if name in self._readers:
            absent = [source for source in sources if fixed]
            for source in absent:
                place = batch.column_names.index(source)
                batch = batch.set_column(place, source, _without(batch[source], _TIME_ABSENT))
            return self._readers[name].read(batch)
        column = batch[sources[0]]
        kind = COLUMNS[name].kind
        if kind is Kind.FLOAT:
            if self._numerals.fixed_point and name.endswith("price"):
                return _read_fixed_point(column, name)
            if fixed:
                column = _without(column, _SIZE_ABSENT)
            return read_numerals(column, name, self._numerals.decimal)
        if kind in (Kind.UINT32, Kind.UINT64):
            return read_numerals(column, name, self._numerals.decimal, whole=True)
        if kind is Kind.BOOL and is_attributes(sources[0]):
            return read_flag(column, name)
        if kind is Kind.STRINGS and preset is not None and preset.separator:
            return _split_texts(column, preset.separator)
        return column

    def _add_metadata(self, columns: dict[str, pa.ChunkedArray], batch: pa.Table) -> None:
        texts = {key: _texts(batch[source]) for key, source in self.mapping.metadata.items()}
        if "correction" in texts:
            plain = pc.match_substring_regex(texts["correction"], _NOT_CORRECTED)
            texts["correction"] = pc.if_else(plain, None, texts["correction"])
        if "exchange" not in columns and {"bid_exchange", "ask_exchange"} <= texts.keys():
            bid, ask = texts["bid_exchange"], texts["ask_exchange"]
            columns["exchange"] = pa.chunked_array([pc.if_else(pc.equal(bid, ask), bid, None)])
        pairs = pa.StructArray.from_arrays(list(texts.values()), list(texts))
        columns["metadata"] = pa.chunked_array([pairs])

    def _check_one_instrument(self, batch: pa.Table, contract_id: int, seen: set[str]) -> None:
        keys = _instrument_keys(batch, self.mapping.instruments)
        here = {*seen, *pc.unique(keys).to_pylist()}
        if len(here) > 1:
            raise InputError(
                f"contract_id={contract_id} was given, and the file holds several instruments: "
                + ", ".join(sorted(_shown(tuple(key.split(_SEPARATOR))) for key in here)[:8]),
                column=self.mapping.instruments[0].sources[0],
            )
        for one, value in zip(
            self.mapping.instruments, (*here, "")[0].split(_SEPARATOR), strict=False
        ):
            if one.kind == "contract_id" and value not in ("", str(contract_id)):
                raise InputError(
                    f"contract_id={contract_id} was given, but the column {one.sources[0]!r} has "
                    f"{value}: leave the argument out, or select the rows that are meant",
                    column="contract_id",
                )
        seen.update(here)


def _check_sizes(ticks: TickColumns) -> None:
    """Refuse negative sizes: a sign is the side of a trade, or a fault of the file."""
    for name in ("size", "bid_size", "ask_size"):
        column = ticks.columns.get(name)
        if isinstance(column, Values):
            negative = column.values < 0
            if column.valid is not None:
                negative &= column.valid
            if negative.any():
                raise InputError(
                    f"the {name.replace('_', ' ')} {column.values[negative][0]:g} is negative: "
                    f"write sizes without a sign, or leave such rows out with skip_bad=True",
                    column=name,
                )


def _good_parts(
    batch: pa.Table,
    convert: Callable[[pa.Table], TickColumns],
    numbers: npt.NDArray[np.intp],
    on_bad_row: Callable[[int, InputError], None],
    failures: list[InputError],
) -> Iterator[TickColumns]:
    """Read what can be read of a batch, halving it until the bad rows are alone."""
    if not len(batch):
        return
    try:
        yield convert(batch)
    except NaiveDatetimeError:
        # Not of a row: all rows lack the zone.
        raise
    except InputError as error:
        if len(batch) == 1:
            failures.append(error)
            on_bad_row(int(numbers[0]), error)
            return
    else:
        return
    middle = len(batch) // 2
    yield from _good_parts(batch[:middle], convert, numbers[:middle], on_bad_row, failures)
    yield from _good_parts(batch[middle:], convert, numbers[middle:], on_bad_row, failures)


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


def _instrument_keys(table: pa.Table, instruments: tuple[InstrumentColumn, ...]) -> pa.Array:
    """Return one text a row that names its instrument: a value for each instrument column."""
    if not instruments:
        return pa.array([""], pa.large_string()).take(pa.array(np.zeros(len(table), np.int64)))
    parts = []
    for one in instruments:
        texts = [pc.fill_null(_texts(table[source]), "") for source in one.sources]
        value = texts[0]
        for suffix in texts[1:]:
            value = pc.utf8_trim_whitespace(pc.binary_join_element_wise(value, suffix, _text(" ")))
        parts.append(value)
    return pc.binary_join_element_wise(*parts, _text(_SEPARATOR))


def _contract_ids(
    table: pa.Table,
    instruments: tuple[InstrumentColumn, ...],
    contracts: Mapping[Instrument, int],
) -> pa.ChunkedArray:
    keys = _instrument_keys(table, instruments).dictionary_encode()
    ids = []
    for key in keys.dictionary.to_pylist():
        instrument = tuple(key.split(_SEPARATOR))
        if instrument not in contracts:
            raise InputError(
                f"the contract of {_shown(instrument)} is not known",
                column=instruments[0].sources[0],
            )
        ids.append(contracts[instrument])
    return pa.chunked_array([pa.array(ids, pa.uint32()).take(keys.indices)])


def _shown(instrument: Instrument) -> str:
    return " ".join(value for value in instrument if value) or "rows without one"


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """Return any column as texts, an integer that pandas made a float without its point."""
    array = joined(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    texts = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    if pa.types.is_floating(array.type):
        texts = pc.replace_substring_regex(texts, r"\.0$", "")
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _with_text_ids(chosen: dict[str, str | None], name: str) -> dict[str, str | None]:
    return {"metadata.trade_id": name, **chosen, "sequence": None}


def _are_texts(column: pa.ChunkedArray) -> bool:
    """Tell whether the ids of trades are texts; a bad value among numbers makes none of them."""
    if not _is_text(column.type):
        return False
    texts = _texts(column).drop_null()
    try:
        read_numerals(pa.chunked_array([texts]), "sequence", None, whole=True)
    except InputError:
        numbers = pc.sum(pc.match_substring_regex(texts, r"^\d{1,19}(\.0*)?$")).as_py()
        return bool(2 * numbers < len(texts))
    return False


def _any(table: pa.Table, names: tuple[str, ...]) -> pa.Array:
    """Return the rows that have a value in any of these columns; NaN is none."""
    valid = [pc.is_valid(joined(table[name])) for name in names]
    for place, name in enumerate(names):
        kind = table[name].type
        if pa.types.is_floating(kind):
            valid[place] = pc.invert(pc.is_null(joined(table[name]), nan_is_null=True))
        elif _is_text(kind):
            blank = pc.match_substring_regex(joined(table[name]), r"^\s*$")
            valid[place] = pc.and_(valid[place], pc.invert(pc.fill_null(blank, True)))
    result = valid[0]
    for one in valid[1:]:
        result = pc.or_(result, one)
    return result


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_json(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read metadata that is one JSON object a row; a column of another type is returned as it is.

    Raises
    ------
    InputError
        If a text is no JSON object of texts.
    """
    if not _is_text(column.type):
        return column
    rows: list[list[tuple[str, str]]] = []
    for text in column.to_pylist():
        try:
            pairs = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            pairs = None
        if not isinstance(pairs, dict) or not all(isinstance(one, str) for one in pairs.values()):
            raise InputError(
                f"column 'metadata' has {text!r}, which is no JSON object of texts",
                column="metadata",
            )
        rows.append(list(pairs.items()))
    return pa.chunked_array([pa.array(rows, pa.map_(pa.string(), pa.string()))])


def _split_texts(column: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    if not _is_text(column.type):
        return column
    if separator == ";":
        return pa.chunked_array([pc.split_pattern(joined(column), separator)])
    texts = pc.replace_substring_regex(_texts(column), r"[\[\]\s\"]", "")
    return pa.chunked_array(
        [pc.split_pattern(pc.if_else(pc.equal(texts, ""), None, texts), separator)]
    )


def _without(column: pa.ChunkedArray, absent: int) -> pa.ChunkedArray:
    """Return a column with null where it has the number that stands for none."""
    array = joined(column)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        is_absent = pc.equal(array, pa.scalar(str(absent), kind))
    elif pa.types.is_integer(kind) and absent <= np.iinfo(kind.to_pandas_dtype()).max:
        is_absent = pc.equal(array, pa.scalar(absent, kind))
    else:
        return column
    return pa.chunked_array([pc.if_else(is_absent, None, array)])


def _is_fixed_point(column: pa.ChunkedArray) -> bool:
    """Tell whether all prices are integers and one is too large to be a plain price."""
    array = joined(column).drop_null()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        if not pc.all(pc.match_substring_regex(array, r"^\s*-?\d{1,19}\s*$")).as_py():
            return False
        array = pc.utf8_trim_whitespace(array).cast(pa.int64())
    if not pa.types.is_int64(array.type) or not len(array):
        return False
    real = array.filter(pc.not_equal(array, _FIXED_POINT_ABSENT))
    if not len(real):
        return True
    least, most = pc.min_max(real).as_py().values()
    return bool(max(most, -least) >= _FIXED_POINT_LEAST)


def _read_fixed_point(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    array = joined(column)
    try:
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            array = pc.utf8_trim_whitespace(array)
        array = array.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {name!r} has a value that is no fixed point price: {error}", column=name
        ) from error
    array = pc.if_else(pc.equal(array, _FIXED_POINT_ABSENT), None, array)
    numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
    prices = numbers / _FIXED_POINT
    # Above 2**53 the integer itself is not a float: such prices are divided exactly.
    for place in np.flatnonzero(np.abs(numbers) > _EXACT_FLOAT):
        prices[place] = float(Decimal(int(numbers[place])) / _FIXED_POINT)
    missing = array.is_null().to_numpy(zero_copy_only=False)
    return pa.chunked_array([pa.array(prices, pa.float64(), mask=missing)])


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def _with_sources(error: InputError, mapping: ColumnMapping) -> InputError:
    """Return the same error, naming the columns of the file."""
    sources = mapping.columns.get(str(error.context.get("column")), ())
    if not sources:
        return error
    return type(error)(f"{error} (read from {', '.join(map(repr, sources))})", **error.context)


def _placed(error: InputError, path: str, mapping: ColumnMapping, row: int) -> InputError:
    """Return the same error, naming the place in the file."""
    message = f"{path}, row {row}: {_with_sources(error, mapping)}"
    return type(error)(message, **{**error.context, "path": path, "row": row})
