"""Imports of the gateway: no client library, frames when used, and no room imports it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import ibticks

ROOT = Path(ibticks.__file__).parent


def imports(path: Path) -> set[str]:
    actual = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            actual |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            actual |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return actual


def test_only_the_command_line_and_the_test_fixtures_import_the_gateway() -> None:
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0]
        if room not in ("gateway", "cli", "testing"):
            assert not any(name.startswith("ibticks.gateway") for name in imports(path)), path


def test_the_gateway_imports_no_client_library() -> None:
    for path in (ROOT / "gateway").glob("*.py"):
        assert not any(name.split(".")[0] in ("ibapi", "ib_async") for name in imports(path)), path


def test_a_gateway_is_light() -> None:
    code = (
        "import sys; from ibticks.gateway import Gateway, Replay; Gateway(Replay([], [])); "
        "heavy = {'pandas', 'polars', 'pyarrow', 'xarray', 'numba', 'psycopg', 'ibapi'}; "
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
