"""Services and writers to be killed: a script of ``tests.forking``."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from random import Random

import ibticks as ibt
from ibticks.format import TickEncoder
from ibticks.index import MemoryIndex
from ibticks.service import Service
from ibticks.storage import StreamAppender

sys.path.insert(0, str(Path(__file__).parents[2]))  # as a script it is in no package
from tests.forking import serve
from tests.service.feed import CONTRACT, TICK_TYPES, Feed


def prepare(folder: str) -> None:
    """Load every module that a forked process needs."""
    with StreamAppender(Path(folder), 1, "last", MemoryIndex()) as appender:
        now = 1_736_517_600 * 10**9
        appender.append_frames(TickEncoder(1, "last", "").trade(now, 1, 1, "", (), 1, 1), now)


def run_service(root: str, dsn: str, port: int) -> None:
    """Serve a store until killed."""
    with ibt.open(root, dsn=dsn) as store, Service(store, port=port):
        threading.Event().wait()


def run_writer(root: str, dsn: str, seed: int, total: int) -> None:
    """Write ticks until so many are stored, from the last stored one on, or until killed."""
    with ibt.open(root, dsn=dsn) as store:
        feed = Feed(store)
        for tick_type in TICK_TYPES:
            with store.live(CONTRACT, tick_type, "1h", columns="sequence") as live:
                feed.written[tick_type] = live.read().height
        feed.start(Random(seed), total)
        feed.join()
        feed.close()


if __name__ == "__main__":
    prepare(sys.argv[1])
    serve({"run_service": run_service, "run_writer": run_writer})
