"""A store on another machine: the selections of a service, as a local store has them.

In come the URL of a service and a token; out go selections whose frames are those that a load on
that machine makes, live messages, contracts and coverage. ``ibt.open("http://...")`` returns a
:class:`RemoteStore`; the service uses the same encoding of selections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.remote._live import RemoteLive
    from ibticks.remote._selection import RemoteSelection
    from ibticks.remote._store import RemoteStore
    from ibticks.remote._wire import (
        PROTOCOL,
        decode_coverage,
        decode_time_range,
        encode_coverage,
        encode_time_range,
    )

__all__ = [
    "PROTOCOL",
    "RemoteLive",
    "RemoteSelection",
    "RemoteStore",
    "decode_coverage",
    "decode_time_range",
    "encode_coverage",
    "encode_time_range",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
