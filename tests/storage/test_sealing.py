"""Sealing: statistics in the header and in the index row."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ibticks.config import HOUR_NS, TICK_TYPES
from ibticks.errors import CorruptFileError, StorageError
from ibticks.format import read_header
from ibticks.index import MemoryIndex
from ibticks.schema import TickColumns, Values
from ibticks.storage import FileKey, SealProcess, StreamWriter, summarise_file, verify_files
from ibticks.storage import _worker_processes as worker_processes
from ibticks.storage._audit import read_all_records
from ibticks.storage._sealing import seal_file

from .samples import (
    CONTRACT,
    H13,
    KEY,
    MINUTE,
    SECOND,
    crc32c,
    every,
    hour_of_quotes,
    message,
    new_root,
    numbers,
    quote_message,
    quotes,
    read_plainly,
    split_header,
    time_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.forking import Children


def check_sealed(root: Path, index: MemoryIndex, key: FileKey = KEY) -> None:
    """Hold a file's header and row against the file, read plainly."""
    data = (root / key.path).read_bytes()
    header, body = split_header(data)
    _, actual = read_plainly(root / key.path)
    times = [time_of(value) for value in actual]
    assert len(data) - len(body) == 256
    assert header.sealed
    assert header.version == 1
    assert header.compression == "none"
    assert (header.contract_id, header.tick_type) == (key.contract_id, key.tick_type)
    assert header.message_count == len(actual)
    assert header.start_time.ToNanoseconds() == min(times)
    assert header.end_time.ToNanoseconds() == max(times)
    assert header.body_bytes == len(body)
    assert header.crc32c == crc32c(body)
    (row,) = [record for record in index.files() if record.path == key.path]
    assert row == summarise_file(root, key).record
    assert row.sealed
    assert row.size == len(data)
    assert (row.messages, row.crc32c) == (len(actual), header.crc32c)
    assert (row.start_ns, row.end_ns) == (min(times), max(times))
    # The blocks cover the body without gap or overlap, each whole frames.
    assert [block.offset for block in row.blocks] == [
        256 + sum(block.size for block in row.blocks[:place]) for place in range(len(row.blocks))
    ]
    assert sum(block.size for block in row.blocks) == len(body)
    first = 0
    for block in row.blocks:
        inside = times[first : first + block.messages]
        assert (block.first_ns, block.min_ns, block.max_ns) == (
            inside[0],
            min(inside),
            max(inside),
        )
        assert block.raw_size == block.size
        assert block.crc32c == crc32c(data[block.offset : block.offset + block.size])
        first += block.messages
    assert first == len(actual)


def test_the_header_of_a_sealed_file_has_its_statistics(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.write(quotes([H13 + 5 * MINUTE, H13 + MINUTE, H13 + 9 * MINUTE, H13 + 2 * MINUTE]))
        opened.append(message("info", H13, {"status": "subscribed"}))
        opened.append(
            message("error", H13 + 20 * MINUTE, {"code": "1", "message": "", "recoverable": True})
        )
    check_sealed(root, index)
    (row,) = index.files()
    assert (row.ticks, row.messages) == (4, 6)
    assert (row.first_tick_ns, row.last_tick_ns) == (H13 + MINUTE, H13 + 9 * MINUTE)
    assert (row.first_sequence, row.last_sequence) == (0, 3)


def test_a_sealed_file_has_the_statistics_of_each_block(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        ticks = hour_of_quotes(30_000)
        opened.write(ticks.take(np.random.default_rng(7).permutation(30_000)))
    check_sealed(root, index)
    assert len(index.files()[0].blocks) == 3


def test_the_header_of_an_open_file_is_marked_open(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    opened = writer()
    opened.write(quotes(every(SECOND, 5)))
    header, _ = split_header((root / KEY.path).read_bytes())
    assert not header.sealed
    assert not header.HasField("crc32c")
    assert (header.message_count, header.body_bytes) == (0, 0)


def test_a_late_tick_reopens_and_seals_a_sealed_file(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    before = index.files()
    with writer() as opened:
        opened.append(quote_message(H13 + 7, 100))
        header, _ = split_header((root / KEY.path).read_bytes())
        assert not header.sealed
        assert not header.HasField("crc32c")
        assert not index.files()[0].sealed
    check_sealed(root, index)
    assert index.files() != before
    assert numbers(root, index) == list(range(101))


def test_sealing_twice_changes_nothing(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    before, data = index.files(), (root / KEY.path).read_bytes()
    assert [seal_file(root, KEY)] == before
    with writer() as opened:
        opened.seal()
    assert index.files() == before
    assert (root / KEY.path).read_bytes() == data


@pytest.mark.parametrize("lost", ["row", "sealed row"])
def test_a_file_sealed_by_a_killed_process_is_indexed_later(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex, lost: str
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    (row,) = index.files()
    index.drop_files([row.path])
    if lost == "sealed row":
        index.put_files([replace(row, sealed=False, blocks=(), messages=0, crc32c=None)])
    data = (root / KEY.path).read_bytes()
    writer()
    assert index.files() == [row]
    assert (root / KEY.path).read_bytes() == data


def test_sealed_files_are_not_read_again_by_the_next_writer(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))

    def refuse(root: Any, keys: Any) -> None:
        raise AssertionError(keys)

    writer(sealer=refuse).close()


# --- damage is never sealed over ------------------------------------------------------------------


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def price_in(path: Path) -> int:
    """Place of a byte in the middle of a price, where a flipped bit is still a message."""
    actual = read_plainly(path)[1][0]
    return path.read_bytes().index(np.float64(actual.tick_data.bid_price).tobytes()) + 3


@pytest.mark.parametrize("known", [True, False])
def test_a_sealed_file_with_a_changed_price_is_unchanged(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
    known: bool,
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    flip(root / KEY.path, price_in(root / KEY.path))
    damaged = (root / KEY.path).read_bytes()
    with pytest.raises(CorruptFileError, match="checksum"):
        seal_file(root, KEY)
    if not known:
        index.drop_files([KEY.path])
    with writer() as opened:
        for number in range(100, 110):
            opened.append(quote_message(H13 + number, number))
        opened.write(quotes(every(SECOND, 3, H13 + 40 * MINUTE), 110))
    assert (root / KEY.path).read_bytes() == damaged
    assert "damaged" in caplog.text
    half = FileKey(CONTRACT, "bid_ask", H13, "30")
    assert [t.tick_data.sequence for t in read_plainly(root / half.path)[1]] == [*range(100, 113)]
    # It has a row, so that a load finds and reports it; the row is not trusted.
    (row, _) = sorted(index.files(), key=lambda record: "-30" in record.path)
    assert (row.path, row.sealed) == (KEY.path, known)
    assert {finding.path: finding.problem for finding in verify_files(root, index)} == {
        KEY.path: "checksum",
        half.path: None,
    }


def test_a_damaged_file_is_read_once_and_not_for_every_late_tick(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 100)))
    flip(root / KEY.path, 400)
    with writer() as opened:
        for number in range(20):
            opened.append(quote_message(H13 + number, number))
            opened.append(quote_message(H13 + HOUR_NS + number, number))
    assert caplog.text.count("is damaged") == 1


def test_blocks_of_a_damaged_file_are_not_recomputed(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.write(hour_of_quotes(30_000))
    flip(root / KEY.path, price_in(root / KEY.path))
    (row,) = read_all_records(root)
    assert row.blocks == ()
    assert (row.sealed, row.messages) == (True, 30_000)


def test_a_header_of_other_software_is_padded(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 10)))
        path = root / KEY.path
        data = path.read_bytes()
        long = replace(read_header(data), writer="").to_bytes()
        header, _ = split_header(long)
        header.writer, header.padding = "something else " * 400, b""
        payload = header.SerializeToString()
        path.write_bytes(len(payload).to_bytes(4, "big") + payload + data[256:])
        assert numbers(root, index) == list(range(10))
        opened.seal()
    check_sealed(root, index)


# --- the figures of a file ------------------------------------------------------------------------

PRICES = st.one_of(
    st.none(), st.floats(0.01, 1e6), st.sampled_from([math.nan, math.inf, -1.0, 0.0, 1.7e308])
)
SIZES = st.one_of(st.none(), st.integers(0, 10**6).map(float), st.just(math.nan))
SEQUENCES = st.one_of(st.none(), st.integers(0, 2**64 - 1))


def column(values: list[Any], dtype: type[Any] | type[np.float64] = np.float64) -> Values:
    present = np.array([value is not None for value in values], dtype=np.bool_)
    return Values(np.array([0 if value is None else value for value in values], dtype), present)


def usable(value: Any) -> bool:
    return value is not None and abs(value) < 1e38


def priced(row: Any, price: str, size: str) -> bool:
    """A price that is not IB's "none": -1 or 0 with a size of 0."""
    return usable(row[price]) and not (row[price] in (-1, 0) and row[size] == 0)


@st.composite
def ticks_of_a_type(draw: Any) -> tuple[Any, Any]:
    tick_type = draw(st.sampled_from(TICK_TYPES))
    names = {
        "bid_ask": ("bid_price", "bid_size", "ask_price", "ask_size"),
        "mid_point": ("mid_price",),
    }.get(tick_type, ("price", "size"))
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "timestamp": st.integers(H13, H13 + HOUR_NS // 2 - 1),
                    "sequence": SEQUENCES,
                    **{name: SIZES if name.endswith("size") else PRICES for name in names},
                }
            ),
            min_size=1,
            max_size=20,
        )
    )
    return tick_type, rows


def ticks_of_sequences(*sequences: int | None) -> tuple[str, list[dict[str, Any]]]:
    rows = [{"timestamp": H13, "sequence": it, "price": None, "size": None} for it in sequences]
    return "last", rows


# Numbers that would be unset prices, and those that are equal to one as doubles.
@example(ticks_of_sequences(2**31 - 1))
@example(ticks_of_sequences(0, 2**31 - 1, None))
@example(ticks_of_sequences(None, 2**63 - 512))
@example(ticks_of_sequences(5, 2**63 - 1, 2**63))
@example(ticks_of_sequences(2**64 - 1, 1))
@settings(deadline=None, max_examples=50)
@given(ticks_of_a_type())
def test_the_statistics_of_a_file_are_those_of_its_ticks(drawn: Any) -> None:
    tick_type, rows = drawn
    names = [name for name in rows[0] if name not in ("timestamp", "sequence")]
    columns: dict[str, Any] = {
        "timestamp": Values(np.array([row["timestamp"] for row in rows])),
        **{name: column([row[name] for row in rows]) for name in names},
        "sequence": column([row["sequence"] for row in rows], np.uint64),
    }
    index = MemoryIndex()
    with new_root() as root:
        with StreamWriter(root, CONTRACT, tick_type, index, fsync=None) as writer:
            writer.write(TickColumns(len(rows), columns))
        assert list(read_all_records(root)) == index.files()
    (record,) = index.files()
    times = [row["timestamp"] for row in rows]
    sequences = [row["sequence"] for row in rows if row["sequence"] is not None]
    assert (record.ticks, record.messages) == (len(rows), len(rows))
    assert (record.first_tick_ns, record.last_tick_ns) == (min(times), max(times))
    assert record.first_sequence == min(sequences, default=None)
    assert record.last_sequence == max(sequences, default=None)
    if tick_type == "bid_ask":
        bids = [row["bid_price"] for row in rows if priced(row, "bid_price", "bid_size")]
        asks = [row["ask_price"] for row in rows if priced(row, "ask_price", "ask_size")]
        low, high = min(bids or asks, default=None), max(asks or bids, default=None)
        prices = [
            (row["bid_price"] + row["ask_price"]) / 2
            for row in rows
            if priced(row, "bid_price", "bid_size") and priced(row, "ask_price", "ask_size")
        ]
    else:
        if "price" in names:
            prices = [row["price"] for row in rows if priced(row, "price", "size")]
        else:
            prices = [row["mid_price"] for row in rows if usable(row["mid_price"])]
        low, high = min(prices, default=None), max(prices, default=None)
    assert (record.min_price, record.max_price) == (low, high)
    assert record.priced_ticks == len(prices)
    assert same(record.sum_price, sum(prices) if prices else None)
    if "size" in names:
        both = [row for row in rows if priced(row, "price", "size") and usable(row["size"])]
        assert same(record.volume, sum(row["size"] for row in both))
        assert same(record.notional, sum(row["price"] * row["size"] for row in both))
    else:
        assert (record.volume, record.notional) == (None, None)


def same(figure: float | None, plain: float | None) -> bool:
    if figure is None or plain is None:
        return figure is plain
    return math.isclose(figure, plain, rel_tol=1e-12, abs_tol=1e-9) or figure == plain


def test_a_file_without_ticks_has_no_statistics(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        opened.append(message("info", H13 + 9, {"status": "subscribed"}))
    check_sealed(root, index)
    (row,) = index.files()
    assert (row.messages, row.ticks, row.priced_ticks) == (1, 0, 0)
    for name in ("first_tick_ns", "first_sequence", "min_price", "sum_price", "volume"):
        assert getattr(row, name) is None


# --- sealing in another process -------------------------------------------------------------------


@pytest.fixture
def apart() -> Iterator[SealProcess]:
    sealer = SealProcess()
    yield sealer
    sealer.close()


def test_sealing_in_a_process_equals_sealing_in_this_one(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex, apart: SealProcess
) -> None:
    opened = writer(sealer=apart)
    for hour in range(3):
        opened.write(quotes(every(SECOND, 100, H13 + hour * HOUR_NS), hour * 100))
    broken = FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS)
    with (root / broken.path).open("r+b") as file:
        file.write(b"\xff" * 64)
    with pytest.raises(CorruptFileError, match=r"14_ticks\.pb"):
        opened.seal()
    check_sealed(root, index)
    check_sealed(root, index, FileKey(CONTRACT, "bid_ask", H13 + 2 * HOUR_NS))


def test_sealing_in_a_process_reports_its_error(tmp_path: Path, apart: SealProcess) -> None:
    (tmp_path / KEY.path).mkdir(parents=True)
    with pytest.raises(StorageError, match="Is a directory"):
        apart(tmp_path, [KEY])
    assert apart(tmp_path, []) == []


def test_a_process_that_was_stopped_is_replaced(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    apart: SealProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After SIGSTOP, or with a hanging disk, sealing continues in another process."""
    apart(root, [KEY])
    stopped = apart._process
    os.kill(stopped.pid, signal.SIGSTOP)
    monkeypatch.setattr(worker_processes, "_ANSWER_SECONDS", 0.2)
    started = SealProcess._start

    def start(sealer: Any) -> subprocess.Popen[str]:
        monkeypatch.setattr(worker_processes, "_ANSWER_SECONDS", 600.0)
        return started(sealer)

    monkeypatch.setattr(SealProcess, "_start", start)
    with writer(sealer=apart) as opened:
        opened.append(quote_message(H13, 0))
    check_sealed(root, index)
    assert stopped.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "answer", ["", "{", '{"records": [{"path": "8314/bid_ask', '{"records": []}']
)
def test_a_truncated_answer_is_ignored(
    root: Path, apart: SealProcess, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """The process is killed while it answers, twice."""
    program = f"input(); print({answer!r}, end='', flush=True)"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", program], **options)
    )
    with pytest.raises(StorageError, match=r"could not be sealed: the process ended"):
        apart(root, [KEY])


def runs(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        os.kill(pid, 0)
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_nothing_is_sealed_for_a_process_that_was_killed(
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    children: Children,
    tmp_path: Path,
) -> None:
    """Its locks are gone with it: another writer may have the files by now."""
    keys = [FileKey(CONTRACT, "bid_ask", H13 + hour * HOUR_NS) for hour in range(3)]
    opened = writer()
    for key in keys:
        opened.append(quote_message(key.hour_ns, 0))
    # The sealing process stands still at a file that is a pipe, until something comes out of it.
    (root / keys[1].path).unlink()
    os.mkfifo(root / keys[1].path)
    report = tmp_path / "report"
    paths = [key.path for key in keys]
    pid = children.start("seal_apart", root=root, report=report, paths=paths)
    while not report.exists() or not report.read_text():
        time.sleep(0.005)
    sealing = int(report.read_text())
    pipe = os.open(root / keys[1].path, os.O_WRONLY)
    children.kill(pid)
    os.close(pipe)
    while runs(sealing):
        time.sleep(0.005)
    assert read_plainly(root / keys[0].path)[0].sealed
    assert not read_plainly(root / keys[2].path)[0].sealed


def test_the_process_exits_quietly_when_its_pipe_is_closed(root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ibticks.storage._worker_processes", "seal"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as sealing:
        sealing.stdout.close()
        sealing.stdin.write(json.dumps({"root": str(root), "paths": []}) + "\n")
        sealing.stdin.flush()
        assert sealing.stderr.read() == ""
    assert sealing.returncode == 0


def test_appending_imports_no_numba(root: Path) -> None:
    """A process that captures stays small: sealing apart, it loads neither numba nor numpy."""
    script = f"""
import json, sys
from pathlib import Path
from ibticks.index import MemoryIndex
from ibticks.storage import StreamAppender
from ibticks.storage import SealProcess
index = MemoryIndex()
root = Path({str(root)!r})
with StreamAppender(root, {CONTRACT}, "bid_ask", index, sealer=SealProcess()) as opened:
    opened.append(json.loads({json.dumps(json.dumps(quote_message(H13, 0)))}))
assert index.files()[0].sealed
print(*sorted({{"numpy", "numba", "pandas", "polars", "pyarrow", "psycopg"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.split() == []
    assert read_plainly(root / KEY.path)[0].sealed
