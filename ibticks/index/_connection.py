"""Connections to PostgreSQL, independent of the environment and with timeouts on both sides.

libpq fills in what a DSN leaves out from ``PGHOSTADDR``, ``PGOPTIONS``, ``PGSERVICE`` and some
thirty other variables, and from files they name. The embedded server's DSN leaves nothing out
(:func:`embedded_dsn`). A user's DSN leaves server and user to libpq; the session settings are set
on every connection (:func:`connect`).

``statement_timeout`` and ``lock_timeout`` end a statement that is slow or waits for a lock. They do
nothing while the server itself is stopped (SIGSTOP, a suspended machine, a hung disk), and TCP
keepalives do not apply to a Unix socket: :class:`TimeoutConnection` therefore also limits each wait
for a reply on the client.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from ibticks.errors import TickIndexError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "LOCK_TIMEOUT_SECONDS",
    "STATEMENT_TIMEOUT_SECONDS",
    "TimeoutConnection",
    "application_name",
    "connect",
    "dsn_parameters",
    "embedded_dsn",
]

STATEMENT_TIMEOUT_SECONDS: Final = 30
"""``statement_timeout`` of the index's sessions."""

LOCK_TIMEOUT_SECONDS: Final = 10
"""``lock_timeout`` of the index's sessions."""

_REPLY_MARGIN_SECONDS: Final = 5
"""Time beyond the statement timeout that the client waits for a reply."""

_POLL_SECONDS: Final = 0.1
_T = TypeVar("_T")

# TCP keepalives: a connection to a host that vanished fails in seconds, not in 15 minutes.
_TCP_TIMEOUTS: Final = {
    "connect_timeout": "5",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}

_NEUTRAL_VALUES: Final = {
    # These options do not accept an empty value.
    "sslcertmode": "disable",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}

_VARIABLES_WITHOUT_PARAMETER: Final = ("PGTZ", "PGDATESTYLE", "PGGEQO")
"""Variables without a connection parameter, from which libpq sets session settings."""

_SESSION_SETTINGS: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
    "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
}
"""Session settings that the index depends on; a role or a database may have changed them."""

_environment_lock: Final = threading.Lock()  # held while variables are hidden from libpq


def application_name() -> str:
    """Return the ``application_name`` of this process's connections."""
    return f"ibticks {os.getpid()}"


def embedded_dsn(home: Path, port: int, role: str) -> str:
    """Return the DSN of an embedded server, with a value for every option of libpq.

    Parameters
    ----------
    home : Path
        The cluster's private folder, with the socket in it.
    port : int
        The number in the name of the socket.
    role : str
        The database user.
    """
    options = {
        option.keyword.decode(): option for option in pq.Conninfo.get_defaults() if option.envvar
    }
    parameters = {name: (option.compiled or b"").decode() for name, option in options.items()}
    del parameters["service"]  # libpq looks up an empty one too: connect() hides the variable
    parameters |= {name: value for name, value in _NEUTRAL_VALUES.items() if name in options}
    parameters |= {
        "host": str(home),
        "port": str(port),
        "dbname": "postgres",
        "user": role,
        "client_encoding": "UTF8",
        "passfile": str(home / "no-passwords"),  # missing: peer authentication needs none
        "sslmode": "disable",
        "gssencmode": "disable",
        "connect_timeout": _TCP_TIMEOUTS["connect_timeout"],
    }
    return make_conninfo(**parameters)


def dsn_parameters(dsn: str) -> dict[str, str]:
    """Return the connection parameters of a DSN, and fixed values for some that it leaves out.

    ``PGPASSWORD``, ``~/.pgpass``, ``PGSSLMODE`` and the like mean what they mean to psql. A host
    that the DSN names is not replaced by ``PGHOSTADDR``, and ``PGOPTIONS`` does not choose another
    schema.

    Raises
    ------
    psycopg.ProgrammingError
        This is not a DSN; the message may contain a part of the password.
    """
    dsn_values: dict[str, str] = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    parameters = {**_TCP_TIMEOUTS, **dsn_values}
    if not _uses_service(
        dsn_values
    ):  # a service may set these: connect() hides the variables instead
        has_several_hosts = "," in dsn_values.get("host", dsn_values.get("hostaddr", ""))
        parameters.setdefault("options", "")
        parameters.setdefault("target_session_attrs", "read-write" if has_several_hosts else "any")
        if "host" in dsn_values:
            parameters.setdefault("hostaddr", "")
    make_conninfo(**parameters)
    return parameters


def connect(parameters: Mapping[str, str]) -> TimeoutConnection:
    """Connect in autocommit mode, with the session settings of the index.

    The search path starts with the schema of the index's tables, if they exist.

    Parameters
    ----------
    parameters : mapping of str to str
        See :func:`dsn_parameters`.

    Raises
    ------
    psycopg.OperationalError
        No server answers, or it refuses this user.
    TickIndexError
        No schema of the search path exists.
    """
    fixed = {"application_name": application_name(), "client_encoding": "UTF8"}
    with _hidden_variables(_variables_to_hide(parameters)):
        connection = TimeoutConnection.connect(
            **{**parameters, **fixed},  # type: ignore[arg-type]
            autocommit=True,
            prepare_threshold=None,  # a connection pooler such as PgBouncer may lose them
        )
    try:
        _prepare_session(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare_session(connection: TimeoutConnection) -> None:
    settings = ", ".join("set_config(%s, %s, false)" for _ in _SESSION_SETTINGS)
    row = connection.execute(
        "SELECT current_schema(), (SELECT n.nspname FROM pg_catalog.pg_class AS c "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relname = 'schema_migrations' AND n.nspname = ANY(current_schemas(false)) "
        "ORDER BY array_position(current_schemas(false), n.nspname) LIMIT 1), "
        f"{settings}".encode(),
        [part for setting in _SESSION_SETTINGS.items() for part in setting],
    ).fetchone()
    assert row is not None
    first, schema = row[:2]
    if first is None:
        raise TickIndexError(
            f"the search path of {connection.info.user} in the database {connection.info.dbname} "
            "names no existing schema: create it (CREATE SCHEMA), or correct the path in the "
            "DSN's options or of the role (ALTER ROLE ... SET search_path)",
            database=connection.info.dbname,
        )
    if schema is not None and schema != first:
        connection.execute(
            "SELECT set_config('search_path', concat_ws(', ', quote_ident(%s), "
            "current_setting('search_path')), false)",
            (schema,),
        )


def _uses_service(parameters: Mapping[str, str]) -> bool:
    return bool("service" in parameters or os.environ.get("PGSERVICE"))


def _variables_to_hide(parameters: Mapping[str, str]) -> list[str]:
    names = list(_VARIABLES_WITHOUT_PARAMETER)
    options = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
    if options - {"service"} <= parameters.keys():
        return [
            *names,
            "PGSERVICE",
        ]  # nothing is left to look up, and an unknown service would fail
    if _uses_service(parameters):
        names += ["PGOPTIONS", "PGTARGETSESSIONATTRS"]
        if "host" in parameters:
            names.append("PGHOSTADDR")
    return names


@contextmanager
def _hidden_variables(names: list[str]) -> Iterator[None]:
    """Unset environment variables for libpq, under a lock; ``os.environ`` keeps them.

    They are rarely set. A program that another thread starts meanwhile does not inherit them.
    """
    present = [name for name in names if name in os.environ]
    if not present:
        yield
        return
    with _environment_lock:
        for name in present:
            os.unsetenv(name)
        try:
            yield
        finally:
            for name in present:
                if name in os.environ:
                    os.putenv(name, os.environ[name])


class TimeoutConnection(psycopg.Connection[TupleRow]):
    """A psycopg connection with a timeout for each reply of the server.

    Attributes
    ----------
    reply_timeout : float or None
        Seconds to wait for a reply; None for no limit.
    """

    reply_timeout: float | None = STATEMENT_TIMEOUT_SECONDS + _REPLY_MARGIN_SECONDS

    @contextmanager
    def allow_seconds(self, seconds: float) -> Iterator[None]:
        """Extend the reply timeout inside a ``with`` block, for a slow statement."""
        previous, self.reply_timeout = self.reply_timeout, seconds + _REPLY_MARGIN_SECONDS
        try:
            yield
        finally:
            self.reply_timeout = previous

    def wait(
        self,
        gen: Generator[Any, Any, _T],
        interval: float = _POLL_SECONDS,
        timeout: float | None = None,
    ) -> _T:
        """Run a psycopg generator; raise OperationalError when the reply times out."""
        limited = self._with_deadline(gen)
        if timeout is None:
            return super().wait(limited, interval)
        return super().wait(limited, interval, timeout)

    def _with_deadline(self, gen: Generator[Any, Any, _T]) -> Generator[Any, Any, _T]:
        """Run a generator with a deadline that is checked whenever nothing is ready."""
        timeout = self.reply_timeout
        started = time.monotonic()
        try:
            events = next(gen)
            while True:
                ready = yield events
                if not ready and timeout is not None and time.monotonic() - started > timeout:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the server has not replied for {timeout:.0f} s; it may be stopped, or "
                        "its machine or disk overloaded"
                    )
                events = gen.send(ready)
        except StopIteration as end:
            result: _T = end.value
            return result
