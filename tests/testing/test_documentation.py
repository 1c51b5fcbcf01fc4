"""The examples of docs/testing.md, run as the tests of another package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
_EXAMPLE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.own_server
def test_the_examples_pass(tmp_path: Path) -> None:
    examples = dict(_EXAMPLE.findall(PAGE.read_text(encoding="utf-8")))
    for name, code in examples.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    # The whole contract of a store runs in tests/store; here it is enough that it is collected.
    chosen = "not TestStoreOnMyFileSystem or test_reopening"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed, (\d+) deselected", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 25
    assert int(passed[2]) > 25
    assert len(examples) == 6


def test_every_exported_contract_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("FakeCapture", "IndexContract", "StoreContract", "ibticks.testing.strategies"):
        assert name in text
