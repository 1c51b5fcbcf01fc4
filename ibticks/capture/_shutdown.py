"""Captures end with the notebook's kernel: whatever a cell is doing, files are sealed first."""

from __future__ import annotations

import inspect
import signal
import sys
import threading
from typing import Any, Final, NoReturn, Protocol

__all__ = ["ended", "stop_captures", "stop_with_kernel"]


class Stoppable(Protocol):
    """A capture, as far as its end is concerned."""

    def stop(self) -> None:
        """End it; done again while it is being done, it returns when it is done."""


_running: Final[set[Stoppable]] = set()


def stop_with_kernel(capture: Stoppable) -> None:
    """Have a capture stopped when the kernel it runs in is shut down, restarted or terminated.

    The request comes in a thread of its own, while a cell may be busy: at the end of the process it
    would be too late, since Jupyter terminates a kernel that has not left after 2.5 seconds, and
    kills it after 5 (``KernelManager.shutdown_wait_time``). Without a kernel Python ends as it
    does, and captures with it.
    """
    _running.add(capture)
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is not None and not hasattr(kernel, "ibticks_shutdown"):
        _hook(kernel)


def ended(capture: Stoppable) -> None:
    """Forget a capture, which has been stopped."""
    _running.discard(capture)


def stop_captures() -> None:
    """Stop every capture of this process."""
    for capture in list(_running):
        capture.stop()


def _hook(kernel: Any) -> None:
    kernel.ibticks_shutdown = kernel.do_shutdown

    async def do_shutdown(restart: bool) -> Any:
        stop_captures()
        answer = kernel.ibticks_shutdown(restart)
        return await answer if inspect.isawaitable(answer) else answer

    def on_term(_: int, __: object) -> NoReturn:
        # If they are being stopped already, this waits until they are.
        stop_captures()
        kernel.io_loop.add_callback_from_signal(kernel.io_loop.stop)
        raise SystemExit

    kernel.do_shutdown = do_shutdown
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_term)
