"""Random simulation of writers and readers of a small store, and the real contents of its files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks.config import HOUR_NS
from ibticks.index import MemoryIndex
from ibticks.live import Batch, Live
from ibticks.schema import TickColumns, Values
from ibticks.storage import FileKey, StreamWriter, compress_file, list_files
from tests.storage.samples import CONTRACT, H13, SECOND, read_plainly, time_of

if TYPE_CHECKING:
    from collections.abc import Set

STREAMS = ((CONTRACT, "bid_ask"), (CONTRACT, "last"))
COLUMNS = ("timestamp", "contract_id", "tick_type", "price", "bid_price", "sequence")
_PRICES = {"bid_ask": "bid_price", "last": "price"}


def columns(tick_type: str, times: list[int], first: int) -> TickColumns:
    """Ticks at these times, numbered from ``first``; the price is the number."""
    number = np.arange(first, first + len(times))
    return TickColumns(
        len(times),
        {
            "timestamp": Values(np.array(times, dtype=np.int64)),
            _PRICES[tick_type]: Values(number.astype(float)),
            "sequence": Values(number.astype(np.uint64)),
        },
    )


def message(tick_type: str, time_ns: int, number: int) -> dict[str, Any]:
    """The v2 message of such a tick."""
    data = {"contract_id": CONTRACT, "tick_type": tick_type, "sequence": number}
    data[_PRICES[tick_type]] = float(number)
    stamp = f"{np.datetime64(time_ns, 'ns')}Z"
    return {"type": "tick", "stream_id": "s", "timestamp": stamp, "data": data}


def info(time_ns: int) -> dict[str, Any]:
    """A message without a tick."""
    stamp = f"{np.datetime64(time_ns, 'ns')}Z"
    return {"type": "info", "stream_id": "s", "timestamp": stamp, "data": {"status": "active"}}


def stored(root: Path, start_ns: int = 0) -> dict[FileKey, list[int]]:
    """Numbers of the ticks in each file, in their order, read without the library."""
    return {
        key: [
            message_.tick_data.sequence
            for message_ in read_plainly(root / key.path)[1]
            if message_.HasField("tick_data") and time_of(message_) >= start_ns
        ]
        for key in list_files(root)
    }


def check_read(
    read: list[int], files: dict[FileKey, list[int]], without: Set[int] = frozenset()
) -> None:
    """Check that each tick of the files came once, those of each file in its order."""
    assert len(read) == len(set(read)), "a tick came twice"
    expected = {key: [n for n in numbers if n not in without] for key, numbers in files.items()}
    home = {number: key for key, numbers in expected.items() for number in numbers}
    unexpected = [number for number in read if number not in home]
    assert unexpected == []
    came: dict[FileKey, list[int]] = {key: [] for key in expected}
    for number in read:
        came[home[number]].append(number)
    wrong = {
        key.path: {
            "never came": sorted(set(expected[key]) - set(came[key])),
            "came": came[key][-20:],
        }
        for key in expected
        if came[key] != expected[key]
    }
    assert not wrong, f"ticks came in another order than they are stored, or not: {wrong}"


class Simulation:
    """Two streams that a seeded random generator writes to."""

    def __init__(self, root: Path, seed: int, *, late: bool = True) -> None:
        self.root = root
        self.choose = random.Random(seed)
        self.index = MemoryIndex()
        self.now = H13 + self.choose.randrange(HOUR_NS)
        self.number = 0
        self.late = late
        self.writers: dict[str, StreamWriter] = {}
        for _, tick_type in STREAMS:
            self.open(tick_type)

    def open(self, tick_type: str) -> None:
        self.writers[tick_type] = StreamWriter(
            self.root, CONTRACT, tick_type, self.index, fsync=None, split_bytes=3000, open_files=2
        )

    def step(self) -> None:
        """Perform a random action of a writer."""
        tick_type = self.choose.choice(["bid_ask", "bid_ask", "last"])
        action = self.choose.choices(
            [
                self.one,
                self.many,
                self.old,
                self.other,
                self.pass_time,
                self.seal,
                self.compress,
                self.crash,
                self.halve,
            ],
            [30, 8, 6 if self.late else 0, 3, 4, 4, 4, 2, 1],
        )[0]
        action(tick_type)

    def one(self, tick_type: str) -> None:
        self.now += self.choose.randrange(0, 2 * SECOND)
        self.writers[tick_type].append(message(tick_type, self.now, self.number))
        self.number += 1

    def many(self, tick_type: str) -> None:
        count = self.choose.randrange(1, 400)
        times = sorted(self.now + self.choose.randrange(20 * SECOND) for _ in range(count))
        self.writers[tick_type].write(columns(tick_type, times, self.number))
        self.now = times[-1]
        self.number += count

    def old(self, tick_type: str) -> None:
        time_ns = self.now - self.choose.randrange(3 * HOUR_NS)
        self.writers[tick_type].append(message(tick_type, time_ns, self.number))
        self.number += 1

    def other(self, tick_type: str) -> None:
        self.writers[tick_type].append(info(self.now))

    def pass_time(self, tick_type: str) -> None:
        self.now += self.choose.randrange(HOUR_NS)

    def seal(self, tick_type: str) -> None:
        self.writers[tick_type].maintain(self.now + self.choose.choice([0, 2 * HOUR_NS]))

    def compress(self, tick_type: str) -> None:
        sealed = [r for r in self.index.files() if r.sealed and r.tick_type == tick_type]
        if sealed:
            key: Any = FileKey.parse(self.choose.choice(sealed).path)
            compression = self.choose.choice(["zstd", "gzip", "snappy", "none"])
            self.index.put_files([compress_file(self.root, key, compression)])

    def crash(self, tick_type: str) -> None:
        """Leave the files as a kill does: nothing sealed, and half a frame at the end of one."""
        writer = self.writers[tick_type]
        for file in writer.appender._open.values():
            file.close()
            if self.choose.random() < 0.5:
                with file.path.open("ab") as torn:
                    torn.write(self.choose.choice([b"\0", b"\0\0\0\x50torn", b"\0\0\0\x50"]))
        writer.appender._open.clear()
        writer.appender._stream_lock.release()
        self.open(tick_type)

    def halve(self, tick_type: str) -> None:
        self.now += HOUR_NS // 2

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class SimulatedReader:
    """A reader of a live stream that changes between consumers at random."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.buffered = simulation.choose.random() < 0.8
        self.stored_before = self.stored_at_first = self._stored()
        start_ns = (
            simulation.now - simulation.choose.randrange(4 * HOUR_NS) if self.buffered else None
        )
        self.live = Live(simulation.root, STREAMS, COLUMNS, start_ns)
        self.start_ns = self.live.start_ns
        self.read: list[int] = []
        self.times: list[int] = []
        self.since_open: list[tuple[int, bool]] = []

    def _stored(self) -> set[int]:
        return {number for numbers in stored(self.simulation.root).values() for number in numbers}

    def step(self) -> None:
        """Read some or all ticks, or resume with another stream from the same position."""
        match self.simulation.choose.randrange(6):
            case 0:
                if (batch := self.live._reader.take(hold=False)) is not None:
                    self._take(batch)
            case 1 | 2:
                self._read_messages(self.simulation.choose.randrange(1, 300))
            case 3:
                self.drain()
            case 4 if self.simulation.choose.random() < 0.3:
                self._resume()

    def _read_messages(self, count: int) -> None:
        messages = iter(self.live)
        while count and (item := messages.poll()) is not None:
            if item["type"] == "tick":
                self._record(item, item["metadata"]["historical"])
            count -= 1

    def _resume(self) -> None:
        self.check_history()
        position = self.live.position
        self.live.close()
        self.stored_before = self._stored() - set(self.read)
        self.since_open = []
        self.live = Live(self.simulation.root, STREAMS, COLUMNS, None, resume=position)

    def drain(self) -> None:
        while (batch := self.live._reader.take(hold=False)) is not None:
            self._take(batch)

    def _take(self, batch: Batch) -> None:
        for item in batch.messages():
            self._record(item, batch.historical)

    def _record(self, item: dict[str, Any], historical: bool) -> None:
        self.read.append(item["data"]["sequence"])
        self.times.append(int(np.datetime64(item["timestamp"][:-1], "ns").astype(np.int64)))
        self.since_open.append((self.read[-1], historical))

    def check_history(self) -> None:
        """Check that ticks stored before it was opened came first, as historical ones."""
        if self.buffered:
            flags = [historical for _, historical in self.since_open]
            assert flags == sorted(flags, reverse=True)
            assert all(
                historical for number, historical in self.since_open if number in self.stored_before
            )
