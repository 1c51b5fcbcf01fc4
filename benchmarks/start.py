"""Cost of the first use: imports, compiled code, the first frame of a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from benchmarks.report import Figure, Row, at_most
from benchmarks.scene import HOUR
from benchmarks.ticks import TICK_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scene import Scene

__all__ = ["start"]

_CODEC: Final = (
    "import numpy\n"
    "from ibticks.format import _kernels\n"
    "_kernels.decode_ticks.load()\n"
    "_kernels.encode_ticks.load()"
)
_OURS: Final = "import ibticks as i\ni.open({root!r}).select({contract}, {kind!r}).to_polars()"
_SESSION: Final = (
    "import ibticks as i\n"
    "store = i.open({root!r})\n"
    "store.select({contract}, {kind!r}, session='regular', date={date!r}).to_polars()"
)
_PARQUET: Final = "import polars\npolars.read_parquet({path!r})"


def start(scene: Scene) -> Iterator[Row]:
    """Each in new processes; times are taken inside, from the first import on."""
    repeat = scene.repeat
    statements = {name: f"import {name}" for name in ("ibticks", "polars", "pandas")}
    imports = _interleaved(statements, repeat)
    ours, goal = imports["ibticks"], at_most(0.150, absolute=True)
    yield Row("import ibticks", ours, "import polars", imports["polars"], goal=goal)
    yield Row("import ibticks", ours, "import pandas", imports["pandas"])

    cache = {"NUMBA_CACHE_DIR": str(scene.folder / "numba")}
    compiled = Figure.seconds([_seconds(_CODEC, cache)])
    again = Figure.seconds([_seconds(_CODEC, cache) for _ in range(repeat)])
    yield Row("the codec, compiled: once for an installation", compiled)
    yield Row("the codec, compiled before", again, "compiling", compiled)

    load = _OURS.format(root=str(scene.store.root), contract=scene.contract(), kind=TICK_TYPE)
    session = _SESSION.format(
        root=str(scene.store.root),
        contract=scene.contract(),
        kind=TICK_TYPE,
        date=f"{HOUR[0]:%Y-%m-%d}",
    )
    read = _PARQUET.format(path=str(scene.parquet))
    first = _interleaved({"ours": load, "session": session, "theirs": read}, repeat)
    for name, what in (("ours", "the hour"), ("session", "a session")):
        yield Row(
            f"{what} in a new process, imports and all",
            first[name],
            "polars, zstd Parquet",
            first["theirs"],
            goal=at_most(1.5),
        )


def _interleaved(statements: dict[str, str], repeat: int) -> dict[str, Figure]:
    runs: dict[str, list[float]] = {name: [] for name in statements}
    for turn in range(repeat + 1):
        for name, statement in statements.items():
            taken = _seconds(statement)
            if turn > 0:
                runs[name].append(taken)
    return {name: Figure.seconds(run) for name, run in runs.items()}


def _seconds(statement: str, environment: dict[str, str] | None = None) -> float:
    timed = (
        f"import time\nbegun = time.perf_counter()\n{statement}\nprint(time.perf_counter() - begun)"
    )
    done = subprocess.run(
        [sys.executable, "-c", timed],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    return float(done.stdout)
