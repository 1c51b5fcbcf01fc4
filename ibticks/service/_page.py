"""The status page: capture, streams, coverage of the last days, storage and clients."""

from __future__ import annotations

import shutil
from collections import defaultdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from ibticks._types import StreamKey
from ibticks._version import __version__
from ibticks.calendar import format_ns, now_ns
from ibticks.capture import read_status
from ibticks.config import DAY_NS
from ibticks.coverage import CoverageState
from ibticks.service._parameters import OpenStore  # noqa: TC001 - FastAPI reads annotations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.service._buffer import SharedResults
    from ibticks.store import Store

__all__ = ["router"]

router: Final = APIRouter(tags=["status"])

_DAYS: Final = 14
_STATIC: Final = files("ibticks.service") / "static"
_MEDIA_TYPES: Final = {
    "status.css": "text/css; charset=utf-8",
    "status.mjs": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Nothing comes from another site; JupyterLab shows the page in a frame of the same origin.
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'self'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
_MISSING: Final = frozenset(
    {CoverageState.DISCONNECTED, CoverageState.NOT_PERMITTED, CoverageState.NOT_RUNNING}
)
_CAPTURED: Final = frozenset(
    {
        CoverageState.CAPTURED,
        CoverageState.BACKFILLED,
        CoverageState.QUIET,
        CoverageState.SESSION_CLOSED,
    }
)
_PRIVATE: Final = frozenset({"pid", "failures", "contracts"})


@router.get("/", include_in_schema=False)
def read_page() -> Response:
    """Return the page; its addresses are relative, so that it works behind a proxy."""
    return _static("status.html", "text/html; charset=utf-8")


@router.get("/static/{name}", include_in_schema=False)
def read_static(name: str) -> Response:
    """Return the style, the script or the icon of the page."""
    if name not in _MEDIA_TYPES:
        raise HTTPException(404, "no such file")
    return _static(name, _MEDIA_TYPES[name])


@router.get("/status/overview")
async def read_overview(request: Request, store: OpenStore) -> dict[str, Any]:
    """Return what the status page shows: capture, streams, coverage by UTC day, disk, clients."""
    results: SharedResults = request.app.state.shared_results
    overview: dict[str, Any] = await run_in_threadpool(
        results.get, "overview", lambda: _describe_store(store)
    )
    return {**overview, "clients": request.app.state.broadcaster.describe()}


def _static(name: str, media_type: str) -> Response:
    return Response((_STATIC / name).read_bytes(), media_type=media_type, headers=_HEADERS)


def _describe_store(store: Store) -> dict[str, Any]:
    time_ns = now_ns()
    end_ns = time_ns - time_ns % DAY_NS + DAY_NS
    days = [end_ns - number * DAY_NS for number in range(_DAYS, 0, -1)]
    capture = read_status(store.root)
    status = capture["status"]
    contents = {
        StreamKey(content.contract_id, content.tick_type): content for content in store.contents()
    }
    captured = {
        StreamKey(int(contract_id), tick_type): (contract["symbol"], stream)
        for contract_id, contract in status["contracts"].items()
        for tick_type, stream in contract.get("streams", {}).items()
    }
    coverage = _daily_coverage(store, days[0], time_ns)
    ticks = _daily_ticks(store, days[0])
    streams = []
    for key in sorted(contents.keys() | captured.keys()):
        content = contents.get(key)
        symbol, live = captured.get(key, ("", {}))
        is_live = status["running"] and bool(live)
        last_ns = None if content is None else content.last_ns
        streams.append(
            {
                "contract_id": key.contract_id,
                "symbol": symbol or (content.symbol if content is not None else ""),
                "tick_type": key.tick_type,
                "state": (live["state"] or "waiting") if is_live else "stored",
                "reason": live["reason"] if is_live else "",
                "ticks": (0 if content is None else content.ticks),
                "bytes": 0 if content is None else content.size,
                "last_tick": live.get("last_tick") or (last_ns and format_ns(last_ns)),
                "lag_seconds": live["lag_seconds"] if is_live else None,
                "days": [
                    {
                        "date": format_ns(day_ns)[:10],
                        "ticks": ticks.get((key, format_ns(day_ns)[:10]), 0),
                        **coverage.get((key, day_ns), {"captured": 0.0, "missing": 0.0}),
                    }
                    for day_ns in days
                ],
            }
        )
    return {
        "version": __version__,
        "timestamp": format_ns(time_ns),
        "index_connected": store.index.is_reachable(),
        "capture": {
            "enabled": capture["enabled"],
            **{name: value for name, value in status.items() if name not in _PRIVATE},
        },
        "streams": streams,
        "storage": {
            "files": sum(content.files for content in contents.values()),
            "bytes": sum(content.size for content in contents.values()),
            "ticks": sum(content.ticks for content in contents.values()),
            "free_bytes": shutil.disk_usage(store.root).free,
        },
    }


def _daily_ticks(store: Store, start_ns: int) -> dict[tuple[StreamKey, str], int]:
    """Return the ticks of sealed files of each stream and UTC day from a time on."""
    first = format_ns(start_ns)[:10]
    return {
        (StreamKey(day.contract_id, day.tick_type), str(day.date)): day.ticks
        for day in store.index.daily_stats()
        if str(day.date) >= first
    }


def _daily_coverage(
    store: Store, start_ns: int, end_ns: int
) -> dict[tuple[StreamKey, int], dict[str, float]]:
    """Return the parts of each stream and UTC day that were captured, and that are missing."""
    parts: dict[tuple[StreamKey, int], dict[str, float]] = defaultdict(
        lambda: {"captured": 0.0, "missing": 0.0}
    )
    for interval in store.coverage(start=start_ns, end=end_ns).state_intervals:
        name = _part_of(interval.state)
        if name is None:
            continue
        stream = StreamKey(interval.contract_id, interval.tick_type)
        for day_ns in _days_of(interval.start_ns, interval.end_ns):
            overlap_ns = min(interval.end_ns, day_ns + DAY_NS) - max(interval.start_ns, day_ns)
            parts[stream, day_ns][name] += round(overlap_ns / DAY_NS, 4)
    return parts


def _part_of(state: CoverageState) -> str | None:
    if state in _CAPTURED:
        return "captured"
    return "missing" if state in _MISSING else None


def _days_of(start_ns: int, end_ns: int) -> Iterable[int]:
    """Return the starts of the UTC days that an interval meets.

    Examples
    --------
    >>> list(_days_of(5, DAY_NS + 1)) == [0, DAY_NS]
    True
    """
    return range(start_ns - start_ns % DAY_NS, end_ns, DAY_NS)
