"""Figures of ibticks beside those of other tools, taken in one run: see ``README.md``."""
