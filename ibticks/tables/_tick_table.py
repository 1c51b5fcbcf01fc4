"""Tables whose columns are matched with those of a tick, by names and by values."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames import from_arrow
from ibticks.schema import COLUMNS, FieldType
from ibticks.tables._files import BadRow, TableFile, open_table_file
from ibticks.tables._mapping import ColumnMapping, other_prices
from ibticks.tables._names import plain_name
from ibticks.tables._time_reader import TimeReader, fits_format
from ibticks.tables._values import (
    INSTRUMENT_SEPARATOR,
    Instrument,
    check_sizes,
    contract_ids,
    format_instrument,
    has_value,
    instrument_keys,
    is_attributes,
    read_fixed_point,
    read_flag,
    read_json,
    read_numerals,
    split_texts,
    text_values,
    without_sentinel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import tzinfo

    import numpy.typing as npt

    from ibticks._types import TimeUnit
    from ibticks.schema import TickColumns

from ibticks.tables._detection import (
    detect_notation,
    find_other_prices,
    has_metadata,
    map_trade_ids,
    match_by_values,
)

__all__ = ["BATCH_ROWS", "TickTable"]

BATCH_ROWS: Final = 1 << 18
"""Rows read at a time: some tens of megabytes."""

_SIZE_ABSENT: Final = 2**32 - 1
_TIME_ABSENT: Final = 2**64 - 1
_NOT_CORRECTED: Final = r"^0*$"


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
        unit: TimeUnit | None,
        time_format: str | None,
        decimal: str | None,
    ) -> None:
        self.path: Final = fspath(path)
        self.tick_type: Final = tick_type
        self._file: Final[TableFile] = open_table_file(path)
        chosen = map_trade_ids(self._file, tick_type, dict(mapping or {}), preset)
        self.mapping, sample = match_by_values(
            self._file, self.path, tick_type, chosen, preset, tz, unit, time_format
        )
        self._tz, self._unit, self._format = tz, unit, time_format
        self._metadata_column = has_metadata(self._file, self.mapping)
        self._notation = detect_notation(self.mapping, sample, decimal, self._file.delimiter)
        self._readers = self._time_readers(sample)
        self._other_prices = find_other_prices(self._file, tick_type, self.mapping)
        self.notes: Final = tuple(self._list_notes(sample))

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
        sources = list(dict.fromkeys(name for column in columns for name in column.sources))
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
            for entry in pc.value_counts(instrument_keys(batch, columns)).to_pylist():
                instrument = tuple(entry["values"].split(INSTRUMENT_SEPARATOR))
                rows[instrument] = rows.get(instrument, 0) + entry["counts"]
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
        seen_instruments: set[str] = set()
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

            def convert(table: pa.Table) -> TickColumns:
                return self._convert(table, contracts, seen_instruments)

            if on_bad_row is not None:

                def reject(number: int, error: InputError) -> None:
                    on_bad_row(number, _with_sources(error, self.mapping))

                failures: list[InputError] = []
                numbers = np.arange(row + 1, row + 1 + len(batch))
                is_other_type = self._is_other_type(batch)
                if is_other_type.any():
                    # At once: a file of quotes and trades has too many to look for each.
                    failures.append(self._other_type_error())
                    for number in numbers[is_other_type].tolist():
                        reject(number, failures[0])
                good_batch = (
                    batch.filter(pa.array(~is_other_type)) if is_other_type.any() else batch
                )
                for good in _good_rows(
                    good_batch, convert, numbers[~is_other_type], reject, failures
                ):
                    good_rows += good.rows
                    yield good
                if failures and not good_rows:
                    raise _with_place(failures[0], self.path, self.mapping, row + 1)
            else:
                try:
                    yield convert(batch)
                except InputError as error:
                    good_rows_before, cause = _rows_before_error(batch, convert, error)
                    if good_rows_before is not None:
                        yield good_rows_before
                    bad_row = row + 1 + (0 if good_rows_before is None else good_rows_before.rows)
                    raise _with_place(cause, self.path, self.mapping, bad_row) from cause
            row += len(batch)

    def _symbol_columns(self) -> list[str]:
        symbols = (column.sources for column in self.mapping.instruments if column.role == "symbol")
        return [sources[0] for sources in symbols]

    def _event_column(self) -> str | None:
        """Return the column that tells trades from other events of an order book."""
        preset = self.mapping.preset
        if preset is None or not preset.trade_event or "price" not in self.mapping.columns:
            return None
        name, _ = preset.trade_event
        return next((column for column in self._file.columns if plain_name(column) == name), None)

    def _check_events(self, column: pa.ChunkedArray, name: str) -> None:
        preset = self.mapping.preset
        trade = preset.trade_event[1] if preset is not None else ""
        others = sorted(
            {event or "none" for event in pc.unique(text_values(column)).to_pylist()} - {trade}
        )
        if others:
            raise InputError(
                f"{self.path}: column {name!r} has the events {', '.join(others)}, which are no "
                f"trades: import the rows with {name} {trade} alone, or the file as bid_ask",
                path=self.path,
                column=name,
            )

    def _is_other_type(self, batch: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows are ticks of another type."""
        if not self._other_prices:
            return np.zeros(len(batch), dtype=np.bool_)
        own, _ = other_prices(self._file.columns, self.tick_type, self.mapping)
        rows: npt.NDArray[np.bool_] = pc.and_not(
            has_value(batch, self._other_prices), has_value(batch, own)
        ).to_numpy(zero_copy_only=False)
        return rows

    def _other_type_error(self) -> InputError:
        names = other_prices(self._file.columns, self.tick_type, self.mapping)
        own, others = (" and ".join(map(repr, several)) for several in names)
        return InputError(
            f"the row has no value in {own} but one in {others}, so it is no {self.tick_type} "
            f"tick: divide the file into trades and quotes",
            column=names[0][0],
        )

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

    def _list_notes(self, sample: pa.Table) -> Iterator[str]:
        if self._notation.fixed_point:
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
        if self._is_other_type(batch).any():
            raise self._other_type_error()
        for name, sources in self.mapping.columns.items():
            columns[name] = self._column(name, batch, sources)
        if self.mapping.metadata:
            self._add_metadata(columns, batch)
        elif self._metadata_column:
            columns["metadata"] = read_json(batch["metadata"])
        contract_id: int | None = None
        if isinstance(contracts, int) or not self.mapping.instruments:
            contract_id = contracts if isinstance(contracts, int) else contracts[("",)]
            if self.mapping.instruments:
                self._check_one_instrument(batch, contract_id, seen)
        else:
            columns["contract_id"] = contract_ids(batch, self.mapping.instruments, contracts)
        ticks = from_arrow(pa.table(columns), contract_id=contract_id, tick_type=self.tick_type)
        check_sizes(ticks)
        return ticks

    def _column(self, name: str, batch: pa.Table, sources: tuple[str, ...]) -> pa.ChunkedArray:
        preset = self.mapping.preset
        fixed = preset is not None and preset.fixed_point
        if name in self._readers:
            absent = [source for source in sources if fixed]
            for source in absent:
                place = batch.column_names.index(source)
                batch = batch.set_column(
                    place, source, without_sentinel(batch[source], _TIME_ABSENT)
                )
            return self._readers[name].read(batch)
        column = batch[sources[0]]
        field_type = COLUMNS[name].type
        if field_type is FieldType.FLOAT:
            if self._notation.fixed_point and name.endswith("price"):
                return read_fixed_point(column, name)
            if fixed:
                column = without_sentinel(column, _SIZE_ABSENT)
            return read_numerals(column, name, self._notation.decimal)
        if field_type in (FieldType.UINT32, FieldType.UINT64):
            return read_numerals(column, name, self._notation.decimal, whole=True)
        if field_type is FieldType.BOOL and is_attributes(sources[0]):
            return read_flag(column, name)
        if field_type is FieldType.STRINGS and preset is not None and preset.separator:
            return split_texts(column, preset.separator)
        return column

    def _add_metadata(self, columns: dict[str, pa.ChunkedArray], batch: pa.Table) -> None:
        texts = {key: text_values(batch[source]) for key, source in self.mapping.metadata.items()}
        if "correction" in texts:
            plain = pc.match_substring_regex(texts["correction"], _NOT_CORRECTED)
            texts["correction"] = pc.if_else(plain, None, texts["correction"])
        if "exchange" not in columns and {"bid_exchange", "ask_exchange"} <= texts.keys():
            bid, ask = texts["bid_exchange"], texts["ask_exchange"]
            columns["exchange"] = pa.chunked_array([pc.if_else(pc.equal(bid, ask), bid, None)])
        pairs = pa.StructArray.from_arrays(list(texts.values()), list(texts))
        columns["metadata"] = pa.chunked_array([pairs])

    def _check_one_instrument(self, batch: pa.Table, contract_id: int, seen: set[str]) -> None:
        keys = instrument_keys(batch, self.mapping.instruments)
        keys_so_far = {*seen, *pc.unique(keys).to_pylist()}
        if len(keys_so_far) > 1:
            raise InputError(
                f"contract_id={contract_id} was given, and the file holds several instruments: "
                + ", ".join(
                    sorted(
                        format_instrument(tuple(key.split(INSTRUMENT_SEPARATOR)))
                        for key in keys_so_far
                    )[:8]
                ),
                column=self.mapping.instruments[0].sources[0],
            )
        for column, value in zip(
            self.mapping.instruments,
            (*keys_so_far, "")[0].split(INSTRUMENT_SEPARATOR),
            strict=False,
        ):
            if column.role == "contract_id" and value not in ("", str(contract_id)):
                raise InputError(
                    f"contract_id={contract_id} was given, but the column {column.sources[0]!r} "
                    f"has {value}: leave the argument out, or select the rows that are meant",
                    column="contract_id",
                )
        seen.update(keys_so_far)


def _good_rows(
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
    yield from _good_rows(batch[:middle], convert, numbers[:middle], on_bad_row, failures)
    yield from _good_rows(batch[middle:], convert, numbers[middle:], on_bad_row, failures)


def _rows_before_error(
    batch: pa.Table, convert: Callable[[pa.Table], TickColumns], error: InputError
) -> tuple[TickColumns | None, InputError]:
    """Return the rows before the first bad one, and its error."""
    good, low, high = None, 0, len(batch)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            good, low = convert(batch[:middle]), middle
        except InputError as earlier:
            error, high = earlier, middle
    return good, error


def _with_sources(error: InputError, mapping: ColumnMapping) -> InputError:
    """Return the same error, naming the columns of the file."""
    sources = mapping.columns.get(str(error.context.get("column")), ())
    if not sources:
        return error
    return type(error)(f"{error} (read from {', '.join(map(repr, sources))})", **error.context)


def _with_place(error: InputError, path: str, mapping: ColumnMapping, row: int) -> InputError:
    """Return the same error, naming the place in the file."""
    message = f"{path}, row {row}: {_with_sources(error, mapping)}"
    return type(error)(message, **{**error.context, "path": path, "row": row})
