"""What joins a widget to its page, and what stands in the notebook where nothing does."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import ipywidgets
from IPython import display

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Joined"]

# In JupyterLab the words give way to the view, and stand instead of "model not found".
_STYLE = (
    "<style>"
    ".jp-OutputArea-child:has(.ibt-stored):has(+ .jp-OutputArea-child .ibt-view),"
    " .jp-OutputArea-child:has(.ibt-stored) + .jp-OutputArea-child:has(> .jupyter-widgets)"
    ":not(:has(.ibt-view)) { display: none; }"
    "</style>"
)


class Joined(ipywidgets.DOMWidget):  # type: ignore[misc]
    """A widget that hears its page, and of which words are left where no kernel draws it.

    Attributes
    ----------
    described : str
        What it is, in words.
    """

    described = "A view"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.described}>"

    def open(self) -> None:
        """Begin to talk to the page."""
        super().open()
        # ipykernel 7.4 hands what a page says to the subshell for which the kernel last spoke.
        # JupyterLab ends those as it likes (one whenever a page is loaded), and then nothing the
        # page says is heard any more. So it goes where the page has sent it.
        self.comm._reply_subshell_for = lambda _, asked: asked

    def _ipython_display_(self) -> None:
        show: Callable[..., object] = display.display
        words = f"{self.described}: run the cell to see it."
        note = f"<div class='ibt-stored'><em>{escape(words)}</em></div>{_STYLE}"
        if self.comm is not None:
            self.add_class("ibt-view")
        show({"text/html": note, "text/plain": words}, raw=True)
        if self.comm is not None:
            view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
            show(
                {"application/vnd.jupyter.widget-view+json": view, "text/plain": repr(self)},
                raw=True,
            )
