"""Processes for tests that kill them: run as a script, it forks one for every line it is sent.

They say what they have done by writing to a file without any buffer, so that it is there however
they end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from ibticks.errors import StoreAccessError, WriterLockedError
from ibticks.index.memory import MemoryIndex
from ibticks.storage.layout import list_files
from ibticks.storage.lock import StreamLock
from ibticks.storage.writer import StreamWriter


class Report:
    """Lines in a file, there as soon as they are said."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def say(self, line: object) -> None:
        os.write(self._descriptor, f"{line}\n".encode())


def list_as_nobody(root: str, report: str) -> None:
    """List a store as a user whom permission bits bind."""
    say = Report(report).say
    become_nobody()
    try:
        say([key.path for key in list_files(Path(root))])
    except StoreAccessError as error:
        say(error)


def lock_as_nobody(root: str, report: str) -> None:
    """Take a stream of a store that belongs to someone else."""
    say = Report(report).say
    become_nobody()
    try:
        StreamLock(Path(root), 1, "last")
    except StoreAccessError as error:
        say(f"{type(error).__name__}: {error}")


def become_nobody() -> None:
    """Permission bits bind any user but root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def hold(root: str, report: str, contract_id: int, tick_type: str) -> None:
    """Take a stream, and keep it until killed."""
    say = Report(report).say
    try:
        writer = StreamWriter(Path(root), contract_id, tick_type, MemoryIndex())
    except WriterLockedError as error:
        say(error)
        return
    say("held")
    signal.pause()
    writer.close()


TASKS = {task.__name__: task for task in (list_as_nobody, lock_as_nobody, hold)}


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer(os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                TASKS[request["task"]](**request["arguments"])
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        answer(pid)


if __name__ == "__main__":
    serve()
