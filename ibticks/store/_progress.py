"""A progress bar for long work: in a terminal and in a notebook, nowhere else."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["bar", "track"]

T = TypeVar("T")


@contextmanager
def bar(
    description: str, total: int | None, *, show: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show how far a piece of work is.

    Parameters
    ----------
    description : str
    total : int or None
        Steps in all, where that is known.
    show : bool, optional
        By default where someone is looking: a terminal, or a notebook.

    Yields
    ------
    callable
        To be called with the number of steps just done.
    """
    if not (_watched() if show is None else show):
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)


def track(
    items: Iterable[T], description: str, total: int | None, *, show: bool | None = None
) -> Iterator[T]:
    """Go through ``items``, showing how many are done."""
    with bar(description, total, show=show) as done:
        for item in items:
            yield item
            done(1)


def _watched() -> bool:
    # A notebook's shell has a kernel; that ipykernel was imported does not make this one.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or getattr(shell, "kernel", None) is not None
