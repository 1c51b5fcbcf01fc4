"""``ibticks gaps``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ibticks.calendar import to_ns
from ibticks.coverage import StreamStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Store
    from ibticks.testing import FakeCapture
    from tests.cli.conftest import Done

AAPL = 265598
T0 = to_ns("2025-01-10T20:30Z")  # half an hour before the US closes
MINUTE = 60_000_000_000


@pytest.fixture
def root(fake_capture: type[FakeCapture], store: Store) -> Path:
    store.add_contract(AAPL, "AAPL")
    capture = fake_capture(store.root, store.index, AAPL)
    capture.report_status(StreamStatus.SUBSCRIBED, T0)
    capture.report_status(StreamStatus.DISCONNECTED, T0 + 10 * MINUTE, "connection lost", 1100)
    capture.report_status(StreamStatus.RESTORED, T0 + 12 * MINUTE)
    capture.stop(T0 + 40 * MINUTE)
    return store.root


def test_gaps_are_listed(cli: Callable[..., Done], root: Path, database: str) -> None:
    done = cli("gaps", "AAPL", "--store", root, "--dsn", database)
    assert done.code == 3
    assert "AAPL last" in done.out
    assert "95.0 %" in done.out
    assert "2025-01-10T20:40:00Z" in done.out
    assert "1100: connection lost" in done.out


def test_json(cli: Callable[..., Done], root: Path, database: str) -> None:
    range_ = ("--start", "2025-01-10T20:30Z", "--end", "2025-01-10T22:00Z")
    done = cli("gaps", "AAPL", "last", *range_, "--json", "--store", root, "--dsn", database)
    assert done.code == 3
    assert [stream["seconds"] for stream in done.json["streams"]] == [
        {"captured": 2280.0, "disconnected": 120.0, "not_running": 3000.0}
    ]
    assert done.json["gaps"][0] == {
        "contract_id": AAPL,
        "tick_type": "last",
        "start": "2025-01-10T20:40:00Z",
        "end": "2025-01-10T20:42:00Z",
        "seconds": 120.0,
        "state": "disconnected",
        "reason": "1100: connection lost",
    }
    assert done.json["intervals"] == [["2025-01-10T20:30:00Z", "2025-01-10T22:00:00Z"]]
    during = cli(
        *("gaps", "AAPL", "last", *range_, "--json", "--store", root, "--dsn", database),
        *("--during", "regular", "--market", "US"),
    )
    assert during.json["streams"][0]["seconds"] == {"captured": 1680.0, "disconnected": 120.0}


def test_no_gaps(cli: Callable[..., Done], root: Path, database: str) -> None:
    done = cli("gaps", "--min", "3m", "--store", root, "--dsn", database)
    assert (done.code, done.out.splitlines()[-1]) == (0, "no gaps")
    assert (
        cli("gaps", "--min", "3m", "--json", "--store", root, "--dsn", database).json["gaps"] == []
    )


def test_imported_ticks_are_unknown(
    cli: Callable[..., Done], sample_root: Path, sample_store: Store
) -> None:
    done = cli("gaps", "IBM", "--store", sample_root)
    assert done.code == 0
    assert "unknown: before any capture of this stream" in done.out
