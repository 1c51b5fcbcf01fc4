"""History: gaps of the coverage are filled with ticks of IB's ``reqHistoricalTicks``.

In come a store and a time range, or the gaps of a running capture; out go ticks in backfill files,
``backfilled`` messages and a :class:`BackfillResult`. Users call :func:`backfill`; ``capture`` runs
a :class:`GapFiller`. The room is not called ``backfill``, since that is the public function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.history._backfill import GapFiller, backfill
    from ibticks.history._plan import BackfilledInterval, BackfillResult, Pacing

__all__ = ["BackfillResult", "BackfilledInterval", "GapFiller", "Pacing", "backfill"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, {"Filled": "BackfilledInterval"})
