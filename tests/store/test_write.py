"""Writing frames into a store, and taking them out again."""

from __future__ import annotations

import resource
from datetime import timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from ibticks import Store, errors
from ibticks.frames import from_arrow
from ibticks.importing import import_table
from ibticks.storage import StreamWriter
from ibticks.store._frame_writer import write_columns
from ibticks.testing._store_contract import TICKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_a_frame_of_several_streams_is_taken_apart(store: Store, sample_store: Store) -> None:
    columns = ["timestamp", "contract_id", "tick_type", "price", "bid_price", "ask_price"]
    part = sample_store.select(
        ["ibm", "btcusdt"], columns=columns, start="2013-10-08T13:59Z", end="2024-08-09T00:00:01Z"
    )
    frame = part.to_polars()
    assert store.write(frame) == frame.height
    assert [(c.contract_id, c.tick_type) for c in store.contents()] == [
        (8314, "all_last"),
        (8314, "bid_ask"),
        (990101, "all_last"),
        (990101, "bid_ask"),
    ]
    assert store.select([8314, 990101], columns=columns).to_polars().equals(frame)


def test_times_without_a_zone(store: Store) -> None:
    naive = TICKS.with_columns(pl.col("timestamp").dt.replace_time_zone(None))
    with pytest.raises(errors.NaiveDatetimeError):
        store.write(naive, contract_id=1, tick_type="last")
    store.write(naive, contract_id=1, tick_type="last", tz="America/New_York")
    first = store.select(1).to_polars()["timestamp"][0]
    assert str(first) == "2025-01-10 19:59:59.999999+00:00"


@pytest.mark.parametrize(
    ("frame", "options", "error", "says"),
    [
        (TICKS, {"tick_type": "last"}, errors.InputError, "contract_id="),
        (TICKS, {"contract_id": 1}, errors.InputError, "tick_type="),
        (TICKS, {"contract_id": -1, "tick_type": "last"}, errors.InputError, "4294967295"),
        (TICKS, {"contract_id": 1, "tick_type": "trades"}, errors.UnknownTickTypeError, "all_last"),
        (
            TICKS.rename({"price": "px"}),
            {"contract_id": 1, "tick_type": "last"},
            errors.UnknownColumnError,
            "px",
        ),
        (
            TICKS.drop("timestamp"),
            {"contract_id": 1, "tick_type": "last"},
            errors.InputError,
            "timestamp",
        ),
        (TICKS.lazy(), {"contract_id": 1, "tick_type": "last"}, errors.InputError, "collect it"),
        ([1, 2], {"contract_id": 1, "tick_type": "last"}, errors.InputError, "a list"),
    ],
    ids=["contract", "tick type", "negative", "unknown", "column", "no time", "lazy", "list"],
)
def test_invalid_frames_are_refused(
    store: Store,
    frame: pl.DataFrame | pl.LazyFrame | list[int],
    options: dict[str, Any],
    error: type[errors.InputError]
    | type[errors.UnknownTickTypeError]
    | type[errors.UnknownColumnError],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        store.write(frame, **options)
    assert store.contents() == []


@pytest.mark.parametrize("contract_id", [0, -5, 2**32, 1.5, "8314", None])
def test_no_writer_for_an_invalid_contract(store: Store, contract_id: Any) -> None:
    for use in (
        lambda: store.writer(contract_id, "last"),
        lambda: store.add_contract(contract_id, "X"),
    ):
        with pytest.raises(errors.InputError, match="1 to 4294967295"):
            use()
    assert store.contracts() == []


def test_numbers_of_numpy(store: Store) -> None:
    store.add_contract(np.int64(265598), "AAPL")
    with store.writer(np.uint32(265598), "last") as writer:
        assert writer.write(from_arrow(TICKS, contract_id=265598, tick_type="last")) == 3
    assert store.select("AAPL").count() == 3


@pytest.mark.parametrize(
    "tz",
    ["us/eastern", "-05:00", "UTC-5", ZoneInfo("US/Eastern"), timezone(timedelta(hours=-5))],
    ids=str,
)
def test_a_zone_is_read_the_same_way_everywhere(
    store: Store, tmp_path: Path, tz: str | ZoneInfo | timezone
) -> None:
    """By write, import, from_arrow and select."""
    naive = pl.DataFrame({"timestamp": ["2025-01-10 09:30:00.123456789"], "price": [1.5]})
    store.write(naive, contract_id=1, tick_type="last", tz=tz)
    naive.write_csv(tmp_path / "ticks.csv")
    for contract, added in ((1, 0), (2, 1)):
        result = import_table(
            store, tmp_path / "ticks.csv", contract_id=contract, tick_type="last", tz=tz
        )
        assert result.added == added
    for contract in (1, 2):
        window: dict[str, Any] = {"start": "2025-01-10 09:30", "end": "2025-01-10 09:31", "tz": tz}
        assert store.select(contract, "last", **window).count() == 1
    (time_ns,) = from_arrow(naive, contract_id=1, tick_type="last", tz=tz).timestamp.tolist()
    assert time_ns == 1_736_519_400_123_456_789


# -- what is stored already ------------------------------------------------------------------------

TRADE: dict[str, Any] = {"contract_id": 1, "tick_type": "last"}


def test_duplicates_are_kept_or_skipped(store: Store) -> None:
    with pytest.raises(errors.InputError, match=r"'keep' .* 'skip'"):
        store.write(TICKS, **TRADE, duplicates="drop")  # type: ignore[arg-type]
    assert store.contents() == []


# -- interrupted -----------------------------------------------------------------------------------

MANY = pl.DataFrame(
    {
        "timestamp": pl.Series(np.arange(300_000) * 1_000_000 + 1_736_517_600_000_000_000).cast(
            pl.Datetime("ns", "UTC")
        ),
        "price": np.arange(300_000) % 97,
    }
)


@pytest.fixture
def file_limit() -> Iterator[Callable[..., None]]:
    """Limits the size of files that this process writes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_an_interrupted_write_reports_its_progress(
    store: Store, file_limit: Callable[..., None]
) -> None:
    file_limit(5_000_000)
    with pytest.raises(
        errors.StorageError, match=r"of 300,000 ticks were written.*'skip'"
    ) as caught:
        store.write(MANY, **TRADE)
    file_limit(resource.RLIM_INFINITY)
    written = caught.value.context["written"]
    assert 10_000 < written < 200_000
    assert f"{written:,} of 300,000" in str(caught.value)
    assert store.select(1).count() == written
    assert store.write(MANY, **TRADE, duplicates="skip") == 300_000 - written
    assert store.select(1, columns=["price"]).to_polars()["price"].equals(MANY["price"].cast(float))


def test_a_write_to_a_stream_in_use_reports_its_progress(store: Store) -> None:
    frame = TICKS.with_columns(contract_id=pl.Series([1, 2, 3]), tick_type=pl.lit("last"))
    with (
        store.writer(2, "last"),
        pytest.raises(errors.WriterLockedError, match="; 1 of 3 ticks were written") as caught,
    ):
        store.write(frame)
    assert (caught.value.context["written"], caught.value.context["contract_id"]) == (1, 2)
    assert store.write(frame, duplicates="skip") == 2


def test_a_write_stopped_by_the_user_reports_its_progress(store: Store) -> None:
    def stopped(*arguments: Any, **options: Any) -> StreamWriter:
        writer = StreamWriter(*arguments, **options)
        append = writer.appender.append_frames

        def append_frames(frames: Any, time_ns: Any) -> None:
            if time_ns >= 1_736_517_600_000_000_000 + 262_144 * 1_000_000:
                raise KeyboardInterrupt
            append(frames, time_ns)

        # Only appended ticks are seen here: whole hours are in storage/test_whole_hours.py.
        writer.appender.reserve_hour = lambda hour_ns: None  # type: ignore[method-assign]
        writer.appender.append_frames = append_frames  # type: ignore[method-assign]
        return writer

    columns = from_arrow(MANY, **TRADE)
    for duplicates in ("keep", "skip"):
        with pytest.raises(KeyboardInterrupt) as caught:
            write_columns(
                store.root,
                columns,
                lambda *stream: stopped(store.root, *stream, store.index, fsync=None),
                duplicates=duplicates,
            )
        count = 262_144 if duplicates == "keep" else 0
        (note,) = caught.value.__notes__
        assert note.startswith(f"at least {count:,} of 300,000 ticks were written before: ")
        assert "duplicates='skip'" in note
    assert store.write(MANY, **TRADE, duplicates="skip") == 300_000 - 262_144
    assert store.select(1).count() == 300_000
