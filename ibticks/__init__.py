"""ibticks: capture Interactive Brokers ticks, keep them, and load any stretch of them at once.

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

from ibticks.config import TICK_TYPES

if TYPE_CHECKING:
    from ibticks import errors
    from ibticks.calendar import (
        Market,
        Session,
        current_session,
        is_market_open,
        market,
        next_session,
        previous_session,
    )
    from ibticks.capture import Capture, TrackedContract
    from ibticks.history._backfill import backfill
    from ibticks.history._result import BackfillResult
    from ibticks.capture._on_demand import stream_ticks
    from ibticks.history._pacing import Pacing
    from ibticks.importing import (
        ImportResult,
        import_messages,
        import_table,
        import_tick_file,
    )
    from ibticks.live import Live
    from ibticks.selection._selection import Selection
    from ibticks.store._store import Store
    from ibticks.store._store import open_store as open  # noqa: A004

__version__ = "0.1.0"

__all__ = [
    "TICK_TYPES",
    "BackfillResult",
    "Capture",
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
    "load_ipython_extension",
    "market",
    "next_session",
    "open",
    "previous_session",
    "stream_ticks",
]

# Everything but the names above loads when it is first used: `import ibticks` costs milliseconds,
# and a headless capture never loads pandas.
_HOMES = {
    "calendar": "Market Session current_session is_market_open market next_session "
    "previous_session",
    "capture": "Capture TrackedContract",
    "capture.backfill": "backfill",
    "capture.filled": "BackfillResult",
    "capture.on_demand": "stream_ticks",
    "capture.pacing": "Pacing",
    "importing": "ImportResult import_messages import_table import_tick_file",
    "live": "Live",
    "selection": "Selection",
    "store": "Store open",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_NAMED = {"open": "open_store"}


def load_ipython_extension(ipython: Any) -> None:
    """What ``%load_ext ibticks`` calls: the magic ``%capture_ticks`` is known from then on.

    See :mod:`ibticks.notebook._magics`.
    """
    import_module("ibticks.notebook._magics").load(ipython)


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("ibticks.errors")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), _NAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# `.ticks` on the frames of pandas, polars and xarray, none of which is imported for it.
import_module("ibticks.accessors._registration").register()
