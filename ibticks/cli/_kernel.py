"""``kernel``: the Jupyter kernel in which ``store`` and ``capture`` exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ibticks.cli._options import Json, console, emit
from ibticks.filesystem import expand_home

__all__ = ["install", "list_", "uninstall"]

Name = Annotated[str, typer.Option(help="By which Jupyter knows it.")]
_NAME = "ibticks-capture"


def install(
    user: Annotated[
        bool, typer.Option("--user", help="For this user, in every environment.")
    ] = False,
    prefix: Annotated[
        Path | None, typer.Option(help="For the environment there; by default for this one.")
    ] = None,
    name: Name = _NAME,
    root: Annotated[
        Path | None,
        typer.Option("--store", "-s", help="Folder of its store; by default the notebook's."),
    ] = None,
    contracts: Annotated[
        str | None, typer.Option(help="What it captures, as for ibticks capture.")
    ] = None,
    start: Annotated[
        bool, typer.Option("--start", help="Capture as soon as the kernel starts.")
    ] = False,
) -> None:
    """Tell Jupyter of a kernel "ibticks capture", with a store and a capture at hand."""
    from ibticks.capture import parse_tracked
    from ibticks.notebook import install_kernel

    environment = {}
    if root is not None:
        environment["IBTICKS_STORE"] = str(expand_home(root).resolve())
    if contracts is not None:
        parse_tracked(contracts)
        environment["IB_STREAM_TRACKED_CONTRACTS"] = contracts
    if start:
        environment["IBTICKS_CAPTURE"] = "start"
    path = install_kernel(name, user=user, prefix=prefix, environment=environment)
    console.print(f"installed {escape(name)} in {escape(str(path))}", soft_wrap=True)


def uninstall(name: Name = _NAME) -> None:
    """Make Jupyter forget it."""
    from ibticks.notebook import uninstall_kernel

    console.print(f"deleted {escape(str(uninstall_kernel(name)))}", soft_wrap=True)


def list_(json: Json = False) -> None:
    """List the kernels of ibticks that Jupyter knows."""
    from ibticks.notebook import installed_kernels

    result = installed_kernels()
    if json:
        emit({name: str(path) for name, path in result.items()})
        return
    for name, path in result.items():
        console.print(f"{escape(name)}  {escape(str(path))}", highlight=False, soft_wrap=True)
    if not result:
        console.print("none; ibticks kernel install adds one")
