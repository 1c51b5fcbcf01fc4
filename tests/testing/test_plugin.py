"""The fixtures of ``ibticks.testing.plugin``, which are called as pytest would."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ibticks.testing
from ibticks.testing import make_coverage_record, make_file_record, plugin

if TYPE_CHECKING:
    from pathlib import Path


def test_every_public_name_loads() -> None:
    for name in ibticks.testing.__all__:
        assert getattr(ibticks.testing, name) is not None


def test_the_gateway_replays_the_samples() -> None:
    fixture: Any = plugin.ibticks_gateway
    with contextmanager(fixture.__wrapped__)() as gateway:
        assert gateway.port > 0
        assert (8314, "bid_ask") in gateway.replay.streams


def test_records_are_stored(tmp_path: Path) -> None:
    fixture: Any = plugin.ibticks_store
    with contextmanager(fixture.__wrapped__)(tmp_path) as store:
        store.index.put_files([make_file_record()])
        store.index.put_coverage([make_coverage_record(1, 2)])
        assert store.index.files() == [make_file_record()]
        assert store.index.coverage() == [make_coverage_record(1, 2)]
