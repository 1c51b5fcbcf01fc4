"""A process that archives is killed after each of its requests: nothing is lost, nothing twice."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import ibticks as ibt
from tests.archive.conftest import HOURS, NOW

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.archive.object_server import ObjectServer, Request

CODE = """
import sys, ibticks as ibt
with ibt.open(sys.argv[1], dsn=sys.argv[2]) as store:
    store.archive("s3://ticks", now="2025-03-01T00:00:00Z", grace="1ns", progress=False)
    store.archive("s3://ticks", now="2025-03-02T00:00:00Z", grace="1ns", progress=False)
"""


def archive_until(server: ObjectServer, store: ibt.Store, dsn: str, requests: int) -> int:
    """Archive in another process, killed once it has been served some requests; its exit code."""
    served: list[Request] = []
    processes: list[subprocess.Popen[bytes]] = []

    def count(request: Request) -> None:
        served.append(request)
        if len(served) > requests:
            processes[0].kill()

    server.after = count
    processes.append(subprocess.Popen([sys.executable, "-c", CODE, str(store.root), dsn]))
    status = processes[0].wait()
    server.after = lambda _: None
    return status


def test_a_kill_after_any_request(
    ticks: ibt.Store,
    database: str,
    faulty: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IBTICKS_ARCHIVE_CACHE", str(tmp_path / "cache"))
    before = {path: (ticks.root / path).read_bytes() for path in HOURS}
    loaded = ticks.select(265598, "last").to_polars()
    kills = 0
    while archive_until(faulty, ticks, database, kills) != 0:
        kills += 1
        for path, data in before.items():
            place = ticks.root / path
            copies = [copy for key, copy in faulty.objects.items() if key.startswith(path)]
            assert copies in ([], [data])  # never twice
            assert place.read_bytes() == data if place.exists() else copies == [data]
        ticks.clear_cache()
        assert ticks.select(265598, "last").to_polars().equals(loaded)
    assert kills > 3
    assert not any((ticks.root / path).exists() for path in HOURS)
    assert [copy.path for copy in ticks.index.archived()] == HOURS
    assert not ticks.verify().problems
    with ibt.open("s3://ticks") as archive:
        assert archive.select(265598, "last").to_polars().equals(loaded)
    assert ticks.archive("s3://ticks", now=NOW).copied == []
