"""Routes about the service, the store and the capture, with the keys that clients read."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ibticks.capture import read_status
from ibticks.service import Service

from .conftest import IBM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import ibticks as ibt

# The example of IB-Stream's documentation.
CONTRACTS = {
    "711280073": {
        "symbol": "MNQ",
        "enabled": True,
        "expected_tick_types": ["bid_ask", "last"],
        "active_tick_types": ["bid_ask", "last"],
        "stream_count": 2,
        "buffer_hours": 2,
    },
    "265598": {
        "symbol": "AAPL",
        "enabled": True,
        "expected_tick_types": ["bid_ask", "last", "mid_point"],
        "active_tick_types": ["bid_ask", "last", "mid_point"],
        "stream_count": 3,
        "buffer_hours": 1,
    },
}
BACKGROUND = {
    "enabled": True,
    "status": {
        "running": True,
        "tws_connected": True,
        "total_contracts": 2,
        "active_contracts": 2,
        "total_streams": 5,
        "contracts": CONTRACTS,
    },
}


def write_capture(root: Path, **changes: Any) -> None:
    """Write the status file of a capture that runs in this process."""
    status = {
        **BACKGROUND["status"],  # type: ignore[dict-item]
        "failures": ["OSError('/home/me')"],
        "pid": os.getpid(),
        "told_at": datetime.now(UTC).isoformat(),
        **changes,
    }
    (root / "metadata" / "capture.json").write_text(json.dumps({"enabled": True, "status": status}))


@pytest.fixture
def captured(store: ibt.Store) -> Iterator[httpx.Client]:
    """A client of an empty store, in which a capture runs."""
    write_capture(store.root)
    with Service(store, port=0) as service, httpx.Client(base_url=service.url) as client:
        yield client


def test_background_status_has_the_shape_of_the_reference(captured: httpx.Client) -> None:
    answer = captured.get("/background/status").json()
    assert list(answer) == ["enabled", "status"]
    status = answer["status"]
    assert {name: status[name] for name in BACKGROUND["status"]} == BACKGROUND["status"]  # type: ignore[attr-defined]
    assert captured.get("/background/health").json() == answer
    assert "/home" not in captured.get("/background/status").text


def test_health_of_a_capture(captured: httpx.Client, store: ibt.Store) -> None:
    health = captured.get("/health").json()
    assert (health["status"], health["tws_connected"]) == ("healthy", True)
    assert health["background_streaming"] == {"enabled": True, "status": "running"}
    write_capture(store.root, tws_connected=False)
    assert captured.get("/health").json()["status"] == "degraded"


def test_a_capture_that_has_ended_does_not_run(captured: httpx.Client, store: ibt.Store) -> None:
    write_capture(store.root, told_at="2025-01-10T14:30:00+00:00")
    status = captured.get("/background/status").json()["status"]
    assert (status["running"], status["total_streams"]) == (False, 0)
    assert status["contracts"]["265598"]["active_tick_types"] == []
    assert read_status(store.root)["status"]["running"] is False
    assert captured.get("/health").json()["status"] == "healthy"  # and needs no TWS


def test_a_store_without_a_capture(get: Callable[..., Any]) -> None:
    assert get("/background/status") == {
        "enabled": False,
        "status": {
            "running": False,
            "tws_connected": False,
            "total_contracts": 0,
            "active_contracts": 0,
            "total_streams": 0,
            "contracts": {},
        },
    }
    health = get("/health")
    assert (health["status"], health["index_connected"]) == ("healthy", True)


def test_storage_usage(get: Callable[..., Any], sample_store: ibt.Store) -> None:
    """``curl .../storage/status | jq .metrics.storage_usage``, as the reference says."""
    usage = get("/storage/status")["metrics"]["storage_usage"]
    contents = sample_store.contents()
    assert usage["total_ticks"] == sum(content.ticks for content in contents)
    assert usage["total_bytes"] == sum(content.size for content in contents)
    ibm = usage["contracts"][str(IBM)]
    assert (ibm["symbol"], ibm["ticks"]) == ("IBM", 96_256)
    assert ibm["tick_types"]["all_last"]["ticks"] == 33_381
    assert ibm["tick_types"]["all_last"]["first_tick"] == "2013-10-08T12:47:49.457Z"
    assert str(sample_store.root) not in json.dumps(usage)


def test_info(get: Callable[..., Any]) -> None:
    info = get("/v2/info")
    assert info["tick_types"] == ["last", "all_last", "bid_ask", "mid_point"]
    assert {contract["symbol"] for contract in info["contracts"]} == {"IBM", "BTCUSDT"}


def test_openapi_describes_every_route(get: Callable[..., Any]) -> None:
    document = get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    history = [path for path in document["paths"] if path.startswith("/v2/historical/")]
    assert [path.rpartition("/")[2] for path in history] == [
        "range",
        "to-present",
        "session",
        "relative",
        "protobuf",
    ]
    for path in history:
        operation = document["paths"][path]["get"]
        assert set(operation["responses"]) == {"200", "400", "404", "503"}
        assert operation["summary"]
        assert all(parameter["description"] for parameter in operation["parameters"])
        assert operation["responses"]["200"]["content"]["application/json"]["example"]
    references = set(_references(document))
    assert references == {
        f"#/components/schemas/{name}" for name in document["components"]["schemas"]
    }


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "$ref":
                yield member
            else:
                yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)
