"""A Jupyter kernel whose notebooks have a ``store`` and a ``capture`` from the first cell.

Jupyter starts it as ``python -m ibticks.notebook -f CONNECTION_FILE``, once
``ibticks kernel install`` has installed its kernelspec. Its environment:

================================  ==============================================================
variable                          meaning
================================  ==============================================================
``IBTICKS_STORE``                 folder of ``store``; by default the notebook's
``IB_STREAM_TRACKED_CONTRACTS``   contracts and tick types of ``capture``
``IBTICKS_CAPTURE``               ``start``: the capture starts with the kernel
================================  ==============================================================

and those of :meth:`ibticks.capture.CaptureSettings.from_environment`.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ibticks.capture import Capture
from ibticks.errors import ConfigError, MissingExtraError, TickError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Unavailable", "main", "make_namespace"]

_CAPTURE_MODES: Final = ("", "start")


class Unavailable:
    """Placeholder of a store or a capture that could not be made; its use raises the reason.

    Examples
    --------
    >>> capture = Unavailable("no contract to capture")
    >>> capture
    no contract to capture
    >>> capture.start()
    Traceback (most recent call last):
    ibticks.errors.ConfigError: no contract to capture
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __repr__(self) -> str:
        return self._reason

    def __getattr__(self, name: str) -> NoReturn:
        # Python and IPython probe for private names; a public name is the request of a user.
        if name.startswith("_"):
            raise AttributeError(name)
        raise ConfigError(self._reason)


def make_namespace(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Make the initial names of a notebook.

    Parameters
    ----------
    environment : mapping of str to str

    Returns
    -------
    names : dict
        ``ibt``, ``store`` and ``capture``; the last two may be :class:`Unavailable`.
    notes : list of str
        Messages to the user: the reason of each missing name.
    """
    import ibticks as ibt

    names: dict[str, Any] = {"ibt": ibt}
    root = environment.get("IBTICKS_STORE") or "."
    try:
        names["store"] = ibt.open(root)
    except TickError as error:
        reason = f"no store: {error}"
        missing = Unavailable(reason)
        return names | {"store": missing, "capture": missing}, [reason]
    try:
        names["capture"] = _make_capture(names["store"], environment)
    except TickError as error:
        reason = f"no capture: {error}"
        return names | {"capture": Unavailable(reason)}, [reason]
    try:
        if _should_start(environment):
            names["capture"].start()
    except TickError as error:
        return names, [f"capture is not started: {error}"]
    return names, []


def _make_capture(store: Any, environment: Mapping[str, str]) -> Capture:
    if not environment.get("IB_STREAM_TRACKED_CONTRACTS", "").strip():
        raise ConfigError(
            "IB_STREAM_TRACKED_CONTRACTS is not set; say what to capture: "
            "capture = ibt.Capture(store, '265598:AAPL:bid_ask;last:1', port=7497)"
        )
    return Capture(store)


def _should_start(environment: Mapping[str, str]) -> bool:
    mode = environment.get("IBTICKS_CAPTURE", "").strip().lower()
    if mode not in _CAPTURE_MODES:
        raise ConfigError(f"IBTICKS_CAPTURE={mode!r}: set it to start, or leave it out")
    return mode == "start"


def main() -> None:
    """Run the kernel until Jupyter shuts it down, which stops its captures first."""
    try:
        from ipykernel.kernelapp import IPKernelApp
    except ImportError as error:
        raise MissingExtraError("the kernel needs Jupyter: pip install 'ibticks[lab]'") from error
    app: Any = IPKernelApp.instance()
    app.initialize(sys.argv[1:])
    shell = app.shell
    names, notes = make_namespace(os.environ)
    shell.push(names)
    shell.extension_manager.load_extension("ibticks")
    if notes:
        _print_at_first_cell(shell, "\n".join(notes))
    # Ibapi logs every message at level INFO.
    logging.getLogger("ibapi").setLevel(logging.WARNING)
    app.start()


def _print_at_first_cell(shell: Any, text: str) -> None:
    """Print below the first cell, since a notebook shows no output before it."""

    def print_text(_: object) -> None:
        shell.events.unregister("pre_run_cell", print_text)
        sys.stderr.write(f"{text}\n")

    shell.events.register("pre_run_cell", print_text)
