"""An embedded PostgreSQL: started with the first user of a store, stopped with the last.

A store id and folders come in, a running server's DSN goes out; :mod:`ibticks.index` opens it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.index.embedded._server import EmbeddedServer, recorded_store_id

__all__ = ["EmbeddedServer", "recorded_store_id"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
