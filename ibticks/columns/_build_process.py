"""Write a companion in a child process, so that its parent loads no Arrow and stays small.

Parent and child exchange one JSON document each way. The child runs at the lowest priority.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks.columns._layout import CompanionKey
from ibticks.errors import StorageError
from ibticks.index import CompanionRecord, FileRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["write_companion_in_process"]

_LOWEST_PRIORITY: Final = 19
_POLL_SECONDS: Final = 0.5


def write_companion_in_process(
    root: Path,
    key: CompanionKey,
    records: Sequence[FileRecord],
    *,
    is_stopping: Callable[[], bool] = lambda: False,
) -> CompanionRecord | None:
    """Write a companion as :func:`write_companion` does, in a child process of low priority.

    Parameters
    ----------
    root, key, records
        See :func:`write_companion`.
    is_stopping : callable
        Asked at the start and then twice a second whether to end the child.

    Raises
    ------
    StorageError
        If the child fails, or is ended; an earlier companion is as it was.
    """
    question = json.dumps(
        {
            "root": str(root),
            "path": key.path,
            "records": [record.to_dict() for record in records],
        }
    )
    try:
        # In a session apart: a Ctrl-C in the terminal is for the parent.
        child = subprocess.Popen(
            [sys.executable, "-m", "ibticks.columns._build_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise StorageError(f"{key.path} could not be written: {error}", path=key.path) from error
    with child:
        out, errors = _communicate(child, question, is_stopping)
    if child.returncode != 0:
        reason = errors.strip().rpartition("\n")[2] or f"exit code {child.returncode}"
        raise StorageError(f"{key.path} could not be written: {reason}", path=key.path)
    answer = json.loads(out)
    return None if answer is None else CompanionRecord.from_dict(answer)


def _communicate(
    child: subprocess.Popen[str], question: str, is_stopping: Callable[[], bool]
) -> tuple[str, str]:
    """Return the output and the errors of a child, which is ended if this process stops."""
    rest: str | None = question
    while True:
        try:
            # Asked before the first wait, as a child of few ticks ends within it.
            if is_stopping():
                child.terminate()
            return child.communicate(rest, timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            rest = None
        except BaseException:
            child.kill()
            raise


def _main() -> None:
    from ibticks.columns._writer import write_companion

    os.nice(_LOWEST_PRIORITY)
    question = json.load(sys.stdin)
    key = CompanionKey.parse(question["path"])
    assert key is not None
    records = [FileRecord.from_dict(record) for record in question["records"]]
    companion = write_companion(Path(question["root"]), key, records)
    json.dump(None if companion is None else companion.to_dict(), sys.stdout)


if __name__ == "__main__":
    _main()
