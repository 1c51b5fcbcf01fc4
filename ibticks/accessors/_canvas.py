"""Canvas of the plots: the contract, clock and sessions shown, and one style of figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict

import numpy as np
import polars as pl

from ibticks.analysis.engine import (
    finite_column,
    key_columns,
    require,
    session_start,
    session_table,
    time_ns,
)
from ibticks.calendar import find_timezone
from ibticks.calendar import market as find_market
from ibticks.config import NANOSECONDS
from ibticks.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ibticks._types import SessionTypeLike
    from ibticks.calendar import Market, SessionTable


__all__ = [
    "BLUE",
    "DOWN",
    "GREY",
    "GRID",
    "HAZE",
    "INK",
    "NUMBER_FORMAT",
    "PALE_BLUE",
    "UP",
    "PlotOptions",
    "Template",
    "View",
    "bar_length",
    "drawable_sizes",
    "make_figure",
    "price_axis",
    "set_time_axis",
    "set_title",
    "thin_rows",
]

_MINUTE_NS: Final = 60 * NANOSECONDS
_BAR_LENGTHS_NS: Final = {
    name: round(minutes * _MINUTE_NS)
    for name, minutes in {
        "1s": 1 / 60, "5s": 1 / 12, "15s": 1 / 4, "30s": 1 / 2, "1m": 1, "2m": 2, "5m": 5,
        "10m": 10, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "1d": 1440,
    }.items()
}  # fmt: skip
_DEFAULT_BARS: Final = 200
_DEFAULT_BUCKETS: Final = 1_000
_MAX_BREAKS: Final = 100


class PlotOptions(TypedDict, total=False):
    """Keyword arguments of all plots, described in :class:`ibticks.accessors.Plot`."""

    market: Market | str | None
    session: SessionTypeLike
    tz: str | None
    name: str | None
    contract: int | None
    template: Template | None


@dataclass(frozen=True, slots=True)
class View:
    """Contract, clock and sessions that a plot shows.

    Attributes
    ----------
    market : Market or None
        Only its sessions are shown, and what lies between them is folded away.
    session : str
        Session type of the market.
    zone : str
        The time zone of the axis.
    name : str or None
        Title of the plot; None for the symbol of the contract, else its id.
    contract : int or None
        Contract id, where a frame has several.
    by_day : bool
        Whether what is shown stands at its trading day: bars of whole sessions, which would be of
        no one width between nights that are folded away.
    template : str or plotly.graph_objects.layout.Template or None
        Plotly's theme of the picture; None for the default.
    """

    market: Market | None
    session: str
    zone: str
    name: str | None
    contract: int | None
    by_day: bool = False
    template: Template | None = None

    @classmethod
    def of(
        cls,
        *,
        market: Market | str | None = None,
        session: SessionTypeLike = "regular",
        tz: str | None = None,
        name: str | None = None,
        contract: int | None = None,
        template: Template | None = None,
    ) -> View:
        """Return the view of the options of a plot.

        Examples
        --------
        >>> View.of(market="US").zone
        'America/New_York'
        """
        if isinstance(contract, str):
            raise InputError(
                f"contract={contract!r}: a contract is chosen by its id; what it is called in the "
                "picture says name=..."
            )
        known = find_market(market) if isinstance(market, str) else market
        zone = tz or ("UTC" if known is None else known.timezone)
        find_timezone(zone)
        return cls(known, session, zone, name, contract, template=template)

    @property
    def table(self) -> SessionTable | None:
        """Sessions shown; None if all time is."""
        if self.market is None:
            return None
        return session_table(self.market, self.session, caller="a plot")

    def rows(self, frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Return the rows to draw, collected.

        Raises
        ------
        InputError
            The frame has several contracts, and none is chosen; or nothing is left.
        """
        require(frame, "timestamp", caller="a plot")
        lazy = frame.lazy()
        keys = key_columns(frame)
        if self.contract is not None and keys:
            lazy = lazy.filter(pl.col("contract_id") == self.contract)
        table = self.table
        if table is not None:
            lazy = lazy.filter(session_start(table).is_not_null())
        result = drawable_sizes(lazy).collect()
        contracts = result["contract_id"].unique().sort().to_list() if keys else []
        if len(contracts) > 1:
            some = ", ".join(map(str, contracts[:5])) + (", …" if len(contracts) > 5 else "")
            raise InputError(
                f"a plot is of one contract, and there are {some}: choose one, as in "
                f"contract={contracts[0]}"
            )
        if result.is_empty():
            of = "" if self.contract is None else f" of contract {self.contract}"
            shown = ""
            if self.market is not None:
                shown = f" in the {self.session} sessions of {self.market.name}"
            raise InputError(f"there is nothing{of} to plot{shown}")
        return result

    def of_bars(self, bars: pl.DataFrame) -> View:
        """Return the view by day, if no session has two of the bars.

        Examples
        --------
        >>> from datetime import UTC, datetime
        >>> days = [datetime(2025, 1, day, 15, tzinfo=UTC) for day in (13, 14)]
        >>> bars = pl.DataFrame({"timestamp": days})
        >>> daily = View.of(market="US").of_bars(bars)
        >>> bars.select(daily.clock().dt.strftime("%d %H:%M")).to_series().to_list()
        ['13 00:00', '14 00:00']
        """
        if self.table is None or bars.height < 2:
            return self
        sessions = bars.select(session_start(self.table)).to_series()
        return replace(self, by_day=sessions.n_unique() == bars.height)

    @property
    def bar_width(self) -> float | None:
        """Width of daily bars in milliseconds: plotly counts days that are folded away."""
        return 0.85 * 86_400_000 if self.by_day else None

    def clock(self, name: str = "timestamp") -> pl.Expr:
        """Return a time as the wall clock of the zone shows it: plotly knows no time zones."""
        table = self.table
        if self.by_day and table is not None:

            def day(starts: pl.Series) -> pl.Series:
                place = np.searchsorted(table.start_ns, starts.to_numpy())
                return pl.Series(table.days[place].astype("M8[ns]"))

            return session_start(table).map_batches(day, pl.Datetime("ns"), is_elementwise=True)
        return pl.col(name).dt.convert_time_zone(self.zone).dt.replace_time_zone(None)

    def parted(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with ``_x``, their clock, and an empty row where a line ends at a close.

        Examples
        --------
        >>> from datetime import UTC, datetime
        >>> days = [datetime(2025, 1, day, 15, tzinfo=UTC) for day in (13, 14)]
        >>> rows = pl.DataFrame({"timestamp": days, "close": [10.5, 10.7]})
        >>> View.of(market="US").parted(rows)["close"].to_list()
        [10.5, None, 10.7]
        """
        shown = rows.with_columns(_x=self.clock())
        if self.table is None or self.by_day:
            return shown
        session = rows.select(session_start(self.table)).to_series()
        seams = (session != session.shift()).arg_true().to_numpy()
        if not len(seams):
            return shown
        ends = shown[seams - 1].select("_x").with_columns(_at=pl.Series(seams - 0.5))
        shown = shown.with_columns(_at=pl.int_range(pl.len()).cast(pl.Float64))
        return pl.concat([shown, ends], how="diagonal").sort("_at").drop("_at")

    def breaks(self, start_ns: int, end_ns: int) -> list[tuple[str, str]]:
        """Return the breaks to fold away between two instants: close to open, by the wall clock.

        By day, those on which nothing is traded. With a great many sessions, only what is longer
        than a day is.
        """
        table = self.table
        if table is None:
            return []
        first, last = table.ended(start_ns), table.started(end_ns)
        if self.by_day:
            days = table.days[first:last]
            apart = zip(days[:-1] + 1, days[1:], strict=True)
            return [(f"{after}", f"{then}") for after, then in apart if after < then]
        closes, opens = table.end_ns[first : last - 1], table.start_ns[first + 1 : last]
        pauses = [pause for session in range(first, last) for pause in table.breaks(session)]
        gaps = [*zip(closes.tolist(), opens.tolist(), strict=True), *pauses]
        gaps = [gap for gap in gaps if gap[1] > gap[0]]
        if len(gaps) > _MAX_BREAKS:
            gaps = [gap for gap in gaps if gap[1] - gap[0] > 1440 * _MINUTE_NS]
        frame = pl.DataFrame(gaps, ["close", "open"], orient="row").cast(pl.Datetime("ns", "UTC"))
        texts = frame.select(
            self.clock(name).dt.to_string("%Y-%m-%dT%H:%M:%S") for name in ("close", "open")
        )
        return [(close, reopening) for close, reopening in texts.rows()]


def drawable_sizes(ticks: pl.LazyFrame) -> pl.LazyFrame:
    """Return ticks whose NaN, infinite and negative sizes are null.

    Examples
    --------
    >>> ticks = pl.LazyFrame({"size": [5.0, float("nan"), float("inf"), -1.0]})
    >>> drawable_sizes(ticks).collect()["size"].to_list()
    [5.0, None, None, None]
    """
    if "size" not in ticks.collect_schema():
        return ticks
    size = finite_column("size")
    return ticks.with_columns(size=pl.when(size >= 0).then(size))


def bar_length(rows: pl.DataFrame, view: View, bars: int = _DEFAULT_BARS) -> str:
    """Return the length of bars of which about so many fill the time that is shown.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> day = [datetime(2025, 1, 10, hour, tzinfo=UTC) for hour in (15, 21)]
    >>> bar_length(pl.DataFrame({"timestamp": day}), View.of())
    '2m'
    """
    ns = rows.select(time_ns()).to_series().to_numpy()
    if view.table is None:
        shown = int(ns[-1] - ns[0])
    else:
        hours = np.unique(ns // (60 * _MINUTE_NS))
        shown = min(int(ns[-1] - ns[0]), len(hours) * 60 * _MINUTE_NS)
    return min(
        _BAR_LENGTHS_NS, key=lambda name: abs(np.log(max(shown, 1) / bars / _BAR_LENGTHS_NS[name]))
    )


def thin_rows(rows: pl.DataFrame, *columns: str, buckets: int = _DEFAULT_BUCKETS) -> pl.DataFrame:
    """Reduce rows to as many as look the same.

    They are, for each interval, the first and the last row, and those with the least and the
    greatest value of each column.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> start = datetime(2025, 1, 10, tzinfo=UTC)
    >>> many = pl.DataFrame(
    ...     {
    ...         "timestamp": [start + timedelta(milliseconds=i) for i in range(100_000)],
    ...         "price": [float(i % 7) for i in range(100_000)],
    ...     }
    ... )
    >>> few = thin_rows(many, "price")
    >>> 2000 <= few.height <= 4000, few["price"].max()
    (True, 6.0)
    """
    if rows.height <= 2 * buckets:
        return rows
    ns = rows.select(time_ns()).to_series().to_numpy()
    # Nights are folded away: only the minutes that have rows take room.
    shown = len(np.unique(ns // _MINUTE_NS)) * _MINUTE_NS
    bucket = pl.Series("_bucket", ns // max(shown // buckets, 1))
    value = [pl.col(name) for name in columns]
    remaining = (
        rows.select(*columns)
        .with_columns(bucket)
        .with_row_index("_row")
        .group_by("_bucket")
        .agg(
            pl.col("_row").first().alias("_first"),
            pl.col("_row").last().alias("_last"),
            *(pl.col("_row").get(item.arg_min()).alias(f"_low{i}") for i, item in enumerate(value)),
            *(pl.col("_row").get(item.arg_max()).alias(f"_top{i}") for i, item in enumerate(value)),
        )
        .drop("_bucket")
    )
    picked = np.unique(np.concatenate([item.drop_nulls().to_numpy() for item in remaining]))
    return rows[picked]


Template: TypeAlias = Any
"""Name of a plotly template, or a ``plotly.graph_objects.layout.Template``."""

# Legible on white and on dark notebooks: plotly cannot find out which it is.
INK: Final = "#6e7b88"
GREY: Final = "#8a97a6"
BLUE: Final = "#3f78a8"
HAZE: Final = "rgba(63, 120, 168, 0.22)"
UP: Final = "#2a7f6f"
DOWN: Final = "#c8553d"
NUMBER_FORMAT: Final = ",.6~f"
"""Format of prices and volumes in a tooltip: six digits, since some are a millionth."""

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


def make_figure(view: View, heights: list[float], *, height: int = 560) -> go.Figure:
    """Make a figure of panels below each other on one time axis.

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


def set_title(drawn: go.Figure, head: str, below: str) -> go.Figure:
    """Set the title of a figure, and a line below it in grey."""
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


def set_time_axis(
    drawn: go.Figure, view: View, times: pl.Series, x: str | None = None
) -> go.Figure:
    """Make an axis show the view's clock, and fold away the time it does not show.

    Parameters
    ----------
    drawn : plotly.graph_objects.Figure
    view : View
        The clock to show.
    times : polars.Series
        Times of all that is drawn, in UTC nanoseconds.
    x : str, optional
        The one axis that shows time, where there are others.
    """
    start, end = int(times.min()), int(times.max())  # type: ignore[arg-type]
    breaks = [{"bounds": list(value)} for value in view.breaks(start, end)]
    pointed = "%a %d %b %Y" if view.by_day else "%a %d %b %Y, %H:%M:%S"
    axes = {"rangebreaks": breaks, "hoverformat": pointed}
    zone = {"title_text": view.zone.rpartition("/")[2].replace("_", " ")}
    if x is not None:
        drawn.update_layout({x: axes | {"title": {"text": zone["title_text"]}}})
        return drawn
    drawn.update_xaxes(**axes)
    drawn.update_xaxes(**zone, row=_last_row(drawn))
    return drawn


def _last_row(drawn: go.Figure) -> int:
    rows = drawn._get_subplot_rows_columns()[0]
    return int(max(rows))
