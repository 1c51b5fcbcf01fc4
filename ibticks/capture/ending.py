"""Captures end with the notebook's kernel: whatever a cell is doing, files are sealed first."""

from __future__ import annotations

import inspect
import signal
import threading
from typing import Any, NoReturn

from ibticks.capture.capture import Capture

__all__ = ["stop_captures", "stop_with_kernel"]


def stop_captures(namespace: dict[str, Any]) -> None:
    """Stop every capture that a namespace names; those that do not run are left alone."""
    for value in list(namespace.values()):
        if isinstance(value, Capture):
            value.stop()


def stop_with_kernel(shell: Any) -> None:
    """Have the captures of a shell stopped when its kernel is shut down, restarted or terminated.

    The request comes in a thread of its own, while a cell may be busy: at the end of the process it
    would be too late, since Jupyter terminates a kernel that has not left after 2.5 seconds, and
    kills it after 5 (``KernelManager.shutdown_wait_time``). A shell without a kernel ends as any
    Python does, and captures with it. Called twice, it is done once.

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

    def on_term(_: int, __: object) -> NoReturn:
        # If they are being stopped already, this waits until they are.
        stop_captures(shell.user_ns)
        kernel.io_loop.add_callback_from_signal(kernel.io_loop.stop)
        raise SystemExit

    kernel.do_shutdown = do_shutdown
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_term)
