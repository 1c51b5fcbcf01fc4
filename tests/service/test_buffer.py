"""Routes of buffers: keys and shapes of the reference, tracked contracts, and open hours."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ibticks.calendar import to_ns
from ibticks.config import NANOSECONDS
from ibticks.service import Service
from ibticks.service._buffer import SharedResults
from tests.live.simulation import columns

from .conftest import IBM
from .test_status import write_capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import ibticks as ibt

INFO_KEYS = [
    "contract_id",
    "tick_types",
    "tracked",
    "available_duration",
    "configured_buffer_hours",
    "latest_tick_time",
    "buffer_stats_1h",
]
STATS_KEYS = ["message_count", "tick_type_counts", "time_range", "duration_available"]
MNQ = 711280073
LAST = datetime(2025, 7, 10, 13, 45, 22, 123456, tzinfo=UTC)
SECONDS_BEFORE_LAST = (2 * 3600 + 15 * 60 + 30, 3598, 1, 0)


@pytest.fixture
def tracked(store: ibt.Store) -> Iterator[httpx.Client]:
    """A client of a store with a capture that tracks MNQ, whose latest hour is being written."""
    write_capture(store.root)
    with store.writer(MNQ, "last", fsync=None) as writer:
        times = [to_ns(LAST) - seconds * NANOSECONDS for seconds in SECONDS_BEFORE_LAST]
        writer.write(columns("last", times, 0))
        with (
            Service(store, port=0) as service,
            httpx.Client(base_url=f"{service.url}/v2/buffer", timeout=60) as client,
        ):
            yield client


def test_info_has_the_shape_of_the_reference(tracked: httpx.Client) -> None:
    parameters = {"tick_types": "bid_ask,last", "now": LAST.isoformat()}
    info = tracked.get(f"{MNQ}/info", params=parameters).json()
    assert list(info) == INFO_KEYS
    assert info == {
        "contract_id": MNQ,
        "tick_types": ["bid_ask", "last"],
        "tracked": True,
        "available_duration": "2:15:30",
        "configured_buffer_hours": 2,
        "latest_tick_time": "2025-07-10T13:45:22.123456Z",
        "buffer_stats_1h": {
            "message_count": 3,
            "tick_type_counts": {"bid_ask": 0, "last": 3},
            "time_range": {
                "start": "2025-07-10T12:45:24.123456Z",
                "end": "2025-07-10T13:45:22.123456Z",
            },
            "duration_available": "0:59:58",
        },
    }


def test_buffer_of_a_tracked_contract_has_its_hours_and_types(tracked: httpx.Client) -> None:
    now = (LAST + timedelta(minutes=5)).isoformat()
    assert tracked.get(f"{MNQ}/info", params={"now": now}).json()["tick_types"] == [
        "bid_ask",
        "last",
    ]
    stats = tracked.get(f"{MNQ}/stats", params={"now": now}).json()
    assert (stats["duration"], stats["message_count"]) == ("2h", 3)
    body = tracked.get(f"{MNQ}/range", params={"now": now}).json()
    assert (body["duration"], body["count"], len(body["messages"])) == ("2h", 3, 3)


def test_a_tracked_contract_without_ticks(tracked: httpx.Client) -> None:
    info = tracked.get("265598/info").json()
    assert list(info) == INFO_KEYS
    assert info["tracked"]
    assert info["tick_types"] == ["bid_ask", "last", "mid_point"]
    assert info["available_duration"] is info["latest_tick_time"] is None
    assert info["buffer_stats_1h"]["time_range"] is None
    assert info["buffer_stats_1h"]["duration_available"] == "0:00:00"


@pytest.mark.parametrize("name", ["duration", "buffer_duration", "buffer_period"])
@pytest.mark.parametrize("types", ["tick_type", "tick_types"])
def test_stats(get: Callable[..., Any], name: str, types: str) -> None:
    stats = get(
        f"/v2/buffer/{IBM}/stats", **{name: "30m", types: "bid_ask,all_last"}, now="last_tick"
    )
    assert list(stats) == ["contract_id", "tick_types", "duration", *STATS_KEYS]
    body = get("/v2/buffer/IBM/range", **{name: "30m", types: "bid_ask,all_last"}, now="last_tick")
    assert body["count"] == stats["message_count"] == len(body["messages"]) > 0
    counted = [message["data"]["tick_type"] for message in body["messages"]]
    assert stats["tick_type_counts"] == {
        name: counted.count(name) for name in ("bid_ask", "all_last")
    }


def test_an_untracked_contract(get: Callable[..., Any], sample_store: ibt.Store) -> None:
    info = get("/v2/buffer/IBM/info", now="last_tick")
    times = sample_store.select(IBM).to_polars()["timestamp"].to_list()
    assert (info["tracked"], info["configured_buffer_hours"]) == (False, None)
    assert info["tick_types"] == ["all_last", "bid_ask"]
    seconds = (times[-1] - times[0]) // timedelta(seconds=1)
    assert info["available_duration"] == str(timedelta(seconds=seconds))
    assert get("/v2/buffer/IBM/stats", now="last_tick")["duration"] == "1h"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("8315/info", 404, "CONTRACT_NOT_FOUND"),
        ("IBM/stats?duration=30m&buffer_period=1h", 400, "INVALID_REQUEST"),
        ("IBM/stats?duration=yesterday", 400, "INVALID_REQUEST"),
        ("IBM/stats?duration=", 400, "INVALID_REQUEST"),
        ("IBM/range?tick_type=trades", 400, "INVALID_TICK_TYPE"),
        ("IBM/range?duration=2013-10-08T14:00", 400, "INVALID_REQUEST"),
        ("IBM/info?tick_type=last&tick_types=last", 400, "INVALID_REQUEST"),
    ],
)
def test_wrong_requests(client: httpx.Client, path: str, status: int, code: str) -> None:
    response = client.get(f"/v2/buffer/{path}")
    assert (response.status_code, response.json()["data"]["code"]) == (status, code)


def test_equal_work_at_once_is_done_for_all_that_wait() -> None:
    results, began, over = SharedResults(), threading.Event(), threading.Event()
    calls: list[int] = []

    def work() -> int:
        calls.append(len(calls))
        began.set()
        assert over.wait(60)
        return len(calls)

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(results.get, "key", work)
        assert began.wait(60)
        later = [pool.submit(results.get, "key", work) for _ in range(8)]
        over.set()
        assert first.result() == 1
        assert all(result.result() > 1 for result in later)  # ticks may have come meanwhile
    assert results.get("other", lambda: 7) == 7


def test_failed_work_is_done_again() -> None:
    results = SharedResults()
    with pytest.raises(ZeroDivisionError):
        results.get("key", lambda: 1 / 0)
    assert results.get("key", lambda: 7) == 7
