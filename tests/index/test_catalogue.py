"""The catalogue is written atomically and read again when it changes."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.errors import (
    CorruptFileError,
    IndexVersionError,
    ReadOnlyError,
    StorageFullError,
    StoreAccessError,
)
from ibticks.index import (
    CatalogueIndex,
    ContractRecord,
    CoverageRecord,
    FileRecord,
    MemoryIndex,
    write_catalogue,
)
from ibticks.testing import make_archived_copy

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 1_736_467_200_000_000_000


@pytest.fixture
def path(store: Path) -> Path:
    return store / "metadata" / "index.json"


def test_a_written_catalogue_is_read_back(
    path: Path,
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    make_interval: Callable[..., CoverageRecord],
) -> None:
    files = [make_file(hour, volume=math.inf if hour else 1.5, blocks=0) for hour in range(3)]
    copies = [make_archived_copy(files[0])]
    write_catalogue(path, reversed(files), [aapl], [make_interval(DAY)], copies)
    index, memory = CatalogueIndex(path), MemoryIndex(files, [aapl], [make_interval(DAY)])
    assert index.files() == memory.files()
    assert index.files([265598], ["last"], DAY, DAY + 9) == []
    assert index.contracts() == [aapl]
    assert index.coverage() == [make_interval(DAY)]
    assert index.archived() == copies
    assert index.daily_stats() == memory.daily_stats()
    assert not index.writable
    assert str(path) in index.describe()
    index.close()


def test_a_catalogue_has_no_blocks(path: Path, make_file: Callable[..., FileRecord]) -> None:
    write_catalogue(path, [make_file(blocks=100)], [])
    assert CatalogueIndex(path).files() == [make_file(blocks=0)]
    assert path.stat().st_size < 1000


def test_the_catalogue_is_plain_json(
    path: Path, make_file: Callable[..., FileRecord], aapl: ContractRecord
) -> None:
    write_catalogue(path, [make_file()], [aapl])
    plain = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert plain["schema"] == 1
    row = dict(zip(plain["file_columns"], plain["files"][0], strict=True))
    assert row["path"] == make_file().path
    assert plain["contracts"][0]["symbol"] == "AAPL"


def test_the_catalogue_file_has_default_permissions(path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_catalogue(path, [], [])
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_missing_catalogue_is_an_empty_index(
    path: Path, make_file: Callable[..., FileRecord]
) -> None:
    index = CatalogueIndex(path)
    assert index.files() == []
    write_catalogue(path, [make_file()], [])
    assert len(index.files()) == 1
    write_catalogue(path, [], [])
    assert index.files() == []
    path.unlink()
    assert index.contracts() == []


def test_readers_see_a_whole_catalogue_during_a_write(
    path: Path, make_file: Callable[..., FileRecord]
) -> None:
    versions = [[make_file(hour, blocks=0) for hour in range(count)] for count in (10, 200)]
    write_catalogue(path, versions[0], [])
    done = threading.Event()
    problems = []

    def write(version: Any) -> None:
        try:
            for _ in range(10):
                write_catalogue(path, version, [])
        except BaseException as error:
            problems.append(error)

    writers = [threading.Thread(target=write, args=(version,)) for version in versions]
    for writer in writers:
        writer.start()
    while not done.is_set():
        assert len(CatalogueIndex(path).files()) in (10, 200)
        if not any(writer.is_alive() for writer in writers):
            done.set()
    for writer in writers:
        writer.join()
    assert problems == []
    assert [file.name for file in path.parent.iterdir()] == ["index.json"]


def test_the_catalogue_index_is_read_only(
    path: Path,
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    make_interval: Callable[..., CoverageRecord],
) -> None:
    index = CatalogueIndex(path)
    for change, records in [
        (index.put_files, [make_file()]),
        (index.drop_files, ["a"]),
        (index.replace_files, []),
        (index.put_contracts, [aapl]),
        (index.correct_contracts, [aapl]),
        (index.put_coverage, [make_interval(DAY)]),
        (index.replace_coverage, []),
    ]:
        with pytest.raises(ReadOnlyError, match="read-only"):
            change(records)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"schema": 1, "files": [[',
        b"[1, 2]",
        b"\xff\xfe",
        b'{"schema": 1, "file_columns": ["path"], "files": [["a", 1]], "contracts": []}',
        b'{"schema": 1, "file_columns": ["path"], "files": [["a"]], "contracts": []}',
    ],
)
def test_a_corrupt_catalogue_raises(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="remove it") as caught:
        CatalogueIndex(path).files()
    assert caught.value.context["path"] == str(path)


def test_a_catalogue_of_a_newer_schema_raises(path: Path) -> None:
    path.write_text('{"schema": 2}')
    with pytest.raises(IndexVersionError, match="upgrade ibticks"):
        CatalogueIndex(path).files()


def test_writing_to_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(StoreAccessError, match="cannot write the catalogue"):
        write_catalogue(tmp_path / "gone" / "index.json", [], [])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_raises_and_keeps_the_old_catalogue(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write_catalogue(path, [], [])
    before = path.read_bytes()

    def full(descriptor: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    expected = StoreAccessError if code == errno.EIO else StorageFullError
    with pytest.raises(expected, match="catalogue"):
        write_catalogue(path, [], [])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_unreadable_catalogue_raises(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreAccessError, match="cannot read the catalogue"):
        CatalogueIndex(path).files()
