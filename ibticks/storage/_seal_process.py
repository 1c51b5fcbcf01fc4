"""Sealing in another process, so that the one that captures needs no compiler and stays small.

The process is started when there is something to seal or to compress, and ended by whoever knows
that there will be nothing for a while. The two speak JSON, a line each way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import StorageError
from ibticks.index import Block, FileRecord
from ibticks.storage._layout import FileKey

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SealerApart"]

_ANSWER_SECONDS: Final = 600.0
"""Longest wait for an answer; a process that gives none, e.g. a stopped one, is killed."""


class SealerApart:
    """A :data:`~ibticks.storage.Sealer` that works in a process of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._worked_at = 0.0

    def __call__(self, root: Path, keys: Sequence[FileKey]) -> list[FileRecord]:
        """Recover and seal files.

        Raises
        ------
        StorageError
            If the other process failed; what it said is on the standard error.
        """
        if not keys:
            return []
        return self._have_done("sealed", root, keys)

    def compress(self, root: Path, key: FileKey, compression: str) -> FileRecord:
        """Compress a sealed file; see :func:`ibticks.storage.compress_file`.

        Raises
        ------
        StorageError
            If the other process failed; the file is as it was.
        """
        (record,) = self._have_done("compressed", root, [key], compression=compression)
        return record

    def _have_done(
        self, what: str, root: Path, keys: Sequence[FileKey], **how: str
    ) -> list[FileRecord]:
        asked = json.dumps({"root": str(root), "paths": [key.path for key in keys], **how})
        with self._lock:
            # Once more with a fresh one: whoever ends a service may have ended this, too.
            line = self._ask(asked) or self._ask(asked)
            self._worked_at = time.monotonic()
        answer: dict[str, Any] = json.loads(line or '{"error": "the process ended"}')
        if "error" in answer:
            raise StorageError(f"files of {root} could not be {what}: {answer['error']}")
        return [
            FileRecord(**{**said, "blocks": tuple(Block(**block) for block in said["blocks"])})
            for said in answer["records"]
        ]

    def _ask(self, asked: str) -> str:
        """The answer, or nothing if the process has ended or was killed for giving none."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        limit = threading.Timer(_ANSWER_SECONDS, process.kill)
        limit.daemon = True
        limit.start()
        try:
            process.stdin.write(asked + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            limit.cancel()
        if not line.endswith("\n"):
            # Killed before, or while it answered.
            self._end()
            return ""
        return line

    def _start(self) -> subprocess.Popen[str]:
        try:
            # A session of its own: a Ctrl-C in the terminal is for the capture, which then seals.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ibticks.storage._seal_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise StorageError(f"no process that seals files can be started: {error}") from error
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()

    def rest(self, idle_seconds: float) -> None:
        """End the process if it has had no work for so long."""
        if self._process is not None and time.monotonic() - self._worked_at >= idle_seconds:
            self.close()

    def close(self) -> None:
        """End the process, if it runs; the next work starts it again."""
        with self._lock:
            self._end()


def _serve() -> None:
    """Answer one line of JSON with one, until there are no more."""
    from ibticks.storage._compress import compress_file
    from ibticks.storage._sealing import seal_files

    # It ends with its work, when nobody can ask for more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asking = os.getppid()

    def is_asked() -> bool:
        """False if who asks was killed: its locks went with it, the files may be another's now."""
        return os.getppid() == asking

    for line in sys.stdin:
        asked = json.loads(line)
        root, compression = Path(asked["root"]), asked.get("compression")
        keys = [key for key in map(FileKey.parse, asked["paths"]) if key is not None]
        records: list[dict[str, Any]] = []
        answer: dict[str, Any] = {"records": records}
        try:
            for key in keys:
                if not is_asked():
                    return
                if compression is None:
                    records += map(asdict, seal_files(root, [key]))
                else:
                    records.append(asdict(compress_file(root, key, compression, is_ours=is_asked)))
        except Exception as error:  # whatever it is, the asking process has to know
            answer = {"error": repr(error)}
        try:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # It was killed meanwhile. What could not be said is not to be said at exit, either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return


if __name__ == "__main__":
    _serve()
