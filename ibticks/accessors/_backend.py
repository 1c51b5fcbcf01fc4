"""Tick files for xarray: ``xr.open_dataset("14_ticks.pb", engine="ibticks")``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ibticks.accessors._tick_files import TickFiles

__all__ = ["TickBackend"]

_HOUR_NS = 3_600_000_000_000
_COORDINATES = ("timestamp", "contract_id", "tick_type", "stream_id")


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
        from ibticks.accessors._tick_files import open_files
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
