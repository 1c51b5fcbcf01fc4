"""Index rows of many files, read by several processes.

Reading files through takes the compiled decoder, which is most of the memory of a process. The
workers have it; the process that opens a store or rebuilds its index stays small, and has in
memory no more than the rows of some batches. The two speak JSON, a line each way.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import StorageError
from ibticks.index import FileRecord
from ibticks.storage._layout import FileKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future


__all__ = ["BATCH_FILES", "MIN_FILES", "iter_records"]

BATCH_FILES: Final = 500
"""Files read together: some MB of rows."""

MIN_FILES: Final = 1_000
"""Files from which on starting other processes is worth its while."""

_MAX_PROCESSES: Final = 8
_log = logging.getLogger(__name__)


def iter_records(
    root: Path,
    keys: Sequence[FileKey],
    mark: Callable[[], int],
    failures: list[StorageError] | None = None,
) -> Iterator[tuple[int, list[FileRecord]]]:
    """Read files batch by batch; see ``read_records``.

    Parameters
    ----------
    root : Path
    keys : sequence of FileKey
    mark : callable
        Called before each batch is read.
    failures : list, optional
        Takes the errors of files that are not even found, instead of raising them.

    Yields
    ------
    int, list of FileRecord
        What ``mark`` returned, and the rows of a batch; in the order of ``keys``.
    """
    batches = [keys[at : at + BATCH_FILES] for at in range(0, len(keys), BATCH_FILES)]
    processes = min(_processors(), _MAX_PROCESSES, len(batches))
    if len(keys) < MIN_FILES:
        for batch in batches:
            marked = mark()
            yield marked, _read_here(root, batch, failures)
        return
    idle: SimpleQueue[_Worker] = SimpleQueue()
    workers = [_Worker() for _ in range(processes)]
    for worker in workers:
        idle.put(worker)

    def read(batch: Sequence[FileKey]) -> list[FileRecord]:
        worker = idle.get()
        try:
            return worker.read(root, batch, failures)
        finally:
            idle.put(worker)

    waiting: deque[tuple[int, Future[list[FileRecord]]]] = deque()
    pool = ThreadPoolExecutor(processes, thread_name_prefix="ibticks-records")
    try:
        for batch in batches:
            if len(waiting) > processes:
                marked, future = waiting.popleft()
                yield marked, future.result()
            waiting.append((mark(), pool.submit(read, batch)))
        for marked, future in waiting:
            yield marked, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def _processors() -> int:
    """The number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_here(
    root: Path, batch: Sequence[FileKey], failures: list[StorageError] | None
) -> list[FileRecord]:
    from ibticks.storage._audit import read_records

    return list(read_records(root, batch, failures))


class _Worker:
    """A process that reads files; started with its first batch."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._failed = False

    def read(
        self, root: Path, batch: Sequence[FileKey], failures: list[StorageError] | None
    ) -> list[FileRecord]:
        """Have a batch read; where the process cannot start or ends, read it here."""
        question = json.dumps({"root": str(root), "paths": [key.path for key in batch]})
        answer = self._ask(question)
        if answer is None:
            return _read_here(root, batch, failures)
        for text in answer["warnings"]:
            _log.warning("%s", text)
        errors = [StorageError(text) for text in answer["failures"]]
        if errors and failures is None:
            raise errors[0]
        if failures is not None:
            failures += errors
        return [FileRecord.from_dict(plain) for plain in answer["records"]]

    def _ask(self, question: str) -> dict[str, Any] | None:
        """The answer of the process, or None if it has none."""
        if self._failed:
            return None
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(question + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError as error:
            _log.info("no process that reads files: %s", error)
            line = ""
        if not line.endswith("\n"):
            self._failed = True
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ibticks.storage._scan_processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C in the terminal is for whoever started it
        )
        return self._process

    def close(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()


class _Messages(logging.Handler):
    """Collects the warnings of one batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a log record."""
        self.texts.append(record.getMessage())


def _serve() -> None:
    """Answer one line of JSON with one, until there are no more."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with its input
    messages = _Messages()
    logging.getLogger("ibticks").addHandler(messages)
    logging.getLogger("ibticks").propagate = False
    for line in sys.stdin:
        question = json.loads(line)
        keys = [key for key in map(FileKey.parse, question["paths"]) if key is not None]
        failures: list[StorageError] = []
        records = _read_here(Path(question["root"]), keys, failures)
        answer = {
            "records": [record.to_dict() for record in records],
            "failures": [error.message for error in failures],
            "warnings": messages.texts,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        messages.texts = []


if __name__ == "__main__":
    _serve()
