"""Fixtures for tests of foreign tables: those of frames."""

from __future__ import annotations

from tests.frames.conftest import quotes_and_trades, real, rows, ticks

__all__ = ["quotes_and_trades", "real", "rows", "ticks"]
