"""The service: figures of buffers over HTTP, for many clients at once.

Run as a script it is the process of the clients.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.report import Figure, Row, at_most
from benchmarks.ticks import CONTRACT, FIRST_HOUR_NS, TICK_TYPE, busy_hour
from ibticks.calendar import format_ns
from ibticks.config import HOUR_NS
from ibticks.schema import TickColumns, Values
from ibticks.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scene import Scene

__all__ = ["buffers"]

_CLIENTS: Final = 50
_HOURLY_TICKS: Final = 60_000
_CONTRACT: Final = CONTRACT + 60
_GOALS: Final = {1: 0.1, 24: 0.5}


def buffers(scene: Scene) -> Iterator[Row]:
    """Statistics of the last hour and the last day, whose latest hour is being written."""
    ticks = busy_hour(_HOURLY_TICKS)
    now_ns = FIRST_HOUR_NS + HOUR_NS - 1
    with scene.store.writer(_CONTRACT, TICK_TYPE, fsync=None) as writer:
        for hours_ago in range(23, -1, -1):
            writer.write(_earlier(ticks, hours_ago))
        with Service(scene.store, port=0) as service:
            for hours, goal in _GOALS.items():
                path = f"/v2/buffer/{_CONTRACT}/stats?duration={hours}h&now={format_ns(now_ns)}"
                figures = _request(service, path, hours * _HOURLY_TICKS, scene.repeat)
                what = f"buffer statistics of {hours} h of {_HOURLY_TICKS:,} ticks an hour"
                alone, together = figures
                bound = at_most(goal, absolute=True)
                yield Row(f"{what}: median of one client", Figure.seconds(alone), goal=bound)
                median = Figure(float(np.median(together)), "s", tuple(together))
                yield Row(f"{what}: median of {_CLIENTS} clients at once", median, goal=bound)


def _earlier(ticks: TickColumns, hours: int) -> TickColumns:
    """Return the ticks of an hour as those of an earlier one."""
    times = Values(ticks.timestamp - hours * HOUR_NS)
    return TickColumns(ticks.rows, {**ticks.columns, "timestamp": times})


def _request(
    service: Service, path: str, count: int, repeat: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of single requests and of many at once, by clients in another process."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.service",
            str(service.port),
            path,
            f"{count}",
            f"{repeat}",
        ],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    alone, together = json.loads(done.stdout)
    return alone, together


def _run_clients(port: int, path: str, count: int, repeat: int) -> None:
    """Request one after the other, then together, and print the seconds of each request."""
    together = threading.Barrier(_CLIENTS)

    def run(_: int) -> float:
        together.wait()
        return _seconds(port, path, count)

    _seconds(port, path, count)
    alone = [_seconds(port, path, count) for _ in range(max(repeat, 3))]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        seconds = [value for _ in range(repeat) for value in pool.map(run, range(_CLIENTS))]
    print(json.dumps([alone, seconds]))


def _seconds(port: int, path: str, count: int) -> float:
    connection = HTTPConnection("127.0.0.1", port)
    begun = time.perf_counter()
    connection.request("GET", path)
    body = json.load(connection.getresponse())
    taken = time.perf_counter() - begun
    connection.close()
    if body["message_count"] != count:
        raise AssertionError(f"{body['message_count']} ticks instead of {count}")
    return taken


if __name__ == "__main__":
    _run_clients(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
