"""``demo``: the whole path once, on real ticks that travel with ibticks."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ibticks.cli.loading import show
from ibticks.cli.options import Json, emit, facts, instant, opened

__all__ = ["demo"]


def demo(
    folder: Annotated[
        Path | None, typer.Option("--keep", help="Keep the store here; a temporary one by default.")
    ] = None,
    dsn: Annotated[
        str | None, typer.Option("--dsn", help="PostgreSQL server of the index, an empty database.")
    ] = None,
    json: Json = False,
) -> None:
    """Write real ticks as hour files, index them, and load them by session and by period."""
    from ibticks.importing import import_table
    from ibticks.sample import SAMPLES

    begun = time.perf_counter()
    with ExitStack() as stack:
        if folder is None:
            folder = _temporary(stack)
        store = stack.enter_context(opened(str(folder), dsn, create=True))
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
        written = time.perf_counter()
        equity = next(sample for sample in SAMPLES if sample.market == "US")
        session = store.select(
            equity.symbol, equity.tick_type, session="regular", date="2013-10-08", market="US"
        )
        loading = time.perf_counter()
        frame = session.to_polars()
        loaded = time.perf_counter()
        period = store.select(
            equity.symbol, equity.tick_type, "last_15_minutes", now="2013-10-08T16:00-04:00"
        ).to_pandas()
        files = store.index.files()
        rows = store.sql("SELECT count(*) AS files FROM tick_files").item()
        about = {
            "store": str(store.root),
            "index": store.index.describe(),
            "files": len(files),
            "size": sum(record.size for record in files),
            "index_rows": rows,
            "ticks": sum(record.ticks for record in files),
            "first_tick": instant(min(r.first_tick_ns for r in files if r.first_tick_ns)),
            "last_tick": instant(max(r.last_tick_ns for r in files if r.last_tick_ns)),
            "selection": session.label,
            "rows": frame.height,
            "rows_of_the_last_15_minutes": len(period),
            "seconds_to_write": round(written - begun, 3),
            "seconds_to_load": round(loaded - loading, 4),
            "seconds": round(time.perf_counter() - begun, 3),
        }
        if json:
            emit(about)
            return
        show(frame, 8)
        facts(about)


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
