"""The base of the widgets: JavaScript and styles, messages of the page, and a text form."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import ipywidgets
from IPython import display

from ibticks.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["VIEW_MODULES", "PageWidget", "bundle", "javascript", "style"]

# In JupyterLab the text is hidden beside its view, and replaces "model not found".
_STYLE = (
    "<style>"
    ".jp-OutputArea-child:has(.ibt-stored):has(+ .jp-OutputArea-child .ibt-view),"
    " .jp-OutputArea-child:has(.ibt-stored) + .jp-OutputArea-child:has(> .jupyter-widgets)"
    ":not(:has(.ibt-view)) { display: none; }"
    "</style>"
)

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


class PageWidget(ipywidgets.DOMWidget):  # type: ignore[misc]
    """A widget that receives messages of its page, and shows a text where no kernel draws it.

    Attributes
    ----------
    summary : str
        Description of the widget, for the text and for ``repr``.
    """

    summary = "A view"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary}>"

    def open(self) -> None:
        """Open the comm to the page."""
        super().open()
        # ipykernel 7.4 dispatches messages of the page to the subshell of the kernel's last reply.
        # JupyterLab deletes subshells at will (one whenever a page is loaded), and from then on no
        # message of the page would arrive. So use the subshell that the page has addressed.
        self.comm._reply_subshell_for = lambda _, asked: asked

    def _ipython_display_(self) -> None:
        show: Callable[..., object] = display.display
        text = f"{self.summary}: run the cell to see it."
        note = f"<div class='ibt-stored'><em>{escape(text)}</em></div>{_STYLE}"
        if self.comm is not None:
            self.add_class("ibt-view")
        show({"text/html": note, "text/plain": text}, raw=True)
        if self.comm is not None:
            view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
            show(
                {"application/vnd.jupyter.widget-view+json": view, "text/plain": repr(self)},
                raw=True,
            )
