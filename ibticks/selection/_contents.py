"""Contents of a store: a summary of each stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ibticks._html import html_table
from ibticks._types import StreamKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ibticks.index import ContractRecord, DailyStats

__all__ = ["Contents", "contents_table", "summarise_contents"]


@dataclass(frozen=True, slots=True)
class Contents:
    """Summary of the stored ticks of one stream.

    Attributes
    ----------
    contract_id : int
    symbol : str
    tick_type : str
    files, ticks, size : int
        Size in bytes on disk. Ticks of open files are not counted yet.
    first_ns, last_ns : int or None
        Earliest and latest tick, UTC nanoseconds.
    """

    contract_id: int
    symbol: str
    tick_type: str
    files: int
    ticks: int
    size: int
    first_ns: int | None
    last_ns: int | None


def summarise_contents(
    days: Iterable[DailyStats], contracts: Iterable[ContractRecord]
) -> list[Contents]:
    """Sum the statistics of the days of each stream, by contract and tick type."""
    symbols = {record.contract_id: record.symbol for record in contracts}
    streams: dict[StreamKey, list[DailyStats]] = {}
    for day in days:
        streams.setdefault(StreamKey(day.contract_id, day.tick_type), []).append(day)
    return [
        Contents(
            contract_id=contract_id,
            symbol=symbols.get(contract_id, ""),
            tick_type=tick_type,
            files=sum(day.files for day in days),
            ticks=sum(day.ticks for day in days),
            size=sum(day.size for day in days),
            first_ns=min(_present(day.first_tick_ns for day in days), default=None),
            last_ns=max(_present(day.last_tick_ns for day in days), default=None),
        )
        for (contract_id, tick_type), days in sorted(streams.items())
    ]


def contents_table(contents: Iterable[Contents], caption: str) -> str:
    """Render contents as an HTML table."""
    from ibticks.calendar import format_ns

    rows = (
        (
            content.contract_id,
            content.symbol,
            content.tick_type,
            "–" if content.first_ns is None else format_ns(content.first_ns),
            "–" if content.last_ns is None else format_ns(content.last_ns),
            f"{content.ticks:,}",
            f"{content.files:,}",
            f"{content.size / 1e6:,.1f}",
        )
        for content in contents
    )
    columns = ("contract", "symbol", "tick type", "first", "last", "ticks", "files", "MB")
    return html_table(rows, columns, caption=caption, right=(5, 6, 7), empty="no ticks yet")


def _present(values: Iterable[int | None]) -> Iterator[int]:
    return (value for value in values if value is not None)
