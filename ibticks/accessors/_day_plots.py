"""Pictures of days: spread and activity by the time of day, and heat maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ibticks.accessors._canvas import BLUE, GREY, INK, NUMBER, figure, titled
from ibticks.accessors._price_plots import Frame, days, label, priced, refuse
from ibticks.analysis.engine import columns, instant, nanoseconds, require
from ibticks.errors import InputError

if TYPE_CHECKING:
    from datetime import timedelta

    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from ibticks.accessors._view import View

__all__ = ["day", "heatmap"]

_VALUES: Final = {
    "volume": "volume",
    "count": "ticks",
    "spread": "mean spread",
    "range": "high less low, basis points",
}
_GAPS: Final = 200
"""Of how many times of day at most: with more, gaps would take all the room."""

_SCALE: Final = [
    [0, "#f4f7fa"],
    [0.15, "#c9dceb"],
    [0.45, "#6fa3cb"],
    [0.75, "#2f6a9c"],
    [1, "#12344f"],
]


def day(
    frame: Frame, every: str | timedelta, quotes: Frame | None, view: View, name: str | None
) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.day`."""
    spreads = _spreads(frame, quotes, every, view)
    trades = priced(frame, view)
    parts: list[tuple[pl.DataFrame, str, str]] = []
    if spreads is not None:
        parts.append((spreads, "spread", BLUE))
    if trades is not None:
        volume = pl.col("size").cast(pl.Float64).fill_nan(None).sum()
        parts.append((_by_day(trades, every, view, volume), "volume", GREY))
    if spreads is not None and trades is None:
        source = view.rows(columns.quotes(frame.lazy()))
        parts.append((_by_day(source, every, view, pl.len().cast(pl.Float64)), "quotes", GREY))
    if not parts:
        refuse(frame, "price", "size", what="a plot of the day")
    drawn = figure(view, [1.0] * len(parts), height=180 + 200 * len(parts))
    width_ms = nanoseconds(every) / 1e6
    for row, (values, title, colour) in enumerate(parts, 1):
        middle = values.group_by("_x").agg(
            pl.col("value").median(),
            pl.col("value").quantile(0.25).alias("low"),
            pl.col("value").quantile(0.75).alias("high"),
        )
        middle = middle.sort("_x")
        several = values["_day"].n_unique() > 1
        spread = (
            {
                "type": "data",
                "symmetric": False,
                "array": middle["high"] - middle["value"],
                "arrayminus": middle["value"] - middle["low"],
                "color": INK,
                "thickness": 1,
                "width": 0,
            }
            if several
            else None
        )
        drawn.add_bar(
            x=middle["_x"],
            y=middle["value"],
            width=width_ms * 0.86,
            offset=width_ms * 0.07,
            marker_color=colour,
            name=title,
            showlegend=False,
            error_y=spread,
            row=row,
            col=1,
            hovertemplate=f"%{{y:{NUMBER}}}",
        )
        drawn.update_yaxes(title_text=title, rangemode="tozero", row=row)
    _clock_axis(drawn, view)
    shown = [each for each, _, _ in parts]
    count = max(each["_day"].n_unique() for each in shown)
    said = f"median and middle half of {count} days"
    if count == 1:
        said = f"{shown[0]['_day'][0]:%A, %-d %B %Y}"
    source = trades if trades is not None else view.rows(frame)
    weighed = "" if spreads is None else "; the spread is weighed by time"
    said += f", {every} a bar{weighed}"
    return titled(drawn, f"{label(source, name)} through the day", said)


def heatmap(
    frame: Frame, value: str, every: str | timedelta, view: View, name: str | None
) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.heatmap`."""
    if value not in _VALUES:
        raise InputError(f"no heat map of {value!r}: there are {', '.join(_VALUES)}")
    if value == "spread":
        cells = _spreads(frame, None, every, view)
        require(frame, "bid_price", "ask_price", what="a heat map of the spread")
        assert cells is not None
        rows = view.rows(columns.quotes(frame.lazy()))
    else:
        rows = view.rows(frame if value == "count" else columns.trades(frame.lazy()))
        price = pl.col("price")
        measure = {
            "volume": lambda: pl.col("size").cast(pl.Float64).fill_nan(None).sum(),
            "count": lambda: pl.len().cast(pl.Float64),
            "range": lambda: (price.max() / price.min() - 1) * 1e4,
        }[value]()
        cells = _by_day(rows, every, view, measure)
    dates, times, table = _table(cells, every)
    drawn = figure(view, [1.0], height=max(240, 170 + 26 * len(dates)))
    drawn.add_heatmap(
        x=times.dt.offset_by(f"{nanoseconds(every) // 2}ns"),
        y=dates,
        z=table,
        hoverongaps=False,
        colorscale=_SCALE,
        xgap=1 if len(times) <= _GAPS else 0,
        ygap=1,
        colorbar={
            "title": {"text": _VALUES[value], "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
        },
        zmin=0,
        zmax=cells["value"].quantile(0.98),
        text=[times.dt.strftime("%H:%M").to_list()] * len(dates),
        hovertemplate=f"%{{y}}, %{{text}}: %{{z:{NUMBER}}}<extra></extra>",
    )
    drawn.update_layout(hovermode="closest")
    drawn.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    _clock_axis(drawn, view)
    said = f"{days([rows], view)}: {_VALUES[value]} in {every}"
    return titled(drawn, f"{label(rows, name)} by day and time of day", said)


def _table(
    cells: pl.DataFrame, every: str | timedelta
) -> tuple[list[str], pl.Series, NDArray[np.float64]]:
    """Days, times and values; times without a value too, or the ones beside them would be wide."""
    step = nanoseconds(every)
    ns = cells["_x"].dt.cast_time_unit("ns").cast(pl.Int64).to_numpy()
    places = (ns - ns.min()) // step
    days = cells["_day"].unique().sort()
    values = np.full((len(days), places.max() + 1), np.nan)
    values[days.search_sorted(cells["_day"]).to_numpy(), places] = cells["value"]
    times = pl.Series(ns.min() + step * np.arange(values.shape[1])).cast(pl.Datetime("ns"))
    return [f"{each:%a %d %b %Y}" for each in days], times, values


def _by_day(rows: pl.DataFrame, every: str | timedelta, view: View, value: pl.Expr) -> pl.DataFrame:
    """A value by day and time of day: ``_day``, ``_x`` (on one day for all) and ``value``."""
    return rows.group_by(*_cell(every, view)).agg(value.alias("value"))


def _cell(every: str | timedelta, view: View) -> list[pl.Expr]:
    clock = view.clock()
    length = f"{nanoseconds(every)}ns"
    midnight = pl.datetime(2000, 1, 3, time_unit="ns")
    x = (clock.dt.truncate(length) - clock.dt.truncate("1d")) + midnight
    return [clock.dt.date().alias("_day"), x.alias("_x")]


def _spreads(
    frame: Frame, quotes: Frame | None, every: str | timedelta, view: View
) -> pl.DataFrame | None:
    """The spread in each cell, weighted by how long each quote held; crossed quotes as none."""
    source = frame if quotes is None else quotes
    if not {"bid_price", "ask_price"} <= set(source.collect_schema()):
        return None
    rows = columns.quotes(source.lazy()).collect()
    if not rows.height:
        return None
    held = (instant().shift(-1) - instant()).clip(0, nanoseconds(every)).cast(pl.Float64)
    spread = pl.col("ask_price") - pl.col("bid_price")
    sound = spread.is_finite() & (spread >= 0)
    weight = pl.when(sound).then(pl.col("_held"))
    mean = (spread * weight).sum() / weight.sum()
    return _by_day(view.rows(rows).with_columns(_held=held), every, view, mean.fill_nan(None))


def _clock_axis(drawn: go.Figure, view: View) -> None:
    zone = view.zone.rpartition("/")[2].replace("_", " ")
    # Below a minute the labels would all be the same.
    stops = [
        {"dtickrange": [None, 999], "value": "%H:%M:%S.%L"},
        {"dtickrange": [1_000, 59_999], "value": "%H:%M:%S"},
        {"dtickrange": [60_000, None], "value": "%H:%M"},
    ]
    drawn.update_xaxes(tickformatstops=stops, hoverformat="%H:%M")
    rows = len(drawn._get_subplot_rows_columns()[0])
    drawn.update_xaxes(title_text=f"time of day, {zone}", row=rows)
