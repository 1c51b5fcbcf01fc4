"""Processes for tests that kill them: a script that forks one for every line of input.

They say what they have done by writing to a file without any buffer, so that it is there however
they end.
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ibticks.config import HOUR_NS
from ibticks.errors import StoreAccessError, WriterLockedError
from ibticks.index import FileRecord, MemoryIndex
from ibticks.storage import (
    AppenderOptions,
    FileKey,
    Ingest,
    SealProcess,
    StreamLock,
    StreamWriter,
    compress_file,
    list_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.schema import TickColumns

sys.path.insert(0, str(Path(__file__).parents[2]))  # as a script it is in no package
from tests.forking import Report, serve
from tests.storage.samples import CONTRACT, H13, KEY, MINUTE, quote_message, quotes


def list_as_nobody(root: str, report: str) -> None:
    """List a store as a user whom permission bits bind."""
    say = Report(report).say
    become_nobody()
    try:
        say([key.path for key in list_files(Path(root))])
    except StoreAccessError as error:
        say(error)


def lock_as_nobody(root: str, report: str) -> None:
    """Take a stream of a store that belongs to someone else."""
    say = Report(report).say
    become_nobody()
    try:
        StreamLock(Path(root), 1, "last")
    except StoreAccessError as error:
        say(f"{type(error).__name__}: {error}")


class KeptIndex(MemoryIndex):
    """An index that is in a file after every change, as a database would have it."""

    def __init__(self, path: Path) -> None:
        super().__init__(pickle.loads(path.read_bytes()) if path.exists() else ())
        self._path = path

    def put_files(self, records: Iterable[FileRecord]) -> None:
        super().put_files(records)
        self._keep()

    def drop_files(self, paths: Iterable[str]) -> None:
        super().drop_files(paths)
        self._keep()

    def _keep(self) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_bytes(pickle.dumps(self.files()))
        beside.replace(self._path)


def time_of_number(number: int) -> int:
    """Six hours go by, over and over; one tick in nine is late by some hours."""
    minutes = number % 720 / 2 - (number % 9 == 0) * 110
    return H13 + int(minutes * MINUTE) + number


def capture(root: str, report: str, index: str, first: int, seed: int) -> None:
    """Append ticks of every kind in every way, saying which were accepted, until killed."""
    say = Report(report).say
    choose = random.Random(seed)
    how: AppenderOptions = {"fsync": None, "split_bytes": 3000, "open_files": 2}
    writer = StreamWriter(Path(root), CONTRACT, "bid_ask", KeptIndex(Path(index)), **how)
    number = first
    while True:
        count = choose.choice([1, 1, 1, 1, 30, 400])
        times = [time_of_number(value) for value in range(number, number + count)]
        if count == 1:
            writer.append(quote_message(times[0], number))
        else:
            writer.write(quotes(times, number))
        say(f"{number} {count}")
        number += count
        if choose.random() < 0.1:
            writer.maintain(max(times))


def write_hours(root: str, report: str, index: str, hours: int, per_hour: int) -> None:
    """Write many whole hours at once, reporting the ticks of each that is in its place."""
    say = Report(report).say
    ticks = quotes(range(H13, H13 + hours * HOUR_NS, HOUR_NS // per_hour))
    writer = StreamWriter(Path(root), CONTRACT, "bid_ask", KeptIndex(Path(index)), fsync=None)
    say("begun")
    writer.write(ticks, seal=True, on_written=say)
    signal.pause()


def in_order(root: str, report: str, index: str, seed: int) -> None:
    """Append ticks of one hour in their order, sealing and compressing it on the way, until killed.

    What the process says is how many ticks the file has at least.
    """
    say = Report(report).say
    choose, remaining, number = random.Random(seed), KeptIndex(Path(index)), 0
    writer = StreamWriter(Path(root), CONTRACT, "bid_ask", remaining, fsync=None)
    while True:
        count = choose.choice([1, 1, 1, 7, 500])
        if count == 1:
            writer.append(quote_message(H13 + number, number))
        else:
            writer.write(quotes(range(H13 + number, H13 + number + count), number))
        number += count
        say(number)
        if choose.random() < 0.1:
            writer.seal()
            if choose.random() < 0.5:
                record = compress_file(Path(root), KEY, choose.choice(["zstd", "gzip", "snappy"]))
                remaining.put_files([record])


def compress(root: str, report: str) -> None:
    """Compress a file, in one way after another, until killed."""
    say = Report(report).say
    for compression in itertools.cycle(["zstd", "gzip", "snappy", "none"]):
        compress_file(Path(root), KEY, compression)
        say(compression)


def import_quotes(root: str, report: str, count: int) -> None:
    """Import quotes by the hundred, every third of them twice; report the end."""
    say = Report(report).say
    numbers = doubled(count)
    say("begun")
    with StreamWriter(Path(root), CONTRACT, "bid_ask", MemoryIndex(), fsync=None) as writer:
        ingest = Ingest(Path(root), writer)
        for start in range(0, len(numbers), 100):
            ingest.add(numbered(numbers[start : start + 100]))
    say(f"{ingest.added} {ingest.known}")


def doubled(count: int) -> list[int]:
    """Numbers in no order at all, a third of them twice."""
    numbers = [*range(count), *range(0, count, 3)]
    random.Random(3).shuffle(numbers)
    return numbers


def numbered(numbers: list[int]) -> TickColumns:
    """The ticks with these numbers; over three hours."""
    ticks = quotes(H13 + number % 3 * HOUR_NS + number for number in range(max(numbers) + 1))
    return ticks.take(np.array(numbers))


def seal_apart(root: str, report: str, paths: list[str]) -> None:
    """Seal files in another process; print its pid first."""
    say, sealer = Report(report).say, SealProcess()
    first, *others = [key for key in map(FileKey.parse, paths) if key is not None]
    sealer(Path(root), [first])
    assert sealer._process is not None
    say(sealer._process.pid)
    sealer(Path(root), others)


def become_nobody() -> None:
    """Permission bits bind any user but root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def hold(root: str, report: str, contract_id: int, tick_type: str) -> None:
    """Lock a stream until the process is killed."""
    say = Report(report).say
    try:
        writer = StreamWriter(Path(root), contract_id, tick_type, MemoryIndex())
    except WriterLockedError as error:
        say(error)
        return
    say("held")
    signal.pause()
    writer.close()


TASKS = {
    task.__name__: task
    for task in (
        list_as_nobody,
        lock_as_nobody,
        hold,
        capture,
        write_hours,
        in_order,
        compress,
        import_quotes,
        seal_apart,
    )
}


if __name__ == "__main__":
    serve(TASKS)
