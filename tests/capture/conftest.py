"""Gateways that replay, captures of them, and nothing left of either after a test."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ibticks as ibt
from ibticks.capture import capture as capture_module
from ibticks.gateway import Gateway, Replay
from ibticks.storage.sealing import seal_files

from .checks import QUICK, until


@pytest.fixture(scope="session")
def samples() -> Replay:
    """All four tick types of both sample contracts."""
    return Replay.from_samples()


@pytest.fixture(scope="session")
def few(samples) -> Replay:
    """The first ticks of them."""
    return samples.head(1500)


@pytest.fixture
def serve(few):
    """Starts gateways, at full speed unless told otherwise; they close after the test."""
    opened: list[Gateway] = []

    def start(replay: Replay = few, **how) -> Gateway:
        gateway = Gateway(replay, **{"speed": None} | how)
        opened.append(gateway)
        return gateway.start()

    yield start
    for gateway in opened:
        gateway.close()


class SealedHere:
    """Seals in this process, which has the compiler loaded already."""

    def __call__(self, root, keys):
        return seal_files(root, keys)

    def rest(self, idle_seconds):
        pass

    def close(self):
        pass


@pytest.fixture
def capturing(store, monkeypatch):
    """Starts captures of a gateway into ``store``; they stop after the test, without a failure."""
    monkeypatch.setattr(capture_module, "SealerApart", SealedHere)
    for name in ("IB_STREAM_TRACKED_CONTRACTS", "IB_STREAM_MAX_TRACKED", "IBTICKS_GATEWAY"):
        monkeypatch.delenv(name, raising=False)
    started: list[ibt.Capture] = []

    def start(gateway: Gateway | int, tracked: str, **settings) -> ibt.Capture:
        port = gateway if isinstance(gateway, int) else gateway.port
        capture = ibt.Capture(store, tracked, port=port, **QUICK | settings)
        started.append(capture)
        return capture.start()

    yield start
    for capture in started:
        capture.stop()


@pytest.fixture
def nothing_left():
    """Holds that no thread and no file is left open."""
    threads, files = set(threading.enumerate()), open_files()
    yield
    until(lambda: set(threading.enumerate()) <= threads, "threads end")
    until(lambda: open_files() <= files, f"{open_files() - files} are closed")


def open_files() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if not target.startswith("/proc"):
            found.add(f"{descriptor.name} {target}")
    return found
