"""Prometheus metrics: requests to the service, its streams, the capture and the store."""

from __future__ import annotations

import shutil
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from starlette.concurrency import run_in_threadpool

from ibticks._version import __version__
from ibticks.capture import read_status
from ibticks.service._parameters import OpenStore  # noqa: TC001 - FastAPI reads annotations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ibticks.store import Store

__all__ = ["RequestMetrics", "RequestTimer", "router"]

router: Final = APIRouter(tags=["status"])

_STREAM_LABELS: Final = ("contract_id", "symbol", "tick_type")
_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_CAPTURE_COUNTERS: Final = {
    "ticks": "Ticks that the capture has recorded since it started.",
    "errors": "Error messages of IB about the stream since the capture started.",
    "lost": "Ticks that could not be stored since the capture started.",
}
_NO_ROUTE: Final = "none"


class RequestMetrics:
    """Counters of requests, in a registry apart from the global one of prometheus_client.

    Examples
    --------
    >>> metrics = RequestMetrics()
    >>> metrics.observe("GET", "/health", 200, 0.003)
    >>> labels = {"method": "GET", "route": "/health", "status": "200"}
    >>> metrics.registry.get_sample_value("ibticks_http_requests_total", labels)
    1.0
    """

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests: Final = Counter(
            "ibticks_http_requests",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds: Final = Histogram(
            "ibticks_http_response_start_seconds",
            "Time from a request to the first byte of its response.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose response has begun."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class RequestTimer:
    """ASGI middleware that counts requests and times the begin of their responses.

    Parameters
    ----------
    app : ASGI application
    metrics : RequestMetrics
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def observe(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Labels come from the routes, never from a request: there are only so many.
                route = getattr(scope.get("route"), "path", _NO_ROUTE)
                method = scope["method"] if route != _NO_ROUTE else "any"
                seconds = time.perf_counter() - began
                self._metrics.observe(method, route, message["status"], seconds)
            await send(message)

        await self._app(scope, receive, observe)


class _StateCollector:
    """Metrics of the capture and the store as they are when they are scraped.

    Parameters
    ----------
    store : Store
    streams : sequence of dict
        Streams that have clients, of :meth:`Broadcaster.describe`.
    """

    def __init__(self, store: Store, streams: Sequence[dict[str, Any]]) -> None:
        self._store = store
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        """Collect the metrics.

        Yields
        ------
        Metric
        """
        yield InfoMetricFamily("ibticks_build", "Version of ibticks.", {"version": __version__})
        yield _gauge(
            "ibticks_index_up", "1 if the index is reachable.", self._store.index.is_reachable()
        )
        yield from _capture_metrics(read_status(self._store.root)["status"])
        yield from _store_metrics(self._store)
        yield from _client_metrics(self._streams)


def _capture_metrics(status: dict[str, Any]) -> Iterator[Metric]:
    is_running, is_connected = status["running"], status["tws_connected"]
    reconnects = max(0, status.get("connections", 0) - 1)
    yield _gauge("ibticks_capture_running", "1 if a capture of the store runs.", is_running)
    yield _gauge("ibticks_capture_connected", "1 if it is connected to TWS.", is_connected)
    yield _gauge("ibticks_capture_streams", "Streams subscribed at IB.", status["total_streams"])
    yield CounterMetricFamily(
        "ibticks_capture_reconnects",
        "Connections to TWS after the first one since the capture started.",
        reconnects,
    )
    streams = [
        ((contract_id, contract["symbol"], tick_type), stream)
        for contract_id, contract in status["contracts"].items()
        for tick_type, stream in contract.get("streams", {}).items()
    ]
    for name, text in _CAPTURE_COUNTERS.items():
        counter = CounterMetricFamily(f"ibticks_capture_{name}", text, labels=_STREAM_LABELS)
        for labels, stream in streams:
            counter.add_metric(labels, stream[name])
        yield counter
    yield _gauges(
        "ibticks_capture_waiting_ticks",
        "Ticks that wait for room on the disk.",
        ((labels, stream["waiting"]) for labels, stream in streams),
    )
    yield _gauges(
        "ibticks_capture_lag_seconds",
        "Time from the stamp of IB to the arrival of the last tick; replays have none.",
        ((labels, stream["lag_seconds"]) for labels, stream in streams),
    )
    yield _gauges(
        "ibticks_capture_last_tick_timestamp_seconds",
        "Unix time of the last tick.",
        ((labels, _unix_seconds(stream["last_tick"])) for labels, stream in streams),
    )


def _store_metrics(store: Store) -> Iterator[Metric]:
    contents = store.contents()
    free = shutil.disk_usage(store.root).free
    yield _gauge("ibticks_store_free_bytes", "Bytes free on the disk of the store.", free)
    for name, text, attribute in (
        ("bytes", "Bytes of the hour files.", "size"),
        ("files", "Hour files.", "files"),
        ("ticks", "Ticks of sealed hour files.", "ticks"),
    ):
        yield _gauges(
            f"ibticks_store_{name}",
            text,
            (
                (
                    (str(content.contract_id), content.symbol, content.tick_type),
                    getattr(content, attribute),
                )
                for content in contents
            ),
        )


def _client_metrics(streams: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    clients = GaugeMetricFamily(
        "ibticks_stream_clients",
        "Clients of live streams.",
        labels=("contract_id", "tick_types"),
    )
    for stream in streams:
        contracts = "+".join(map(str, stream["contract_ids"]))
        clients.add_metric((contracts, "+".join(stream["tick_types"])), stream["clients"])
    yield clients


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _gauges(
    name: str, text: str, values: Iterable[tuple[Sequence[str], float | None]]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=_STREAM_LABELS)
    for labels, value in values:
        if value is not None:
            gauge.add_metric(labels, value)
    return gauge


def _unix_seconds(time_text: str | None) -> float | None:
    return None if time_text is None else datetime.fromisoformat(time_text).timestamp()


@router.get("/metrics", response_class=Response)
async def read_metrics(request: Request, store: OpenStore) -> Response:
    """Return the metrics of service, capture and store in the text format of Prometheus."""
    streams = request.app.state.broadcaster.describe()
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    metrics: RequestMetrics = request.app.state.request_metrics

    def collect() -> bytes:
        # The state is encoded by itself, so that scrapes at the same time do not share it.
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_StateCollector(store, streams))
        registry.register(metrics.registry)
        return bytes(encode(registry))

    return Response(await run_in_threadpool(collect), media_type=media_type)
