"""coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.coverage._backfilled import backfilled_rows, missing_intervals
    from ibticks.coverage._feed_state import FeedCondition, FeedState, feed_states
    from ibticks.coverage._ledger import (
        Ledger,
        StatusChange,
        deleted_rows,
        effective_deletions,
        merge_intervals,
        rows_lost_by_rebuild,
        undeleted_rows,
    )
    from ibticks.coverage._model import Coverage
    from ibticks.coverage._query import coverage_metadata, query_coverage
    from ibticks.coverage._rebuild import (
        end_abandoned_intervals,
        mark_files_deleted,
        read_hour_changes,
        rebuild_coverage,
        resume_ledger,
    )
    from ibticks.coverage._report import GAP_COLUMNS, gap_rows, summary_rows
    from ibticks.coverage._states import (
        MEANINGS,
        STATE_OF_STATUS,
        CoverageInterval,
        CoverageState,
        StreamStatus,
        closed_reason,
        group_adjacent,
    )

__all__ = [
    "GAP_COLUMNS",
    "MEANINGS",
    "STATE_OF_STATUS",
    "Coverage",
    "CoverageInterval",
    "CoverageState",
    "FeedCondition",
    "FeedState",
    "Ledger",
    "StatusChange",
    "StreamStatus",
    "backfilled_rows",
    "closed_reason",
    "coverage_metadata",
    "deleted_rows",
    "effective_deletions",
    "end_abandoned_intervals",
    "feed_states",
    "gap_rows",
    "group_adjacent",
    "mark_files_deleted",
    "merge_intervals",
    "missing_intervals",
    "query_coverage",
    "read_hour_changes",
    "rebuild_coverage",
    "resume_ledger",
    "rows_lost_by_rebuild",
    "summary_rows",
    "undeleted_rows",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {"State": "CoverageState", "Status": "StreamStatus", "Stretch": "CoverageInterval"},
    )
