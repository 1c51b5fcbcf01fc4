"""The JavaScript module and the style sheet of a view, joined of the files that the package ships.

anywidget takes one ECMAScript module as a string. The sources are modules of their own, which node
tests one by one; :func:`bundle` joins the listed ones in order, without their import and export
lines. uPlot comes from the package ``uplot``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from ibticks.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["VIEW_MODULES", "bundle", "javascript", "style"]

VIEW_MODULES: Final = {
    "live_view": (
        *("dom", "format", "rows", "link"),
        *("head", "controls", "tape", "chart"),
        "live_view",
    ),
    "store_browser": ("dom", "store_browser"),
}
"""The modules of each view, each after those that it imports."""

_IMPORT: Final = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def javascript(view: str, *, charts: bool = False) -> str:
    """Return the JavaScript of a view as one module, after uPlot where it draws charts."""
    own = bundle([_static(f"{name}.mjs") for name in VIEW_MODULES[view]])
    return f"{_uplot('uPlot.iife.js')}\n{own}" if charts else own


@cache
def style(view: str, *, charts: bool = False) -> str:
    """Return the style sheet of a view, after that of uPlot where it draws charts."""
    own = _static(f"{view}.css")
    return f"{_uplot('uPlot.min.css')}\n{own}" if charts else own


def bundle(sources: Sequence[str]) -> str:
    """Join ECMAScript modules into one: only the last one's default export remains.

    Each import and each named export is a statement that begins its line; all modules share one
    scope, so that no two of them may declare the same name.

    Examples
    --------
    >>> newline = chr(10)
    >>> one, other = "export const A = 1;", "export default A;"
    >>> print(bundle([one, 'import { A } from "./one.mjs";' + newline + other]))
    const A = 1;
    export default A;
    """
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)


def _static(name: str) -> str:
    return (files("ibticks.widgets") / "static" / name).read_text("utf-8")


def _uplot(name: str) -> str:
    try:
        return (files("uplot") / "static" / name).read_text("utf-8")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "a live view draws with uPlot, which is not installed: pip install 'ibticks[lab]'"
        ) from error
