"""The journal: no acknowledged change is lost by kills, torn lines or a full disk."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from ibticks.errors import (
    CorruptFileError,
    IndexUnavailableError,
    ReadOnlyError,
    StorageFullError,
    StoreAccessError,
    TickIndexError,
)
from ibticks.index import (
    ContractRecord,
    CoverageRecord,
    FileRecord,
    IndexChange,
    MemoryIndex,
    PostgresIndex,
)
from ibticks.index._journal import OPERATIONS, Journal
from ibticks.testing import make_archived_copy, make_companion_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

DAY = 1_736_467_200_000_000_000


@pytest.fixture
def path(store: Path) -> Path:
    return store / "metadata" / "index.journal"


@pytest.fixture
def journal(path: Path) -> Journal:
    return Journal(path)


@pytest.fixture
def changes(
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    make_interval: Callable[..., CoverageRecord],
) -> list[Any]:
    """Changes of every operation, in an order that matters."""
    return [
        IndexChange("replace_files", (make_file(90), make_file(91))),
        IndexChange("put_files", (make_file(0, sealed=False), make_file(1))),
        IndexChange("put_files", (make_file(0, messages=13),)),
        IndexChange("drop_files", (make_file(1).path, make_file(91).path)),
        IndexChange("put_files", (make_file(1, blocks=0),)),
        IndexChange("put_contracts", (aapl, ContractRecord(2, ""))),
        IndexChange("put_contracts", (ContractRecord(2, "MNQ"),)),
        IndexChange(
            "correct_contracts", (ContractRecord(2, "MES"), ContractRecord(2, "ES", "CME"))
        ),
        IndexChange("put_contracts", (ContractRecord(2, "MNQ", "", "USD"),)),
        IndexChange("replace_coverage", (make_interval(DAY - 9),)),
        IndexChange("put_coverage", (make_interval(DAY),)),
        IndexChange("put_coverage", (make_interval(DAY, DAY + 5), make_interval(DAY + 5))),
        IndexChange("put_coverage", (make_interval(DAY + 7), make_interval(DAY + 8))),
        IndexChange("drop_coverage", (make_interval(DAY + 7, DAY + 9), make_interval(DAY + 6))),
        IndexChange(
            "put_companions",
            tuple(make_companion_record(day, [make_file(24 * day)]) for day in range(3)),
        ),
        IndexChange("drop_companions", (make_companion_record(1).path,)),
        IndexChange("put_archived", tuple(make_archived_copy(make_file(n)) for n in range(2))),
        IndexChange("drop_archived", (make_file(1).path,)),
    ]


def contents(index: MemoryIndex) -> tuple[Any, ...]:
    return (
        index.files(),
        index.contracts(),
        index.coverage(),
        index.daily_stats(),
        index.companions(),
        index.archived(),
    )


def fill(journal: Journal, changes: Any) -> None:
    for change in changes:
        journal.append(change)


def test_the_changes_cover_every_operation(changes: list[Any]) -> None:
    assert {change.operation for change in changes} == set(OPERATIONS)


def test_changes_are_read_in_order(journal: Journal, path: Path, changes: list[Any]) -> None:
    assert not journal.pending
    assert journal.read_changes() == []
    fill(journal, changes)
    assert journal.pending
    assert Journal(path).read_changes() == changes
    assert all(json.loads(line)["op"] in OPERATIONS for line in path.read_text().splitlines())


def test_applying_to_postgresql_equals_direct_writes(
    journal: Journal, changes: list[Any], index: Any
) -> None:
    fill(journal, changes)
    assert journal.apply(index) == len(changes)
    assert not journal.pending
    memory = MemoryIndex()
    for change in changes:
        memory.write(change)
    assert contents(index) == contents(memory)
    assert journal.apply(index) == 0


def test_applying_is_idempotent(journal: Journal, changes: list[Any], index: Any) -> None:
    """A crash between applying and removing the journal applies it twice."""
    for _ in range(2):
        fill(journal, changes)
        journal.apply(index)
    memory = MemoryIndex()
    for change in changes:
        memory.write(change)
    assert contents(index) == contents(memory)


def test_a_torn_last_line_is_ignored_then_truncated(
    journal: Journal, path: Path, changes: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    fill(journal, changes)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op": "put_files", "rec')
    assert journal.read_changes() == changes
    assert "cut short" in caplog.text
    journal.append(changes[0])
    assert journal.read_changes() == [*changes, changes[0]]
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("size", [1, 65_536, 200_000])
def test_a_torn_first_line_of_any_length_is_ignored(
    journal: Journal, path: Path, changes: list[Any], size: int
) -> None:
    path.write_bytes(b"x" * size)
    assert journal.read_changes() == []
    journal.append(changes[0])
    assert journal.read_changes() == [changes[0]]


def test_a_truncated_journal_keeps_its_whole_lines(
    journal: Journal, path: Path, changes: list[Any]
) -> None:
    fill(journal, changes[5:7])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert journal.read_changes() == changes[5:6][: size >= first]


@pytest.mark.parametrize(
    "line", [b"{}\n", b"not json\n", b'{"op": "explode", "records": []}\n', b"\xff\n", b"[]\n"]
)
def test_a_damaged_line_before_the_last_raises(
    journal: Journal, path: Path, changes: list[Any], line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    journal.append(changes[0])
    offset = path.stat().st_size
    with path.open("ab") as stream:
        stream.write(line)
    journal.append(changes[1])
    with pytest.raises(CorruptFileError, match=f"damaged at byte {offset}.*rebuild the index"):
        journal.read_changes()
    memory = MemoryIndex()
    assert journal.apply(memory) == 2, "a bad line must not stop the others"
    assert len(memory.files()) == 4
    assert path.with_name("index.journal.refused").read_bytes() == line
    assert "rebuild the index" in caplog.text


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("name", ["index.journal", "index.journal.applying"])
@pytest.mark.parametrize("writable", [True, False])
def test_an_unreadable_journal_raises_with_its_path(
    journal: Journal,
    path: Path,
    changes: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    name: str,
    writable: bool,
) -> None:
    fill(journal, changes[:2])
    path.with_name("index.journal.applying").write_bytes(path.read_bytes())

    def read(file: Any) -> bytes:
        if file.name == name:
            raise OSError(code, os.strerror(code))
        return plainly(file)

    plainly = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(Journal, "writable", writable)
    with pytest.raises(StoreAccessError, match=f"{name}: {os.strerror(code)}"):
        journal.read_changes()
    assert journal.read_valid_changes()[0] == changes[:2]


def test_an_interrupted_apply_is_resumed(journal: Journal, changes: list[Any]) -> None:
    class GoesAway(MemoryIndex):
        def write(self, change: IndexChange) -> None:
            if change.operation == "put_contracts" and change.records:
                raise IndexUnavailableError("gone")
            super().write(change)

    fill(journal, changes)
    with pytest.raises(IndexUnavailableError):
        journal.apply(GoesAway())
    journal.append(changes[0])
    assert journal.read_changes() == [*changes, changes[0]]
    memory = MemoryIndex()
    assert journal.apply(memory) == len(changes) + 1
    assert not journal.pending


def test_append_does_not_wait_for_a_hanging_server(journal: Journal, changes: list[Any]) -> None:
    applying, go_on = threading.Event(), threading.Event()

    class Hangs(MemoryIndex):
        def write(self, change: IndexChange) -> None:
            applying.set()
            assert go_on.wait(30)
            super().write(change)

    journal.append(changes[1])
    target = Hangs()
    applier = threading.Thread(target=journal.apply, args=(target,))
    applier.start()
    assert applying.wait(30)
    journal.append(changes[2])
    assert journal.read_changes() == changes[1:3]
    go_on.set()
    applier.join()
    assert not journal.pending
    assert target.files()[0].messages == 13


def test_refused_changes_are_moved_and_the_rest_is_applied(
    journal: Journal,
    path: Path,
    index: PostgresIndex,
    make_file: Callable[..., FileRecord],
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = make_file(1, start_ns=2, end_ns=1)
    journal.append(IndexChange("put_files", (make_file(0), bad)))
    journal.append(IndexChange("put_files", (make_file(2),)))
    assert journal.apply(index) == 2
    assert index.files() == [make_file(0), make_file(2)]
    assert not journal.pending
    refused = path.with_name("index.journal.refused").read_text()
    assert json.loads(refused)["records"][0]["path"] == bad.path
    assert "rebuild the index" in caplog.text


def test_threads_and_processes_append_concurrently(
    journal: Journal,
    path: Path,
    python: Callable[..., Popen[str]],
    make_file: Callable[..., FileRecord],
) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ibticks.index import IndexChange\n"
        "from ibticks.index._journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for n in range(20):\n"
        "    journal.append(IndexChange('drop_files', (f'{sys.argv[2]}-{n}',)))\n"
    )
    others = [python(code, path, name) for name in ("a", "b")]

    def append(name: Any) -> None:
        for n in range(20):
            journal.append(IndexChange("drop_files", (f"{name}-{n}",)))

    threads = [threading.Thread(target=append, args=(name,)) for name in ("c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        _, err = other.communicate(timeout=60)
        assert other.returncode == 0, err
    seen = [change.records[0] for change in journal.read_changes()]
    assert sorted(seen) == sorted(f"{name}-{n}" for name in "abcd" for n in range(20))
    for name in "abcd":  # each in its own order
        assert [path for path in seen if path.startswith(name)] == [
            f"{name}-{n}" for n in range(20)
        ]


def test_a_killed_writer_leaves_only_whole_lines(
    path: Path, python: Callable[..., Popen[str]]
) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ibticks.index import IndexChange\n"
        "from ibticks.index._journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    journal.append(IndexChange('drop_files', (str(n),)))\n"
        "    print(n, flush=True)\n"
    )
    process = python(code, path)
    for _ in range(50):
        acknowledged = int(process.stdout.readline())
    process.kill()
    rest = process.stdout.read().splitlines()
    acknowledged = int(rest[-1]) if rest and rest[-1].isdigit() else acknowledged
    seen = [int(change.records[0]) for change in Journal(path).read_changes()]
    assert seen == list(range(len(seen)))
    assert len(seen) > acknowledged - 1


def test_a_locked_journal_times_out(
    journal: Journal, path: Path, changes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibticks.index._journal._LOCK_TIMEOUT_SECONDS", 0.05)
    with (
        FileLock(path.with_name("index.journal.lock")),
        pytest.raises(IndexUnavailableError, match="another process has locked"),
    ):
        journal.append(changes[0])


@pytest.mark.parametrize("failing", [["fsync"], ["write"], ["fsync", "ftruncate"]], ids=" ".join)
def test_a_line_that_fails_to_sync_raises_and_is_truncated(
    journal: Journal,
    path: Path,
    changes: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    failing: list[str],
) -> None:
    def broken(descriptor: Any, *data: Any) -> int:
        if len(data) and isinstance(data[0], memoryview) and len(data[0]) > 1 and not torn:
            torn.append(write(descriptor, data[0][: len(data[0]) // 2]))
            return torn[0]
        if path.name not in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            return 0
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write = os.write
    torn: list[Any] = []
    journal.append(changes[0])
    with monkeypatch.context() as patch:
        for name in failing:
            patch.setattr(os, name, broken)
        for _ in range(2):
            with pytest.raises(ReadOnlyError, match="Input/output error"):
                journal.append(changes[1])
    journal.append(changes[2])
    acknowledged = [change for change in journal.read_changes() if change != changes[1]]
    assert acknowledged == [changes[0], changes[2]]
    if "ftruncate" not in failing:
        assert len(journal.read_changes()) == 2


def test_renames_of_the_journal_are_synced(
    journal: Journal, path: Path, changes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that came back after a power cut would be applied after newer changes."""
    seen = []
    fsync = os.fsync

    def noting(descriptor: Any) -> None:
        fsync(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink() == path.parent:
            seen.append(sorted(file.name for file in path.parent.glob("index.journal*")))

    monkeypatch.setattr(os, "fsync", noting)
    journal.append(changes[1])
    journal.apply(MemoryIndex())
    names = [[name for name in listing if not name.endswith("lock")] for listing in seen]
    assert names == [["index.journal"], ["index.journal.applying"], []]


def test_a_full_disk(journal: Journal, changes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match="free some"):
        journal.append(changes[0])


def test_a_read_only_folder_raises(tmp_path: Path, changes: list[Any]) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "index.journal")
    assert not journal.writable
    with pytest.raises(ReadOnlyError, match="cannot write the index's journal"):
        journal.append(changes[0])


def test_a_read_only_journal_is_read(
    journal: Journal, path: Path, changes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(journal, changes[:2])
    path.rename(path.with_name("index.journal.applying"))
    fill(journal, changes[2:])
    monkeypatch.setattr(Journal, "writable", False)
    assert journal.read_changes() == changes


def test_errors_of_the_target_do_not_stop_the_apply(journal: Journal, changes: list[Any]) -> None:
    class Refuses(MemoryIndex):
        def write(self, change: IndexChange) -> None:
            if change.operation == "replace_files":
                raise TickIndexError("no")
            super().write(change)

    fill(journal, changes[:2])
    target = Refuses()
    assert journal.apply(target) == 2
    assert len(target.files()) == 2
