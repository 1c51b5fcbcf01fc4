"""``gateway``: stored or sample ticks to any IB client, as if it were TWS."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ibticks.cli._options import (
    ALL_TIME,
    Dsn,
    Json,
    Root,
    console,
    emit,
    instant,
    listed,
    notes,
    opened,
    table,
    time_range_options,
)

if TYPE_CHECKING:
    from ibticks.gateway import Gateway, Replay
    from ibticks.selection import TimeRange

__all__ = ["gateway"]


@time_range_options
def gateway(
    contracts: Annotated[
        str | None, typer.Argument(help="Id or symbol; several with commas; all by default.")
    ] = None,
    tick_types: Annotated[
        str | None, typer.Argument(help="Tick types, with commas; all stored by default.")
    ] = None,
    time_range: TimeRange = ALL_TIME,
    root: Root = None,
    dsn: Dsn = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="The ticks that travel with ibticks, not a store's.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 4002,
    speed: Annotated[float, typer.Option(help="How many times faster than recorded.")] = 1.0,
    most: Annotated[
        bool, typer.Option("--max", help="As fast as each client reads; no clock.")
    ] = False,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared-clock",
            help="One clock for all; otherwise a client's stream begins when it subscribes.",
        ),
    ] = False,
    as_now: Annotated[
        bool, typer.Option("--as-now", help="Move the ticks in time: the first one is now.")
    ] = False,
    server_version: Annotated[
        int | None,
        typer.Option(help="Version of the TWS protocol, 157 to 226; the newest by default."),
    ] = None,
    copies: Annotated[int, typer.Option(help="More contracts that tick like these.")] = 0,
    json: Json = False,
) -> None:
    """Replay ticks to any IB client over the TWS protocol, until interrupted."""
    from ibticks.gateway import Gateway, Replay

    if sample:
        if time_range.period or time_range.session or time_range.date or time_range.sessions:
            raise typer.BadParameter("--sample goes with --start and --end, not with a period")
        replay = _sample(contracts, tick_types, time_range)
    else:
        with opened(root, dsn) as store:
            everything = sorted({content.contract_id for content in store.contents()})
            selection = store.select(
                everything if contracts is None else listed(contracts),
                None if tick_types is None else listed(tick_types),
                time_range,
            )
            replay = Replay.from_selection(selection)
    if as_now:
        replay = replay.shifted(time.time_ns() - replay.start_ns)
    server = Gateway(
        replay.cloned(copies) if copies else replay,
        host=host,
        port=port,
        speed=None if most else speed,
        clock="shared" if shared else "per_subscription",
        server_version=server_version,
    )
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with server:
        _announce(server, json=json)
        sys.stdout.flush()
        over.wait()
    if not json:
        notes.print(f"closed after {sum(server.sent.values()):,} ticks", highlight=False)


def _sample(
    contracts: str | None,
    tick_types: str | None,
    time_range: TimeRange,
) -> Replay:
    from ibticks.calendar import to_ns
    from ibticks.gateway import Replay
    from ibticks.index import ContractRecord
    from ibticks.schema import check_tick_type
    from ibticks.selection import find_contracts

    start, end, tz = time_range.start, time_range.end, time_range.tz
    replay = Replay.from_samples()
    known = [ContractRecord(contract.contract_id, contract.symbol) for contract in replay.contracts]
    chosen = replay.only(
        None if contracts is None else find_contracts(listed(contracts), known, set),
        None if tick_types is None else [check_tick_type(value) for value in listed(tick_types)],
    )
    return chosen.between(
        replay.start_ns if start is None else to_ns(start, tz=tz, name="start"),
        replay.end_ns + 1 if end is None else to_ns(end, tz=tz, name="end"),
    )


def _announce(server: Gateway, *, json: bool) -> None:
    if json:
        emit({"host": server.host, "port": server.port, "streams": _streams(server.replay)})
        return
    columns = (">contract", "symbol", "tick type", ">ticks", "first", "last")
    table("", columns, [tuple(stream.values()) for stream in _streams(server.replay)])
    console.print(
        f"listening on [bold]{server.host}:{server.port}[/], for any IB client; Ctrl-C ends it",
        highlight=False,
    )


def _streams(replay: Replay) -> list[dict[str, str | int]]:
    symbols = {contract.contract_id: contract.symbol for contract in replay.contracts}
    return [
        {
            "contract_id": contract_id,
            "symbol": symbols[contract_id],
            "tick_type": tick_type,
            "ticks": stream.rows,
            "first": instant(int(stream.time_ns[0]) if stream.rows else None),
            "last": instant(int(stream.time_ns[-1]) if stream.rows else None),
        }
        for (contract_id, tick_type), stream in replay.streams.items()
    ]
