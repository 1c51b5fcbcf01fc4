"""Child processes that load the compiled decoder, so that their parent stays small.

:class:`SealProcess` seals and compresses files for a process that captures. :func:`iter_records`
reads the index records of many files in several processes. Parent and child exchange JSON, a line
each way; a child ends with its input.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import StorageError
from ibticks.index import Block, FileRecord
from ibticks.storage._layout import FileKey

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from concurrent.futures import Future

__all__ = ["BATCH_FILES", "MIN_FILES", "SealProcess", "count_processors", "iter_records"]

BATCH_FILES: Final = 500
"""Files read together: some MB of records."""

MIN_FILES: Final = 1_000
"""Files from which on starting other processes pays."""

_MAX_PROCESSES: Final = 8
_ANSWER_SECONDS: Final = 600.0
"""Longest wait for a seal process; one that does not answer, e.g. a stopped one, is killed."""

_log = logging.getLogger(__name__)


class _JsonProcess:
    """A child process that answers lines of JSON; started with the first question."""

    task = ""
    has_timeout = False

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def _ask(self, question: str) -> str:
        """Return the answer, or nothing if the process ended or was killed at the timeout."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        limit = None
        if self.has_timeout:
            limit = threading.Timer(_ANSWER_SECONDS, process.kill)
            limit.daemon = True
            limit.start()
        try:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            if limit is not None:
                limit.cancel()
        if not line.endswith("\n"):
            # Killed before, or while it answered.
            self._end()
            return ""
        return line

    def _start(self) -> subprocess.Popen[str]:
        # In a session apart: a Ctrl-C in the terminal is for the parent, which ends it in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ibticks.storage._worker_processes", self.task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()


class SealProcess(_JsonProcess):
    """A :data:`~ibticks.storage.Sealer` that works in another process.

    The process is started when there is something to seal or to compress, and ended by
    :meth:`stop_if_idle` or :meth:`close`; the next work starts it again. Its lock lets one thread
    ask at a time.
    """

    task = "seal"
    has_timeout = True

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._worked_at = 0.0

    def __call__(self, root: Path, keys: Sequence[FileKey]) -> list[FileRecord]:
        """Recover and seal files.

        Raises
        ------
        StorageError
            If the other process failed; its error is on the standard error.
        """
        if not keys:
            return []
        return self._request("sealed", root, keys)

    def compress(self, root: Path, key: FileKey, compression: str) -> FileRecord:
        """Compress a sealed file; see :func:`ibticks.storage.compress_file`.

        Raises
        ------
        StorageError
            If the other process failed; the file is as it was.
        """
        (record,) = self._request("compressed", root, [key], compression=compression)
        return record

    def _request(
        self, action: str, root: Path, keys: Sequence[FileKey], **options: str
    ) -> list[FileRecord]:
        question = json.dumps({"root": str(root), "paths": [key.path for key in keys], **options})
        with self._lock:
            # Once more with a fresh one: an operator who stops a service may have killed this, too.
            line = self._ask(question) or self._ask(question)
            self._worked_at = time.monotonic()
        answer: dict[str, Any] = json.loads(line or '{"error": "the process ended"}')
        if "error" in answer:
            raise StorageError(f"files of {root} could not be {action}: {answer['error']}")
        return [
            FileRecord(**{**plain, "blocks": tuple(Block(**block) for block in plain["blocks"])})
            for plain in answer["records"]
        ]

    def _start(self) -> subprocess.Popen[str]:
        try:
            return super()._start()
        except OSError as error:
            raise StorageError(f"no process that seals files can be started: {error}") from error

    def stop_if_idle(self, idle_seconds: float) -> None:
        """End the process if it has had no work for so long."""
        if self._process is not None and time.monotonic() - self._worked_at >= idle_seconds:
            self.close()

    def close(self) -> None:
        """End the process, if it runs; the next work starts it again."""
        with self._lock:
            self._end()


def iter_records(
    root: Path,
    keys: Sequence[FileKey],
    mark: Callable[[], int],
    failures: list[StorageError] | None = None,
) -> Generator[tuple[int, list[FileRecord]], None, None]:
    """Read the index records of files batch by batch; see ``read_records``.

    A thread a process hands out the batches; the parent has in memory no more than the records of
    some batches.

    Parameters
    ----------
    root : Path
    keys : sequence of FileKey
    mark : callable
        Called before each batch is read.
    failures : list, optional
        Takes the errors of files that do not exist, instead of raising them.

    Yields
    ------
    int, list of FileRecord
        Result of ``mark``, and the records of a batch; in the order of ``keys``.
    """
    batches = [keys[at : at + BATCH_FILES] for at in range(0, len(keys), BATCH_FILES)]
    processes = min(count_processors(), _MAX_PROCESSES, len(batches))
    if len(keys) < MIN_FILES:
        for batch in batches:
            marked = mark()
            yield marked, _read_here(root, batch, failures)
        return
    idle: SimpleQueue[_RecordProcess] = SimpleQueue()
    workers = [_RecordProcess() for _ in range(processes)]
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


def count_processors() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_here(
    root: Path, batch: Sequence[FileKey], failures: list[StorageError] | None
) -> list[FileRecord]:
    from ibticks.storage._audit import read_records

    return list(read_records(root, batch, failures))


class _RecordProcess(_JsonProcess):
    """A process that reads index records of files."""

    task = "records"

    def __init__(self) -> None:
        super().__init__()
        self._failed = False

    def read(
        self, root: Path, batch: Sequence[FileKey], failures: list[StorageError] | None
    ) -> list[FileRecord]:
        """Read a batch; where the process cannot start or ends, read it in this process."""
        question = json.dumps({"root": str(root), "paths": [key.path for key in batch]})
        answer = self._answer(question)
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

    def _answer(self, question: str) -> dict[str, Any] | None:
        """Return the answer of the process, or None if it cannot start, or ended."""
        if self._failed:
            return None
        try:
            line = self._ask(question)
        except OSError as error:
            _log.info("no process that reads files: %s", error)
            line = ""
        if not line:
            self._failed = True
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, if it runs."""
        self._end()


def _serve_seals() -> None:
    """Seal or compress the files of each line of JSON, and answer with their records."""
    from ibticks.storage._sealing import compress_file, seal_files

    parent = os.getppid()

    def has_parent() -> bool:
        """Return whether the parent lives; its locks went with it, another may have the files."""
        return os.getppid() == parent

    for line in sys.stdin:
        question = json.loads(line)
        root, compression = Path(question["root"]), question.get("compression")
        records: list[dict[str, Any]] = []
        answer: dict[str, Any] = {"records": records}
        try:
            for key in _keys(question):
                if not has_parent():
                    return
                if compression is None:
                    records += map(asdict, seal_files(root, [key]))
                else:
                    record = compress_file(root, key, compression, has_lock=has_parent)
                    records.append(asdict(record))
        except Exception as error:  # any: the parent has to know
            answer = {"error": repr(error)}
        try:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # The parent was killed meanwhile: no second error at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return


class _LogTexts(logging.Handler):
    """Collects the warnings of one batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect the message of a log record."""
        self.texts.append(record.getMessage())


def _serve_records() -> None:
    """Answer each line of JSON with the index records of its files."""
    logged = _LogTexts()
    logging.getLogger("ibticks").addHandler(logged)
    logging.getLogger("ibticks").propagate = False
    for line in sys.stdin:
        question = json.loads(line)
        failures: list[StorageError] = []
        records = _read_here(Path(question["root"]), _keys(question), failures)
        answer = {
            "records": [record.to_dict() for record in records],
            "failures": [error.message for error in failures],
            "warnings": logged.texts,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        logged.texts = []


def _keys(question: dict[str, Any]) -> list[FileKey]:
    return [key for key in map(FileKey.parse, question["paths"]) if key is not None]


if __name__ == "__main__":
    # It ends with its input, when the parent can ask for nothing more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    {"seal": _serve_seals, "records": _serve_records}[sys.argv[1]]()
