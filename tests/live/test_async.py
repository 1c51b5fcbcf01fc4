"""Awaitable forms of buffers and live streams: equal results, and an event loop that goes on."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from ibticks.config import HOUR_NS
from ibticks.errors import UnknownContractError
from tests.storage.samples import CONTRACT, H13, SECOND

from .simulation import columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    import ibticks as ibt

NOW = H13 + HOUR_NS
TICKS = 3600


@pytest.fixture(autouse=True)
def written(store: ibt.Store) -> None:
    with store.writer(CONTRACT, "last", fsync=None) as writer:
        writer.write(columns("last", list(range(H13, NOW, SECOND)), 0))


@pytest.fixture
def busy_cache(store: ibt.Store) -> Iterator[threading.Lock]:
    """The lock of the buffer cache, locked as by another thread, for a minute at most."""
    lock = store._buffers._lock
    assert lock.acquire(timeout=60)
    # A form that blocks the event loop fails its test instead of blocking it for ever.
    release = threading.Timer(60, lock.release)
    release.start()
    yield lock
    release.cancel()
    release.join()
    if lock.locked():
        lock.release()


def test_results_equal_those_of_the_other_forms(store: ibt.Store) -> None:
    async def main() -> None:
        buffer = await store.buffer_async(CONTRACT, "last", "1h", now=NOW)
        expected = store.buffer(CONTRACT, "last", "1h", now=NOW)
        assert buffer == expected
        assert (await buffer.to_polars_async()).equals(expected.to_polars())
        assert await buffer.stats_async() == expected.stats()
        everything = store.select(CONTRACT, "last")
        assert (await everything.to_polars_async()).height == TICKS
        async with await store.live_async(CONTRACT, "last", "1h", now=NOW) as live:
            first = await anext(aiter(live))
            assert first["data"]["buffer_message_count"] == TICKS
        assert live.closed

    asyncio.run(main())


def test_errors_are_raised_where_the_form_is_awaited(store: ibt.Store) -> None:
    async def main() -> None:
        with pytest.raises(UnknownContractError):
            await store.buffer_async("NONE")
        with pytest.raises(UnknownContractError):
            await store.live_async("NONE")

    asyncio.run(main())


def test_other_tasks_run_meanwhile(store: ibt.Store, busy_cache: threading.Lock) -> None:
    async def main() -> None:
        buffer = await store.buffer_async(CONTRACT, "last", "1h", now=NOW)
        tasks = [asyncio.create_task(buffer.to_polars_async()) for _ in range(3)]
        done, _ = await asyncio.wait(tasks, timeout=0.05)
        assert not done
        assert busy_cache.locked()
        busy_cache.release()
        assert [frame.height for frame in await asyncio.gather(*tasks)] == [TICKS] * 3

    asyncio.run(main())


def test_cancellation_takes_effect_at_once(store: ibt.Store, busy_cache: threading.Lock) -> None:
    async def main() -> None:
        buffer = await store.buffer_async(CONTRACT, "last", "1h", now=NOW)
        task = asyncio.create_task(buffer.stats_async())
        await asyncio.wait([task], timeout=0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert busy_cache.locked()
        busy_cache.release()
        assert (await buffer.stats_async()).ticks == TICKS

    asyncio.run(main())
