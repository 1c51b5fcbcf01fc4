"""Live streams and buffers: stored ticks, then new ones, without gap or duplicate.

In come the folder of a store, streams and where to begin; out come messages, batches or frames. The
hour files are the log: a reader that has read a file up to some byte goes on from that byte, so
that stored and new ticks can neither overlap nor miss one. Any process that can read the files
follows what another one writes. ``Store.live`` and ``Store.buffer`` build these objects, and
``widgets`` shows them.

Examples
--------
>>> import tempfile
>>> import ibticks as ibt
>>> with ibt.open(tempfile.mkdtemp()) as store, store.live(265598, "last", "1h") as live:
...     live.frame().shape
(0, 11)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.live._batch import Batch
    from ibticks.live._buffer import Buffer, BufferCache, BufferStats, resolve_buffer
    from ibticks.live._follower import LiveOptions, Policy
    from ibticks.live._live import Live
    from ibticks.live._tail import LostPosition, next_position

__all__ = [
    "Batch",
    "Buffer",
    "BufferCache",
    "BufferStats",
    "Live",
    "LiveOptions",
    "LostPosition",
    "Policy",
    "next_position",
    "resolve_buffer",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
