"""Outages during a capture: it continues, loses no received tick, and records each gap."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ibticks.capture import _recorder as recorder_module
from ibticks.capture import _supervisor as supervisor_module
from ibticks.config import NANOSECONDS
from ibticks.errors import IndexAwayWarning
from tests.capture_checks import (
    IBM,
    ONE,
    SERVER_VERSIONS,
    STREAMS,
    TICKING,
    check_index,
    check_stored,
    covered,
    statuses,
    stored,
    until,
)

from . import full_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Capture, Store
    from ibticks.gateway import Gateway, Replay
    from ibticks.index import ContractRecord
    from tests.servers import PostgresServer


def ticks(capture: Capture) -> int:
    return capture.status()["status"]["ticks"]


def connections(capture: Capture) -> int:
    return capture.status()["status"]["connections"]


def more(capture: Capture, count: int = 50) -> None:
    before = ticks(capture)
    until(lambda: ticks(capture) >= before + count, "ticks go on")


def more_of_each(capture: Capture, count: int = 20) -> None:
    """Wait for ticks of every stream: on a busy machine they come in bursts of one."""

    def counts() -> dict[tuple[str, str], int]:
        contracts = capture.status()["status"]["contracts"]
        return {
            (contract_id, tick_type): stream["ticks"]
            for contract_id, contract in contracts.items()
            for tick_type, stream in contract["streams"].items()
        }

    before = counts()
    until(lambda: all(n >= before[stream] + count for stream, n in counts().items()), "all go on")


# --- the line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_version", [200, 226])
def test_fifty_drops(
    samples: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    """At any moment, and some of them abrupt: all that was sent and read is there, once."""
    replay = samples.only([IBM], ["bid_ask", "all_last"]).head(20_000)
    gateway = serve(replay)
    for drop in range(50):
        gateway.after(300 + 600 * drop, partial(gateway.drop, lose=drop % 3))
    capture = capturing(gateway, f"{IBM}:IBM:bid_ask;all_last", reconnect_delay=0.01)
    until(lambda: connections(capture) == 51, "it is dropped fifty times", 120)
    assert gateway.wait_finished()
    sent = sum(gateway.sent.values())
    until(lambda: ticks(capture) == sent, "the last tick", 120)
    capture.stop()
    assert list(capture.failures) == []
    for kind in ("bid_ask", "all_last"):
        check_stored(store, gateway, IBM, kind)
        gaps = statuses(store, IBM, kind).count(("disconnected", 504))
        # Some connections were over before they had both streams.
        assert gaps == 50 if kind == "bid_ask" else 0 < gaps <= 50
        states = covered(store, IBM, kind)
        assert states[-2 * gaps :] == ["disconnected", "captured"] * gaps
        assert states[: -2 * gaps] in ([], ["captured"])
    check_index(store.root, store.index)


@pytest.mark.parametrize("how", ["close_mid_message", "garbage", "abrupt"])
def test_connection_that_ends_with_garbage(
    how: str, gateway: Gateway, capture: Capture, store: Store
) -> None:
    more(capture)
    if how == "abrupt":
        gateway.drop(abrupt=True)
    else:
        getattr(gateway, how)()
    until(lambda: connections(capture) == 2)
    more(capture)
    capture.stop()
    assert list(capture.failures) == []
    for key in STREAMS:
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
        if how == "close_mid_message":
            check_stored(store, gateway, *key)
        else:
            # What was on its way then, or came behind the garbage, is lost.
            stored(store, *key)
    if how == "garbage":
        (gap,) = [row for row in store.index.coverage([1], ["last"]) if row.state == "disconnected"]
        assert "the server sent garbage" in gap.reason


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_the_nightly_restart(gateway: Gateway, capture: Capture, store: Store) -> None:
    more(capture)
    gateway.nightly_restart(0.6, lose=100)
    until(lambda: not capture.status()["status"]["tws_connected"])
    until(lambda: connections(capture) == 2)
    assert capture.status()["status"]["last_problem"] == ""
    more(capture)
    assert gateway.subscriptions == 3
    # What is on its way when we leave would count as sent.
    gateway.pause()
    until(lambda: ticks(capture) == sum(len(gateway.rows_sent(*key)) for key in STREAMS))
    capture.stop()
    for key in STREAMS:
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
        (_, gap, _) = store.index.coverage([key[0]], [key[1]])
        frame = check_stored(store, gateway, *key) and stored(store, *key)
        times = frame["timestamp"].cast(int)
        # No tick lies in the gap.
        assert gap.start_ns < gap.end_ns
        assert times.is_between(gap.start_ns, gap.end_ns, closed="none").sum() == 0


def test_writes_in_small_pieces(
    few: Replay, serve: Callable[..., Gateway], capturing: Callable[..., Capture], store: Store
) -> None:
    gateway = serve(few.head(300))
    gateway.split_writes(3)
    capture = capturing(gateway, f"{IBM}:IBM:bid_ask;all_last;mid_point")
    until(lambda: ticks(capture) == 900)
    capture.stop()
    for kind in ("bid_ask", "all_last", "mid_point"):
        assert check_stored(store, gateway, IBM, kind) == 300


def test_reconnects_with_backoff_for_ever(
    capturing: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a weekend, when it has tried a thousand times."""
    waits = []
    # Bound without listening: no other process gets the port, and no connection is accepted.
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        capture = capturing(reserved.getsockname()[1], ONE)
        running = capture._supervisor
        monkeypatch.setattr(running.stopping, "wait", lambda wait: waits.append(wait))
        until(lambda: running.failed_attempts > 1200)
    assert list(capture.failures) == []
    delay = capture.settings.reconnect_delay
    assert waits[0] == delay
    assert 0.75 * delay <= waits[1] <= 1.25 * delay
    assert 0.75 * 2 * delay <= waits[2] <= 1.25 * 2 * delay
    assert max(waits) <= 1.25 * 10 * delay
    assert min(waits[10:]) >= 0.75 * 10 * delay
    assert len(set(waits[10:])) > 1000, "so that many captures do not all come at once"


def test_lasting_connection_resets_the_backoff(
    gateway: Gateway, capturing: Callable[..., Capture]
) -> None:
    capture = capturing(gateway, ONE.replace("8314:IBM", "1:ONE"), reconnect_delay=0.1)
    for number in range(1, 4):
        more(capture, 30)
        gateway.drop()
        until(lambda wanted=number + 1: connections(capture) == wanted)
    assert capture._supervisor.failed_attempts == 1


def test_internal_error_is_reported_and_the_capture_goes_on(
    capture: Capture, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    more(capture)
    apply_details = capture._supervisor.subscriptions.apply_details
    mistakes = [ZeroDivisionError("an internal error")]

    def failing(*arguments: Any) -> ContractRecord | None:
        if mistakes:
            raise mistakes.pop()
        return apply_details(*arguments)

    monkeypatch.setattr(supervisor_module, "_FIRST_DELAY_SECONDS", 0.01)
    capture._supervisor.subscriptions.apply_details = failing  # type: ignore[method-assign]
    for details in capture._supervisor.subscriptions.contracts.values():
        details.answered_at = details.requested_at = -float("inf")
    until(lambda: connections(capture) == 2)
    more(capture)
    assert "supervisor: ZeroDivisionError('an internal error')" in capture.failures[0]
    assert "<td" in capture._repr_html_()
    assert "an internal error" in capture._repr_html_()
    capture.stop()
    assert covered(store, 1, "last") == ["captured", "disconnected", "captured"]


def test_callback_that_raises_is_reported_and_the_capture_goes_on(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    more(capture)
    recorder = capture._recorders[0]
    record = recorder.quote
    raised: list[Any] = []

    def failing(*tick: Any) -> None:
        if not raised:
            raised.append(tick)
            raise ZeroDivisionError("an internal error")
        record(*tick)

    recorder.quote = failing  # type: ignore[assignment]
    until(lambda: raised)
    more(capture)
    assert connections(capture) == 1
    assert [failure.partition(" ")[2] for failure in capture.failures] == [
        "message: ZeroDivisionError('an internal error')"
    ]
    assert "ZeroDivisionError: an internal error" in caplog.text


# --- the clock ------------------------------------------------------------------------------------


def test_clock_set_back_and_corrected(
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ticks of hours that are over reopen their files: every tick is stored, in order."""
    real, real_ns, ahead = time.time, time.time_ns, [0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    for module in (time, recorder_module):
        monkeypatch.setattr(module, "time_ns", lambda: real_ns() + ahead[0] * NANOSECONDS)
    gateway = serve(steady, speed=1.0)
    capture = capturing(gateway, TICKING)
    more_of_each(capture)
    for seconds, text in ((-3 * 3600, "the clock was set by -10800"), (0, "set by +10800")):
        ahead[0] = seconds
        more_of_each(capture)
        until(lambda words=text: words in caplog.text)
    gateway.drop()
    until(lambda: connections(capture) == 2)
    more_of_each(capture)
    gateway.pause()
    until(lambda: ticks(capture) == sum(gateway.sent.values()))
    capture.stop()
    assert list(capture.failures) == []
    for key in STREAMS:
        frame = store.select(*key).to_polars()
        hours = frame["timestamp"].dt.truncate("1h").n_unique()
        assert hours >= 2
        assert not frame["sequence"].is_sorted()
        frame = frame.sort("sequence")
        assert frame["sequence"].to_list() == list(range(1, len(frame) + 1))
        price = "bid_price" if key[1] == "bid_ask" else "price"
        sent = steady.streams[key].columns.numbers(price)[gateway.rows_sent(*key)]
        assert frame[price].to_list() == sent.tolist()
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
    assert all(file.sealed for file in store.index.files())
    check_index(store.root, store.index)


# --- the database ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ibticks.errors.IndexAwayWarning")
def test_database_outage_during_a_capture(
    outage: Callable[..., None], gateway: Gateway, capture: Capture, store: Store
) -> None:
    more(capture)
    outage(away=True)
    gateway.drop()  # which changes the coverage
    until(lambda: connections(capture) == 2)
    more(capture)
    until(lambda: store.index.away)
    outage(away=False)
    more(capture)
    capture.stop()
    store.index.connect()
    assert not store.index.pending
    assert list(capture.failures) == []
    for key in STREAMS:
        check_stored(store, gateway, *key)
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
    check_index(store.root, store.index)


@pytest.mark.filterwarnings("ignore::ibticks.errors.IndexAwayWarning")
def test_database_outage_from_start_to_stop(
    outage: Callable[..., None],
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., Capture],
    store: Store,
) -> None:
    outage(away=True)
    with pytest.warns(IndexAwayWarning):
        store.index.files()
    gateway = serve(steady, speed=1.0)
    capture = capturing(gateway, TICKING)
    more(capture)
    capture.stop()
    assert list(capture.failures) == []
    outage(away=False)
    store.index.connect()
    assert not store.index.pending
    for key in STREAMS:
        check_stored(store, gateway, *key)
    assert {contract.symbol for contract in store.contracts()} == {"ONE", "TWO"}
    check_index(store.root, store.index)


def test_a_database_that_hangs_costs_no_tick(
    gateway: Gateway, capture: Capture, store: Store, database: str
) -> None:
    """No statement ends while another session has the tables locked."""
    more(capture)
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE tick_files, coverage, contracts IN ACCESS EXCLUSIVE MODE")
        gateway.drop()
        until(lambda: connections(capture) == 2)
        more(capture, 200)
        other.rollback()
    capture.stop()
    for key in STREAMS:
        check_stored(store, gateway, *key)
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
    check_index(store.root, store.index)


# --- the disk -------------------------------------------------------------------------------------

MOUNT = full_disk.apart()
KINDS = ["small files"] if MOUNT is None else ["small disk", "small files"]


@pytest.fixture(scope="module", params=KINDS)
def played(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
) -> tuple[Any, Any]:
    """Errors by scene, on a full disk of this type, and the log."""
    before: Any = MOUNT if request.param == "small disk" else []
    folder = tmp_path_factory.mktemp("disk")
    done = subprocess.run(
        [*before, sys.executable, Path(full_disk.__file__), request.param, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("scene", full_disk.SCENES)
def test_a_full_disk(played: tuple[Any, Any], scene: str) -> None:
    errors, log = played
    assert errors[scene] == "", f"{errors[scene]}\n{log}"
