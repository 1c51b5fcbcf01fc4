"""``ibticks backfill``: filled and remaining gaps, output and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.cli._options import instant
from ibticks.coverage import StreamStatus
from ibticks.gateway import Gateway, Replay
from ibticks.history import _backfill as backfill_module
from ibticks.testing import FakeCapture
from tests.recorded_replay import Recorded

from .conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store
    from tests.cli.conftest import Done

IBM, BTC = 8314, 990101
SECOND = 1_000_000_000
MIDNIGHT = 1_723_161_600 * SECOND  # 2024-08-09 00:00 UTC
GAP = (MIDNIGHT - 3_700_000_000, MIDNIGHT + 6_700_000_000)
CLOSED_GATEWAY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def midnight() -> Replay:
    """Bitcoin's quotes and trades around midnight."""
    samples = Replay.from_samples(["btcusdt_quotes", "btcusdt_trades"])
    around = samples.between(MIDNIGHT - 10 * SECOND, MIDNIGHT + 15 * SECOND)
    return around.only(None, ["bid_ask", "last"])


@pytest.fixture
def gateway(midnight: Replay) -> Iterator[Gateway]:
    with Gateway(midnight, speed=None) as started:
        yield started


@pytest.fixture
def recorded(store: Store, midnight: Replay) -> Recorded:
    """The ticks around midnight as captured, with a gap."""
    return Recorded(store, midnight, [GAP])


@pytest.fixture
def backfill(
    cli: Callable[..., Done], store: Store, database: str, gateway: Gateway
) -> Callable[..., Done]:
    """Run the command on the store, with the gateway."""

    def run(*arguments: str, at: str | None = None, since: str = "all") -> Done:
        there = at or f"127.0.0.1:{gateway.port}"
        options = ("--store", store.root, "--dsn", database, "--gateway", there, "--since", since)
        return cli("backfill", *options, *arguments)

    return run


def test_gaps_are_filled_and_reported(backfill: Callable[..., Done], recorded: Recorded) -> None:
    done = backfill()
    missed = {kind: recorded.missed(BTC, kind) for kind in ("bid_ask", "last")}
    assert done.code == 0
    total = sum(missed.values())
    assert done.out == f"2 gaps, filled with {total:,} ticks in 3 requests\n"
    # Each part, as soon as it is stored: up to midnight, where a file ends, and from there on.
    reported = done.err.splitlines()
    assert [line.partition(" 20")[0] for line in reported] == [
        *[f"{BTC} bid_ask"] * 2,
        *[f"{BTC} last"] * 2,
    ]
    assert " 2024-08-08T23:59:56.300Z to 2024-08-09T00:00:00Z: " in reported[0]
    assert sum(int(line.split()[-2].replace(",", "")) for line in reported) == total
    recorded.check()
    again = backfill(at=CLOSED_GATEWAY)
    assert (again.code, again.out, again.err) == (
        0,
        "0 gaps, filled with 0 ticks in 0 requests\n",
        "",
    )


def test_json(backfill: Callable[..., Done], recorded: Recorded) -> None:
    plan_backfill = backfill("BTCUSDT", "last", "--dry-run", "--json", at=CLOSED_GATEWAY)
    assert (plan_backfill.code, plan_backfill.err) == (0, "")
    gap = {
        "contract_id": BTC,
        "tick_type": "last",
        "start": "2024-08-08T23:59:56.300Z",
        "end": "2024-08-09T00:00:06.700Z",
        "seconds": 10.4,
        "state": "disconnected",
        "reason": "1100: connection lost",
    }
    nothing = {"ticks": 0, "requests": 0, "filled": [], "remaining": []}
    assert plan_backfill.json == {"dry_run": True, "gaps": [gap], **nothing}
    done = backfill("BTCUSDT", "last", "--json")
    assert (done.code, done.err) == (0, "")
    details = done.json
    assert (details["dry_run"], details["gaps"], details["remaining"]) == (False, [gap], [])
    assert details["ticks"] == sum(part["ticks"] for part in details["filled"])
    assert details["ticks"] == recorded.missed(BTC, "last") > 100
    assert details["filled"][0].keys() == {"contract_id", "tick_type", "start", "end", "ticks"}
    assert (details["filled"][0]["start"], details["filled"][-1]["end"]) == (
        gap["start"],
        gap["end"],
    )
    assert backfill("BTCUSDT", "last", "--json", at=CLOSED_GATEWAY).json == {
        "dry_run": False,
        "gaps": [],
        **nothing,
    }


def test_a_dry_run_shows_a_table(backfill: Callable[..., Done], recorded: Recorded) -> None:
    done = backfill("--dry-run", at=CLOSED_GATEWAY)
    assert done.code == 0
    assert "to be filled" in done.out
    assert done.out.count("2024-08-08T23:59:56.300Z") == 2
    assert "1100: connection lost" in done.out
    nothing = backfill("--dry-run", "--min", "1m", at=CLOSED_GATEWAY)
    assert (nothing.code, nothing.out) == (0, "0 gaps to fill\n")


def test_options_select_the_gaps(backfill: Callable[..., Done], recorded: Recorded) -> None:
    def planned(*arguments: str, **how: Any) -> list[Any]:
        done = backfill(*arguments, "--dry-run", "--json", at=CLOSED_GATEWAY, **how)
        assert done.code == 0
        return [(gap["tick_type"], gap["seconds"]) for gap in done.json["gaps"]]

    assert planned("BTCUSDT,990101", "last") == [("last", 10.4)]
    assert planned("--min", "10s") == [("bid_ask", 10.4), ("last", 10.4)]
    assert planned("--min", "11s") == []
    assert planned("--market", "US", "--session", "regular") == []
    assert planned(str(BTC), "last", "--until", "2024-08-09T00:00Z") == [("last", 3.7)]
    local = ("--until", "2024-08-08 20:00:02", "--tz", "America/New_York")
    assert planned(str(BTC), "last", *local, since="2024-08-08 19:59") == [("last", 5.7)]
    long_ago = planned(since="24h")
    assert [kind for kind, _ in long_ago] == ["bid_ask", "last"]
    assert all(86_400 <= seconds <= 86_460 for _, seconds in long_ago)  # nothing was captured then


def test_refused_gaps_are_left_with_exit_code_3(
    backfill: Callable[..., Done], recorded: Recorded, gateway: Gateway
) -> None:
    gateway.refuse_history(BTC, "TRADES", code=10187)
    done = backfill()
    assert done.code == 3
    first, left = done.out.splitlines()
    assert first.endswith("requests, 1 left")
    assert left == (
        f"  {BTC} last 2024-08-08T23:59:56.300Z to 2024-08-09T00:00:06.700Z disconnected: "
        "Failed to request historical ticks:No market data permissions (10187)"
    )
    again = backfill("--json")
    assert again.code == 3
    [left] = again.json["remaining"]
    assert (left["tick_type"], left["seconds"]) == ("last", 10.4)
    assert left["why"].endswith("(10187)")
    gateway.grant_history(BTC, "TRADES")
    assert backfill("--json").code == 0
    recorded.check()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["AAPL"], "no contract with the symbol 'AAPL' in this store; it has BTCUSDT (990101"),
        (["8314"], "no contract 8314 in this store; it has BTCUSDT (990101"),
        (["BTCUSDT", "quotes"], "quotes"),
        (["--until", "2024-13-01"], "2024-13-01"),
        (["--until", "2024-08-01 12:00"], "has no time zone"),
        (["--min", "long"], "'long'"),
        (["--market", "Mars"], "'Mars'"),
        (["--market", "US", "--session", "globex"], "'globex'"),
        (["--since", "a while"], "'a while'"),
        (["--since", "2024-08-09T00:00Z", "--until", "2024-08-08T00:00Z"], "is not before"),
        (["--gateway", "4002"], "'4002' is not an address: write host:port"),
    ],
)
def test_invalid_options_are_reported_without_a_request(
    backfill: Callable[..., Done], recorded: Recorded, wrong: list[str], words: str
) -> None:
    done = backfill(*wrong, at=CLOSED_GATEWAY)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_wrong_command_line(
    backfill: Callable[..., Done], cli: Callable[..., Done], tmp_path: Path
) -> None:
    for wrong in (["--client-id", "eleven"], ["--frobnicate"], ["a", "b", "c"]):
        done = cli("backfill", *wrong)
        assert (done.code, done.out) == (2, "")
        assert "Usage: ibticks backfill" in done.err
    done = cli("backfill", "--store", tmp_path / "nowhere")
    assert (done.code, done.out) == (1, "")
    assert "nowhere" in done.err


def test_a_gateway_that_is_away_or_refuses_the_client(
    backfill: Callable[..., Done], recorded: Recorded, gateway: Gateway
) -> None:
    done = backfill(at=CLOSED_GATEWAY)
    assert (done.code, done.out) == (1, "")
    assert "127.0.0.1:1 cannot be used: Connection refused (502). The usual" in done.err
    gateway.refuse(11)
    done = backfill()
    assert (done.code, done.out) == (1, "")
    assert "client id is already in use. (326)" in done.err
    assert backfill("--client-id", "12").code == 0
    recorded.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backfill_keeps_its_ticks(
    recorded: Recorded, gateway: Gateway, store: Store, database: str, number: signal.Signals
) -> None:
    gateway.refuse_history(BTC, "TRADES")  # 162: pacing violation; it is to wait for 15 seconds
    process = subprocess.Popen(
        [
            *PROGRAM,
            *("backfill", "--json", "--since", "all", "--store", str(store.root)),
            *("--dsn", database, "--gateway", f"127.0.0.1:{gateway.port}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "pacing violation, retry in 15 s" in process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "Traceback" not in err
    details = json.loads(out)
    assert details["ticks"] == recorded.missed(BTC, "bid_ask")
    assert [(left["tick_type"], left["why"]) for left in details["remaining"]] == [
        ("last", "stopped")
    ]
    gateway.grant_history(BTC, "TRADES")


def test_time_after_the_capture_is_filled_with_a_time_option(
    cli: Callable[..., Done],
    backfill: Callable[..., Done],
    store: Store,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backfill_module, "SETTLE_SECONDS", 1)
    now = time.time_ns()
    capture = FakeCapture(store.root, store.index, BTC, "last")
    capture.report_status(StreamStatus.SUBSCRIBED, now - 900 * SECOND)
    capture.stop(now - 600 * SECOND)
    other = FakeCapture(store.root, store.index, IBM, "last")
    other.report_status(StreamStatus.SUBSCRIBED, now - 900 * SECOND)
    where = ("--store", store.root, "--dsn", database)
    assert cli("backfill", *where, "--json", "--dry-run").json["gaps"] == [], "nothing is named"
    assert cli("gaps", *where, "--json").json["gaps"] == [], "and they say the same"
    assert backfill("--json", "--dry-run").json["gaps"] == []
    other.stop(now - 300 * SECOND)
    start = ("--start", instant(now - 600 * SECOND))
    [reported] = cli("gaps", str(BTC), "last", *where, *start, "--json").json["gaps"]
    done = backfill(str(BTC), "--json", since="10m")
    assert done.code == 0
    [gap], [part] = done.json["gaps"], done.json["filled"]
    assert (gap["state"], gap["start"]) == ("not_running", part["start"])
    assert reported["state"] == "not_running"
    assert gap["seconds"] > 599
    assert part["ticks"] == 0
