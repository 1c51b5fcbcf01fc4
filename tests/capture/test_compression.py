"""Compression of old hours by a running capture."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from ibticks.capture import CaptureSettings, Recorder
from ibticks.capture import _maintenance as maintenance
from ibticks.capture import _recorder as recorder_module
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.coverage import resume_ledger
from ibticks.errors import ConfigError, StorageError, UnknownPeriodError
from ibticks.index import FileRecord, MemoryIndex
from ibticks.storage import FileKey, StreamAppender, compress_file, floor_hour
from tests.capture_checks import check_index, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Capture, Store
    from ibticks.gateway import Gateway, Replay

TRACKED = "1:ONE:bid_ask"


def test_old_hours_are_compressed_and_ticks_go_on(
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maintenance, "_INTERVAL_SECONDS", 0.1)
    real_ns, ahead = time.time_ns, [0]
    for module in (time, recorder_module):
        monkeypatch.setattr(module, "time_ns", lambda: real_ns() + ahead[0])
    gateway = serve(steady, speed=1.0)
    capture = capturing(gateway, TRACKED, compress_after="2h")

    def ticks() -> int:
        return capture.status()["status"]["ticks"]

    def files() -> list[tuple[bool, str]]:
        return [(file.sealed, file.compression) for file in store.index.files()]

    until(lambda: ticks() > 50)
    ahead[0] = HOUR_NS + 120 * NANOSECONDS
    before = ticks()
    until(lambda: ticks() > before + 50)
    until(lambda: files() == [(True, "none"), (False, "none")])
    ahead[0] += 2 * HOUR_NS
    until(lambda: files()[0] == (True, "zstd"))
    before = ticks()
    until(lambda: ticks() > before + 50)
    # And back: a late tick opens the compressed hour again.
    ahead[0] = 0
    before = ticks()
    until(lambda: ticks() > before + 50)
    gateway.pause()
    until(lambda: ticks() == sum(gateway.sent.values()))
    capture.stop()
    assert list(capture.failures) == []
    frame = store.select(1, "bid_ask").to_polars().sort("sequence")
    sent = steady.streams[1, "bid_ask"].columns.numbers("bid_price")
    assert frame["bid_price"].to_list() == sent[gateway.rows_sent(1, "bid_ask")].tolist()
    check_index(store.root, store.index)


def test_no_compression_by_default(
    steady: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture]
) -> None:
    capture = capturing(serve(steady, speed=1.0), TRACKED)
    assert not any(thread.name == "ibticks-compress" for thread in threading.enumerate())
    assert capture.settings.compress_after is None


def test_compression_skips_a_deleted_file(stage: Stage) -> None:
    def compressor(*arguments: Any) -> NoReturn:
        raise AssertionError(arguments)

    path = stage.root / stage.keys[0].path
    away = path.rename(path.with_name("away"))
    stage.recorder.compress(stage.keys[0], "zstd", compressor)
    away.rename(path)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("24h", 86400.0), (timedelta(minutes=1), 60.0), (7, 7), (0, 0), (None, None)],
)
def test_durations_in_several_forms(
    duration: str | timedelta | int | None, seconds: float | None
) -> None:
    settings = CaptureSettings.from_environment({}, tracked=TRACKED, compress_after=duration)
    assert settings.compress_after == seconds


def test_invalid_durations() -> None:
    with pytest.raises(UnknownPeriodError):
        CaptureSettings.from_environment({}, tracked=TRACKED, compress_after="some day")
    with pytest.raises(ConfigError, match="compress_after=-1"):
        CaptureSettings.from_environment({}, tracked=TRACKED, compress_after=-1)


# --- one stream -----------------------------------------------------------------------------------

NOW = floor_hour(1_736_510_400_000_000_000)


class Stage:
    """A recorder with a sealed hour and an open one."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        monkeypatch.setattr(recorder_module, "time_ns", self.clock)
        self.root, self.index = root, MemoryIndex()
        appender = StreamAppender(root, 1, "bid_ask", self.index, fsync=None)
        self.recorder = Recorder(
            appender, "run", 0, resume_ledger(root, self.index, 1, "bid_ask", "run"), self.index
        )
        self.quote()
        self.now += HOUR_NS
        self.quote()
        self.recorder.maintain(self.now + 120 * NANOSECONDS)
        self.keys = [FileKey(1, "bid_ask", NOW), FileKey(1, "bid_ask", NOW + HOUR_NS)]

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def quote(self) -> None:
        self.recorder.quote(7, 1.5, Decimal(1), 2.5, Decimal(1), False, False)

    def files(self) -> list[tuple[bool, str, int]]:
        return [(file.sealed, file.compression, file.ticks) for file in self.index.files()]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path, monkeypatch)
    yield made
    made.recorder.close()
    check_index(made.root, made.index)


def test_only_ticks_of_the_compressed_file_wait(stage: Stage) -> None:
    working, go_on = threading.Event(), threading.Event()

    def compressor(*arguments: Any) -> FileRecord:
        working.set()
        assert go_on.wait(30)
        return compress_file(*arguments)

    compressor_thread = threading.Thread(
        target=stage.recorder.compress, args=(stage.keys[0], "zstd", compressor)
    )
    compressor_thread.start()
    assert working.wait(30)
    stage.quote()
    assert stage.recorder.ticks == 3
    stage.now -= HOUR_NS
    late = threading.Thread(target=stage.quote)
    late.start()
    late.join(0.2)
    assert late.is_alive()
    go_on.set()
    compressor_thread.join(30)
    late.join(30)
    assert stage.recorder.ticks == 4
    stage.recorder.close()
    assert stage.files() == [(True, "none", 2), (True, "none", 2)]


def test_open_file_is_not_compressed(stage: Stage) -> None:
    def compressor(*arguments: Any) -> NoReturn:
        raise AssertionError(arguments)

    stage.recorder.compress(stage.keys[1], "zstd", compressor)
    assert stage.files()[1][:2] == (False, "none")


def test_failed_compression_is_reported_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_INTERVAL_SECONDS", 0.01)
    path = stage.root / stage.keys[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    failures = []
    made = maintenance.HourCompressor(
        [stage.recorder], stage.index, 0, lambda where, error: failures.append((where, error))
    )
    made.start()
    until(lambda: failures)
    time.sleep(0.3)
    made.stop()
    ((where, error),) = failures
    assert where == "compress"
    assert isinstance(error, StorageError)
    assert "left as it is" in str(error)
    path.write_bytes(whole)


@pytest.mark.parametrize("place", ["before the rename", "after the rename"])
def test_failed_compression_leaves_a_true_index_row(stage: Stage, place: str) -> None:
    def compressor(*arguments: Any) -> NoReturn:
        if place == "after the rename":
            compress_file(*arguments)
        raise StorageError("the sealing process ended")

    with pytest.raises(StorageError, match="the sealing process ended"):
        stage.recorder.compress(stage.keys[0], "zstd", compressor)
    assert stage.files()[0][:2] == (True, "none" if place == "before the rename" else "zstd")


def test_compression_killed_before_its_index_row_is_repaired_by_the_next_writer(
    stage: Stage,
) -> None:
    class Killed(BaseException):
        pass

    def compressor(*arguments: Any) -> NoReturn:
        compress_file(*arguments)
        raise Killed

    with pytest.raises(Killed):
        stage.recorder.compress(stage.keys[0], "zstd", compressor)
    assert stage.files()[0][0] is False
    stage.recorder.close()
    StreamAppender(stage.root, 1, "bid_ask", stage.index, fsync=None).close()
    assert stage.files()[0][:2] == (True, "zstd")


def test_stop_without_start() -> None:
    maintenance.HourCompressor([], MemoryIndex(), 0, print).stop()
