"""Backfills to be killed: a script of ``tests.forking``.

Each kills itself (-9) at one of its steps, which it counts: a page that is asked for, frames that
are appended, before and after they are in the file, rows for the index, a file to be sealed.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import ibticks as ibt
from ibticks.format import TickEncoder
from ibticks.history import _backfill as backfill_module
from ibticks.history import _stream_filler as filling_module
from ibticks.history._client import HistoryClient
from ibticks.index import JournaledIndex, MemoryIndex
from ibticks.storage import StreamAppender, seal_files

sys.path.insert(0, str(Path(__file__).parents[2]))  # as a script it is in no package
from tests.forking import serve

_steps = count(1)


def prepare(folder: str) -> None:
    """Import and compile everything before processes are forked."""
    with StreamAppender(Path(folder), 1, "last", MemoryIndex()) as appender:
        appender.append_frames(TickEncoder(1, "last", "").trade(0, 1, 1, "", (), 1, 1), 0)


def dying(function: Any, at: int) -> Any:
    """The function, before or after which the process dies if it is the step to die at."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(_steps) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        done = function(*args, **kwargs)
        if next(_steps) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return call


def run(root: str, dsn: str, port: int, page_ticks: int, at: int, where: list[str]) -> None:
    """Backfill all there is, and die at a step."""
    with ibt.open(root, dsn=dsn) as store:
        if "page" in where:
            HistoryClient.page = dying(HistoryClient.page, at)  # type: ignore[method-assign]
        if "append" in where:
            StreamAppender.append_frames = dying(StreamAppender.append_frames, at)  # type: ignore[method-assign]
        if "index" in where:
            JournaledIndex.put_files = dying(JournaledIndex.put_files, at)  # type: ignore[method-assign]
            JournaledIndex.put_coverage = dying(JournaledIndex.put_coverage, at)  # type: ignore[method-assign]
        if "seal" in where:
            seal = dying(seal_files, at)
            backfill_module.fill_gaps.__kwdefaults__["sealer"] = seal
            filling_module.seal_abandoned.__defaults__ = (seal,)
        pacing = ibt.Pacing(
            requests=10**6, burst=10**6, identical_seconds=0, messages_per_second=1000
        )
        result = ibt.backfill(store, port=port, pacing=pacing, page_ticks=page_ticks)
    assert result.remaining == (), result


if __name__ == "__main__":
    prepare(sys.argv[1])
    serve({"run": run})
