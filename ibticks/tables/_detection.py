"""Detect by the first rows of a file its time columns, trade ids and notation of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.schema import COLUMNS, FieldType
from ibticks.tables._files import TableFile, is_string
from ibticks.tables._mapping import ColumnMapping, match_columns, other_prices, time_names
from ibticks.tables._names import TRADE_IDS, plain_name
from ibticks.tables._time_choice import choose_time
from ibticks.tables._values import (
    are_text_ids,
    check_no_fractions,
    find_decimal_mark,
    has_value,
    is_fixed_point,
    text_values,
)

if TYPE_CHECKING:
    from datetime import tzinfo

    from ibticks._types import TimeUnit

__all__ = [
    "NumberNotation",
    "detect_notation",
    "find_other_prices",
    "has_metadata",
    "map_trade_ids",
    "match_by_values",
]

_SAMPLE_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class NumberNotation:
    """Notation of a file's numbers."""

    decimal: str | None
    fixed_point: bool


def map_trade_ids(
    file: TableFile, tick_type: str, mapping: dict[str, str | None], preset: str | None
) -> dict[str, str | None]:
    """Return a mapping with the ids of trades, which distinguish equal trades at one time.

    Numbers become ``sequence``, texts become ``metadata.trade_id``. An ``id`` that counts the
    rows of its file, from 0 or 1, is not read: a tick has another one in the next file.
    """
    if tick_type not in ("last", "all_last") or "sequence" in mapping:
        return mapping
    matched = match_columns(file.columns, tick_type, mapping, preset)
    sequence_sources = matched.columns.get("sequence", ())
    if sequence_sources and plain_name(sequence_sources[0]) not in TRADE_IDS:
        return mapping
    read = set(matched.sources()) - set(sequence_sources)
    unread = [name for name in file.columns if name not in read]
    names = [name for plain in TRADE_IDS for name in unread if plain_name(name) == plain]
    if not names or (len(names) > 1 and plain_name(names[0]) == plain_name(names[1])):
        return mapping
    sample = next(file.batches(names[:1], _SAMPLE_ROWS, skip_ragged=True), None)
    if sample is None:
        return mapping
    column = sample[names[0]]
    # A column of the name metadata is not read beside single keys.
    are_texts = "metadata" not in file.columns and are_text_ids(column)
    if sequence_sources:
        return _with_text_ids(mapping, names[0]) if are_texts else mapping
    texts = text_values(column)
    if len(texts) < 2 or texts.null_count or len(pc.unique(texts)) < len(texts):
        return mapping
    if are_texts:
        return _with_text_ids(mapping, names[0])
    if not pc.all(pc.match_substring_regex(texts, r"^\d{1,19}$")).as_py():
        return mapping
    numbers = np.sort(texts.cast(pa.uint64()).to_numpy())
    counts_rows = numbers[0] <= 1 and bool((np.diff(numbers) == 1).all())
    return mapping if counts_rows else {**mapping, "sequence": names[0]}


def match_by_values(
    file: TableFile,
    path: str,
    tick_type: str,
    mapping: dict[str, str | None],
    preset: str | None,
    tz: str | tzinfo | None,
    unit: TimeUnit | None,
    time_format: str | None,
) -> tuple[ColumnMapping, pa.Table]:
    """Match columns by their names, and those of the time by the first values."""
    columns = file.columns
    by_name = match_columns(columns, tick_type, mapping, preset)
    explicit = by_name.columns["timestamp"] if "timestamp" in mapping else None
    assigned = {
        name
        for tick, source in mapping.items()
        if source and tick != "timestamp" and not tick.startswith("metadata.")
        for name in ([source] if source in columns else source.split("+"))
    }
    names = time_names(columns, by_name.preset, exclude=assigned)
    times = [name for name in names.all if name in columns]
    sample_columns = list(dict.fromkeys([*times, *(explicit or ()), *by_name.sources()]))
    sample = next(file.batches(sample_columns, _SAMPLE_ROWS, skip_ragged=True), None)
    if sample is None:
        return by_name, pa.table({name: pa.array([], pa.large_string()) for name in sample_columns})
    time_sample = sample.select(list(dict.fromkeys([*times, *(explicit or ())])))
    try:
        sources = choose_time(
            names, time_sample, unit=unit, time_format=time_format, explicit=explicit
        )
    except InputError as error:
        raise type(error)(f"{path}: {error}", **{**error.context, "path": path}) from error
    if sources is None:
        return by_name, sample
    zones = {names.zones[name] for name in sources if name in names.zones}
    zone = zones.pop() if len(zones) == 1 else None
    if explicit is not None and tz is not None:
        zone = None
    matched = match_columns(columns, tick_type, mapping, preset, timestamp=(sources, zone))
    lacking = [name for name in matched.sources() if name not in sample_columns]
    if lacking:
        sample_columns += lacking
        sample = next(file.batches(sample_columns, _SAMPLE_ROWS, skip_ragged=True))
    return matched, sample


def has_metadata(file: TableFile, mapping: ColumnMapping) -> bool:
    """Return whether a file has ibticks' column ``metadata``."""
    if "metadata" not in file.columns or mapping.metadata:
        return False
    first = next(file.batches(["metadata"], 1), None)
    data_type = None if first is None else first["metadata"].type
    if data_type is not None and is_string(data_type):
        return mapping.preset is not None and mapping.preset.name == "ibticks"
    return data_type is not None and bool(
        pa.types.is_map(data_type)
        or pa.types.is_list(data_type)
        or pa.types.is_large_list(data_type)
    )


def find_other_prices(file: TableFile, tick_type: str, mapping: ColumnMapping) -> tuple[str, ...]:
    """Return the columns of prices that make a row without its own price another tick.

    None where rows have prices of both kinds: in a file of snapshots, a side that is missing
    is a market without a quote.
    """
    if mapping.preset is not None and mapping.preset.trade_event:
        return ()
    own, others = other_prices(file.columns, tick_type, mapping)
    if not others or tick_type != "bid_ask":
        return others
    sample = next(file.batches([*own, *others], _SAMPLE_ROWS, skip_ragged=True), None)
    if sample is None or pc.any(pc.and_(has_value(sample, own), has_value(sample, others))).as_py():
        return ()
    return others


def detect_notation(
    mapping: ColumnMapping, sample: pa.Table, decimal: str | None, delimiter: str
) -> NumberNotation:
    """Detect by the first rows how a file writes its numbers."""
    preset = mapping.preset
    floats = [
        (name, sources[0])
        for name, sources in mapping.columns.items()
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
        decimal = find_decimal_mark(numbers, delimiter)
    return NumberNotation(decimal, fixed)


def _with_text_ids(mapping: dict[str, str | None], name: str) -> dict[str, str | None]:
    return {"metadata.trade_id": name, **mapping, "sequence": None}
