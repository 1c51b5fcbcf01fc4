"""Keeping an index at one with the files, the ledger of coverage and the calendars."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ibticks.storage.layout import HOUR, FileKey, list_files, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ibticks.calendar import TimeLike
    from ibticks.index.journaled import JournaledIndex
    from ibticks.index.records import FileRecord, Index

__all__ = ["keep_sessions", "older_files", "rebuild_index", "refill"]

_FIRST_SESSION: Final = date(2000, 1, 1)


def refill(root: Path, index: JournaledIndex) -> bool:
    """Give an index that was made just now what the catalogue knows.

    Returns
    -------
    bool
        Whether there are files that it does not know.
    """
    if index.daily_stats():
        return False
    from ibticks.index import CatalogueIndex

    catalogue = CatalogueIndex(metadata(root) / "index.json")
    if coverage := catalogue.coverage():
        index.put_coverage(coverage)
    if contracts := catalogue.contracts():
        index.put_contracts(contracts)
    return any(list_files(root))


def rebuild_index(root: Path, index: JournaledIndex, *, progress: bool | None = None) -> int:
    """Make the index anew from the files; returns how many there are."""
    from ibticks.progress import track
    from ibticks.storage.audit import records_on_disk

    found = track(records_on_disk(root), "reading files", None, show=progress)
    records = list(found)
    index.replace_files(records)
    _rebuild_coverage(root, index, records)
    return len(records)


def _rebuild_coverage(root: Path, index: JournaledIndex, records: Sequence[FileRecord]) -> None:
    from ibticks.storage.coverage import outlasting
    from ibticks.storage.lock import is_written
    from ibticks.storage.statuses import rebuild, settle

    rebuilt = rebuild(root, records)
    index.replace_coverage([*outlasting(index.coverage(), rebuilt), *rebuilt])
    # Captures that run may have spoken meanwhile.
    streams = {(record.contract_id, record.tick_type) for record in index.files()}
    files = [
        file
        for contract_id, tick_type in streams
        if is_written(root, contract_id, tick_type)
        for file in index.files([contract_id], [tick_type])
    ]
    if files:
        index.put_coverage(rebuild(root, files))
    settle(root, index)


def keep_sessions(index: JournaledIndex) -> None:
    """Let SQL know the sessions of the markets, from the calendars, up to a year from now."""
    from ibticks.calendar import MARKETS, session_rows

    today = datetime.now(UTC).date()
    for name in MARKETS:
        span = index.sessions_span(name)
        if span is None or span[1] < today + timedelta(days=30):
            until = today + timedelta(days=365)
            index.put_sessions(session_rows([name], _FIRST_SESSION, until))


def older_files(
    index: Index, age: str | timedelta, now: TimeLike | None
) -> Iterator[tuple[FileRecord, FileKey]]:
    """The files whose hour ended that long before now."""
    from ibticks.calendar import now_ns, parse_duration, to_ns

    instant = now_ns() if now is None else to_ns(now, name="now")
    before = instant - parse_duration(age)
    for record in index.files():
        key = FileKey.parse(record.path)
        if key is not None and record.hour_ns + HOUR <= before:
            yield record, key
