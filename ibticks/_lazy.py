"""Lazy exports: a package's public names load their modules at first use.

A package lists its names once, as plain imports under ``if TYPE_CHECKING``, where editors and type
checkers read them; :func:`lazy_exports` reads the same lines when a name is first asked for. An
import of the package itself therefore costs a docstring, and cannot be circular.
"""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Export", "lazy_exports", "read_exports"]


class Export(NamedTuple):
    """Module and attribute that a public name stands for; no attribute, for a module."""

    module: str
    attribute: str | None


def lazy_exports(
    package: str, renamed: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose names load at first use.

    Parameters
    ----------
    package : str
    renamed : mapping of str to str, optional
        Deprecated names and the names that replace them: their use raises a DeprecationWarning.

    Examples
    --------
    >>> load, _ = lazy_exports("ibticks.calendar")
    >>> load("format_ns")(0)
    '1970-01-01T00:00:00Z'
    """

    def load(name: str) -> Any:
        if renamed is not None and name in renamed:
            warnings.warn(
                f"{package}.{name} is called {package}.{renamed[name]} now",
                DeprecationWarning,
                stacklevel=2,
            )
            return getattr(sys.modules[package], renamed[name])
        export = None if name.startswith("__") else read_exports(package).get(name)
        if export is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(export.module)
        value = module if export.attribute is None else getattr(module, export.attribute)
        vars(sys.modules[package])[name] = value
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *read_exports(package)})

    return load, names


@cache
def read_exports(package: str) -> dict[str, Export]:
    """Read the imports under ``if TYPE_CHECKING`` of a package that it exports.

    Examples
    --------
    >>> read_exports("ibticks.calendar")["format_ns"]
    Export(module='ibticks.calendar._times', attribute='format_ns')
    """
    import ast  # here, since `import ibticks` does without it

    module = import_module(package)
    exported = module.__all__
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    blocks = [
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name: _export(node.module or "", alias.name, package)
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.asname or alias.name) in exported
    }


def _export(module: str, name: str, package: str) -> Export:
    if module == package:
        return Export(f"{module}.{name}", None)
    return Export(module, name)
