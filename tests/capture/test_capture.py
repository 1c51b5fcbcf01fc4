"""Start, stop and restart of a capture, without remaining threads and open files."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ibticks as ibt
from ibticks import tws
from ibticks.capture import TrackedContract, panel_html
from ibticks.capture import _recorder as recorder_module
from ibticks.capture._status import status_path, write_status
from ibticks.errors import CaptureError, MissingExtraError, WriterLockedError
from ibticks.storage import StreamLock
from tests.capture_checks import QUICK, check_index, check_stored, covered, statuses, stored, until
from tests.scripted_server import GREETING, READY, Server, hello, message, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from ibticks.gateway import Gateway, Replay

TICKING = "1:ONE:bid_ask;last:2,2:TWO:bid_ask"


def ticks(capture: ibt.Capture) -> int:
    return capture.status()["status"]["ticks"]


def streams(capture: ibt.Capture) -> list[tuple[int, str]]:
    return [(r.contract_id, r.tick_type) for r in capture._recorders]


# --- beginning and ending -------------------------------------------------------------------------


def test_start_stop_and_start_again(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    capture = capturing(gateway, TICKING)
    assert capture.running
    assert not capture.wait(0.01)
    with pytest.raises(CaptureError, match="this capture is already running"):
        capture.start()
    until(lambda: ticks(capture) > 20 and all(r.ticks for r in capture._recorders))
    capture.stop()
    assert not capture.running
    assert capture.wait(0)
    capture.stop()
    first = len(stored(store, 1, "last"))
    assert first > 0
    # What it did is still to be seen.
    assert ticks(capture) > 20
    # And once more: the sequence numbers continue.
    with capture:
        until(lambda: ticks(capture) > 20 and all(r.ticks for r in capture._recorders))
    for key in ((1, "bid_ask"), (1, "last"), (2, "bid_ask")):
        check_stored(store, gateway, *key)
        assert [status for status, _ in statuses(store, *key)] == ["subscribed", "stopped"] * 2
        assert covered(store, *key) == ["captured", "captured"]
    assert len(stored(store, 1, "last")) > first
    assert all(file.sealed for file in store.index.files())
    check_index(store.root, store.index)


def test_stop_before_start(store: ibt.Store) -> None:
    capture = ibt.Capture(store, TICKING, **QUICK)
    capture.stop()
    assert capture.wait(0)
    assert repr(capture) == "<Capture stopped, not connected, 0 streams, 0 ticks>"
    assert json.dumps(capture.status())


def test_stop_leaves_no_thread_and_no_file_open(
    gateway: Gateway,
    capturing: Callable[..., ibt.Capture],
    store: ibt.Store,
    request: pytest.FixtureRequest,
) -> None:
    with capturing(gateway, TICKING) as first:
        until(lambda: ticks(first) > 20)
    request.getfixturevalue("nothing_left")
    for _ in range(2):
        with capturing(gateway, TICKING) as capture:
            until(lambda capture=capture: ticks(capture) > 20)
    assert not any(StreamLock.is_locked(store.root, *key) for key in streams(first))
    assert {path.name for path in (store.root / "metadata").iterdir()} >= {"capture.json"}
    assert not [path for path in (store.root / "metadata").iterdir() if path.name.endswith(".new")]


def test_sealing_in_another_process(
    gateway: Gateway, store: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real one, another process, which is gone at the end, too."""
    capture = ibt.Capture(store, TICKING, port=gateway.port, **QUICK)
    with capture:
        until(lambda: ticks(capture) > 20)
    assert capture._sealer._process is None
    assert list(capture.failures) == []
    assert all(file.sealed for file in store.index.files())
    check_index(store.root, store.index)


def test_inside_a_running_event_loop(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    async def cell() -> ibt.Capture:
        capture = capturing(gateway, TICKING)
        while ticks(capture) < 20:
            await asyncio.sleep(0.01)
        capture.stop()
        return capture

    capture = asyncio.run(cell())
    assert list(capture.failures) == []
    check_stored(store, gateway, 1, "last")


def test_start_and_stop_from_several_threads(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    """A notebook's cell may begin it and another thread end it."""
    made = []
    starting = threading.Thread(target=lambda: made.append(capturing(gateway, TICKING)))
    starting.start()
    starting.join()
    until(lambda: ticks(made[0]) > 20)
    ending = [threading.Thread(target=made[0].stop) for _ in range(4)]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join(60)
        assert not thread.is_alive()
    check_stored(store, gateway, 1, "last")


def test_interrupt_during_stop(
    gateway: Gateway,
    capturing: Callable[..., ibt.Capture],
    store: ibt.Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an interrupt of the cell that stops it, a capture can be stopped again."""
    capture = capturing(gateway, TICKING)
    until(lambda: ticks(capture) > 20)
    join, interrupts = capture._join, [KeyboardInterrupt()]

    def interrupted(thread: Any) -> None:
        if interrupts:
            raise interrupts.pop()
        join(thread)

    monkeypatch.setattr(capture, "_join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        capture.stop()
    capture.stop()
    assert not any(StreamLock.is_locked(store.root, *key) for key in streams(capture))
    check_stored(store, gateway, 1, "last")
    check_index(store.root, store.index)


# --- two of them ----------------------------------------------------------------------------------


def test_second_capture_of_a_stream_is_refused(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    first = capturing(gateway, "1:ONE:bid_ask;last")
    until(lambda: ticks(first) > 20)
    second = ibt.Capture(
        store, "2:TWO:bid_ask,1:ONE:last", client_id=11, port=gateway.port, **QUICK
    )
    threads = set(threading.enumerate())
    with pytest.raises(WriterLockedError) as raised:
        second.start()
    error = raised.value
    assert f"last of contract 1 in {store.root} is already written by process {os.getpid()} on" in (
        str(error)
    )
    assert error.context["holder"]["pid"] == os.getpid()
    # Nothing of the second one stays: not even the stream it had.
    assert not second.running
    assert not StreamLock.is_locked(store.root, 2, "bid_ask")
    assert set(threading.enumerate()) <= threads
    second.stop()
    third = capturing(gateway, "2:TWO:bid_ask", client_id=11)
    until(lambda: ticks(third) > 20)
    before = ticks(first)
    until(lambda: ticks(first) > before + 20)
    # And once the first one is gone, the second one begins.
    third.stop()
    first.stop()
    with second:
        until(lambda: ticks(second) > 20)
    for key in ((1, "last"), (2, "bid_ask")):
        stored(store, *key)


@pytest.mark.parametrize("where", ["index", "resume", "Supervisor"])
def test_start_that_fails_half_way(
    where: str,
    gateway: Gateway,
    store: ibt.Store,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    capture = ibt.Capture(store, TICKING, port=gateway.port, **QUICK)
    mistake = ZeroDivisionError("an internal error")

    def failing(*_: object, **__: object) -> None:
        raise mistake

    with monkeypatch.context() as patch:
        if where == "index":
            patch.setattr(store.index, "contracts", failing)
        elif where == "resume":
            patch.setattr(recorder_module, "resume_ledger", failing)
        else:
            patch.setattr("ibticks.capture._supervisor.Supervisor", failing)
        threads = set(threading.enumerate())
        with pytest.raises(ZeroDivisionError):
            capture.start()
        assert set(threading.enumerate()) <= threads
    assert not capture.running
    assert not any(
        StreamLock.is_locked(store.root, *key)
        for key in ((1, "bid_ask"), (1, "last"), (2, "bid_ask"))
    )
    with capture:
        until(lambda: ticks(capture) > 20)


def test_without_the_official_client(store: ibt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("capture._supervisor", "tws._client"):
        monkeypatch.delitem(sys.modules, f"ibticks.{name}", raising=False)
    for name in ("Client", "make_contract"):
        monkeypatch.delattr(tws, name, raising=False)
    monkeypatch.setitem(sys.modules, "ibapi.client", None)
    capture = ibt.Capture(store, TICKING, **QUICK)
    with pytest.raises(MissingExtraError, match=r"pip install 'ibticks\[capture\]'"):
        capture.start()
    assert not capture.running
    assert not StreamLock.is_locked(store.root, 1, "last")


# --- contracts ------------------------------------------------------------------------------------


def test_contract_details_are_requested_once_and_stored(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    with capturing(gateway, TICKING) as capture:
        until(lambda: ticks(capture) > 20)
        until(lambda: sum(bool(c.exchange) for c in store.contracts()) == 2)
    assert [(c.contract_id, c.symbol, c.exchange, c.contract_type) for c in store.contracts()] == [
        (1, "ONE", "NYSE", "STK"),
        (2, "TWO", "CME", "FUT"),
    ]
    assert len(store.select("ONE", "last").to_polars()) > 0
    (subscribed, *_) = store.select("TWO", "bid_ask").messages()
    assert subscribed["data"]["contract_info"] == {
        "symbol": "TWO",
        "exchange": "CME",
        "currency": "USD",
        "contract_type": "FUT",
    }


def first_requests(
    capturing: Callable[..., ibt.Capture],
    answers: Callable[..., tuple[Any, ...]] | Callable[..., tuple[bytes] | tuple[Any, ...]],
) -> list[list[str]]:
    """Return the first requests of a capture to a server with these answers."""
    asked: list[list[str]] = []

    def script(line: socket) -> None:
        hello(line)
        line.sendall(GREETING)
        request(line)
        line.sendall(READY)
        while True:
            asked.append(request(line))
            for answer in answers(asked[-1]):
                line.sendall(answer)

    with Server(script) as server:
        capture = capturing(server.port, "1:ONE:bid_ask")
        until(lambda: len(asked) == 2)
        capture.stop()
    return asked[:2]


def test_known_contract_is_subscribed_at_once(
    capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    """Ticks go by while details are on their way: they are asked for after the stream."""
    store.add_contract(1, "ONE", exchange="NYSE")
    first, second = first_requests(capturing, lambda asked: ())
    assert (first[0], first[2], first[9]) == ("97", "1", "NYSE")
    assert second[0] == "9"


def test_details_of_an_unknown_contract_come_first(
    capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    first, second = first_requests(
        capturing, lambda asked: (message(52, 1, asked[2]),) if asked[0] == "9" else ()
    )
    assert (first[0], first[3]) == ("9", "1")
    # Without a known exchange, SMART is tried.
    assert (second[0], second[2], second[9]) == ("97", "1", "SMART")


# --- how it is doing ------------------------------------------------------------------------------


def test_the_status(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    gateway.forbid(2, code=354)
    capture = capturing(gateway, f"{TICKING},7:OFF:last")

    until(lambda: ticks(capture) > 20 and capture.status()["status"]["total_streams"] == 2)
    until(lambda: capture.ticks_per_second > 0)
    status = json.loads(json.dumps(capture.status()))
    assert status["enabled"] is True
    about = status["status"]
    assert about["running"] is True
    assert about["tws_connected"] is True
    assert (about["total_contracts"], about["active_contracts"]) == (3, 1)
    one = about["contracts"]["1"]
    assert {name: one[name] for name in one if name != "streams"} == {
        "symbol": "ONE",
        "enabled": True,
        "expected_tick_types": ["bid_ask", "last"],
        "active_tick_types": ["bid_ask", "last"],
        "stream_count": 2,
        "buffer_hours": 2,
    }
    assert one["streams"]["last"]["state"] == "captured"
    assert one["streams"]["last"]["sequence"] == one["streams"]["last"]["ticks"]
    two = about["contracts"]["2"]
    assert (two["active_tick_types"], two["stream_count"]) == ([], 0)
    assert two["streams"]["bid_ask"]["state"] == "not_permitted"
    assert two["streams"]["bid_ask"]["last_error"].startswith("354: ")
    assert about["pid"] == os.getpid()
    assert about["gateway"] == f"127.0.0.1:{gateway.port}"
    assert repr(capture).startswith("<Capture running, connected, 2 streams, ")
    capture.stop()
    about = capture.status()["status"]
    assert (about["running"], about["tws_connected"], about["ticks_per_second"]) == (
        False,
        False,
        0,
    )
    assert json.loads(status_path(store.root).read_text())["status"]["running"] is False


def test_disabled_contract(gateway: Gateway, capturing: Callable[..., ibt.Capture]) -> None:
    off = TrackedContract(2, "TWO", ("bid_ask",), enabled=False)
    capture = capturing(gateway, [TrackedContract(1, "ONE", ("bid_ask",)), off])
    until(lambda: ticks(capture) > 20)
    assert gateway.subscriptions == 1
    two = capture.status()["status"]["contracts"]["2"]
    assert (two["enabled"], two["stream_count"], two["streams"]) == (False, 0, {})


def test_status_file_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a courtesy; and half of one is worse than none."""
    (tmp_path / "metadata").mkdir()
    write_status(tmp_path, {"a": 1})
    path = status_path(tmp_path)
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    write_status(tmp_path, {"a": 2})
    assert "the status cannot be written" in caplog.text
    assert [file.name for file in path.parent.iterdir()] == ["capture.json"]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)


LAGS = [
    (None, "replay", "replay: 2023-11-14 22:13"),
    (-7200, "replay", "replay: "),
    (7200, "replay", "replay: "),
    (600, "ahead of this clock", "ahead of this clock: "),
    (-60, "", " s</td>"),
]


@pytest.mark.parametrize(("shift", "problem", "words"), LAGS)
def test_lag_of_a_replay_is_none(
    steady: Replay,
    serve: Callable[..., Gateway],
    capturing: Callable[..., ibt.Capture],
    shift: int | None,
    problem: str,
    words: str,
) -> None:
    """The lag of a replayed tick cannot be computed from its time at IB."""
    ahead = 0 if shift is None else time.time_ns() - steady.start_ns + shift * 10**9
    gateway = serve(steady if shift is None else steady.shifted(ahead), speed=1.0)
    capture = capturing(gateway, "1:ONE:bid_ask")
    until(lambda: capture.status()["status"]["ticks"] > 10)
    status = capture.status()
    stream = status["status"]["contracts"]["1"]["streams"]["bid_ask"]
    assert stream["lag_problem"] == problem
    assert (stream["lag_seconds"] is None) == bool(problem)
    assert stream["last_event"].endswith("+00:00")
    assert stream["last_tick"].endswith("+00:00")
    html = panel_html(status)
    assert words in html
    assert "last tick (UTC)" in html


def test_the_status_of_a_stream_has_its_reason_and_since_when(
    gateway: Gateway, capturing: Callable[..., ibt.Capture]
) -> None:
    capture = capturing(gateway, "1:ONE:bid_ask")
    until(lambda: capture.status()["status"]["ticks"] > 10)
    gateway.lose_contact()

    def stream() -> Any:
        return capture.status()["status"]["contracts"]["1"]["streams"]["bid_ask"]

    until(lambda: stream()["state"] == "disconnected")
    assert stream()["code"] == 1100
    assert "lost" in stream()["reason"]
    assert datetime.fromisoformat(stream()["since"]) <= datetime.now(UTC)


def test_panel_escapes_text_of_ib(
    steady: Replay, serve: Callable[..., Gateway], capturing: Callable[..., ibt.Capture]
) -> None:
    nasty = "<script>alert('x')</script><img src=x onerror=alert(1)>&amp;"
    gateway = serve(steady, speed=1.0)
    gateway.forbid(2, code=354, message=nasty)
    capture = capturing(
        gateway,
        [
            TrackedContract(1, "<b>ONE</b>&'\"", ("last",)),
            TrackedContract(2, "TWO<script>", ("bid_ask",)),
        ],
    )
    until(lambda: ticks(capture) > 5 and capture._recorders[1].errors)
    capture.failures.append(nasty)
    tags = Tags()
    tags.feed(capture._repr_html_())
    assert tags.names == {"div", "span", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;script&gt;alert" in capture._repr_html_()
    assert "connected" in capture._repr_html_()
