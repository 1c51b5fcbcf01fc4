"""Some tick files as one sequence of rows by time, of which any can be read by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ibticks.errors import CorruptFileError, NoStoreError
from ibticks.filesystem import expand_home
from ibticks.frames import arrow_type, to_table, variable
from ibticks.schema import COLUMNS
from ibticks.storage import FileReader, file_suffix, read_ticks

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

    from ibticks.index import FileRecord

    Rows = NDArray[np.int64]

__all__ = ["TickFiles", "open_files"]


@dataclass(frozen=True, slots=True)
class TickFiles:
    """Tick files, and the place of each row in them.

    Attributes
    ----------
    root : Path
        The folder their paths start from.
    records : tuple of FileRecord
        By contract, tick type and hour.
    starts : numpy.ndarray
        int64, the first row of each file, and the number of all rows: by file.
    times : numpy.ndarray
        int64, UTC nanoseconds, sorted.
    order : numpy.ndarray or None
        int64, the row by file of each row by time; None if that is the same.
    missing : tuple of (int, int)
        Ranges that are damaged, UTC nanoseconds.
    left_out : tuple of str
        Files that these are missing from, relative to ``root``.
    strict : bool
        Whether damaged data raises.
    """

    root: Path
    records: tuple[FileRecord, ...]
    starts: Rows
    times: Rows
    order: Rows | None
    missing: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...]
    strict: bool

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.times)

    @property
    def tick_types(self) -> tuple[str, ...]:
        """Tick types of the files, in order."""
        return tuple(dict.fromkeys(record.tick_type for record in self.records))

    @property
    def contract_ids(self) -> tuple[int, ...]:
        """Contract ids of the files, in order."""
        return tuple(dict.fromkeys(record.contract_id for record in self.records))

    def like(self, name: str) -> xr.Variable:
        """Return an empty variable of a column."""
        return variable(COLUMNS[name], pa.chunked_array([pa.array([], arrow_type(name))]))

    def read(self, name: str, rows: Rows) -> NDArray[Any]:
        """Read rows of a column, by time; only the files that hold them are read.

        Raises
        ------
        CorruptFileError
            With ``strict``, or if a file has fewer ticks than when it was opened.
        """
        rows = rows if self.order is None else self.order[rows]
        places = np.searchsorted(self.starts, rows, side="right") - 1
        blocks = []
        for place in np.unique(places).tolist():
            mine = np.flatnonzero(places == place)
            blocks.append((mine, self._column(place, name)[rows[mine] - self.starts[place]]))
        if not blocks:
            return self.like(name).values
        values = np.empty(len(rows), np.result_type(*(block for _, block in blocks)))
        for mine, block in blocks:
            values[mine] = block
        return values

    def _column(self, place: int, name: str) -> NDArray[Any]:
        record = self.records[place]
        table = to_table(read_ticks(self.root, [record], [name], strict=self.strict), [name])
        values: NDArray[Any] = variable(COLUMNS[name], table[name]).values
        rows = int(self.starts[place + 1] - self.starts[place])
        if len(values) < rows:
            path = str(self.root / record.path)
            raise CorruptFileError(
                f"{path} had {rows} ticks when it was opened, and has {len(values)} now: open it "
                "again",
                path=path,
            )
        return values[:rows]  # one that is being written to has more by now


def open_files(path: Path, *, strict: bool = False) -> TickFiles:
    """Read the times of a tick file, or of all tick files in a folder.

    Raises
    ------
    NoStoreError
        There is none.
    CorruptFileError
        The header of a file cannot be read; or with ``strict``, damaged data.

    Examples
    --------
    >>> from pathlib import Path
    >>> open_files(Path("nowhere"))
    Traceback (most recent call last):
        ...
    ibticks.errors.NoStoreError: nowhere: there is no such file or folder
    """
    path = expand_home(path)
    if not path.exists():
        raise NoStoreError(f"{path}: there is no such file or folder", path=str(path))
    root = path if path.is_dir() else path.parent
    names = [path.name]
    if path.is_dir():
        result = sorted(path.rglob("[0-2][0-9]*_ticks.pb"))
        names = [value.relative_to(root).as_posix() for value in result]
        names = [name for name in names if file_suffix(name) != "backfill"]
        if not names:
            raise NoStoreError(f"{path}: there is no tick file in this folder", path=str(path))
    records = sorted((_record(root, name) for name in names), key=_place)
    read = [read_ticks(root, [record], ["timestamp"], strict=strict) for record in records]
    counts = [sum(block.rows for block in blocks) for blocks in read]
    nothing: Rows = np.empty(0, dtype=np.int64)
    times = np.concatenate([nothing, *(block.timestamp for blocks in read for block in blocks)])
    order = None
    if not bool(np.all(times[1:] >= times[:-1])):
        order = np.argsort(times, kind="stable")
        times = times[order]
    return TickFiles(
        root=root,
        records=tuple(records),
        starts=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        times=times,
        order=order,
        missing=tuple(gap for blocks in read for block in blocks for gap in block.missing),
        left_out=tuple(file for blocks in read for block in blocks for file in block.left_out),
        strict=strict,
    )


def _record(root: Path, name: str) -> FileRecord:
    """Describe a file by its header alone, without an index."""
    with FileReader(root) as source:
        source.open(name)
        header = source.header
        if header is None:
            assert source.problem is not None
            raise CorruptFileError(f"{root / name}: {source.problem}", path=str(root / name))
        return source.describe(header)


def _place(record: FileRecord) -> tuple[int, str, str, str, str]:
    folder, _, name = record.path.rpartition("/")
    return record.contract_id, record.tick_type, folder, name[:2], file_suffix(record.path)
