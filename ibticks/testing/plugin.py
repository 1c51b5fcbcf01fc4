"""Pytest fixtures: stores in temporary folders, and a simulated TWS that replays sample ticks.

A ``conftest.py`` in the root folder of a project loads them::

    pytest_plugins = ["ibticks.testing.plugin"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ibticks.gateway import Gateway
    from ibticks.store import Store

__all__ = ["ibticks_gateway", "ibticks_sample_store", "ibticks_store"]

# A failed test of a contract shows the values that it compared.
pytest.register_assert_rewrite("ibticks.testing._index_contract", "ibticks.testing._store_contract")


@pytest.fixture
def ibticks_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in the temporary folder of the test."""
    from ibticks.store import open_store

    with open_store(tmp_path / "ticks") as store:
        yield store


@pytest.fixture(scope="session")
def ibticks_sample_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with all sample ticks, for the whole run; only to be read."""
    from ibticks.testing import open_sample_store

    with open_sample_store(tmp_path_factory.mktemp("ibticks") / "ticks") as store:
        yield store


@pytest.fixture
def ibticks_gateway() -> Iterator[Gateway]:
    """A simulated TWS that replays the sample ticks at full speed; connect to its ``port``."""
    from ibticks.gateway import Gateway, Replay

    with Gateway(Replay.from_samples(), speed=None) as gateway:
        yield gateway
