"""The quality report equals the measures that it consists of."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings

from ibticks import analysis
from ibticks.errors import UnknownColumnError

from .frames import both, made, real, ticks, together


def test_a_day() -> None:
    trades, quotes = real("ibm_trades"), real("ibm_quotes")
    report = both(analysis.quality_report, together(quotes, trades))
    assert report["kind"].to_list() == ["trades", "quotes"]
    assert report["ticks"].to_list() == [trades.height, quotes.height]
    for row, frame in zip(report.iter_rows(named=True), (trades, quotes), strict=True):
        assert (
            row["outliers"] == analysis.outliers(frame)["outlier_rule"].eq("brownlees_gallo").sum()
        )
        assert row["duplicates"] == analysis.duplicates(frame)["duplicate"].sum()
        assert row["longest_gap"] == analysis.gaps(frame)["duration"].max()
        assert (row["first"], row["last"]) == (frame["timestamp"].min(), frame["timestamp"].max())
        assert row["out_of_order"] == row["not_positive"] == 0
    assert report.select("crossed", "locked", "one_sided").rows() == [(None,) * 3, (40, 504, 0)]


def test_doubtful_ticks_are_counted() -> None:
    frame = made(
        [
            {"ns": 10, "price": 1.0},
            {"ns": 10, "price": 1.0},
            {"ns": 5, "price": -1.0},
            {"ns": 6, "bid_price": 2.0, "ask_price": 1.0},
            {"ns": 7, "bid_price": 2.0, "ask_price": 2.0},
            {"ns": 9, "bid_price": 2.0},
            {"ns": 9, "mid_price": 2.0},
            {"ns": 9_000_000_009, "mid_price": 2.0},
            {"ns": 11, "contract_id": 2, "price": 0.0},
        ]
    )
    report = both(analysis.quality_report, frame)
    assert report.select("contract_id", "kind", "ticks").rows() == [
        (1, "trades", 3),
        (1, "quotes", 3),
        (1, "mids", 2),
        (2, "trades", 1),
    ]
    counts = ["out_of_order", "duplicates", "not_positive", "crossed", "locked", "one_sided"]
    assert report.select(counts).rows() == [
        (1, 1, 1, None, None, None),
        (0, 0, 0, 1, 1, 1),
        (0, 0, 0, None, None, None),
        (0, 0, 1, None, None, None),
    ]
    assert report["longest_gap"][2] == timedelta(seconds=9)


@settings(max_examples=20, deadline=None)
@given(ticks())
def test_any_frame_has_a_quality_report(frame: pl.DataFrame) -> None:
    report = both(analysis.quality_report, frame)
    finite = pl.col("price").is_finite()
    assert report.filter(kind="trades")["ticks"].sum() == frame.filter(finite).height


def test_a_frame_without_contracts_or_prices() -> None:
    quotes = real("ibm_quotes")
    report = both(analysis.quality_report, quotes.drop("contract_id"))
    assert report.columns[0] == "kind"
    assert report.height == 1
    with pytest.raises(UnknownColumnError, match="price"):
        analysis.quality_report(quotes.select("timestamp"))
