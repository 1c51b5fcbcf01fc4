"""Recorded reads and damaged files, for the tests of ibticks.selection."""

from tests.fix_files import damage, reads

__all__ = ["damage", "reads"]
