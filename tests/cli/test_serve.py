"""``ibticks serve --capture``: capture and service in one process, and its systemd unit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import ibticks as ibt
from ibticks.gateway import Gateway, Replay

from .conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Done

IBM = 8314
UNIT = Path(__file__).parents[2] / "docs" / "systemd" / "ibticks.service"
MAX_EXPOSURE = 25  # of systemd-analyze security, in tenths: 0 is sandboxed, 100 is not


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(Replay.from_samples(["ibm_quotes"]), speed=200) as opened:
        yield opened


def serving(own: list[Any], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "serve", *map(str, own), "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_are_completed_and_files_sealed(
    own: list[Any], gateway: Gateway, number: signal.Signals
) -> None:
    options = ("--capture", "--tracked", f"{IBM}:IBM:bid_ask:2", "--json-logs")
    with serving(own, *options, "--gateway", f"127.0.0.1:{gateway.port}") as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        path = f"{url}/v2/stream/{IBM}/with-buffer?tick_types=bid_ask"
        messages = []
        with httpx.stream("GET", path, timeout=60) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    messages.append(json.loads(line[6:]))
                    if len(messages) == 10:
                        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert all(json.loads(line)["level"] in ("info", "warning") for line in errors.splitlines())
    assert messages[-1]["type"] == "complete"
    assert messages[-1]["data"]["reason"] == "service_closed"
    ticks = [message for message in messages if message["type"] == "tick"]
    with ibt.open(own[1], dsn=own[3]) as store:
        assert store.index.open_files() == []
        assert store.select(IBM, "bid_ask").count() >= len(ticks) > 0


def test_streams_on_demand(own: list[Any], gateway: Gateway, cli: Callable[..., Done]) -> None:
    options = ("--on-demand", "--gateway", f"127.0.0.1:{gateway.port}", "--client-id", "7")
    with serving(own, *options) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        query = {"tick_type": "bid_ask", "limit": "5"}
        body = httpx.get(f"{url}/v2/stream/{IBM}", params=query, timeout=60).text
        assert gateway.clients == (7,)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert body.count('"type":"tick"') == 5
    done = cli("serve", *own, "--on-demand", "--client-id", "-1", "--port", 0)
    assert (done.code, "client_id=-1" in done.err) == (1, True)


def test_a_capture_needs_contracts(own: list[Any], cli: Callable[..., Done]) -> None:
    done = cli("serve", *own, "--capture", "--port", 0)
    assert done.code == 1
    assert "IB_STREAM_TRACKED_CONTRACTS" in done.err
    assert not own[1].exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert "/opt/ibticks/bin/ibticks" in text
    # No program of that path is on this machine, nor such a user.
    unit.write_text(text.replace("/opt/ibticks/bin/ibticks", sys.executable))
    for arguments in (
        ("verify", "--man=no"),
        ("security", "--offline=true", f"--threshold={MAX_EXPOSURE}"),
    ):
        done = subprocess.run(
            ["systemd-analyze", *arguments, str(unit)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
