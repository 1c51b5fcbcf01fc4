"""Import of v2 messages, one JSON object a line."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibticks.errors import InputError, ProtocolError
from ibticks.filesystem import expand_home, explained
from ibticks.importing._result import ImportResult
from ibticks.schema import check_tick_type
from ibticks.storage import Ingest
from ibticks.store import bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibticks.store import Store

__all__ = ["import_messages"]


def import_messages(
    store: Store, path: str | Path, *, progress: bool | None = None
) -> ImportResult:
    """Import v2 messages, one JSON object a line.

    Ticks say which stream they belong to; an error, info or completion goes where the ticks with
    its ``stream_id`` go.

    Raises
    ------
    InputError
        At a line that is not a v2 message (ProtocolError), or a tick that cannot be stored;
        ``context["line"]`` is its number. What was imported before stays; importing again goes on
        from there. Also if messages are left whose stream no tick of the file names.
    """
    source = expand_home(path)
    streams: dict[str, tuple[int, str]] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    ingests: dict[tuple[int, str], Ingest] = {}
    read = 0
    with ExitStack() as stack:
        with explained(source, "reading"):
            size = source.stat().st_size
        done = stack.enter_context(bar(f"importing {source.name}", size, show=progress))

        def add(stream: tuple[int, str], messages: list[dict[str, Any]]) -> None:
            if stream not in ingests:
                writer = stack.enter_context(store.writer(*stream, fsync=None))
                ingests[stream] = Ingest(store.root, writer)
            ingests[stream].add_messages(messages)

        for line, width, message in _lines(source):
            stream_id = str(message.get("stream_id"))
            try:
                if message.get("type") == "tick":
                    stream = _stream_of(message)
                    first = streams.setdefault(stream_id, stream) == stream
                    add(stream, [*(waiting.pop(stream_id, []) if first else []), message])
                elif stream_id in streams:
                    add(streams[stream_id], [message])
                else:
                    waiting.setdefault(stream_id, []).append(message)
            except InputError as error:
                where = {"path": str(source), "line": line}
                raise type(error)(
                    f"{source}, line {line}: {error}", **{**error.context, **where}
                ) from error
            read += 1
            done(width)
    if waiting:
        count = sum(map(len, waiting.values()))
        raise InputError(
            f"{source}: {count} messages belong to streams without a tick in this file "
            f"({', '.join(sorted(waiting)[:5])}), so that their contract is not known; everything "
            "else was imported",
            path=str(source),
        )
    return ImportResult(
        str(source),
        read,
        sum(ingest.added for ingest in ingests.values()),
        sum(ingest.known for ingest in ingests.values()),
        tuple(sorted(ingests)),
        {},
        (),
    )


def _lines(source: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    with explained(source, "reading"), source.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                message = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ProtocolError(
                    f"{source}, line {number}: not JSON, or nested too deep ({error})",
                    path=str(source),
                    line=number,
                ) from error
            if not isinstance(message, dict):
                raise ProtocolError(
                    f"{source}, line {number}: not a JSON object", path=str(source), line=number
                )
            yield number, len(line), message


def _stream_of(message: dict[str, Any]) -> tuple[int, str]:
    data = message.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("contract_id"), int):
        raise ProtocolError("a tick without data.contract_id", key="data.contract_id")
    return data["contract_id"], check_tick_type(str(data.get("tick_type")))
