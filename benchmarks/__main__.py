"""``python -m benchmarks``: take all figures and print them beside those of others."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from benchmarks import (
    analysis,
    bounded,
    capture,
    columns,
    doubts,
    flow,
    index,
    live,
    load,
    memory,
    service,
    size,
    start,
    variance,
    view,
    write,
)
from benchmarks.report import as_json, as_table
from benchmarks.scene import scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.report import Row
    from benchmarks.scene import Scene

_GROUPS: Final[dict[str, tuple[Callable[[Scene], Iterator[Row]], ...]]] = {
    "load": (load.hour, load.three_columns, load.five_minutes, load.repeated, load.sealed),
    "size": (size.size,),
    "columns": (columns.companions,),
    "write": (write.bulk, write.hours, write.append),
    "capture": (capture.tick, capture.append, capture.headless),
    "live": (live.delay, live.idle, live.buffers),
    "service": (service.buffers,),
    "view": (view.view,),
    "index": (index.index, index.contracts, index.opening),
    "memory": (memory.memory,),
    "start": (start.start,),
    "analysis": (analysis.bars, analysis.prices, analysis.clocks, bounded.bounded),
    "flow": (flow.flow, flow.costs, variance.variance, doubts.durations, doubts.cleaning),
}
_PACKAGES: Final = ("ibticks", "numba", "numpy", "polars", "protobuf", "ptars", "pyarrow")
_QUIET: Final = 0.3

# Piped, the table may be as wide as it likes.
console = Console(width=None if sys.stdout.isatty() else 150)


def main(
    ticks: Annotated[int, typer.Option(min=1_000, help="Ticks in the hour.")] = 1_000_000,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each; the median counts.")] = 7,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {', '.join(_GROUPS)}; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--json", help="Write every single run here, as JSON.")
    ] = None,
) -> None:
    """Take the figures of ibticks and its peers in one run, and print them side by side."""
    unknown = sorted(set(only or ()) - set(_GROUPS))
    if unknown:
        raise typer.BadParameter(f"no {', '.join(unknown)}: there are {', '.join(_GROUPS)}")
    about = _about(ticks, repeat)
    if about["load_average"] > _QUIET * about["processors"]:
        console.print(
            f"[yellow]Others are using this machine (load average {about['load_average']:.1f} on "
            f"{about['processors']} processors): take the ratios with caution, the times not at "
            "all.[/]"
        )
    begun = time.perf_counter()
    rows: list[Row] = []
    with scene(ticks, repeat) as made:
        for name in only or _GROUPS:
            result: list[Row] = []
            for measure in _GROUPS[name]:
                with console.status(f"{name}: {measure.__name__.replace('_', ' ')}"):
                    result += measure(made)
            console.print(as_table(name, result))
            rows += result
    about["seconds"] = round(time.perf_counter() - begun, 1)
    console.print(", ".join(f"{key} {value}" for key, value in about.items()), highlight=False)
    if out is not None:
        out.write_text(json.dumps({"about": about, "rows": as_json(rows)}, indent=1))


def _about(ticks: int, repeat: int) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "ticks": ticks,
        "repeat": repeat,
        "machine": platform.platform(),
        "processors": os.cpu_count() or 1,
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
