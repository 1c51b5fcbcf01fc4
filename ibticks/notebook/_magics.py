"""The magic ``%capture_ticks``: start, stop and watch a capture in one line.

::

    %load_ext ibticks
    %capture_ticks start 265598:AAPL:bid_ask;last --store ~/ticks --port 7497
    %capture_ticks status
    %capture_ticks stop

Afterwards ``store`` and ``capture`` are names in the notebook. Omitted arguments come from the
``store`` or ``capture`` of the notebook, or else from the environment, as in
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

__all__ = ["CaptureMagics", "load_magics"]

_NO_CONTRACTS: Final = (
    "no contract to capture: %capture_ticks start 265598:AAPL:bid_ask;last, or set "
    "IB_STREAM_TRACKED_CONTRACTS"
)


@magics_class
class CaptureMagics(Magics):
    """The magic, which reads and sets names of its shell."""

    shell: Any

    @magic_arguments("%capture_ticks")
    @argument("action", choices=("start", "stop", "status"), help="What to do.")
    @argument(
        "contracts",
        nargs="?",
        help="contract_id:symbol:tick_types:buffer_hours,... with tick types joined by ;",
    )
    @argument("--store", "-s", help="Folder of the store.")
    @argument("--host", help="Host of TWS or IB Gateway.")
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
        """Start, stop or show the capture of this notebook."""
        options = parse_argstring(self.capture_ticks, line)
        try:
            getattr(self, f"_{options.action}")(options)
        except TickError as error:
            # IPython prints a UsageError as one line without a traceback, and the cell fails.
            raise UsageError(str(error)) from error

    def _start(self, options: Namespace) -> None:
        names = self.shell.user_ns
        current = names.get("capture")
        if isinstance(current, Capture) and current.running:
            raise CaptureError("a capture is already running: %capture_ticks stop ends it")
        settings = _settings(options)
        if (
            isinstance(current, Capture)
            and options.contracts is options.store is None
            and not settings
        ):
            capture = current
        else:
            # Checked first, so that a typing error creates no store.
            if not CaptureSettings.from_environment(tracked=options.contracts, **settings).tracked:
                raise ConfigError(_NO_CONTRACTS)
            capture = Capture(self._store(options.store), options.contracts, **settings)
        self.shell.push({"capture": capture.start(), "store": capture.store})
        display_status(capture)

    def _stop(self, options: Namespace) -> None:
        _refuse_arguments(options)
        capture = self._capture()
        if not capture.running:
            raise CaptureError("the capture is not running")
        capture.stop()
        sys.stdout.write(f"{status_text(capture.status())}\n")

    def _status(self, options: Namespace) -> None:
        _refuse_arguments(options)
        display_status(self._capture())

    def _capture(self) -> Capture:
        capture = self.shell.user_ns.get("capture")
        if not isinstance(capture, Capture):
            raise CaptureError(
                "no capture in this notebook: %capture_ticks start CONTRACTS makes one"
            )
        return capture

    def _store(self, root: str | None) -> Store:
        import ibticks as ibt

        current = self.shell.user_ns.get("store")
        if root is None and isinstance(current, ibt.Store):
            return current
        return ibt.open(root or os.environ.get("IBTICKS_STORE") or ".")


def _settings(options: Namespace) -> dict[str, Any]:
    """Return the settings among the options; the others come from the environment."""
    names = (
        "host",
        "port",
        "client_id",
        "same_contract_seconds",
        "compress_after",
        "keep",
        "backfill",
    )
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _refuse_arguments(options: Namespace) -> None:
    if options.contracts is not None or options.store is not None or _settings(options):
        raise CaptureError(f"%capture_ticks {options.action} takes no other argument")


def load_magics(shell: Any) -> None:
    """Register the magic in a shell."""
    shell.register_magics(CaptureMagics)
