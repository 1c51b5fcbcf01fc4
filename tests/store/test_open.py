"""Opening a store: new, existing, moved, damaged, shared and refused."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from psycopg.conninfo import make_conninfo

import ibticks as ibt
from ibticks import errors
from ibticks.config import resource
from ibticks.coverage import CoverageState
from ibticks.index import ContractRecord, CoverageRecord, PostgresIndex

if TYPE_CHECKING:
    from tests.servers import PostgresServer

NOON = 1_736_510_400_000_000_000  # 2025-01-10 12:00 UTC


def ticks(count: int = 3, first: int = NOON) -> pl.DataFrame:
    times = pl.Series([first + 60 * 10**9 * n for n in range(count)]).cast(pl.Datetime("ns", "UTC"))
    return pl.DataFrame({"timestamp": times, "price": [236.5 + n for n in range(count)]})


def python(program: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program apart from this process."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# -- beginning -------------------------------------------------------------------------------------


def test_a_missing_store_is_created(tmp_path: Path, database: str) -> None:
    root = tmp_path / "a" / "b"
    with ibt.open(str(root), dsn=database) as store:
        assert store.root == root
        assert (store.contents(), store.contracts(), store.daily_stats()) == ([], [], [])
    note = json.loads((root / "metadata" / "store.json").read_text())
    assert set(note) == {"store_id", "begun"}
    schema = (root / "metadata" / "schema.proto").read_text()
    assert schema == (resource("proto") / "tick_stream.proto").read_text()


def test_a_tilde_is_expanded(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with ibt.open("~/ticks", dsn=database) as store:
        assert store.root == tmp_path / "ticks"


# -- a user without a home or a name ---------------------------------------------------------------


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id without a line in /etc/passwd, and no HOME, as in a container."""

    def no_entry(uid: Any) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    for name in ("HOME", "XDG_DATA_HOME", "IBTICKS_PGDATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HOME", None, "user id 54321 has no home .* Set IBTICKS_PGDATA"),
        ("HOME", "/tmp", "user id 54321 has no name"),
        ("IBTICKS_PGDATA", "~/pg", "user id 54321 has no home"),
    ],
)
@pytest.mark.usefixtures("no_home")
def test_without_a_home_or_a_name_the_index_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, reason: str
) -> None:
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.warns(errors.IndexAwayWarning, match=reason):
        store = ibt.open(tmp_path / "ticks")
    with warnings.catch_warnings(), store:
        warnings.simplefilter("ignore", errors.IndexAwayWarning)
        assert store.write(ticks(), contract_id=7, tick_type="last") == 3
        assert store.select(7).count() == 3


@pytest.mark.usefixtures("no_home")
def test_with_a_dsn_no_home_is_needed(tmp_path: Path, database: str) -> None:
    with ibt.open(tmp_path / "ticks", dsn=database) as store:
        assert store.write(ticks(), contract_id=7, tick_type="last") == 3


@pytest.mark.parametrize("path", ["~/ticks", "~", "~54321/ticks"])
@pytest.mark.usefixtures("no_home")
def test_a_missing_home_folder_is_reported(path: str) -> None:
    with pytest.raises(errors.InputError, match=rf"no home folder for the ~ of {path}: write the"):
        ibt.open(path)


def test_a_folder_of_any_name(tmp_path: Path, database: str) -> None:
    root = tmp_path / "my ticks, 'n' \u00fc %s [red]"
    with ibt.open(root, dsn=database) as store:
        store.write(ticks(), contract_id=1, tick_type="last")
    with ibt.open(f"{root}/../{root.name}", dsn=database) as store:
        assert store.root == root
        assert store.select(1).to_polars().height == 3
        assert str(root) in store._repr_html_().replace("&#x27;", "'")


def test_the_dsn_of_the_environment(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBTICKS_DSN", database)
    with ibt.open(tmp_path) as store:
        assert store.index.describe().startswith("PostgreSQL")


def test_processes_create_a_store_concurrently(tmp_path: Path) -> None:
    from ibticks.store._open import identify

    start = threading.Barrier(8)

    def begin(_: Any) -> str:
        start.wait()
        return identify(tmp_path / "ticks", create=True)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(8)))) == 1
    assert sorted(path.name for path in (tmp_path / "ticks" / "metadata").iterdir()) == [
        "schema.proto",
        "store.json",
    ]


# -- refusals --------------------------------------------------------------------------------------


def test_opening_a_missing_store_without_create_raises(tmp_path: Path) -> None:
    with pytest.raises(errors.NoStoreError, match=r"begin one with ibticks\.open\('.*none'\)"):
        ibt.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    with pytest.raises(FileNotFoundError):
        ibt.open(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    file = tmp_path / "ticks.csv"
    file.write_text("time,price\n")
    with pytest.raises(errors.NoStoreError, match="is a file, not a folder"):
        ibt.open(file)
    with pytest.raises(errors.StorageError, match="Not a directory while opening"):
        ibt.open(file / "below")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(errors.StorageError, match="File name too long while opening"):
        ibt.open(tmp_path / ("x" * 300))


@pytest.mark.parametrize("note", ["{", "[]", "{}", "null", "\0{"])
def test_a_damaged_id_file(tmp_path: Path, note: str) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "store.json").write_text(note)
    with pytest.raises(errors.CorruptFileError, match="does not say the store's id: restore it"):
        ibt.open(tmp_path)


EMPTY = {"nothing": "", "zeros": "\0" * 87, "a line end": "\n"}


@pytest.mark.parametrize("note", EMPTY)
@pytest.mark.parametrize("lost", [[], ["index-owner.json"], ["index-owner.json", "index.json"]])
def test_an_empty_id_file_is_repaired(
    tmp_path: Path, note: str, lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A power cut may leave it so; the id is in the owner note, all else in the files."""
    root = tmp_path / "ticks"
    with ibt.open(root) as store:
        store.write(ticks(), contract_id=1, tick_type="last")
        store.add_contract(1, "AAA")
        store_id = json.loads((root / "metadata" / "store.json").read_text())["store_id"]
    for name in lost:
        (root / "metadata" / name).unlink()
    (root / "metadata" / "store.json").write_text(EMPTY[note])
    with ibt.open(root, create=False) as store:
        assert store.select("AAA" if "index.json" not in lost else 1, "last").count() == 3
    new_id = json.loads((root / "metadata" / "store.json").read_text())["store_id"]
    assert (new_id == store_id) == (not lost)
    assert "store.json was empty, as a power cut leaves a file" in caplog.text
    assert sorted(path.name for path in (root / "metadata").glob(".store*")) == []


def test_an_empty_id_file_is_repaired_from_the_database(tmp_path: Path, database: str) -> None:
    root = tmp_path / "ticks"
    with ibt.open(root, dsn=database) as store:
        store.write(ticks(), contract_id=1, tick_type="last")
        store.add_contract(1, "AAA")
    note = root / "metadata" / "store.json"
    store_id = json.loads(note.read_text())["store_id"]
    note.write_text("")
    with ibt.open(root, dsn=database) as store:
        assert store.select("AAA", "last").count() == 3
    assert json.loads(note.read_text())["store_id"] == store_id


def test_processes_repair_an_empty_id_file_concurrently(tmp_path: Path) -> None:
    from ibticks.store._open import identify

    identify(tmp_path, create=True)
    (tmp_path / "metadata" / "store.json").write_text("")
    start = threading.Barrier(8)

    def repair(_: Any) -> str:
        start.wait()
        return identify(tmp_path, create=False)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(repair, range(8)))) == 1


def test_the_id_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def noting(descriptor: Any) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", noting)
    with ibt.open(tmp_path / "a" / "ticks"):
        pass
    assert {"a", "ticks", "metadata", tmp_path.name} <= set(synced)
    assert any(name.startswith(".store.json.") for name in synced)
    assert any(name.startswith(".index-owner.json.") for name in synced)


OPENING = """
import os, sys, warnings
import ibticks as ibt
import ibticks.selection._time_range

def look(root, create):
    try:
        with ibt.open(root, create=create) as store:
            return [content.ticks for content in store.contents()], len(store.select(1).files())
    except ibt.errors.TickError as error:
        return type(error).__name__, str(error)

warnings.simplefilter("ignore")
root, create, uid, other = sys.argv[1:]
look(other, True)  # as another user, the modules might be out of reach
if uid:
    os.setgid(int(uid))
    os.setuid(int(uid))
print(*look(root, create == "create"))
"""


def as_another(root: Path, create: str, other: Path) -> str:
    """Open a store as a user who owns no file here (or as this user, without root)."""
    uid = "65534" if os.geteuid() == 0 else ""
    environment = {**os.environ, "IBTICKS_PGDATA": "/proc/none"}
    done = python(OPENING, root, create, uid, other, env=environment, cwd="/")
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def public(clusters: Path) -> Path:
    """A folder that anyone gets through to, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(dir=clusters))
    folder.chmod(0o711)
    return folder


@pytest.mark.parametrize("create", ["create", "only open"])
def test_an_unreadable_folder(public: Path, create: str) -> None:
    root = public / "private"
    (root / "metadata").mkdir(parents=True)
    (root / "metadata" / "store.json").write_text('{"store_id": "x"}')
    root.chmod(0o700 if os.geteuid() == 0 else 0o000)
    details = as_another(root, create, public / "other")
    root.chmod(0o700)
    assert details.startswith(
        f"StoreAccessError not permitted while opening {root}: check who owns"
    )


def test_a_read_only_folder(public: Path) -> None:
    folder = public / "full"
    folder.mkdir(mode=0o555)
    details = as_another(folder / "new", "create", public / "other")
    assert details.startswith("StoreAccessError not permitted while opening")


def test_a_read_only_store_is_read(public: Path, database: str) -> None:
    root = public / "ticks"
    with ibt.open(root, dsn=database) as store:
        store.write(ticks(), contract_id=1, tick_type="last")
    (root / "metadata").chmod(0o555)
    details = as_another(root, "only open", public / "other")
    (root / "metadata").chmod(0o755)
    assert details == "[3] 1\n"


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    dsn = "postgresql://me:sesame@127.0.0.1:1/ticks"
    with pytest.raises(
        errors.IndexUnavailableError, match=r"database ticks on 127\.0\.0\.1:1 as me"
    ) as e:
        ibt.open(tmp_path, dsn=dsn)
    assert "sesame" not in str(e.value) + repr(e.value) + str(e.value.context)
    assert isinstance(e.value, ConnectionError)


@pytest.mark.parametrize("dsn", ["sesame", "postgresql://me:ses@me@host/ticks", "host=x sesame"])
def test_an_invalid_dsn(tmp_path: Path, dsn: str) -> None:
    with pytest.raises(errors.IndexUnavailableError, match=r"write postgresql://user@host") as e:
        ibt.open(tmp_path, dsn=dsn)
    assert "ses" not in str(e.value)


def test_a_wrong_password_is_not_in_the_error(tmp_path: Path, postgres: PostgresServer) -> None:
    with pytest.raises(errors.IndexUnavailableError) as e:
        ibt.open(tmp_path, dsn=make_conninfo(postgres.dsn, user="stranger", password="sesame"))
    assert "stranger" in str(e.value)
    assert "sesame" not in str(e.value)


def test_a_server_that_is_too_old(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults: Any = PostgresIndex.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "minimum_version", 99)
    with pytest.raises(errors.IndexVersionError, match=r"PostgreSQL 1\d\.\d+ .* needs 99 or newer"):
        ibt.open(tmp_path, dsn=database)


def test_the_database_of_another_store(tmp_path: Path, database: str) -> None:
    ibt.open(tmp_path / "one", dsn=database).close()
    with pytest.raises(errors.IndexMismatchError, match="give each store its own database"):
        ibt.open(tmp_path / "two", dsn=database)


def test_a_copied_store_is_not_confused_with_its_original(tmp_path: Path, database: str) -> None:
    ibt.open(tmp_path / "one", dsn=database).close()
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    with pytest.raises(errors.IndexMismatchError, match="is a copy of the store at"):
        ibt.open(tmp_path / "copy", dsn=database)


# -- moved, and lost in part -----------------------------------------------------------------------


def everything(store: ibt.Store) -> tuple[Any, ...]:
    index = store.index
    return index.files(), index.contracts(), index.daily_stats(), index.coverage()


def test_a_store_survives_a_move_and_the_loss_of_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clusters: Path
) -> None:
    """With the embedded server, as most have it: begun, moved, its database lost, then away."""
    base = clusters / "own"
    base.mkdir(mode=0o711)
    monkeypatch.setenv("IBTICKS_PGDATA", str(base))
    with ibt.open(tmp_path / "one") as store:
        assert store.index.describe().startswith("embedded PostgreSQL")
        store.add_contract(265598, "AAPL", exchange="SMART", currency="USD", contract_type="STK")
        store.add_contract(711280073, "MNQ")  # without ticks as yet
        store.write(ticks(), contract_id=265598, tick_type="last")
        store.index.put_coverage([CoverageRecord(265598, "last", 0, NOON, CoverageState.DELETED)])
        before = everything(store)
        loaded = store.select("AAPL").to_polars()

    (tmp_path / "one").rename(tmp_path / "moved")
    with ibt.open(tmp_path / "moved", create=False) as store:
        assert everything(store) == before
        assert store.select("AAPL").to_polars().equals(loaded)

    for left in base.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    with ibt.open(tmp_path / "moved") as store:
        assert everything(store) == before
        assert store.select("aapl").to_polars().equals(loaded)
        assert store.sql("SELECT count(*) AS n FROM market_sessions").item() > 10_000

    # PostgreSQL cannot start: the catalogue serves, and the journal keeps what is written.
    monkeypatch.setenv("IBTICKS_PGDATA", str(base / ("x" * 100)))
    with pytest.warns(errors.IndexAwayWarning, match="Set IBTICKS_PGDATA to another folder"):
        store = ibt.open(tmp_path / "moved")
    with pytest.warns(errors.IndexAwayWarning, match="the catalogue"), store:  # noqa: PT031
        assert "while PostgreSQL is away" in repr(store)
        assert [content.ticks for content in store.contents()] == [3]
        assert store.select("AAPL").to_polars().equals(loaded)
        store.write(ticks(first=NOON + 3600 * 10**9), contract_id=265598, tick_type="last")
        assert store.select("AAPL").count() == 6
        assert store.rebuild_index() == 2
        with pytest.raises(errors.IndexUnavailableError, match="PostgreSQL is away"):
            store.sql("SELECT 1")
        caught_up = store.contents()

    # It is back, and knows.
    monkeypatch.setenv("IBTICKS_PGDATA", str(base))
    with ibt.open(tmp_path / "moved") as store:
        assert store.contents() == caught_up
        assert [content.ticks for content in caught_up] == [6]
        assert list(store.verify()) == [value for value in store.verify() if value.problem is None]


def test_a_store_is_opened_from_its_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """Without database, catalogue and server: the files are read through, and that is the index."""
    with ibt.open(tmp_path, dsn=database) as store:
        store.write(ticks(), contract_id=265598, tick_type="last")
        files = store.index.files()
    (tmp_path / "metadata" / "index.json").unlink()
    monkeypatch.setenv("IBTICKS_PGDATA", str(tmp_path / ("x" * 100)))
    with pytest.warns(errors.IndexAwayWarning):
        store = ibt.open(tmp_path)
    with pytest.warns(errors.IndexAwayWarning), store:  # noqa: PT031
        assert store.index.files() == files
        assert store.select(265598).to_polars().height == 3


def test_names_come_back_from_the_catalogue_alone(
    tmp_path: Path, postgres: PostgresServer, ready_database: str
) -> None:
    """A store that has names and no ticks as yet."""
    for name in ("first", "second"):
        with (
            postgres.database(ready_database) as dsn,
            ibt.open(tmp_path, dsn=dsn) as store,
        ):
            if name == "first":
                store.add_contract(711280073, "MNQ")
            assert store.contracts() == [ContractRecord(711280073, "MNQ")]


# -- shared ----------------------------------------------------------------------------------------

WRITING = """
import sys
import ibticks as ibt
from ibticks.index import FileRecord
store = ibt.open(sys.argv[1], dsn=sys.argv[2])
writer = store.writer(265598, "bid_ask")
data = {"contract_id": 265598, "tick_type": "bid_ask", "bid_price": 1.5}
tick = {"type": "tick", "stream_id": "s", "timestamp": "2025-01-10T12:00:00Z", "data": data}
writer.append(tick)
print("written", flush=True)
sys.stdin.readline()
writer.close()
store.close()
"""


def test_two_processes_share_a_store(store: ibt.Store, database: str) -> None:
    """One process writes and both read; a second writer is refused with the pid of the first."""
    command = [sys.executable, "-c", WRITING, str(store.root), database]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "written\n"
        # Accepted is written: it is read before the file is sealed.
        assert store.select(265598, "bid_ask").to_polars()["bid_price"].to_list() == [1.5]
        assert store.select(265598).count() == 1
        with pytest.raises(errors.WriterLockedError, match=f"by process {other.pid} on") as caught:
            store.writer(265598, "bid_ask")
        assert caught.value.context["holder"]["pid"] == other.pid
        store.write(ticks(), contract_id=265598, tick_type="last")
        other.communicate("\n", timeout=60)
    assert other.returncode == 0
    assert [(c.tick_type, c.ticks) for c in store.contents()] == [("bid_ask", 1), ("last", 3)]
    store.writer(265598, "bid_ask").close()
