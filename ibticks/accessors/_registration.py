"""``.ticks`` on the frames of other libraries, without loading one that nobody asked for.

None of pandas, polars and xarray finds accessors by entry points. Each is told of ours when it has
been imported: at once if it is, else right after it will have been. What it is told of loads at its
first use, so that neither side makes the other's import longer.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["LIBRARIES", "register", "ticks"]

LIBRARIES: Final = {
    "pandas": ("api.extensions.register_dataframe_accessor",),
    "polars": ("api.register_dataframe_namespace", "api.register_lazyframe_namespace"),
    "xarray": ("register_dataset_accessor",),
}
"""The functions that take an accessor, by library."""

_registered: Final[set[str]] = set()


def ticks(frame: Any) -> Any:
    """What ``.ticks`` of a frame is: :class:`ibticks.accessors.Ticks` of it.

    Examples
    --------
    >>> import polars as pl
    >>> ticks(pl.DataFrame({"bid_price": [1.0], "ask_price": [2.0]})).mid()["mid"].item()
    1.5
    """
    return import_module("ibticks.accessors._accessor").Ticks(frame)


def register() -> None:
    """Give the frames of each library their ``.ticks``, now or once it is imported."""
    waiting = []
    for name in LIBRARIES.keys() - _registered:
        if _ready(name):
            _tell(sys.modules[name])
        else:
            waiting.append(name)
    _registered.update(LIBRARIES)
    if waiting:
        sys.meta_path.insert(0, _AfterImport(waiting))


def _ready(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    # One that is being imported further up is not complete.
    return spec is not None and not getattr(spec, "_initializing", False)


def _tell(library: ModuleType) -> None:
    for path in LIBRARIES[library.__name__]:
        register_as: Any = library
        for name in path.split("."):
            register_as = getattr(register_as, name)
        register_as("ticks")(ticks)


class _AfterImport(MetaPathFinder):
    """Finds nothing itself: it has the loader that others find do one thing more at its end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((each for each in found if each is not None), None)
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
                _tell(module)

        loader.exec_module = exec_module
