"""History, then live: one stream of ticks without gap or duplicate.

The file is the log. Who has read a file up to some byte goes on from that byte, so that what was
stored before and what comes cannot overlap, and nothing can be lost in between. The files are all
there is to it: any process that can read them follows what another one writes.

Examples
--------
>>> import tempfile
>>> import ibticks as ibt
>>> with ibt.open(tempfile.mkdtemp()) as store, store.live(265598, "last", "1h") as live:
...     live.frame().shape
(0, 11)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibticks.live._batch import Batch
    from ibticks.live._buffers import Buffer, BufferStats
    from ibticks.live._live import Live

__all__ = ["Batch", "Buffer", "BufferStats", "Live"]

_HOMES = {"Batch": "batch", "Buffer": "buffers", "BufferStats": "buffers", "Live": "live"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
