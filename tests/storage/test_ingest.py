"""Imports without duplicates, also after an interruption."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ibticks.config import HALF_HOUR_NS, HOUR_NS
from ibticks.errors import CorruptDataWarning, InputError, StorageFullError
from ibticks.index import MemoryIndex
from ibticks.schema import TickColumns, Values
from ibticks.storage import Ingest, StreamWriter, compress_file, verify_files
from ibticks.storage._audit import read_all_records
from ibticks.testing.strategies import messages

from .children import doubled, numbered
from .samples import (
    CONTRACT,
    H13,
    HALF,
    KEY,
    MINUTE,
    SECOND,
    every,
    fields_of,
    hour_of_quotes,
    message,
    messages_in,
    new_root,
    numbers,
    quote_message,
    quotes,
    read_plainly,
    time_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.forking import Children

# Few different ticks, in three half hours: most imports meet the same one again.
TICKS = st.lists(
    st.tuples(
        st.sampled_from([H13, H13 + 1, H13 + HALF_HOUR_NS, H13 + HOUR_NS]), st.integers(0, 2)
    ),
    max_size=25,
)


def columns(ticks: list[tuple[int, int]]) -> TickColumns:
    """Ticks by time and number; all else follows from the number."""
    number = np.array([number for _, number in ticks], dtype=np.int64)
    values = {**fields_of(number), "sequence": number.astype(np.uint64)}
    times = np.array([time_ns for time_ns, _ in ticks], dtype=np.int64)
    names = {"timestamp": times, **values}
    return TickColumns(len(ticks), {name: Values(some) for name, some in names.items()})


def stored(root: Path) -> Counter[tuple[int, int]]:
    """Count the ticks in the files with a plain reader."""
    actual: Counter[tuple[int, int]] = Counter()
    for record in read_all_records(root):
        for tick in read_plainly(root / record.path)[1]:
            actual[time_of(tick), tick.tick_data.sequence] += 1
    return actual


@settings(deadline=None, max_examples=50)
@given(
    before=TICKS,
    source=TICKS,
    pieces=st.integers(1, 30),
    split_bytes=st.sampled_from([300, 10**9]),
)
def test_an_import_adds_only_new_ticks(
    before: list[tuple[int, int]], source: list[tuple[int, int]], pieces: int, split_bytes: Any
) -> None:
    current, imported = Counter(before), Counter(source)
    index, how = MemoryIndex(), {"fsync": None, "split_bytes": split_bytes}
    with new_root() as root:
        with StreamWriter(root, CONTRACT, "bid_ask", index, **how) as writer:
            writer.write(columns(before))
        for again in (False, True):
            with StreamWriter(root, CONTRACT, "bid_ask", index, **how) as writer:
                ingest = Ingest(root, writer)
                for start in range(0, len(source), pieces):
                    ingest.add(columns(source[start : start + pieces]))
            # Of each tick as often as the one or the other has it.
            assert stored(root) == current | imported
            known = len(source) if again else (current & imported).total()
            assert (ingest.known, ingest.added) == (known, len(source) - known)
        assert not any(finding.problem for finding in verify_files(root, index))


@st.composite
def journals(draw: Any) -> tuple[Any, Any]:
    """v2 messages of all types, some of them twice; and some that are there before."""
    drawn_messages = st.builds(
        lambda kind, number, more: kind(H13 + number * 10 * MINUTE, number) | more,
        st.sampled_from([quote_message, info]),
        st.integers(0, 9),
        st.sampled_from([{}, {"metadata": {"run": "7", "b": [1], "a": None}}]),
    )
    return draw(st.lists(drawn_messages, max_size=15)), draw(st.lists(drawn_messages, max_size=15))


def info(time_ns: int, number: int) -> dict[Any, Any]:
    return message("info", time_ns, {"status": f"state {number}"})


@settings(deadline=None, max_examples=40)
@given(journals())
def test_messages_of_all_types_are_imported_once(drawn: Any) -> None:
    before, source = drawn
    current, imported = (
        Counter(json.dumps(value, sort_keys=True) for value in some) for some in drawn
    )
    index = MemoryIndex()
    with new_root() as root:
        with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
            for value in before:
                writer.append(value)
        for known in ((current & imported).total(), len(source)):
            with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None) as writer:
                ingest = Ingest(root, writer)
                ingest.add_messages(source)
            assert (ingest.known, ingest.added) == (known, len(source) - known)
            total = sum(record.messages for record in index.files())
            assert total == (current | imported).total()


def test_ticks_of_a_table_equal_those_of_messages(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    """They have the same bytes, so that it is the same import."""
    with writer() as opened:
        opened.write(quotes(every(SECOND, 50)), stream_id="s")
    with writer() as opened:
        ingest = Ingest(root, opened)
        ingest.add_messages(quote_message(H13 + n * SECOND, n) for n in range(60))
    assert (ingest.known, ingest.added) == (50, 10)
    assert numbers(root, index) == list(range(60))


@settings(deadline=None, max_examples=30)
@given(messages())
def test_the_bytes_of_a_message_do_not_depend_on_the_order_of_keys(sent: dict[str, Any]) -> None:
    data, stream = sent["data"], (CONTRACT, "last")
    if sent["type"] == "tick":
        stream = (data["contract_id"], data["tick_type"])
        assume(data["contract_id"])
    with new_root() as root, StreamWriter(root, *stream, MemoryIndex()) as writer:
        payload, _ = writer.encode(sent)
        turned = {name: _turned(part) for name, part in reversed(sent.items())}
        assert writer.encode(turned)[0] == payload


def _turned(part: Any) -> dict[Any, Any]:
    return dict(reversed(part.items())) if isinstance(part, dict) else part


IMPORT = """
import json, sys
from pathlib import Path
from ibticks.index import MemoryIndex
from ibticks.storage import Ingest
from ibticks.storage import StreamWriter
root, contract, messages = Path(sys.argv[1]), int(sys.argv[2]), json.load(sys.stdin)
with StreamWriter(root, contract, "bid_ask", MemoryIndex(), fsync=None) as writer:
    ingest = Ingest(root, writer)
    ingest.add_messages(messages)
print(ingest.added, ingest.known)
"""


def test_another_process_recognises_the_same_messages(root: Path) -> None:
    """A map has no order on the wire, and another one in every process, unless it is given one."""
    notes = {f"key {number}": number for number in range(12)}
    sent = json.dumps([quote_message(H13 + n, n) | {"metadata": notes} for n in range(20)])
    for expected in ("20 0", "0 20"):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT, root, str(CONTRACT)],
            input=sent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected


# --- broken off -----------------------------------------------------------------------------------


def test_a_killed_import_can_be_repeated(root: Path, tmp_path: Path, children: Children) -> None:
    count, choose = 9_000, random.Random(4)
    for round_ in range(10):
        report = tmp_path / f"report{round_}"
        pid = children.start("import_quotes", root=root, report=report, count=count)
        while not report.exists() or not report.read_text():
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.06))
        children.kill(pid)
        index = MemoryIndex(read_all_records(root))
        actual = Counter(numbers(root, index))
        assert actual <= Counter(doubled(count))
    children.run("import_quotes", root=root, report=tmp_path / "last", count=count)
    added, known = map(int, (tmp_path / "last").read_text().split("\n")[1].split())
    assert added + known == len(doubled(count))
    assert known >= actual.total()
    index = MemoryIndex(read_all_records(root))
    assert Counter(numbers(root, index, strict=True)) == Counter(doubled(count))
    assert not any(finding.problem for finding in verify_files(root, index))
    children.run("import_quotes", root=root, report=tmp_path / "again", count=count)
    assert (tmp_path / "again").read_text().split("\n")[1] == f"0 {len(doubled(count))}"


def test_a_failed_import_can_be_repeated(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, calls = doubled(3000), []
    opened = writer()
    append = opened.appender.append_frames

    def full(frames: Any, time_ns: Any) -> None:
        calls.append(len(frames))
        if len(calls) == 1:  # the last of the three hours, which stays open
            raise StorageFullError("no space left")
        append(frames, time_ns)

    monkeypatch.setattr(opened.appender, "append_frames", full)
    with pytest.raises(StorageFullError):
        Ingest(root, opened).add(numbered(source))
    monkeypatch.undo()
    ingest = Ingest(root, opened)
    ingest.add(numbered(source))
    assert ingest.added + ingest.known == len(source)
    opened.close()
    assert Counter(numbers(root, index)) == Counter(source)


# --- what the files are like ----------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip", "snappy"])
def test_compressed_hours_are_compared_without_reopening_them(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex, compression: str
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(20_000))
    index.put_files([compress_file(root, KEY, compression)])
    before = (root / KEY.path).read_bytes()
    with writer() as opened:
        ingest = Ingest(root, opened)
        ingest.add(hour_of_quotes(20_000))
    assert (ingest.known, ingest.added) == (20_000, 0)
    assert (root / KEY.path).read_bytes() == before
    with writer() as opened:
        ingest = Ingest(root, opened)
        ingest.add(hour_of_quotes(20_001))
    assert ingest.added > 0
    assert ingest.known + ingest.added == 20_001


def test_the_memory_of_an_import_is_bounded(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    """A repeated import of years needs bounded memory."""
    with writer() as opened:
        for hour in range(3):
            opened.write(hour_of_quotes(1000, hour * 1000, H13 + hour * HOUR_NS))
    with writer() as opened:
        ingest = Ingest(root, opened)
        for hour in range(3):
            ingest.add(hour_of_quotes(1000, hour * 1000, H13 + hour * HOUR_NS))
            stored = list(ingest._stored.values())
            assert [len(value) for value in stored] == [0] * (hour + 1)
            arrays = [
                array for value in stored for array in (value._keys.core, value._keys.details)
            ]
            assert sum(array.nbytes for array in arrays) < 1000
            assert all(array.base is None for array in arrays)
    assert ingest.known == 3000


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_importing_again_repairs_a_damaged_hour(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
    compression: str,
) -> None:
    ticks = hour_of_quotes(30_000)
    with writer() as opened:
        opened.write(ticks)
    index.put_files([compress_file(root, KEY, compression)])
    (row,) = index.files()
    block = row.blocks[1]
    data = bytearray((root / KEY.path).read_bytes())
    data[block.offset : block.offset + 100] = bytes(100)
    (root / KEY.path).write_bytes(data)
    with pytest.warns(CorruptDataWarning):
        lost = set(range(30_000)) - set(numbers(root, index))
    with writer() as opened:
        Ingest(root, opened).add(ticks)
    assert (root / KEY.path).read_bytes() == data
    assert "is damaged" in caplog.text
    assert lost <= {tick.tick_data.sequence for tick in read_plainly(root / HALF.path)[1]}
    with pytest.warns(CorruptDataWarning):
        assert set(numbers(root, index)) == set(range(30_000))


def test_an_import_into_an_hour_without_a_header_goes_beside_it(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    (root / KEY.path).write_bytes(bytes(500))
    index.drop_files([KEY.path])
    with writer() as opened:
        ingest = Ingest(root, opened)
        ingest.add(quotes(every(SECOND, 100)))
    assert (ingest.added, ingest.known) == (100, 0)
    assert "are imported again" in caplog.text
    assert len(list(messages_in((root / HALF.path).read_bytes()[256:]))) == 100


# --- what does not belong -------------------------------------------------------------------------


def test_messages_of_other_streams_are_refused_before_any_write(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    opened = writer()
    ingest = Ingest(root, opened)
    ticks = quotes([H13, H13 + 1])
    other = {"contract_id": Values(np.array([CONTRACT, 1], dtype=np.uint32))}
    with pytest.raises(InputError, match=f"contract {CONTRACT}"):
        ingest.add(TickColumns(2, ticks.columns | other))
    stranger = quote_message(H13, 0)
    stranger["data"] |= {"contract_id": 1}
    with pytest.raises(InputError, match=f"contract {CONTRACT}"):
        ingest.add_messages([stranger])
    assert (ingest.added, ingest.known) == (0, 0)
    assert list(read_all_records(root)) == []
