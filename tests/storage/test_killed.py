"""After a kill -9 at any moment, accepted ticks are stored once, and the next writer continues."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ibticks.storage import StreamWriter, verify_files
from ibticks.storage._audit import read_all_records
from ibticks.storage._layout import list_unfinished

from .children import KeptIndex, time_of_number
from .samples import CONTRACT, load, numbers, quotes

if TYPE_CHECKING:
    from tests.forking import Children

ROUNDS = 25


def test_nothing_accepted_is_lost_or_doubled_by_kills(
    root: Path, tmp_path: Path, children: Children
) -> None:
    choose = random.Random(2013)
    remaining, accepted, first = tmp_path / "index", 0, 0
    stored: list[int] = []
    for round_ in range(ROUNDS):
        report = tmp_path / f"report{round_}"
        report.touch()
        pid = children.start(
            "capture", root=root, report=report, index=remaining, first=first, seed=round_
        )
        while not report.read_text():
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.04))
        children.kill(pid)

        details = [tuple(map(int, line.split())) for line in report.read_text().splitlines()]
        sure = {number for start, count in details for number in range(start, start + count)}
        begun = details[-1][0] + details[-1][1]
        accepted += len(sure)
        # As it lies there, and with the rows the index had at that moment.
        index = KeptIndex(remaining)
        actual = numbers(root, index)
        assert len(actual) == len(set(actual)), f"round {round_}: a tick is there twice"
        lost = (sure | set(stored)) - set(actual)
        assert not lost, f"round {round_}: {sorted(lost)[:5]} were accepted, and are lost"
        in_flight = set(actual) - sure - set(stored)
        assert in_flight <= set(range(begun, begun + 400)), f"round {round_}"
        ticks = load(root, index, ["timestamp", "sequence"])
        assert ticks["timestamp"].tolist() == [*map(time_of_number, ticks["sequence"].tolist())]
        stored, first = actual, max(actual) + 1

    assert accepted > 20 * ROUNDS
    index = KeptIndex(remaining)
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
        assert sorted(numbers(root, index)) == sorted(stored)
        writer.write(quotes([time_of_number(first)], first))
    assert sorted(numbers(root, index)) == sorted([*stored, first])
    assert {r.path: r for r in index.files()} == {r.path: r for r in read_all_records(root)}
    assert not any(finding.problem for finding in verify_files(root, index))
    assert list(list_unfinished(root, CONTRACT, "bid_ask")) == []
