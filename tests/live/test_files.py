"""Changes of a file while it is followed: sealing, compression, damage, deletion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HALF_HOUR_NS, HOUR_NS
from ibticks.errors import CorruptDataWarning, StorageError
from ibticks.storage import StreamWriter, compress_file
from ibticks.storage._hour_file import HourFile
from ibticks.store import delete_files
from tests.storage.samples import CONTRACT, H13, KEY, MINUTE, SECOND, old_frame, old_header

from .simulation import STREAMS, columns, message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.index import MemoryIndex
    from ibticks.live import Live


def numbers(live: Live) -> list[int]:
    """Numbers of the ticks that have come, in their order of arrival."""
    ticks = []
    while (batch := live._reader.take(hold=False)) is not None:
        ticks += [item["data"]["sequence"] for item in batch.messages()]
    return ticks


def write(writer: StreamWriter, first: int, count: int, start: int = H13) -> list[int]:
    writer.write(columns("bid_ask", [start + i * SECOND for i in range(count)], first))
    return list(range(first, first + count))


@pytest.fixture
def live(follow: Callable[..., Live]) -> Live:
    return follow(H13)


def test_reading_continues_in_the_next_hour_file(
    writer: Callable[..., StreamWriter], live: Live
) -> None:
    quotes = writer()
    assert numbers(live) == []
    assert write(quotes, 0, 3) == numbers(live)
    assert write(quotes, 3, 3, H13 + HOUR_NS) == numbers(live)
    assert write(quotes, 6, 3, H13 + 26 * HOUR_NS) == numbers(live)


def test_stream_without_files_begins_later(
    writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    live = follow(None, STREAMS)
    assert numbers(live) == []
    assert write(writer(), 0, 3) == numbers(live)
    writer("last").append(message("last", H13, 7))
    assert numbers(live) == [7]


def test_split_hour_is_read_in_both_halves(
    writer: Callable[..., StreamWriter], live: Live, root: Path
) -> None:
    quotes = writer(split_bytes=500)
    expected = write(quotes, 0, 20)
    expected += write(quotes, 20, 3, H13 + HALF_HOUR_NS)
    assert (root / KEY.path.replace("13_", "13-30_")).exists()
    assert numbers(live) == expected
    assert write(quotes, 23, 3, H13 + HALF_HOUR_NS + MINUTE) == numbers(live)
    assert write(quotes, 26, 3, H13 + MINUTE) == numbers(live)


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip", "snappy"])
def test_late_ticks_of_a_compressed_hour(
    writer: Callable[..., StreamWriter],
    live: Live,
    root: Path,
    index: MemoryIndex,
    compression: str,
) -> None:
    quotes = writer()
    expected = write(quotes, 0, 50)
    write(quotes, 50, 2, H13 + HOUR_NS)
    assert numbers(live) == [*expected, 50, 51]
    quotes.seal()
    compress_file(root, KEY, compression)
    assert numbers(live) == []
    assert write(quotes, 52, 2, H13 + 20 * MINUTE) == numbers(live)
    quotes.seal()
    compress_file(root, KEY, compression)
    assert numbers(live) == []
    assert write(quotes, 54, 1, H13) == numbers(live)


def test_file_read_before_compression_is_not_decompressed(
    writer: Callable[..., StreamWriter], live: Live, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old hours are compressed while readers that have read them are open."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 300)
    quotes = writer()
    assert write(quotes, 0, 50) == numbers(live)
    quotes.seal()
    compress_file(root, KEY, "zstd")
    monkeypatch.setattr("ibticks.live._stream_files.decompress_block", lambda *_: 1 // 0)
    assert numbers(live) == []


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy"])
def test_file_compressed_between_two_reads(
    writer: Callable[..., StreamWriter],
    live: Live,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    compression: str,
) -> None:
    """A part is read uncompressed, the rest from the blocks."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 300)
    quotes = writer()
    expected = write(quotes, 0, 200)
    batch = live._reader.take(hold=False)
    quotes.seal()
    compress_file(root, KEY, compression)
    assert 0 < batch.rows < 20
    assert [*range(batch.rows), *numbers(live)] == expected


def test_compressed_buffer_of_several_blocks(
    writer: Callable[..., StreamWriter], follow: Callable[..., Live], root: Path
) -> None:
    quotes = writer()
    expected = list(range(40_000))
    quotes.write(columns("bid_ask", [H13 + i for i in expected], 0))
    quotes.seal()
    compress_file(root, KEY, "zstd")
    live = follow(H13 + 15_000)
    assert live.historical
    assert live._reader.count_buffer() == 25_000
    assert numbers(live) == expected[15_000:]
    assert not live.historical


def test_torn_end_is_never_read(
    writer: Callable[..., StreamWriter], live: Live, root: Path
) -> None:
    quotes = writer()
    expected = write(quotes, 0, 3)
    whole = quotes.appender._open[KEY].size
    kill(quotes)
    with (root / KEY.path).open("ab") as file:
        file.write(b"\0\0\0\x50half")
    assert numbers(live) == expected
    quotes = writer()
    assert (root / KEY.path).stat().st_size == whole
    assert write(quotes, 3, 2) == numbers(live)
    assert live.intact


def test_partial_frame_comes_once_it_is_whole(root: Path, live: Live) -> None:
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(old_header() + old_frame(H13, 0))
    frame = old_frame(H13 + 1, 1)
    assert numbers(live) == [0]
    for chunk in (frame[:2], frame[2:9], frame[9:-1]):
        with path.open("ab") as file:
            file.write(chunk)
        assert numbers(live) == []
    with path.open("ab") as file:
        file.write(frame[-1:] + old_frame(H13 + 2, 2))
    assert numbers(live) == [1, 2]


def test_replaced_header_of_an_older_writer(
    root: Path, writer: Callable[..., StreamWriter], live: Live
) -> None:
    """Sealing changes the length of the header, so that everything behind it moves."""
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(old_header() + old_frame(H13, 0) + old_frame(H13 + 1, 1))
    assert numbers(live) == [0, 1]
    quotes = writer()
    assert numbers(live) == []
    assert write(quotes, 2, 2) == numbers(live)


def test_append_taken_back_and_repeated(writer: Callable[..., StreamWriter], live: Live) -> None:
    """The disk refused the append: the next one writes at the same place."""
    quotes = writer()
    expected = write(quotes, 0, 3)
    file = quotes.appender._open[KEY]
    before = file.size
    again = message("bid_ask", H13 + MINUTE, 3)
    quotes.append(again)
    assert numbers(live) == [*expected, 3]
    file.take_back(file.size - before)
    assert numbers(live) == []
    quotes.append(again)
    assert numbers(live) == []
    assert write(quotes, 4, 1) == numbers(live)


def test_append_taken_back_and_replaced(
    writer: Callable[..., StreamWriter], live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    quotes = writer()
    write(quotes, 0, 3)
    numbers(live)
    file = quotes.appender._open[KEY]
    before = file.size
    quotes.append(message("bid_ask", H13 + MINUTE, 3))
    assert numbers(live) == [3]
    file.take_back(file.size - before)
    expected = write(quotes, 4, 5)
    assert numbers(live) == expected
    assert "is read again from byte" in caplog.text


@pytest.mark.parametrize("count", [1, 5, 50])
def test_deleted_file_written_again(
    writer: Callable[..., StreamWriter],
    live: Live,
    root: Path,
    index: MemoryIndex,
    caplog: pytest.LogCaptureFixture,
    count: int,
) -> None:
    quotes = writer()
    assert write(quotes, 0, 5) == numbers(live)
    quotes.close()
    list(delete_files(root, index, [KEY]))
    quotes = writer()
    assert write(quotes, 5, count) == numbers(live)
    assert not live.intact
    assert write(quotes, 5 + count, 2) == numbers(live)


def test_removed_day_folder(writer: Callable[..., StreamWriter], live: Live, root: Path) -> None:
    quotes = writer()
    assert write(quotes, 0, 5) == numbers(live)
    kill(quotes)
    path = root / KEY.path
    path.unlink()
    path.parent.rmdir()
    assert numbers(live) == []
    assert write(writer(), 5, 5) == numbers(live)


def test_file_deleted_with_unread_ticks_is_logged(
    writer: Callable[..., StreamWriter], live: Live, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quotes = writer()
    write(quotes, 0, 5)
    kill(quotes)
    live._reader._follower._monitor.rescan(0)
    (root / KEY.path).unlink()
    assert numbers(live) == []
    assert not live.intact
    assert "deleted before it was read to its end" in caplog.text


@pytest.mark.parametrize("later", [0, 5])
def test_damaged_file_is_left_out_with_a_warning(
    writer: Callable[..., StreamWriter], root: Path, follow: Callable[..., Live], later: int
) -> None:
    quotes = writer()
    write(quotes, 0, 50)
    expected = write(quotes, 50, later, H13 + HOUR_NS) if later else []
    quotes.close()
    data = bytearray((root / KEY.path).read_bytes())
    data[1000] ^= 1
    (root / KEY.path).write_bytes(data)
    live = follow(H13)
    with pytest.warns(CorruptDataWarning, match=r"13_ticks\.pb is sealed, but does not have its"):
        assert numbers(live) == expected
    with (root / KEY.path).open("r+b") as file:
        file.write(data[:1])
    assert numbers(live) == [], "it is still damaged"
    assert not live.intact


def test_damaged_block_ends_a_compressed_file(
    writer: Callable[..., StreamWriter], root: Path, follow: Callable[..., Live]
) -> None:
    quotes = writer()
    quotes.write(columns("bid_ask", [H13 + i for i in range(40_000)], 0))
    quotes.seal()
    compress_file(root, KEY, "zstd")
    live = follow(H13)
    path = root / KEY.path
    first = live._reader.take()
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    beside = path.with_suffix(".x")
    beside.write_bytes(data)
    os.replace(beside, path)  # noqa: PTH105
    live._reader._follower._monitor.rescan(0)
    with pytest.warns(CorruptDataWarning, match="what follows in the file is left out"):
        rest = numbers(live)
    assert rest == list(range(first.rows, first.rows + len(rest)))
    assert first.rows + len(rest) < 40_000


def test_open_file_is_read_up_to_its_damage_and_on_once_that_is_cut(
    writer: Callable[..., StreamWriter], live: Live, root: Path
) -> None:
    """A power cut leaves zeros, which the next writer cuts off."""
    quotes = writer()
    expected = write(quotes, 0, 5)
    kill(quotes)
    with (root / KEY.path).open("ab") as file:
        file.write(bytes(200))
    with pytest.warns(CorruptDataWarning, match="a frame is empty or longer than 16 MiB"):
        assert numbers(live) == expected
    assert numbers(live) == []
    assert write(writer(), 5, 3) == numbers(live)


def test_frame_without_a_message_is_damage(
    writer: Callable[..., StreamWriter], live: Live, root: Path
) -> None:
    quotes = writer()
    expected = write(quotes, 0, 5)
    kill(quotes)
    with (root / KEY.path).open("ab") as file:
        file.write(b"\0\0\0\x02\xff\xff" + old_frame(H13, 9))
    with pytest.warns(CorruptDataWarning, match="a frame is not a StreamMessage"):
        assert numbers(live) == expected
    assert write(writer(), 5, 3) == numbers(live)


def test_file_without_a_header(live: Live, root: Path) -> None:
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0\0")
    with pytest.warns(CorruptDataWarning, match="no header"):
        assert numbers(live) == []
    path.write_bytes(old_header() + old_frame(H13, 0))
    assert numbers(live) == [0]


def test_message_larger_than_one_read(
    writer: Callable[..., StreamWriter], live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 100)
    quotes = writer()
    expected = write(quotes, 0, 3)
    quotes.append({**message("bid_ask", H13, 3), "metadata": {"note": "x" * 100_000}})
    expected += [3, *write(quotes, 4, 3)]
    assert numbers(live) == expected


def test_backfilled_files_are_not_followed(
    root: Path, index: MemoryIndex, live: Live, follow: Callable[..., Live]
) -> None:
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None, backfill=True) as backfill:
        write(backfill, 0, 5)
        assert numbers(live) == []
    assert numbers(follow(None)) == []


def test_other_files_are_ignored(
    writer: Callable[..., StreamWriter], live: Live, root: Path
) -> None:
    quotes = writer()
    folder = (root / KEY.path).parent
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (root / "x").write_text("mine")
    (root / str(CONTRACT) / "x").write_text("mine")
    (root / "metadata" / "x").write_text("mine")
    (folder.parent / "notes").write_text("mine")
    expected = write(quotes, 0, 3)
    (folder / "13_ticks.pb.torn").write_text("cut")
    assert numbers(live) == expected


def test_without_a_buffer_only_new_ticks_come(
    writer: Callable[..., StreamWriter], root: Path, follow: Callable[..., Live]
) -> None:
    quotes = writer()
    write(quotes, 0, 50)
    write(quotes, 50, 50, H13 + HOUR_NS)
    write(quotes, 100, 50, H13 + 2 * HOUR_NS)
    quotes.seal()
    compress_file(root, KEY, "zstd")
    write(quotes, 150, 1, H13 + 3 * HOUR_NS)
    live = follow(None)
    assert not live.historical
    assert numbers(live) == []
    assert write(quotes, 151, 1, H13 + 3 * HOUR_NS) == numbers(live)
    assert write(quotes, 152, 2, H13) == numbers(live)
    assert write(quotes, 154, 2, H13 + HOUR_NS) == numbers(live)
    # Ticks later than two days do not come.
    write(quotes, 156, 2, H13 - 60 * HOUR_NS)
    assert numbers(live) == []


def test_ticks_before_the_start_are_left_out(
    writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    quotes = writer()
    write(quotes, 0, 50)
    live = follow(H13 + 40 * SECOND)
    assert numbers(live) == list(range(40, 50))
    write(quotes, 50, 50, H13 - HOUR_NS)
    assert numbers(live) == []
    assert write(quotes, 100, 3, H13 + 40 * SECOND) == numbers(live)


def test_unreadable_folder_raises(live: Live, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Any) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    (root / str(CONTRACT) / "bid_ask").mkdir(parents=True)
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StorageError, match="not permitted while listing"):
        live._reader._follower._monitor.rescan(0)


def kill(writer: StreamWriter) -> None:
    """Leave the files as a kill does; the lock is released, as the system would."""
    for file in writer.appender._open.values():
        assert isinstance(file, HourFile)
        file.close()
    writer.appender._open.clear()
    writer.appender._leave_current()
    writer.appender._stream_lock.release()
