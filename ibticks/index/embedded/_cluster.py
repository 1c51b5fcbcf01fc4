"""An embedded PostgreSQL cluster: create, start, join and stop its server.

A cluster has a private folder ``{base}/{key}``::

    data/           data directory of PostgreSQL
    data.damaged/   an earlier data directory that was damaged
    damaged         marks damaged data, with the reason: the next start renames them
    log             log of the server
    .s.PGSQL.5432   Unix socket
    server.lock     locked by the server's processes, from the first to the last
    users.lock      locked (shared) by every process that uses the server

and beside it the start lock ``{base}/{key}.lock``, held while a process starts or stops the server.
These ``flock`` locks, and never a process id, tell whether the server runs and whether it has
users: the kernel releases a lock with its process, even after ``kill -9``, while a process id is
reused (after a reboot), belongs to a zombie, or means something else in another container. A
process locks in this order: start lock, users.lock, server.lock.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from ibticks.errors import IndexUnavailableError, IndexVersionError, TickError
from ibticks.filesystem import exclusive, open_lock, try_lock
from ibticks.index._connection import application_name, connect, dsn_parameters, embedded_dsn
from ibticks.index.embedded._account import (
    MAJOR,
    check_private,
    check_socket_path,
    make_base,
    make_home,
    reachable_binaries,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.index.embedded._account import Account

__all__ = ["Cluster"]

_PORT: Final = 5432  # only a part of the socket's name: the server has no TCP port
_SOCKET: Final = f".s.PGSQL.{_PORT}"
_MAX_LAUNCHES: Final = 3  # a start fails while processes of an earlier server still end
_MAX_LOG_BYTES: Final = 1 << 20
_STOP_SECONDS: Final = 30.0
_WARN_AFTER_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02

_SERVER_SETTINGS: Final = (
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "shared_buffers=32MB",
    "jit=off",
)

_log = logging.getLogger(__name__)


class Cluster:
    """A cluster in ``{base}/{key}``.

    Parameters
    ----------
    base : Path
        Absolute folder of all clusters.
    key : str
        Folder name of this cluster.
    account : Account
        System user that runs the server and owns its data.
    role : str
        Database user: the system user that connects (peer authentication).
    binaries : Path
        The folder with ``initdb`` and ``postgres``.
    """

    def __init__(self, base: Path, key: str, account: Account, role: str, binaries: Path) -> None:
        self.base = base
        self.home = base / key
        self.account = account
        self.role = role
        self.binaries = binaries
        self._start_lock = base / f"{key}.lock"
        self._data = self.home / "data"
        self._damage_marker = self.home / "damaged"
        self._users_lock: int | None = None  # file descriptor, locked while in use

    @property
    def dsn(self) -> str:
        """A libpq connection string over the socket, independent of environment variables."""
        return embedded_dsn(self.home, _PORT, self.role)

    def join(self, timeout_seconds: float) -> None:
        """Register this process as a user, and start the server unless it runs.

        Parameters
        ----------
        timeout_seconds : float
            Time limit: after a crash PostgreSQL replays its WAL, which can take long.

        Raises
        ------
        StoreAccessError
            The folder belongs to another user, or is open to others.
        IndexUnavailableError
            The server does not start, or not in time.
        IndexVersionError
            The data are of another major version of PostgreSQL.
        """
        check_socket_path(self.home / _SOCKET)
        make_base(self.base, self._start_lock)
        try:
            self._join(timeout_seconds)
        except OSError as error:
            if isinstance(error, TickError):
                raise
            raise IndexUnavailableError(
                f"the embedded PostgreSQL cannot use {self.home}: {error}", path=str(self.home)
            ) from error

    def _join(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        with exclusive(self._start_lock, deadline) as is_locked:
            if not is_locked:
                raise IndexUnavailableError(
                    f"another process has been starting PostgreSQL in {self.home} for "
                    f"{timeout_seconds:.0f} s; try again in a moment",
                    path=str(self.home),
                )
            make_home(self.home, self.account)
            if self._data.exists():
                check_private(self._data, self.account)
            if self._users_lock is None:
                self._users_lock = open_lock(self.home / "users.lock")
                try_lock(self._users_lock, shared=True)
            # The exclusive lock is free: no other process uses the server.
            if self._damage_marker.exists() and try_lock(self._users_lock):
                self._stop(timeout_seconds)
                try_lock(self._users_lock, shared=True)
            self._ensure_running(deadline, timeout_seconds)

    def leave(self, timeout_seconds: float = _STOP_SECONDS) -> None:
        """Unregister this process; the last user stops the server, unless others are connected."""
        if self._users_lock is None:
            return
        if not self._start_lock.exists():  # the folder was removed: PostgreSQL ends by itself
            self.release()
            return
        with exclusive(self._start_lock, time.monotonic() + timeout_seconds) as is_locked:
            if (
                is_locked
                and try_lock(self._users_lock)
                and (self._damage_marker.exists() or not self._others_connected())
            ):
                self._stop(timeout_seconds)
            self.release()

    def release(self) -> None:
        """Close the users' lock without stopping the server, as a forked child does."""
        if self._users_lock is not None:
            os.close(self._users_lock)
            self._users_lock = None

    def mark_damaged(self, reason: str) -> None:
        """Mark the data as damaged: the next start renames them and creates a new cluster.

        The data are an index of the files of the store: no tick is lost.
        """
        try:
            self._damage_marker.write_text(reason + "\n")
        except OSError as error:
            _log.warning("cannot write %s: %s", self._damage_marker, error)

    # -- start and stop, with the start lock held --------------------------------------------------

    def _ensure_running(self, deadline: float, timeout_seconds: float) -> None:
        launches = 0
        warn_at = time.monotonic() + _WARN_AFTER_SECONDS
        while True:
            server_lock = self._lock_server()
            if server_lock is not None:
                try:
                    if launches == _MAX_LAUNCHES:
                        raise IndexUnavailableError(
                            f"the embedded PostgreSQL in {self.home} does not start:\n"
                            f"{self._log_tail()}",
                            path=str(self.home),
                        )
                    self._remove_stale_files()
                    self._rename_damaged_data()
                    self._create_data()
                    self._launch(server_lock)
                    launches += 1
                finally:
                    os.close(server_lock)
            reason = self._connection_error()
            if reason is None:
                return
            now = time.monotonic()
            if now >= deadline:
                raise IndexUnavailableError(
                    f"the embedded PostgreSQL in {self.home} is not ready after "
                    f"{timeout_seconds:.0f} s: {reason}. PostgreSQL may be replaying its WAL "
                    "(crash recovery), or it runs on another host: try again later. The end of "
                    f"its log:\n{self._log_tail()}",
                    path=str(self.home),
                )
            if now >= warn_at:
                _log.warning(
                    "waiting for PostgreSQL in %s, which may be replaying its WAL", self.home
                )
                warn_at = deadline
            time.sleep(_POLL_SECONDS)

    def _lock_server(self) -> int | None:
        """Return the locked descriptor of ``server.lock``, or None while a server holds it."""
        lock = open_lock(self.home / "server.lock")
        if try_lock(lock):
            return lock
        os.close(lock)
        return None

    def _remove_stale_files(self) -> None:
        """Remove the files of a killed server, which PostgreSQL would judge by process ids."""
        for path in (
            self._data / "postmaster.pid",
            self.home / _SOCKET,
            self.home / f"{_SOCKET}.lock",
        ):
            path.unlink(missing_ok=True)

    def _rename_damaged_data(self) -> None:
        """Rename data that were marked as damaged."""
        if not self._damage_marker.exists():
            return
        damaged = self.home / "data.damaged"
        if self._data.exists():
            shutil.rmtree(damaged, ignore_errors=True)
            self._data.rename(damaged)
        _log.warning(
            "the index's database in %s is damaged (%s): it is renamed to %s, and the index is "
            "rebuilt from the files",
            self.home,
            self._damage_marker.read_text(errors="replace").strip(),
            damaged.name,
        )
        self._damage_marker.unlink()

    def _create_data(self) -> None:
        if self._data.exists():
            try:
                version = (self._data / "PG_VERSION").read_text().strip()
            except FileNotFoundError:
                raise IndexUnavailableError(
                    f"{self._data} is not a PostgreSQL data directory: remove that folder and the "
                    "index is rebuilt from the files",
                    path=str(self._data),
                ) from None
            if version != str(MAJOR):
                raise IndexVersionError(
                    f"the data directory {self._data} is of PostgreSQL {version}, and this is "
                    f"{MAJOR}: remove that folder and the index is rebuilt from the files",
                    path=str(self._data),
                )
            return
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)  # left by a killed initdb
        result = self._run(
            "initdb", f"--pgdata={fresh}", f"--username={self.role}", "--auth-local=peer",
            "--auth-host=reject", "--encoding=UTF8", "--locale=C", "--no-instructions",
        )  # fmt: skip
        if result.returncode:
            raise IndexUnavailableError(
                f"initdb failed in {self.home}: {result.stderr.strip()}",
                path=str(self.home),
            )
        fresh.rename(self._data)

    def _launch(self, server_lock: int) -> None:
        """Start the server as a daemon: a new session, and not a child of this process."""
        log = self.home / "log"
        if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
            log.unlink()
        # Quoted: the option is a list of folders, and the name may have spaces.
        quoted_home = '"' + str(self.home).replace('"', '""') + '"'
        options = [f"-D{self._data}", f"-k{quoted_home}", f"-p{_PORT}"]
        options += [f"-c{setting}" for setting in _SERVER_SETTINGS]
        with log.open("ab") as log_file:
            log.chmod(0o600)
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", self._program("postgres"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                pass_fds=(server_lock,),
                start_new_session=True,
                cwd="/",
                env=self._environment(),
                check=True,
                **self.account.subprocess_options,
            )
        _log.info("started PostgreSQL in %s as %s", self.home, self.account.name)

    def _connection_error(self) -> str | None:
        """Return the reason why the server refuses connections, or None."""
        try:
            with self._connect() as connection:
                self._check_data(connection)
        except psycopg.OperationalError as error:
            reason = str(error).strip()
            if "subdirectory" in reason and "is missing" in reason:
                self.mark_damaged(reason)
                raise IndexUnavailableError(
                    f"the database of the embedded PostgreSQL in {self.home} is damaged: {reason}. "
                    "Close all programs that use the store: the next opening renames the database "
                    "and rebuilds the index from the files",
                    path=str(self.home),
                ) from error
            if "authentication failed" in reason or "does not exist" in reason:
                raise IndexUnavailableError(
                    f"the embedded PostgreSQL in {self.home} does not know this user: {reason}. "
                    "Remove that folder and the index is rebuilt from the files",
                    path=str(self.home),
                ) from error
            return reason
        return None

    def _connect(self) -> psycopg.Connection:
        return connect(dsn_parameters(self.dsn))

    def _check_data(self, connection: psycopg.Connection) -> None:
        """Raise IndexUnavailableError if the server on the socket has another data directory."""
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
        folder = None if row is None else row[0]
        if folder is None or not self._data.exists() or not self._data.samefile(folder):
            raise IndexUnavailableError(
                f"another PostgreSQL answers on the socket in {self.home}, with its data in "
                f"{folder}: stop that one, or set IBTICKS_PGDATA to another folder",
                path=str(self.home),
            )

    def _others_connected(self) -> bool:
        """Return whether other programs are connected by the DSN alone."""
        try:
            with self._connect() as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                    "AND pid <> pg_backend_pid() AND application_name <> %s",
                    (application_name(),),
                ).fetchone()
        except psycopg.OperationalError:  # starting or full, or already gone
            return True
        others = bool(row and row[0])
        if others:
            _log.info("PostgreSQL in %s keeps running: other programs are connected", self.home)
        return others

    def _stop(self, timeout_seconds: float) -> None:
        pid = self._postmaster()
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # fast shutdown
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            server_lock = self._lock_server()
            if server_lock is not None:
                os.close(server_lock)
                return
            time.sleep(_POLL_SECONDS)
        _log.warning("PostgreSQL in %s is slow to stop", self.home)

    def _postmaster(self) -> int | None:
        """Return the process id of the socket's listener, from the kernel rather than a file."""
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(self.home / _SOCKET))
            except OSError:
                return None
            if hasattr(socket, "SO_PEERCRED"):
                peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                pid: int = struct.unpack("3i", peer)[0]
                return pid or None  # 0: a process of another container
        # macOS: a server that holds its lock and answers wrote this file.
        return int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])

    # -- programs ---------------------------------------------------------------------------------

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self._program(program), *arguments],
                capture_output=True,
                text=True,
                cwd="/",
                env=self._environment(),
                check=False,
                **self.account.subprocess_options,
            )
        except OSError as error:
            raise IndexUnavailableError(
                f"the embedded PostgreSQL's {program} does not run here: {error}. Give the DSN of "
                "a server (dsn=, IBTICKS_DSN)"
            ) from error

    def _program(self, name: str) -> str:
        return str(reachable_binaries(self.binaries, self.account, self.base) / name)

    @staticmethod
    def _environment() -> dict[str, str]:
        """Return a minimal environment, without variables such as PGPORT or LD_LIBRARY_PATH."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def _log_tail(self) -> str:
        try:
            lines = (self.home / "log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(lines[-8:])
