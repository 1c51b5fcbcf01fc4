"""Live streams and buffers of a store."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import ibticks as ibt
from ibticks.config import HOUR_NS
from ibticks.errors import (
    InputError,
    NaiveDatetimeError,
    UnknownColumnError,
    UnknownContractError,
    UnknownTickTypeError,
)
from ibticks.live import Buffer, BufferStats, Live
from ibticks.live import _buffer as buffer_module
from ibticks.schema import TickColumns
from ibticks.selection import Selection
from tests.storage.samples import CONTRACT, H13, MINUTE, SECOND

from .simulation import columns

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = H13 + 2 * HOUR_NS
TICK_TYPES = ("bid_ask", "last")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ibt-"))
    path.chmod(0o711)  # as root, PostgreSQL runs as another user, who must get through
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[ibt.Store]:
    """A store; tests write other contracts into it."""
    with ibt.open(folder / "ticks") as opened:
        opened.add_contract(CONTRACT, "IBM")
        for tick_type, step in (("bid_ask", SECOND), ("last", MINUTE)):
            times = list(range(H13, NOW, step))
            with opened.writer(CONTRACT, tick_type, fsync=None) as writer:
                writer.write(columns(tick_type, times, 0 if tick_type == "bid_ask" else 100_000))
        yield opened


def test_live_by_symbol_and_period(store: ibt.Store) -> None:
    with store.live("ibm", buffer="30m", now=NOW) as live:
        assert isinstance(live, Live)
        assert live.streams == ((CONTRACT, "bid_ask"), (CONTRACT, "last"))
        assert live.label == "ibm last, bid_ask, the last 30m"
        assert live.read().equals(store.select("IBM", period="30m", now=NOW).to_polars())
        assert live.read().height == 0


def test_later_ticks_of_the_asked_streams_come(store: ibt.Store) -> None:
    with (
        store.live(990103, "mid_point", "1h", now=NOW, columns="mid_price") as live,
        store.live([990103, 990101], "mid_point") as others,
    ):
        assert others.read().height == 0
        frame = pl.DataFrame({"timestamp": ["2013-10-08T15:00:00Z"], "mid_price": [181.5]})
        store.write(frame, contract_id=990101, tick_type="mid_point")
        assert live.read().height == 0
        assert others.read()["contract_id"].to_list() == [990101]
        store.write(frame, contract_id=990103, tick_type="mid_point")
        assert live.read().to_dict(as_series=False) == {"mid_price": [181.5]}


def test_live_resumes_from_a_position(store: ibt.Store) -> None:
    with store.live("IBM", TICK_TYPES, "30m", now=NOW) as live:
        whole = live.read()
    with store.live("IBM", TICK_TYPES, "30m", now=NOW) as live:
        messages = iter(live)
        first = [next(messages) for _ in range(101)][1:]
        with store.live("IBM", TICK_TYPES, resume=live.position) as again:
            assert len(first) + again.read().height == whole.height


def test_window_of_a_duration(store: ibt.Store) -> None:
    with store.live("IBM", "bid_ask", "2h", now=NOW, window="10m") as live:
        assert live.frame().height == 601


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("MSFT",), UnknownContractError),
        (([],), InputError),
        ((-1,), InputError),
        (("IBM", "quotes"), UnknownTickTypeError),
        (("IBM", "last", "2013-10-08 13:00"), NaiveDatetimeError),
    ],
)
def test_wrong_arguments_raise(store: ibt.Store, arguments: Any, error: Any) -> None:
    for method in (store.live, store.buffer):
        with pytest.raises(error):
            method(*arguments)


def test_wrong_options_raise(store: ibt.Store) -> None:
    with pytest.raises(UnknownColumnError):
        store.live("IBM", "last", columns=["prize"])
    with pytest.raises(InputError, match="buffer and resume both say where to begin"):
        store.live("IBM", "last", "1h", resume="x")
    with pytest.raises(InputError, match="is not a position"):
        store.live("IBM", "last", resume="x")


# -- buffers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "buffer", ["30m", "1h30m", "last_hour", timedelta(minutes=5), "2013-10-08T14:00Z", "regular"]
)
def test_buffer_equals_a_selection(store: ibt.Store, buffer: str | timedelta) -> None:
    asked = store.buffer("IBM", TICK_TYPES, buffer, now=NOW)
    assert isinstance(asked, Buffer)
    plain = ibt.Selection(
        store.root,
        store.index,
        asked.contract_ids,
        asked.tick_types,
        asked.intervals,
        asked.columns,
    )
    for _ in range(2):
        assert asked.to_polars().equals(plain.to_polars())
    assert asked.to_polars().schema == plain.to_polars().schema
    assert asked.to_arrow().equals(plain.to_arrow())
    assert asked.count() == plain.count() == asked.to_polars().height
    assert asked.with_columns("price").to_polars().equals(plain.with_columns("price").to_polars())


def test_buffer_grows_with_new_ticks(store: ibt.Store) -> None:
    asked = store.buffer(990104, "all_last", "1h", now="2013-10-08T16:00Z")
    assert asked.to_polars().height == 0
    for number in range(1, 4):
        frame = pl.DataFrame({"timestamp": ["2013-10-08T15:30:00Z"], "price": [float(number)]})
        store.write(frame, contract_id=990104, tick_type="all_last")
        assert asked.to_polars()["price"].to_list() == [1.0, 2.0, 3.0][:number]


def test_cached_buffer_decodes_nothing_again(
    store: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = store.buffer("IBM", "bid_ask", "1h", now=NOW)
    whole = asked.to_polars()
    monkeypatch.setattr(Selection, "to_polars", lambda _: 1 // 0)
    monkeypatch.setattr("ibticks.live._batch.Decoder", lambda *_, **__: 1 // 0)
    assert asked.to_polars().equals(whole)
    shorter = store.buffer("IBM", "bid_ask", "10m", now=NOW).to_polars()
    assert shorter.equals(whole.tail(shorter.height))
    assert shorter.height == 600


def test_longer_buffer_replaces_the_cached_one(store: ibt.Store) -> None:
    assert store.buffer("IBM", "last", "10m", now=NOW).to_polars().height == 10
    assert store.buffer("IBM", "last", "2h", now=NOW).to_polars().height == 120


def test_buffer_too_large_for_the_cache(store: ibt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_module, "_MAX_CACHED_ROWS", 1000)
    asked = store.buffer("IBM", "bid_ask", "1h", now=NOW, columns=["timestamp", "sequence"])
    assert [asked.to_polars().height for _ in range(3)] == [3600, 3600, 3600]
    short = store.buffer("IBM", "bid_ask", "10m", now=NOW, columns=["timestamp", "sequence"])
    assert short.to_polars().height == 600


def test_cache_evicts_least_recently_used_buffers(
    store: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer_module, "_MAX_CACHED_BUFFERS", 2)
    names = ["price", "size", "sequence", "exchange"]
    for name in names * 2:
        asked = store.buffer("IBM", "last", "1h", now=NOW, columns=["timestamp", name])
        assert asked.to_polars().columns == ["timestamp", name]
        assert len(store._buffers._entries) <= 2


def test_deleted_file_leaves_the_buffer(store: ibt.Store) -> None:
    with store.writer(990102, "last", fsync=None) as writer:
        ticks = columns("last", list(range(H13, NOW, SECOND)), 0).columns
        writer.write(TickColumns(7200, {name: ticks[name] for name in ("timestamp", "price")}))
    asked = store.buffer(990102, "last", "2h", now=NOW)
    assert asked.to_polars().height == 7200
    [first, _] = sorted((store.root / "990102").rglob("*_ticks.pb"))
    first.unlink()
    store.index.drop_files([first.relative_to(store.root).as_posix()])
    for _ in range(2):
        assert asked.to_polars().height == 3600
    assert store.buffer(990102, "last", "2h", now=NOW, strict=True).to_polars().height == 3600


def test_concurrent_readers_get_equal_frames(store: ibt.Store) -> None:
    asked = store.buffer("IBM", TICK_TYPES, "1h", now=NOW)
    with ThreadPoolExecutor(16) as pool:
        frames = list(pool.map(lambda _: asked.to_polars(), range(50)))
    assert all(frame.equals(frames[0]) for frame in frames)
    assert frames[0].height == 3660


def test_buffer_stats(store: ibt.Store) -> None:
    stats = store.buffer("IBM", TICK_TYPES, "1h", now=NOW).stats()
    assert isinstance(stats, BufferStats)
    assert stats.counts == {(CONTRACT, "bid_ask"): 3600, (CONTRACT, "last"): 60}
    assert stats.ticks == 3660
    assert stats.available == timedelta(seconds=3599)
    assert stats.to_dict() == {
        "message_count": 3660,
        "tick_type_counts": {"bid_ask": 3600, "last": 60},
        "time_range": {"start": "2013-10-08T14:00:00Z", "end": "2013-10-08T14:59:59Z"},
        "duration_available": "0:59:59",
        "rates": {"bid_ask": 3600 / 3599, "last": 60 / 3599},
    }
    html = stats._repr_html_()
    assert "3,600 ticks, 1.00/s" in html


def test_empty_buffer_stats(store: ibt.Store) -> None:
    stats = store.buffer("IBM", TICK_TYPES, "1h", now="2013-10-09T16:00Z").stats()
    assert stats.counts == {(CONTRACT, "bid_ask"): 0, (CONTRACT, "last"): 0}
    figures = stats.to_dict()
    assert (figures["time_range"], figures["duration_available"]) == (None, "0:00:00")
    assert figures["rates"] == {"bid_ask": 0.0, "last": 0.0}
    assert "no tick" in stats._repr_html_()


def test_stats_of_a_buffer_too_large_for_the_cache(
    store: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = store.buffer("IBM", TICK_TYPES, "2h", now=NOW - MINUTE).stats()
    monkeypatch.setattr(buffer_module, "_MAX_CACHED_NS", 0)
    assert store.buffer("IBM", TICK_TYPES, "2h", now=NOW - MINUTE).stats() == cached
    empty = store.buffer("IBM", TICK_TYPES, "1h", now="2013-10-09T16:00Z").stats()
    assert (empty.ticks, empty.first_ns) == (0, None)
