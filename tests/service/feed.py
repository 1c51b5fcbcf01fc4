"""A feed that writes numbered ticks of two streams into a store, and readers of its streams."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from ibticks.storage import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random
    from typing import Self

    from ibticks import Store

CONTRACT = 42
TICK_TYPES = ("bid_ask", "last")
_PRICES = {"bid_ask": "bid_price", "last": "price"}


class Feed:
    """Ticks of now, numbered by ``sequence`` in each stream, written by a thread if started.

    Attributes
    ----------
    written : dict of str to int
        Number of ticks of each tick type.
    """

    def __init__(self, store: Store) -> None:
        store.add_contract(CONTRACT, "FEED")
        self.written = dict.fromkeys(TICK_TYPES, 0)
        self._writers = {
            name: StreamWriter(store.root, CONTRACT, name, store.index, fsync=None)
            for name in TICK_TYPES
        }
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def write(self, tick_type: str, ticks: int = 1) -> None:
        """Write some ticks."""
        for _ in range(ticks):
            number = self.written[tick_type]
            data = {
                "contract_id": CONTRACT,
                "tick_type": tick_type,
                _PRICES[tick_type]: float(number),
                "sequence": number,
            }
            now_ns = time.time_ns()
            seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 10**9))
            self._writers[tick_type].append(
                {
                    "type": "tick",
                    "stream_id": "feed",
                    "timestamp": f"{seconds}.{now_ns % 10**9:09}Z",
                    "data": data,
                }
            )
            self.written[tick_type] += 1

    def start(self, choose: Random, ticks: int = 10**9) -> Self:
        """Write in a thread, in bursts, until stopped or all have been written."""
        self._thread = threading.Thread(target=self._run, args=(choose, ticks))
        self._thread.start()
        return self

    def join(self) -> None:
        """Wait until the thread has written all its ticks."""
        assert self._thread is not None
        self._thread.join()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """End the thread and seal the files."""
        self.stop()
        for writer in self._writers.values():
            writer.close()

    def _run(self, choose: Random, ticks: int) -> None:
        while not self._stopping.is_set() and sum(self.written.values()) < ticks:
            self.write(choose.choice(TICK_TYPES), choose.choice((1, 1, 1, 20)))
            self._stopping.wait(choose.choice((0, 0, 0.002, 0.02)))


def events(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield id and message of each server-sent event."""
    position = ""
    for line in lines:
        if line.startswith("id: "):
            position = line[4:]
        elif line.startswith("data: "):
            yield position, json.loads(line[6:])


def numbers(messages: Iterable[dict[str, Any]], tick_type: str) -> list[int]:
    """Return the numbers of the ticks of one tick type among some messages."""
    return [
        message["data"]["sequence"]
        for message in messages
        if message["type"] == "tick" and message["data"]["tick_type"] == tick_type
    ]
