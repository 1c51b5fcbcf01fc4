"""Processes for tests that kill them, forked by a server with all imports done.

A script of such functions ends with ``serve(TASKS)``; ``Children`` of that script begins them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Report:
    """Lines in a file, written unbuffered, so that they survive a kill."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def say(self, line: object) -> None:
        os.write(self._descriptor, f"{line}\n".encode())


class Children:
    """Forked processes that run functions of a script, with all imports done."""

    def __init__(self, script: str | Path, *arguments: str | Path) -> None:
        self._running: set[int] = set()
        self._server = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, task: str, **arguments: Any) -> int:
        """Run a function in a new process; return its pid."""
        pid = int(self._ask({"task": task, "arguments": arguments}))
        self._running.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """Wait for a process and return its exit code, or minus the signal that killed it."""
        self._running.discard(pid)
        return int(self._ask({"wait": pid}))

    def kill(self, pid: int) -> None:
        """Kill a process with SIGKILL."""
        os.kill(pid, signal.SIGKILL)
        assert self.wait(pid) in (-signal.SIGKILL, 0)

    def run(self, task: str, **arguments: Any) -> None:
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


def serve(tasks: Mapping[str, Callable[..., None]]) -> None:
    """Serve a ``Children``: fork for every task, and report exit codes."""
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            _answer(os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                tasks[request["task"]](**request["arguments"])
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        _answer(pid)


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
