"""``demo``, from a shell, as a newcomer runs it first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Done

SAMPLE = 189_334
LOADED = {
    "first_tick": "2013-10-08T08:00:00.640Z",
    "selection": "IBM bid_ask, regular session of US on 2013-10-08",
    "rows": 62121,
    "rows_of_the_last_15_minutes": 5266,
}
CAPTURED = {
    "ticks_sent": SAMPLE,
    "ticks_captured": SAMPLE,
    "captured_equals_sent": True,
    "rows_of_the_last_5_minutes": 62875,
    "ticks": 2 * SAMPLE,
}
IMPORTED = {
    "files": 33,
    "index_rows": 33,
    "ticks": SAMPLE,
    "last_tick": "2024-08-09T00:05:04.525430833Z",
}


def complaints(done: Done) -> list[str]:
    """Return standard error without the lines of a slow start of PostgreSQL."""
    return [line for line in done.err.splitlines() if not line.startswith("waiting for PostgreSQL")]


def test_the_demo_with_json_output(shell: Callable[..., Done], clusters: Path) -> None:
    before = set(clusters.iterdir())
    done = shell("demo", "--json")
    assert (done.code, complaints(done)) == (0, [])
    about = json.loads(done.out)
    assert {name: about[name] for name in LOADED | CAPTURED} == LOADED | CAPTURED
    # Four streams were captured; more files than that only if an hour ended meanwhile.
    assert 37 <= about["files"] == about["index_rows"] <= 41
    assert about["last_tick"] > IMPORTED["last_tick"]
    assert about["index"].startswith("embedded PostgreSQL")
    assert 0 < about["seconds_to_load"] < about["seconds"]
    # Nothing is left behind: neither ticks nor a database.
    assert not Path(about["store"]).exists()
    assert set(clusters.iterdir()) == before


@pytest.fixture
def temporary_folder() -> Iterator[Path]:
    """The folder for temporary files of one test: other programs use the machine's."""
    # Short, and open to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="ibt-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def test_the_demo_with_text_output(shell: Callable[..., Done], temporary_folder: Path) -> None:
    """Without settings, it uses the folder for temporary files and cleans up there, too."""
    environment = {
        **os.environ,
        "IBTICKS_DSN": "postgresql://nobody@127.0.0.1:1/of_a_real_store",
        "TMPDIR": str(temporary_folder),
    }
    del environment["IBTICKS_PGDATA"]
    done = shell("demo", env=environment)
    assert (done.code, complaints(done)) == (0, [])
    assert "62,121" in done.out
    assert "5,266" in done.out
    assert "189,334" in done.out
    assert "2013-10-08 13:30:00" in done.out
    assert "Traceback" not in done.out
    assert list(temporary_folder.glob("ibt-*")) == []


def test_the_demo_keeps_its_store_in_a_given_folder(
    cli: Callable[..., Done], tmp_path: Path, database: str
) -> None:
    root = tmp_path / "kept"
    first = cli("demo", "--keep", root, "--dsn", database, "--json").json
    assert {name: first[name] for name in LOADED | IMPORTED} == LOADED | IMPORTED
    assert first["store"] == str(root)
    assert "ticks_captured" not in first
    again = cli("demo", "--keep", root, "--dsn", database, "--json").json
    assert {name: again[name] for name in LOADED | IMPORTED} == LOADED | IMPORTED
    assert cli("verify", "-s", root, "--dsn", database).code == 0


def test_the_demo_without_the_official_client() -> None:
    """The demo names the install command, and runs its other steps."""
    start = "import sys; sys.modules['ibapi'] = None; from ibticks.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "demo"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'ibticks[capture]'" in done.stdout
    assert "62,121" in done.stdout
