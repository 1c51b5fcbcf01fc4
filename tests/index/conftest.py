"""One PostgreSQL server for all tests of the index, and one database for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ibticks.index import (
    ContractRecord,
    CoverageRecord,
    FileRecord,
    PostgresIndex,
)
from ibticks.testing import make_coverage_record, make_file_record
from tests.servers import open_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import PostgresServer


@pytest.fixture(scope="session")
def store_id() -> str:
    return "0b8f4c3e-5d7a-4f39-9a55-6f1c7d2e8a10"


def make_base() -> Path:
    """A short folder that the server's user can reach when the tests run as root."""
    base = Path(tempfile.mkdtemp(prefix="ibt-"))
    base.chmod(0o755)
    return base


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, store_id: str) -> Iterator[PostgresServer]:
    base = make_base()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBTICKS_PGDATA", str(base))
        stack = ExitStack()
        opened = stack.enter_context(open_server(tmp_path_factory.mktemp("store"), store_id))
    with stack:
        yield opened
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def admin(server: PostgresServer) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A superuser connection to the server."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(server: PostgresServer, store_id: str) -> Iterator[str]:
    """The DSN of a database with the schema, to be copied."""
    with server.database() as dsn:
        PostgresIndex(dsn, store_id).close()
        yield dsn


@pytest.fixture
def empty_dsn(server: PostgresServer) -> Iterator[str]:
    """A new database without the schema."""
    with server.database() as dsn:
        yield dsn


@pytest.fixture
def dsn(server: PostgresServer, template: str) -> Iterator[str]:
    """A new database with the schema."""
    with server.database(template) as dsn:
        yield dsn


@pytest.fixture
def index(dsn: str, store_id: str) -> Iterator[PostgresIndex]:
    index = PostgresIndex(dsn, store_id)
    yield index
    index.close()


@pytest.fixture
def sql(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A plain connection to the database of ``index``."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        yield connection


@pytest.fixture
def outage(dsn: str, server: PostgresServer) -> Callable[..., None]:
    """Make the database unavailable, and available again: ``outage(True)``, ``outage(False)``."""
    return lambda away: server.set_available(dsn, not away)


@pytest.fixture(scope="session")
def make_file() -> Callable[..., FileRecord]:
    """Make a file record: hour 0 is 2025-01-10 00:00 UTC."""
    return make_file_record


@pytest.fixture(scope="session")
def aapl() -> ContractRecord:
    return ContractRecord(265598, "AAPL", "SMART", "USD", "STK")


@pytest.fixture(scope="session")
def make_interval() -> Callable[..., CoverageRecord]:
    """Make a coverage record."""
    return make_coverage_record


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a store, with the id's file."""
    root = tmp_path / "store"
    (root / "metadata").mkdir(parents=True)
    return root


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python code in a new process group."""
    started = []

    def start(
        code: str, *arguments: str, options: tuple[str, ...] = (), **environment: Any
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *options, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


@pytest.fixture
def run_concurrently(python: Callable[..., subprocess.Popen[str]]) -> Callable[..., list[str]]:
    """Run code in several processes at once, and return the output of each.

    The code prints ``ready`` when it is prepared, and waits for a line of its input.
    """

    def run(code: str, *arguments: str, processes: int) -> list[str]:
        started = [python(code, *arguments) for _ in range(processes)]
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = []
        for process in started:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            outputs.append(out)
        return outputs

    return run
