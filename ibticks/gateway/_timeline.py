"""Several streams as one: which tick of which comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["merged"]


def merged(
    windows: Sequence[tuple[npt.NDArray[np.int64], bool]], limit: int
) -> npt.NDArray[np.intp]:
    """The owners of the next ticks, in the order of time.

    Parameters
    ----------
    windows : sequence of (numpy.ndarray, bool)
        For each stream the times of its next rows, sorted, and whether more rows follow them.
    limit : int
        Most ticks to take.

    Returns
    -------
    numpy.ndarray
        For each tick the number of its window. Every tick that belongs before one of them is
        among them; of equal times, the earlier window comes first. Empty only if all windows are.

    Examples
    --------
    >>> merged([(np.array([1, 4, 6]), False), (np.array([2, 4]), True)], 10)
    array([0, 1, 0, 1])
    """
    # Past the last row seen of a stream that goes on, one of its own may come first.
    bounds = [int(times[-1]) for times, more in windows if more and len(times)]
    parts = [times for times, _ in windows]
    if bounds:
        bound = min(bounds)
        parts = [times[: np.searchsorted(times, bound, "right")] for times in parts]
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(np.concatenate(parts), kind="stable") if parts else owners
    return owners[order][:limit]
