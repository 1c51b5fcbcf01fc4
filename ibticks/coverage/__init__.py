"""coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.coverage._backfilled import backfilled, missing
    from ibticks.coverage._feed_state import FeedCondition, FeedState, feed_states
    from ibticks.coverage._ledger import (
        Change,
        Ledger,
        deleted_interval,
        joined_intervals,
        lasting_deletions,
        outlasting,
        undeleted_interval,
    )
    from ibticks.coverage._model import Coverage, Stretch, fraction, runs, sums
    from ibticks.coverage._query import cover, told
    from ibticks.coverage._rebuild import forget, hour_changes, rebuild, resume, settle
    from ibticks.coverage._report import percent, said, until_second
    from ibticks.coverage._states import MEANINGS, STATES, State, Status, closed_reason

__all__ = [
    "MEANINGS",
    "STATES",
    "Change",
    "Coverage",
    "FeedCondition",
    "FeedState",
    "Ledger",
    "State",
    "Status",
    "Stretch",
    "backfilled",
    "closed_reason",
    "cover",
    "deleted_interval",
    "feed_states",
    "forget",
    "fraction",
    "hour_changes",
    "joined_intervals",
    "lasting_deletions",
    "missing",
    "outlasting",
    "percent",
    "rebuild",
    "resume",
    "runs",
    "said",
    "settle",
    "sums",
    "told",
    "undeleted_interval",
    "until_second",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
