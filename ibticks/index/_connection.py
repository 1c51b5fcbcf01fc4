"""Connections to PostgreSQL whose meaning does not depend on the environment.

libpq fills in what a DSN leaves out from ``PGHOSTADDR``, ``PGOPTIONS``, ``PGSERVICE`` and some
thirty other variables, and from files they name. The embedded server's DSN leaves nothing out
(:func:`embedded_dsn`). A DSN of the user leaves to libpq where the server is and who connects;
the session settings are set on every connection (:func:`connect`).
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ibticks.errors import TickIndexError
from ibticks.index._timeout_connection import (
    LOCK_TIMEOUT_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    BoundedConnection,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["application_name", "connect", "dsn_parameters", "embedded_dsn"]

# A connection to a host that vanished fails in seconds, not in the system's 15 minutes.
_TIMEOUTS: Final = {
    "connect_timeout": "5",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}

_NO_DEFAULT: Final = {
    # Not every option takes an empty value for none.
    "sslcertmode": "disable",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}

_HIDDEN: Final = ("PGTZ", "PGDATESTYLE", "PGGEQO")
"""Variables no connection parameter stands for: libpq asks the server for what they say."""

_SETTINGS: Final = {
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
"""Session settings the index depends on, which a role or a database may have changed."""

_environment: Final = threading.Lock()


def application_name() -> str:
    """Return the name by which the connections of this process are known to the server."""
    return f"ibticks {os.getpid()}"


def embedded_dsn(home: Path, port: int, role: str) -> str:
    """Return the DSN of an embedded server, with a value for every option libpq has.

    Parameters
    ----------
    home : Path
        The cluster's private folder, with the socket in it.
    port : int
        The number in the socket's name.
    role : str
        The database user.
    """
    options = {one.keyword.decode(): one for one in pq.Conninfo.get_defaults() if one.envvar}
    parameters = {name: (option.compiled or b"").decode() for name, option in options.items()}
    del parameters["service"]  # an empty one is looked up too: connect() hides the variable
    parameters |= {name: value for name, value in _NO_DEFAULT.items() if name in options}
    parameters |= {
        "host": str(home),
        "port": str(port),
        "dbname": "postgres",
        "user": role,
        "client_encoding": "UTF8",
        "passfile": str(home / "no-passwords"),  # there is none: the kernel says who connects
        "sslmode": "disable",
        "gssencmode": "disable",
        "connect_timeout": _TIMEOUTS["connect_timeout"],
    }
    return make_conninfo(**parameters)


def dsn_parameters(dsn: str) -> dict[str, str]:
    """Return the connection parameters of a DSN, and those it leaves out that must not vary.

    ``PGPASSWORD``, ``~/.pgpass``, ``PGSSLMODE`` and the like mean what they mean to psql. A host
    that the DSN names is not replaced by ``PGHOSTADDR``, and ``PGOPTIONS`` does not choose another
    schema.

    Raises
    ------
    psycopg.ProgrammingError
        This is no DSN; the message may have a part of the password.
    """
    given: dict[str, str] = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    parameters = {**_TIMEOUTS, **given}
    if not _uses_service(given):  # a service may set these: connect() hides the variables instead
        several = "," in given.get("host", given.get("hostaddr", ""))
        parameters.setdefault("options", "")
        parameters.setdefault("target_session_attrs", "read-write" if several else "any")
        if "host" in given:
            parameters.setdefault("hostaddr", "")
    make_conninfo(**parameters)
    return parameters


def connect(parameters: Mapping[str, str]) -> BoundedConnection:
    """Connect in autocommit, with every session setting the index depends on.

    The search path begins with the schema that has the index's tables, if one has.

    Parameters
    ----------
    parameters : mapping of str to str
        See :func:`dsn_parameters`.

    Raises
    ------
    psycopg.OperationalError
        No server answers, or it does not let this user in.
    TickIndexError
        The search path names no schema that exists.
    """
    fixed = {"application_name": application_name(), "client_encoding": "UTF8"}
    with _hidden_variables(_variables_to_hide(parameters)):
        connection = BoundedConnection.connect(
            **{**parameters, **fixed},  # type: ignore[arg-type]
            autocommit=True,
            prepare_threshold=None,  # a pooler before the server may not keep them
        )
    try:
        _prepare_session(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare_session(connection: BoundedConnection) -> None:
    settings = ", ".join("set_config(%s, %s, false)" for _ in _SETTINGS)
    row = connection.execute(
        "SELECT current_schema(), (SELECT n.nspname FROM pg_catalog.pg_class AS c "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relname = 'schema_migrations' AND n.nspname = ANY(current_schemas(false)) "
        "ORDER BY array_position(current_schemas(false), n.nspname) LIMIT 1), "
        f"{settings}".encode(),
        [part for setting in _SETTINGS.items() for part in setting],
    ).fetchone()
    assert row is not None
    first, schema = row[:2]
    if first is None:
        raise TickIndexError(
            f"the search path of {connection.info.user} in the database {connection.info.dbname} "
            "names no schema that exists: make it (CREATE SCHEMA), or correct the path in the "
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
    names = list(_HIDDEN)
    options = {one.keyword.decode() for one in pq.Conninfo.get_defaults() if one.envvar}
    if options - {"service"} <= parameters.keys():
        return [*names, "PGSERVICE"]  # it could add nothing, and fail where it is not known
    if _uses_service(parameters):
        names += ["PGOPTIONS", "PGTARGETSESSIONATTRS"]
        if "host" in parameters:
            names.append("PGHOSTADDR")
    return names


@contextmanager
def _hidden_variables(names: list[str]) -> Iterator[None]:
    """Hide variables from libpq, which offers no other way; ``os.environ`` keeps them.

    They are seldom set. A program another thread starts meanwhile does not get them.
    """
    present = [name for name in names if name in os.environ]
    if not present:
        yield
        return
    with _environment:
        for name in present:
            os.unsetenv(name)
        try:
            yield
        finally:
            for name in present:
                if name in os.environ:
                    os.putenv(name, os.environ[name])
