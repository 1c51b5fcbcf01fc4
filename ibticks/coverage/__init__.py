"""Coverage: what was captured of each stream and what was not, with the reason.

In come the status messages that captures, backfills and deletions write into the streams; out go
the rows of the coverage ledger in the index, the :class:`Coverage` of a selection, and the
:class:`FeedState` of a stream now. ``capture`` and ``history`` write the ledger, ``store`` rebuilds
it from the files, ``selection``, ``live`` and ``widgets`` query it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.coverage._feed_state import FeedCondition, FeedState, feed_states
    from ibticks.coverage._ledger import Ledger, StatusChange
    from ibticks.coverage._model import Coverage
    from ibticks.coverage._query import coverage_metadata, query_coverage
    from ibticks.coverage._rebuild import (
        LedgerDeletion,
        end_abandoned_intervals,
        mark_files_deleted,
        rebuild_coverage,
        resume_ledger,
        undo_ledger_deletion,
    )
    from ibticks.coverage._row_changes import backfilled_rows, missing_intervals
    from ibticks.coverage._states import (
        STATE_OF_STATUS,
        CoverageInterval,
        CoverageState,
        StreamStatus,
        closed_reason,
    )

__all__ = [
    "STATE_OF_STATUS",
    "Coverage",
    "CoverageInterval",
    "CoverageState",
    "FeedCondition",
    "FeedState",
    "Ledger",
    "LedgerDeletion",
    "StatusChange",
    "StreamStatus",
    "backfilled_rows",
    "closed_reason",
    "coverage_metadata",
    "end_abandoned_intervals",
    "feed_states",
    "mark_files_deleted",
    "missing_intervals",
    "query_coverage",
    "rebuild_coverage",
    "resume_ledger",
    "undo_ledger_deletion",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {"State": "CoverageState", "Status": "StreamStatus", "Stretch": "CoverageInterval"},
    )
