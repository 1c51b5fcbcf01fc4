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

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.live._batch import Batch
    from ibticks.live._buffers import Buffer, Buffers, BufferStats
    from ibticks.live._live import Live, Policy
    from ibticks.live._start import find_start

__all__ = ["Batch", "Buffer", "BufferStats", "Buffers", "Live", "Policy", "find_start"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
