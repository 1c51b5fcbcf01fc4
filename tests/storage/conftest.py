"""An index in memory, writers of a small store, and a server of processes to be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ibticks.index.memory import MemoryIndex
from ibticks.storage.writer import StreamWriter

from .samples import CONTRACT, new_root


@pytest.fixture
def root():
    with new_root() as folder:
        yield folder / "ticks"


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@pytest.fixture
def writer(root, index):
    """Opens writers of the quotes; what a test leaves open is closed after it."""
    opened = []

    def open_writer(tick_type="bid_ask", **how) -> StreamWriter:
        opened.append(StreamWriter(root, CONTRACT, tick_type, index, **{"fsync": None} | how))
        return opened[-1]

    yield open_writer
    for each in opened:
        each.close()


@pytest.fixture
def open_folder():
    """A folder any user can get to, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class Children:
    """Starts processes that have everything imported, by forking one that has."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("children.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, task: str, **arguments) -> int:
        """Begin a function of ``children.py`` in a process of its own; returns its id."""
        pid = int(self._ask({"task": task, "arguments": arguments}))
        self._running.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """How a process ended: its exit code, or minus the signal that killed it."""
        self._running.discard(pid)
        return int(self._ask({"wait": pid}))

    def kill(self, pid: int) -> None:
        """Kill a process as nothing can be told beforehand."""
        os.kill(pid, signal.SIGKILL)
        assert self.wait(pid) in (-signal.SIGKILL, 0)

    def run(self, task: str, **arguments) -> None:
        """Have a function run to its end."""
        assert self.wait(self.start(task, **arguments)) == 0

    def _ask(self, request: dict[str, object]) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request, default=str) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()

    def close(self) -> None:
        for pid in list(self._running):
            self.kill(pid)  # a test that failed left it
        self._server.communicate()
        assert self._server.returncode == 0


@pytest.fixture(scope="session")
def children():
    served = Children()
    yield served
    served.close()
