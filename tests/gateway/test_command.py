"""``ibticks gateway``: from a shell, to any client, until it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .clients import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

_MAIN = "from ibticks.cli import main; main()"


@pytest.fixture
def command() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Start the command; terminate it after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, "gateway", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_samples_from_a_shell(
    command: Callable[..., subprocess.Popen[Any]], number: signal.Signals
) -> None:
    process = command("IBM", "bid_ask", "--sample", "--max", "--port", "0", "--json")
    about = json.loads(process.stdout.readline())
    assert about["streams"] == [
        {
            "contract_id": 8314,
            "symbol": "IBM",
            "tick_type": "bid_ask",
            "ticks": 62875,
            "first": "2013-10-08T08:00:00.640Z",
            "last": "2013-10-09T00:00:00.646Z",
        }
    ]
    with RawClient(about["port"]) as client:
        client.subscribe(1, 8314)
        assert client.until("99")[2:6] == ["3", "1381219200", "180.01", "182.62"]
        process.send_signal(number)
        assert process.wait(30) == 0
        client.ended()


def test_a_store_from_a_shell(
    command: Callable[..., subprocess.Popen[Any]], sample_root: Path, sample_store: Store
) -> None:
    process = command(
        "ibm",
        "all_last",
        "-s",
        str(sample_root),
        "--start",
        "2013-10-08T13:30Z",
        "--end",
        "2013-10-08T14:00Z",
        "--port",
        "0",
        "--speed",
        "1e6",
        "--copies",
        "1",
        "--server-version",
        "178",
    )
    lines = [process.stdout.readline()]
    while "listening on" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "it has ended"
    assert "IBM.1" in "".join(lines)
    port = int(lines[-1].split(":")[1].split(",")[0])
    with RawClient(port) as client:
        assert client.version == "178"
        client.subscribe(1, 1_000_001, "AllLast")
        assert client.until("99")[2:5] == ["2", "1381239003", "181.89"]
    process.send_signal(signal.SIGTERM)
    _, details = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "closed after" in details


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--sample", "MSFT"], 1, "no contract"),
        (["--sample", "IBM", "trades"], 1, "trades"),
        (["--sample", "IBM", "last", "last_hour"], 2, "--sample"),
        (["--sample", "--speed", "0"], 1, "speed"),
        (["--sample", "--server-version", "227"], 1, "157 to 226"),
    ],
)
def test_invalid_replays(
    command: Callable[..., subprocess.Popen[Any]], arguments: list[str], code: int, words: str
) -> None:
    process = command(*arguments)
    _, details = process.communicate(timeout=60)
    assert process.returncode == code
    assert words in details
