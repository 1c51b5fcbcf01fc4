"""Importing foreign files: quotes or trades in CSV or Parquet, v2 messages as JSON lines.

An import can be broken off at any moment and begun again: what the store holds already is not
written a second time (see :mod:`ibticks.storage.ingest`).
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ibticks.errors import InputError, ProtocolError
from ibticks.format.fields import check_tick_type
from ibticks.progress import bar
from ibticks.storage.disk import explained
from ibticks.storage.ingest import Ingest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ibticks.store import Store

__all__ = ["ImportResult", "import_messages", "import_table"]

_Unit = Literal["s", "ms", "us", "ns"]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    Attributes
    ----------
    source : str
        The file.
    read, added, known : int
        Messages read from it, written to the store, and found there already.
    streams : tuple of (int, str)
        Contract ids and tick types they belong to.
    mapped : dict of str to tuple of str
        Our column names, and the columns of the file they were read from.
    ignored : tuple of str
        Columns of the file that have no place in a tick.
    """

    source: str
    read: int
    added: int
    known: int
    streams: tuple[tuple[int, str], ...]
    mapped: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]


def import_table(
    store: Store,
    path: str | Path,
    *,
    contract_id: int,
    tick_type: str,
    mapping: Mapping[str, str | None] | None = None,
    tz: str | None = None,
    timestamp_unit: _Unit | None = None,
    progress: bool | None = None,
) -> ImportResult:
    """Import a CSV or Parquet file of quotes or trades.

    Parameters
    ----------
    store : Store
    path : path
        ``.csv``, ``.csv.gz`` or ``.parquet``.
    contract_id : int
    tick_type : str
    mapping : mapping of str to str, optional
        Our column names to the file's, where they are not recognised.
    tz : str, optional
        Zone of times that do not say theirs.
    timestamp_unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers.
    progress : bool, optional

    Returns
    -------
    ImportResult

    Raises
    ------
    InputError
        If the file lacks a column that is needed, or a time cannot be read. What was imported
        before stays; importing again goes on from there.
    """
    from ibticks.frames import count_rows, describe_mapping, file_columns, read_batches

    source = Path(path).expanduser()
    check_tick_type(tick_type)
    with explained(source, "reading"):
        source.open("rb").close()
    mapped, ignored = describe_mapping(file_columns(source), tick_type, mapping)
    batches = read_batches(
        source,
        tick_type=tick_type,
        contract_id=contract_id,
        mapping=mapping,
        tz=tz,
        timestamp_unit=timestamp_unit,
    )
    read = 0
    with (
        store.writer(contract_id, tick_type, fsync=None) as writer,
        bar(f"importing {source.name}", count_rows(source), show=progress) as done,
    ):
        ingest = Ingest(store.root, writer)
        for batch in batches:
            # Not the file's name: renamed or compressed, it still holds the same ticks.
            ingest.add(batch, stream_id="import")
            read += batch.rows
            done(batch.rows)
    return ImportResult(
        str(source),
        read,
        ingest.added,
        ingest.known,
        ((contract_id, tick_type),),
        dict(mapped),
        tuple(ignored),
    )


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
    source = Path(path).expanduser()
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
            except ValueError as error:
                raise ProtocolError(
                    f"{source}, line {number}: not JSON ({error})", path=str(source), line=number
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
