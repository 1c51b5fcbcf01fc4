"""Misplaced files, whose header contradicts their path, are not read."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xarray as xr

from ibticks.config import HOUR_NS
from ibticks.errors import CorruptDataWarning, CorruptFileError, MisplacedFileError
from ibticks.format import read_header
from ibticks.frames import metadata_of, to_table
from ibticks.live._tail import Tail
from ibticks.storage import (
    ColumnCache,
    FileKey,
    Ingest,
    StreamWriter,
    compress_file,
    iter_messages,
    iter_payloads_backwards,
    read_cached_ticks,
    read_messages,
    read_ticks,
    seal_files,
    summarise_file,
    verify_files,
)
from ibticks.storage._audit import read_all_records
from ibticks.storage._sealing import seal_file

from .samples import (
    CONTRACT,
    H13,
    HALF,
    KEY,
    SECOND,
    every,
    numbers,
    old_frame,
    old_header,
    quote_message,
    quotes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.index import MemoryIndex

NEXT = FileKey(CONTRACT, "bid_ask", H13 + HOUR_NS)
STRANGERS = {
    "contract": FileKey(CONTRACT + 1, "bid_ask", H13),
    "tick type": FileKey(CONTRACT, "last", H13),
    "hour": FileKey(CONTRACT, "bid_ask", H13 + 2 * HOUR_NS),
    "hour before": FileKey(CONTRACT, "bid_ask", H13 - HOUR_NS),
    "day": FileKey(CONTRACT, "bid_ask", H13 + 24 * HOUR_NS),
}
SEALED = {"sealed": True, "open": False}


def write_file(
    root: Path, index: MemoryIndex, key: FileKey, *, sealed: bool, first: int = 500
) -> bytes:
    """The bytes of a file of ten messages, which stays where it belongs."""
    writer = StreamWriter(root, key.contract_id, key.tick_type, index, fsync=None)
    for number in range(10):
        time_ns = key.hour_ns + number * SECOND
        message = quote_message(time_ns, first + number)
        message["data"] |= {"contract_id": key.contract_id, "tick_type": key.tick_type}
        if key.tick_type == "last":
            message["data"] = {
                **{name: message["data"][name] for name in ("contract_id", "tick_type")},
                "price": 1.0,
            }
        writer.append(message)
    data = (root / key.path).read_bytes()
    writer.close()
    return (root / key.path).read_bytes() if sealed else data


@pytest.fixture(params=STRANGERS)
def stranger(request: pytest.FixtureRequest) -> FileKey:
    """The file that comes to lie in the place of another one."""
    return STRANGERS[request.param]


@pytest.fixture(params=SEALED)
def misplaced(
    request: pytest.FixtureRequest,
    root: Path,
    index: MemoryIndex,
    writer: Callable[..., StreamWriter],
    stranger: FileKey,
) -> Path:
    """A store whose first hour is the file of ``stranger``; the next hour is intact."""
    with writer() as opened:
        opened.write(quotes(every(SECOND, 10)))
        opened.write(quotes(every(SECOND, 5, NEXT.hour_ns), 10))
    rows = index.files()
    belongs = (root / NEXT.path).read_bytes()
    data = write_file(root, index, stranger, sealed=SEALED[request.param])
    shutil.rmtree((root / stranger.path).parent)
    (root / KEY.path).parent.mkdir(parents=True, exist_ok=True)
    (root / NEXT.path).write_bytes(belongs)
    (root / KEY.path).write_bytes(data)
    index.replace_files(rows)
    return root / KEY.path


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_load_leaves_a_misplaced_file_out_with_a_warning(
    misplaced: Path, root: Path, index: MemoryIndex, rebuilt: bool
) -> None:
    if rebuilt:
        index.replace_files(r for r in read_all_records(root) if r.path in (KEY.path, NEXT.path))
    with pytest.warns(CorruptDataWarning, match=r"13_ticks\.pb is not the file that its path"):
        parts = read_ticks(root, index.files(), ["timestamp", "sequence"])
    actual = [number for part in parts for number in part.numbers("sequence").tolist()]
    assert actual == [10, 11, 12, 13, 14]
    about = metadata_of(to_table(parts, ["timestamp"]))
    assert about["left_out"] == [KEY.path]
    ((start, end),) = about["missing"]
    assert (start[:13], end[:13]) == ("2013-10-08T13", "2013-10-08T14")
    with pytest.raises(MisplacedFileError, match="index rebuild"):
        numbers(root, index, strict=True)
    assert numbers(root, index, start_ns=NEXT.hour_ns) == [10, 11, 12, 13, 14]


def test_messages_and_cached_columns_leave_it_out(
    misplaced: Path, root: Path, index: MemoryIndex, stranger: FileKey
) -> None:
    files = index.files()
    with pytest.warns(CorruptDataWarning, match="not the file that its path names"):
        assert len(list(read_messages(root, files, ticks=True))) == 5
    assert list(iter_payloads_backwards(root, files[0])) == []
    assert list(iter_messages(root, files[0], 0, H13 + 100 * HOUR_NS)) == []
    decoded = ColumnCache(1 << 20)
    for _ in range(2):
        with pytest.warns(CorruptDataWarning, match="not the file that its path names"):
            parts = read_cached_ticks(root, files, ["timestamp"], decoded)
        assert sum(part.rows for part in parts) == 5


def test_cached_columns_of_a_replaced_file_are_not_used(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter]
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 10)))
        opened.write(quotes(every(SECOND, 10, NEXT.hour_ns), 10))
    decoded = ColumnCache(1 << 20)
    assert sum(p.rows for p in read_cached_ticks(root, index.files(), ["timestamp"], decoded)) == 20
    first, second, beside = root / KEY.path, root / NEXT.path, root / "beside"
    first.rename(beside)
    second.rename(first)
    beside.rename(second)
    with pytest.warns(CorruptDataWarning) as caught:
        assert (
            sum(p.rows for p in read_cached_ticks(root, index.files(), ["timestamp"], decoded)) == 0
        )
    assert len(caught) == 2


def test_a_live_reader_leaves_a_misplaced_file_out(misplaced: Path, root: Path) -> None:
    tail = Tail(root, CONTRACT, "bid_ask", H13)
    tail.rescan()
    with pytest.warns(CorruptDataWarning, match="not the file that its path names"):
        batch = tail.read()
    assert batch is not None
    assert (batch.key, batch.ticks) == (NEXT, 5)
    assert tail.read() is None
    assert not tail.intact
    tail.close()


def test_verify_and_rebuild_report_a_misplaced_file(
    misplaced: Path, root: Path, index: MemoryIndex, caplog: pytest.LogCaptureFixture
) -> None:
    finding = next(path for path in verify_files(root, index) if path.path == KEY.path)
    assert finding.problem == "misplaced"
    assert finding.size == misplaced.stat().st_size
    row = next(record for record in read_all_records(root) if record.path == KEY.path)
    assert (row.ticks, row.messages, row.sealed, row.first_tick_ns) == (0, 0, False, None)
    assert "loads will report its hour as missing" in caplog.text


def test_a_misplaced_file_is_not_sealed_compressed_summarised_or_opened(
    misplaced: Path,
    root: Path,
    writer: Callable[..., StreamWriter],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = misplaced.read_bytes()
    for refused in (
        lambda: summarise_file(root, KEY),
        lambda: seal_file(root, KEY),
        lambda: compress_file(root, KEY, "zstd"),
    ):
        with pytest.raises(MisplacedFileError):
            refused()
    assert seal_files(root, [KEY]) == []
    with writer() as opened:
        opened.append(quote_message(H13, 50))
    assert misplaced.read_bytes() == before
    assert not misplaced.with_name(misplaced.name + ".torn").exists()
    assert (root / HALF.path).exists()
    assert "is not the file that its path names" in caplog.text


def test_an_import_does_not_take_its_ticks_for_those_of_the_hour(
    misplaced: Path,
    root: Path,
    writer: Callable[..., StreamWriter],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with writer() as opened:
        importing = Ingest(root, opened)
        importing.add(quotes(every(SECOND, 10), 500))
    assert (importing.added, importing.known) == (10, 0)
    assert "is not the file that its path names" in caplog.text


def test_xarray_leaves_a_misplaced_file_out_inside_a_store_only(
    misplaced: Path, root: Path, tmp_path: Path, stranger: FileKey
) -> None:
    with pytest.warns(CorruptDataWarning, match="not the file that its path names"):
        dataset = xr.open_dataset(misplaced, engine="ibticks")
    assert dataset.sizes["timestamp"] == 0
    assert metadata_of(dataset)["left_out"] == [misplaced.name]
    with pytest.raises(MisplacedFileError):
        xr.open_dataset(misplaced, engine="ibticks", strict=True)
    alone = tmp_path / "ticks_ticks.pb"
    shutil.copy(misplaced, alone)
    dataset = xr.open_dataset(alone, engine="ibticks")
    assert dataset.sizes["timestamp"] == 10
    assert metadata_of(dataset)["contract_ids"] == [stranger.contract_id]


@pytest.mark.parametrize("fields", ["contract_id", "tick_type", "start_time", "all"])
def test_a_partial_header_is_checked_as_far_as_it_goes(
    root: Path, index: MemoryIndex, fields: str
) -> None:
    """Older writers leave fields empty, and an empty field is no contradiction."""
    from ibticks.format import encode_frame
    from ibticks.tick_stream_pb2 import FileHeader

    header = FileHeader.FromString(old_header()[4:])
    for name in ("contract_id", "tick_type", "start_time") if fields == "all" else (fields,):
        header.ClearField(name)
    path = root / KEY.path
    path.parent.mkdir(parents=True)
    body = b"".join(old_frame(H13 + number, number) for number in range(5))
    path.write_bytes(encode_frame(header.SerializeToString() or b"\x08\x01") + body)
    index.replace_files(read_all_records(root))
    assert numbers(root, index, strict=True) == list(range(5))
    assert [finding.problem for finding in verify_files(root, index)] == [None]
    if fields == "all":
        return
    other = {"contract_id": {"tick_type": "last"}}.get(fields, {"contract_id": 7})
    path.write_bytes(replace(read_header(path.read_bytes()), **other).to_bytes() + body)
    with pytest.raises(CorruptFileError, match="not the file that its path names"):
        numbers(root, index, strict=True)


@pytest.mark.parametrize("ns", [2**62, -(2**62), 2**63 - 1])
def test_a_time_out_of_range_is_reported(
    root: Path, index: MemoryIndex, writer: Callable[..., StreamWriter], ns: int
) -> None:
    with writer() as opened:
        opened.write(quotes(every(SECOND, 3)))
    path = root / KEY.path
    data = path.read_bytes()
    path.write_bytes(replace(read_header(data), start_ns=ns, end_ns=ns).to_bytes() + data[256:])
    with pytest.raises(MisplacedFileError, match=f"start_ns {ns}"):
        numbers(root, index, strict=True)
