"""Real kernels, driven over Jupyter's protocol as by a notebook."""

from __future__ import annotations

import asyncio
import queue
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from typing import Any

TIMEOUT_SECONDS = 90.0


class PatientKernelManager(KernelManager):
    """Terminate a kernel as Jupyter does, and kill it only when it has had time to seal files.

    Jupyter kills a kernel 2.5 seconds after it terminated it: on a busy machine sealing takes
    longer, and what a kill leaves is tested elsewhere.
    """

    async def _async_kill_kernel(self, restart: bool = False) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._async_wait(), TIMEOUT_SECONDS)
        await super()._async_kill_kernel(restart)


@dataclass
class Shown:
    """The output of a cell."""

    reply: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    results: list[dict[str, str]] = field(default_factory=list)
    displays: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.reply["status"] == "ok"


class Notebook:
    """A kernel and its messages; ``updates`` are the changed displays of any cell."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.updates: list[tuple[str, dict[str, str]]] = []
        self._connect()

    def _connect(self) -> None:
        self._client = self.manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT_SECONDS)

    def begin(self, code: str) -> str:
        """Begin a cell, and do not wait for it."""
        return self._client.execute(code)

    def run(self, code: str) -> Shown:
        return self.finish(self.begin(code))

    def finish(self, cell: str) -> Shown:
        """Wait for the end of a cell."""
        shown = Shown()
        until = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < until:
            message = self._message()
            kind, content = message["msg_type"], message["content"]
            if kind == "update_display_data":
                self.updates.append((content["transient"]["display_id"], content["data"]))
            if message["parent_header"].get("msg_id") != cell:
                continue
            match kind:
                case "stream":
                    shown.text += content["text"]
                case "execute_result":
                    shown.results.append(content["data"])
                case "display_data":
                    name = content["transient"].get("display_id", "")
                    shown.displays.append((name, content["data"]))
                case "status" if content["execution_state"] == "idle":
                    shown.reply = self._reply(cell)
                    return shown
        raise TimeoutError(f"the cell did not end in {TIMEOUT_SECONDS} s")

    def _message(self) -> dict[str, Any]:
        """Return the next message of any cell."""
        try:
            return self._client.get_iopub_msg(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            # The kernel's faulthandler prints the stacks of its threads.
            self.manager.signal_kernel(signal.SIGABRT)
            raise

    def _reply(self, cell: str) -> dict[str, Any]:
        while True:
            reply = self._client.get_shell_msg(timeout=TIMEOUT_SECONDS)
            if reply["parent_header"]["msg_id"] == cell:
                return reply["content"]

    def value(self, expression: str) -> str:
        """The repr of an expression."""
        shown = self.run(expression)
        assert shown.ok, shown
        return shown.results[0]["text/plain"]

    def wait(self, expression: str) -> None:
        """Wait until an expression is true in the kernel."""
        code = (
            "import time as _time\n"
            f"_until = _time.monotonic() + {TIMEOUT_SECONDS}\n"
            f"while not ({expression}) and _time.monotonic() < _until: _time.sleep(0.02)\n"
            f"assert {expression}"
        )
        assert self.run(code).ok, expression

    def wait_busy(self) -> None:
        """Wait until the cell begun last is running."""
        while self._message()["msg_type"] != "stream":
            pass

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        self._client.stop_channels()
        self.manager.restart_kernel(now=False)
        self._connect()

    def close(self) -> None:
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=False)

    def drain(self) -> None:
        """Return the messages received so far."""
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                return
            if message["msg_type"] == "update_display_data":
                content = message["content"]
                self.updates.append((content["transient"]["display_id"], content["data"]))
