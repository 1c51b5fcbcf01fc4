"""Rows that could not be imported, kept in a file beside the source."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from ibticks.filesystem import explained

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibticks.tables import TickTable

__all__ = ["rejects_path", "write_rejects"]


def rejects_path(source: Path) -> Path:
    """Return a path beside a file that no other file has.

    Examples
    --------
    >>> rejects_path(Path("/none/trades.csv.gz")).name
    'trades.csv.gz.rejected.csv'
    """
    path = source.with_name(f"{source.name}.rejected.csv")
    number = 2
    while path.exists():
        path = source.with_name(f"{source.name}.rejected-{number}.csv")
        number += 1
    return path


def write_rejects(path: Path, table: TickTable, reasons: Mapping[int, str]) -> int:
    """Write bad rows with their line numbers and reasons; return how many there are.

    Parameters
    ----------
    path : Path
        A new file, CSV: ``line``, ``reason`` and the columns of the source. It can be mended and
        imported like the source.
    table : TickTable
    reasons : mapping of int to str
        Reason by number of the row; ragged rows are found besides.
    """
    count = 0
    width = len(table.columns)
    bad_rows = table.bad_rows(list(reasons))
    waiting = iter(sorted(reasons))
    with (
        explained(path, "writing"),
        path.open("x", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["line", "reason", *table.columns])
        for line, values in bad_rows:
            ragged = len(values) != width
            reason = (
                f"{len(values)} values instead of {width}" if ragged else reasons[next(waiting)]
            )
            writer.writerow([line, reason, *values])
            count += 1
    return count
