"""Import of tick files: hour files of any store, and the files that deleted ticks are kept in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks.filesystem import expand_home
from ibticks.importing._result import ImportResult
from ibticks.storage import Ingest, TickFile, hour_of
from ibticks.store import bar, undo_deletion

if TYPE_CHECKING:
    from ibticks.store import Store

__all__ = ["import_tick_file", "is_tick_file"]

_NAME: Final = re.compile(r".*_ticks\.pb(\.deleted-\d{8}T\d{6}(\.\d+)?Z)?")


def is_tick_file(path: str | Path) -> bool:
    """Return whether a file has the name of a tick file.

    Examples
    --------
    >>> is_tick_file("13_ticks.pb"), is_tick_file("13_ticks.pb.deleted-20250110T143000.5Z")
    (True, True)
    >>> is_tick_file("ticks.csv")
    False
    """
    return _NAME.fullmatch(Path(path).name) is not None


def import_tick_file(
    store: Store, path: str | Path, *, progress: bool | None = None
) -> ImportResult:
    """Import the ticks of a tick file; contract and tick type are those of its header.

    Parameters
    ----------
    store : Store
    path : path
        An hour file, or one that deleted ticks are kept in (``13_ticks.pb.deleted-...``). With
        the latter the deletion is undone in the ledger of coverage, too.
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
    stream = file.header.contract_id, file.header.tick_type
    read, times = 0, list[int]()
    with (
        store.writer(*stream, fsync=None) as writer,
        bar(f"importing {source.name}", file.header.message_count or None, show=progress) as done,
    ):
        ingest = Ingest(store.root, writer)
        for ticks in file.batches():
            ingest.add(ticks)
            read += ticks.rows
            if ticks.rows:
                times += [int(ticks.timestamp.min()), int(ticks.timestamp.max())]
            done(ticks.rows)
        if times:
            undo_deletion(
                store.root, store.index, writer.appender, source, hour_of(min(times)), read
            )
    return ImportResult(
        str(source),
        read,
        ingest.added,
        ingest.known,
        (stream,),
        {},
        (),
        first_ns=min(times, default=None),
        last_ns=max(times, default=None),
        rows={stream[0]: read} if read else {},
    )
