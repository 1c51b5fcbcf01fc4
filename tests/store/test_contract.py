"""The contract of a store, with an index on a server and with a journal alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ibticks as ibt
from ibticks.errors import IndexUnavailableError
from ibticks.index import JournaledIndex
from ibticks.testing import StoreContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ibticks.index import PostgresIndex


class TestStore(StoreContract):
    @pytest.fixture
    def store(self, store: ibt.Store) -> ibt.Store:
        return store

    @pytest.fixture
    def reopen(self, database: str) -> Callable[[ibt.Store], ibt.Store]:
        return lambda store: ibt.open(store.root, dsn=database, create=False)


@pytest.mark.filterwarnings("ignore::ibticks.errors.IndexAwayWarning")
class TestStoreWithoutServer(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ibt.Store]:
        with open_without_server(tmp_path) as store:
            yield store

    @pytest.fixture
    def reopen(self) -> Callable[[ibt.Store], ibt.Store]:
        return lambda store: open_without_server(store.root)


def open_without_server(root: Path) -> ibt.Store:
    def fail(timeout_seconds: float) -> PostgresIndex:
        raise IndexUnavailableError("no server")

    metadata = root / "metadata"
    metadata.mkdir(exist_ok=True)
    return ibt.Store(
        root, JournaledIndex(fail, metadata / "index.json", metadata / "index.journal")
    )
