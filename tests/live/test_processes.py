"""Writers in other processes, killed at any moment; readers in others, that begin at any moment."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ibticks.storage.layout import HOUR
from ibticks.storage.recovery import cut_torn_tail
from ibticks.storage.writer import StreamWriter
from tests.forking import Children
from tests.storage.samples import CONTRACT, H13

from .children import LAST, READERS, time_of
from .worlds import STREAMS, check_read, message, stored

ROUNDS = 12
PATIENCE = 60.0
MANY = 60  # ticks that may be written at a time


@pytest.fixture(scope="module")
def children():
    served = Children(Path(__file__).with_name("children.py"))
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
            if kind == STREAMS[-1][1]:
                writer.append(message(kind, time_of(number) + HOUR, LAST))

    for pid, report, start, opened in readers:
        assert children.wait(pid) == 0, report.read_text()[-500:]
        read = [int(line) for line in report.read_text().split() if line != "open"]
        assert read[-1] == LAST
        if start is not None:
            check_read(read, stored(root, start))
            continue
        # Of each file, everything from some tick on: the one where it was when it was opened.
        files = stored(root)
        came = set(read)
        check_read(read, files, without={n for ticks in files.values() for n in ticks} - came)
        for ticks in files.values():
            is_read = [each in came for each in ticks]
            assert is_read == sorted(is_read)
        assert {n for ticks in files.values() for n in ticks if n > opened} <= came


def whole(root: Path) -> set[int]:
    """What is whole in the files of a writer that was killed."""
    for path in root.rglob("*_ticks.pb"):
        cut_torn_tail(path)
    return {number for ticks in stored(root).values() for number in ticks}


def sure(report: Path) -> set[int]:
    said = [tuple(map(int, line.split())) for line in report.read_text().splitlines()]
    return {each for first, count in said for each in range(first, first + count)}


def until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.001)
