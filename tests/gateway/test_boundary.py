"""The bug of the official client that loses bursts of a multiple of 4096 bytes.

It reads 4096 bytes at a time while it gets as many, and throws all of them away if nothing follows
within a second. The gateway brings that about; a client that reads once and returns is fixed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .clients import expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.gateway import Gateway, Replay

QUOTES = 4000


@pytest.fixture
def listen() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Start official clients in separate processes; terminate them after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(gateway: Any, client_id: int, how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("client_process.py")),
                str(gateway.port),
                str(client_id),
                how,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def both(
    samples: Replay, serve: Callable[..., Gateway], listen: Any, size: int, *, whole: bool
) -> tuple[Any, ...]:
    """Return the callbacks of the unfixed and the fixed client, and the sent ticks."""
    replay = samples.only([8314], ["bid_ask"]).head(QUOTES)
    gateway = serve(replay, start_after=0)
    clients = [listen(gateway, 1, "unfixed"), listen(gateway, 2, "fixed")]
    for client in clients:
        assert client.stdout.readline() == "subscribed\n"
    gateway.silent_until_boundary(size, seconds=2.5, whole=whole)
    gateway.resume()
    assert gateway.wait_finished(2)
    # At the end of a line that was whole, a client has read all there was.
    assert gateway.drop() == 2
    got = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
    sent = [list(tick) for tick in expected(replay.streams[8314, "bid_ask"])]
    return *got, sent


@pytest.mark.parametrize("size", [4096, 8192, 65536])
def test_a_burst_of_whole_messages_is_lost_silently(
    samples: Replay,
    serve: Callable[..., Gateway],
    listen: Callable[..., subprocess.Popen[Any]],
    size: int,
) -> None:
    unfixed, fixed, sent = both(samples, serve, listen, size, whole=True)
    assert fixed["quotes"] == sent
    lost = len(sent) - len(unfixed["quotes"])
    # All of the burst, a message of which has some 54 bytes.
    assert size // 60 < lost < size // 48
    assert unfixed["quotes"] == sent[lost:]
    assert set(unfixed["codes"]) <= {2104, 2106, 2158}


def test_a_burst_that_ends_within_a_message_corrupts_the_rest(
    samples: Replay, serve: Callable[..., Gateway], listen: Callable[..., subprocess.Popen[Any]]
) -> None:
    unfixed, fixed, sent = both(samples, serve, listen, 4096, whole=False)
    assert fixed["quotes"] == sent
    assert unfixed["quotes"] == []
