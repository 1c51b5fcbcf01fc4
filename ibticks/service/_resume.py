"""The check of a position before a stream resumes there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks.calendar import format_ns
from ibticks.errors import LostPositionError
from ibticks.live import next_position

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.coverage import CoverageInterval
    from ibticks.store import Store

__all__ = ["check_resume"]


def check_resume(store: Store, resume: str, root: Path | None = None) -> None:
    """Check that every file of a position is there, and is the one that was read.

    Parameters
    ----------
    store : Store
    resume : str
    root : Path, optional
        Folder of the files, by default that of the store; another one has no coverage.

    Raises
    ------
    LostPositionError
        With the first position that can be resumed from, and the coverage of the time between.
    InputError
        If the text is no position.
    """
    lost = next_position(store.root if root is None else root, resume)
    if lost is None:
        return
    streams = ", ".join(sorted({f"{key.contract_id}/{key.tick_type}" for key in lost.files}))
    intervals: tuple[CoverageInterval, ...] = ()
    if root is None or root == store.root:
        intervals = store.coverage(
            sorted({key.contract_id for key in lost.files}),
            sorted({key.tick_type for key in lost.files}),
            start=lost.interval.start_ns,
            end=lost.interval.end_ns,
        ).state_intervals
    raise LostPositionError(
        f"the position cannot be resumed from: {len(lost.files)} of its files ({streams}) are gone "
        "or have been replaced; go on from first_position, and load the time between",
        first_position=lost.position,
        start=format_ns(lost.interval.start_ns),
        end=format_ns(lost.interval.end_ns),
        coverage=[
            {
                "contract_id": part.contract_id,
                "tick_type": part.tick_type,
                "start": format_ns(part.start_ns),
                "end": format_ns(part.end_ns),
                "state": part.state.value,
            }
            for part in intervals
        ],
    )
