"""The base of the widgets: messages from the page, and text where no kernel draws them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import ipywidgets
from IPython import display

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PageWidget"]

# In JupyterLab the text is hidden beside its view, and replaces "model not found".
_STYLE = (
    "<style>"
    ".jp-OutputArea-child:has(.ibt-stored):has(+ .jp-OutputArea-child .ibt-view),"
    " .jp-OutputArea-child:has(.ibt-stored) + .jp-OutputArea-child:has(> .jupyter-widgets)"
    ":not(:has(.ibt-view)) { display: none; }"
    "</style>"
)


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
