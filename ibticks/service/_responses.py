"""Responses that are encoded while they are sent: a range of any size in bounded memory."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import anyio
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from ibticks.format import encode_frame, encode_message
from ibticks.frames import metadata_of
from ibticks.schema import COLUMNS
from ibticks.selection import HourlyBatches
from ibticks.service._encoding import encode_frames, encode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator, Mapping

    import pyarrow as pa

    from ibticks.selection import Selection

__all__ = ["JSON", "PROTOBUF", "frames_response", "json_response"]

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
CHUNK_ROWS: Final = 8192
"""Ticks that are encoded at once: about two megabytes of JSON."""


def json_response(selection: Selection, tail: Mapping[str, Any]) -> StreamingResponse:
    """Return the ticks of a selection as ``{"messages": [...], ...}``.

    The first hours are read before this function returns, so that what cannot be read is an error
    with its status. A later failure breaks the connection off: the body has no end then, and a
    client cannot take it for a whole one.

    Parameters
    ----------
    selection : Selection
    tail : mapping
        Members after ``messages``; a ``count`` of None becomes the number of ticks. Where damaged
        data was left out, ``missing`` follows, with the intervals.
    """
    return _response(_json_chunks(selection, tail), JSON)


def frames_response(selection: Selection) -> StreamingResponse:
    """Return the ticks of a selection as protobuf messages, each with its length before it.

    Where damaged data was left out, the last message is an ``error`` that names the intervals.

    Parameters
    ----------
    selection : Selection
    """
    return _response(_frame_chunks(selection), PROTOBUF)


def _json_chunks(selection: Selection, tail: Mapping[str, Any]) -> Generator[bytes, None, None]:
    count = 0
    missing: list[Any] = []
    before = b'{"messages":['
    for batch in _batches(selection, missing):
        yield before + encode_json(batch)
        before = b","
        count += batch.num_rows
    members = {
        name: count if name == "count" and value is None else value for name, value in tail.items()
    }
    if missing:
        members["missing"] = [{"start": start, "end": end} for start, end in missing]
    opening = b"" if count else before
    yield opening + b"]" + json.dumps(members).encode().replace(b"{", b"," * bool(members), 1)


def _frame_chunks(selection: Selection) -> Generator[bytes, None, None]:
    missing: list[Any] = []
    for batch in _batches(selection, missing):
        yield encode_frames(batch)
    if missing:
        yield encode_frame(encode_message(_damage_message(selection, missing)))
    yield b""


def _damage_message(selection: Selection, missing: list[Any]) -> dict[str, Any]:
    from ibticks.calendar import format_ns, now_ns

    intervals = ", ".join(f"{start} to {end}" for start, end in missing)
    return {
        "type": "error",
        "stream_id": f"{selection.contract_ids[0]}_{'_'.join(selection.tick_types)}",
        "timestamp": format_ns(now_ns()),
        "data": {
            "code": "INTERNAL_ERROR",
            "message": f"damaged data was left out: {intervals}",
            "recoverable": False,
        },
    }


def _batches(selection: Selection, missing: list[Any]) -> Iterator[pa.RecordBatch]:
    """Yield the ticks in batches of some thousand; append intervals that could not be read."""
    columns = tuple(COLUMNS)  # a tick may carry fields that its tick type usually has not
    for table in HourlyBatches(replace(selection, columns=columns)).batches(columns):
        missing.extend(metadata_of(table).get("missing", ()))
        yield from table.to_batches(max_chunksize=CHUNK_ROWS)


def _response(chunks: Generator[bytes, None, None], media_type: str) -> StreamingResponse:
    first = next(chunks)
    return StreamingResponse(
        _iterate(first, chunks), media_type=media_type, headers={"Cache-Control": "no-store"}
    )


async def _iterate(first: bytes, chunks: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """Yield chunks that a thread encodes, each once the one before it was sent."""
    waiting = chain([first], chunks)
    try:
        while (chunk := await run_in_threadpool(next, waiting, None)) is not None:
            yield chunk
    finally:
        # A client that has left has cancelled this task; the files are closed all the same.
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(chunks.close)
