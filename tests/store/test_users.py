"""Two users of one store: root beside the owner, and a reader beside a writer."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import ibticks as ibt
from ibticks import errors
from ibticks.capture._status import write_status
from ibticks.index import ContractRecord, IndexChange, MemoryIndex
from ibticks.index._journal import Journal
from ibticks.storage import StreamLock, StreamWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")

OWNER, OTHER, GROUP = 54321, 54322, 54400
# An Arrow table: the threads of polars do not exist in a forked process, which would wait for them.
TICKS = pa.table(
    {"timestamp": ["2025-01-10T14:30:00Z", "2025-01-10T15:30:00Z"], "price": [1.0, 2.0]}
)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder of the owner's that everyone may look into."""
    base = Path(tempfile.mkdtemp(prefix="ibt-"))
    base.chmod(0o755)
    folder = base / "ticks"
    folder.mkdir(mode=0o755)
    os.chown(folder, OWNER, GROUP)
    yield folder
    shutil.rmtree(base)


def run_as(
    user: int,
    work: Callable[[], None] | Callable[..., None],
    groups: list[Any] | tuple[Any, ...] = (),
) -> int:
    """Run a function as another user, in a process that ends with it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups(groups)
            os.setgid(groups[0] if groups else user)
            os.setuid(user)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def owners(root: Path) -> dict[Any, Any]:
    return {path: path.lstat().st_uid for path in root.rglob("*")}


def use_as_root(root: Path, database: str) -> None:
    with ibt.open(root, dsn=database) as store:
        store.add_contract(7, "ABC")
        store.write(TICKS, contract_id=7, tick_type="last")
        store.write_catalogue()
        write_status(root, {"state": "live"})


def test_files_written_by_root_belong_to_the_owner_of_the_store(root: Path, database: str) -> None:
    use_as_root(root, database)
    actual = owners(root)
    names = {path.name for path in actual}
    assert {"store.json", "schema.proto", "index.json", "capture.json", "14_ticks.pb"} <= names
    assert set(actual.values()) == {OWNER}


def test_the_journal_written_by_root_belongs_to_the_owner(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBTICKS_PGDATA", "/dev/null/pg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.IndexAwayWarning)
        store = ibt.open(root)
        store.add_contract(7, "ABC")
    journal = root / "metadata" / "index.journal"
    assert journal.exists()
    assert set(owners(root).values()) == {OWNER}
    change = IndexChange("put_contracts", (ContractRecord(8, "XYZ"),))
    assert run_as(OWNER, lambda: Journal(journal).append(change)) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.IndexAwayWarning)
        assert [contract.symbol for contract in store.contracts()] == ["ABC", "XYZ"]
        store.close()


def test_the_owner_can_append_after_root(root: Path, database: str) -> None:
    use_as_root(root, database)

    def go_on() -> None:
        with StreamWriter(root, 7, "last", MemoryIndex()) as writer:
            file = root / "7" / "last" / "2025" / "01" / "10" / "14_ticks.pb"
            os.close(os.open(file, os.O_RDWR))
            writer.append_payload(b"\x08\x01", 1_736_519_400_000_000_000)

    assert run_as(OWNER, go_on) == 0


def test_existing_folders_of_root_are_given_to_the_owner(root: Path, database: str) -> None:
    day = root / "7" / "last" / "2025" / "01" / "10"
    day.mkdir(parents=True)
    use_as_root(root, database)
    assert day.stat().st_uid == OWNER
    assert set(owners(root).values()) == {OWNER}


def test_a_store_of_root_stays_with_root(root: Path, database: str) -> None:
    os.chown(root, 0, 0)
    use_as_root(root, database)
    assert set(owners(root).values()) == {0}


# -- locks -----------------------------------------------------------------------------------------


def take(path: Any) -> None:
    """Lock a file as any program may that can open it."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def locks(root: Path) -> list[Any]:
    return sorted((root / "metadata").rglob("*.lock"))


@pytest.mark.parametrize("before", [None, 0o644, 0o666])
def test_a_reader_cannot_take_a_lock(root: Path, before: int | None) -> None:
    folder = root / "metadata" / "locks"
    folder.mkdir(parents=True)
    if before is not None:  # as earlier versions made them
        for path in (folder / "7.last.lock", root / "metadata" / "index.journal.lock"):
            path.touch()
            path.chmod(before)
            os.chown(path, OWNER, GROUP)
    for path in (root / "metadata", folder):
        os.chown(path, OWNER, GROUP)

    def write() -> None:
        StreamLock(root, 7, "last").release()
        journal = Journal(root / "metadata" / "index.journal")
        journal.append(IndexChange("put_contracts", (ContractRecord(8, "XYZ"),)))

    assert run_as(OWNER, write) == 0
    assert len(locks(root)) == 2
    for path in locks(root):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

        def take_it(path: Any = path) -> None:
            with pytest.raises(PermissionError):
                take(path)

        assert run_as(OTHER, take_it) == 0
    assert run_as(OWNER, write) == 0


def test_users_with_write_permission_share_the_locks(root: Path) -> None:
    folder = root / "metadata" / "locks"
    folder.mkdir(parents=True)
    folder.chmod(0o775)
    for path in (root / "metadata", folder):
        os.chown(path, OWNER, GROUP)

    def lock_and_release() -> None:
        StreamLock(root, 7, "last").release()

    assert run_as(OWNER, lock_and_release, [GROUP]) == 0
    (path,) = locks(root)
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, GROUP)
    assert run_as(OTHER, lock_and_release, [GROUP]) == 0

    def refused() -> None:
        with pytest.raises(PermissionError):
            take(path)

    assert run_as(OTHER, refused) == 0


REFUSED = {
    "compress": lambda store: store.compress("zstd"),
    "prune": lambda store: store.prune("1d"),
    "delete": lambda store: store.delete(7, "last"),
    "write": lambda store: store.write(TICKS, contract_id=7, tick_type="last"),
}


@pytest.mark.parametrize("work", REFUSED.values(), ids=REFUSED)
def test_the_error_of_refused_work_is_not_that_of_the_catalogue(
    root: Path, database: str, work: Callable[..., Any]
) -> None:
    """A user who may change the index, but only read the files and the catalogue."""
    assert run_as(0, lambda: use_as_root(root, database)) == 0
    catalogue = (root / "metadata" / "index.json").read_bytes()

    def use() -> None:
        store = ibt.open(root, dsn=database)
        os.seteuid(OTHER)  # the server is reached already
        with pytest.raises(errors.StoreAccessError, match="metadata/locks") as caught, store:
            work(store)
        assert "index.json" not in str(caught.value)

    assert run_as(0, use) == 0
    assert (root / "metadata" / "index.json").read_bytes() == catalogue


def test_an_index_rebuilt_by_a_reader_of_the_files(root: Path, database: str) -> None:
    assert run_as(0, lambda: use_as_root(root, database)) == 0

    def use() -> None:
        store = ibt.open(root, dsn=database)
        os.seteuid(OTHER)
        with store:
            assert store.rebuild_index(progress=False) == 2
            with pytest.raises(errors.StoreAccessError, match=r"index\.json"):
                store.write_catalogue()

    assert run_as(0, use) == 0


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (f'{{"pid": {os.getpid()}, "host": "{socket.gethostname()}"}}', True),
        (f'{{"pid": {2**22 + 1}, "host": "{socket.gethostname()}"}}', False),  # none is as high
        (f'{{"pid": {2**22 + 1}, "host": "another"}}', True),
        ("{}", False),
        ("half a no", False),
        (None, False),
    ],
    ids=["running", "ended", "another host", "empty", "torn", "none"],
)
def test_a_reader_learns_from_the_note_whether_a_stream_is_written(
    root: Path, note: str | None, expected: bool
) -> None:
    folder = root / "metadata" / "locks"
    folder.mkdir(parents=True)
    lock = folder / "7.last.lock"
    lock.touch()
    lock.chmod(0o600)
    if note is not None:
        lock.with_suffix(".json").write_text(note)

    def ask() -> None:
        assert StreamLock.is_locked(root, 7, "last") is expected

    assert run_as(OTHER, ask) == 0
