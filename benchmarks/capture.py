"""Cost of a capture: time for each tick beside ibapi's own, and memory without a notebook."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ibapi.client import EClient
from ibapi.connection import Connection
from ibapi.decoder import Decoder
from ibapi.reader import EReader
from ibapi.wrapper import EWrapper

import ibticks as ibt
from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.timing import Contender, compare
from ibticks.capture import (
    FIRST_REQUEST_ID,
    CaptureSettings,
    ConnectionHandler,
    Recorder,
    Subscriptions,
    TrackedContract,
)
from ibticks.coverage import Ledger
from ibticks.gateway import Gateway, Replay, frame
from ibticks.index import MemoryIndex
from ibticks.storage import StreamAppender
from ibticks.tws import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene
    from ibticks.gateway import TickStream

__all__ = ["append", "headless", "tick"]

_TEXT, _PROTOBUF = 200, 226  # server versions: ticks as text, and as Protocol Buffers
_READ: Final = 16_384
_TICKS: Final = 50_000
_APPENDED: Final = 200_000
_TIMEOUT_SECONDS: Final = 120.0
_RUN: Final = "20131008T133000-1"
_KINDS: Final = {"bid_ask": "ibm_quotes", "all_last": "ibm_trades"}


def tick(scene: Scene) -> Iterator[Row]:
    """Recorded messages through ibapi's reader, queue and decoder, into a callback."""
    for kind, sample in _KINDS.items():
        ((_, stream),) = (
            value for value in Replay.from_samples([sample]).streams.items() if value[0][1] == kind
        )
        ticks = min(_TICKS, stream.rows)
        contenders = []
        for version in (_TEXT, _PROTOBUF):
            tape = b"".join(stream.frames(version, FIRST_REQUEST_ID, 0, ticks))
            contenders += [
                Contender(f"ibapi {version}", partial(_official, version, tape)),
                Contender(f"ours {version}", partial(_ours, scene, version, tape, stream, ticks)),
            ]
        took = compare(contenders, scene.repeat)
        for version in (_TEXT, _PROTOBUF):
            alone, ours = (
                Figure.seconds(took[f"{name} {version}"], ticks) for name in ("ibapi", "ours")
            )
            what = f"a {kind} tick through ibapi at server version {version}, written"
            yield Row(what, ours, "through ibapi, dropped", alone, share=True, goal=at_most(1.2))
        before = Figure.seconds(took[f"ours {_TEXT}"], ticks)
        what = f"a {kind} tick of server version {_PROTOBUF}, written"
        yield Row(what, ours, f"of {_TEXT}", before, share=True, goal=at_most(1.2))


def append(scene: Scene) -> Iterator[Row]:
    """One tick at a time, encoded and written: readable by other processes at each return."""
    took = compare([Contender("ticks", partial(_appending, scene))], scene.repeat)
    rate = Figure.rate(_APPENDED, took["ticks"])
    yield Row("Recorder.quote, one tick a call", rate, goal=at_least(200e3, absolute=True))


def headless(scene: Scene) -> Iterator[Row]:
    """Resident memory of a process that captures ten contracts of three tick types each."""
    kinds = ("bid_ask", "all_last", "mid_point")
    copies = Replay.from_samples(["ibm_quotes", "ibm_trades"]).only(None, kinds).head(3_000)
    replay = copies.cloned(9)
    tracked = ",".join(f"{c.contract_id}:{c.symbol}:{';'.join(kinds)}" for c in replay.contracts)
    with Gateway(replay, speed=None) as gateway:
        command = [
            *(sys.executable, "-m", "benchmarks.capture", str(scene.folder / "headless")),
            *(str(gateway.port), tracked, str(replay.rows)),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peak = Figure.size(float(done.stdout))
    what = "peak memory of capturing, 10 contracts, 3 tick types"
    yield Row(what, peak, goal=at_most(100e6, absolute=True))


class _Tape:
    """A socket that a recording comes from, as fast as it is read."""

    def __init__(self, version: int, tape: bytes) -> None:
        self._greeting: bytes | None = frame(b"%d\x0020131008 13:30:00 UTC\0" % version)
        self._tape = tape
        self._at = 0

    def recv(self, size: int) -> bytes:
        if self._greeting is not None:
            greeting, self._greeting = self._greeting, None
            return greeting
        data = self._tape[self._at : self._at + size]
        self._at += size
        return data

    def shutdown(self, *_: Any) -> None:
        """The recording goes on to its end."""

    close = settimeout = shutdown


class _Official(EWrapper, EClient):
    """Ibapi itself, with the smallest cure there is for what its reader loses, and no recorder."""

    def __init__(self) -> None:
        EClient.__init__(self, self)
        self.ticks = 0

    def tickByTickBidAsk(self, *_: Any) -> None:  # noqa: N802
        self.ticks += 1

    def tickByTickAllLast(self, *_: Any) -> None:  # noqa: N802
        self.ticks += 1


def _play(client: EClient, version: int, tape: bytes, cure: Callable[[Connection], None]) -> None:
    """Run the work of the threads of a client one after the other, so that neither waits."""
    connection = Connection("tape", 0)
    cure(connection)
    client.conn = connection
    connection.socket = _Tape(version, tape)
    connection.recvMsg()
    client.serverVersion_ = version
    client.decoder = Decoder(client, version)
    client.setConnState(EClient.CONNECTED)
    EReader(connection, client.msg_queue).run()
    client.run()


@contextmanager
def _official(version: int, tape: bytes) -> Iterator[Callable[[], object]]:
    def cure(connection: Connection) -> None:
        connection._recvAllMsg = lambda: connection.socket.recv(_READ)

    yield lambda: _play(_Official(), version, tape, cure)


@contextmanager
def _ours(
    scene: Scene, version: int, tape: bytes, stream: TickStream, ticks: int
) -> Iterator[Callable[[], object]]:
    root = scene.folder / "captured"
    index = MemoryIndex()
    appender = StreamAppender(root, stream.contract_id, stream.tick_type, index, fsync=None)
    ledger = Ledger(stream.contract_id, stream.tick_type, _RUN)
    recorder = Recorder(appender, _RUN, 0, ledger, index)
    settings = CaptureSettings(
        (TrackedContract(stream.contract_id, "IBM", (stream.tick_type,)),), same_contract_seconds=0
    )
    subscriptions = Subscriptions(settings, [recorder], {})
    subscriptions.by_request = {FIRST_REQUEST_ID: next(iter(subscriptions))}
    failures: list[Exception] = []
    client = Client(
        ConnectionHandler(settings, subscriptions, index, lambda _, error: failures.append(error))
    )
    yield lambda: _play(client, version, tape, lambda _: None)
    if failures or recorder.ticks != ticks:
        raise AssertionError(f"{recorder.ticks} of {ticks} ticks, {failures}")
    recorder.close()


@contextmanager
def _appending(scene: Scene) -> Iterator[Callable[[], object]]:
    index = MemoryIndex()
    appender = StreamAppender(scene.folder / "appended", 8314, "bid_ask", index, fsync=None)
    recorder = Recorder(appender, _RUN, 0, Ledger(8314, "bid_ask", _RUN), index)
    size = Decimal(100)

    def run() -> None:
        quote = recorder.quote
        for number in range(_APPENDED):
            quote(1_381_239_000 + (number >> 10), 181.25, size, 181.5, size, False, False)

    yield run
    if recorder.waiting or recorder.lost:
        raise AssertionError(f"{recorder.waiting} ticks wait, {recorder.lost} are lost")
    recorder.close()


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent process had when it began this one.
        line = next(value for value in status.read_text().splitlines() if value.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _capture(root: str, port: str, tracked: str, ticks: str) -> int:
    """Capture so many ticks; the highest resident memory meanwhile, in bytes."""
    with (
        ibt.open(root) as store,
        ibt.Capture(store, tracked, port=int(port), same_contract_seconds=0) as capture,
    ):
        end = time.monotonic() + _TIMEOUT_SECONDS
        while capture.status()["status"]["ticks"] < int(ticks):
            if time.monotonic() > end:
                raise AssertionError(f"after {_TIMEOUT_SECONDS} s only {capture!r}")
            time.sleep(0.05)
        return _peak_bytes()


if __name__ == "__main__":
    print(_capture(*sys.argv[1:]))
