"""Routes of stored ticks: by time range, to the present, by session and by relative period."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from ibticks._types import Interval
from ibticks.calendar import from_ns, now_ns
from ibticks.config import HOUR_NS
from ibticks.errors import TimeRangeError
from ibticks.selection import DEFAULT_MARKET
from ibticks.service._errors import ERROR_RESPONSES
from ibticks.service._formats import OTHER_FORMATS, Form
from ibticks.service._parameters import (
    Contract,
    EndTime,
    HistoryTypes,
    Now,
    OpenStore,
    StartTime,
    Zone,
    choose_synonym,
    clock,
    mend_offset,
    parse_time,
    time_range,
)
from ibticks.service._responses import JSON, tick_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibticks.calendar import TimeLike
    from ibticks.store import Store

__all__ = ["router"]

router: Final = APIRouter(
    prefix="/v2/historical/{contract_id}", tags=["history"], responses=ERROR_RESPONSES
)

_EXAMPLE_MESSAGES: Final[list[dict[str, Any]]] = [
    {
        "type": "tick",
        "stream_id": "8314_last",
        "timestamp": "2013-10-08T14:00:00.189000Z",
        "data": {"contract_id": 8314, "tick_type": "last", "price": 180.63, "size": 100.0},
    }
]


def _documented(**members: Any) -> dict[int | str, dict[str, Any]]:
    """Document a body with messages and some more members."""
    example = {"messages": _EXAMPLE_MESSAGES, **members}
    schema = {"$ref": "#/components/schemas/Messages"}
    return {
        200: {
            "description": "Ticks by time, streamed while they are read.",
            "content": {JSON: {"schema": schema, "example": example}, **OTHER_FORMATS},
        }
    }


@router.head("/range", include_in_schema=False)
@router.get("/range", response_class=StreamingResponse, responses=_documented(count=1))
def read_range(
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    form: Form,
    start_time: StartTime,
    end_time: EndTime,
    parallel: Annotated[
        bool, Query(description="No effect: files are always read in parallel, in order.")
    ] = False,
    tz: Zone = None,
) -> Response:
    """Return the ticks of the half-open range `[start_time, end_time)`."""
    time_range(start_time, end_time, tz)
    start, end = mend_offset(start_time), mend_offset(end_time)
    selection = store.select(contract_id, tick_types, start=start, end=end, tz=tz)
    return tick_response(selection, {"count": None}, form)


@router.head("/to-present", include_in_schema=False)
@router.get(
    "/to-present",
    response_class=StreamingResponse,
    responses=_documented(count=1, current_time="2013-10-08T14:00:01.000000+00:00"),
)
def read_to_present(
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    form: Form,
    start_time: StartTime,
    include_incomplete_hour: Annotated[
        bool, Query(description="Whether to include the UTC hour that has not ended.")
    ] = True,
    tz: Zone = None,
    now: Now = None,
) -> Response:
    """Return the ticks from a time to now; `current_time` is the now that the range ends with."""
    start_ns = parse_time(start_time, tz, "start_time")
    current_ns = _current_ns(store, contract_id, tick_types, clock(now, tz))
    _check_past(start_time, start_ns, current_ns)
    selection = store.select(contract_id, tick_types, start=start_ns, end=current_ns + 1)
    if not include_incomplete_hour:
        hour_ns = current_ns - current_ns % HOUR_NS
        intervals = (Interval(start_ns, hour_ns),) if start_ns < hour_ns else ()
        selection = replace(selection, intervals=intervals)
    tail = {"count": None, "current_time": _iso(current_ns)}
    return tick_response(selection, tail, form)


@router.head("/session", include_in_schema=False)
@router.get(
    "/session",
    response_class=StreamingResponse,
    responses=_documented(
        count=1,
        session={
            "type": "regular",
            "market": "US",
            "start": "2013-10-08T13:30:00+00:00",
            "end": "2013-10-08T20:00:00+00:00",
        },
    ),
)
def read_session(
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    form: Form,
    date: Annotated[
        str | None,
        Query(
            description="Trading day; a time with an offset counts as its day in the zone of the "
            "market. By default the session that runs, or ran last.",
            examples=["2013-10-08"],
        ),
    ] = None,
    session_type: Annotated[
        str,
        Query(
            description="Of US: regular, pre_market, after_hours, extended, overnight; of UK: "
            "regular, extended; of JP: regular, morning, afternoon; of CME: regular, globex. "
            "Holidays, early closes and `overnight` follow the calendar of the market.",
        ),
    ] = "regular",
    market: Annotated[
        str, Query(description="US, UK, JP, CME, or a calendar of pandas_market_calendars.")
    ] = DEFAULT_MARKET,
    now: Now = None,
) -> Response:
    """Return the ticks of a market session, and its boundaries in UTC."""
    selection = store.select(
        contract_id,
        tick_types,
        session=session_type,
        date=date,
        market=market,
        now=clock(now, None),
    )
    ((start_ns, end_ns),) = selection.intervals
    session = {
        "type": session_type,
        "market": market,
        "start": _iso(start_ns),
        "end": _iso(end_ns),
    }
    return tick_response(selection, {"count": None, "session": session}, form)


@router.head("/relative", include_in_schema=False)
@router.get(
    "/relative",
    response_class=StreamingResponse,
    responses=_documented(count=1, period="last_hour"),
)
def read_relative(
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    form: Form,
    period: Annotated[
        str | None,
        Query(
            description="last_hour (the default), last_5_minutes, 2h30m, today, since_open and "
            "the like, back from now.",
            examples=["last_30_minutes"],
        ),
    ] = None,
    buffer_period: Annotated[str | None, Query(description="The same as `period`.")] = None,
    buffer_duration: Annotated[str | None, Query(description="The same as `period`.")] = None,
    market: Annotated[str, Query(description="Market of `since_open`.")] = DEFAULT_MARKET,
    tz: Annotated[str | None, Query(description="Time zone of `today`.")] = None,
    now: Now = None,
) -> Response:
    """Return the ticks of a period that ends now."""
    chosen = choose_synonym(
        period=period, buffer_period=buffer_period, buffer_duration=buffer_duration
    )
    chosen = "last_hour" if chosen is None else chosen
    selection = store.select(
        contract_id, tick_types, chosen, market=market, tz=tz, now=clock(now, tz)
    )
    return tick_response(selection, {"count": None, "period": chosen}, form)


@router.head("/protobuf", include_in_schema=False)
@router.get(
    "/protobuf",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Ticks by time: JSON, or `StreamMessage`s of proto/tick_stream.proto, "
            "each with its length before it (4 bytes, big-endian).",
            "content": {
                JSON: {
                    "schema": {"$ref": "#/components/schemas/Messages"},
                    "example": {"messages": _EXAMPLE_MESSAGES},
                },
                **OTHER_FORMATS,
            },
        }
    },
)
def read_protobuf(
    store: OpenStore,
    contract_id: Contract,
    tick_types: HistoryTypes,
    form: Form,
    start_time: StartTime,
    end_time: Annotated[
        str | None, Query(description="End, which is not in the range; by default now.")
    ] = None,
    tz: Zone = None,
) -> Response:
    """Return the ticks of a half-open range as JSON or as protobuf."""
    if end_time is None:
        start_ns, current_ns = parse_time(start_time, tz, "start_time"), now_ns()
        _check_past(start_time, start_ns, current_ns)
        end_ns = current_ns + 1
    else:
        start_ns, end_ns = time_range(start_time, end_time, tz)
    selection = store.select(contract_id, tick_types, start=start_ns, end=end_ns)
    return tick_response(selection, {}, form)


def _current_ns(store: Store, contract_id: str, tick_types: Sequence[str], now: TimeLike) -> int:
    """Return the time that a range ends with, UTC nanoseconds."""
    if isinstance(now, int):
        return now
    # A period ends one nanosecond after the last stored tick.
    return store.select(contract_id, tick_types, "1ns", now=now).intervals[0].end_ns - 1


def _check_past(start_time: str, start_ns: int, current_ns: int) -> None:
    if start_ns > current_ns:
        raise TimeRangeError(
            f"start_time={start_time} is still to come: give a time that is past",
            start_ns=start_ns,
        )


def _iso(time_ns: int) -> str:
    return from_ns(time_ns, "UTC").isoformat()
