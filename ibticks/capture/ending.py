"""Captures end with the notebook's kernel: whatever a cell is doing, files are sealed first."""

from __future__ import annotations

import inspect
from typing import Any

from ibticks.capture.capture import Capture

__all__ = ["stop_captures", "stop_with_kernel"]


def stop_captures(namespace: dict[str, Any]) -> None:
    """Stop every capture that a namespace names; those that do not run are left alone."""
    for value in list(namespace.values()):
        if isinstance(value, Capture):
            value.stop()


def stop_with_kernel(shell: Any) -> None:
    """Have the captures of a shell stopped when its kernel is shut down or restarted.

    The request comes in a thread of its own, while a cell may be busy: at the end of the process it
    would be too late, since Jupyter kills a kernel that takes more than some seconds to leave. A
    shell without a kernel ends as any Python does, and captures with it. Called twice, it is done
    once.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None or hasattr(kernel, "ibticks_shutdown"):
        return
    kernel.ibticks_shutdown = kernel.do_shutdown

    async def do_shutdown(restart: bool) -> Any:
        stop_captures(shell.user_ns)
        answer = kernel.ibticks_shutdown(restart)
        return await answer if inspect.isawaitable(answer) else answer

    kernel.do_shutdown = do_shutdown
