"""``ArchiveStore``: an archive in an object store, read from anywhere without a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks.archive import ArchiveIndex
from ibticks.config import CACHE_BYTES
from ibticks.selection import contents_table
from ibticks.store._reader import StoreReader

if TYPE_CHECKING:
    from typing import Self

__all__ = ["ArchiveStore"]


class ArchiveStore(StoreReader):
    """The hours that :meth:`ibticks.Store.archive` copied to an object store, read-only.

    Made by ``ibt.open("s3://bucket/ticks")``, on any machine that may read the bucket: neither the
    store nor its index are needed. Selections fetch the blocks of their time range. What was
    archived after opening is not in it.

    Parameters
    ----------
    url : str
        URL to which the hours were archived.
    cache : int
        Bytes of memory for the LRU cache of decoded columns.

    Attributes
    ----------
    url : str
    index : ArchiveIndex

    Raises
    ------
    ArchiveError
        If it cannot be read, or has no catalogue.
    InputError
        If it is no URL of an object store.
    MissingExtraError
        Without ``pip install 'ibticks[archive]'``.

    Examples
    --------
    >>> import tempfile
    >>> import ibticks as ibt
    >>> import polars as pl
    >>> frame = pl.DataFrame({"timestamp": ["2025-01-10T14:30:00Z"], "price": [240.01]})
    >>> with ibt.open(tempfile.mkdtemp()) as store:
    ...     _ = store.write(frame, contract_id=265598, tick_type="last")
    ...     store.add_contract(265598, "AAPL")
    ...     _ = store.archive("memory://documentation", older_than="30d")
    >>> with ibt.open("memory://documentation") as archive:
    ...     archive.select("AAPL", "last").to_polars()["price"].to_list()
    [240.01]
    """

    def __init__(self, url: str, cache: int = CACHE_BYTES) -> None:
        self.index: Final = ArchiveIndex(url)
        self.url: Final = self.index.url
        # No file is in a folder of this name: each hour is read from its copy.
        super().__init__(Path(self.url), self.index, cache, uses_companions=False)

    def close(self) -> None:
        """Free the memory of the cache."""
        self.clear_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ArchiveStore {self.url}>"

    def _repr_html_(self) -> str:
        return contents_table(self.contents(), f"ibticks ArchiveStore {self.url}")
