"""Telling Jupyter of the kernel in which ``store`` and ``capture`` exist already."""

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
"""The name by which Jupyter knows the kernel unless it is given another."""

_DISPLAY_NAME: Final = "ibticks capture"
_MARK: Final = "ibticks"
_LOGO: Final = Path(__file__).with_name("logo")
_NAME: Final = re.compile(r"[a-z0-9._-]+", re.ASCII | re.IGNORECASE)


def install_kernel(
    name: str = KERNEL_NAME,
    *,
    user: bool = False,
    prefix: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Tell Jupyter of the kernel.

    Parameters
    ----------
    name : str
        A kernel of that name is replaced.
    user : bool
        For this user, whichever environment Jupyter runs in.
    prefix : path, optional
        For the environment there; by default for the one ibticks is installed in.
    environment : mapping of str to str, optional
        Variables the kernel gets, such as ``IBTICKS_STORE``; see :mod:`ibticks.notebook`.

    Returns
    -------
    pathlib.Path
        The folder of the kernelspec.

    Raises
    ------
    InputError
        If the name is none, or ``user`` and ``prefix`` are given both.
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
        # As ipykernel itself starts: with frozen modules the debugger cannot stop everywhere.
        "argv": [
            sys.executable,
            "-Xfrozen_modules=off",
            "-m",
            "ibticks.notebook._kernel",
            "-f",
            "{connection_file}",
        ],
        "display_name": display,
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {"debugger": True, _MARK: True},
        "env": dict(environment or {}),
    }
    specs = _manager()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / name
        shutil.copytree(_LOGO, made)
        (made / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
        try:
            path = specs.install_kernel_spec(
                str(made),
                kernel_name=name,
                user=user,
                prefix=None if user else str(prefix or sys.prefix),
            )
        except OSError as error:
            raise StoreAccessError(
                f"the kernel cannot be installed: {error}; use --user, or --prefix with a folder "
                "of yours",
                path=str(error.filename),
            ) from error
    return Path(path)


def installed_kernels() -> dict[str, Path]:
    """The kernels of ibticks that Jupyter knows, by name, and their folders."""
    return {
        name: Path(entry["resource_dir"])
        for name, entry in sorted(_manager().get_all_specs().items())
        if entry["spec"].get("metadata", {}).get(_MARK)
    }


def uninstall_kernel(name: str = KERNEL_NAME) -> Path:
    """Make Jupyter forget a kernel of ibticks; gives the folder that is gone.

    Raises
    ------
    InputError
        If there is none of that name; says which there are. Other kernels are not touched.
    StoreAccessError
        If this user may not delete it.
    """
    there = installed_kernels()
    if name not in there:
        names = ", ".join(there) or "none"
        raise InputError(f"no kernel of ibticks is called {name!r}; installed: {names}")
    try:
        shutil.rmtree(there[name])
    except OSError as error:
        raise StoreAccessError(
            f"{there[name]} cannot be deleted: {error.strerror}", path=str(there[name])
        ) from error
    return there[name]


def _manager() -> Any:
    try:
        return import_module("jupyter_client.kernelspec").KernelSpecManager()
    except ImportError as error:
        raise MissingExtraError("the kernel needs Jupyter: pip install 'ibticks[lab]'") from error
