"""The stack level of warnings: the line of the user's code."""

from __future__ import annotations

import inspect

__all__ = ["user_stacklevel"]


def user_stacklevel() -> int:
    """Compute the ``stacklevel`` of the first frame outside ibticks.

    Called by the function that issues the warning.
    """
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("ibticks."):
        level, frame = level + 1, frame.f_back
    return level  # 1 is the frame that warns; the frame of this function stands for it
