"""Where a warning of this package points: at the line of whoever called it."""

from __future__ import annotations

import inspect

__all__ = ["caller_depth"]


def caller_depth() -> int:
    """How many calls up the caller of ibticks is: the ``stacklevel`` of a warning given there."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("ibticks."):
        depth, frame = depth + 1, frame.f_back
    return depth  # 1 is the frame that warns; this function's own stands for it
