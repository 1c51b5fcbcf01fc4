"""What can be asked of a frame, as a table for a notebook."""

from __future__ import annotations

import re
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ibticks import analysis

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["listing"]

_LEFT: Final = "style='text-align:left'"
_MATH: Final = re.compile(r":math:`([^`]+)`")
_MARKUP: Final = re.compile(r":\w+:`~?(?:[\w.]*\.)?([^`]+)`|``([^`]+)``")


def listing(names: Iterable[str], caption: str) -> str:
    """Measures as HTML, under what they are about, with a line on each.

    Formulas stand between dollar signs, where notebooks look for them.

    Examples
    --------
    >>> table = listing(["vwap"], "ticks of a polars DataFrame")
    >>> "<code>vwap</code></td><td style='text-align:left'>The average price of all" in table
    True
    """
    homes: dict[str, list[str]] = {}
    for name in names:
        homes.setdefault(getattr(analysis, name).__module__, []).append(name)
    rows = []
    for home, members in homes.items():
        rows.append(f"<tr><th colspan='2' {_LEFT}>{_line(import_module(home).__doc__)}</th></tr>")
        for name in members:
            said = _line(getattr(analysis, name).__doc__)
            rows.append(f"<tr><td {_LEFT}><code>{name}</code></td><td {_LEFT}>{said}</td></tr>")
    body = "".join(rows)
    return f"<details><summary>{escape(caption)}</summary><table>{body}</table></details>"


def _line(doc: str | None) -> str:
    """The first sentence of a docstring, without its markup."""
    first = " ".join((doc or "").strip().partition("\n\n")[0].split())
    plain = _MARKUP.sub(lambda match: match[1] or match[2], _MATH.sub(r"$\1$", first))
    return escape(plain)
