"""Ticks of the same time made one."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks.analysis import merge_same_timestamp
from ibticks.analysis._engine import window_kernels
from ibticks.analysis._engine.window_kernels import run_in_blocks
from ibticks.errors import InputError, UnknownColumnError

from .frames import PATIENT, both, is_number, made, real, rows_of, ticks

SIDES = {
    "trades": [("price", "size")],
    "quotes": [("bid_price", "bid_size"), ("ask_price", "ask_size")],
}


def one_side(rows: Any, price: str, size: str, of: Any, how: Any) -> tuple[float | None, float]:
    """R's rules, for one price and its size."""
    sized = [(r[price], r[size] if is_number(r[size]) else 0.0) for r in rows]
    known = [(p, s) for p, s in sized if is_number(p)]
    total = sum(s for _, s in sized)
    if not known:
        return None, total
    most = max(s for _, s in known)
    if how == "median":
        return statistics.median(p for p, _ in known), total
    if how == "max_volume":
        return max(p for p, s in known if s == most), most if of == "trades" else total
    weight = sum(s for _, s in known)
    if not weight:
        return statistics.fmean(p for p, _ in known), total
    return sum(p * s for p, s in known) / weight, total


@PATIENT
@given(
    ticks(),
    st.sampled_from(["trades", "quotes"]),
    st.sampled_from(["median", "max_volume", "weighted_average"]),
)
def test_by_the_rules(frame: pl.DataFrame, of: Any, how: Any) -> None:
    actual = both(partial(merge_same_timestamp, of=of, how=how), frame)
    groups: dict[Any, Any] = {}
    for row in rows_of(frame):
        if any(is_number(row[price]) for price, _ in SIDES[of]):
            groups.setdefault((row["ns"], row["contract_id"]), []).append(row)
    rows = rows_of(actual)
    assert sorted((r["ns"], r["contract_id"]) for r in rows) == sorted(groups)
    for row in rows:
        group = groups[row["ns"], row["contract_id"]]
        assert row["count"] == len(group)
        for price, size in SIDES[of]:
            value, total = one_side(group, price, size, of, how)
            assert (row[price], row[size]) == (pytest.approx(value), total)


def test_real_trades() -> None:
    trades = real("ibm_trades")
    actual = merge_same_timestamp(trades)
    wanted = trades.group_by("timestamp", "contract_id", maintain_order=True).agg(
        pl.col("price").median(), pl.col("size").sum(), pl.len().alias("count")
    )
    assert_frame_equal(actual, wanted)
    assert len(actual) < len(trades)
    assert actual["timestamp"].is_unique().all()


def test_other_columns_are_those_of_the_last_row() -> None:
    frame = made([{"ns": 0, "price": 1.0, "size": 1.0}, {"ns": 0, "price": 2.0, "size": 1.0}])
    frame = frame.with_columns(exchange=pl.Series(["N", "Q"]), count=pl.lit("theirs"))
    actual = merge_same_timestamp(frame)
    assert actual.columns == frame.columns
    assert actual.select("exchange", "count").rows() == [("Q", 2)]


def test_a_price_of_either_sign() -> None:
    """A spread of futures may have a negative price; R's rule of the largest trade would give 0."""
    frame = made([{"ns": 0, "price": -3.0, "size": 5.0}, {"ns": 0, "price": -1.0, "size": 1.0}])
    assert merge_same_timestamp(frame, how="max_volume")["price"].item() == -3.0


def test_empty_frames_give_empty_results() -> None:
    assert both(merge_same_timestamp, made([])).height == 0
    assert (
        both(partial(merge_same_timestamp, of="quotes"), made([]).drop("contract_id")).height == 0
    )


def test_invalid_arguments_are_refused() -> None:
    frame = real("ibm_trades")
    with pytest.raises(InputError, match="median, max_volume, weighted_average"):
        merge_same_timestamp(frame, how="mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="trades or quotes"):
        merge_same_timestamp(frame, of="mids")  # type: ignore[arg-type]
    with pytest.raises(UnknownColumnError, match="bid_ask"):
        merge_same_timestamp(frame, of="quotes")


@pytest.mark.parametrize("piece", [1, 3, 100])
@pytest.mark.parametrize("how", ["median", "max_volume", "weighted_average"])
def test_blocks_do_not_change_results(
    monkeypatch: pytest.MonkeyPatch, piece: int, how: Any
) -> None:
    quotes = real("ibm_quotes").head(1000)
    whole = merge_same_timestamp(quotes, of="quotes", how=how)
    assert 0 < whole.height < quotes.height
    monkeypatch.setattr(
        window_kernels, "run_in_blocks", partial(run_in_blocks, rows_per_block=piece)
    )
    assert_frame_equal(merge_same_timestamp(quotes, of="quotes", how=how), whole, check_exact=True)
