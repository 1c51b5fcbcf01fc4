"""Fakes, fixtures, strategies and contracts for the tests of packages built on ibticks.

:class:`FakeCapture` stores ticks and statuses without IB; :func:`open_sample_store`,
:func:`make_file_record`, :func:`make_coverage_record`, :func:`make_companion_record` and
:func:`make_archived_copy` make data.
:class:`IndexContract` and :class:`StoreContract` hold the tests that every index and every store
pass. ``ibticks.testing.plugin`` has the pytest fixtures ``ibticks_store``, ``ibticks_sample_store``
and ``ibticks_gateway``. ``ibticks.testing.strategies`` has hypothesis strategies for v2 messages,
protobuf messages and their encodings; ``ibticks.testing.wire`` writes the protobuf wire format byte
by byte. The page ``docs/testing.md`` has an example of each.
A ``conftest.py`` in the root folder of a project loads the fixtures (``pip install pytest``)::

    pytest_plugins = ["ibticks.testing.plugin"]


    def test_my_strategy(ibticks_sample_store):
        assert my_strategy(ibticks_sample_store.select("IBM", "all_last").to_polars()).height
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.testing import plugin, strategies, wire
    from ibticks.testing._fake_capture import FakeCapture
    from ibticks.testing._index_contract import IndexContract
    from ibticks.testing._records import (
        make_archived_copy,
        make_companion_record,
        make_coverage_record,
        make_file_record,
    )
    from ibticks.testing._samples import open_sample_store
    from ibticks.testing._store_contract import StoreContract

__all__ = [
    "FakeCapture",
    "IndexContract",
    "StoreContract",
    "make_archived_copy",
    "make_companion_record",
    "make_coverage_record",
    "make_file_record",
    "open_sample_store",
    "plugin",
    "strategies",
    "wire",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
