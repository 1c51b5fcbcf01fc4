"""Connections with every libpq variable set, and with settings of roles and databases."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import ibticks as ibt
from ibticks.errors import IndexMismatchError, IndexUnavailableError, TickIndexError
from ibticks.index import ContractRecord, FileRecord, PostgresIndex
from ibticks.index._connection import TimeoutConnection, connect, dsn_parameters
from ibticks.index._database import Database
from ibticks.index._migrations import migrate, migrations

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import PostgresServer

VALUES = {
    "PGHOST": "/nowhere",
    "PGHOSTADDR": "127.0.0.1",
    "PGPORT": "1",
    "PGDATABASE": "nowhere",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/etc/passwd",
    "PGCONNECT_TIMEOUT": "never",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGOPTIONS": "-c search_path=research -c default_transaction_read_only=on",
    "PGAPPNAME": "control",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLCERTMODE": "require",
    "PGSSLROOTCERT": "/nowhere",
    "PGREQUIREPEER": "nobody",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGMINPROTOCOLVERSION": "3.2",
    "PGMAXPROTOCOLVERSION": "nonsense",
    "PGSSLMINPROTOCOLVERSION": "TLSv1.3",
    "PGSSLMAXPROTOCOLVERSION": "TLSv1",
    "PGTARGETSESSIONATTRS": "standby",
    "PGLOADBALANCEHOSTS": "random",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nowhere",
    "PGTZ": "Mars/Olympus",
    "PGDATESTYLE": "nonsense",
    "PGGEQO": "nonsense",
}
KNOWN = {option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}


def session(connection: TimeoutConnection) -> tuple[Any, ...] | None:
    return connection.execute(
        "SELECT current_setting('TimeZone'), current_setting('DateStyle'), "
        "current_setting('client_encoding'), current_setting('transaction_read_only'), "
        "current_schema(), current_database()"
    ).fetchone()


@pytest.fixture
def short_dsn(dsn: str) -> str:
    """A short DSN with only the location of the server, and the password if it has one."""
    full: dict[str, Any] = dict(conninfo_to_dict(dsn))
    names = ("host", "port", "dbname", "user", "password")
    return make_conninfo(**{name: full[name] for name in names if name in full})


@pytest.fixture
def database_name(dsn: str) -> str | int | None:
    return conninfo_to_dict(dsn)["dbname"]


@pytest.mark.own_server
@pytest.mark.parametrize("variable", sorted(KNOWN | VALUES.keys()))
def test_environment_variables_do_not_affect_the_embedded_server(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, VALUES.get(variable, "nonsense"))
    with connect(dsn_parameters(server.dsn)) as connection:
        assert session(connection) == ("UTC", "ISO, MDY", "UTF8", "off", "public", "postgres")
    assert os.environ[variable] == VALUES.get(variable, "nonsense")


@pytest.mark.own_server
def test_an_embedded_store_opens_with_all_variables_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    for variable, value in VALUES.items():
        monkeypatch.setenv(variable, value)
    base = conninfo_to_dict(admin.info.dsn)["host"].rpartition("/")[0]
    monkeypatch.setenv("IBTICKS_PGDATA", base)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ibt.open(tmp_path / "store") as store:
            store.add_contract(265598, "AAPL")
            assert not store.index.away
            assert [contract.symbol for contract in store.contracts()] == ["AAPL"]


LIBPQ_VARIABLES = ["PGPORT", "PGDATABASE", "PGUSER", "PGHOST"]


@pytest.mark.parametrize(
    "variable",
    [
        "PGHOSTADDR",
        "PGOPTIONS",
        "PGTARGETSESSIONATTRS",
        "PGCLIENTENCODING",
        "PGAPPNAME",
        "PGCONNECT_TIMEOUT",
        "PGTZ",
        "PGDATESTYLE",
        "PGGEQO",
        *LIBPQ_VARIABLES,
    ],
)
def test_environment_variables_do_not_change_a_dsn(
    short_dsn: str,
    database_name: str | int | None,
    store_id: str,
    monkeypatch: pytest.MonkeyPatch,
    aapl: ContractRecord,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, VALUES[variable])
    index = PostgresIndex(short_dsn, store_id)
    index.put_contracts([aapl])
    assert index.contracts() == [aapl]
    index.close()
    with connect(dsn_parameters(short_dsn)) as connection:
        assert session(connection) == ("UTC", "ISO, MDY", "UTF8", "off", "public", database_name)


def test_a_partial_dsn_is_completed_from_the_environment(
    dsn: str, database_name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: dict[str, Any] = dict(conninfo_to_dict(dsn))
    monkeypatch.setenv("PGHOST", full["host"])
    monkeypatch.setenv("PGDATABASE", database_name)
    if "password" in full:
        monkeypatch.setenv("PGUSER", full["user"])
        monkeypatch.setenv("PGPASSWORD", full["password"])
    with connect(dsn_parameters(f"port={full['port']}")) as connection:
        assert session(connection)[-1] == database_name


def test_errors_name_the_server_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, store_id: str
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATABASE", "ticks")
    with pytest.raises(IndexUnavailableError, match=r"database ticks on 127\.0\.0\.1:1"):
        Database("host=127.0.0.1", store_id)


@pytest.mark.parametrize("by", ["dsn", "variable"])
def test_a_service_file_keeps_its_options(
    short_dsn: str,
    database_name: str | int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sql: psycopg.Connection[tuple[Any, ...]],
    by: str,
) -> None:
    sql.execute("CREATE SCHEMA ticks")
    parameters = conninfo_to_dict(short_dsn)
    names = ["host", "port", "dbname"]
    if "password" in parameters:
        names += ["user", "password"]
    lines = [f"{name}={parameters[name]}\n" for name in names]
    services = tmp_path / "services.conf"
    services.write_text("".join(["[mine]\n", *lines, "options=-csearch_path=ticks,public\n"]))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGOPTIONS", "-c search_path=research")
    if by == "variable":
        monkeypatch.setenv("PGSERVICE", "mine")
    with connect(dsn_parameters("service=mine" if by == "dsn" else "")) as connection:
        assert session(connection)[-1] == database_name
        # The tables are in public, so that comes first.
        path = connection.execute("SHOW search_path").fetchone()[0]
        assert path == "public, ticks,public"


def test_a_subprocess_inherits_hidden_variables(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    connect(dsn_parameters(dsn)).close()
    code = "import os; print(os.environ['PGTZ'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Asia/Tokyo\n"


@pytest.mark.parametrize(
    "setting",
    [
        "default_transaction_read_only = on",
        "TimeZone = 'Asia/Tokyo'",
        "DateStyle = 'German'",
        "IntervalStyle = 'sql_standard'",
        "default_transaction_isolation = 'serializable'",
        "standard_conforming_strings = off",
        "client_encoding = 'LATIN1'",
    ],
)
def test_database_settings_do_not_affect_the_index(
    dsn: str,
    database_name: str | int | None,
    store_id: str,
    admin: psycopg.Connection[tuple[Any, ...]],
    make_file: Callable[..., FileRecord],
    setting: str,
) -> None:
    admin.execute(f"ALTER DATABASE {database_name} SET {setting}".encode())
    index = PostgresIndex(dsn, store_id)
    files = [make_file(0), make_file(1, path="265598/last/\N{EURO SIGN}\\n_ticks.pb")]
    index.replace_files(files)
    assert index.files() == files
    index.close()
    with connect(dsn_parameters(dsn)) as connection:
        assert session(connection)[:4] == ("UTC", "ISO, MDY", "UTF8", "off")


def test_tables_are_found_behind_a_schema_created_later(
    dsn: str,
    database_name: str | int | None,
    store_id: str,
    admin: psycopg.Connection[tuple[Any, ...]],
    aapl: ContractRecord,
) -> None:
    """A schema of the user's name comes first in the default search path."""
    index = PostgresIndex(dsn, store_id)
    index.put_contracts([aapl])
    index.close()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA newer")
    admin.execute(f"ALTER DATABASE {database_name} SET search_path = newer, public".encode())
    again = PostgresIndex(dsn, store_id)
    assert again.contracts() == [aapl]
    again.close()


def test_a_search_path_without_an_existing_schema_raises(dsn: str, store_id: str) -> None:
    with pytest.raises(TickIndexError, match=r"names no existing schema: create it"):
        Database(make_conninfo(dsn, options="-c search_path=research"), store_id)


# -- another store's database ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, len(migrations()) - 1])
def test_another_stores_database_is_not_migrated(empty_dsn: str, store_id: str, count: int) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate(connection, migrations()[:count])
        connection.execute("INSERT INTO store_identity (store_id) VALUES ('another')")
        with pytest.raises(IndexMismatchError, match="is the index of the store another"):
            Database(empty_dsn, store_id)
        applied = connection.execute("SELECT count(*) FROM schema_migrations").fetchone()
        assert applied == (count,)
    Database(empty_dsn, "another").close()
