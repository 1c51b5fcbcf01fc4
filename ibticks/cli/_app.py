"""The commands, put together; errors become messages and exit codes here and nowhere else."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated

import typer
from rich.text import Text

from ibticks._version import __version__
from ibticks.cli import (
    _capturing as capturing,
)
from ibticks.cli import (
    _columns as columns,
)
from ibticks.cli import (
    _contents as contents,
)
from ibticks.cli import (
    _demo as demo,
)
from ibticks.cli import (
    _gaps as gaps,
)
from ibticks.cli import (
    _gateway as gateway,
)
from ibticks.cli import (
    _importing as importing,
)
from ibticks.cli import (
    _kernel as kernel,
)
from ibticks.cli import (
    _serving as serving,
)
from ibticks.cli import (
    _upkeep as upkeep,
)
from ibticks.cli._options import in_options, notes
from ibticks.errors import TickError

__all__ = ["app", "run"]

app = typer.Typer(
    name="ibticks",
    help="Capture Interactive Brokers ticks, keep them for years, load any stretch at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
index_app = typer.Typer(help="The PostgreSQL index of the files.", no_args_is_help=True)
columns_app = typer.Typer(
    help="Columnar companions: Parquet files of sealed hours.", no_args_is_help=True
)
kernel_app = typer.Typer(help="A Jupyter kernel that captures.", no_args_is_help=True)

app.command("demo")(demo.demo)
app.command("capture")(capturing.capture)
app.command("status")(capturing.status)
app.command("stream")(capturing.stream)
app.command("gateway")(gateway.gateway)
app.command("serve")(serving.serve)
app.command("import")(importing.import_)
app.command("load")(contents.load)
app.command("ls")(contents.ls)
app.command("info")(contents.info)
app.command("gaps")(gaps.gaps)
app.command("backfill")(gaps.backfill)
app.command("verify")(upkeep.verify)
app.command("compress")(upkeep.compress)
app.command("archive")(upkeep.archive)
app.command("prune")(upkeep.prune)
app.command("rm")(upkeep.rm)
index_app.command("rebuild")(upkeep.rebuild)
index_app.command("status")(upkeep.status)
columns_app.command("build")(columns.build)
columns_app.command("ls")(columns.ls)
columns_app.command("rm")(columns.rm)
kernel_app.command("install")(kernel.install)
kernel_app.command("uninstall")(kernel.uninstall)
kernel_app.command("list")(kernel.list_)
app.add_typer(index_app, name="index")
app.add_typer(columns_app, name="columns")
app.add_typer(kernel_app, name="kernel")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ibticks {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _say("yellow", "warning:", message)


def _say(style: str, label: str, what: object) -> None:
    # Text, since what stands in brackets would be taken for markup.
    notes.print(Text.assemble((label, style), f" {what}"), soft_wrap=True)


def run() -> None:
    """Run the command line and exit."""
    try:
        app(prog_name="ibticks")
    except TickError as error:
        _say("red", "error:", in_options(str(error)))
        sys.exit(1)
