"""Writers in other processes, killed at any moment; readers in others, that begin at any moment."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ibticks.storage import HOUR, StreamWriter
from ibticks.storage._recovery import cut_torn_tail
from tests.forking import Children
from tests.storage.samples import CONTRACT, H13

from .processes import LAST, READERS, time_of
from .simulation import STREAMS, check_read, message, stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibticks.storage import FileKey

ROUNDS = 12
PATIENCE = 60.0
MANY = 60  # ticks that may be written at a time


@pytest.fixture(scope="module")
def children():
    served = Children(Path(__file__).with_name("processes.py"))
    yield served
    served.close()


def test_kills_and_restarts_under_readers(root, tmp_path, index, children):
    choose = random.Random(2013)
    readers: list[tuple[int, Path, int | None, int]] = []
    number, accepted = 0, set()
    for round_ in range(ROUNDS):
        told = tmp_path / f"writer{round_}"
        told.touch()
        writer = children.start(
            "write", root=root, report=told, first=number, count=4000, seed=round_
        )
        until(told.read_text)
        if round_ % 2 == 0:
            start = choose.choice([H13, time_of(number) - choose.randrange(3 * HOUR), None])
            report = tmp_path / f"reader{round_}"
            report.touch()
            how = {"start_ns": start, "way": list(READERS)[round_ // 2 % len(READERS)]}
            pid = children.start("read", root=root, report=report, **how)
            if start is None:
                until(report.read_text)  # what is written from here on has to come
            readers.append((pid, report, start, max(sure(told)) + MANY))
        time.sleep(choose.uniform(0, 0.05))
        children.kill(writer)
        accepted |= sure(told)
        there = whole(root)
        assert accepted <= there
        number = max(there) + 1
    assert len(accepted) > 20 * ROUNDS
    for _, kind in STREAMS:
        with StreamWriter(root, CONTRACT, kind, index, fsync=None) as writer:
            writer.append(message(kind, time_of(number), number))
            number += 1

    # A reader that opens only now finds each stream as it is at another moment: the last tick of
    # one may be stored before it looks, and an earlier one of the other after. It ends when all
    # have come, and not before.
    files = stored(root)
    for _, report, start, opened in readers:
        expected = numbers(stored(root, start)) if start is not None else numbers(files)
        wanted = {n for n in expected if start is not None or n > opened}
        until(lambda wanted=wanted, report=report: wanted <= set(read_by(report)))
    with StreamWriter(root, CONTRACT, STREAMS[-1][1], index, fsync=None) as writer:
        writer.append(message(STREAMS[-1][1], time_of(number) + HOUR, LAST))

    files = stored(root)
    for pid, report, start, opened in readers:
        assert children.wait(pid) == 0, report.read_text()[-500:]
        read = read_by(report)
        assert read[-1] == LAST
        if start is not None:
            check_read(read, stored(root, start))
            continue
        # Of each file, everything from some tick on: the one where it was when it was opened.
        came = set(read)
        check_read(read, files, without=numbers(files) - came)
        for ticks in files.values():
            is_read = [each in came for each in ticks]
            assert is_read == sorted(is_read)
        assert {n for n in numbers(files) if n > opened} <= came


def whole(root: Path) -> set[int]:
    """What is whole in the files of a writer that was killed."""
    for path in root.rglob("*_ticks.pb"):
        cut_torn_tail(path)
    return numbers(stored(root))


def numbers(files: Mapping[FileKey, list[int]]) -> set[int]:
    """The numbers of the ticks in some files."""
    return {number for ticks in files.values() for number in ticks}


def read_by(report: Path) -> list[int]:
    """The numbers of the ticks that a reader has read so far, in its order."""
    lines = report.read_text().rpartition("\n")[0].split()
    return [int(line) for line in lines if line != "open"]


def sure(report: Path) -> set[int]:
    said = [tuple(map(int, line.split())) for line in report.read_text().splitlines()]
    return {each for first, count in said for each in range(first, first + count)}


def until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.001)
