"""Progress bars in terminals and notebooks."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

__all__ = ["progress_bar", "track"]

T = TypeVar("T")


@contextmanager
def progress_bar(
    description: str, total: int | None, *, show: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show the progress of long work.

    Parameters
    ----------
    description : str
    total : int or None
        Number of steps, where it is known.
    show : bool, optional
        By default in a terminal and in a notebook.

    Yields
    ------
    callable
        Takes the number of steps just done.
    """
    if not (_is_interactive() if show is None else show):
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
) -> Generator[T, None, None]:
    """Iterate over ``items`` and show the progress."""
    with progress_bar(description, total, show=show) as done:
        for item in items:
            yield item
            done(1)


def _is_interactive() -> bool:
    # A notebook's shell has a kernel; an imported ipykernel alone is no notebook.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or getattr(shell, "kernel", None) is not None
