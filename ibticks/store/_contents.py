"""What a store holds, a line for each contract and tick type."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ibticks.index import ContractRecord, DailyStats

__all__ = ["Contents", "contents", "contents_table"]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds of one contract and tick type.

    Attributes
    ----------
    contract_id : int
    symbol : str
    tick_type : str
    files, ticks, size : int
        Size in bytes on disk. Ticks of files being written are not counted yet.
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


def contents(days: Iterable[DailyStats], contracts: Iterable[ContractRecord]) -> list[Contents]:
    """The days of each stream as one line, by contract and tick type."""
    symbols = {record.contract_id: record.symbol for record in contracts}
    streams: dict[tuple[int, str], list[DailyStats]] = {}
    for day in days:
        streams.setdefault((day.contract_id, day.tick_type), []).append(day)
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


def contents_table(held: Iterable[Contents], caption: str) -> str:
    """The lines as an HTML table."""
    from ibticks.calendar import format_ns

    head = "".join(
        f"<th>{name}</th>"
        for name in ("contract", "symbol", "tick type", "first", "last", "ticks", "files", "MB")
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td style='text-align:{'right' if i > 4 else 'left'}'>{escape(str(cell))}</td>"
            for i, cell in enumerate(
                (
                    each.contract_id,
                    each.symbol,
                    each.tick_type,
                    "–" if each.first_ns is None else format_ns(each.first_ns),
                    "–" if each.last_ns is None else format_ns(each.last_ns),
                    f"{each.ticks:,}",
                    f"{each.files:,}",
                    f"{each.size / 1e6:,.1f}",
                )
            )
        )
        + "</tr>"
        for each in held
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows or '<tr><td colspan=8>no ticks yet</td></tr>'}</tbody></table>"
    )


def _present(values: Iterable[int | None]) -> Iterator[int]:
    return (value for value in values if value is not None)
