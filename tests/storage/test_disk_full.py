"""A full disk: new ticks are refused, accepted ones stay, and writing continues later.

The scenes are in ``full_disk.py``. They are played on a small tmpfs wherever this user may mount
one (root, or a user with namespaces), and everywhere in a folder whose files may not grow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import full_disk

MOUNT = full_disk.apart()
KINDS = ["small files"] if MOUNT is None else ["small disk", "small files"]


@pytest.fixture(scope="module", params=KINDS)
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Play every scene on a disk of this kind and return its outcomes."""
    before: Any = MOUNT if request.param == "small disk" else []
    folder = tmp_path_factory.mktemp("disk")
    done = subprocess.run(
        [*before, sys.executable, Path(full_disk.__file__), request.param, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("scene", full_disk.SCENES)
def test_a_full_disk_loses_nothing_that_was_accepted(played: dict[str, str], scene: str) -> None:
    assert played[scene] == "", played[scene]
