"""``stream``: the ticks of one contract, as they come, a line of JSON each."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from ibticks.cli._options import Dsn, Root, opened
from ibticks.cli._signals import when_asked_to_end

if TYPE_CHECKING:
    from ibticks.capture import OnDemandStream
    from ibticks.store import Store

__all__ = ["stream"]

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
