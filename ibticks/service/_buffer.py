"""Routes of buffers: the latest ticks of a contract, their number, and how far they go back."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeAlias

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from ibticks.calendar import format_ns
from ibticks.capture import read_status
from ibticks.config import NANOSECONDS
from ibticks.selection import DEFAULT_MARKET
from ibticks.service._errors import ERROR_RESPONSES
from ibticks.service._formats import OTHER_FORMATS, Form
from ibticks.service._parameters import (
    BufferTypes,
    Contract,
    Now,
    OpenStore,
    choose_synonym,
    clock,
)
from ibticks.service._responses import JSON, tick_response

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ibticks.live import Buffer, BufferStats
    from ibticks.store import Store

__all__ = ["SharedResults", "router"]

router: Final = APIRouter(
    prefix="/v2/buffer/{contract_id}", tags=["buffer"], responses=ERROR_RESPONSES
)

_DEFAULT_DURATION: Final = "1h"
_MAX_SHARED_RESULTS: Final = 64
_STATS_EXAMPLE: Final[dict[str, Any]] = {
    "message_count": 1247,
    "tick_type_counts": {"bid_ask": 623, "last": 624},
    "time_range": {
        "start": "2025-07-10T12:45:24.006000Z",
        "end": "2025-07-10T13:45:22.123456Z",
    },
    "duration_available": "0:59:58",
}


def _documented(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {JSON: {"example": example}}}}


async def _duration(
    duration: Annotated[
        str | None,
        Query(
            description="30m, 2h30m, last_hour, today, since_open, a session type of the market, "
            "or the time with which the buffer begins. By default the buffer hours of the capture "
            "for a tracked contract, else 1h.",
            examples=["30m"],
        ),
    ] = None,
    buffer_duration: Annotated[str | None, Query(description="The same as `duration`.")] = None,
    buffer_period: Annotated[str | None, Query(description="The same as `duration`.")] = None,
) -> str | None:
    return choose_synonym(
        duration=duration, buffer_duration=buffer_duration, buffer_period=buffer_period
    )


_Duration: TypeAlias = Annotated[str | None, Depends(_duration)]
_Market: TypeAlias = Annotated[
    str, Query(description="Market of `since_open` and of session types.")
]
_Zone: TypeAlias = Annotated[
    str | None, Query(description="Time zone of `today` and of times without an offset.")
]


class SharedResults:
    """Results that requests share if the work began after all of them had arrived.

    Of many equal requests at once, one does the work for those that wait, and each gets a result
    that is as new as if it had done the work by itself.

    Examples
    --------
    >>> SharedResults().get("a", lambda: 5)
    5
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _SharedResult] = OrderedDict()

    def get(self, key: Hashable, work: Callable[[], Any]) -> Any:
        """Return the result of some work, by this thread or by another one.

        Parameters
        ----------
        key : hashable
            Equal for equal work.
        work : callable
        """
        arrived = time.monotonic_ns()
        with self._lock:
            entry = self._entries.setdefault(key, _SharedResult())
            self._entries.move_to_end(key)
            while len(self._entries) > _MAX_SHARED_RESULTS:
                self._entries.popitem(last=False)
        with entry.lock:
            if entry.began < arrived:
                began = time.monotonic_ns()
                entry.result = work()
                entry.began = began  # only if the work has not failed
            return entry.result


@dataclass(slots=True)
class _SharedResult:
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: int = -1
    result: Any = None


async def _shared_results(request: Request) -> SharedResults:
    results = request.app.state.shared_results
    assert isinstance(results, SharedResults)
    return results


_Results: TypeAlias = Annotated[SharedResults, Depends(_shared_results)]


class _Tracking(NamedTuple):
    """Settings of the capture for a contract.

    Attributes
    ----------
    contract_id : int
    tick_types : list of str or None
        None if the contract is not tracked.
    buffer_hours : int or None
    """

    contract_id: int
    tick_types: list[str] | None = None
    buffer_hours: int | None = None


@router.get(
    "/info",
    responses=_documented(
        {
            "contract_id": 711280073,
            "tick_types": ["bid_ask", "last"],
            "tracked": True,
            "available_duration": "2:15:30",
            "configured_buffer_hours": 2,
            "latest_tick_time": "2025-07-10T13:45:22.123456Z",
            "buffer_stats_1h": _STATS_EXAMPLE,
        }
    ),
)
def read_info(
    store: OpenStore,
    results: _Results,
    contract_id: Contract,
    tick_types: BufferTypes,
    now: Now = None,
) -> dict[str, Any]:
    """Return how far the stored ticks of a contract go back, and the figures of the last hour.

    `tracked` says whether a capture of the store has the contract in its settings; whether it runs
    is in `/background/status`. `available_duration` is the time from the first to the last stored
    tick of the tick types.
    """
    key = ("info", contract_id, tuple(tick_types or ()), now)
    figures: dict[str, Any] = results.get(
        key, lambda: _describe_buffer(store, contract_id, tick_types, now)
    )
    return figures


@router.get(
    "/stats",
    responses=_documented(
        {
            "contract_id": 711280073,
            "tick_types": ["bid_ask", "last"],
            "duration": "1h",
            **_STATS_EXAMPLE,
        }
    ),
)
def read_stats(
    store: OpenStore,
    results: _Results,
    contract_id: Contract,
    tick_types: BufferTypes,
    duration: _Duration,
    market: _Market = DEFAULT_MARKET,
    tz: _Zone = None,
    now: Now = None,
) -> dict[str, Any]:
    """Return how many ticks a buffer has, by tick type, and from when to when."""

    def count() -> dict[str, Any]:
        buffer, chosen = _select(store, contract_id, tick_types, duration, market, tz, now)
        return {
            "contract_id": buffer.contract_ids[0],
            "tick_types": list(buffer.tick_types),
            "duration": chosen,
            **_figures(buffer.stats()),
        }

    key = ("stats", contract_id, tuple(tick_types or ()), duration, market, tz, now)
    figures: dict[str, Any] = results.get(key, count)
    return figures


@router.head("/range", include_in_schema=False)
@router.get(
    "/range",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Ticks by time, streamed while they are read.",
            "content": {
                JSON: {"schema": {"$ref": "#/components/schemas/Messages"}},
                **OTHER_FORMATS,
            },
        }
    },
)
def read_range(
    store: OpenStore,
    contract_id: Contract,
    tick_types: BufferTypes,
    duration: _Duration,
    form: Form,
    market: _Market = DEFAULT_MARKET,
    tz: _Zone = None,
    now: Now = None,
) -> Response:
    """Return the ticks of a buffer, which ends now."""
    buffer, chosen = _select(store, contract_id, tick_types, duration, market, tz, now)
    return tick_response(buffer, {"count": None, "duration": chosen}, form)


def _describe_buffer(
    store: Store, contract_id: str, tick_types: list[str] | None, now: str | None
) -> dict[str, Any]:
    tracking = _find_tracking(store, contract_id)
    types = tracking.tick_types if tick_types is None else tick_types
    last_hour = store.buffer(tracking.contract_id, types, "1h", now=clock(now, None))
    extent = _stored_extent(store, last_hour)
    return {
        "contract_id": tracking.contract_id,
        "tick_types": list(last_hour.tick_types),
        "tracked": tracking.tick_types is not None,
        "available_duration": None if extent is None else _format_duration(*extent),
        "configured_buffer_hours": tracking.buffer_hours,
        "latest_tick_time": None if extent is None else format_ns(extent[1]),
        "buffer_stats_1h": _figures(last_hour.stats()),
    }


def _select(
    store: Store,
    contract: str,
    tick_types: list[str] | None,
    duration: str | None,
    market: str,
    tz: str | None,
    now: str | None,
) -> tuple[Buffer, str]:
    """Return the buffer of a request and its duration."""
    tracking = _find_tracking(store, contract)
    hours = tracking.buffer_hours
    default = _DEFAULT_DURATION if hours is None else f"{hours}h"
    chosen = default if duration is None else duration
    buffer = store.buffer(
        tracking.contract_id,
        tracking.tick_types if tick_types is None else tick_types,
        chosen,
        market=market,
        tz=tz,
        now=clock(now, tz),
    )
    return buffer, chosen


def _find_tracking(store: Store, contract: str) -> _Tracking:
    """Return the settings of the capture for a contract, given by id or symbol.

    A tracked contract of which no tick has come is known, too.
    """
    contracts = read_status(store.root)["status"]["contracts"]
    if contract in contracts:
        contract_id = int(contract)
    else:
        (contract_id,) = store.contract_ids(contract)
    settings = contracts.get(str(contract_id))
    if settings is None or not settings["enabled"]:
        return _Tracking(contract_id)
    return _Tracking(contract_id, settings["expected_tick_types"], settings["buffer_hours"])


def _stored_extent(store: Store, buffer: Buffer) -> tuple[int, int] | None:
    """Return the times of the first and the last stored tick of the streams of a buffer."""
    ids, types = buffer.contract_ids, buffer.tick_types
    extents = list(store.index.tick_ranges(ids, types).values())
    # The index has no times of files that are being written.
    hours = [record.hour_ns for record in store.index.open_files(ids, types)]
    end_ns = buffer.intervals[0].end_ns - 1
    if hours and min(hours) <= end_ns:
        stats = store.buffer(ids, types, min(hours), now=end_ns).stats()
        if stats.first_ns is not None and stats.last_ns is not None:
            extents.append((stats.first_ns, stats.last_ns))
    if not extents:
        return None
    return min(first_ns for first_ns, _ in extents), max(last_ns for _, last_ns in extents)


def _figures(stats: BufferStats) -> dict[str, Any]:
    """Return the figures of a buffer with the names and forms of the protocol."""
    figures = stats.to_dict()
    del figures["rates"]
    return {
        **figures,
        "duration_available": _format_duration(stats.first_ns or 0, stats.last_ns or 0),
    }


def _format_duration(first_ns: int, last_ns: int) -> str:
    """Return the time between two ticks in whole seconds, such as ``2:15:30``."""
    return str(timedelta(seconds=(last_ns - first_ns) // NANOSECONDS))
