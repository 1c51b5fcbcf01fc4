"""Registration of ``.ticks`` with pandas, polars and xarray, without importing them.

None of the three finds accessors by entry points. The accessor is registered at once with a library
that is imported, and with the others right after their import. The accessor itself loads at its
first use, so that neither import makes the other longer.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any, Final, overload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    import pandas as pd
    import polars as pl
    import xarray as xr

    from ibticks.accessors._accessor import Ticks

__all__ = ["LIBRARIES", "register", "ticks"]

LIBRARIES: Final = {
    "pandas": ("api.extensions.register_dataframe_accessor",),
    "polars": ("api.register_dataframe_namespace", "api.register_lazyframe_namespace"),
    "xarray": ("register_dataset_accessor",),
}
"""The functions that take an accessor, by library."""

_registered: Final[set[str]] = set()


@overload
def ticks(frame: pd.DataFrame) -> Ticks[pd.DataFrame]: ...
@overload
def ticks(frame: pl.DataFrame) -> Ticks[pl.DataFrame]: ...
@overload
def ticks(frame: pl.LazyFrame) -> Ticks[pl.LazyFrame]: ...
@overload
def ticks(frame: xr.Dataset) -> Ticks[xr.Dataset]: ...
def ticks(frame: Any) -> Any:
    """Return the measures of a frame, as its attribute ``.ticks``, with types.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame, polars.LazyFrame or xarray.Dataset
        Ticks or bars with ibticks' columns.

    Returns
    -------
    ibticks.accessors.Ticks
        Its methods return frames of the same library.

    Examples
    --------
    >>> import ibticks as ibt, polars as pl
    >>> ibt.ticks(pl.DataFrame({"bid_price": [1.0], "ask_price": [2.0]})).mid()["mid"].item()
    1.5
    """
    return import_module("ibticks.accessors._accessor").Ticks(frame)


def register() -> None:
    """Register ``.ticks`` with each library, now or when it is imported."""
    waiting = []
    for name in LIBRARIES.keys() - _registered:
        if _is_imported(name):
            _register_with(sys.modules[name])
        else:
            waiting.append(name)
    _registered.update(LIBRARIES)
    if waiting:
        sys.meta_path.insert(0, _AfterImport(waiting))


def _is_imported(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    # A module whose import is still running is not complete.
    return spec is not None and not getattr(spec, "_initializing", False)


def _register_with(library: ModuleType) -> None:
    for path in LIBRARIES[library.__name__]:
        register_as: Any = library
        for name in path.split("."):
            register_as = getattr(register_as, name)
        register_as("ticks")(ticks)


class _AfterImport(MetaPathFinder):
    """Finder that extends the loader which other finders return, to register the accessor."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((value for value in specs if value is not None), None)
        if spec is not None and spec.loader is not None:
            self._extend(spec.loader, fullname)
        return spec

    def _extend(self, loader: Any, fullname: str) -> None:
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            if module.__name__ == fullname and fullname in self._names:
                self._names.discard(fullname)
                if not self._names:
                    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
                _register_with(module)

        loader.exec_module = exec_module
