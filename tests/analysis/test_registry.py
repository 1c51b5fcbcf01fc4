"""The registry of measures against the functions that are decorated and public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from ibticks import analysis
from ibticks._lazy import read_exports
from ibticks.analysis._engine.registry import MEASURES, SECTIONS

FOLDER = Path(analysis.__file__).parent


def decorated_functions() -> dict[str, str]:
    """Return the module of each function that ``@measure`` decorates."""
    return {
        node.name: f"ibticks.analysis.{path.stem}"
        for path in FOLDER.glob("_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(value).startswith("measure(") for value in node.decorator_list)
    }


def test_every_decorated_function_is_public_and_no_other_is() -> None:
    public = {name: export.module for name, export in read_exports("ibticks.analysis").items()}
    del public["Incremental"]
    assert public == decorated_functions()


def test_every_section_has_measures() -> None:
    for name in analysis.__all__:
        getattr(analysis, name)
    assert {measure.section for measure in MEASURES.values()} == set(SECTIONS)


def test_the_package_imports_no_library() -> None:
    code = "import ibticks.analysis, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"polars", "numba", "numpy", "pandas", "pyarrow", "xarray"}
