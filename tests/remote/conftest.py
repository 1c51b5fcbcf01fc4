"""Damaged files, for the tests of ibticks.remote."""

from tests.fix_files import damage

__all__ = ["damage"]
