"""The PostgreSQL server of the tests: the wheel's, or the one that ``IBTICKS_TEST_DSN`` names."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from ibticks.index.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DSN_VARIABLE = "IBTICKS_TEST_DSN"


class PostgresServer:
    """A server on which each test creates, and drops, databases.

    Parameters
    ----------
    dsn : str
        A connection as a superuser.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        # Several processes of a test run may share the server.
        self._prefix = f"test_ibticks_{os.getpid()}_{os.urandom(3).hex()}"
        self._numbers = itertools.count()

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """Create a database; yield its DSN, and drop it at the end.

        Parameters
        ----------
        template : str, optional
            DSN of the database to copy.
        """
        name = f"{self._prefix}_{next(self._numbers)}"
        source = template and psycopg.conninfo.conninfo_to_dict(template)["dbname"]
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {source or 'template0'}".encode())
            try:
                yield make_conninfo(self.dsn, dbname=name)
            finally:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def set_available(self, dsn: str, available: bool) -> None:
        """Let clients connect to a database, or end their connections and refuse new ones."""
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {available}".encode())
            if not available:
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = %s",
                    (name,),
                )


@contextmanager
def open_server(folder: Path, store_id: str) -> Iterator[PostgresServer]:
    """Open the server that ``IBTICKS_TEST_DSN`` names, or else start one for the run.

    Parameters
    ----------
    folder : Path
        The store to which the started server belongs.
    store_id : str
        The id of that store.
    """
    if dsn := os.environ.get(DSN_VARIABLE):
        yield PostgresServer(dsn)
        return
    with EmbeddedServer.for_store(folder, store_id) as embedded:
        with psycopg.connect(embedded.dsn, autocommit=True) as admin:
            # It need not survive a power cut.
            admin.execute("ALTER SYSTEM SET fsync = off")
            admin.execute("SELECT pg_reload_conf()")
        yield PostgresServer(embedded.dsn)
