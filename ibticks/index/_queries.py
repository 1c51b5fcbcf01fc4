"""SQL queries of users: one read-only statement, run as a role that can only read.

A read-only transaction alone does not restrict a superuser: ``COPY ... TO PROGRAM`` and
``pg_read_file`` reach the machine, and a ``DO`` block ends the transaction. Queries therefore run
inside the function ``ibticks_read``, with the rights of the role ``ibticks_reader``: a role that
may ``SELECT`` from the schema of the index and nothing else. Inside such a function
(``SECURITY DEFINER``) PostgreSQL refuses to change the role or to end the transaction.

On a server where the user may not create roles, a query runs with the rights of the user, in a
read-only transaction.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import pq, sql

from ibticks.config import QUERY_TIMEOUT_SECONDS
from ibticks.errors import IndexUnavailableError, ReadOnlyError, TickIndexError
from ibticks.index._records import QueryResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection
    from psycopg.rows import TupleRow

__all__ = ["READER_ROLE", "create_reader_role", "run_query"]

READER_ROLE: Final = "ibticks_reader"
"""Role (NOLOGIN) whose rights queries have."""

_READ_KEYWORDS: Final = ("SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "SHOW")

_SKIPPED: Final = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$))+")
_WORD: Final = re.compile(r"[A-Za-z_]+")

_FUNCTION_BODY: Final = "BEGIN RETURN QUERY EXECUTE query; END"
_FUNCTION_COMMENT: Final = (
    "Runs a query of ibticks' store.sql with the rights of ibticks_reader, which may only read "
    "the tables of the index."
)

_log = logging.getLogger(__name__)


class _Column(NamedTuple):
    name: str
    type: str
    is_pseudo: bool
    """Whether the type is a pseudo-type such as ``void`` or ``record``, which is read as text."""


def run_query(
    connection: Connection[TupleRow],
    query: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    as_reader: bool,
    timeout_seconds: float = QUERY_TIMEOUT_SECONDS,
) -> QueryResult:
    """Run one read-only statement.

    Parameters
    ----------
    connection : Connection
        In autocommit mode, to be closed afterwards: its session stays read-only.
    query : str
        One statement; ``%s`` or ``%(name)s`` stand for ``parameters``, if there are any.
    parameters : sequence or mapping, optional
    as_reader : bool
        Whether to run as :data:`READER_ROLE`; see :func:`create_reader_role`.
    timeout_seconds : float
        Time limit.

    Raises
    ------
    ReadOnlyError
        The statement would change something, or reads more than the index.
    TickIndexError
        PostgreSQL refused the statement, or it exceeded the timeout.
    IndexUnavailableError
        The connection was lost.
    """
    _check_read_only(query)
    try:
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        _limit_time(connection, timeout_seconds)
        text = query
        if parameters is not None:
            text = psycopg.ClientCursor(connection).mogrify(query, parameters)
        columns = _describe(connection, text)
        if not columns:  # SELECT INTO has none: run it for its error
            count = [_Column("count", "bigint", is_pseudo=False)]
            _fetch(connection, _as_table(text, "count(*)", "q"), count, as_reader=as_reader)
            return QueryResult((), (), [])
        if any(column.is_pseudo for column in columns):
            text = _with_text_columns(text, columns)
        rows = _fetch(connection, text, columns, as_reader=as_reader)
    except psycopg.Error as error:
        raise _query_error(connection, error, query, timeout_seconds, as_reader) from error
    return QueryResult(
        _unique(column.name for column in columns), tuple(column.type for column in columns), rows
    )


def _limit_time(connection: Connection[TupleRow], timeout_seconds: float) -> None:
    milliseconds = max(1, round(timeout_seconds * 1000))
    connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(milliseconds),))


def _check_read_only(query: str) -> None:
    """Raise ReadOnlyError unless the statement begins with a read-only keyword."""
    keyword = _first_keyword(query)
    if keyword not in _READ_KEYWORDS:
        raise ReadOnlyError(
            f"sql only reads: a statement begins with {', '.join(_READ_KEYWORDS[:-1])} or "
            f"{_READ_KEYWORDS[-1]}, and not with {keyword or 'nothing'}",
            sql=query,
        )


def _first_keyword(query: str) -> str:
    position = 0
    while True:
        if match := _SKIPPED.match(query, position):
            position = match.end()
        elif query.startswith("/*", position):
            position = _end_of_comment(query, position)
        else:
            break
    keyword = _WORD.match(query, position)
    return keyword[0].upper() if keyword else query[position : position + 1]


def _end_of_comment(query: str, position: int) -> int:
    """Return the end of the comment that begins at ``position``; comments may be nested."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(query, position):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(query)


def _describe(connection: Connection[TupleRow], text: str) -> list[_Column]:
    """Return the columns of one statement, which the server parses but does not run."""
    encoding = connection.info.encoding
    result = connection.pgconn.prepare(b"", text.encode(encoding))
    if result.status == pq.ExecStatus.COMMAND_OK:
        result = connection.pgconn.describe_prepared(b"")
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result, encoding=encoding)
    numbers = range(result.nfields)
    rows = connection.execute(
        "SELECT pg_catalog.format_type(t.oid, c.modifier), t.typtype = 'p' "
        "FROM unnest(%s::OID[], %s::INTEGER[]) WITH ORDINALITY AS c(type, modifier, place) "
        "JOIN pg_catalog.pg_type AS t ON t.oid = c.type ORDER BY c.place",
        ([result.ftype(n) for n in numbers], [result.fmod(n) for n in numbers]),
    ).fetchall()
    names = [(result.fname(n) or b"").decode(encoding) for n in numbers]
    return [
        _Column(name, "text" if is_pseudo else type_name, is_pseudo)
        for name, (type_name, is_pseudo) in zip(names, rows, strict=True)
    ]


def _with_text_columns(text: str, columns: Sequence[_Column]) -> str:
    """Cast the columns of pseudo-types to text: a function cannot return them."""
    names = [f"c{number}" for number in range(len(columns))]
    selected = ", ".join(
        f"q.{name}::TEXT" if column.is_pseudo else f"q.{name}"
        for name, column in zip(names, columns, strict=True)
    )
    return _as_table(text, selected, f"q({', '.join(names)})")


def _as_table(text: str, selected: str, name: str) -> str:
    """Return a query of the rows of another one."""
    inner = re.sub(r";\s*$", "", text)
    return f"SELECT {selected} FROM ({inner}\n) AS {name}"


def _fetch(
    connection: Connection[TupleRow], text: str, columns: Sequence[_Column], *, as_reader: bool
) -> list[TupleRow]:
    if not as_reader:
        return connection.execute(text.encode("utf-8")).fetchall()
    # The types come from the server; the user's names are not part of the statement.
    definition = ", ".join(f"c{n} {column.type}" for n, column in enumerate(columns))
    call = f"SELECT * FROM ibticks_read(%s) AS t({definition.replace('%', '%%')})"
    return connection.execute(call.encode("utf-8"), (text,)).fetchall()


def _unique(names: Any) -> tuple[str, ...]:
    """Append numbers to repeated names.

    Examples
    --------
    >>> _unique(["a", "b", "a", "a"])
    ('a', 'b', 'a_1', 'a_2')
    """
    originals = list(names)
    reserved = set(originals)
    used: set[str] = set()
    result = []
    for name in originals:
        unique, number = name, 0
        while unique in used or (number and unique in reserved):
            number += 1
            unique = f"{name}_{number}"
        used.add(unique)
        result.append(unique)
    return tuple(result)


def _query_error(
    connection: Connection[TupleRow],
    error: psycopg.Error,
    query: str,
    timeout_seconds: float,
    as_reader: bool,
) -> TickIndexError | ReadOnlyError:
    reason = error.diag.message_primary or str(error).strip()
    if connection.broken:
        return IndexUnavailableError(f"the connection was lost during a query: {reason}")
    if isinstance(error, psycopg.errors.QueryCanceled):
        return TickIndexError(
            f"the query exceeded its timeout of {timeout_seconds:g} s: select less, or raise "
            "timeout_seconds=",
            sql=query,
        )
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return ReadOnlyError(f"sql only reads: {reason}", sql=query)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        rights = f" of {READER_ROLE}, which may SELECT from the index" if as_reader else ""
        return ReadOnlyError(f"sql only reads, with the rights{rights}: {reason}", sql=query)
    if "multiple commands" in reason:
        return ReadOnlyError("sql only reads: pass one statement at a time", sql=query)
    remedy = ""
    if isinstance(error, psycopg.errors.UndefinedTable):
        remedy = (
            "\nThe index has the tables tick_files, daily_tick_stats, contracts, coverage and "
            "market_sessions; the ticks are in the files: load them with store.select(...)"
        )
    return TickIndexError(f"PostgreSQL refused the query: {str(error).strip()}{remedy}", sql=query)


# -- the role --------------------------------------------------------------------------------------


def create_reader_role(
    connection: Connection[TupleRow], *, timeout_seconds: float = QUERY_TIMEOUT_SECONDS
) -> bool:
    """Create the role and the function that run queries, unless they exist; False if it cannot.

    Parameters
    ----------
    connection : Connection
        In autocommit mode, with the schema of the index first in its search path.
    timeout_seconds : float
        Timeout of each statement: a table may be locked.

    Raises
    ------
    ReadOnlyError
        The user is a superuser, and the role cannot be created: the server is a standby.
    TickIndexError, IndexUnavailableError
        PostgreSQL refused, or exceeded the timeout.
    """
    try:
        _limit_time(connection, timeout_seconds)
        if _reader_exists(connection):
            return True
        with connection.transaction():
            _create_role(connection)
            _create_function(connection)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        reason = error.diag.message_primary
        if connection.pgconn.parameter_status(b"is_superuser") == b"on":
            raise ReadOnlyError(
                f"sql does not run with the rights of the superuser {connection.info.user}, and "
                f"the role {READER_ROLE} cannot be created: {reason}. Open the store with the DSN "
                "of a user who may only SELECT, or once on the primary server"
            ) from error
        _log.warning(
            "sql runs with the rights of %s, in read-only transactions: the role %s, which may "
            "only SELECT from the index, cannot be created (%s). Let an administrator of the "
            "server open the store and call sql once, or give %s the rights CREATEROLE and CREATE "
            "on the database's schema",
            connection.info.user,
            READER_ROLE,
            reason,
            connection.info.user,
        )
        return False
    except psycopg.Error as error:
        raise _query_error(connection, error, "", timeout_seconds, False) from error
    return True


def _reader_exists(connection: Connection[TupleRow]) -> bool:
    """Return whether role and function exist and can read all tables this user may grant."""
    row = connection.execute(
        """
        SELECT NOT r.rolsuper AND NOT r.rolcanlogin
            AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
            AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
            AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_class AS c
                WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'v', 'm', 'p')
                    AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
                    AND NOT pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT')
            )
        FROM pg_catalog.pg_roles AS r
        JOIN pg_catalog.pg_proc AS p ON p.proowner = r.oid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE r.rolname = %s AND p.proname = 'ibticks_read' AND p.prosecdef AND p.prosrc = %s
            AND n.nspname = current_schema()
        """,
        (READER_ROLE, _FUNCTION_BODY),
    ).fetchone()
    return bool(row and row[0])


def _create_role(connection: Connection[TupleRow]) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('ibticks_reader'))")
    exists = "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s"
    if connection.execute(exists, (READER_ROLE,)).fetchone() is None:
        try:
            with connection.transaction():
                connection.execute("CREATE ROLE ibticks_reader NOLOGIN NOSUPERUSER NOCREATEDB")
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            pass  # created meanwhile for another database of the server
    if connection.pgconn.parameter_status(b"is_superuser") != b"on":
        # To transfer the function to it; a superuser need not be a member.
        connection.execute("GRANT ibticks_reader TO CURRENT_USER")


def _create_function(connection: Connection[TupleRow]) -> None:
    row = connection.execute("SELECT current_schema()").fetchone()
    assert row is not None
    schema_name = row[0]
    schema = sql.Identifier(schema_name)
    owner = connection.execute(
        "SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class "
        "WHERE oid = 'tick_files'::regclass"
    ).fetchone()
    assert owner is not None
    tables = connection.execute(
        "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = %s::regnamespace "
        "AND relkind IN ('r', 'v', 'm', 'p') AND pg_catalog.pg_has_role(relowner, 'USAGE')",
        (schema.as_string(connection),),
    ).fetchall()
    for statement in (
        "GRANT USAGE, CREATE ON SCHEMA {schema} TO ibticks_reader",
        "GRANT SELECT ON {tables} TO ibticks_reader",
        "DROP FUNCTION IF EXISTS {schema}.ibticks_read(TEXT)",
        (
            "CREATE FUNCTION {schema}.ibticks_read(query TEXT) RETURNS SETOF RECORD "
            "LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS {body}"
        ),
        "COMMENT ON FUNCTION {schema}.ibticks_read(TEXT) IS {comment}",
        "REVOKE ALL ON FUNCTION {schema}.ibticks_read(TEXT) FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION {schema}.ibticks_read(TEXT) TO CURRENT_USER, {owner}",
        "ALTER FUNCTION {schema}.ibticks_read(TEXT) OWNER TO ibticks_reader",
        # CREATE was needed only to receive the function.
        "REVOKE CREATE ON SCHEMA {schema} FROM ibticks_reader",
    ):
        connection.execute(
            sql.SQL(statement).format(
                schema=schema,
                tables=sql.SQL(", ").join(sql.Identifier(schema_name, name) for (name,) in tables),
                owner=sql.Identifier(owner[0]),
                body=sql.Literal(_FUNCTION_BODY),
                comment=sql.Literal(_FUNCTION_COMMENT),
            )
        )
