"""Tables whose columns are matched with those of a tick, by names and by values."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames import from_arrow
from ibticks.schema import COLUMNS, FieldType
from ibticks.tables._files import BadRow, TableFile, is_string, open_table_file
from ibticks.tables._mapping import ColumnMapping, match_columns, other_prices, time_names
from ibticks.tables._names import TRADE_IDS, plain_name
from ibticks.tables._numerals import check_no_fractions, find_decimal_mark, read_numerals
from ibticks.tables._time_choice import choose_time
from ibticks.tables._time_reader import TimeReader, fits_format
from ibticks.tables._values import (
    INSTRUMENT_SEPARATOR,
    Instrument,
    are_text_ids,
    check_sizes,
    contract_ids,
    format_instrument,
    has_value,
    instrument_keys,
    is_attributes,
    is_fixed_point,
    read_fixed_point,
    read_flag,
    read_json,
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

__all__ = ["BATCH_ROWS", "TickTable"]

BATCH_ROWS: Final = 1 << 18
"""Rows read at a time: some tens of megabytes."""

_SAMPLE_ROWS: Final = 10_000
_SIZE_ABSENT: Final = 2**32 - 1
_TIME_ABSENT: Final = 2**64 - 1
_NOT_CORRECTED: Final = r"^0*$"


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
        unit: TimeUnit | None,
        time_format: str | None,
        decimal: str | None,
    ) -> None:
        self.path: Final = fspath(path)
        self.tick_type: Final = tick_type
        self._file: Final[TableFile] = open_table_file(path)
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
            for counted in pc.value_counts(instrument_keys(batch, columns)).to_pylist():
                instrument = tuple(counted["values"].split(INSTRUMENT_SEPARATOR))
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
                for good in _good_rows(good_batch, convert, numbers[~others], reject, failures):
                    good_rows += good.rows
                    yield good
                if failures and not good_rows:
                    raise _placed(failures[0], self.path, self.mapping, row + 1)
            else:
                try:
                    yield convert(batch)
                except InputError as error:
                    good_part, cause = _rows_before_error(batch, convert, error)
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
        are_texts = "metadata" not in self._file.columns and are_text_ids(column)
        if numbered:
            return _with_text_ids(chosen, names[0]) if are_texts else chosen
        texts = text_values(column)
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
        unit: TimeUnit | None,
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
        others = sorted(
            {one or "none" for one in pc.unique(text_values(column)).to_pylist()} - {trade}
        )
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
        if kind is not None and is_string(kind):
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
        if (
            sample is None
            or pc.any(pc.and_(has_value(sample, own), has_value(sample, others))).as_py()
        ):
            return ()
        return others

    def _rows_of_others(self, batch: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows are ticks of another type."""
        if not self._other_prices:
            return np.zeros(len(batch), dtype=np.bool_)
        own, _ = other_prices(self._file.columns, self.tick_type, self.mapping)
        rows: npt.NDArray[np.bool_] = pc.and_not(
            has_value(batch, self._other_prices), has_value(batch, own)
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
            if COLUMNS[name].type is FieldType.FLOAT
        ]
        fixed = False
        if preset is not None and preset.fixed_point:
            prices = [sample[source] for name, source in floats if name.endswith("price")]
            fixed = any(is_fixed_point(column) for column in prices)
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
        kind = COLUMNS[name].type
        if kind is FieldType.FLOAT:
            if self._numerals.fixed_point and name.endswith("price"):
                return read_fixed_point(column, name)
            if fixed:
                column = without_sentinel(column, _SIZE_ABSENT)
            return read_numerals(column, name, self._numerals.decimal)
        if kind in (FieldType.UINT32, FieldType.UINT64):
            return read_numerals(column, name, self._numerals.decimal, whole=True)
        if kind is FieldType.BOOL and is_attributes(sources[0]):
            return read_flag(column, name)
        if kind is FieldType.STRINGS and preset is not None and preset.separator:
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
        here = {*seen, *pc.unique(keys).to_pylist()}
        if len(here) > 1:
            raise InputError(
                f"contract_id={contract_id} was given, and the file holds several instruments: "
                + ", ".join(
                    sorted(
                        format_instrument(tuple(key.split(INSTRUMENT_SEPARATOR))) for key in here
                    )[:8]
                ),
                column=self.mapping.instruments[0].sources[0],
            )
        for one, value in zip(
            self.mapping.instruments, (*here, "")[0].split(INSTRUMENT_SEPARATOR), strict=False
        ):
            if one.kind == "contract_id" and value not in ("", str(contract_id)):
                raise InputError(
                    f"contract_id={contract_id} was given, but the column {one.sources[0]!r} has "
                    f"{value}: leave the argument out, or select the rows that are meant",
                    column="contract_id",
                )
        seen.update(here)


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
    """The rows before the first that cannot be read with them, and why it cannot."""
    good, low, high = None, 0, len(batch)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            good, low = convert(batch[:middle]), middle
        except InputError as earlier:
            error, high = earlier, middle
    return good, error


def _with_text_ids(chosen: dict[str, str | None], name: str) -> dict[str, str | None]:
    return {"metadata.trade_id": name, **chosen, "sequence": None}


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
