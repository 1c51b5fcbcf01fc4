"""IB ticks into a store: the official client, supervised, losing nothing it handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.capture._capture import Capture
    from ibticks.capture._connection import Session
    from ibticks.capture._on_demand import OnDemandStream, stream_ticks
    from ibticks.capture._panel import panel_html, show_live, status_text
    from ibticks.capture._recorder import Recorder
    from ibticks.capture._settings import FIRST_REQUEST, CaptureSettings
    from ibticks.capture._subscriptions import Subscriptions
    from ibticks.capture._tracked import TrackedContract, parse_tracked

__all__ = [
    "FIRST_REQUEST",
    "Capture",
    "CaptureSettings",
    "OnDemandStream",
    "Recorder",
    "Session",
    "Subscriptions",
    "TrackedContract",
    "panel_html",
    "parse_tracked",
    "show_live",
    "status_text",
    "stream_ticks",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
