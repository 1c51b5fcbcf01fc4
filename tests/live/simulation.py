"""A small store that is written to in every way, and what its files really hold."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ibticks.index import MemoryIndex
from ibticks.live import Batch, Live
from ibticks.schema import TickColumns, Values
from ibticks.storage import HOUR, FileKey, StreamWriter, compress_file, list_files
from tests.storage.samples import CONTRACT, H13, SECOND, read_plainly, time_of

if TYPE_CHECKING:
    from collections.abc import Set

STREAMS = ((CONTRACT, "bid_ask"), (CONTRACT, "last"))
COLUMNS = ("timestamp", "contract_id", "tick_type", "price", "bid_price", "sequence")
_PRICES = {"bid_ask": "bid_price", "last": "price"}


def columns(kind: str, times: list[int], first: int) -> TickColumns:
    """Ticks at these times, numbered from ``first``; the price is the number."""
    number = np.arange(first, first + len(times))
    return TickColumns(
        len(times),
        {
            "timestamp": Values(np.array(times, dtype=np.int64)),
            _PRICES[kind]: Values(number.astype(float)),
            "sequence": Values(number.astype(np.uint64)),
        },
    )


def message(kind: str, time_ns: int, number: int) -> dict[str, Any]:
    """The v2 message of one such tick."""
    data = {"contract_id": CONTRACT, "tick_type": kind, "sequence": number}
    data[_PRICES[kind]] = float(number)
    stamp = f"{np.datetime64(time_ns, 'ns')}Z"
    return {"type": "tick", "stream_id": "s", "timestamp": stamp, "data": data}


def info(time_ns: int) -> dict[str, Any]:
    """A message that is no tick."""
    stamp = f"{np.datetime64(time_ns, 'ns')}Z"
    return {"type": "info", "stream_id": "s", "timestamp": stamp, "data": {"status": "active"}}


def stored(root: Path, start_ns: int = 0) -> dict[FileKey, list[int]]:
    """The numbers of the ticks in each file, in their order, read plainly."""
    return {
        key: [
            found.tick_data.sequence
            for found in read_plainly(root / key.path)[1]
            if found.HasField("tick_data") and time_of(found) >= start_ns
        ]
        for key in list_files(root)
    }


def check_read(read: list[int], files: dict[FileKey, list[int]], without: Set[int] = frozenset()):
    """Each tick of the files is there, once, those of each file in its order."""
    assert len(read) == len(set(read)), "a tick came twice"
    expected = {key: [n for n in numbers if n not in without] for key, numbers in files.items()}
    home = {number: key for key, numbers in expected.items() for number in numbers}
    strangers = [number for number in read if number not in home]
    assert strangers == []
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
    assert not wrong, f"ticks came otherwise than they are stored: {wrong}"


class World:
    """Two streams that are written to by chance, but always the same chance."""

    def __init__(self, root: Path, seed: int, *, late: bool = True) -> None:
        self.root = root
        self.choose = random.Random(seed)
        self.index = MemoryIndex()
        self.now = H13 + self.choose.randrange(HOUR)
        self.number = 0
        self.late = late
        self.writers: dict[str, StreamWriter] = {}
        for _, kind in STREAMS:
            self.open(kind)

    def open(self, kind: str) -> None:
        self.writers[kind] = StreamWriter(
            self.root, CONTRACT, kind, self.index, fsync=None, split_bytes=3000, open_files=2
        )

    def step(self) -> None:
        """Something happens."""
        kind = self.choose.choice(["bid_ask", "bid_ask", "last"])
        deed = self.choose.choices(
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
        deed(kind)

    def one(self, kind: str) -> None:
        self.now += self.choose.randrange(0, 2 * SECOND)
        self.writers[kind].append(message(kind, self.now, self.number))
        self.number += 1

    def many(self, kind: str) -> None:
        count = self.choose.randrange(1, 400)
        times = sorted(self.now + self.choose.randrange(20 * SECOND) for _ in range(count))
        self.writers[kind].write(columns(kind, times, self.number))
        self.now = times[-1]
        self.number += count

    def old(self, kind: str) -> None:
        time_ns = self.now - self.choose.randrange(3 * HOUR)
        self.writers[kind].append(message(kind, time_ns, self.number))
        self.number += 1

    def other(self, kind: str) -> None:
        self.writers[kind].append(info(self.now))

    def pass_time(self, kind: str) -> None:
        self.now += self.choose.randrange(HOUR)

    def seal(self, kind: str) -> None:
        self.writers[kind].maintain(self.now + self.choose.choice([0, 2 * HOUR]))

    def compress(self, kind: str) -> None:
        sealed = [r for r in self.index.files() if r.sealed and r.tick_type == kind]
        if sealed:
            key = FileKey.parse(self.choose.choice(sealed).path)
            how = self.choose.choice(["zstd", "gzip", "snappy", "none"])
            self.index.put_files([compress_file(self.root, key, how)])

    def crash(self, kind: str) -> None:
        """As a kill leaves it: nothing sealed, and half a frame at the end of a file."""
        writer = self.writers[kind]
        for file in writer.appender._open.values():
            file.close()
            if self.choose.random() < 0.5:
                with file.path.open("ab") as torn:
                    torn.write(self.choose.choice([b"\0", b"\0\0\0\x50torn", b"\0\0\0\x50"]))
        writer.appender._open.clear()
        writer.appender._stream_lock.release()
        self.open(kind)

    def halve(self, kind: str) -> None:
        self.now += HOUR // 2

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class Reader:
    """Somebody who reads a live stream, now in this way, now in that."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.buffered = world.choose.random() < 0.8
        self.there = self.at_first = self._stored()
        start_ns = world.now - world.choose.randrange(4 * HOUR) if self.buffered else None
        self.live = Live(world.root, STREAMS, COLUMNS, start_ns)
        self.start_ns = self.live.start_ns
        self.read: list[int] = []
        self.times: list[int] = []
        self.since_open: list[tuple[int, bool]] = []

    def _stored(self) -> set[int]:
        return {number for numbers in stored(self.world.root).values() for number in numbers}

    def step(self) -> None:
        """Read a little, or all there is, or go on with another one from the same place."""
        match self.world.choose.randrange(6):
            case 0:
                if (batch := self.live._reader.take(hold=False)) is not None:
                    self._take(batch)
            case 1 | 2:
                self._read_messages(self.world.choose.randrange(1, 300))
            case 3:
                self.drain()
            case 4 if self.world.choose.random() < 0.3:
                self._resume()

    def _read_messages(self, count: int) -> None:
        messages = iter(self.live)
        while count and (found := messages.poll()) is not None:
            if found["type"] == "tick":
                self._note(found, found["metadata"]["historical"])
            count -= 1

    def _resume(self) -> None:
        self.check_history()
        position = self.live.position
        self.live.close()
        self.there = self._stored() - set(self.read)
        self.since_open = []
        self.live = Live(self.world.root, STREAMS, COLUMNS, None, resume=position)

    def drain(self) -> None:
        while (batch := self.live._reader.take(hold=False)) is not None:
            self._take(batch)

    def _take(self, batch: Batch) -> None:
        for found in batch.messages():
            self._note(found, batch.historical)

    def _note(self, found: dict[str, Any], historical: bool) -> None:
        self.read.append(found["data"]["sequence"])
        self.times.append(int(np.datetime64(found["timestamp"][:-1], "ns").astype(np.int64)))
        self.since_open.append((self.read[-1], historical))

    def check_history(self) -> None:
        """What was there when it was opened came first, and was said to have been there."""
        if self.buffered:
            said = [historical for _, historical in self.since_open]
            assert said == sorted(said, reverse=True)
            assert all(historical for number, historical in self.since_open if number in self.there)
