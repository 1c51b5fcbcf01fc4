"""Layout of the companions of a store: one Parquet file per contract, tick type and UTC day.

::

    {root} / columns / {contract_id} / {tick_type} / {YYYY} / {MM} / {DD}.parquet

They lie in one folder apart from the hour files: a backup leaves it out, ``rm -r`` removes it, a
listing of the hour files does not meet it, and a glob pattern reads a stream, a month or a day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ibticks._types import Interval, StreamKey
from ibticks.config import DAY_NS, NANOSECONDS, TICK_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ibticks.index import FileRecord
    from ibticks.storage import FileKey

__all__ = ["CompanionKey", "columns_folder", "companion_keys", "floor_day", "list_companions"]

_FOLDER: Final = "columns"
_PATH: Final = re.compile(
    rf"{_FOLDER}/(?P<contract>0|[1-9]\d{{0,9}})/(?P<tick_type>{'|'.join(TICK_TYPES)})/"
    r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)\.parquet",
    re.ASCII,
)


def floor_day(time_ns: int) -> int:
    """Round a time down to the UTC day, in nanoseconds.

    Examples
    --------
    >>> floor_day(1_381_239_000_000_000_000)
    1381190400000000000
    """
    return time_ns - time_ns % DAY_NS


def columns_folder(root: Path) -> Path:
    """Return the folder of the companions of a store."""
    return root / _FOLDER


@dataclass(frozen=True, slots=True, order=True)
class CompanionKey:
    """The key of one companion: contract, tick type and UTC day (nanoseconds).

    Examples
    --------
    >>> key = CompanionKey(8314, "bid_ask", floor_day(1_381_239_000_000_000_000))
    >>> key.path
    'columns/8314/bid_ask/2013/10/08.parquet'
    >>> CompanionKey.parse(key.path) == key
    True
    """

    contract_id: int
    tick_type: str
    day_ns: int

    @classmethod
    def of(cls, file: FileKey | FileRecord) -> CompanionKey:
        """Return the key of the companion that has, or would have, the ticks of an hour file."""
        return cls(file.contract_id, file.tick_type, floor_day(file.hour_ns))

    @property
    def stream(self) -> StreamKey:
        """The stream of the companion."""
        return StreamKey(self.contract_id, self.tick_type)

    @property
    def end_ns(self) -> int:
        """End of the day (exclusive), nanoseconds."""
        return self.day_ns + DAY_NS

    @property
    def interval(self) -> Interval:
        """The UTC day."""
        return Interval(self.day_ns, self.end_ns)

    @property
    def path(self) -> str:
        """Path relative to the root, with forward slashes."""
        day = datetime.fromtimestamp(self.day_ns // NANOSECONDS, UTC)
        return f"{_FOLDER}/{self.contract_id}/{self.tick_type}/{day:%Y/%m/%d}.parquet"

    @classmethod
    def parse(cls, path: str) -> CompanionKey | None:
        """Return the key of a path relative to the root; None if no companion has such a path."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        try:
            year, month, day_of_month = map(int, match.group("year", "month", "day"))
            day = datetime(year, month, day_of_month, tzinfo=UTC)
        except ValueError:
            return None
        day_ns = int(day.timestamp()) * NANOSECONDS
        return cls(int(match["contract"]), match["tick_type"], day_ns)


def companion_keys(files: Iterable[FileKey]) -> list[CompanionKey]:
    """Return the keys of the companions for the captured ones of some hour files, in order."""
    return sorted({CompanionKey.of(key) for key in files if key.suffix != "backfill"})


def list_companions(root: Path) -> Iterator[CompanionKey]:
    """Iterate over the companions on disk, by contract, tick type and day; skip other files."""
    folder = columns_folder(root)
    paths = (path.relative_to(root).as_posix() for path in folder.glob("*/*/*/*/*.parquet"))
    yield from sorted(key for key in map(CompanionKey.parse, paths) if key is not None)
