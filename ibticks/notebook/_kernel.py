"""A Jupyter kernel in which ``store`` and ``capture`` exist already.

It is started by Jupyter, as ``python -m ibticks.notebook._kernel -f CONNECTION_FILE``, once
``ibticks kernel install`` has told Jupyter of it. What it finds:

================================  ==============================================================
variable                          meaning
================================  ==============================================================
``IBTICKS_STORE``                 folder of ``store``; by default the notebook's
``IB_STREAM_TRACKED_CONTRACTS``   what ``capture`` captures
``IBTICKS_CAPTURE``               ``start``: it begins with the kernel
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

__all__ = ["Absent", "furnish", "main"]

_STARTS: Final = ("", "start")


class Absent:
    """Stands where a store or a capture would be, and says why there is none.

    Examples
    --------
    >>> capture = Absent("no contract to capture")
    >>> capture
    no contract to capture
    >>> capture.start()
    Traceback (most recent call last):
    ibticks.errors.ConfigError: no contract to capture
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def __repr__(self) -> str:
        return self._why

    def __getattr__(self, name: str) -> NoReturn:
        # What Python and IPython look for is looked for in vain; what a user asks for is answered.
        if name.startswith("_"):
            raise AttributeError(name)
        raise ConfigError(self._why)


def furnish(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Make what a notebook begins with.

    Parameters
    ----------
    environment : mapping of str to str

    Returns
    -------
    names : dict
        ``ibt``, ``store`` and ``capture``; the last two may be :class:`Absent`.
    notes : list of str
        What a user should know: what is missing and why.
    """
    import ibticks as ibt

    names: dict[str, Any] = {"ibt": ibt}
    root = environment.get("IBTICKS_STORE") or "."
    try:
        names["store"] = ibt.open(root)
    except TickError as error:
        why = f"no store: {error}"
        return names | {"store": Absent(why), "capture": Absent(why)}, [why]
    try:
        names["capture"] = _capture(names["store"], environment)
    except TickError as error:
        why = f"no capture: {error}"
        return names | {"capture": Absent(why)}, [why]
    try:
        if _is_to_start(environment):
            names["capture"].start()
    except TickError as error:
        return names, [f"capture is not started: {error}"]
    return names, []


def _capture(store: Any, environment: Mapping[str, str]) -> Capture:
    if not environment.get("IB_STREAM_TRACKED_CONTRACTS", "").strip():
        raise ConfigError(
            "IB_STREAM_TRACKED_CONTRACTS is not set; say what to capture: "
            "capture = ibt.Capture(store, '265598:AAPL:bid_ask;last:1', port=7497)"
        )
    return Capture(store)


def _is_to_start(environment: Mapping[str, str]) -> bool:
    word = environment.get("IBTICKS_CAPTURE", "").strip().lower()
    if word not in _STARTS:
        raise ConfigError(f"IBTICKS_CAPTURE={word!r}: set it to start, or leave it out")
    return bool(word)


def main() -> None:
    """Run the kernel until Jupyter shuts it down; captures are stopped before it ends."""
    try:
        from ipykernel.kernelapp import IPKernelApp
    except ImportError as error:
        raise MissingExtraError("the kernel needs Jupyter: pip install 'ibticks[lab]'") from error
    app: Any = IPKernelApp.instance()
    app.initialize(sys.argv[1:])
    shell = app.shell
    names, notes = furnish(os.environ)
    shell.push(names)
    shell.extension_manager.load_extension("ibticks")
    if notes:
        _tell_once(shell, "\n".join(notes))
    # What ibapi says of every message belongs into no notebook.
    logging.getLogger("ibapi").setLevel(logging.WARNING)
    app.start()


def _tell_once(shell: Any, text: str) -> None:
    """Print below the first cell: before it, a notebook shows nothing of what is printed."""

    def tell(_: object) -> None:
        shell.events.unregister("pre_run_cell", tell)
        sys.stderr.write(f"{text}\n")

    shell.events.register("pre_run_cell", tell)


if __name__ == "__main__":
    main()
