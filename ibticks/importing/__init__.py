"""Importing files: quotes or trades in CSV or Parquet, v2 messages as JSON lines, tick files.

An import can be interrupted at any moment and started again: ticks that the store already holds
are not written a second time (see :mod:`ibticks.storage`).
"""

from __future__ import annotations

from ibticks.importing._messages import import_messages
from ibticks.importing._result import ImportResult
from ibticks.importing._tables import import_table
from ibticks.importing._tick_files import import_tick_file, is_tick_file

__all__ = ["ImportResult", "import_messages", "import_table", "import_tick_file", "is_tick_file"]
