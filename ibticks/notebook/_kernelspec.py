"""Kernelspecs of the capture kernel: install, list and uninstall."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import InputError, MissingExtraError, StoreAccessError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KERNEL_NAME", "install_kernel", "installed_kernels", "uninstall_kernel"]

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
