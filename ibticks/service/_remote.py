"""Routes of a remote store: selections by value, their ticks and figures, and the catalogue.

They are for :class:`ibticks.remote.RemoteStore`. A question with several values is a POST, which
changes nothing.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from ibticks._types import Interval
from ibticks.errors import InputError
from ibticks.remote import decode_time_range, encode_coverage
from ibticks.selection import Backfill, Selection
from ibticks.service._errors import ERROR_RESPONSES
from ibticks.service._formats import Form  # noqa: TC001 - FastAPI reads annotations
from ibticks.service._parameters import OpenStore  # noqa: TC001 - FastAPI reads annotations
from ibticks.service._responses import stream_chunks, tick_response

if TYPE_CHECKING:
    from collections.abc import Generator

    import polars as pl

__all__ = ["router"]

router: Final = APIRouter(prefix="/v2", tags=["remote store"], responses=ERROR_RESPONSES)

_INTERVAL: Final = re.compile(r"(-?\d{1,19}):(-?\d{1,19})", re.ASCII)
_MAX_INTERVALS: Final = 10_000
_LINES: Final = "application/x-ndjson"
_Names: TypeAlias = Annotated[list[str], Field(max_length=1000)]


class _Question(BaseModel):
    """A selection as a caller asks for it."""

    contracts: int | str | Annotated[list[int | str], Field(max_length=1000)] | None = None
    tick_types: str | _Names | None = None
    time: dict[str, Any] = Field(default_factory=dict)
    columns: str | _Names | None = None
    strict: bool = False
    backfill: Backfill = "exclude"
    is_buffer: bool = False


@router.post("/select")
def resolve_selection(store: OpenStore, question: Annotated[_Question, Body()]) -> dict[str, Any]:
    """Return a selection by value: contract ids, tick types and intervals in nanoseconds."""
    if question.contracts is None:
        raise InputError("contracts are missing: give contract ids or symbols")
    time_range = decode_time_range(question.time)
    if question.is_buffer:
        begin = time_range.start if time_range.period is None else time_range.period
        if begin is None:
            raise InputError("time has no begin of the buffer: give a period, or start")
        selection: Selection = store.buffer(
            question.contracts,
            question.tick_types,
            begin,
            market=time_range.market,
            tz=time_range.tz,
            now=time_range.now,
            columns=question.columns,
            strict=question.strict,
        )
    else:
        selection = store.select(
            question.contracts,
            question.tick_types,
            time_range,
            columns=question.columns,
            strict=question.strict,
            backfill=question.backfill,
        )
    chosen = set(selection.contract_ids)
    return {
        "contract_ids": selection.contract_ids,
        "tick_types": selection.tick_types,
        "intervals": [list(interval) for interval in selection.intervals],
        "columns": selection.columns,
        "label": selection.label,
        "contracts": [
            record.to_dict() for record in store.contracts() if record.contract_id in chosen
        ],
    }


@router.post("/coverage")
def read_coverage(store: OpenStore, question: Annotated[_Question, Body()]) -> dict[str, Any]:
    """Return what was captured of a selection, or of all that is stored, and what was not."""
    time_range = decode_time_range(question.time)
    return encode_coverage(store.coverage(question.contracts, question.tick_types, time_range))


@router.post("/daily")
def read_daily_stats(
    store: OpenStore, question: Annotated[_Question, Body()]
) -> list[dict[str, Any]]:
    """Return the statistics of each UTC day of some streams, or of all that are stored."""
    return [asdict(day) for day in store.daily_stats(question.contracts, question.tick_types)]


@router.get("/contracts")
def read_contracts(store: OpenStore) -> list[dict[str, Any]]:
    """Return the contracts that have names."""
    return [record.to_dict() for record in store.contracts()]


@router.get("/contents")
def read_contents(store: OpenStore) -> list[dict[str, Any]]:
    """Return what is stored of each stream; times in UTC nanoseconds."""
    return [asdict(content) for content in store.contents()]


def _selection(
    store: OpenStore,
    contract_ids: Annotated[
        str, Query(description="Ids with commas between them.", examples=["8314"])
    ],
    tick_types: Annotated[
        str, Query(description="Tick types with commas between them.", examples=["last"])
    ],
    intervals: Annotated[
        str,
        Query(
            description="Half-open intervals of UTC nanoseconds, as start:end,start:end.",
            examples=["1381190400000000000:1381276800000000000"],
        ),
    ],
    label: Annotated[str, Query(max_length=1000)] = "",
    strict: bool = False,
    backfill: Backfill = "exclude",
) -> Selection:
    numbers = [_contract_id(text) for text in contract_ids.split(",")]
    types = [name for name in tick_types.split(",") if name]
    chosen = store.select(numbers, types, strict=strict, backfill=backfill)
    return replace(chosen, intervals=_parse_intervals(intervals), label=label)


def _contract_id(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise InputError(f"contract_ids: {text!r:.60} is no contract id")
    return int(text)


def _parse_intervals(text: str) -> tuple[Interval, ...]:
    """Return intervals in order.

    Examples
    --------
    >>> _parse_intervals("5:9,10:12")
    (Interval(start_ns=5, end_ns=9), Interval(start_ns=10, end_ns=12))
    """
    parts = text.split(",") if text else []
    if len(parts) > _MAX_INTERVALS:
        raise InputError(f"intervals: {len(parts):,} are more than {_MAX_INTERVALS:,}")
    intervals: list[Interval] = []
    for part in parts:
        match = _INTERVAL.fullmatch(part)
        interval = None if match is None else Interval(int(match[1]), int(match[2]))
        before = intervals[-1].end_ns if intervals else -(2**63)
        if interval is None or not before <= interval.start_ns < interval.end_ns < 2**63:
            raise InputError(
                f"intervals: {part!r:.60} is not start:end in nanoseconds, after the one before it"
            )
        intervals.append(interval)
    return tuple(intervals)


_Chosen: TypeAlias = Annotated[Selection, Depends(_selection)]


@router.get("/ticks", response_class=StreamingResponse)
def read_ticks(selection: _Chosen, form: Form) -> Response:
    """Return the ticks of a selection by value."""
    # Columns of the form are those of a frame; they say nothing of the selection.
    return tick_response(selection, {"count": None}, form)


@router.get("/ticks/count")
def count_ticks(selection: _Chosen) -> dict[str, int]:
    """Return the number of ticks of a selection."""
    return {"count": selection.count()}


@router.get("/ticks/files")
def read_files(selection: _Chosen) -> list[dict[str, Any]]:
    """Return the rows of the index of the files that may hold ticks of a selection."""
    return [record.to_dict() for record in selection.files()]


@router.get("/ticks/coverage")
def read_selected_coverage(selection: _Chosen) -> dict[str, Any]:
    """Return what was captured of a selection, and what was not."""
    return encode_coverage(selection.coverage())


@router.get("/ticks/describe", response_class=Response)
def describe_ticks(selection: _Chosen) -> Response:
    """Return the figures of each stream of a selection, as an Arrow stream."""
    return _frame(selection.describe())


@router.get("/ticks/daily", response_class=Response)
def describe_days(selection: _Chosen) -> Response:
    """Return the figures of each stream and UTC day of a selection, as an Arrow stream."""
    return _frame(selection.daily())


@router.get("/ticks/messages", response_class=StreamingResponse)
def read_messages(
    selection: _Chosen,
    ticks: Annotated[bool, Query(description="Whether to include ticks.")] = False,
) -> Response:
    """Return the messages of a selection, one on each line."""

    def lines() -> Generator[bytes, None, None]:
        for message in selection.messages(ticks=ticks):
            yield json.dumps(message).encode() + b"\n"
        yield b""

    return stream_chunks(lines(), _LINES, {"Cache-Control": "no-store"})


def _frame(frame: pl.DataFrame) -> Response:
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return Response(sink.getvalue(), media_type="application/vnd.apache.arrow.stream")
