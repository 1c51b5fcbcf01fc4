"""history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.history._backfill import backfill
    from ibticks.history._background import GapFiller
    from ibticks.history._pacing import Pacing
    from ibticks.history._result import BackfillResult, Filled

__all__ = ["BackfillResult", "Filled", "GapFiller", "Pacing", "backfill"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
