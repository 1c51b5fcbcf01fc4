"""``%capture_ticks``: capturing from a notebook, in one line.

::

    %load_ext ibticks
    %capture_ticks start 265598:AAPL:bid_ask;last --store ~/ticks --port 7497
    %capture_ticks status
    %capture_ticks stop

Afterwards ``store`` and ``capture`` are names in the notebook. What is not given is taken from the
notebook, if it has a ``store`` or a ``capture``, or else from the environment, as in
:meth:`ibticks.capture.CaptureSettings.from_environment`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from ibticks.capture import Capture, CaptureSettings, display_status, status_text
from ibticks.errors import CaptureError, ConfigError, TickError

if TYPE_CHECKING:
    from argparse import Namespace

    from ibticks.store import Store

__all__ = ["CaptureMagics", "load"]

_NOTHING: Final = (
    "no contract to capture: %capture_ticks start 265598:AAPL:bid_ask;last, or set "
    "IB_STREAM_TRACKED_CONTRACTS"
)


@magics_class
class CaptureMagics(Magics):
    """The magic and what it needs to know: the shell whose names it uses."""

    shell: Any

    @magic_arguments("%capture_ticks")
    @argument("action", choices=("start", "stop", "status"), help="What to do.")
    @argument(
        "contracts",
        nargs="?",
        help="contract_id:symbol:tick_types:buffer_hours,... with tick types joined by ;",
    )
    @argument("--store", "-s", help="Folder of the store.")
    @argument("--host", help="Of TWS or IB Gateway.")
    @argument("--port", type=int, help="7497 or 7496: TWS, paper or live; 4002 or 4001: Gateway.")
    @argument("--client-id", type=int, help="Client id at TWS, 10 by default.")
    @argument(
        "--same-contract-seconds",
        type=float,
        help="Seconds between two requests for one contract.",
    )
    @argument("--compress-after", help="Compress hours that ended this long ago, such as 24h.")
    @argument("--keep", help="Delete hours that ended this long ago, such as 90d.")
    @argument("--backfill", action="store_true", default=None, help="Fill gaps from IB's history.")
    @line_magic
    def capture_ticks(self, line: str) -> None:
        """Start, stop or look at the capture of this notebook."""
        said = parse_argstring(self.capture_ticks, line)
        try:
            getattr(self, f"_{said.action}")(said)
        except TickError as error:
            # IPython prints it as one line, without a traceback, and the cell has failed.
            raise UsageError(str(error)) from error

    def _start(self, said: Namespace) -> None:
        names = self.shell.user_ns
        old = names.get("capture")
        if isinstance(old, Capture) and old.running:
            raise CaptureError("a capture runs already: %capture_ticks stop ends it")
        settings = _settings(said)
        if isinstance(old, Capture) and said.contracts is said.store is None and not settings:
            capture = old
        else:
            # Looked at first: for a slip of the pen no store is begun.
            if not CaptureSettings.from_environment(tracked=said.contracts, **settings).tracked:
                raise ConfigError(_NOTHING)
            capture = Capture(self._store(said.store), said.contracts, **settings)
        self.shell.push({"capture": capture.start(), "store": capture.store})
        display_status(capture)

    def _stop(self, said: Namespace) -> None:
        _refuse_rest(said)
        capture = self._capture()
        if not capture.running:
            raise CaptureError("the capture does not run")
        capture.stop()
        sys.stdout.write(f"{status_text(capture.status())}\n")

    def _status(self, said: Namespace) -> None:
        _refuse_rest(said)
        display_status(self._capture())

    def _capture(self) -> Capture:
        capture = self.shell.user_ns.get("capture")
        if not isinstance(capture, Capture):
            raise CaptureError("there is no capture here: %capture_ticks start CONTRACTS makes one")
        return capture

    def _store(self, root: str | None) -> Store:
        import ibticks as ibt

        there = self.shell.user_ns.get("store")
        if root is None and isinstance(there, ibt.Store):
            return there
        return ibt.open(root or os.environ.get("IBTICKS_STORE") or ".")


def _settings(said: Namespace) -> dict[str, Any]:
    """Those that were given; the others come from the environment."""
    names = (
        "host",
        "port",
        "client_id",
        "same_contract_seconds",
        "compress_after",
        "keep",
        "backfill",
    )
    return {name: value for name in names if (value := getattr(said, name)) is not None}


def _refuse_rest(said: Namespace) -> None:
    if said.contracts is not None or said.store is not None or _settings(said):
        raise CaptureError(f"%capture_ticks {said.action} takes nothing more")


def load(shell: Any) -> None:
    """Make the magic known to a shell."""
    shell.register_magics(CaptureMagics)
