"""Ticks made by hand, by hypothesis, and read plainly, for tests of frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import strategies as st

from ibticks.config import TICK_TYPES
from ibticks.schema import (
    COLUMNS,
    Field,
    FieldType,
    MapColumn,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_DTYPES: dict[FieldType, Any] = {
    FieldType.TIME: np.int64,
    FieldType.SECONDS: np.int64,
    FieldType.UINT32: np.uint32,
    FieldType.UINT64: np.uint64,
    FieldType.FLOAT: np.float64,
    FieldType.BOOL: np.bool_,
}
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_EDGE = 2**63 - 1
_VALUES = {
    # 1970 to 2262 and some before, with many repeats.
    FieldType.TIME: st.one_of(st.integers(-5, 50), st.integers(-(2**62), 2**63 - 1)),
    FieldType.SECONDS: st.one_of(st.none(), st.integers(-9_223_372_036, 9_223_372_036)),
    FieldType.UINT32: st.integers(1, 2**32 - 1),
    FieldType.UINT64: st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    FieldType.FLOAT: st.one_of(st.none(), st.floats(allow_nan=True)),
    FieldType.BOOL: st.one_of(st.none(), st.booleans()),
    FieldType.STRINGS: st.lists(_TEXT, max_size=3),
    FieldType.MAP: st.dictionaries(_TEXT, _TEXT, max_size=3),
}


def columns_of_rows(rows: list[dict[Any, Any]]) -> TickColumns:
    """Rows (dicts, None where absent) as the decoder would give them."""
    made: dict[str, Any] = {}
    for field in COLUMNS.values():
        if rows and field.name not in rows[0]:
            continue
        values = [row[field.name] for row in rows]
        match field.type:
            case FieldType.STRING:
                made[field.name] = StringColumn(*_codes(values))
            case FieldType.STRINGS:
                flat = [text for value in values for text in value]
                made[field.name] = StringListColumn(_offsets(values), *_codes(flat))
            case FieldType.MAP:
                pairs = [pair for value in values for pair in value.items()]
                codes, texts = _codes([k for k, _ in pairs] + [v for _, v in pairs])
                half = len(pairs)
                made[field.name] = MapColumn(_offsets(values), codes[:half], codes[half:], texts)
            case kind:
                valid = np.array([value is not None for value in values], dtype=bool)
                # What stands at an absent row means nothing: let it be something.
                filler = True if kind is FieldType.BOOL else 77
                array = np.array([filler if v is None else v for v in values], dtype=_DTYPES[kind])
                made[field.name] = Values(array, None if valid.all() else valid)
    return TickColumns(len(rows), made)


def rows_of_columns(ticks: TickColumns) -> list[dict[Any, Any]]:
    """The inverse, without numpy: return the values of each tick."""
    listed = {}
    for name, column in ticks.columns.items():
        match column:
            case Values(values, valid):
                there = [True] * ticks.rows if valid is None else valid.tolist()
                listed[name] = [
                    v if ok else None for v, ok in zip(values.tolist(), there, strict=True)
                ]
            case StringColumn(codes, values):
                listed[name] = [None if c < 0 else values[c] for c in codes.tolist()]
            case StringListColumn(offsets, codes, values):
                flat = [values[c] for c in codes.tolist()]
                listed[name] = [flat[a:b] for a, b in _spans(offsets)]
            case MapColumn(offsets, keys, items, values):
                pairs = [
                    (values[k], values[v])
                    for k, v in zip(keys.tolist(), items.tolist(), strict=True)
                ]
                listed[name] = [dict(pairs[a:b]) for a, b in _spans(offsets)]
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


def _spans(offsets: NDArray[Any]) -> zip[tuple[Any, Any]]:
    return zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)


def _offsets(values: list[Any]) -> NDArray[Any]:
    return np.cumsum([0, *(len(value) for value in values)], dtype=np.int64)


def _codes(values: list[Any]) -> tuple[NDArray[Any], tuple[Any, ...]]:
    places = {text: i for i, text in enumerate(dict.fromkeys(v for v in values if v is not None))}
    codes = [-1 if v is None else places[v] for v in values]
    return np.array(codes, dtype=np.int32), tuple(places)


def _value(field: Field) -> st.SearchStrategy[Any]:
    if field.name == "tick_type":
        return st.sampled_from(TICK_TYPES)
    if field.name == "stream_id":
        return _TEXT
    if field.type is FieldType.STRING:
        return st.one_of(st.none(), _TEXT)
    return _VALUES[field.type]


@pytest.fixture(scope="session")
def ticks() -> Callable[..., TickColumns]:
    """Make TickColumns of rows."""
    return columns_of_rows


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[dict[Any, Any]]]:
    """Make rows of TickColumns."""
    return rows_of_columns


@pytest.fixture(scope="session")
def any_rows() -> st.SearchStrategy[list[Any]]:
    """A hypothesis strategy: rows of all columns."""
    return st.lists(
        st.fixed_dictionaries({f.name: _value(f) for f in COLUMNS.values()}), max_size=8
    )


@pytest.fixture(scope="session")
def quotes_and_trades() -> list[Any]:
    """Rows of two tick types, every column, things present and absent."""
    absent: dict[str, Any] = {
        **dict.fromkeys(["price", "size", "bid_price", "bid_size", "ask_price", "ask_size"]),
        **dict.fromkeys(["mid_price", "exchange", "sequence", "past_limit", "unreported"]),
        **dict.fromkeys(["bid_past_low", "ask_past_high", "exchange_time"]),
        "conditions": [],
        "stream_id": "8314_bid_ask",
        "metadata": {},
    }
    start = 1_381_152_600_000_000_000  # 2013-10-07 13:30:00 UTC
    quote = {"contract_id": 8314, "tick_type": "bid_ask", "bid_past_low": False}
    trade = {"contract_id": 8314, "tick_type": "all_last", "past_limit": True, "unreported": False}
    return [
        absent | quote | {"timestamp": start, "ask_price": 183.63, "ask_size": 100.0},
        absent
        | quote
        | {"timestamp": start + 1, "bid_price": 180.01, "bid_size": 300.0, "sequence": 2**63 + 1},
        absent
        | trade
        | {"timestamp": start + 1, "price": 181.52, "size": 283.0, "exchange": "P"}
        | {"conditions": ["2000", "20"], "exchange_time": 1_381_152_600},
        absent
        | trade
        | {"timestamp": start + 9, "price": float("nan"), "exchange": "Q", "conditions": ["40"]}
        | {"metadata": {"source": "backfill", "note": ""}, "sequence": 7},
    ]


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real ticks."""
    return Path(__file__).parent / "data"
