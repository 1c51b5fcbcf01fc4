"""The capture kernel: notebooks that have a ``store`` and a ``capture``, and its kernelspecs."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ibticks.capture import Capture
from ibticks.errors import ConfigError, InputError, MissingExtraError, StoreAccessError, TickError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KERNEL_NAME",
    "Unavailable",
    "install_kernel",
    "installed_kernels",
    "main",
    "make_namespace",
    "uninstall_kernel",
]

_CAPTURE_MODES: Final = ("", "start")

KERNEL_NAME: Final = "ibticks-capture"
"""Default name of the kernel in Jupyter."""

_DISPLAY_NAME: Final = "ibticks capture"
_METADATA_KEY: Final = "ibticks"
_LOGO: Final = Path(__file__).with_name("logo")
_NAME: Final = re.compile(r"[a-z0-9._-]+", re.ASCII | re.IGNORECASE)


def install_kernel(
    name: str = KERNEL_NAME,
    *,
    user: bool = False,
    prefix: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Install the kernelspec of the kernel.

    Parameters
    ----------
    name : str
        Name of the kernelspec; one of the same name is replaced.
    user : bool
        Whether to install for this user, in every environment of Jupyter.
    prefix : path, optional
        Environment to install into; by default that of ibticks.
    environment : mapping of str to str, optional
        Variables of the kernel, such as ``IBTICKS_STORE``; see :mod:`ibticks.notebook`.

    Returns
    -------
    pathlib.Path
        The folder of the kernelspec.

    Raises
    ------
    InputError
        If Jupyter takes no such name, or ``user`` and ``prefix`` are given both.
    StoreAccessError
        If this user may not write there.
    MissingExtraError
        If Jupyter is not installed.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name of a kernel: use letters, digits, '.', '_' and '-'")
    if user and prefix is not None:
        raise InputError("a kernel is installed for a user or into a prefix, not both")
    display = _DISPLAY_NAME if name == KERNEL_NAME else f"{_DISPLAY_NAME} ({name})"
    spec = {
        # As ipykernel: with frozen modules the debugger misses breakpoints.
        "argv": [
            sys.executable,
            "-Xfrozen_modules=off",
            "-m",
            "ibticks.notebook",
            "-f",
            "{connection_file}",
        ],
        "display_name": display,
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {"debugger": True, _METADATA_KEY: True},
        "env": dict(environment or {}),
    }
    specs = _spec_manager()
    with tempfile.TemporaryDirectory() as folder:
        spec_folder = Path(folder) / name
        shutil.copytree(_LOGO, spec_folder)
        (spec_folder / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
        try:
            path = specs.install_kernel_spec(
                str(spec_folder),
                kernel_name=name,
                user=user,
                prefix=None if user else str(prefix or sys.prefix),
            )
        except OSError as error:
            raise StoreAccessError(
                f"the kernel cannot be installed: {error}; use --user, or --prefix with a "
                "writable folder",
                path=str(error.filename),
            ) from error
    return Path(path)


def installed_kernels() -> dict[str, Path]:
    """Return the installed kernels of ibticks: their folders by name."""
    return {
        name: Path(entry["resource_dir"])
        for name, entry in sorted(_spec_manager().get_all_specs().items())
        if entry["spec"].get("metadata", {}).get(_METADATA_KEY)
    }


def uninstall_kernel(name: str = KERNEL_NAME) -> Path:
    """Uninstall a kernel of ibticks; return the folder that was deleted.

    Raises
    ------
    InputError
        If no kernel of ibticks has that name, even if another kernel does.
    StoreAccessError
        If the folder cannot be deleted.
    """
    installed = installed_kernels()
    if name not in installed:
        names = ", ".join(installed) or "none"
        raise InputError(f"no kernel of ibticks is called {name!r}; installed: {names}")
    try:
        shutil.rmtree(installed[name])
    except OSError as error:
        raise StoreAccessError(
            f"{installed[name]} cannot be deleted: {error.strerror}", path=str(installed[name])
        ) from error
    return installed[name]


def _spec_manager() -> Any:
    try:
        return import_module("jupyter_client.kernelspec").KernelSpecManager()
    except ImportError as error:
        raise MissingExtraError("the kernel needs Jupyter: pip install 'ibticks[lab]'") from error


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
