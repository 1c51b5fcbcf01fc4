"""Fixtures shared by the tests of the upper rooms: stores of real ticks, and empty ones."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

import ibticks as ibt
from ibticks.calendar import MARKETS, session_rows
from ibticks.index import PostgresIndex
from ibticks.testing import FakeCapture, open_sample_store

from .servers import open_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from .servers import PostgresServer

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def postgres(clusters: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A shared PostgreSQL server for stores of tests."""
    with open_server(tmp_path_factory.mktemp("postgres"), "of the tests") as server:
        yield server


@pytest.fixture(scope="session")
def ready_database(postgres: PostgresServer) -> Iterator[str]:
    """The DSN of a database with the schema and a year of sessions, to be copied."""
    with postgres.database() as template:
        index = PostgresIndex(template, "nobody's")
        today = datetime.now(UTC).date()
        # Not from 2000 on, as a store would: copying that takes longer than the tests.
        index.put_sessions(session_rows(MARKETS, today, today + timedelta(days=365)))
        index.close()
        with psycopg.connect(template, autocommit=True) as connection:
            connection.execute("DELETE FROM store_identity")
        yield template


@pytest.fixture
def database(postgres: PostgresServer, ready_database: str) -> Iterator[str]:
    """The DSN of a database that is the index of no store yet."""
    with postgres.database(ready_database) as dsn:
        yield dsn


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[ibt.Store]:
    """An empty store."""
    with ibt.open(tmp_path / "ticks", dsn=database) as opened:
        yield opened


@pytest.fixture(scope="session")
def sample_root(clusters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``sample_store``."""
    return tmp_path_factory.mktemp("sample") / "ticks"


@pytest.fixture(scope="session")
def sample_store(sample_root: Path) -> Iterator[ibt.Store]:
    """A store of all the samples, with its embedded PostgreSQL; only to be read."""
    with open_sample_store(sample_root) as opened:
        yield opened


@pytest.fixture(scope="session")
def fake_capture() -> type[FakeCapture]:
    """A capture without IB, to be begun with a root, an index and a stream."""
    return FakeCapture


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without network access.

    A module's own: playwright keeps an event loop running for as long as it is open, in which
    other tests cannot run theirs.
    """
    if not CHROMIUM.exists():
        missing = f"no Chromium at {CHROMIUM}: apt-get install chromium"
        if os.environ.get("IBTICKS_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()
