"""Prometheus metrics, read by the parsers of prometheus_client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from ibticks.service import Service

from .conftest import IBM
from .feed import CONTRACT
from .test_status import CONTRACTS, write_capture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    import ibticks as ibt

    from .feed import Feed


def values(families: Iterable[Metric], name: str, **labels: str) -> list[float]:
    """Return the values of the samples that have a name and some labels."""
    return [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def scrape(client: httpx.Client) -> list[Metric]:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return list(parse(response.text))


def test_requests_are_counted_by_route_and_status(sample_store: ibt.Store) -> None:
    with Service(sample_store, port=0) as service, httpx.Client(base_url=service.url) as client:
        for path in (
            f"/v2/buffer/{IBM}/stats?now=last_tick",
            "/v2/buffer/IBM/stats?now=last_tick",
            "/v2/buffer/8315/stats",
            "/nowhere",
            "/elsewhere",
        ):
            client.get(path)
        client.get("/health", headers={"Host": "example.com"})
        families = scrape(client)
        route = "/v2/buffer/{contract_id}/stats"
        requests = "ibticks_http_requests_total"
        assert values(families, requests, route=route, status="200", method="GET") == [2]
        assert values(families, requests, route=route, status="404") == [1]
        assert values(families, requests, route="none", status="404") == [2]
        assert values(families, requests, route="none", status="403") == [1]
        seconds = "ibticks_http_response_start_seconds"
        assert values(families, f"{seconds}_count", route=route) == [3]
        assert values(families, f"{seconds}_bucket", route=route, le="+Inf") == [3]
        assert values(scrape(client), requests, route="/metrics", status="200") == [1]


def test_store_and_names(client: httpx.Client, sample_store: ibt.Store) -> None:
    families = scrape(client)
    (content,) = (
        content
        for content in sample_store.contents()
        if (content.contract_id, content.tick_type) == (IBM, "bid_ask")
    )
    stream = {"contract_id": str(IBM), "symbol": "IBM", "tick_type": "bid_ask"}
    assert values(families, "ibticks_store_bytes", **stream) == [content.size]
    assert values(families, "ibticks_store_files", **stream) == [content.files]
    assert values(families, "ibticks_store_ticks", **stream) == [content.ticks]
    assert values(families, "ibticks_index_up") == [1]
    assert values(families, "ibticks_capture_running") == [0]
    names = [family.name for family in families if family.name.startswith("ibticks_")]
    assert len(names) == len(set(names)) > 10
    assert all(re.fullmatch(r"ibticks(_[a-z]+)+", name) for name in names)
    assert all(family.documentation.endswith(".") for family in families if family.name in names)


def test_openmetrics_for_those_who_ask(client: httpx.Client) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = client.get("/metrics", headers=accept)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert values(parse_open(response.text), "ibticks_index_up") == [1]


def test_capture(store: ibt.Store) -> None:
    stream = {
        "ticks": 1247,
        "errors": 1,
        "lost": 0,
        "waiting": 3,
        "lag_seconds": 0.25,
        "last_tick": "2025-07-10T13:45:22.5+00:00",
    }
    quiet = stream | {"ticks": 0, "lag_seconds": None, "last_tick": None}
    contracts = {"265598": CONTRACTS["265598"] | {"streams": {"last": stream, "mid_point": quiet}}}
    write_capture(store.root, contracts=contracts, connections=3)
    with Service(store, port=0) as service, httpx.Client(base_url=service.url) as client:
        families = scrape(client)
    labels = {"contract_id": "265598", "symbol": "AAPL", "tick_type": "last"}
    for name, value in {
        "ticks_total": 1247,
        "errors_total": 1,
        "lost_total": 0,
        "waiting_ticks": 3,
        "lag_seconds": 0.25,
        "last_tick_timestamp_seconds": 1752155122.5,
    }.items():
        assert values(families, f"ibticks_capture_{name}", **labels) == [value]
    assert values(families, "ibticks_capture_lag_seconds", tick_type="mid_point") == []
    assert values(families, "ibticks_capture_reconnects_total") == [2]
    assert values(families, "ibticks_capture_connected") == [1]
    assert values(families, "ibticks_capture_streams") == [5]


def test_clients_of_streams(live_service: Service, feed: Feed) -> None:
    feed.write("last")
    url = f"/v2/stream/{CONTRACT}?tick_types=bid_ask,last"
    labels = {"contract_id": str(CONTRACT), "tick_types": "bid_ask+last"}
    with (
        httpx.Client(base_url=live_service.url, timeout=60) as client,
        client.stream("GET", url) as response,
    ):
        lines = response.iter_lines()
        while "live_start" not in next(lines):
            pass
        assert values(scrape(client), "ibticks_stream_clients", **labels) == [1]
