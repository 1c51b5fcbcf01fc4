"""Encodings follow the data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ibticks.columns._encodings import ColumnEncoding, choose_encodings
from ibticks.frames import arrow_type, to_table
from ibticks.schema import COLUMNS

ROWS = 20_000
RANDOM = np.random.default_rng(1)


def chosen(name: str, values: object) -> ColumnEncoding:
    return choose_encodings(pa.table({name: pa.array(values, arrow_type(name))}))[name]


def test_counters_are_stored_by_their_differences() -> None:
    assert chosen("sequence", np.arange(ROWS, dtype=np.uint64)) == ColumnEncoding("delta", "lz4")


def test_times_are_stored_by_their_differences() -> None:
    times = 1_381_237_200_000_000_000 + np.cumsum(RANDOM.integers(0, 10**7, ROWS))
    assert chosen("timestamp", times).encoding == "delta"


def test_seconds_that_repeat_are_not() -> None:
    seconds = (1_381_237_200 + np.arange(ROWS) // 50) * 1_000_000_000
    assert chosen("exchange_time", seconds).encoding != "delta"


def test_prices_of_few_levels_are_in_a_dictionary() -> None:
    assert chosen("price", 236.5 + RANDOM.integers(0, 30, ROWS) / 100).encoding == "dictionary"


def test_sizes_that_do_not_repeat_are_in_none() -> None:
    assert chosen("size", RANDOM.random(ROWS)).encoding == "plain"


def test_every_column_has_an_encoding_also_without_rows() -> None:
    assert list(choose_encodings(to_table([], tuple(COLUMNS)))) == list(COLUMNS)
