"""How pictures look: colours, fonts, titles and axes, the same in all of them."""

from __future__ import annotations

from importlib import import_module
from math import ceil, log10
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import MissingExtraError

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import polars as pl

    from ibticks.accessors.view import View

__all__ = [
    "BLUE",
    "DOWN",
    "GREY",
    "HAZE",
    "INK",
    "NUMBER",
    "UP",
    "figure",
    "finish",
    "price_axis",
    "titled",
]

INK: Final = "#1f2933"
GREY: Final = "#8a97a6"
BLUE: Final = "#3f78a8"
HAZE: Final = "rgba(63, 120, 168, 0.22)"
UP: Final = "#2a7f6f"
DOWN: Final = "#c8553d"
NUMBER: Final = ",.6~f"
"""How prices and volumes are written where one is pointed at: some are of a millionth."""

_GRID: Final = "#e8ecf0"
_FONT: Final = "Inter, Helvetica Neue, Helvetica, Arial, sans-serif"
_AXIS: Final = {
    "gridcolor": _GRID,
    "zeroline": False,
    "linecolor": "#b8c2cc",
    "ticks": "outside",
    "tickcolor": "#b8c2cc",
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 10},
}
_LOOK: Final[dict[str, Any]] = {
    "font": {"family": _FONT, "size": 12, "color": INK},
    "paper_bgcolor": "white",
    "plot_bgcolor": "white",
    "margin": {"l": 68, "r": 28, "t": 78, "b": 52},
    "hovermode": "x unified",
    "hoverlabel": {
        "bgcolor": "white",
        "bordercolor": "#b8c2cc",
        "font": {"size": 12, "color": INK},
    },
    "legend": {
        "orientation": "h",
        "x": 1,
        "xanchor": "right",
        "y": 1.0,
        "yanchor": "bottom",
        "itemsizing": "constant",
        "bgcolor": "rgba(255, 255, 255, 0)",
    },
    "title": {
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "pad": {"b": 48},
    },
    "bargap": 0.15,
}


def figure(heights: list[float], *, height: int = 560) -> go.Figure:
    """Panels below each other on one time axis.

    Raises
    ------
    MissingExtraError
        plotly is not installed.
    """
    try:
        subplots = import_module("plotly.subplots")
    except ImportError as error:
        raise MissingExtraError("plotly is not installed: pip install 'ibticks[lab]'") from error
    drawn: go.Figure = subplots.make_subplots(
        rows=len(heights),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=0.045,
    )
    drawn.update_layout(**_LOOK, height=height, template="none")
    drawn.update_xaxes(**_AXIS, showline=True)
    drawn.update_yaxes(**_AXIS)
    return drawn


def titled(drawn: go.Figure, head: str, below: str) -> go.Figure:
    """The figure with a title, and a line below it in grey."""
    drawn.update_layout(
        title_text=f"<b>{head}</b><br><span style='font-size:12px;color:#616e7c'>{below}</span>",
        title_font_size=17,
    )
    return drawn


def price_axis(drawn: go.Figure, low: Any, high: Any) -> None:
    """The first axis as one of prices, with as many decimals as tell its ticks apart."""
    span = float(high) - float(low)
    decimals = max(0, ceil(-log10(span / 5))) if span > 0 else 2
    drawn.update_yaxes(title_text="price", tickformat=f",.{decimals}f", row=1, col=1)


def finish(drawn: go.Figure, view: View, times: pl.Series, x: str | None = None) -> go.Figure:
    """The figure with an axis that shows the view's clock, and folds away what it does not show.

    Parameters
    ----------
    times : polars.Series
        Of all that is drawn, in UTC nanoseconds.
    x : str, optional
        The one axis that shows time, where there are others.
    """
    start, end = int(times.min()), int(times.max())  # type: ignore[arg-type]
    breaks = [{"bounds": list(each)} for each in view.breaks(start, end)]
    pointed = "%a %d %b %Y" if view.by_day else "%a %d %b %Y, %H:%M:%S"
    axes = {"rangebreaks": breaks, "hoverformat": pointed}
    zone = {"title_text": view.zone.rpartition("/")[2].replace("_", " ")}
    if x is not None:
        drawn.update_layout({x: axes | {"title": {"text": zone["title_text"]}}})
        return drawn
    drawn.update_xaxes(**axes)
    drawn.update_xaxes(**zone, row=_last(drawn))
    return drawn


def _last(drawn: go.Figure) -> int:
    rows = drawn._get_subplot_rows_columns()[0]
    return int(max(rows))
