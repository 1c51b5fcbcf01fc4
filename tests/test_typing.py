"""The types of the public surface, as the type checkers of its users see them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = Path("tests", "public_types.py")


def run(*command: str) -> str:
    process = subprocess.run(
        [sys.executable, "-m", *command, str(PAGE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stdout


def test_mypy() -> None:
    output = run("mypy", "--strict")
    assert "Success: no issues found" in output, output


def test_pyright() -> None:
    """Errors are in the lines of wrong uses, and in no other; mypy reports an unused comment."""
    report = json.loads(run("basedpyright", "--outputjson", "--level", "error"))
    problems = {
        actual["range"]["start"]["line"]: actual["message"]
        for actual in report["generalDiagnostics"]
        if Path(actual["file"]).name == PAGE.name and actual["severity"] == "error"
    }
    lines = (ROOT / PAGE).read_text().splitlines()
    wrong = {number for number, line in enumerate(lines) if "# type: ignore" in line}
    refused = {number for number, line in enumerate(lines) if number in problems}
    assert {lines[number]: problems.get(number) for number in refused ^ wrong} == {}
    assert report["summary"]["filesAnalyzed"] == 1


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_wrong_type_is_reported(checker: str, tmp_path: Path) -> None:
    """Both checkers see the types, and not ``Any``, which is compatible with all types."""
    page = tmp_path / "wrong.py"
    page.write_text("import ibticks as ibt\n\nlive: ibt.Live = ibt.open('ticks').select('AAPL')\n")
    module = {"mypy": ["mypy"], "pyright": ["basedpyright"]}[checker]
    process = subprocess.run(
        [sys.executable, "-m", *module, str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Selection" in process.stdout
    assert process.returncode == 1
