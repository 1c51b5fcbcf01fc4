"""Ticks of Arrow tables as v2 messages: JSON objects, or protobuf messages in wire frames.

Columns become text by polars expressions and frames by the compiled encoder, without a Python
object for each tick.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibticks.config import NANOSECONDS
from ibticks.format import Encoder, from_text
from ibticks.frames import from_arrow, to_table
from ibticks.schema import COLUMNS, FieldType, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from ibticks.live import Batch

__all__ = ["dump_json", "encode_frames", "encode_json", "encode_live"]

_STREAM: Final = ("contract_id", "tick_type")

_DATA_FIELDS: Final = tuple(
    name
    for name in COLUMNS
    if name not in ("timestamp", "contract_id", "tick_type", "stream_id", "metadata")
)
_MICROSECOND_NS: Final = 1_000


def encode_json(batch: pa.RecordBatch, *, separator: str = ",") -> bytes:
    """Encode ticks as v2 messages, JSON objects with commas or another separator between them.

    Absent fields are left out. NaN and the infinities, which JSON does not have, are null.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        Ticks with ``stream_id`` and ``metadata``, from :meth:`ibticks.Selection.iter_batches`.
    separator : str

    Examples
    --------
    >>> import pyarrow as pa
    >>> time = pa.array([1736519400123456000]).cast(pa.timestamp("ns", "UTC"))
    >>> columns = {"timestamp": time, "contract_id": [8314], "tick_type": ["last"], "price": [5.5]}
    >>> encode_json(pa.record_batch(columns | {"stream_id": ["8314_last"]})).decode()
    '{"type":"tick","stream_id":"8314_last","timestamp":"2025-01-10T14:30:00.123456Z","data":{"contract_id":8314,"tick_type":"last","price":5.5}}'
    """
    ticks = pl.DataFrame(batch)
    parts = _message_parts(batch, ticks["stream_id"], ticks["timestamp"])
    if "metadata" in ticks.columns:
        parts += [pl.concat_str(pl.lit(',"metadata":'), _metadata(batch))]
    rows = pl.select(pl.concat_str(*parts, pl.lit("}"), ignore_nulls=True).str.join(separator))
    return str(rows.item()).encode()


def dump_json(value: Any) -> str:
    """Encode a value as JSON; NaN and the infinities, which JSON does not have, are null.

    Examples
    --------
    >>> dump_json({"price": float("nan"), "sizes": [1.5, float("inf")]})
    '{"price":null,"sizes":[1.5,null]}'
    """
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return [_finite(member) for member in value] if isinstance(value, list) else value


def encode_live(batch: Batch, buffer_index: int | None = None) -> list[str]:
    """Encode the ticks of a live batch as v2 messages, in the order of :meth:`Batch.messages`.

    The metadata, which come last, say whether a tick is ``historical``.

    Parameters
    ----------
    batch : Batch
        With at least one tick.
    buffer_index : int, optional
        Place of the first tick in the buffer, for ticks of one.
    """
    numbers, places = batch.tick_order()
    starts = np.cumsum([0, *(one.ticks for one in batch.slices)])
    rows = starts[numbers] + places
    rank = np.empty(batch.rows, np.int64)
    rank[rows] = np.arange(batch.rows)
    chunks, first = [], 0
    for chunk in batch.read(tuple(COLUMNS)):
        # A table is sorted by its times: here these are the places of the rows.
        place = Values(rank[first : first + chunk.rows])
        chunks.append(replace(chunk, columns={**chunk.columns, "timestamp": place}))
        first += chunk.rows
    (ordered,) = to_table(chunks, tuple(COLUMNS)).combine_chunks().to_batches()
    ticks = pl.DataFrame(ordered)
    # Ticks that were imported may have no stream id.
    contract_ids, tick_types = (ticks[name].cast(pl.String) for name in _STREAM)
    stream_ids = ticks["stream_id"].cast(pl.String)
    stream_ids = stream_ids.zip_with(
        (stream_ids != "").fill_null(value=False), contract_ids + "_" + tick_types
    )
    parts = _message_parts(ordered, stream_ids, pl.Series(batch.times()))
    members = f'"historical":{json.dumps(batch.historical)}'
    extra = pl.select(pl.repeat(members, batch.rows)).to_series()
    if batch.historical and buffer_index is not None:
        indices = pl.int_range(buffer_index, buffer_index + batch.rows, eager=True)
        extra = extra + ',"buffer_index":' + indices.cast(pl.String)
    stored = _metadata(ordered).str.head(-1) + ","
    return (
        pl.select(
            pl.concat_str(
                *parts,
                pl.lit(',"metadata":'),
                stored.fill_null("{"),
                extra,
                pl.lit("}}"),
                ignore_nulls=True,
            )
        )
        .to_series()
        .to_list()
    )


def _message_parts(
    batch: pa.RecordBatch, stream_ids: pl.Series, times: pl.Series
) -> list[pl.Expr | pl.Series]:
    """Return the texts of messages from the first brace to the end of ``data``."""
    ticks = pl.DataFrame(batch)
    parts: list[pl.Expr | pl.Series] = [
        pl.lit('{"type":"tick","stream_id":'),
        _quoted(stream_ids),
        pl.lit(',"timestamp":"'),
        _timestamps(times),
        pl.lit('","data":{"contract_id":'),
        ticks["contract_id"].cast(pl.String),
        pl.lit(',"tick_type":'),
        _quoted(ticks["tick_type"]),
    ]
    for name in _DATA_FIELDS:
        if name not in ticks.columns or ticks[name].null_count() == ticks.height:
            continue
        label = pl.lit(f',"{name}":')
        text = _string_lists(batch) if name == "conditions" else _text(ticks[name])
        parts += [label, text] if not text.null_count() else [pl.concat_str(label, text)]
    return [*parts, pl.lit("}")]


def encode_frames(batch: pa.RecordBatch) -> bytes:
    """Encode ticks as protobuf messages, each with its length before it, as in an hour file.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        As in :func:`encode_json`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> time = pa.array([1736519400123456000]).cast(pa.timestamp("ns", "UTC"))
    >>> columns = {"timestamp": time, "contract_id": [8314], "tick_type": ["last"], "price": [5.5]}
    >>> encode_frames(pa.record_batch(columns))[:10].hex(" ")
    '00 00 00 27 0a 04 74 69 63 6b'
    """
    encoder = Encoder(from_arrow(pl.DataFrame(batch)))
    return b"".join(frames.tobytes() for _, frames in encoder.chunks())


def _text(values: pl.Series) -> pl.Series:
    """Return a column of ticks as JSON text, null where it is absent."""
    match COLUMNS[values.name].type:
        case FieldType.FLOAT:
            finite = values.is_finite()
            text = values.cast(pl.String)
            if finite.all():
                return text
            return text.set(finite.not_(), "null")
        case FieldType.SECONDS:
            return values.dt.epoch("s").cast(pl.String)
        case FieldType.STRING:
            return _quoted(values)
    return values.cast(pl.String)


def _quoted(values: pl.Series) -> pl.Series:
    """Return strings as JSON text, each distinct one converted once."""
    plain = values.cast(pl.String)
    distinct = plain.unique().drop_nulls()
    texts = [json.dumps(value) for value in distinct]
    return plain.replace_strict(distinct, texts, default=None, return_dtype=pl.String)


def _string_lists(batch: pa.RecordBatch) -> pl.Series:
    """Return the conditions as JSON text, null where there is none."""
    column = batch.column("conditions")
    return _group_texts(column.offsets.to_pylist(), [column.values], _list_text)


def _metadata(batch: pa.RecordBatch) -> pl.Series:
    """Return the metadata as JSON text, null where there is none."""
    column = batch.column("metadata")
    return _group_texts(column.offsets.to_pylist(), [column.keys, column.items], _map_text)


def _group_texts(
    offsets: list[int], arrays: list[pa.Array], convert: Callable[..., str]
) -> pl.Series:
    """Return the text of the items of each row, each distinct row converted once; null if empty."""
    start, stop = offsets[0], offsets[-1]
    if start == stop:
        return pl.Series([None] * (len(offsets) - 1), dtype=pl.String)
    items = [array.slice(start, stop - start).to_pylist() for array in arrays]
    texts: dict[tuple[tuple[str, ...], ...], str | None] = {tuple(() for _ in items): None}
    rows: list[str | None] = []
    for first, last in pairwise(offsets):
        key = tuple(tuple(values[first - start : last - start]) for values in items)
        if key not in texts:
            texts[key] = convert(*key)
        rows.append(texts[key])
    return pl.Series(rows, dtype=pl.String)


def _list_text(values: tuple[str, ...]) -> str:
    return json.dumps(values)


def _map_text(keys: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = zip(keys, map(_json_value, values), strict=True)
    # Of a key that stands there twice, the last value counts, as in a protobuf map.
    return json.dumps(dict(sorted(dict(pairs).items())), allow_nan=False)


def _json_value(text: str) -> Any:
    """Return a value of the metadata that JSON has; numbers that it does not have as None."""
    value = from_text(text)
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return None
    return value


def _timestamps(times: pl.Series) -> pl.Series:
    """Return times in UTC with microseconds, or nanoseconds where a time has some."""
    since_epoch = times.to_physical()
    seconds, fractions = since_epoch // NANOSECONDS, since_epoch % NANOSECONDS
    distinct = seconds.unique()
    dates = pl.from_epoch(distinct).dt.to_string("%Y-%m-%dT%H:%M:%S.")
    whole = seconds.replace_strict(distinct, dates, return_dtype=pl.String)
    digits = fractions.cast(pl.String).str.zfill(9)
    is_precise = fractions % _MICROSECOND_NS != 0
    fraction = digits.str.slice(0, 6)
    if is_precise.any():
        fraction = digits.zip_with(is_precise, fraction)
    return pl.select(pl.concat_str(whole, fraction, pl.lit("Z"))).to_series()
