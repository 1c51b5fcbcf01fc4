"""Peak memory of loading the hour: each in a process of its own.

What counts is how far the peak of the resident memory rises above what it was once everything was
imported and opened. Run as a module, this is that process.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import Figure, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scene import Scene

__all__ = ["memory", "peak"]

_RUNS = 3


def memory(scene: Scene) -> Iterator[Row]:
    """Ibticks beside its peers."""
    contract = scene.contract()
    measured = {
        "frame": ("ibticks", str(scene.store.root), str(contract)),
        "parquet": ("parquet", str(scene.parquet)),
        "ptars": ("ptars", str(scene.path())),
        "loop": ("loop", str(scene.path())),
        "sealed": ("ibticks", str(scene.store.root), str(scene.contract("zstd"))),
    }
    peaks = {
        name: Figure.size(*(_measured(command) for _ in range(1 if name == "loop" else _RUNS)))
        for name, command in measured.items()
    }
    ours, what = peaks["frame"], "peak memory of loading the hour"
    frame = Figure.size(scene.frame.estimated_size())
    yield Row(what, ours, "the frame itself", frame, share=True)
    yield Row(what, ours, "polars, zstd Parquet", peaks["parquet"], share=True)
    yield Row(what, ours, "ptars", peaks["ptars"], share=True)
    yield Row(what, ours, "plain protobuf loop", peaks["loop"], share=True)
    yield Row(f"{what}, zstd-sealed", peaks["sealed"], "the plain hour", ours, share=True)


def _measured(command: tuple[str, ...]) -> float:
    run = [sys.executable, "-m", "benchmarks.memory", *command]
    return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def _prepared(kind: str, place: str, *more: str) -> Callable[[], Any]:
    """Import and open all that loading needs."""
    import polars as pl

    from benchmarks.scene import HOUR
    from benchmarks.ticks import TICK_TYPE
    from ibticks.schema import list_columns

    columns = list_columns((TICK_TYPE,))
    match kind:
        case "ibticks":
            import ibticks as ibt
            import ibticks.frames._to_arrow
            import ibticks.frames._to_polars
            import ibticks.storage._tick_reader

            selection = ibt.open(place).select(int(more[0]), TICK_TYPE)
            return selection.to_polars
        case "parquet":
            return lambda: pl.read_parquet(place)
        case "ptars":
            from benchmarks.peers import load_ptars

            return lambda: load_ptars(Path(place), columns)
        case _:
            from benchmarks.peers import load_plain

            return lambda: load_plain(Path(place), columns, *HOUR)


def peak() -> int:
    """Bytes of resident memory at their highest, of this program."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent process had when it began this one.
        line = next(value for value in status.read_text().splitlines() if value.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    load = _prepared(*sys.argv[1:])
    before = peak()
    loaded = load()
    print(peak() - before)
