"""``serve``: a store over HTTP, with a capture in the same process if wanted."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ibticks.cli._capturing import log_to_stderr
from ibticks.cli._options import (
    Dsn,
    Json,
    Root,
    console,
    emit,
    notes,
    opened,
    when_asked_to_end,
)

if TYPE_CHECKING:
    from ibticks.capture import Capture, CaptureOptions, SharingOptions

__all__ = ["serve"]


def serve(
    root: Root = None,
    dsn: Dsn = None,
    host: Annotated[str, typer.Option(help="Address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 chooses a free one.")] = 8001,
    uds: Annotated[
        Path | None, typer.Option(help="Path of a Unix socket, instead of host and port.")
    ] = None,
    with_capture: Annotated[
        bool,
        typer.Option(
            "--capture",
            help="Capture into the store, too, with the settings of the environment; a new store "
            "is made.",
        ),
    ] = False,
    tracked: Annotated[
        str | None,
        typer.Option(
            envvar="IB_STREAM_TRACKED_CONTRACTS",
            help="Contracts of --capture: contract_id:symbol:tick_types:buffer_hours,...",
        ),
    ] = None,
    gateway: Annotated[
        str,
        typer.Option(envvar="IBTICKS_GATEWAY", help="host:port of TWS or IB Gateway."),
    ] = "127.0.0.1:4002",
    on_demand: Annotated[
        bool,
        typer.Option(
            "--on-demand",
            help="Stream contracts that are not captured from the gateway as clients ask for them; "
            "a new store is made.",
        ),
    ] = False,
    client_id: Annotated[int, typer.Option(help="Client id of --on-demand at the gateway.")] = 2,
    json: Json = False,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log JSON, a line each.")] = False,
) -> None:
    """Serve a store over HTTP to clients on this machine, until interrupted.

    At SIGTERM or Ctrl-C the streams of clients are completed first; then a capture writes what has
    come and seals its files. A second signal ends the process at once.
    """
    from ibticks.service import Service

    over = threading.Event()

    def end() -> None:
        over.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    options = _capture_options(tracked, gateway) if with_capture else None
    demand = _demand_options(gateway, client_id) if on_demand else None
    if with_capture or on_demand or json_logs:
        log_to_stderr(json_logs=json_logs)
    capture: Capture | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(when_asked_to_end(end))
        store = stack.enter_context(opened(root, dsn, create=with_capture or on_demand))
        if options is not None:
            from ibticks.capture import Capture

            capture = stack.enter_context(Capture(store, tracked, **options))
        # Entered last, the service ends first.
        service = stack.enter_context(
            Service(store, host=host, port=port, uds=uds, on_demand=demand)
        )
        if json:
            emit({"url": service.url, "port": service.port, "uds": None if uds is None else uds})
        else:
            where = service.url if uds is None else uds
            console.print(
                f"serving {store.root} at {where}; {service.url}/docs describes the routes; "
                "Ctrl-C ends it",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        sys.stdout.flush()
        over.wait()
    unwritten = 0 if capture is None else capture.unwritten
    if unwritten:
        notes.print(f"closed: {unwritten} messages could not be written")
        raise typer.Exit(1)
    if not json:
        notes.print("closed")


def _demand_options(gateway: str, client_id: int) -> SharingOptions:
    """Return checked options of streams on demand."""
    from ibticks.capture import CaptureSettings
    from ibticks.tws import parse_address

    host, port = parse_address(gateway)
    options: SharingOptions = {"host": host, "port": port, "client_id": client_id}
    CaptureSettings((), host=host, port=port, client_id=client_id)
    return options


def _capture_options(tracked: str | None, gateway: str) -> CaptureOptions:
    """Return checked options of a capture, before a store is made for it."""
    from ibticks.capture import CaptureSettings
    from ibticks.tws import parse_address

    host, port = parse_address(gateway)
    options: CaptureOptions = {"host": host, "port": port}
    CaptureSettings.from_environment(tracked=tracked, **options).enabled_contracts()
    return options
