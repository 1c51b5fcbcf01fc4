"""Stop captures with the kernel of a notebook, so that files are sealed while a cell is busy."""

from __future__ import annotations

import inspect
import signal
import sys
import threading
from typing import Any, Final, NoReturn, Protocol

__all__ = ["stop_captures", "stop_with_kernel", "unregister"]


class Stoppable(Protocol):
    """The one method of a capture that a shutdown needs."""

    def stop(self) -> None:
        """Stop it; a second call during the first one waits for it."""


_running: Final[set[Stoppable]] = set()


def stop_with_kernel(capture: Stoppable) -> None:
    """Stop a capture when the kernel of this process is shut down, restarted or terminated.

    The shutdown request arrives in the control thread, while a cell may be busy. ``atexit`` would
    be too late: Jupyter terminates a kernel that has not exited after 2.5 seconds, and kills it
    after 5 (``KernelManager.shutdown_wait_time``). Without a kernel, ``atexit`` stops the capture.
    """
    _running.add(capture)
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is not None and not hasattr(kernel, "ibticks_shutdown"):
        _hook(kernel)


def unregister(capture: Stoppable) -> None:
    """Remove a capture that has stopped."""
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
        # A stop that is under way is waited for.
        stop_captures()
        kernel.io_loop.add_callback_from_signal(kernel.io_loop.stop)
        raise SystemExit

    kernel.do_shutdown = do_shutdown
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_term)
