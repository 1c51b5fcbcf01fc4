"""Taking times so that they can be compared.

Everybody runs once to get warm; then they take turns (A B A B), so that a noisy moment of the
machine meets all alike. The garbage collector is off while a clock runs, and what a run returns is
freed after the clock has stopped.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

__all__ = ["Contender", "compare", "simple"]

Run = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to be timed.

    Attributes
    ----------
    name : str
    stage : callable
        Gives a context manager: what is to be timed, between its preparation and its clearing up,
        which are not.
    check : callable, optional
        Raises if what the run returned is not what it should be; not timed.
    once : bool
        For what takes many seconds: run once, without getting warm.
    """

    name: str
    stage: Callable[[], AbstractContextManager[Run]]
    check: Callable[[Any], None] | None = None
    once: bool = False


def simple(
    name: str, run: Run, check: Callable[[Any], None] | None = None, *, once: bool = False
) -> Contender:
    """A contender that needs no preparation."""
    return Contender(name, lambda: nullcontext(run), check, once)


def compare(contenders: list[Contender], repeat: int) -> dict[str, list[float]]:
    """The seconds of each run of each contender."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        if not contender.once:
            _timed(contender)
    for turn in range(repeat):
        for contender in contenders:
            if turn == 0 or not contender.once:
                seconds[contender.name].append(_timed(contender))
    return seconds


def _timed(contender: Contender) -> float:
    with contender.stage() as run:
        gc.collect()
        gc.disable()
        try:
            begun = time.perf_counter()
            result = run()
            taken = time.perf_counter() - begun
        finally:
            gc.enable()
        if contender.check is not None:
            contender.check(result)
    return taken
