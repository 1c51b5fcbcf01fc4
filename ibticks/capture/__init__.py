"""IB ticks into a store: the official client, supervised, losing nothing it handed over."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibticks.capture._capture import Capture
    from ibticks.capture._settings import CaptureSettings
    from ibticks.capture._tracked import TrackedContract, parse_tracked

__all__ = ["Capture", "CaptureSettings", "TrackedContract", "parse_tracked"]

_HOMES = {
    "Capture": "capture",
    "CaptureSettings": "settings",
    "TrackedContract": "tracked",
    "parse_tracked": "tracked",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
