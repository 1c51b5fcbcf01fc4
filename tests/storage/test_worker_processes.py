"""Files read by other processes: the same rows, in order, whatever happens to a process."""

from __future__ import annotations

import itertools
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.errors import StorageError
from ibticks.storage import FileKey, StreamWriter, iter_records, list_files
from ibticks.storage import _worker_processes as worker_processes
from ibticks.storage._audit import read_all_records

from .samples import CONTRACT, H13, SECOND, every, quotes

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

HOURS = 6


@pytest.fixture
def keys(writer: Callable[..., StreamWriter], root: Path) -> list[Any]:
    """Six sealed hours."""
    with writer() as opened:
        for hour in range(HOURS):
            opened.write(quotes(every(SECOND, 20, H13 + hour * HOUR_NS)))
    return list(list_files(root))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "MIN_FILES", 1)
    monkeypatch.setattr(worker_processes, "BATCH_FILES", 2)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Popen[str]]:
    """The processes that were started."""
    processes = []
    plain = worker_processes._RecordProcess._start

    def start(worker: Any) -> Popen[str]:
        processes.append(plain(worker))
        return processes[-1]

    monkeypatch.setattr(worker_processes._RecordProcess, "_start", start)
    return processes


def rows(root: Path, keys: list[Any], failures: list[Any] | None = None) -> list[Any]:
    marks = itertools.count()
    batches = list(iter_records(root, keys, lambda: next(marks), failures))
    assert [mark for mark, _ in batches] == list(range(len(batches)))
    return [record for _, batch in batches for record in batch]


def test_the_rows_are_those_of_one_process(
    root: Path, keys: list[Any], started: list[Popen[str]]
) -> None:
    assert rows(root, keys) == list(read_all_records(root))
    assert started
    assert all(process.returncode == 0 for process in started)


def test_few_files_need_no_process(
    root: Path, keys: list[Any], started: list[Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "MIN_FILES", HOURS + 1)
    assert rows(root, keys) == list(read_all_records(root))
    assert started == []


def test_each_batch_is_marked_before_it_is_read(root: Path, keys: list[Any]) -> None:
    """A file that a writer seals after the mark is newer than the row."""
    marks = iter_records(root, keys, lambda: len(list(list_files(root))))
    assert [mark for mark, _ in marks] == [HOURS] * 3


def test_a_damaged_file_is_reported_by_the_process_that_asked(
    root: Path, keys: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    (root / keys[3].path).write_bytes(bytes(500))
    caplog.set_level(logging.WARNING)
    assert rows(root, keys) == list(read_all_records(root))
    assert sum(keys[3].path in record.getMessage() for record in caplog.records) >= 2


def test_a_deleted_file_has_no_row(root: Path, keys: list[Any]) -> None:
    (root / keys[2].path).unlink()
    assert [record.path for record in rows(root, keys)] == [
        key.path for key in keys if key != keys[2]
    ]


def test_a_name_without_a_file_fails_or_is_left_out(root: Path, keys: list[Any]) -> None:
    lost = FileKey(CONTRACT, "bid_ask", H13 + HOURS * HOUR_NS)
    (root / lost.path).symlink_to(root / "unmounted")
    with pytest.raises(StorageError, match=lost.path):
        rows(root, [*keys, lost])
    failures: list[Any] = []
    assert [record.path for record in rows(root, [*keys, lost], failures)] == [
        key.path for key in keys
    ]
    assert [lost.path in str(error) for error in failures] == [True]


@pytest.mark.parametrize("how", ["killed", "not started", "no answer"])
def test_without_a_process_a_batch_is_read_in_this_one(
    root: Path, keys: list[Any], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    plain = worker_processes._RecordProcess._start

    def start(worker: Any) -> Popen[str]:
        if how == "not started":
            raise OSError("no process for the test")
        process = plain(worker)
        if how == "killed":
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            process.stdin.write("no JSON\n")
        return process

    monkeypatch.setattr(worker_processes._RecordProcess, "_start", start)
    assert rows(root, keys) == list(read_all_records(root))


def test_an_unfinished_iteration_ends_its_processes(
    root: Path, keys: list[Any], started: list[Popen[str]]
) -> None:
    batches = iter_records(root, keys, lambda: 0)
    next(batches)
    batches.close()
    assert all(process.poll() is not None for process in started)
