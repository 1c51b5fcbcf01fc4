"""Companions of a store: the days that have or lack one, and their verification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks.columns import (
    CompanionKey,
    build_companion,
    captured_files,
    compare_companion,
    list_companions,
    remove_companion,
)
from ibticks.storage import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ibticks._types import Interval, StreamKey
    from ibticks.index import CompanionRecord, Index

__all__ = [
    "build_companions",
    "companion_days",
    "list_stored_companions",
    "remove_companions",
    "remove_orphans",
    "verify_companions",
]


def companion_days(
    index: Index, streams: Iterable[StreamKey], interval: Interval
) -> list[CompanionKey]:
    """Return the days of streams that meet an interval and have sealed captured hours."""
    return sorted(
        {
            CompanionKey.of(file)
            for contract_id, tick_type in streams
            for file in index.files([contract_id], [tick_type], *interval)
            if file.sealed and not file.backfilled
        }
    )


def build_companions(
    root: Path, index: Index, keys: Iterable[CompanionKey], *, rebuild: bool = False
) -> Iterator[CompanionRecord | None]:
    """Build companions one by one; yield the row of each, None where it is there already."""
    for key in keys:
        yield build_companion(root, index, key, rebuild=rebuild)


def list_stored_companions(
    root: Path, index: Index, streams: Iterable[StreamKey] | None, interval: Interval
) -> list[CompanionKey]:
    """Return the companions of streams (None: all) and an interval, on disk or in the index."""
    chosen = None if streams is None else set(streams)
    days = {CompanionKey.parse(companion.path) for companion in index.companions()}
    return sorted(
        key
        for key in {*days, *list_companions(root)}
        if key is not None
        and (chosen is None or key.stream in chosen)
        and interval.intersection(key.interval) is not None
    )


def remove_companions(
    root: Path, index: Index, keys: Iterable[CompanionKey]
) -> Iterator[CompanionKey]:
    """Remove companions and their rows one by one."""
    for key in keys:
        remove_companion(root, index, key)
        yield key


def remove_orphans(root: Path, index: Index, keys: Iterable[CompanionKey]) -> None:
    """Remove companions of days that have no sealed captured hour any more."""
    for key in keys:
        if not any(file.sealed for file in captured_files(index, key)):
            remove_companion(root, index, key)


def verify_companions(root: Path, index: Index) -> Iterator[Finding]:
    """Compare each companion of the index with its checksum and with the hour files.

    Yields
    ------
    Finding
        One per companion, by contract, tick type and day.
    """
    for companion in index.companions():
        key = CompanionKey.parse(companion.path)
        if key is None:
            continue
        difference = compare_companion(root, companion, captured_files(index, key))
        remedy = "`ibticks columns build --rebuild` writes it anew"
        yield Finding(
            companion.path,
            None if difference is None else "companion",
            "" if difference is None else f"{difference}; {remedy}",
            0,
            companion.size,
        )
