"""The capture of ticks from TWS or IB Gateway into a store.

In come settings and a store; out go hour files, coverage and a status. ``ibt.Capture`` records
tracked contracts in the background until it is stopped; ``ibt.stream_ticks`` yields the messages of
one stream. The command line, the notebook and the widgets use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.capture._capture import Capture
    from ibticks.capture._connection import ConnectionHandler
    from ibticks.capture._on_demand import OnDemandStream, stream_ticks
    from ibticks.capture._recorder import Recorder
    from ibticks.capture._settings import (
        FIRST_REQUEST_ID,
        CaptureOptions,
        CaptureSettings,
        TrackedContract,
        parse_tracked,
    )
    from ibticks.capture._shared_streams import SharedStreams, SharingOptions, StreamLease
    from ibticks.capture._status import (
        display_status,
        panel_html,
        read_status,
        status_path,
        status_text,
    )
    from ibticks.capture._subscriptions import Subscriptions

__all__ = [
    "FIRST_REQUEST_ID",
    "Capture",
    "CaptureOptions",
    "CaptureSettings",
    "ConnectionHandler",
    "OnDemandStream",
    "Recorder",
    "SharedStreams",
    "SharingOptions",
    "StreamLease",
    "Subscriptions",
    "TrackedContract",
    "display_status",
    "panel_html",
    "parse_tracked",
    "read_status",
    "status_path",
    "status_text",
    "stream_ticks",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
