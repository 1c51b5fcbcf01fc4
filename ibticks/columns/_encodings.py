"""Choice of Parquet encodings and page compressions, by column and by the data.

Every encoding that suits the type of a column is tried on samples of the first row group of a
companion. The choice is the one with the least cost a row: the time to decode it, and its bytes,
each of which weighs as much as ``BYTE_COST_NS``. The times were measured with polars 2.1 on real
ticks; they are constants, so that the same ticks always make the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ibticks.schema import COLUMNS, FieldType

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ColumnEncoding", "choose_encodings", "writer_options"]

Encoding: TypeAlias = Literal["dictionary", "delta", "plain"]
Codec: TypeAlias = Literal["none", "lz4", "zstd"]

BYTE_COST_NS: Final = 12.0
"""Weight of a byte, in nanoseconds: as long takes a disk of 80 MB/s."""

_LEVELS: Final = {"dictionary": 3, "delta": 3, "plain": 9}
"""Levels of zstd. Plain numbers become smaller with a higher one, and no slower to decode."""

_DECODE_NS: Final = {"dictionary": 5.0, "delta": 13.0, "plain": 6.0}
"""Nanoseconds of a processor to decode a value of eight bytes."""

_DECOMPRESS_NS: Final = {
    ("dictionary", "zstd"): 2.5,
    ("delta", "zstd"): 5.0,
    ("plain", "zstd"): 6.0,
    ("dictionary", "lz4"): 0.7,
    ("delta", "lz4"): 0.7,
    ("plain", "lz4"): 0.7,
}
"""Nanoseconds of a processor to decompress one compressed byte."""

_SAMPLES: Final = 4
_SAMPLE_ROWS: Final = 16_384


@dataclass(frozen=True, slots=True)
class ColumnEncoding:
    """Encoding and page compression of one column.

    Attributes
    ----------
    encoding : {"dictionary", "delta", "plain"}
        ``delta`` is Parquet's DELTA_BINARY_PACKED.
    codec : {"none", "lz4", "zstd"}
    """

    encoding: Encoding
    codec: Codec

    def cost_ns(self, bytes_per_row: float) -> float:
        """Return the cost of a row, in nanoseconds.

        Examples
        --------
        >>> small, fast = ColumnEncoding("plain", "zstd"), ColumnEncoding("plain", "lz4")
        >>> small.cost_ns(2.0) < fast.cost_ns(4.0) < small.cost_ns(3.0)
        True
        """
        decompress = _DECOMPRESS_NS.get((self.encoding, self.codec), 0.0)
        return _DECODE_NS[self.encoding] + bytes_per_row * (decompress + BYTE_COST_NS)


_INTEGERS: Final = (
    ColumnEncoding("delta", "zstd"),
    ColumnEncoding("delta", "lz4"),
    ColumnEncoding("plain", "zstd"),
    ColumnEncoding("dictionary", "zstd"),
)
_STRINGS: Final = (ColumnEncoding("dictionary", "zstd"), ColumnEncoding("dictionary", "lz4"))
_CANDIDATES: Final[dict[FieldType, tuple[ColumnEncoding, ...]]] = {
    FieldType.TIME: _INTEGERS,
    FieldType.SECONDS: _INTEGERS,
    FieldType.UINT64: _INTEGERS,
    FieldType.UINT32: (ColumnEncoding("dictionary", "none"),),
    FieldType.FLOAT: (
        *_STRINGS,
        ColumnEncoding("plain", "zstd"),
        ColumnEncoding("plain", "lz4"),
    ),
    FieldType.BOOL: (ColumnEncoding("plain", "lz4"),),
    FieldType.STRING: _STRINGS,
    FieldType.STRINGS: _STRINGS,
    FieldType.MAP: _STRINGS,
}


def choose_encodings(table: pa.Table) -> dict[str, ColumnEncoding]:
    """Choose the encoding of each column of a table of ticks.

    Parameters
    ----------
    table : pyarrow.Table
        The first row group of a companion, with columns of :data:`ibticks.schema.COLUMNS`.

    Returns
    -------
    dict of str to ColumnEncoding

    Examples
    --------
    >>> import numpy as np
    >>> prices = np.repeat([236.5, 236.51, 236.49], 1000)
    >>> table = pa.table({"sequence": np.arange(3000, dtype=np.uint64), "price": prices})
    >>> {name: encoding.encoding for name, encoding in choose_encodings(table).items()}
    {'sequence': 'delta', 'price': 'dictionary'}
    """
    candidates = {name: _CANDIDATES[COLUMNS[name].type] for name in table.column_names}
    if not table.num_rows:
        return {name: some[0] for name, some in candidates.items()}
    sample = _sample(table)
    costs: dict[str, list[tuple[float, int]]] = {name: [] for name in candidates}
    for place in range(max(map(len, candidates.values()))):
        tried = {name: some[place] for name, some in candidates.items() if place < len(some)}
        for name, size in _encoded_bytes(sample.select(list(tried)), tried).items():
            costs[name].append((tried[name].cost_ns(size / sample.num_rows), place))
    return {name: candidates[name][min(tried_costs)[1]] for name, tried_costs in costs.items()}


def writer_options(encodings: Mapping[str, ColumnEncoding]) -> dict[str, Any]:
    """Return the options of :class:`pyarrow.parquet.ParquetWriter` for some encodings."""
    leaves = {leaf: value for name, value in encodings.items() for leaf in _leaves(name)}
    return {
        "use_dictionary": [
            leaf for leaf, value in leaves.items() if value.encoding == "dictionary"
        ],
        "column_encoding": {
            leaf: "DELTA_BINARY_PACKED"
            for leaf, value in leaves.items()
            if value.encoding == "delta"
        },
        "compression": {leaf: value.codec.upper() for leaf, value in leaves.items()},
        "compression_level": {
            leaf: _LEVELS[value.encoding] for leaf, value in leaves.items() if value.codec == "zstd"
        },
    }


def _sample(table: pa.Table) -> pa.Table:
    """Return some rows of a table: slices at equal distances, or all of a small one."""
    distance = table.num_rows // _SAMPLES
    if distance <= _SAMPLE_ROWS:
        return table
    slices = [table.slice(place * distance, _SAMPLE_ROWS) for place in range(_SAMPLES)]
    return pa.concat_tables(slices).combine_chunks()


def _leaves(name: str) -> tuple[str, ...]:
    """Return the Parquet columns that a column is stored in."""
    match COLUMNS[name].type:
        case FieldType.STRINGS:
            return (f"{name}.list.element",)
        case FieldType.MAP:
            return (f"{name}.key_value.key", f"{name}.key_value.value")
        case _:
            return (name,)


def _encoded_bytes(table: pa.Table, encodings: Mapping[str, ColumnEncoding]) -> dict[str, int]:
    """Return the bytes of each column of a table with these encodings."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **writer_options(encodings)) as writer:
        writer.write_table(table)
    group = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0)
    sizes = dict.fromkeys(encodings, 0)
    for place in range(group.num_columns):
        column = group.column(place)
        sizes[column.path_in_schema.partition(".")[0]] += column.total_compressed_size
    return sizes
