"""Import files that state their streams (v2 messages, tick files), and the result of an import."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ibticks._types import StreamKey
from ibticks.errors import InputError, ProtocolError
from ibticks.filesystem import expand_home, explained
from ibticks.schema import check_tick_type
from ibticks.storage import Ingest, TickFile, floor_hour
from ibticks.store import progress_bar, undo_deletion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibticks.store import Store

__all__ = ["ImportResult", "import_messages", "import_tick_file", "is_tick_file"]

_TICK_FILE_NAME: Final = re.compile(r".*_ticks\.pb(\.deleted-\d{8}T\d{6}(\.\d+)?Z)?")


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Outcome of an import.

    Attributes
    ----------
    source : str
        The file.
    read, added, known : int
        Messages read from it, written to the store, and found there already.
    streams : tuple of StreamKey
        Contract ids and tick types they belong to.
    mapped : dict of str to tuple of str
        Columns of a tick, and the columns of the file they were read from; a key of the column
        ``metadata`` as ``metadata.KEY``.
    ignored : tuple of str
        Columns of the file that were not read.
    preset : str or None
        Preset of column names that was used.
    first_ns, last_ns : int or None
        Earliest and latest time, UTC nanoseconds; None without rows.
    rows : dict of int to int
        Rows of each contract.
    rejected : int
        Rows that could not be read and were left out.
    rejects : str or None
        File that has them, with their line numbers.
    notes : tuple of str
        Notes on values that are not stored as the file has them.
    """

    source: str
    read: int
    added: int
    known: int
    streams: tuple[StreamKey, ...]
    mapped: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    preset: str | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    rows: dict[int, int] = field(default_factory=dict)
    rejected: int = 0
    rejects: str | None = None
    notes: tuple[str, ...] = ()


def import_messages(
    store: Store, path: str | Path, *, progress: bool | None = None
) -> ImportResult:
    """Import v2 messages, one JSON object a line.

    The stream of a tick is in its data; an error, info or completion is stored in the stream of the
    ticks with its ``stream_id``.

    Raises
    ------
    InputError
        At a line that is not a v2 message (ProtocolError), or a tick that cannot be stored;
        ``context["line"]`` is its number. What was imported before stays; importing again goes on
        from there. Also if messages are left whose stream no tick of the file names.
    """
    source = expand_home(path)
    streams: dict[str, StreamKey] = {}
    pending: dict[str, list[dict[str, Any]]] = {}
    ingests: dict[StreamKey, Ingest] = {}
    message_count = 0
    with ExitStack() as stack:
        with explained(source, "reading"):
            size = source.stat().st_size
        advance = stack.enter_context(progress_bar(f"importing {source.name}", size, show=progress))

        def add(stream: StreamKey, messages: list[dict[str, Any]]) -> None:
            if stream not in ingests:
                writer = stack.enter_context(store.writer(*stream, fsync=None))
                ingests[stream] = Ingest(store.root, writer)
            ingests[stream].add_messages(messages)

        for line, width, message in _read_lines(source):
            stream_id = str(message.get("stream_id"))
            try:
                if message.get("type") == "tick":
                    stream = _parse_stream(message)
                    first = streams.setdefault(stream_id, stream) == stream
                    add(stream, [*(pending.pop(stream_id, []) if first else []), message])
                elif stream_id in streams:
                    add(streams[stream_id], [message])
                else:
                    pending.setdefault(stream_id, []).append(message)
            except InputError as error:
                where = {"path": str(source), "line": line}
                raise type(error)(
                    f"{source}, line {line}: {error}", **{**error.context, **where}
                ) from error
            message_count += 1
            advance(width)
    if pending:
        count = sum(map(len, pending.values()))
        raise InputError(
            f"{source}: {count} messages belong to streams without a tick in this file "
            f"({', '.join(sorted(pending)[:5])}), so that their contract is not known; everything "
            "else was imported",
            path=str(source),
        )
    return ImportResult(
        str(source),
        message_count,
        sum(ingest.added for ingest in ingests.values()),
        sum(ingest.known for ingest in ingests.values()),
        tuple(sorted(ingests)),
        {},
        (),
    )


def _read_lines(source: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
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


def _parse_stream(message: dict[str, Any]) -> StreamKey:
    data = message.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("contract_id"), int):
        raise ProtocolError("a tick without data.contract_id", key="data.contract_id")
    return StreamKey(data["contract_id"], check_tick_type(str(data.get("tick_type"))))


def is_tick_file(path: str | Path) -> bool:
    """Return whether a file has the name of a tick file.

    Examples
    --------
    >>> is_tick_file("13_ticks.pb"), is_tick_file("13_ticks.pb.deleted-20250110T143000.5Z")
    (True, True)
    >>> is_tick_file("ticks.csv")
    False
    """
    return _TICK_FILE_NAME.fullmatch(Path(path).name) is not None


def import_tick_file(
    store: Store, path: str | Path, *, progress: bool | None = None
) -> ImportResult:
    """Import the ticks of a tick file; contract and tick type are those of its header.

    Parameters
    ----------
    store : Store
    path : path
        An hour file, or one that deleted ticks are kept in (``13_ticks.pb.deleted-...``). With
        the latter the deletion is undone in the coverage ledger, too.
    progress : bool, optional

    Returns
    -------
    ImportResult

    Raises
    ------
    CorruptFileError
        If the file is damaged: a sealed one is not imported then, of an open one the ticks before.
    WriterLockedError
        If the stream is being written.
    """
    source = expand_home(path)
    file = TickFile(source)
    stream = StreamKey(file.header.contract_id, file.header.tick_type)
    tick_count, times = 0, list[int]()
    with (
        store.writer(*stream, fsync=None) as writer,
        progress_bar(
            f"importing {source.name}", file.header.message_count or None, show=progress
        ) as advance,
    ):
        ingest = Ingest(store.root, writer)
        for ticks in file.batches():
            ingest.add(ticks)
            tick_count += ticks.rows
            if ticks.rows:
                times += [int(ticks.timestamp.min()), int(ticks.timestamp.max())]
            advance(ticks.rows)
        if times:
            undo_deletion(
                store.root, store.index, writer.appender, source, floor_hour(min(times)), tick_count
            )
    return ImportResult(
        str(source),
        tick_count,
        ingest.added,
        ingest.known,
        (stream,),
        {},
        (),
        first_ns=min(times, default=None),
        last_ns=max(times, default=None),
        rows={stream[0]: tick_count} if tick_count else {},
    )
