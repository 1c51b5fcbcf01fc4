"""Captures to be killed: a script of ``tests.forking``.

Each reports every tick that its recorder has written, by an unbuffered write to a file, which
survives a kill. Their clock runs fast, so that hours end, and files are sealed, all the time.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

import ibticks as ibt
from ibticks.capture import Recorder
from ibticks.capture import _capture as capture_module
from ibticks.capture import _recorder as recorder_module
from ibticks.format import TickEncoder
from ibticks.index import FileRecord, MemoryIndex
from ibticks.storage import StreamAppender, seal_files

sys.path.insert(0, str(Path(__file__).parents[2]))  # as a script it is in no package
from tests.forking import serve

FAST = 7200  # two hours a second
TICK = struct.Struct("<Bd")
TICK_TYPES = ("bid_ask", "last", "mid_point")

_real = time.time_ns


class SealedHere:
    """Seals in this process, since another one would take longer to start than these live."""

    def __call__(self, root: Any, keys: Any) -> list[FileRecord]:
        return seal_files(root, keys)

    def stop_if_idle(self, idle_seconds: Any) -> None:
        pass

    def close(self) -> None:
        pass


def prepare(folder: str) -> None:
    """Load every module that a forked process needs."""
    with StreamAppender(Path(folder), 1, "last", MemoryIndex()) as appender:
        now = _real()
        appender.append_frames(TickEncoder(1, "last", "").trade(now, 1, 1, "", (), 1, 1), now)


def report(recorder: type[Recorder], descriptor: int) -> None:
    """Write every tick to a file once its recorder has written it."""
    quote, trade, mid_point = recorder.quote, recorder.trade, recorder.mid_point

    def on_quote(self: Any, event: Any, bid: Any, *rest: Any) -> None:
        quote(self, event, bid, *rest)
        os.write(descriptor, TICK.pack(0, bid))

    def on_trade(self: Any, event: Any, price: Any, *rest: Any) -> None:
        trade(self, event, price, *rest)
        os.write(descriptor, TICK.pack(1, price))

    def on_mid_point(self: Any, event: Any, price: Any) -> None:
        mid_point(self, event, price)
        os.write(descriptor, TICK.pack(2, price))

    patched: Any = recorder
    patched.quote, patched.trade, patched.mid_point = on_quote, on_trade, on_mid_point


def run(root: str, dsn: str, port: int, tracked: str, epoch: int, report_path: str) -> None:
    """Capture until it is killed, or asked to end."""

    def fast() -> int:
        return epoch + (_real() - epoch) * FAST

    time.time_ns = recorder_module.time_ns = fast  # type: ignore[attr-defined]
    capture_module.SealProcess = SealedHere  # type: ignore[assignment, attr-defined]
    report(Recorder, os.open(report_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    with (
        ibt.open(root, dsn=dsn) as store,
        ibt.Capture(
            store, tracked, port=port, same_contract_seconds=0, reconnect_delay=0.02, fsync=0.1
        ) as capture,
    ):
        while not signals:
            time.sleep(0.005)
    assert list(capture.failures) == [], capture.failures


if __name__ == "__main__":
    prepare(sys.argv[1])
    serve({"run": run})
