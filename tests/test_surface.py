"""The public surface: names, errors, and the cost of an import."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import ibticks
from ibticks import errors
from ibticks.history._client import HistoryClient, HistoryOptions
from ibticks.selection._time_range import TimeRange, TimeRangeOptions
from ibticks.storage import AppenderOptions, StreamAppender

PACKAGE = Path(ibticks.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
ERRORS = [getattr(errors, name) for name in errors.__all__]


def test_public_names() -> None:
    # Constants, classes, the rest: what the linter keeps them in.
    order = sorted(ibticks.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert ibticks.__all__ == order
    assert len(set(ibticks.__all__)) == len(ibticks.__all__)
    for name in ibticks.__all__:
        assert getattr(ibticks, name) is not None
    assert set(ibticks.__all__) <= set(dir(ibticks))


def test_unknown_attributes_raise() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        _ = ibticks.opne  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "function"),
    [
        (AppenderOptions, StreamAppender),
        (HistoryOptions, HistoryClient),
        (TimeRangeOptions, TimeRange),
    ],
    ids=lambda value: value.__name__,
)
def test_options_are_optional_parameters(options: Any, function: Any) -> None:
    """A dictionary of keyword arguments has the parameters that have a default, and their types."""
    assert {name: hint.__forward_arg__ for name, hint in options.__annotations__.items()} == {
        parameter.name: parameter.annotation
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is not parameter.empty and parameter.name != "period"
    }


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_defines_all(module: Path) -> None:
    """Modules with definitions have ``__all__``, and its names exist."""
    tree = ast.parse((PACKAGE / module).read_text())
    body = [node for node in tree.body if not isinstance(node, ast.Expr)]
    defines = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    if not any(isinstance(node, defines) for node in body) or module.stem == "tick_stream_pb2":
        return
    assert ast.get_docstring(tree)
    details: Any
    (details,) = [
        node.value
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    names = [ast.literal_eval(element) for element in details.elts]
    defined = {name for node in body for name in _defined(node)}
    assert names
    assert len(set(names)) == len(names)
    assert set(names) <= defined


def _defined(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name) for alias in node.names}
        case ast.Assign():
            names = [name for target in node.targets for name in ast.walk(target)]
            return {name.id for name in names if isinstance(name, ast.Name)}
        case ast.AnnAssign():
            return {ast.unparse(node.target)}
        case ast.If():  # a lazy export is an import under TYPE_CHECKING
            return {name for part in (*node.body, *node.orelse) for name in _defined(part)}
    return set()


HEAVY = [
    *("pandas", "numpy", "polars", "pyarrow", "xarray", "dask", "numba", "llvmlite", "psycopg"),
    *("pandas_market_calendars", "pytz", "typer", "rich", "google.protobuf", "ibapi", "asyncio"),
]


@pytest.mark.parametrize(
    ("program", "free"),
    [
        ("import ibticks", HEAVY),
        ("from ibticks import errors, TICK_TYPES, __version__", HEAVY),
        ("from ibticks import Store, open", ["pandas", "polars", "pyarrow", "xarray", "typer"]),
        ("from ibticks.cli import main", HEAVY),
    ],
    ids=["ibticks", "errors", "Store", "cli"],
)
def test_an_import_is_light(program: str, free: list[str]) -> None:
    code = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(free) & set(done.stdout.split()) == set()


# -- errors ----------------------------------------------------------------------------------------


def test_every_error_derives_from_tick_error() -> None:
    assert errors.__all__ == sorted(errors.__all__)
    actual = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.TickError | Warning)
    }
    assert actual == set(errors.__all__)
    for kind in ERRORS:
        assert kind.__name__ in errors.__doc__
        assert kind.__doc__


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind: Any) -> None:
    context = {"path": "14_ticks.pb", "offset": 256, "candidates": [1, 2]}
    if issubclass(kind, Warning):
        assert pickle.loads(pickle.dumps(kind("why"))).args == ("why",)
        with pytest.warns(kind, match="why"):
            warnings.warn(kind("why"), stacklevel=1)
        return
    error = kind("why, and what to do", **context)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert str(again) == again.message == "why, and what to do"
        assert again.context == context
    assert issubclass(kind, errors.TickError)
    more = error.with_context(offset=1, line=2)
    assert type(more) is kind
    assert more.context == {**context, "offset": 1, "line": 2}
    assert error.context == context
