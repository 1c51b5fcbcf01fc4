"""``demo``: real ticks captured from the simulated gateway, stored, loaded and measured."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from ibticks.cli._contents import show
from ibticks.cli._options import Json, console, emit, facts, instant, opened
from ibticks.errors import CaptureError, MissingExtraError

if TYPE_CHECKING:
    from ibticks.capture import Capture
    from ibticks.gateway import Gateway, Replay
    from ibticks.store import Store

__all__ = ["demo", "rehearse"]

_KINDS: Final = ("bid_ask", "all_last")
_TIMEOUT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.02


def rehearse(store: Store) -> dict[str, Any]:
    """Capture everything the gateway sends, and compare what is stored with what was sent.

    Returns
    -------
    dict
        ``gateway``, ``ticks_sent``, ``ticks_captured``, ``captured_equals_sent`` (field
        by field and in order), ``seconds_to_capture`` and ``ticks_per_second``.

    Raises
    ------
    MissingExtraError
        If ibapi is not installed.
    CaptureError
        If the ticks do not arrive, or are not stored as they were sent.
    """
    from ibticks.capture import Capture, TrackedContract
    from ibticks.gateway import Gateway, Replay

    replay = Replay.from_samples().only(None, _KINDS)
    tracked = [
        TrackedContract(contract.contract_id, contract.symbol, _KINDS)
        for contract in replay.contracts
    ]
    begun_ns = time.time_ns()
    # Streams wait for one another, so that the first ticks come together.
    with Gateway(replay, speed=None, start_after=len(replay.streams)) as gateway:
        capture = Capture(store, tracked, port=gateway.port, same_contract_seconds=0)
        began = time.perf_counter()
        with capture:
            _wait(capture, replay.rows)
            took = time.perf_counter() - began
    captured = capture.status()["status"]["ticks"]
    _compare(store, replay, gateway, begun_ns)
    return {
        "gateway": f"{gateway.host}:{gateway.port}",
        "ticks_sent": sum(gateway.sent.values()),
        "ticks_captured": captured,
        "captured_equals_sent": True,
        "seconds_to_capture": round(took, 3),
        "ticks_per_second": round(captured / took),
    }


def _wait(capture: Capture, ticks: int) -> None:
    until = time.monotonic() + _TIMEOUT_SECONDS
    while (has := capture.status()["status"])["ticks"] < ticks:
        if time.monotonic() > until:
            problem = has["last_problem"] or next(iter(has["failures"]), "no problem was reported")
            raise CaptureError(
                f"{has['ticks']:,} of {ticks:,} ticks came in {_TIMEOUT_SECONDS:.0f} s: {problem}"
            )
        time.sleep(_POLL_SECONDS)


def _compare(store: Store, replay: Replay, gateway: Gateway, begun_ns: int) -> None:
    from ibticks.calendar import format_ns
    from ibticks.frames import to_polars, to_table
    from ibticks.schema import list_columns

    # What is the capture's own: when a tick came, as which, and whose it is.
    own = {"timestamp", "contract_id", "tick_type", "sequence"}
    for (contract_id, kind), stream in replay.streams.items():
        columns = [name for name in list_columns([kind]) if name not in own]
        sent = stream.take(gateway.rows_sent(contract_id, kind))
        stored = store.select(contract_id, kind, start=format_ns(begun_ns), columns=columns)
        if not stored.to_polars().equals(to_polars(to_table([sent.columns], columns))):
            raise CaptureError(
                f"what is stored of {contract_id} {kind} is not what was sent: please report it",
                contract_id=contract_id,
                tick_type=kind,
            )


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            help="Keep the store here, without the capture, whose ticks would be dated today.",
        ),
    ] = None,
    dsn: Annotated[
        str | None, typer.Option("--dsn", help="PostgreSQL server of the index, an empty database.")
    ] = None,
    json: Json = False,
) -> None:
    """Capture real ticks from a simulated gateway, index them, load by session and by period."""
    begun = time.perf_counter()
    with ExitStack() as stack:
        remaining = folder is not None
        if folder is None:
            folder = _temporary(stack)
        store = stack.enter_context(opened(str(folder), dsn, create=True))
        captured = {} if remaining else _capture(store, json=json)
        writing = time.perf_counter()
        _import(store, json=json)
        written = time.perf_counter()
        session = store.select("IBM", "bid_ask", session="regular", date="2013-10-08", market="US")
        loading = time.perf_counter()
        frame = session.to_polars()
        loaded = time.perf_counter()
        period = store.select(
            "IBM", "bid_ask", "last_15_minutes", now="2013-10-08T16:00-04:00"
        ).to_pandas()
        files = store.index.files()
        about = {
            "store": str(store.root),
            "index": store.index.describe(),
            **captured,
            "files": len(files),
            "size": sum(record.size for record in files),
            "index_rows": store.sql("SELECT count(*) AS files FROM tick_files").item(),
            "ticks": sum(record.ticks for record in files),
            "first_tick": instant(min(r.first_tick_ns for r in files if r.first_tick_ns)),
            "last_tick": instant(max(r.last_tick_ns for r in files if r.last_tick_ns)),
            "selection": session.label,
            "rows": frame.height,
            "rows_of_the_last_15_minutes": len(period),
            "seconds_to_write": round(written - writing, 3),
            "seconds_to_load": round(loaded - loading, 4),
            "seconds": round(time.perf_counter() - begun, 3),
        }
        if json:
            emit(about)
            return
        show(frame, 8)
        facts(about)


def _capture(store: Store, *, json: bool) -> dict[str, Any]:
    """Capture the sample and return the comparison; empty without the official client."""
    try:
        done = rehearse(store)
    except MissingExtraError as error:
        if not json:
            console.print(f"[yellow]nothing is captured:[/] {escape(str(error))}", soft_wrap=True)
        return {"captured": None}
    quotes = store.select("IBM", "bid_ask", "last_5_minutes").to_polars()
    done["rows_of_the_last_5_minutes"] = quotes.height
    if not json:
        console.print(
            "[bold]simulated gateway → ibapi → capture → files → index → frame[/]", highlight=False
        )
        show(quotes, 4)
        console.print(
            "\nThese ticks are of 2013, and carry the time they arrived. The same, imported with "
            "the time they were recorded, can be asked for by session:",
            highlight=False,
        )
    return done


def _import(store: Store, *, json: bool) -> None:
    """The sample, with the times of its source."""
    from ibticks.importing import import_table
    from ibticks.sample import SAMPLES

    for sample in SAMPLES:
        store.add_contract(
            sample.contract_id,
            sample.symbol,
            exchange=sample.exchange,
            currency=sample.currency,
            contract_type=sample.contract_type,
        )
        import_table(
            store,
            sample.path,
            contract_id=sample.contract_id,
            tick_type=sample.tick_type,
            progress=False if json else None,
        )


def _temporary(stack: ExitStack) -> Path:
    """A folder for the ticks and the database alike, gone when the demo ends."""
    base = os.environ.get("IBTICKS_PGDATA")
    if base:
        Path(base).mkdir(parents=True, exist_ok=True)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ibt-", dir=base)))
    # As root, PostgreSQL runs as another user, who must get through to its data.
    folder.chmod(0o711)
    # A socket's path has about a hundred bytes, and macOS's temporary folders take sixty of them.
    os.environ["IBTICKS_PGDATA"] = str(folder)
    # A database that waits for a real store must not become that of one soon gone.
    os.environ.pop("IBTICKS_DSN", None)
    return folder / "ticks"
