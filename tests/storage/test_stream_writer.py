"""Ticks in any order are written to the files of their hours, in order of arrival."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.config import HALF_HOUR_NS, HOUR_NS, TICK_TYPES
from ibticks.errors import (
    CorruptFileError,
    InputError,
    NaiveDatetimeError,
    ProtocolError,
    StorageError,
    StorageFullError,
    TimeRangeError,
    UnknownTickTypeError,
)
from ibticks.format import to_protobuf
from ibticks.format._encode import encode
from ibticks.index import FileRecord, MemoryIndex
from ibticks.schema import StringColumn, TickColumns, Values
from ibticks.storage import (
    FileKey,
    StreamWriter,
    floor_hour,
    list_files,
    read_messages,
    seal_files,
    verify_files,
)
from ibticks.storage._audit import read_all_records
from ibticks.testing.strategies import messages, ticks, timestamps

from .samples import (
    CONTRACT,
    H13,
    HALF,
    KEY,
    MINUTE,
    SECOND,
    every,
    hour_of_quotes,
    message,
    new_root,
    numbers,
    open_descriptors,
    quote_message,
    quotes,
    read_plainly,
    time_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def frame_size(time_ns: int, number: int, *, bulk: bool) -> int:
    """Bytes the tick takes in a file."""
    if bulk:
        return len(encode(quotes([time_ns], number), contract_id=CONTRACT, tick_type="bid_ask"))
    return 4 + to_protobuf(quote_message(time_ns, number)).ByteSize()


class Model:
    """The file of each tick, by the rule alone."""

    def __init__(self, split_bytes: int) -> None:
        self.split_bytes = split_bytes
        self.files: dict[FileKey, list[int]] = defaultdict(list)
        self.sizes: dict[FileKey, int] = defaultdict(lambda: 256)

    def add(self, times: list[int], first: int, *, bulk: bool) -> None:
        """Ticks of one half hour that are written at once."""
        hour = floor_hour(times[0])
        key, half = (FileKey(CONTRACT, "bid_ask", hour, part) for part in ("", "30"))
        split = half in self.files or self.sizes[key] > self.split_bytes
        if times[0] - hour >= HALF_HOUR_NS and split:
            key = half
        for number, time_ns in enumerate(times, first):
            self.files[key].append(number)
            self.sizes[key] += frame_size(time_ns, number, bulk=bulk)


# Four hours, often the same moment, often a border of a half hour.
TIMES = st.builds(
    lambda half, within: H13 + half * HALF_HOUR_NS + within,
    st.integers(0, 7),
    st.one_of(st.sampled_from([0, 1, HALF_HOUR_NS - 1]), st.integers(0, HALF_HOUR_NS - 1)),
)
STEPS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("write"), st.lists(TIMES, min_size=1, max_size=12)),
    st.tuples(st.just("append"), st.lists(TIMES, min_size=1, max_size=4)),
    st.tuples(st.sampled_from(["reopen", "seal"]), st.just([])),
)


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(STEPS, max_size=14),
    split_bytes=st.sampled_from([256, 700, 2000, 10**9]),
    open_files=st.integers(1, 4),
)
def test_ticks_in_any_order_are_found_in_the_files_of_their_hours(
    steps: list[Any], split_bytes: Any, open_files: int
) -> None:
    model, index, count, came = Model(split_bytes), MemoryIndex(), 0, []
    how = {"fsync": None, "split_bytes": split_bytes, "open_files": open_files}
    with new_root() as root:
        writer = StreamWriter(root, CONTRACT, "bid_ask", index, **how)
        for action, times in steps:
            if action == "write":
                assert writer.write(quotes(times, count)) == len(times)
                start = 0
                for stop in range(1, len(times) + 1):
                    if (
                        stop == len(times)
                        or times[stop] // HALF_HOUR_NS != times[start] // HALF_HOUR_NS
                    ):
                        model.add(times[start:stop], count + start, bulk=True)
                        start = stop
            elif action == "append":
                for number, time_ns in enumerate(times, count):
                    writer.append(quote_message(time_ns, number))
                    model.add([time_ns], number, bulk=False)
            elif action == "seal":
                writer.seal()
            else:
                writer.close()
                writer = StreamWriter(root, CONTRACT, "bid_ask", index, **how)
            came += times
            count += len(times)
            expected = [number for key in sorted(model.files) for number in model.files[key]]
            assert numbers(root, index) == expected
        writer.close()

        assert list(list_files(root)) == sorted(model.files)
        for key, expected in model.files.items():
            header, actual = read_plainly(root / key.path)
            assert [tick.tick_data.sequence for tick in actual] == expected
            assert [time_of(tick) for tick in actual] == [came[number] for number in expected]
            assert all(key.hour_ns <= time_of(tick) < key.hour_ns + HOUR_NS for tick in actual)
            assert header.sealed
            assert (root / key.path).stat().st_size == model.sizes[key]
        assert {r.path: r for r in index.files()} == {r.path: r for r in read_all_records(root)}
        assert not any(finding.problem for finding in verify_files(root, index))


def test_a_large_hour_is_split_into_two_files(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    with writer(split_bytes=4000) as first:
        first.write(quotes(every(SECOND, 60)))
        first.append(quote_message(H13 + HALF_HOUR_NS, 60))
        first.append(quote_message(H13 + HALF_HOUR_NS - 1, 61))
    assert [len(read_plainly(root / key.path)[1]) for key in (KEY, HALF)] == [61, 1]
    # A later writer with another limit respects the split, and does not change the first file.
    before = (root / KEY.path).read_bytes()
    with writer() as later:
        later.append(quote_message(H13 + HALF_HOUR_NS + 1, 62))
    assert (root / KEY.path).read_bytes() == before
    assert len(read_plainly(root / HALF.path)[1]) == 2
    # And when it has opened that for a late tick, too.
    with writer() as later:
        later.append(quote_message(H13 + 1, 63))
        later.append(quote_message(H13 + HALF_HOUR_NS + 2, 64))
    assert [len(read_plainly(root / key.path)[1]) for key in (KEY, HALF)] == [62, 3]


def test_a_large_hour_is_split_by_a_later_writer_before_it_is_opened(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    with writer() as first:
        first.write(quotes(every(SECOND, 60)))
    before = (root / KEY.path).read_bytes()
    with writer(split_bytes=4000) as later:
        later.append(quote_message(H13 + HALF_HOUR_NS, 60))
    assert (root / KEY.path).read_bytes() == before
    assert len(read_plainly(root / HALF.path)[1]) == 1


def test_ties_at_the_split_keep_their_order(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    moment = H13 + HALF_HOUR_NS
    with writer(split_bytes=1000) as opened:
        for number in range(30):
            opened.append(quote_message(moment, number))
    assert (root / HALF.path).exists()
    assert numbers(root, index) == list(range(30))
    actual = read_messages(root, index.files(), ticks=True)
    assert [value["data"]["sequence"] for _, value in actual] == list(range(30))


HOUR_14 = timestamps(datetime(2013, 10, 8, 14), datetime(2013, 10, 8, 14, 59, 59))


@st.composite
def mixed(draw: Any) -> tuple[Any, Any, Any]:
    """Messages of all four types for one stream, and places at which ticks come in bulk."""
    tick_type = draw(st.sampled_from(TICK_TYPES))
    mine = ticks(tick_type, contract_ids=st.just(CONTRACT), times=HOUR_14)
    others = st.builds(
        lambda message, moment: message | {"timestamp": moment},
        messages().filter(lambda message: message["type"] != "tick"),
        HOUR_14,
    )
    sent = draw(st.lists(st.one_of(mine, others), max_size=8))
    return tick_type, sent, draw(st.sets(st.integers(0, 7), max_size=3))


def stored(sent: Any) -> Any:
    """A message as it is stored: without IB's numbers for "none"."""
    if sent["type"] != "tick":
        return sent
    data = {
        name: value
        for name, value in sent["data"].items()
        if not (isinstance(value, float) and (abs(value) > 1e38 or value in (2147483647, 2.0**63)))
    }
    for price, size in (("bid_price", "bid_size"), ("ask_price", "ask_size")):
        if sent["data"].get(price) in (-1, 0) and (data.get(size, 0) == 0 and size in sent["data"]):
            data = {name: value for name, value in data.items() if name not in (price, size)}
    return sent | {"data": data}


@settings(deadline=None, max_examples=20)
@given(mixed())
def test_messages_of_all_types_are_read_back_unchanged(stream: Any) -> None:
    tick_type, sent, bulk = stream
    expected, index = [], MemoryIndex()
    tick = message("tick", H13 + HOUR_NS, {"contract_id": CONTRACT, "tick_type": tick_type})
    tick |= {"stream_id": "bulk", "timestamp": "2013-10-08T14:00:00.000000Z"}
    with new_root() as root:
        with StreamWriter(root, CONTRACT, tick_type, index, fsync=None) as writer:
            for place, value in enumerate(sent):
                writer.append(value)
                expected.append(stored(value))
                if place in bulk:
                    columns: dict[str, Any] = {"timestamp": Values(np.array([H13 + HOUR_NS]))}
                    writer.write(TickColumns(1, columns), stream_id="bulk")
                    expected.append(tick)
            assert [m for _, m in read_messages(root, index.files(), ticks=True)] == expected
        assert [m for _, m in read_messages(root, index.files(), ticks=True)] == expected
        choices: list[dict[str, Any]] = [{"ticks": False}, {"ticks": True, "others": False}]
        for wanted in choices:
            actual = [m for _, m in read_messages(root, index.files(), **wanted)]
            assert actual == [m for m in expected if (m["type"] == "tick") == wanted["ticks"]]


def test_a_file_is_indexed_at_its_first_message(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    opened = writer()
    assert index.files() == []
    opened.append(quote_message(H13 + MINUTE, 0))
    (row,) = index.files()
    assert (row.path, row.sealed, row.size) == (KEY.path, False, 256)
    # It may have any ticks of its hour, and is continued.
    assert index.files(start_ns=H13, end_ns=H13 + 1) == [row]
    assert index.files(start_ns=H13 + 9 * HOUR_NS) == [row]
    assert index.files(end_ns=H13) == []
    opened.append(quote_message(H13 + HOUR_NS, 1))
    assert [path.sealed for path in index.files()] == [False, False]
    opened.close()
    assert [path.sealed for path in index.files()] == [True, True]
    assert index.files(start_ns=H13 + 9 * HOUR_NS) == []


def test_files_passed_by_a_minute_are_sealed_by_upkeep(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    reported: list[Any] = []
    opened = writer(on_sealed=reported.append)
    opened.append(quote_message(H13, 0))
    opened.append(quote_message(H13 + HOUR_NS, 1))
    opened.maintain(H13 + HOUR_NS + MINUTE - 1)
    assert not any(path.sealed for path in index.files())
    opened.maintain(H13 + HOUR_NS + MINUTE)
    assert [path.sealed for path in index.files()] == [True, False]
    assert reported == index.files()[:1]
    opened.close()
    assert reported == index.files()


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_number_of_open_files_is_limited(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex, most: int
) -> None:
    before = open_descriptors(root)
    opened = writer(open_files=most)
    for hour in (*range(12), *reversed(range(12)), 3, 9, 3, 9):
        opened.append(quote_message(H13 + hour * HOUR_NS, hour))
        assert open_descriptors(root) <= before + 1 + most  # and the lock
    opened.close()
    assert open_descriptors(root) == before
    assert sorted(numbers(root, index)) == sorted([*range(12), *range(12), 3, 9, 3, 9])


def test_late_messages_leave_the_current_hour_open(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    opened = writer(open_files=2)
    opened.append(quote_message(H13 + 9 * HOUR_NS, 0))
    for hour in range(9):
        opened.append(quote_message(H13 + hour * HOUR_NS, 1))
        assert not read_plainly(root / FileKey(CONTRACT, "bid_ask", H13 + 9 * HOUR_NS).path)[
            0
        ].sealed
        assert read_plainly(root / FileKey(CONTRACT, "bid_ask", H13 + hour * HOUR_NS).path)


# --- what is refused ------------------------------------------------------------------------------


def test_a_message_of_another_stream_is_refused(
    writer: Callable[..., StreamWriter], root: Path
) -> None:
    opened = writer()
    for data in ({"contract_id": 1}, {"tick_type": "last"}):
        stranger = quote_message(H13, 0)
        stranger["data"] = {k: v for k, v in stranger["data"].items() if "_" not in k} | {
            "contract_id": CONTRACT,
            "tick_type": "bid_ask",
            **data,
        }
        with pytest.raises(InputError, match=f"bid_ask of contract {CONTRACT}"):
            opened.append(stranger)
    assert list(list_files(root)) == []


@pytest.mark.parametrize(
    "stranger",
    [
        {"contract_id": Values(np.array([CONTRACT, 1], dtype=np.uint32))},
        {"tick_type": StringColumn(np.array([0, 1], dtype=np.int32), ("bid_ask", "last"))},
        {"tick_type": StringColumn(np.array([0, -1], dtype=np.int32), ("bid_ask",))},
    ],
)
def test_ticks_of_another_stream_are_refused_before_any_is_written(
    writer: Callable[..., StreamWriter], root: Path, stranger: dict[str, Any]
) -> None:
    ticks = quotes([H13, H13 + 1])
    opened = writer()
    with pytest.raises(InputError, match=f"bid_ask of contract {CONTRACT}"):
        opened.write(TickColumns(2, ticks.columns | stranger))
    assert list(list_files(root)) == []


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"timestamp": "2013-10-08T13:00:00"}, NaiveDatetimeError),
        ({"timestamp": "1492-08-03T08:00:00Z"}, TimeRangeError),
        ({"timestamp": "2492-08-03T08:00:00Z"}, TimeRangeError),
        ({"type": "tack"}, ProtocolError),
        ({"metadata": {"long": "x" * (16 << 20)}}, InputError),
    ],
)
def test_an_invalid_message_is_refused_and_leaves_no_bytes(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    changed: dict[str, Any],
    error: Any,
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 0))
    with pytest.raises(error):
        opened.append(quote_message(H13, 1) | changed)
    opened.append(quote_message(H13, 2))
    assert numbers(root, index) == [0, 2]
    opened.close()
    assert numbers(root, index) == [0, 2]


def test_a_tick_too_large_for_a_frame_keeps_those_before_it(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    exchange = StringColumn(np.array([0, 1], dtype=np.int32), ("A", "B" * (16 << 20)))
    ticks = quotes([H13, H13 + 1])
    with writer() as opened, pytest.raises(InputError, match="tick 1 is larger"):
        opened.write(TickColumns(2, ticks.columns | {"exchange": exchange}))
    assert numbers(root, index) == [0]


@pytest.mark.parametrize(
    ("contract_id", "tick_type", "error"),
    [
        (CONTRACT, "bids", UnknownTickTypeError),
        (2**32, "last", InputError),
        (-1, "last", InputError),
    ],
)
def test_an_invalid_stream_is_refused(
    root: Path,
    index: MemoryIndex,
    contract_id: int,
    tick_type: str,
    error: type[UnknownTickTypeError] | type[InputError],
) -> None:
    with pytest.raises(error):
        StreamWriter(root, contract_id, tick_type, index)
    assert not root.exists()


def test_a_closed_writer_writes_no_more(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 0))
    opened.close()
    for write in (
        lambda: opened.append(quote_message(H13, 1)),
        lambda: opened.write(quotes([H13], 1)),
    ):
        with pytest.raises(StorageError, match="closed: open another"):
            write()
    opened.close()
    assert numbers(root, index) == [0]


def test_an_error_in_the_with_block_keeps_the_written_ticks(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    opened = writer()
    opened.append(quote_message(H13, 0))
    with pytest.raises(ZeroDivisionError), opened:
        _ = 1 / 0
    assert [record.sealed for record in index.files()] == [True]


# --- sealing that takes its time, or fails --------------------------------------------------------


def test_a_late_message_waits_until_its_file_is_sealed(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    sealing, go_on = Event(), Event()

    def slow(root: Any, keys: Any) -> list[FileRecord]:
        sealing.set()
        assert go_on.wait(60)
        return seal_files(root, keys)

    opened = writer(sealer=slow)
    opened.write(quotes(every(SECOND, 50)))

    sealer = Thread(target=opened.appender.seal_ended_hours, args=(H13 + 2 * HOUR_NS,))
    sealer.start()
    assert sealing.wait(60)
    opened.append(quote_message(H13 + HOUR_NS, 51))  # of another file: it does not wait
    appender = Thread(target=opened.append, args=(quote_message(H13 + 1, 50),))
    appender.start()
    appender.join(0.05)
    go_on.set()
    for thread in (sealer, appender):
        thread.join(60)
        assert not thread.is_alive()
    opened.close()
    assert sorted(numbers(root, index)) == list(range(52))
    assert not any(finding.problem for finding in verify_files(root, index))


class Failing:
    """A sealer that has no room, until it has."""

    def __init__(self) -> None:
        self.full = True

    def __call__(self, root: Any, keys: Any) -> list[FileRecord]:
        if self.full:
            raise StorageFullError("no space left", path=str(root))
        return seal_files(root, keys)


def test_a_file_that_failed_to_seal_is_sealed_later(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    sealer = Failing()
    opened = writer(sealer=sealer)
    opened.append(quote_message(H13, 0))
    for _ in range(2):
        with pytest.raises(StorageFullError):
            opened.maintain(H13 + 2 * HOUR_NS)
    sealer.full = False
    opened.append(quote_message(H13 + HOUR_NS, 1))
    opened.maintain(H13 + HOUR_NS + 1)
    assert [record.sealed for record in index.files()] == [True, False]


def test_a_file_that_failed_to_seal_can_be_reopened(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    sealer = Failing()
    opened = writer(sealer=sealer)
    opened.append(quote_message(H13, 0))
    with pytest.raises(StorageFullError):
        opened.seal()
    opened.append(quote_message(H13, 1))
    sealer.full = False
    opened.seal(before_ns=H13)
    opened.append(quote_message(H13, 2))
    opened.close()
    assert numbers(root, index) == [0, 1, 2]


def test_a_message_is_not_refused_because_another_file_cannot_be_sealed(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sealer = Failing()
    opened = writer(sealer=sealer, open_files=1)
    for hour in range(3):
        opened.append(quote_message(H13 + hour * HOUR_NS, hour))
    assert "tried again" in caplog.text
    assert numbers(root, index) == [0, 1, 2]
    sealer.full = False
    opened.close()
    assert all(record.sealed for record in index.files())


def test_a_damaged_file_is_named_once_the_others_are_sealed(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = writer()
    for hour in range(3):
        opened.append(quote_message(H13 + hour * HOUR_NS, hour))
    other = FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS)
    with (root / other.path).open("r+b") as file:
        file.write(b"\xff" * 64)
    with pytest.raises(CorruptFileError, match=r"14_ticks\.pb cannot be sealed"):
        opened.close()
    assert "is damaged and stays as it is" in caplog.text
    assert [record.sealed for record in index.files()] == [True, False, True]


def test_a_file_of_the_hours_before_it_does_not_stop_a_writer(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = writer(open_files=1)
    opened.append(quote_message(H13, 0))
    with (root / KEY.path).open("r+b") as file:
        file.write(b"\xff" * 64)
    opened.append(quote_message(H13 + HOUR_NS, 1))
    opened.close()
    assert "is damaged and stays as it is" in caplog.text
    assert [record.sealed for record in index.files()] == [False, True]


def test_a_file_deleted_under_the_writer_does_not_keep_the_others_open(
    writer: Callable[..., StreamWriter],
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = writer()
    for hour in range(3):
        opened.append(quote_message(H13 + hour * HOUR_NS, hour))
    gone = root / FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS).path
    gone.unlink()
    opened.close()
    assert f"{gone} is gone" in caplog.text
    assert numbers(root, index, strict=True) == [0, 2]
    assert [record.sealed for record in index.files()] == [True, True]


def test_a_large_write_goes_in_chunks_over_hours(
    writer: Callable[..., StreamWriter], root: Path, index: MemoryIndex
) -> None:
    with writer() as opened:
        for hour in range(2):
            assert (
                opened.write(hour_of_quotes(30_000, hour * 30_000, H13 + hour * HOUR_NS)) == 30_000
            )
    assert numbers(root, index) == list(range(60_000))
    assert [len(record.blocks) for record in index.files()] == [3, 3]
