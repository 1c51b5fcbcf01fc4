"""Commands, their exit codes, and their output to stdout and stderr."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ibticks as ibt
from ibticks import errors
from ibticks.cli._app import app, index_app
from ibticks.index import ContractRecord
from ibticks.sample import sample as find_sample
from ibticks.storage import StreamLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

PROGRAM = [sys.executable, "-c", "from ibticks.cli import main; main()"]
TRADES = find_sample("btcusdt_trades").path
HOURS = ["990101/all_last/2024/08/08/23_ticks.pb", "990101/all_last/2024/08/09/00_ticks.pb"]
COMMANDS = [[command.name] for command in app.registered_commands]
COMMANDS += [["index", command.name] for command in index_app.registered_commands]


@pytest.fixture
def trades(cli: Callable[..., Done], own: list[Any]) -> Any:
    """Options of a store with the BTCUSDT trades."""
    done = cli("import", TRADES, "-c", 990101, "-t", "all_last", "--symbol", "BTCUSDT", *own)
    assert done.code == 0
    return own


# -- the program -----------------------------------------------------------------------------------


def test_version(cli: Callable[..., Done]) -> None:
    done = cli("--version")
    assert (done.code, done.out, done.err) == (0, f"ibticks {ibt.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps(cli: Callable[..., Done], command: list[str | None]) -> None:
    done = cli(*command, "--help")
    assert done.code == 0
    assert "Usage: ibticks" in done.out
    assert done.err == ""


def test_every_command_is_listed(cli: Callable[..., Done]) -> None:
    done = cli("--help")
    for command in COMMANDS:
        assert command[0] in done.out


@pytest.mark.parametrize(
    "wrong",
    [
        ["frobnicate"],
        ["ls", "--frobnicate"],
        ["load"],
        ["load", "IBM", "--rows", "many"],
        ["load", "IBM", "--rows", "-1"],
        ["import"],
        ["import", "trades.csv"],
        ["import", "trades.csv", "-c", "1"],
        ["import", "trades.csv", "-c", "one", "-t", "last"],
        ["import", "trades.csv", "-c", "1", "-t", "last", "--map", "price"],
        ["import", "all.jsonl", "-c", "1", "-t", "last"],
        ["prune"],
        ["index", "frobnicate"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(
    cli: Callable[..., Done], wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*wrong)
    assert (done.code, done.out) == (2, "")
    assert "Usage: ibticks" in done.err
    assert list(tmp_path.iterdir()) == []  # no store was begun


@pytest.mark.parametrize(
    "command",
    [
        ["import", str(TRADES), "-c", "990101", "-t", "all_last"],
        ["stream", "265598", "last", "--record"],
        ["ls"],
        ["gaps"],
    ],
    ids=lambda command: command[0],
)
def test_no_store_is_created_without_a_path(
    cli: Callable[..., Done], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IBTICKS_STORE", raising=False)
    done = cli(*command)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: the current folder, {tmp_path}, is no store: name one with")
    assert "--store FOLDER, or with IBTICKS_STORE" in done.err
    assert list(tmp_path.iterdir()) == []


def test_no_capture_creates_a_store_without_a_path(
    shell: Callable[..., Done], tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "IBTICKS_STORE"}
    done = shell("capture", "265598:AAPL:last", cwd=tmp_path, env=environment)
    assert (done.code, done.out) == (1, "")
    assert f"the current folder, {tmp_path}, is no store" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_created_at_a_given_path(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = messages(tmp_path / "all.jsonl", 265598)
    database = own[2:]
    monkeypatch.setenv("IBTICKS_STORE", str(own[1]))
    assert cli("import", path, *database).code == 0
    monkeypatch.chdir(own[1])
    monkeypatch.delenv("IBTICKS_STORE")
    assert cli("import", path, *database, "--json").json["known"] == 1, "the current folder is one"
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert cli("import", path, "-s", ".", *database).code == 1, "the database is of another store"
    assert (tmp_path / "other" / "metadata" / "store.json").exists()


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.TickError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_are_printed_without_a_traceback(
    cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, kind: type[errors.TickError]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise kind("this is why [/b] [red] \\[", path="x")

    monkeypatch.setattr("ibticks.store.open_store", refuse)
    done = cli("ls", "-s", ".")
    assert (done.code, done.out, done.err) == (1, "", "error: this is why [/b] [red] \\[\n")


def test_results_go_to_standard_output_and_notes_to_standard_error(
    shell: Callable[..., Done], sample: ibt.Store
) -> None:
    """Standard output has the results, standard error the messages."""
    done = shell("load", "btcusdt", "all_last", "1s", "--now", "last_tick", "--json")
    assert done.code == 0
    assert done.err == ""
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert rows[-1]["timestamp"] == "2024-08-09T00:05:04.525430833+00:00"
    done = shell("load", "btcusdt", "last")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("0 ticks in ")
    done = shell("load", "AAPL")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: no contract with the symbol 'AAPL' in this store; it has ")
    done = shell("ls", "--frobnicate")
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err


def test_a_closed_pipe_ends_the_command(sample: ibt.Store) -> None:
    command = [*PROGRAM, "load", "btcusdt", "bid_ask", "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline().startswith(b'{"timestamp":')
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("columns", [8, 20, 40, 80, 200])
@pytest.mark.parametrize("command", ["ls", "ls --files", "info", "info IBM", "load IBM", "verify"])
def test_terminals_of_any_width(
    sample: ibt.Store,
    columns: int,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., Done],
) -> None:
    if columns not in (20, 80) and command not in ("ls", "load IBM"):
        return
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("ibticks.cli._options.console._force_terminal", True)
    done = cli(*command.split())
    assert done.code == 0
    assert done.out


# -- ls and info -----------------------------------------------------------------------------------


def test_ls(cli: Callable[..., Done], sample: ibt.Store) -> None:
    done = cli("ls")
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[4][:3] == ["8314", "IBM", "bid_ask"]
    assert lines[4][-4:] == ["62,875", "17", *lines[4][-2:]]
    assert cli("ls", "--json").json == [asdict(content) for content in sample.contents()]
    assert [c["tick_type"] for c in cli("ls", "ibm", "--json").json] == ["all_last", "bid_ask"]
    assert [c["symbol"] for c in cli("ls", "990101", "--json").json] == ["BTCUSDT"] * 2


def test_ls_files(cli: Callable[..., Done], sample: ibt.Store) -> None:
    done = cli("ls", "--files", "btcusdt", "--json")
    records = sample.index.files([990101])
    assert [file["path"] for file in done.json] == [record.path for record in records]
    assert [file["ticks"] for file in done.json] == [record.ticks for record in records]
    assert all(file["sealed"] for file in done.json)
    assert "block_offset" not in done.json[0]
    table = cli("ls", "--files", "btcusdt").out
    for path in HOURS:
        assert path in table  # whole, since a pipe has no width


def test_info(cli: Callable[..., Done], sample: ibt.Store) -> None:
    about = cli("info", "--json").json
    assert {name: about[name] for name in ("contracts", "files", "open_files", "ticks")} == {
        "contracts": 2,
        "files": 33,
        "open_files": 0,
        "ticks": 189334,
    }
    assert about["root"] == str(sample.root)
    assert about["first_tick"] == "2013-10-08T08:00:00.640Z"
    assert about["last_tick"] == "2024-08-09T00:05:04.525430833Z"
    shown = cli("info").out
    assert "189,334" in shown
    assert "first tick  2013-10-08T08:00:00.640Z" in shown


def test_info_of_an_empty_store(cli: Callable[..., Done], own: list[Any]) -> None:
    ibt.open(own[1], dsn=own[3]).close()
    about = cli("info", *own, "--json").json
    assert (about["ticks"], about["first_tick"]) == (0, "–")
    assert cli("ls", *own, "--json").json == []
    assert cli("ls", *own).code == 0


def test_info_of_a_contract(cli: Callable[..., Done], sample: ibt.Store) -> None:
    days = cli("info", "IBM", "--json").json
    assert days == [asdict(day) for day in sample.daily_stats("IBM")]
    assert days[0]["vwap"] == pytest.approx(179.79936377, abs=1e-8)
    assert "5,564,671" in cli("info", "ibm").out


def test_info_of_a_file(cli: Callable[..., Done], sample: ibt.Store) -> None:
    path = sample.root / HOURS[1]
    about = cli("info", path, "--json").json
    record = sample.index.files([990101], ["all_last"])[1]
    assert {name: about[name] for name in ("ticks", "messages", "size", "sealed", "problem")} == {
        "ticks": 10147,
        "messages": 10147,
        "size": record.size,
        "sealed": True,
        "problem": None,
    }
    assert about["crc32c"] == about["crc32c_found"] == f"{record.crc32c:#010x}"
    assert about["contract_id"] == 990101
    shown = cli("info", path).out
    assert "contract id  990101" in shown
    assert "10,147" in shown


@pytest.mark.parametrize("name", ["none_ticks.pb", "8314/all_last/2013/10/08/03_ticks.pb"])
def test_info_of_no_file(cli: Callable[..., Done], sample: ibt.Store, name: str) -> None:
    done = cli("info", sample.root / name)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")


# -- import ----------------------------------------------------------------------------------------


def test_import(cli: Callable[..., Done], own: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("when,px,volume,note\n34200000,236.5,100,x\n34200001,236.75,200,y\n")
    options = ["-c", "265598", "-t", "last", "--map", "timestamp=when", "--unit", "ms"]
    contract: Any = ["--symbol", "AAPL", "--exchange", "SMART", "--currency", "USD"]
    result = cli("import", path, *options, *contract, *own, "--json").json
    assert {name: result[name] for name in ("read", "added", "known")} == {
        "read": 2,
        "added": 2,
        "known": 0,
    }
    assert result["ignored"] == ["note"]
    assert result["mapped"]["price"] == ["px"]
    done = cli("import", path, *options, *own)
    assert done.out.splitlines() == [
        "2 read, 0 added, 2 there already",
        "time: 1970-01-01T09:30:00Z to 1970-01-01T09:30:00.001Z",
        "contracts: 265598 AAPL: 2",
        "columns: timestamp=when, price=px, size=volume",
        "columns without a place in a tick: note",
    ]
    with ibt.open(own[1], dsn=own[3]) as store:
        (contract,) = store.contracts()
        assert (contract.symbol, contract.exchange, contract.currency) == ("AAPL", "SMART", "USD")
        assert store.select("AAPL").to_polars()["size"].to_list() == [100, 200]


def test_import_leaves_a_column_out(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("time,price,size\n2025-01-10 09:30:00,1.5,2\n")
    done = cli("import", path, "-c", 1, "-t", "last", "--map", "size=", "--tz", "Asia/Tokyo", *own)
    assert done.code == 0
    rows = cli("load", 1, *own, "--json").out.splitlines()
    assert json.loads(rows[0])["timestamp"] == "2025-01-10T00:30:00+00:00"
    assert json.loads(rows[0])["size"] is None


def messages(path: Path, *contracts: int) -> Path:
    tick = {"type": "tick", "timestamp": "2025-01-10T14:30:00Z"}
    with path.open("w") as file:
        for contract in contracts:
            data = {"contract_id": contract, "tick_type": "last", "price": 1.5}
            file.write(json.dumps({**tick, "stream_id": str(contract), "data": data}) + "\n")
    return path


def test_import_of_messages(cli: Callable[..., Done], own: list[Any], tmp_path: Path) -> None:
    path = messages(tmp_path / "all.jsonl", 265598)
    assert cli("import", path, "--symbol", "AAPL", *own, "--json").json["added"] == 1
    assert [c["symbol"] for c in cli("ls", *own, "--json").json] == ["AAPL"]
    assert cli("import", messages(tmp_path / "none.ndjson"), "--symbol", "X", *own).code == 0


def test_one_name_is_not_given_to_several_contracts(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = messages(tmp_path / "all.jsonl", 1, 2)
    done = cli("import", path, "--symbol", "AAPL", *own)
    assert done.code == 1
    assert "--symbol AAPL describes one contract" in done.err
    assert [c["symbol"] for c in cli("ls", *own, "--json").json] == ["", ""]


def test_a_mistyped_name_can_be_corrected(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = messages(tmp_path / "all.jsonl", 265598)
    done = cli("import", path, "--symbol", "APPL", "--exchange", "SMART", *own)
    assert len(done.out.splitlines()) == 1
    done = cli("import", path, "--symbol", "AAPL", *own)
    assert done.out.splitlines()[1:] == ["contract 265598: symbol APPL is AAPL now"]
    done = cli("import", path, "--currency", "USD", *own)
    assert len(done.out.splitlines()) == 1, "nothing was known otherwise"
    known = cli("ls", "AAPL", *own, "--json").json
    assert [c["symbol"] for c in known] == ["AAPL"]
    with ibt.open(own[1], dsn=own[3]) as store:
        assert store.contracts() == [ContractRecord(265598, "AAPL", "SMART", "USD")]


def test_a_failed_import_names_file_and_row(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("time,price\n2025-01-10T14:30:00Z,1\n2025-01-10T14:30:01Z,x\n")
    done = cli("import", path, "-c", 1, "-t", "last", *own)
    assert (done.code, done.out) == (1, "")
    assert f"error: {path}, row 2: " in done.err
    assert [c["ticks"] for c in cli("ls", *own, "--json").json] == [1]


# -- keeping a store -------------------------------------------------------------------------------


def test_verify(cli: Callable[..., Done], trades: Any, damage_file: Callable[..., None]) -> None:
    done = cli("verify", *trades)
    assert (done.code, done.err) == (0, "")
    assert done.out == "2 files, 19,904 messages, 2.0 MB: all well\n".replace("2.0", _size(trades))
    assert cli("verify", *trades, "--json").json == {
        "files": 2,
        "messages": 19904,
        "problems": [],
    }
    damage_file(trades[1] / HOURS[0])
    done = cli("verify", *trades)
    assert done.code == 3
    assert HOURS[0] in done.out
    done = cli("verify", *trades, "--json")
    assert done.code == 3
    assert [value["path"] for value in done.json["problems"]] == [HOURS[0]]
    # Damage is reported when it is read, on standard error.
    done = cli("load", "btcusdt", *trades, "--json")
    assert (done.code, done.err.startswith("warning: ")) == (0, True)
    assert len(done.out.splitlines()) == 10147
    done = cli("load", "btcusdt", *trades, "--strict")
    assert (done.code, done.out) == (1, "")


def _size(options: Any) -> str:
    total = sum(path.stat().st_size for path in options[1].glob("990101/*/*/*/*/*.pb"))
    return f"{total / 1e6:.1f}"


@pytest.fixture
def damage_file() -> Callable[..., None]:
    def change(path: Any) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)

    return change


def test_compress(cli: Callable[..., Done], trades: Any) -> None:
    before = cli("info", *trades, "--json").json["size"]
    result = cli("compress", *trades, "--json").json
    assert result["files"] == 2
    after = cli("info", *trades, "--json").json["size"]
    assert result["saved_bytes"] == before - after > before / 2
    assert cli("compress", *trades).out == "0 files, 0 B saved\n"
    assert cli("compress", *trades, "--codec", "none").out.startswith("2 files, -")
    assert cli("compress", *trades, "--older-than", "100000h").out == "0 files, 0 B saved\n"
    done = cli("compress", *trades, "--codec", "lzma")
    assert (done.code, done.out) == (1, "")


def test_prune(cli: Callable[..., Done], trades: Any) -> None:
    done = cli("prune", "--keep", "30d", *trades, "--dry-run")
    assert (done.code, done.out) == (0, "2 files would be deleted\n")
    dry = cli("prune", "--keep", "30d", *trades, "--dry-run", "--json").json
    assert dry == {"deleted": [], "would_delete": HOURS}
    for answer in ("n\n", "\n", ""):
        done = cli("prune", "--keep", "30d", *trades, typed=answer)
        assert done.code == 1
        assert "delete 2 files for good?" in done.err
    assert cli("info", *trades, "--json").json["files"] == 2
    done = cli("prune", "--keep", "30d", *trades, typed="y\n")
    assert (done.code, done.out.strip()) == (0, "2 files deleted")
    done = cli("prune", "--keep", "30d", *trades, "--json")  # nothing left to ask about
    assert done.json == {"deleted": [], "would_delete": []}


def test_files_being_written_are_skipped_and_reported(
    cli: Callable[..., Done], trades: Any
) -> None:
    nothing = [{"files": 0, "saved_bytes": 0}, {"deleted": [], "would_delete": []}]
    lock = StreamLock(trades[1], 990101, "all_last")
    try:
        for command in (("compress",), ("prune", "--keep", "30d", "--yes")):
            done = cli(*command, *trades, "--json")
            assert done.code == 0
            assert done.json in nothing
            reported = " ".join(done.err.split())
            assert "warning: 2 files are left as they are: all_last of contract 990101" in reported
            assert f"process {os.getpid()} on" in reported
    finally:
        lock.release()
    assert cli("compress", *trades, "--json").json["files"] == 2


def test_prune_without_asking(cli: Callable[..., Done], trades: Any) -> None:
    done = cli("prune", "--keep", "30d", "--yes", *trades, "--json")
    assert (done.code, done.json) == (0, {"deleted": HOURS, "would_delete": []})
    assert cli("prune", "--keep", "forever", *trades).code == 1


def test_index(cli: Callable[..., Done], trades: Any) -> None:
    about = cli("index", "status", *trades, "--json").json
    assert about["index"].startswith("PostgreSQL ")
    assert {name: about[name] for name in ("writable", "files", "contracts")} == {
        "writable": True,
        "files": 2,
        "contracts": 1,
    }
    assert "writable  True" in cli("index", "status", *trades).out
    assert cli("index", "rebuild", *trades, "--json").json == {"files": 2}
    assert cli("index", "rebuild", *trades).out == "2 files indexed\n"
    assert cli("index", "status", "-s", trades[1] / "none").code == 1


def test_a_pty_shows_a_bar_and_a_table(sample: ibt.Store) -> None:
    """As a person sees it: colours, a progress bar, tables that fit."""
    command = [*PROGRAM, "verify"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            seen += piece
    os.close(ours)
    assert process.returncode == 0
    assert "verifying" in seen.decode()
    assert "all well" in seen.decode()


def test_a_symbol_is_stored_when_its_file_is_refused(
    cli: Callable[..., Done], own: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "ticks.csv"
    path.write_text("when,what\n1,2\n")
    done = cli("import", path, "-c", 77, "-t", "last", "--symbol", "XYZ", *own)
    assert done.code == 1
    done = cli("import", tmp_path / "none.csv", "-c", 78, "-t", "last", "--symbol", "ABC", *own)
    assert done.code == 1
    with ibt.open(own[1], dsn=own[3]) as store:
        assert {one.contract_id: one.symbol for one in store.contracts()} == {77: "XYZ", 78: "ABC"}
