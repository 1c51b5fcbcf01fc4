"""Tick files for xarray: ``xr.open_dataset("14_ticks.pb", engine="ibticks")``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from ibticks.errors import CorruptFileError, NoStoreError
from ibticks.filesystem import expand_home
from ibticks.frames import arrow_type, to_table, variable
from ibticks.schema import COLUMNS
from ibticks.storage import FileReader, file_suffix, read_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ibticks._types import Interval

__all__ = ["TickBackend", "TickFiles", "open_files"]

_HOUR_NS = 3_600_000_000_000
_COORDINATES = ("timestamp", "contract_id", "tick_type", "stream_id")

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ibticks.index import FileRecord

    Rows = NDArray[np.int64]


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
    missing : tuple of Interval
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
    missing: tuple[Interval, ...]
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


class TickBackend(BackendEntrypoint):
    """xarray backend that opens a tick file, or a folder of them, lazily.

    The dataset is that of :meth:`ibticks.Selection.to_xarray`, but that only ``timestamp`` is read
    when it is opened, a column when its values are asked for, and of it only the files that hold
    them; and that texts are Python strings. With ``chunks={}`` a Dask chunk is an hour. A folder is
    a store, a contract, a day, or any other with tick files somewhere below; its ticks are in the
    order of their times. Backfilled ticks come only if their file is opened by name.

    Examples
    --------
    >>> TickBackend().guess_can_open("ticks/8314/last/2013/10/08/14_ticks.pb")
    True
    """

    description: ClassVar[str] = "Ticks of Interactive Brokers, as ibticks stores them"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "columns",
        "strict",
    )

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
        strict: bool = False,
    ) -> xr.Dataset:
        """Open ticks; :func:`xarray.open_dataset` calls it.

        Parameters
        ----------
        filename_or_obj : path-like
            A tick file, or a folder.
        drop_variables : str or iterable of str, optional
            Columns to leave out.
        columns : iterable of str, optional
            Only these, and ``timestamp``. By default those the tick types carry.
        strict : bool
            Whether damaged data raises, instead of being left out with a warning.

        Raises
        ------
        NoStoreError
            There is no such file, or no tick file in the folder.
        UnknownColumnError
            Naming the columns that exist.
        CorruptFileError
            A file is no tick file; or with ``strict``, damaged.
        """
        from ibticks.frames import METADATA_KEY, attach_metadata
        from ibticks.schema import check_columns, list_columns

        files = open_files(Path(filename_or_obj), strict=strict)
        names = list_columns(files.tick_types) if columns is None else tuple(columns)
        names = check_columns(("timestamp", *(n for n in names if n != "timestamp")))
        dropped = {drop_variables} if isinstance(drop_variables, str) else {*(drop_variables or ())}
        variables = {name: _variable(files, name) for name in names if name not in dropped}
        labels = {name: variables.pop(name) for name in _COORDINATES if name in variables}
        metadata = {
            "files": [str(files.root / record.path) for record in files.records],
            "contract_ids": list(files.contract_ids),
            "tick_types": list(files.tick_types),
        }
        text = attach_metadata(metadata, files.missing, files.left_out)[
            METADATA_KEY.encode()
        ].decode()
        return xr.Dataset(variables, labels, {"Conventions": "CF-1.11", METADATA_KEY: text})

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether the name is that of a tick file, or a folder is a store."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = Path(filename_or_obj)
        return path.name.endswith("_ticks.pb") or (path / "metadata" / "schema.proto").is_file()


class _Column(BackendArray):
    """One column of some files, read when its values are asked for."""

    def __init__(self, files: TickFiles, name: str, dtype: np.dtype[Any]) -> None:
        self.files = files
        self.name = name
        self.dtype = dtype
        self.shape = (files.rows,)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> Any:
        rows = np.arange(self.files.rows)[key[0]]
        values = self.files.read(self.name, np.atleast_1d(rows)).astype(self.dtype, copy=False)
        return values[0] if np.isscalar(rows) or rows.ndim == 0 else values


def _variable(files: TickFiles, name: str) -> xr.Variable:
    from ibticks.accessors._datasets import TIME_ENCODING

    if name == "timestamp":
        empty = files.like(name)
        return xr.Variable(name, files.times.view("M8[ns]"), empty.attrs, TIME_ENCODING)
    empty = files.like(name)
    # The length of the longest text is not known before all are read.
    dtype = np.dtype(object) if empty.dtype.kind == "U" else empty.dtype
    encoding: dict[str, Any] = {
        **empty.encoding,
        "preferred_chunks": {"timestamp": _rows_by_hour(files)},
    }
    lazy = indexing.LazilyIndexedArray(_Column(files, name, dtype))
    return xr.Variable("timestamp", lazy, empty.attrs, encoding)


def _rows_by_hour(files: TickFiles) -> tuple[int, ...]:
    _, rows = np.unique(files.times // _HOUR_NS, return_counts=True)
    counts: NDArray[np.int64] = rows
    return tuple(counts.tolist())
