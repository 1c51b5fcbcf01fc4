"""A store of the sample ticks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ibticks.importing import import_table
from ibticks.sample import SAMPLES
from ibticks.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ibticks.store import Store

__all__ = ["open_sample_store"]


@contextmanager
def open_sample_store(root: Path | str, dsn: str | None = None) -> Iterator[Store]:
    """Create a store with all sample ticks and their contracts, and close it at the end.

    Parameters
    ----------
    root : path-like
        An empty folder.
    dsn : str, optional
        PostgreSQL database of the index; by default the embedded server.

    Yields
    ------
    Store

    Examples
    --------
    >>> import tempfile
    >>> with open_sample_store(tempfile.mkdtemp()) as store:
    ...     store.select("IBM", "all_last").count()
    33381
    """
    with open_store(root, dsn=dsn) as store:
        for sample in SAMPLES:
            store.add_contract(
                sample.contract_id,
                sample.symbol,
                exchange=sample.exchange,
                currency=sample.currency,
                contract_type=sample.contract_type,
            )
            import_table(
                store, sample.path, contract_id=sample.contract_id, tick_type=sample.tick_type
            )
        store.write_catalogue()
        yield store
