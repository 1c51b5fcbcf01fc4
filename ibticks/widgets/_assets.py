"""What the page loads: our own modules, and uPlot as the package ``uplot`` ships it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from ibticks.errors import MissingExtraError

__all__ = ["module", "style"]


@cache
def module(name: str, *, charts: bool = False) -> str:
    """The JavaScript module of a view; with the charts' library before it, if it needs that."""
    own = (files("ibticks.widgets") / "static" / f"{name}.js").read_text("utf-8")
    return f"{_uplot('uPlot.iife.js')}\n{own}" if charts else own


@cache
def style(name: str, *, charts: bool = False) -> str:
    """The style sheet of a view."""
    own = (files("ibticks.widgets") / "static" / f"{name}.css").read_text("utf-8")
    return f"{_uplot('uPlot.min.css')}\n{own}" if charts else own


def _uplot(name: str) -> str:
    try:
        return (files("uplot") / "static" / name).read_text("utf-8")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "a live view draws with uPlot, which is not installed: pip install 'ibticks[lab]'"
        ) from error
