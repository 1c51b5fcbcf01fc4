"""``capture``, ``status`` and ``stream``: ticks as they come, without a notebook."""

from __future__ import annotations

import contextlib
import json
import json as json_
import logging
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ibticks.cli._options import Dsn, Json, Root, console, emit, notes, opened, when_asked_to_end
from ibticks.errors import TickError
from ibticks.filesystem import expand_home

if TYPE_CHECKING:
    from ibticks.capture import Capture, OnDemandStream
    from ibticks.store import Store

__all__ = ["capture", "log_to_stderr", "status", "stream"]

_log = logging.getLogger("ibticks")
_NOT_RUNNING = 1

_ENDED_BADLY = 1


def stream(
    contract: Annotated[str, typer.Argument(help="Contract id; or a symbol that the store knows.")],
    tick_type: Annotated[str, typer.Argument(help="last, all_last, bid_ask or mid_point.")],
    limit: Annotated[int | None, typer.Option(help="End after so many ticks.")] = None,
    timeout: Annotated[float | None, typer.Option(help="End after so many seconds.")] = None,
    gateway: Annotated[
        str,
        typer.Option(envvar="IBTICKS_GATEWAY", help="host:port of TWS or IB Gateway."),
    ] = "127.0.0.1:4002",
    client_id: Annotated[int, typer.Option(help="Client id at TWS.")] = 2,
    record: Annotated[bool, typer.Option("--record", help="Store the stream, too.")] = False,
    root: Root = None,
    dsn: Dsn = None,
) -> None:
    """Print the ticks of a contract as v2 JSON lines, until enough have come, or Ctrl-C.

    Exit code 1 where the stream ended with an error, or the connection was lost.
    """
    from ibticks.capture import stream_ticks
    from ibticks.tws import parse_address

    host, port = parse_address(gateway)
    with contextlib.ExitStack() as stack:
        store: Store | None = None
        if record or not contract.isdecimal():
            store = stack.enter_context(opened(root, dsn, create=record))
        contract_id = int(contract) if contract.isdecimal() else _find(store, contract)
        ticks = stack.enter_context(
            stream_ticks(
                contract_id,
                tick_type,
                host=host,
                port=port,
                client_id=client_id,
                limit=limit,
                timeout_seconds=timeout,
                store=store if record else None,
            )
        )
        ended = threading.Event()
        stack.enter_context(when_asked_to_end(ended.set))
        threading.Thread(target=_end, args=(ended, ticks), daemon=True).start()
        stack.callback(ended.set)
        reason = ""
        try:
            for message in ticks:
                sys.stdout.write(json.dumps(message) + "\n")
                sys.stdout.flush()
                reason = message["data"].get("reason", "")
        except BrokenPipeError:
            # The reader has closed the pipe. Python would report it once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if reason in ("error", "disconnected"):
        raise typer.Exit(_ENDED_BADLY)


def _find(store: Store | None, symbol: str) -> int:
    assert store is not None
    (contract_id,) = store.contract_ids(symbol)
    return contract_id


def _end(ended: threading.Event, ticks: OnDemandStream) -> None:
    """End a stream once it is to end: what has come is still printed, and why it ended."""
    ended.wait()
    ticks.close()


def capture(
    contracts: Annotated[
        str | None,
        typer.Argument(
            envvar="IB_STREAM_TRACKED_CONTRACTS",
            help="contract_id:symbol:tick_types:buffer_hours,... with tick types joined by ;",
        ),
    ] = None,
    root: Root = None,
    dsn: Dsn = None,
    gateway: Annotated[
        str,
        typer.Option(envvar="IBTICKS_GATEWAY", help="host:port of TWS or IB Gateway."),
    ] = "127.0.0.1:4002",
    client_id: Annotated[int, typer.Option(help="Client id at TWS.")] = 10,
    most: Annotated[
        int, typer.Option("--max-tracked", envvar="IB_STREAM_MAX_TRACKED", help="Most contracts.")
    ] = 10,
    reconnect_delay: Annotated[
        float, typer.Option(envvar="IB_STREAM_RECONNECT_DELAY", help="Seconds.")
    ] = 30.0,
    fsync: Annotated[
        str, typer.Option(help="Seconds between syncs to the disk; always, or never.")
    ] = "1",
    same_contract_seconds: Annotated[
        float, typer.Option(help="Seconds between two requests for one contract.")
    ] = 15.0,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Fill gaps from IB's history.")
    ] = False,
    compress_after: Annotated[
        str | None,
        typer.Option(
            help="Compress hours that ended this long ago, such as 24h; never by default."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Delete hours that ended this long ago, such as 90d; never by default."),
    ] = None,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log JSON, a line each.")] = False,
) -> None:
    """Capture ticks until told to stop (SIGTERM or Ctrl-C): files sealed, index up to date.

    Told a second time, it ends at once; what it has captured is safe all the same.
    """
    from ibticks.capture import Capture, CaptureSettings
    from ibticks.tws import parse_address

    log_to_stderr(json_logs=json_logs)
    try:
        host, port = parse_address(gateway)
        chosen: dict[str, Any] = {
            "tracked": contracts or "",
            "max_tracked": most,
            "host": host,
            "port": port,
            "client_id": client_id,
            "reconnect_delay": reconnect_delay,
            "fsync": _fsync(fsync),
            "same_contract_seconds": same_contract_seconds,
            "backfill": backfill,
            "compress_after": compress_after,
            "keep": keep,
        }
        # Before a store is made for it.
        CaptureSettings.from_environment(**chosen).enabled_contracts()
        asked = _listen()
        with opened(root, dsn, create=True) as store:
            unwritten = _capture(Capture(store, **chosen), asked)
    except TickError as error:
        if not json_logs:
            raise
        _log.error("%s", error)
        raise typer.Exit(1) from error
    if unwritten:
        raise typer.Exit(1)


def _listen() -> list[int]:
    """The signals that came, from now on, and told to stop; a second one ends the process."""
    asked: list[int] = []

    def on_signal(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return asked


def _capture(running: Capture, asked: list[int]) -> int:
    """Capture until told to stop; how many messages found no room on the disk in the end."""
    running.start()
    _log.warning(
        "capturing %s from %s:%d into %s",
        ", ".join(contract.symbol for contract in running.settings.enabled_contracts()),
        running.settings.host,
        running.settings.port,
        running.store.root,
    )
    while not asked and not running.wait(0.2):
        pass
    _log.warning("stopping")
    running.stop()
    unwritten = running.unwritten
    if unwritten:
        _log.error("stopped: %d messages could not be written", unwritten)
    else:
        _log.warning("stopped: all sealed")
    return unwritten


def status(root: Root = None, json: Json = False) -> None:
    """Tell how the capture of a store is doing; exit code 1 where none runs."""
    from ibticks.capture import read_status

    details = read_status(expand_home(root or "."))
    about = details["status"]
    if json:
        emit(details)
    else:
        _print(about)
    if not about["running"]:
        raise typer.Exit(_NOT_RUNNING)


def _print(about: dict[str, Any]) -> None:
    if not about["running"]:
        console.print("no capture runs here")
        return
    console.print(
        f"{'connected to' if about['tws_connected'] else 'not connected to'} {about['gateway']}, "
        f"{about['total_streams']} streams, {about['ticks']:,} ticks, "
        f"{about['ticks_per_second']:,} ticks/s",
        highlight=False,
    )
    for contract in about["contracts"].values():
        for kind, stream in contract["streams"].items():
            console.print(
                f"{contract['symbol']:>12} {kind:<10} {stream['state'] or 'waiting':<14} "
                f"{stream['ticks']:>12,}  {stream['last_tick'] or ''}  {_since(stream)}"
                f"{stream['last_error']}",
                markup=False,
                highlight=False,
            )
    if about["last_problem"]:
        notes.print(about["last_problem"], style="yellow", markup=False, highlight=False)


def _since(stream: dict[str, Any]) -> str:
    """Since when a stream is not captured, and why."""
    if stream["state"] in (None, "captured") or not stream.get("since"):
        return ""
    return f"since {stream['since']}: {stream['reason']}  "


def _fsync(text: str) -> float | None:
    words = {"always": 0.0, "never": None}
    if text in words:
        return words[text]
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"--fsync {text}: give seconds, or always, or never") from error


class _JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        details = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            details["exception"] = self.formatException(record.exc_info)
        return json_.dumps(details)


def log_to_stderr(*, json_logs: bool) -> None:
    """Log to standard error, as text or as JSON, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    if json_logs:
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    # ibapi logs every message it gets; only its complaints matter here.
    logging.getLogger("ibapi").setLevel(logging.WARNING)
