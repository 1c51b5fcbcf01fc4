"""Frames for the tests of measures: real ones, and such as hypothesis thinks of."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import polars as pl
from hypothesis import settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks.frames._to_polars import polars_schema
from ibticks.sample import sample

START = 1_736_519_340_000_000_000  # 2025-01-10T14:29:00Z, a minute before New York opens

SCHEMA = polars_schema(
    [
        *("timestamp", "contract_id", "price", "size"),
        *("bid_price", "bid_size", "ask_price", "ask_size", "mid_price"),
    ]
)


PATIENT = settings(max_examples=40, deadline=None)


@cache
def real(name: str) -> pl.DataFrame:
    """A sample as a store would give it."""
    actual = sample(name)
    frame = pl.read_parquet(actual.path).with_columns(
        contract_id=pl.lit(actual.contract_id, pl.UInt32)
    )
    return frame.select(pl.col(n).cast(t) for n, t in SCHEMA.items() if n in frame.columns)


def together(*frames: pl.DataFrame) -> pl.DataFrame:
    """Several frames as one, in order of time; of equal times, the earlier frame comes first."""
    return pl.concat(frames, how="diagonal").sort("timestamp", maintain_order=True)


def made(rows: list[dict[Any, Any]]) -> pl.DataFrame:
    """Ticks with the columns of all tick types; ``ns`` counts from ``START``."""
    full = [
        {**dict.fromkeys(SCHEMA.names()), "contract_id": 1, **row, "timestamp": START + row["ns"]}
        for row in rows
    ]
    plain: dict[str, Any] = {**SCHEMA, "timestamp": pl.Int64}
    frame = pl.DataFrame([{k: r[k] for k in plain} for r in full], schema=plain, orient="row")
    return frame.cast(SCHEMA)


def rows_of(frame: pl.DataFrame) -> list[dict[Any, Any]]:
    """The rows, with ``ns`` since 1970."""
    return frame.with_columns(ns=pl.col("timestamp").cast(pl.Int64)).to_dicts()


def as_frame(rows: list[Any], like: pl.DataFrame) -> pl.DataFrame:
    """Rows with times as nanoseconds since 1970, in the schema of a frame."""
    plain = {n: pl.Int64 if isinstance(t, pl.Datetime) else t for n, t in like.schema.items()}
    return pl.DataFrame(rows, schema=plain, orient="row").cast(like.schema)


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def both(measure: Any, frame: pl.DataFrame, *others: pl.DataFrame) -> pl.DataFrame:
    """Return the measure of a frame, after asserting that a lazy frame gives the same."""
    eager = measure(frame, *others)
    lazy = measure(frame.lazy(), *(other.lazy() for other in others))
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect_schema() == eager.schema
    assert_frame_equal(lazy.collect(), eager, rel_tol=1e-12)
    assert_frame_equal(lazy.collect(engine="streaming"), eager, rel_tol=1e-12)
    return eager


_gaps = st.sampled_from([0, 0, 0, 1, 999_999_999, 1_000_000_000, 17_000_000_000, 3_600_000_000_000])
_prices = st.integers(9_900, 10_100).map(lambda cents: cents / 100)
_strange = st.sampled_from([None, math.nan])
_sizes = st.one_of(st.integers(0, 500).map(float), _strange)
_trades = st.fixed_dictionaries({"price": _prices | _strange, "size": _sizes})
_quotes = st.fixed_dictionaries(
    {
        "bid_price": _prices | _strange,
        "bid_size": _sizes,
        "ask_price": _prices | _strange,
        "ask_size": _sizes,
    }
)
_mids = st.fixed_dictionaries({"mid_price": _prices | _strange})


@st.composite
def ticks(
    draw: Any,
    kinds: tuple[str, ...] = ("trades", "quotes", "mids"),
    contracts: int = 2,
    most: int = 40,
) -> pl.DataFrame:
    """Ticks of some contracts, interleaved: equal times, gaps, nulls, NaN, crossed quotes."""
    sources = [{"trades": _trades, "quotes": _quotes, "mids": _mids}[kind] for kind in kinds]
    rows, ns = [], 0
    for _ in range(draw(st.integers(0, most))):
        ns += draw(_gaps)
        contract = draw(st.integers(1, contracts))
        rows.append({"ns": ns, "contract_id": contract, **draw(st.one_of(sources))})
    return made(rows)
