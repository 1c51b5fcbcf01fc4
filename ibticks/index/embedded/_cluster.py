"""One embedded PostgreSQL cluster: made, started, joined, stopped.

A cluster has a private folder ``{base}/{key}``::

    data/           what PostgreSQL keeps
    data.damaged/   what it kept before, if that was damaged
    damaged         there if the data are damaged, and why: the next start sets them aside
    log             what it says
    .s.PGSQL.5432   its socket
    server.lock     held by the server's processes, from the first to the last
    users.lock      held (shared) by every process that uses the server

and beside it ``{base}/{key}.lock``, held while somebody starts or stops it. Whether the server
runs, and whether anyone uses it, is asked of these locks and never of a process id: a lock goes
with its process, even by ``kill -9``, while an id gets another process (after a reboot), belongs
to a zombie, or means something else in another container.
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
from ibticks.index.embedded._binaries import MAJOR, reachable_binaries
from ibticks.index.embedded._folders import check_private, check_socket_path, make_base, make_home

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.index.embedded._account import Account

__all__ = ["Cluster"]

_PORT: Final = 5432  # only a part of the socket's name: nothing listens on the network
_SOCKET: Final = f".s.PGSQL.{_PORT}"
_ATTEMPTS: Final = 3  # a server that ends at once may have met the last processes of another
_LOG_BYTES: Final = 1 << 20

_SETTINGS: Final = (
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "shared_buffers=32MB",
    "jit=off",
)

_log = logging.getLogger(__name__)


class Cluster:
    """The cluster in ``{base}/{key}``.

    Parameters
    ----------
    base : Path
        A folder for clusters; absolute.
    key : str
        Name of this one.
    account : Account
        Who runs the server and owns its data.
    role : str
        The database user: the system user that connects, which the server has the kernel confirm.
    binaries : Path
        The folder with ``initdb`` and ``postgres``.
    """

    def __init__(self, base: Path, key: str, account: Account, role: str, binaries: Path) -> None:
        self.base = base
        self.home = base / key
        self.account = account
        self.role = role
        self.binaries = binaries
        self._alone = base / f"{key}.lock"
        self._data = self.home / "data"
        self._damage = self.home / "damaged"
        self._user: int | None = None

    @property
    def dsn(self) -> str:
        """A libpq connection string over the socket, to which no variable can add anything."""
        return embedded_dsn(self.home, _PORT, self.role)

    def enter(self, patience: float) -> None:
        """Count this process as a user, and see that the server runs.

        Parameters
        ----------
        patience : float
            Seconds to wait: a server that was killed first repeats what it had logged, which can
            take long.

        Raises
        ------
        StoreAccessError
            The folder is another user's, or open to others.
        IndexUnavailableError
            The server does not start, or not in time.
        IndexVersionError
            Another major version of PostgreSQL made the data.
        """
        check_socket_path(self.home / _SOCKET)
        make_base(self.base, self._alone)
        try:
            self._enter(patience)
        except OSError as error:
            if isinstance(error, TickError):
                raise
            raise IndexUnavailableError(
                f"the embedded PostgreSQL cannot use {self.home}: {error}", path=str(self.home)
            ) from error

    def _enter(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        with exclusive(self._alone, deadline) as alone:
            if not alone:
                raise IndexUnavailableError(
                    f"another process has been starting PostgreSQL in {self.home} for "
                    f"{patience:.0f} s; try again in a moment",
                    path=str(self.home),
                )
            make_home(self.home, self.account)
            if self._data.exists():
                check_private(self._data, self.account)
            if self._user is None:
                self._user = open_lock(self.home / "users.lock")
                try_lock(self._user, shared=True)
            if self._damage.exists() and try_lock(self._user):  # no other process uses the server
                self._stop(patience)
                try_lock(self._user, shared=True)
            self._see_it_runs(deadline, patience)

    def leave(self, patience: float = 30.0) -> None:
        """Count this process out; the last user stops the server, unless others are connected."""
        if self._user is None:
            return
        if not self._alone.exists():  # somebody removed the folder: PostgreSQL ends by itself
            self.forget()
            return
        with exclusive(self._alone, time.monotonic() + patience) as alone:
            if (
                alone
                and try_lock(self._user)
                and (self._damage.exists() or not self._others_connected())
            ):
                self._stop(patience)
            self.forget()

    def forget(self) -> None:
        """Let go of the users' lock only: what a forked child does with its parent's."""
        if self._user is not None:
            os.close(self._user)
            self._user = None

    def mark_damaged(self, reason: str) -> None:
        """Have the next start of the server set the data aside and begin anew.

        The data are an index, made of the files of the store: losing them loses no tick.
        """
        try:
            self._damage.write_text(reason + "\n")
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._damage, error)

    # -- starting and stopping, under the lock ----------------------------------------------------

    def _see_it_runs(self, deadline: float, patience: float) -> None:
        launches = 0
        warn_at = time.monotonic() + 5.0
        while True:
            server = self._lock_of_dead_server()
            if server is not None:
                try:
                    if launches == _ATTEMPTS:
                        raise IndexUnavailableError(
                            f"the embedded PostgreSQL in {self.home} does not start:\n"
                            f"{self._end_of_log()}",
                            path=str(self.home),
                        )
                    self._clear_leftovers()
                    self._set_damaged_aside()
                    self._create()
                    self._launch(server)
                    launches += 1
                finally:
                    os.close(server)
            refusal = self._refusal()
            if refusal is None:
                return
            now = time.monotonic()
            if now >= deadline:
                raise IndexUnavailableError(
                    f"the embedded PostgreSQL in {self.home} is not ready after {patience:.0f} s: "
                    f"{refusal}. After a crash it first repeats what it had logged (or it runs on "
                    f"another host): try again later. Its log ends:\n{self._end_of_log()}",
                    path=str(self.home),
                )
            if now >= warn_at:
                _log.warning("waiting for PostgreSQL in %s, which may recover", self.home)
                warn_at = deadline
            time.sleep(0.02)

    def _lock_of_dead_server(self) -> int | None:
        """The server's lock, taken, if no process of a server holds it."""
        lock = open_lock(self.home / "server.lock")
        if try_lock(lock):
            return lock
        os.close(lock)
        return None

    def _clear_leftovers(self) -> None:
        """Remove what a killed server left, which PostgreSQL would judge by process ids."""
        for path in (
            self._data / "postmaster.pid",
            self.home / _SOCKET,
            self.home / f"{_SOCKET}.lock",
        ):
            path.unlink(missing_ok=True)

    def _set_damaged_aside(self) -> None:
        """Rename data that an earlier user of the server found damaged."""
        if not self._damage.exists():
            return
        aside = self.home / "data.damaged"
        if self._data.exists():
            shutil.rmtree(aside, ignore_errors=True)
            self._data.rename(aside)
        _log.warning(
            "the index's database in %s is damaged (%s): it is set aside as %s, and the index is "
            "rebuilt from the files",
            self.home,
            self._damage.read_text(errors="replace").strip(),
            aside.name,
        )
        self._damage.unlink()

    def _create(self) -> None:
        if self._data.exists():
            try:
                made_by = (self._data / "PG_VERSION").read_text().strip()
            except FileNotFoundError:
                raise IndexUnavailableError(
                    f"{self._data} is no database of PostgreSQL's: remove that folder and the "
                    "index is rebuilt from the files",
                    path=str(self._data),
                ) from None
            if made_by != str(MAJOR):
                raise IndexVersionError(
                    f"PostgreSQL {made_by} made the index's database in {self._data}, this is "
                    f"{MAJOR}: remove that folder and the index is rebuilt from the files",
                    path=str(self._data),
                )
            return
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)  # of an initdb that was killed
        done = self._run(
            "initdb", f"--pgdata={fresh}", f"--username={self.role}", "--auth-local=peer",
            "--auth-host=reject", "--encoding=UTF8", "--locale=C", "--no-instructions",
        )  # fmt: skip
        if done.returncode:
            raise IndexUnavailableError(
                f"PostgreSQL could not make a database in {self.home}: {done.stderr.strip()}",
                path=str(self.home),
            )
        fresh.rename(self._data)

    def _launch(self, server: int) -> None:
        """Start the server apart from us: not our child, not in our terminal or process group."""
        log = self.home / "log"
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.unlink()
        # In the socket's folder list a quoted name may have spaces.
        quoted_home = '"' + str(self.home).replace('"', '""') + '"'
        options = [f"-D{self._data}", f"-k{quoted_home}", f"-p{_PORT}"]
        options += [f"-c{setting}" for setting in _SETTINGS]
        with log.open("ab") as said:
            log.chmod(0o600)
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", self._program("postgres"), *options],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=(server,),
                start_new_session=True,
                cwd="/",
                env=self._environment(),
                check=True,
                **self.account.subprocess_options,
            )
        _log.info("started PostgreSQL in %s as %s", self.home, self.account.name)

    def _refusal(self) -> str | None:
        """Why the server takes no connection yet; None if it does."""
        try:
            with self._connect() as connection:
                self._check_data(connection)
        except psycopg.OperationalError as error:
            reason = str(error).strip()
            if "subdirectory" in reason and "is missing" in reason:
                self.mark_damaged(reason)
                raise IndexUnavailableError(
                    f"the database of the embedded PostgreSQL in {self.home} is damaged: {reason}. "
                    "Close all programs that use the store: the next opening sets the database "
                    "aside and rebuilds the index from the files",
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
        """Raise IndexUnavailableError unless the server that answers serves this cluster's data."""
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
        place = None if row is None else row[0]
        if place is None or not self._data.exists() or not self._data.samefile(place):
            raise IndexUnavailableError(
                f"another PostgreSQL answers on the socket in {self.home}, with its data in "
                f"{place}: stop that one, or set IBTICKS_PGDATA to another folder",
                path=str(self.home),
            )

    def _others_connected(self) -> bool:
        """Whether somebody who only has the DSN is connected; they are not cut off."""
        try:
            with self._connect() as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                    "AND pid <> pg_backend_pid() AND application_name <> %s",
                    (application_name(),),
                ).fetchone()
        except psycopg.OperationalError:  # it starts or is full; or it is gone: nothing to stop
            return True
        others = bool(row and row[0])
        if others:
            _log.info("PostgreSQL in %s goes on: others are connected to it", self.home)
        return others

    def _stop(self, patience: float) -> None:
        pid = self._postmaster()
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # "fast shutdown"
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            server = self._lock_of_dead_server()
            if server is not None:
                os.close(server)
                return
            time.sleep(0.01)
        _log.warning("PostgreSQL in %s is slow to stop", self.home)

    def _postmaster(self) -> int | None:
        """The process that listens on the socket: the kernel says who, no file does."""
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(self.home / _SOCKET))
            except OSError:
                return None
            if hasattr(socket, "SO_PEERCRED"):
                peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                pid: int = struct.unpack("3i", peer)[0]
                return pid or None  # 0: it runs in another container
        # macOS: it holds its lock and answers, so the file is its own.
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
        """Nothing of ours: PGPORT, LD_LIBRARY_PATH and the like would change the server."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def _end_of_log(self) -> str:
        try:
            lines = (self.home / "log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(it wrote no log)"
        return "\n".join(lines[-8:])
