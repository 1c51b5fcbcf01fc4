"""``ibticks rm``: confirmation, deletion, restoration and purge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.storage import StreamLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

WINDOW = ["--start", "2025-01-10 09:30", "--end", "2025-01-10 10:30", "--tz", "us/eastern"]
IBM = ["IBM", "last", *WINDOW]


@pytest.fixture
def trades(cli: Callable[..., Done], own: list[Any], tmp_path: Path) -> Any:
    """Options of a store with one trade a minute of IBM, from 9:00 to 12:00 in New York."""
    file = tmp_path / "trades.csv"
    rows = [f"2025-01-10T{14 + n // 60}:{n % 60:02}:00Z,{n}" for n in range(180)]
    file.write_text("\n".join(["time,price", *rows, ""]))
    assert cli("import", file, "-c", 8314, "-t", "last", "--symbol", "IBM", *own).code == 0
    return own


def test_rm(cli: Callable[..., Done], trades: Any) -> None:
    dry = cli("rm", *IBM, *trades, "--dry-run")
    assert (dry.code, dry.out) == (0, "60 ticks would be deleted from 2 hour files\n")
    refused = cli("rm", *IBM, *trades, typed="n\n")
    assert (refused.code, refused.out.strip()) == (1, "")
    assert "delete 60 ticks from 2 hour files?" in refused.err
    done = cli("rm", *IBM, *trades, typed="y\n")
    assert done.code == 0
    first, *remaining, last = done.out.splitlines()
    assert first.strip() == "60 ticks were deleted from 2 hour files"
    assert len(remaining) == 2
    assert all(".deleted-" in line for line in remaining)
    assert "--purge" in last
    again = cli("rm", *IBM, *trades)  # nothing left to ask about
    assert (again.code, again.out) == (0, "0 ticks were deleted from 0 hour files\n")
    assert cli("verify", *trades).code == 0


def test_rm_and_restore(cli: Callable[..., Done], trades: Any) -> None:
    root = trades[1]
    done = cli("rm", *IBM, *trades, "--yes", "--json").json
    assert (done["ticks"], done["dry_run"], len(done["kept"])) == (60, False, 2)
    wrong = cli("import", root / done["kept"][0], "-c", 8314, "-t", "last", *trades)
    assert (wrong.code, "tick files say their own" in wrong.err) == (2, True)
    for path in done["kept"]:
        assert cli("import", root / path, *trades, "--json").json["added"] == 30
    assert cli("rm", *IBM, *trades, "--dry-run", "--json").json["ticks"] == 60


def test_rm_purge(cli: Callable[..., Done], trades: Any) -> None:
    remaining = cli("rm", *IBM, *trades, "--yes", "--json").json["kept"]
    assert cli("rm", *IBM, *trades, "--purge", "--dry-run", "--json").json == {
        "purged": [],
        "would_purge": remaining,
    }
    refused = cli("rm", *IBM, *trades, "--purge", typed="n\n")
    assert (refused.code, "remove 2 files of deleted ticks for good?" in refused.err) == (1, True)
    done = cli("rm", *IBM, *trades, "--purge", typed="y\n")
    assert (done.code, done.out.strip()) == (0, "2 files were removed for good")
    assert cli("rm", "IBM", "last", *trades, "--purge", "--json").json["purged"] == []
    assert cli("rm", "8314", "last", *trades, "--dry-run", "--json").json["ticks"] == 120


def test_rm_of_a_stream_that_is_written(cli: Callable[..., Done], trades: Any) -> None:
    root = trades[1]
    lock = StreamLock(root, 8314, "last")
    done = cli("rm", *IBM, *trades, "--yes")
    lock.release()
    assert done.code == 1
    assert "is already written by process" in done.err
    assert cli("rm", *IBM, *trades, "--dry-run", "--json").json["ticks"] == 60


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["MSFT", "last"], "MSFT"),
        (["IBM", "trades"], "all_last"),
        (["IBM", "last", "--start", "2025-01-10 09:30"], "no time zone"),
        (["IBM", "last", "--start", "2025-01-11Z", "--end", "2025-01-10Z"], "start"),
    ],
    ids=["symbol", "tick type", "zone", "range"],
)
def test_invalid_deletions(
    cli: Callable[..., Done], trades: Any, arguments: list[str], says: str
) -> None:
    done = cli("rm", *arguments, *trades, "--yes")
    assert (done.code, done.out) == (1, "")
    assert says in done.err
