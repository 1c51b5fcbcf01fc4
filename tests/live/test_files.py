"""What may become of a file while it is followed, one thing after another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ibticks.errors import CorruptDataWarning, StorageError
from ibticks.storage import HALF_HOUR, HOUR, StreamWriter, compress_file
from ibticks.storage._hour_file import HourFile
from ibticks.store import delete_files
from tests.storage.samples import CONTRACT, H13, KEY, MINUTE, SECOND, old_frame, old_header

from .simulation import STREAMS, columns, message

if TYPE_CHECKING:
    from ibticks.live import Live


def numbers(live: Live) -> list[int]:
    """The numbers of the ticks that have come, in the order in which they came."""
    found = []
    while (batch := live._reader.take(hold=False)) is not None:
        found += [each["data"]["sequence"] for each in batch.messages()]
    return found


def write(writer: StreamWriter, first: int, count: int, start: int = H13) -> list[int]:
    writer.write(columns("bid_ask", [start + i * SECOND for i in range(count)], first))
    return list(range(first, first + count))


@pytest.fixture
def live(follow):
    return follow(H13)


def test_from_one_hour_into_the_next(writer, live):
    quotes = writer()
    assert numbers(live) == []
    assert write(quotes, 0, 3) == numbers(live)
    assert write(quotes, 3, 3, H13 + HOUR) == numbers(live)
    assert write(quotes, 6, 3, H13 + 26 * HOUR) == numbers(live)


def test_a_stream_that_begins_later(writer, follow):
    live = follow(None, STREAMS)
    assert numbers(live) == []
    assert write(writer(), 0, 3) == numbers(live)
    writer("last").append(message("last", H13, 7))
    assert numbers(live) == [7]


def test_the_second_half_of_a_large_hour(writer, live, root):
    quotes = writer(split_bytes=500)
    said = write(quotes, 0, 20)
    said += write(quotes, 20, 3, H13 + HALF_HOUR)
    assert (root / KEY.path.replace("13_", "13-30_")).exists()
    assert numbers(live) == said
    assert write(quotes, 23, 3, H13 + HALF_HOUR + MINUTE) == numbers(live)
    assert write(quotes, 26, 3, H13 + MINUTE) == numbers(live)


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip", "snappy"])
def test_late_ticks_for_what_was_sealed_and_compressed(writer, live, root, index, compression):
    quotes = writer()
    said = write(quotes, 0, 50)
    write(quotes, 50, 2, H13 + HOUR)
    assert numbers(live) == [*said, 50, 51]
    quotes.seal()
    compress_file(root, KEY, compression)
    assert numbers(live) == []
    assert write(quotes, 52, 2, H13 + 20 * MINUTE) == numbers(live)
    quotes.seal()
    compress_file(root, KEY, compression)
    assert numbers(live) == []
    assert write(quotes, 54, 1, H13) == numbers(live)


def test_what_was_read_is_not_unpacked_again(writer, live, root, monkeypatch):
    """Old hours are compressed by the dozen, under readers that have long read them."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 300)
    quotes = writer()
    assert write(quotes, 0, 50) == numbers(live)
    quotes.seal()
    compress_file(root, KEY, "zstd")
    monkeypatch.setattr("ibticks.live._stream_files.decompress", lambda *_: 1 // 0)
    assert numbers(live) == []


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy"])
def test_compressed_between_two_looks(writer, live, root, monkeypatch, compression):
    """Read in part while it was plain, the rest from the blocks."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 300)
    quotes = writer()
    said = write(quotes, 0, 200)
    batch = live._reader.take(hold=False)
    quotes.seal()
    compress_file(root, KEY, compression)
    assert 0 < batch.rows < 20
    assert [*range(batch.rows), *numbers(live)] == said


def test_a_compressed_buffer_of_several_blocks(writer, follow, root):
    quotes = writer()
    said = list(range(40_000))
    quotes.write(columns("bid_ask", [H13 + i for i in said], 0))
    quotes.seal()
    compress_file(root, KEY, "zstd")
    live = follow(H13 + 15_000)
    assert live.historical
    assert live._reader.count_buffer() == 25_000
    assert numbers(live) == said[15_000:]
    assert not live.historical


def test_a_torn_end_is_never_read(writer, live, root):
    quotes = writer()
    said = write(quotes, 0, 3)
    whole = quotes.appender._open[KEY].size
    kill(quotes)
    with (root / KEY.path).open("ab") as file:
        file.write(b"\0\0\0\x50half")
    assert numbers(live) == said
    quotes = writer()
    assert (root / KEY.path).stat().st_size == whole
    assert write(quotes, 3, 2) == numbers(live)
    assert live.intact


def test_half_a_frame_comes_once_it_is_whole(root, live):
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(old_header() + old_frame(H13, 0))
    frame = old_frame(H13 + 1, 1)
    assert numbers(live) == [0]
    for piece in (frame[:2], frame[2:9], frame[9:-1]):
        with path.open("ab") as file:
            file.write(piece)
        assert numbers(live) == []
    with path.open("ab") as file:
        file.write(frame[-1:] + old_frame(H13 + 2, 2))
    assert numbers(live) == [1, 2]


def test_the_header_of_an_older_writer_is_replaced(root, writer, live):
    """Sealing gives it our length, so that everything behind it moves."""
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(old_header() + old_frame(H13, 0) + old_frame(H13 + 1, 1))
    assert numbers(live) == [0, 1]
    quotes = writer()
    assert numbers(live) == []
    assert write(quotes, 2, 2) == numbers(live)


def test_what_was_taken_back_is_not_missed(writer, live):
    """The disk refused it: whoever appends it again does so at the same place."""
    quotes = writer()
    said = write(quotes, 0, 3)
    file = quotes.appender._open[KEY]
    before = file.size
    again = message("bid_ask", H13 + MINUTE, 3)
    quotes.append(again)
    assert numbers(live) == [*said, 3]
    file.take_back(file.size - before)
    assert numbers(live) == []
    quotes.append(again)
    assert numbers(live) == []
    assert write(quotes, 4, 1) == numbers(live)


def test_what_was_taken_back_for_something_else(writer, live, caplog):
    quotes = writer()
    write(quotes, 0, 3)
    numbers(live)
    file = quotes.appender._open[KEY]
    before = file.size
    quotes.append(message("bid_ask", H13 + MINUTE, 3))
    assert numbers(live) == [3]
    file.take_back(file.size - before)
    said = write(quotes, 4, 5)
    assert numbers(live) == said
    assert "is read again from byte" in caplog.text


@pytest.mark.parametrize("count", [1, 5, 50])
def test_a_file_that_is_deleted_and_begun_again(writer, live, root, index, caplog, count):
    quotes = writer()
    assert write(quotes, 0, 5) == numbers(live)
    quotes.close()
    list(delete_files(root, index, [KEY]))
    quotes = writer()
    assert write(quotes, 5, count) == numbers(live)
    assert not live.intact
    assert write(quotes, 5 + count, 2) == numbers(live)


def test_a_folder_that_is_removed(writer, live, root):
    quotes = writer()
    assert write(quotes, 0, 5) == numbers(live)
    kill(quotes)
    path = root / KEY.path
    path.unlink()
    path.parent.rmdir()
    assert numbers(live) == []
    assert write(writer(), 5, 5) == numbers(live)


def test_a_deleted_file_is_missed_where_it_had_more(writer, live, root, caplog):
    quotes = writer()
    write(quotes, 0, 5)
    kill(quotes)
    live._reader._follower._monitor.rescan(0)
    (root / KEY.path).unlink()
    assert numbers(live) == []
    assert not live.intact
    assert "deleted before it was read to its end" in caplog.text


@pytest.mark.parametrize("later", [0, 5])
def test_what_is_damaged_is_left_out_and_said(writer, root, follow, later):
    quotes = writer()
    write(quotes, 0, 50)
    said = write(quotes, 50, later, H13 + HOUR) if later else []
    quotes.close()
    data = bytearray((root / KEY.path).read_bytes())
    data[1000] ^= 1
    (root / KEY.path).write_bytes(data)
    live = follow(H13)
    with pytest.warns(CorruptDataWarning, match=r"13_ticks\.pb is sealed, but does not have its"):
        assert numbers(live) == said
    with (root / KEY.path).open("r+b") as file:
        file.write(data[:1])
    assert numbers(live) == [], "it is still damaged"
    assert not live.intact


def test_a_damaged_block_ends_a_compressed_file(writer, root, follow):
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


def test_an_open_file_is_read_up_to_its_damage_and_on_once_it_is_cut(writer, live, root):
    """As a power cut leaves it: zeros, which the next writer cuts off."""
    quotes = writer()
    said = write(quotes, 0, 5)
    kill(quotes)
    with (root / KEY.path).open("ab") as file:
        file.write(bytes(200))
    with pytest.warns(CorruptDataWarning, match="a frame is empty or longer than 16 MiB"):
        assert numbers(live) == said
    assert numbers(live) == []
    assert write(writer(), 5, 3) == numbers(live)


def test_a_frame_that_is_no_message(writer, live, root):
    quotes = writer()
    said = write(quotes, 0, 5)
    kill(quotes)
    with (root / KEY.path).open("ab") as file:
        file.write(b"\0\0\0\x02\xff\xff" + old_frame(H13, 9))
    with pytest.warns(CorruptDataWarning, match="a frame is not a StreamMessage"):
        assert numbers(live) == said
    assert write(writer(), 5, 3) == numbers(live)


def test_a_file_without_a_header(live, root):
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0\0")
    with pytest.warns(CorruptDataWarning, match="no header"):
        assert numbers(live) == []
    path.write_bytes(old_header() + old_frame(H13, 0))
    assert numbers(live) == [0]


def test_a_message_larger_than_what_is_read_at_once(writer, live, monkeypatch):
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 100)
    quotes = writer()
    said = write(quotes, 0, 3)
    quotes.append({**message("bid_ask", H13, 3), "metadata": {"note": "x" * 100_000}})
    said += [3, *write(quotes, 4, 3)]
    assert numbers(live) == said


def test_what_was_backfilled_is_not_what_happened(root, index, live, follow):
    with StreamWriter(root, CONTRACT, "bid_ask", index, fsync=None, backfill=True) as filler:
        write(filler, 0, 5)
        assert numbers(live) == []
    assert numbers(follow(None)) == []


def test_other_files_do_not_disturb(writer, live, root):
    quotes = writer()
    folder = (root / KEY.path).parent
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (root / "x").write_text("mine")
    (root / str(CONTRACT) / "x").write_text("mine")
    (root / "metadata" / "x").write_text("mine")
    (folder.parent / "notes").write_text("mine")
    said = write(quotes, 0, 3)
    (folder / "13_ticks.pb.torn").write_text("cut")
    assert numbers(live) == said


def test_without_a_buffer_only_what_comes(writer, root, follow):
    quotes = writer()
    write(quotes, 0, 50)
    write(quotes, 50, 50, H13 + HOUR)
    write(quotes, 100, 50, H13 + 2 * HOUR)
    quotes.seal()
    compress_file(root, KEY, "zstd")
    write(quotes, 150, 1, H13 + 3 * HOUR)
    live = follow(None)
    assert not live.historical
    assert numbers(live) == []
    assert write(quotes, 151, 1, H13 + 3 * HOUR) == numbers(live)
    assert write(quotes, 152, 2, H13) == numbers(live)
    assert write(quotes, 154, 2, H13 + HOUR) == numbers(live)
    # Whatever is later than two days is as good as never.
    write(quotes, 156, 2, H13 - 60 * HOUR)
    assert numbers(live) == []


def test_ticks_before_the_start_are_left_out(writer, follow):
    quotes = writer()
    write(quotes, 0, 50)
    live = follow(H13 + 40 * SECOND)
    assert numbers(live) == list(range(40, 50))
    write(quotes, 50, 50, H13 - HOUR)
    assert numbers(live) == []
    assert write(quotes, 100, 3, H13 + 40 * SECOND) == numbers(live)


def test_a_folder_nobody_may_list(live, root, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    (root / str(CONTRACT) / "bid_ask").mkdir(parents=True)
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StorageError, match="not permitted while listing"):
        live._reader._follower._monitor.rescan(0)


def kill(writer: StreamWriter) -> None:
    """Leave everything as it is, as a kill does; the lock is let go of, as the system would."""
    for file in writer.appender._open.values():
        assert isinstance(file, HourFile)
        file.close()
    writer.appender._open.clear()
    writer._turn_away()
    writer.appender._stream_lock.release()
