"""ibticks: capture Interactive Brokers ticks, keep them, and load any interval of them at once.

Examples
--------
>>> import tempfile
>>> import ibticks as ibt
>>> with ibt.open(tempfile.mkdtemp()) as store:
...     store.contents()
[]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ibticks._lazy import lazy_exports
from ibticks._version import __version__
from ibticks.config import TICK_TYPES

if TYPE_CHECKING:
    from ibticks import errors
    from ibticks.accessors import ticks
    from ibticks.calendar import (
        Market,
        Session,
        current_session,
        is_market_open,
        market,
        next_session,
        previous_session,
    )
    from ibticks.capture import Capture, TrackedContract, stream_ticks
    from ibticks.history import BackfillResult, Pacing, backfill
    from ibticks.hours import HourWriter, iter_messages, read_hours, scan_hours
    from ibticks.importing import (
        ImportResult,
        import_messages,
        import_table,
        import_tick_file,
    )
    from ibticks.live import Live
    from ibticks.selection import Selection
    from ibticks.store import Store
    from ibticks.store import open_store as open  # noqa: A004

__all__ = [
    "TICK_TYPES",
    "BackfillResult",
    "Capture",
    "HourWriter",
    "ImportResult",
    "Live",
    "Market",
    "Pacing",
    "Selection",
    "Session",
    "Store",
    "TrackedContract",
    "__version__",
    "backfill",
    "current_session",
    "errors",
    "import_messages",
    "import_table",
    "import_tick_file",
    "is_market_open",
    "iter_messages",
    "load_ipython_extension",
    "market",
    "next_session",
    "open",
    "previous_session",
    "read_hours",
    "scan_hours",
    "stream_ticks",
    "ticks",
]


def load_ipython_extension(ipython: Any) -> None:
    """Register the magic ``%capture_ticks``; called by ``%load_ext ibticks``.

    See :mod:`ibticks.notebook`.
    """
    import_module("ibticks.notebook").load_magics(ipython)


if not TYPE_CHECKING:
    # Everything but the constants loads at first use: `import ibticks` costs milliseconds, and a
    # headless capture never loads pandas.
    __getattr__, __dir__ = lazy_exports(__name__)

# `.ticks` on the frames of pandas, polars and xarray, none of which is imported for it.
import_module("ibticks.accessors._registration").register()
