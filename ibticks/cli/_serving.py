"""``serve``: a store over HTTP."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

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

__all__ = ["serve"]


def serve(
    root: Root = None,
    dsn: Dsn = None,
    host: Annotated[str, typer.Option(help="Address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 chooses a free one.")] = 8001,
    uds: Annotated[
        Path | None, typer.Option(help="Path of a Unix socket, instead of host and port.")
    ] = None,
    json: Json = False,
) -> None:
    """Serve a store over HTTP to clients on this machine, until interrupted."""
    from ibticks.service import Service

    over = threading.Event()
    with (
        when_asked_to_end(over.set),
        opened(root, dsn) as store,
        Service(store, host=host, port=port, uds=uds) as service,
    ):
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
    if not json:
        notes.print("closed")
