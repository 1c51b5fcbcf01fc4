"""Writer processes that are killed, and reader processes that begin, at random moments."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.storage import StreamWriter
from ibticks.storage._hour_file import cut_torn_tail
from tests.forking import Children
from tests.storage.samples import CONTRACT, H13

from .processes import LAST, READERS, time_of
from .simulation import STREAMS, check_read, message, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ibticks.index import MemoryIndex
    from ibticks.storage import FileKey

ROUNDS = 12
TIMEOUT_SECONDS = 60.0
MAX_WRITE = 60  # ticks that are written at a time


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    served = Children(Path(__file__).with_name("processes.py"))
    yield served
    served.close()


def test_kills_and_restarts_of_writers_under_readers(
    root: Path, tmp_path: Path, index: MemoryIndex, children: Children
) -> None:
    choose = random.Random(2013)
    readers: list[tuple[int, Path, int | None, int]] = []
    number, accepted = 0, set()
    for round_number in range(ROUNDS):
        written = tmp_path / f"writer{round_number}"
        written.touch()
        writer = children.start(
            "write",
            root=root,
            report=written,
            first=number,
            count=4000,
            seed=round_number,
        )
        until(written.read_text)
        if round_number % 2 == 0:
            start = choose.choice([H13, time_of(number) - choose.randrange(3 * HOUR_NS), None])
            report = tmp_path / f"reader{round_number}"
            report.touch()
            arguments = {
                "start_ns": start,
                "consumer": list(READERS)[round_number // 2 % len(READERS)],
            }
            pid = children.start("read", root=root, report=report, **arguments)
            if start is None:
                until(report.read_text)  # what is written from here on has to come
            readers.append((pid, report, start, max(accepted_ticks(written)) + MAX_WRITE))
        time.sleep(choose.uniform(0, 0.05))
        children.kill(writer)
        accepted |= accepted_ticks(written)
        stored_ticks = whole_ticks(root)
        assert accepted <= stored_ticks
        number = max(stored_ticks) + 1
    assert len(accepted) > 20 * ROUNDS
    for _, tick_type in STREAMS:
        with StreamWriter(root, CONTRACT, tick_type, index, fsync=None) as appender:
            appender.append(message(tick_type, time_of(number), number))
            number += 1

    # A reader lists its streams at different moments: the last tick of one may be stored before,
    # and an earlier one of the other after. So the tick at which readers end is written only when
    # all others have come.
    files = stored(root)
    for _, report, start, opened in readers:
        expected = numbers(stored(root, start)) if start is not None else numbers(files)
        wanted = {n for n in expected if start is not None or n > opened}
        until(lambda wanted=wanted, report=report: wanted <= set(read_by(report)))
    with StreamWriter(root, CONTRACT, STREAMS[-1][1], index, fsync=None) as appender:
        appender.append(message(STREAMS[-1][1], time_of(number) + HOUR_NS, LAST))

    files = stored(root)
    for pid, report, start, opened in readers:
        assert children.wait(pid) == 0, report.read_text()[-500:]
        read = read_by(report)
        assert read[-1] == LAST
        if start is not None:
            check_read(read, stored(root, start))
            continue
        # Of each file, every tick after the one that was the last when the reader opened.
        came = set(read)
        check_read(read, files, without=numbers(files) - came)
        for ticks in files.values():
            is_read = [number in came for number in ticks]
            assert is_read == sorted(is_read)
        assert {n for n in numbers(files) if n > opened} <= came


def whole_ticks(root: Path) -> set[int]:
    """Numbers of the ticks in the whole frames of a killed writer."""
    for path in root.rglob("*_ticks.pb"):
        cut_torn_tail(path)
    return numbers(stored(root))


def numbers(files: Mapping[FileKey, list[int]]) -> set[int]:
    """Numbers of the ticks in some files."""
    return {number for ticks in files.values() for number in ticks}


def read_by(report: Path) -> list[int]:
    """Numbers of the ticks that a reader has read so far, in its order."""
    lines = report.read_text().rpartition("\n")[0].split()
    return [int(line) for line in lines if line != "open"]


def accepted_ticks(report: Path) -> set[int]:
    counts = [tuple(map(int, line.split())) for line in report.read_text().splitlines()]
    return {number for first, count in counts for number in range(first, first + count)}


def until(condition: Callable[..., str] | Callable[..., Any]) -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.001)
