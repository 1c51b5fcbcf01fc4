"""Responses that are encoded while they are sent: a range of any size in bounded memory."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import anyio
import numpy as np
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from ibticks._types import Interval
from ibticks.calendar import format_ns, now_ns
from ibticks.format import encode_frame, encode_message
from ibticks.frames import encode_tables, metadata_of
from ibticks.schema import COLUMNS
from ibticks.selection import HourlyBatches, partition_by_hour, read_tail
from ibticks.service._encoding import encode_frames, encode_json
from ibticks.service._formats import MEDIA_TYPES, TickForm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from fastapi.responses import Response

    from ibticks.frames import FileFormat
    from ibticks.selection import Selection

__all__ = ["JSON", "stream_chunks", "tick_response"]

JSON: Final = MEDIA_TYPES["json"]
CHUNK_ROWS: Final = 8192
"""Ticks that are encoded at once: about two megabytes of JSON."""
FIRST_CHUNK_ROWS: Final = 256
"""Ticks that are encoded first, so that a client has something soon."""
BATCH_ROWS: Final = 1 << 16
"""Rows of an Arrow batch."""
_WHOLE_ROWS: Final = 1 << 20
_MAX_TAIL_ROWS: Final = 1 << 18
"""Ticks that are read at once from the end; more are read hour by hour."""
_ENVELOPE: Final = ("timestamp", "contract_id", "tick_type", "stream_id")


def tick_response(selection: Selection, tail: Mapping[str, Any], form: TickForm) -> Response:
    """Return the ticks of a selection in the form that a request asks for.

    The first hours are read before this function returns, so that what cannot be read is an error
    with its status. A later failure breaks the connection off: the body has no end then, and a
    client cannot take it for a whole one.

    Parameters
    ----------
    selection : Selection
    tail : mapping
        Members of JSON after ``messages``; a ``count`` of None becomes the number of ticks. Where
        damaged data was left out, ``missing`` follows, with the intervals.
    form : TickForm
    """
    headers = {"Cache-Control": "no-store", **_coverage_headers(selection)}
    if form.is_explained or form.is_head:
        size = _explain(selection, form)
        headers |= {f"X-Ticks-{name.title()}": str(value) for name, value in size.items()}
        if form.is_explained:
            return JSONResponse(size, headers=headers)
        return StreamingResponse(iter(()), media_type=MEDIA_TYPES[form.format], headers=headers)
    match form.format:
        case "json":
            chunks = _json_chunks(selection, tail, form)
        case "ndjson":
            chunks = _line_chunks(selection, form)
        case "protobuf":
            chunks = _frame_chunks(selection, form)
        case "arrow":
            chunks = _table_chunks(selection, form, "ipc")
        case _:
            chunks = _table_chunks(selection, form, form.format)
    return stream_chunks(chunks, MEDIA_TYPES[form.format], headers)


def _explain(selection: Selection, form: TickForm) -> dict[str, Any]:
    """Return the size of an answer, as the index has it.

    The rows are at most these, and the bytes and files are those of the time range: a file that
    lies only partly in the selection counts whole, one that is being written as of its last row in
    the index, and every tick may meet the bounds. Without such files and bounds, ``exact`` is true.
    """
    files = selection.files()
    rows = sum(record.ticks for record in files)
    is_exact = not (rows and form.bounds) and all(
        record.sealed and any(record.is_inside(interval) for interval in selection.intervals)
        for record in files
    )
    return {
        "rows": rows if form.limit is None else min(rows, form.limit),
        "bytes": sum(record.size for record in files),
        "files": len(files),
        "exact": is_exact or form.limit == 0,
    }


def _coverage_headers(selection: Selection) -> dict[str, str]:
    gaps = selection.coverage().gaps()
    return {"X-Ticks-Gaps": str(len(gaps))}


def _json_chunks(
    selection: Selection, tail: Mapping[str, Any], form: TickForm
) -> Generator[bytes, None, None]:
    count = 0
    missing: list[Any] = []
    before = b'{"messages":['
    for batch in _batches(selection, form, missing):
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


def _line_chunks(selection: Selection, form: TickForm) -> Generator[bytes, None, None]:
    missing: list[Any] = []
    if form.has_coverage:
        data = {"status": "coverage", "intervals": _coverage(selection)}
        yield json.dumps(_notice(selection, "info", data)).encode() + b"\n"
    for batch in _batches(selection, form, missing):
        yield encode_json(batch, separator="\n") + b"\n"
    if missing:
        yield json.dumps(_damage_message(selection, missing)).encode() + b"\n"
    yield b""


def _coverage(selection: Selection) -> list[dict[str, Any]]:
    return [
        {
            "contract_id": part.contract_id,
            "tick_type": part.tick_type,
            "start": format_ns(part.start_ns),
            "end": format_ns(part.end_ns),
            "state": part.state.value,
            "reason": part.reason,
        }
        for part in selection.coverage().state_intervals
    ]


def _frame_chunks(selection: Selection, form: TickForm) -> Generator[bytes, None, None]:
    missing: list[Any] = []
    for batch in _batches(selection, form, missing):
        yield encode_frames(batch)
    if missing:
        yield encode_frame(encode_message(_damage_message(selection, missing)))
    yield b""


def _table_chunks(
    selection: Selection, form: TickForm, file_format: FileFormat
) -> Generator[bytes, None, None]:
    chosen = selection if form.columns is None else replace(selection, columns=form.columns)
    if form.is_whole and chosen.count() <= _WHOLE_ROWS:
        # The very table that a notebook on this machine has, also its dictionaries.
        table = chosen.to_arrow()
        tables: Iterator[pa.Table] = iter([table])
        metadata = metadata_of(table)
    else:
        tables = _tables(chosen, form, chosen.columns)
        metadata = chosen.metadata()
    if file_format == "ipc":
        tables = (
            table.slice(start, BATCH_ROWS)
            for table in tables
            # An empty table may name what is missing.
            for start in range(0, max(table.num_rows, 1), BATCH_ROWS)
        )
    yield from encode_tables(
        tables, chosen.columns, file_format, metadata=metadata, compression=form.compression
    )
    yield b""


def _damage_message(selection: Selection, missing: list[Any]) -> dict[str, Any]:
    intervals = ", ".join(f"{start} to {end}" for start, end in missing)
    data = {
        "code": "INTERNAL_ERROR",
        "message": f"damaged data was left out: {intervals}",
        "recoverable": False,
    }
    return _notice(selection, "error", data)


def _notice(selection: Selection, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "stream_id": f"{selection.contract_ids[0]}_{'_'.join(selection.tick_types)}",
        "timestamp": format_ns(now_ns()),
        "data": data,
    }


def _batches(selection: Selection, form: TickForm, missing: list[Any]) -> Iterator[pa.RecordBatch]:
    """Yield the ticks in batches of some thousand; append intervals that could not be read."""
    # A tick may carry fields that its tick type usually has not.
    columns = tuple(COLUMNS) if form.columns is None else _with(_ENVELOPE, form.columns)
    rows = FIRST_CHUNK_ROWS
    for table in _tables(selection, form, columns):
        missing.extend(metadata_of(table).get("missing", ()))
        start = 0
        while start < table.num_rows:
            yield from table.slice(start, rows).to_batches()
            start, rows = start + rows, CHUNK_ROWS


def _tables(selection: Selection, form: TickForm, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the ticks in tables of some hours, in the order and up to the limit of a form."""
    left = math.inf if form.limit is None else form.limit
    read = _with(columns, (bound.column for bound in form.bounds))
    chosen = replace(selection, columns=read)
    if not left:
        return
    if not form.is_descending:
        tables = _hours(chosen)
    elif form.limit is None or form.bounds or form.limit > _MAX_TAIL_ROWS:
        tables = _hours_back(chosen)
    else:
        tables = iter([_reverse(read_tail(chosen, form.limit))])
    for table in tables:
        answer = form.filter(table)
        if answer.num_rows > left:
            answer = answer.slice(0, int(left))
        left -= answer.num_rows
        yield answer.select(list(columns))
        if not left:
            return


def _with(columns: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*columns, *more)))


def _hours(selection: Selection) -> Iterator[pa.Table]:
    """Yield tables of some hours, the first one of a block or so: it is there sooner."""
    for part in _cut_after_first_block(selection):
        yield from HourlyBatches(part).batches(selection.columns)


def _cut_after_first_block(selection: Selection) -> list[Selection]:
    """Cut a selection in two by time, before the second block of one of its first files."""
    if not selection.intervals:
        return []
    whole = selection.intervals[0]
    files = [record for record in selection.files() if record.end_ns >= whole.start_ns]
    first_ns = min((record.hour_ns for record in files), default=0)
    cut_ns = min(
        (
            next((block.min_ns for block in record.blocks[1:]), whole.end_ns)
            for record in files
            if record.hour_ns == first_ns
        ),
        default=whole.end_ns,
    )
    if not whole.start_ns < cut_ns < whole.end_ns:
        return [selection]
    first, second = Interval(whole.start_ns, cut_ns), Interval(cut_ns, whole.end_ns)
    return [
        replace(selection, intervals=(first,)),
        replace(selection, intervals=(second, *selection.intervals[1:])),
    ]


def _hours_back(selection: Selection) -> Iterator[pa.Table]:
    """Yield tables of an hour or so, the latest first, each with its latest tick first."""
    for partition in reversed(partition_by_hour(selection.files(), selection.intervals)):
        interval = Interval(partition.first_ns, partition.after_ns)
        if interval.start_ns < interval.end_ns:
            hour = HourlyBatches(replace(selection, intervals=(interval,)))
            for table in reversed([*hour.batches(selection.columns)]):
                yield _reverse(table)


def _reverse(table: pa.Table) -> pa.Table:
    return table.take(np.arange(table.num_rows - 1, -1, -1))


def stream_chunks(
    chunks: Generator[bytes, None, None], media_type: str, headers: Mapping[str, str]
) -> StreamingResponse:
    """Return a response of chunks, of which the first is made before this function returns."""
    first = next(chunks)
    return StreamingResponse(_iterate(first, chunks), media_type=media_type, headers=dict(headers))


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
