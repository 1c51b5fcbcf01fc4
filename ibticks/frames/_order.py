"""In which order the rows of several parts come: by time, and where times are equal, as given."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Run", "runs"]


@dataclass(frozen=True, slots=True)
class Run:
    """Parts that come next, and how their rows are to be rearranged.

    Attributes
    ----------
    parts : list of int
        Which parts, in the order given.
    rows : numpy.ndarray or None
        int64 positions in the parts laid end to end; None where they are in order as they are.
    """

    parts: list[int]
    rows: npt.NDArray[np.intp] | None


@dataclass(frozen=True, slots=True)
class _Span:
    part: int
    first: int
    last: int
    ordered: bool


def runs(times: Sequence[npt.NDArray[np.int64]]) -> list[Run]:
    """Arrange parts so that, run after run, their rows are sorted by time, stable as given.

    Parts are only touched where they overlap in time: hours of one stream come out as they are, the
    same hour of two streams is merged by itself.

    Parameters
    ----------
    times : sequence of numpy.ndarray
        int64 nanoseconds, one array a part, none of them empty.

    Examples
    --------
    >>> import numpy as np
    >>> runs([np.array([5, 6]), np.array([1, 3]), np.array([2])])
    [Run(parts=[1, 2], rows=array([0, 2, 1])), Run(parts=[0], rows=None)]
    """
    groups: list[list[_Span]] = []
    reach = 0
    for span in sorted((_span(i, part) for i, part in enumerate(times)), key=lambda s: s.first):
        # Parts that touch at one instant belong together: which comes first is up to their order.
        if groups and span.first <= reach:
            groups[-1].append(span)
            reach = max(reach, span.last)
        else:
            groups.append([span])
            reach = span.last
    return [_run(group, times) for group in groups]


def _span(part: int, times: npt.NDArray[np.int64]) -> _Span:
    if bool(np.all(times[1:] >= times[:-1])):
        return _Span(part, int(times[0]), int(times[-1]), ordered=True)
    return _Span(part, int(times.min()), int(times.max()), ordered=False)


def _run(group: list[_Span], times: Sequence[npt.NDArray[np.int64]]) -> Run:
    spans = sorted(group, key=lambda s: s.part)
    parts = [s.part for s in spans]
    follows = all(a.last <= b.first for a, b in pairwise(spans))
    if follows and all(s.ordered for s in spans):
        return Run(parts, None)
    return Run(parts, np.argsort(np.concatenate([times[i] for i in parts]), kind="stable"))
