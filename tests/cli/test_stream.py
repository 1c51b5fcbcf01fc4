"""``ibticks stream``: ticks of one contract as lines of JSON."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ibticks as ibt
from ibticks.coverage import StreamStatus
from ibticks.gateway import Gateway, Replay
from ibticks.testing import FakeCapture

from .conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Done

IBM = 8314


@pytest.fixture(scope="module")
def replay() -> Replay:
    """The first ticks of IBM, of all four types."""
    return Replay.from_samples(["ibm_quotes", "ibm_trades"]).head(500)


@pytest.fixture
def gateway(request: pytest.FixtureRequest, replay: Replay) -> Iterator[Gateway]:
    """Start the replay at the first subscription, or at the one of a parameter."""
    with Gateway(replay, speed=None, start_after=getattr(request, "param", 1)) as started:
        yield started


@pytest.fixture
def stream(cli: Callable[..., Done], gateway: Gateway) -> Callable[..., tuple[Done, list[Any]]]:
    """Run the command in this process; return exit code, messages and stderr."""

    def run(*arguments: str | float, at: str | None = None) -> tuple[Done, list[Any]]:
        there = at or f"127.0.0.1:{gateway.port}"
        done = cli("stream", "--gateway", there, *arguments)
        return done, [json.loads(line) for line in done.out.splitlines()]

    return run


@pytest.fixture
def begun(gateway: Gateway) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in a separate process."""
    started = []

    def start(*arguments: int | str) -> subprocess.Popen[str]:
        where = ("--gateway", f"127.0.0.1:{gateway.port}")
        started.append(
            subprocess.Popen(
                [*PROGRAM, "stream", *where, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("tick_type", ["last", "all_last", "bid_ask", "mid_point"])
def test_the_limit_option(
    stream: Callable[..., tuple[Done, list[Any]]], replay: Replay, tick_type: str
) -> None:
    done, (first, *ticks, last) = stream(IBM, tick_type, "--limit", 120)
    assert (done.code, done.err) == (0, "")
    assert (first["type"], first["data"]["status"]) == ("info", "subscribed")
    assert {tick["type"] for tick in ticks} == {"tick"}
    assert [tick["data"]["sequence"] for tick in ticks] == list(range(1, 121))
    name = {"bid_ask": "bid_price", "mid_point": "mid_price"}.get(tick_type, "price")
    sent = replay.streams[IBM, tick_type].columns
    assert [tick["data"][name] for tick in ticks] == sent.numbers(name)[:120].tolist()
    assert last["type"] == "complete"
    assert (last["data"]["reason"], last["data"]["total_ticks"]) == ("limit_reached", 120)


def test_the_timeout_option(
    stream: Callable[..., tuple[Done, list[Any]]], gateway: Gateway
) -> None:
    gateway.mute(IBM)
    done, (first, last) = stream(IBM, "last", "--timeout", 0.2)
    assert (done.code, first["type"]) == (0, "info")
    assert (last["data"]["reason"], last["data"]["total_ticks"]) == ("timeout", 0)


def test_a_symbol_is_looked_up_in_the_store(
    stream: Callable[..., tuple[Done, list[Any]]], store: ibt.Store, database: str
) -> None:
    where = ("--store", store.root, "--dsn", database)
    done, messages = stream("IBM", "last", "--limit", 1, *where)
    assert (done.code, messages) == (1, [])
    assert "no contract with the symbol 'IBM' in this store" in done.err
    store.add_contract(IBM, "IBM")
    done, messages = stream("ibm", "last", "--limit", 1, *where)
    assert done.code == 0
    assert messages[1]["data"]["contract_id"] == IBM
    # Nothing was stored.
    assert store.contents() == []


def test_a_recorded_stream_is_in_the_store(
    stream: Callable[..., tuple[Done, list[Any]]], own: list[Any]
) -> None:
    _, root, _, dsn = own
    done, messages = stream(IBM, "bid_ask", "--limit", 60, "--record", *own)
    assert done.code == 0
    with ibt.open(root, dsn=dsn) as store:
        assert store.contracts()[0].contract_type == "STK"
        remaining = list(store.select("IBM", "bid_ask").messages(ticks=True))
        assert [message["data"] for message in remaining[:-1]] == [
            value["data"] for value in messages
        ]
        assert all(file.sealed for file in store.index.files())
        assert store.coverage(IBM).gaps() == []


def test_a_stream_that_is_captured_cannot_be_recorded_but_watched(
    stream: Callable[..., tuple[Done, list[Any]]], store: ibt.Store, database: str
) -> None:
    capture = FakeCapture(store.root, store.index, IBM, "last")
    capture.report_status(StreamStatus.SUBSCRIBED, 1)
    done, messages = stream(IBM, "last", "--record", "-s", store.root, "--dsn", database)
    assert (done.code, messages) == (1, [])
    assert "is already written by process" in done.err
    assert stream(IBM, "last", "--limit", 1)[0].code == 0
    capture.kill()


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_stream_that_ib_refuses(
    stream: Callable[..., tuple[Done, list[Any]]], gateway: Gateway
) -> None:
    gateway.forbid(IBM, "last", code=354)
    done, messages = stream(IBM, "last")
    assert done.code == 1
    assert [message["type"] for message in messages] == ["info", "error", "complete"]
    assert messages[1]["data"]["code"] == "354"
    assert messages[2]["data"]["reason"] == "error"
    done, messages = stream(4711, "last")
    assert done.code == 1
    assert messages[0]["data"]["code"] == "200"


def test_a_connection_that_is_lost(
    stream: Callable[..., tuple[Done, list[Any]]], gateway: Gateway
) -> None:
    gateway.after(30, gateway.drop)
    done, messages = stream(IBM, "bid_ask")
    assert done.code == 1
    assert [message["type"] for message in messages].count("tick") == 30
    assert messages[-2]["data"]["code"] == "504"
    assert messages[-1]["data"]["reason"] == "disconnected"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([IBM, "trades"], "trades"),
        (["0", "last"], "0"),
        ([IBM, "last", "--limit", 0], "limit=0: give 1 or more"),
        ([IBM, "last", "--timeout", 0], "timeout_seconds=0.0: give more than 0"),
        ([IBM, "last", "--gateway", "4002"], "'4002' is not an address: write host:port"),
        (
            [IBM, "last"],
            "127.0.0.1:1 cannot be used: Connection refused (502). The usual",
        ),
        (["IBM", "last", "--store", "nowhere"], "nowhere"),
    ],
)
def test_errors_are_printed_without_a_traceback(
    stream: Callable[..., tuple[Done, list[Any]]],
    wrong: list[Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done, messages = stream(*wrong, at="127.0.0.1:1")
    assert (done.code, messages) == (1, [])
    assert done.err.startswith("error: ")
    assert words in done.err
    assert list(tmp_path.iterdir()) == []  # no store was begun


def test_a_wrong_command_line(cli: Callable[..., Done]) -> None:
    for wrong in ([], [IBM], [IBM, "last", "--limit", "few"], [IBM, "last", "--frobnicate"]):
        done = cli("stream", *wrong)
        assert (done.code, done.out) == (2, "")
        assert "Usage: ibticks stream" in done.err


# -- from a shell ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_prints_received_ticks_and_the_reason(
    begun: Callable[..., subprocess.Popen[str]], gateway: Gateway, number: signal.Signals
) -> None:
    process = begun(IBM, "bid_ask")
    lines = [process.stdout.readline() for _ in range(501)]  # all there are; none comes any more
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    *more, last = map(json.loads, [*lines, *out.splitlines()])
    assert [message["type"] for message in more] == ["info", *["tick"] * 500]
    assert (last["data"]["reason"], last["data"]["total_ticks"]) == ("cancelled", 500)
    assert gateway.wait_clients(0)


@pytest.mark.parametrize("gateway", [0], indirect=True)
def test_a_closed_pipe_ends_the_command(
    begun: Callable[..., subprocess.Popen[str]], gateway: Gateway
) -> None:
    """As ``ibticks stream … | head``: lines are flushed, and a closed pipe is no error."""
    process = begun(IBM, "bid_ask")
    assert json.loads(process.stdout.readline())["type"] == "info"
    process.stdout.close()
    gateway.resume()  # ticks come from here on
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    assert gateway.wait_clients(0)
