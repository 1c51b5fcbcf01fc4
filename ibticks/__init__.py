"""ibticks: capture Interactive Brokers ticks, keep them, and load any stretch of them at once.

Examples
--------
>>> import ibticks as ibt
>>> ibt.TICK_TYPES
('last', 'all_last', 'bid_ask', 'mid_point')
"""

from __future__ import annotations

from ibticks.config import TICK_TYPES

__version__ = "0.1.0"

__all__ = ["TICK_TYPES"]
