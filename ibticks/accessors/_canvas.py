"""How pictures look: colours, fonts, titles and axes, the same in all of them."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ibticks.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import polars as pl

    from ibticks.accessors._view import View

__all__ = [
    "BLUE",
    "DOWN",
    "GREY",
    "GRID",
    "HAZE",
    "INK",
    "NUMBER",
    "PALE_BLUE",
    "UP",
    "Template",
    "figure",
    "finish",
    "price_axis",
    "titled",
]

Template: TypeAlias = Any
"""Name of a plotly template, or a ``plotly.graph_objects.layout.Template``."""

# Legible on the white and on the dark background of a notebook, which plotly cannot ask for.
INK: Final = "#6e7b88"
GREY: Final = "#8a97a6"
BLUE: Final = "#3f78a8"
HAZE: Final = "rgba(63, 120, 168, 0.22)"
UP: Final = "#2a7f6f"
DOWN: Final = "#c8553d"
NUMBER: Final = ",.6~f"
"""How prices and volumes are written where one is pointed at: some are of a millionth."""

PALE_BLUE: Final = "rgba(63, 120, 168, 0.35)"
GRID: Final = "rgba(128, 140, 152, 0.22)"

_EDGE: Final = "rgba(128, 140, 152, 0.6)"
_CLEAR: Final = "rgba(0, 0, 0, 0)"
_CARD: Final = "rgba(250, 251, 252, 0.96)"
_CARD_INK: Final = "#1f2933"
_UPLOAD_BUTTONS: Final = ("sendChartToCloud", "sendDataToCloud", "editInChartStudio")
_PLOTLYS_OWN: Final = (None, "plotly", "none")
_FONT: Final = "Inter, Helvetica Neue, Helvetica, Arial, sans-serif"
_AXIS: Final[dict[str, Any]] = {
    "zeroline": False,
    "ticks": "outside",
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 10},
}
_AXIS_COLOURS: Final[dict[str, Any]] = {
    "gridcolor": GRID,
    "linecolor": _EDGE,
    "tickcolor": _EDGE,
}
_COLOURS: Final[dict[str, Any]] = {
    "font": {"family": _FONT, "size": 12, "color": INK},
    "paper_bgcolor": _CLEAR,
    "plot_bgcolor": _CLEAR,
    "hoverlabel": {
        "bgcolor": _CARD,
        "bordercolor": _EDGE,
        "font": {"size": 12, "color": _CARD_INK},
    },
}
_LOOK: Final[dict[str, Any]] = {
    "margin": {"l": 68, "r": 28, "t": 78, "b": 52},
    "hovermode": "x unified",
    "modebar": {"remove": list(_UPLOAD_BUTTONS)},
    "legend": {
        "orientation": "h",
        "x": 1,
        "xanchor": "right",
        "y": 1.0,
        "yanchor": "bottom",
        "itemsizing": "constant",
        "bgcolor": _CLEAR,
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


def figure(view: View, heights: list[float], *, height: int = 560) -> go.Figure:
    """Panels below each other on one time axis.

    A template that the view or ``plotly.io.templates.default`` names decides on all colours but
    those of the data. Without one there is no background: that of the notebook shows, dark or not.

    Raises
    ------
    MissingExtraError
        plotly is not installed.
    InputError
        There is no such template.
    """
    try:
        subplots = import_module("plotly.subplots")
        templates = import_module("plotly.io").templates
    except ImportError as error:
        raise MissingExtraError("plotly is not installed: pip install 'ibticks[lab]'") from error
    template = view.template
    if template is None and templates.default not in _PLOTLYS_OWN:
        template = templates.default
    drawn: go.Figure = subplots.make_subplots(
        rows=len(heights),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=0.045,
    )
    try:
        drawn.update_layout(**_LOOK, height=height, template=template or "none")
    except ValueError as error:
        raise InputError(
            f"template={template!r} is none of plotly's: there are {', '.join(templates)}"
        ) from error
    if template is None:
        drawn.update_layout(**_COLOURS)
    colours = _AXIS_COLOURS if template is None else {}
    drawn.update_xaxes(**_AXIS, **colours, showline=True)
    drawn.update_yaxes(**_AXIS, **colours)
    return drawn


def titled(drawn: go.Figure, head: str, below: str) -> go.Figure:
    """The figure with a title, and a line below it in grey."""
    drawn.update_layout(
        title_text=f"<b>{escape(head)}</b><br>"
        f"<span style='font-size:12px;color:{GREY}'>{below}</span>",
        title_font_size=17,
    )
    return drawn


def price_axis(drawn: go.Figure) -> None:
    """Make the first axis one of prices, with as many decimals as tell its labels apart.

    Plotly chooses the decimals by the distance of the labels, also after zooming: a fixed number of
    them would write the same label several times.
    """
    drawn.update_yaxes(
        title_text="price", separatethousands=True, exponentformat="none", row=1, col=1
    )


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
