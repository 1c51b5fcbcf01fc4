"""The command line: ``ibticks demo``, ``import``, ``load``, ``ls``, ``info``, ``verify`` and so on.

Exit codes: 0 done; 1 could not be done, and the message says why; 2 the command line is wrong;
3 ``verify`` or ``gaps`` found something; 4 there was nothing to load.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; what a shell calls."""
    from ibticks.cli._app import run

    run()
