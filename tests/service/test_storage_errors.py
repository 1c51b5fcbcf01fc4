"""Clients of a capture that cannot write get an error at once, and every tick in the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ibticks.capture import read_status
from ibticks.capture._status import status_path, write_status
from tests.capture.full_disk import apart

from . import full_disk

MOUNT = apart()
KINDS = ["small files"] if MOUNT is None else ["small disk", "small files"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(kind: str, tmp_path: Path, database: str) -> None:
    before: Any = MOUNT if kind == "small disk" else []
    done = subprocess.run(
        [*before, sys.executable, "-m", full_disk.__name__, kind, tmp_path / "disk", database],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    played = json.loads(done.stdout.splitlines()[-1])
    first, problem, restored = played["messages"]
    assert first["status"] == "live_start"
    assert (problem["code"], problem["recoverable"]) == ("STORAGE_ERROR", True)
    assert problem["details"] == {"contract_id": 1, "tick_type": "bid_ask"}
    assert str(tmp_path) not in problem["message"]
    assert played["later"] == {name: problem[name] for name in played["later"]}
    assert restored["status"] == "storage_restored"
    numbers = played["numbers"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert played["lost"] == 0


def test_a_status_file_without_room(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    path = status_path(tmp_path)
    status: dict[str, Any] = {"running": False, "contracts": {}, "text": "x" * 5_000}
    write_status(tmp_path, {"enabled": True, "status": status})
    size = path.stat().st_size
    assert size % 4096 == 0
    # No other file can be made in place of the temporary one.
    (tmp_path / "metadata" / ".capture.json.new").mkdir()
    for text in ("y" * 5_100, "z"):
        write_status(tmp_path, {"enabled": True, "status": status | {"text": text}})
        assert read_status(tmp_path)["status"]["text"] == text
        assert path.stat().st_size == size
    write_status(tmp_path, {"enabled": True, "status": status | {"text": "w" * 50_000}})
    assert read_status(tmp_path)["status"]["text"] == "z"
