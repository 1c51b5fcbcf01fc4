"""Empty loads log the days in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ibticks import Store


@pytest.mark.parametrize("how", [{"period": "1h"}, {"period": "today"}, {"sessions": 1}])
@pytest.mark.parametrize("load", ["to_arrow", "to_polars", "to_pandas", "to_xarray"])
def test_an_empty_load_of_a_period_logs_the_stored_days(
    how: dict[str, Any], load: str, sample_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = getattr(sample_store.select("IBM", "all_last", **how), load)()
    assert len(ticks.timestamp if load == "to_xarray" else ticks) == 0
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "0 ticks; IBM all_last has 2013-10-08; now='last_tick' counts back from there"
    )


@pytest.mark.parametrize(
    "how",
    [
        {"period": "1h", "now": "last_tick"},
        {"period": "1h", "now": "2001-01-01T00:00Z"},
        {"start": "2001-01-01T00:00Z", "end": "2001-01-02T00:00Z"},
        {"date": "2013-10-10"},
    ],
)
def test_other_loads_log_nothing(
    how: dict[str, Any], sample_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    sample_store.select("IBM", "all_last", **how).to_polars()
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["last", "mid_point"])
@pytest.mark.parametrize("how", [{}, {"date": "2013-10-08"}, {"period": "1h"}])
def test_a_missing_tick_type_lists_the_stored_ones(
    kind: str, how: dict[str, Any], sample_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert sample_store.select("IBM", kind, **how).to_polars().is_empty()
    (record,) = caplog.records
    assert record.getMessage().endswith("; the store has IBM all_last, IBM bid_ask")


def test_a_buffer_before_its_first_tick_logs_nothing(
    sample_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert sample_store.buffer("IBM", "last", "1h").to_polars().is_empty()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("contracts", "kinds", "says"),
    [
        ("IBM", "last", "nothing is stored of IBM last"),
        ("IBM", "last", "; the store has IBM all_last, IBM bid_ask"),
        ("IBM", ["all_last", "last"], "IBM all_last has 2013-10-08; now='last_tick' counts"),
        ("BTCUSDT", "bid_ask", "BTCUSDT bid_ask has 2024-08-08 to 2024-08-09; "),
        (["IBM", "BTCUSDT"], None, "more streams have others; now='last_tick' counts back"),
    ],
)
def test_the_text_of_stored_ranges(
    contracts: str | list[str], kinds: str | list[str] | None, says: str, sample_store: Store
) -> None:
    assert says in sample_store.select(contracts, kinds, "1h").describe_stored()


def test_a_symbol_that_is_not_known_is_an_id(store: Store) -> None:
    from datetime import UTC, datetime

    import polars as pl

    from ibticks.frames import from_arrow

    frame = pl.DataFrame({"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)], "price": [1.0]})
    with store.writer(77, "last") as writer:
        writer.write(from_arrow(frame, contract_id=77, tick_type="last"))
    details = store.select(77, "last", "1h").describe_stored("--now last_tick")
    assert details == "77 last has 2025-01-10; --now last_tick counts back from there"
