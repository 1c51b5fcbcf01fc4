"""Plots of summaries: delta, volume by price, time of day, heat maps and signature plots."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ibticks import analysis
from ibticks.accessors._canvas import (
    BLUE,
    DOWN,
    GREY,
    GRID,
    HAZE,
    INK,
    NUMBER_FORMAT,
    PALE_BLUE,
    UP,
    View,
    bar_length,
    drawable_sizes,
    make_figure,
    price_axis,
    set_time_axis,
    set_title,
    thin_rows,
)
from ibticks.accessors._price_plots import (
    Frame,
    contract_label,
    drawable_trades,
    format_days,
    make_bars,
    refuse_empty,
)
from ibticks.analysis.engine import columns, duration_ns, key_columns, require, time_ns
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from ibticks.accessors._canvas import View
    from ibticks.analysis.engine import SigningMethod


__all__ = ["cumulative_delta", "day", "heatmap", "signature", "volume_profile"]

_DEFAULT_LEVELS = 60


def cumulative_delta(
    frame: Frame,
    every: str | timedelta | None,
    quotes: Frame | None,
    method: SigningMethod | None,
    quote_delay: str | timedelta,
    view: View,
) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.cumulative_delta`."""
    require(frame, "timestamp", "price", "size", caller="cumulative_delta")
    here = drawable_sizes(frame.lazy()).collect()
    known = set(here.columns)
    if method is None and "sign" not in known:
        both = quotes is not None or {"bid_price", "ask_price"} <= known
        method = "lee_ready" if both else "tick"
    other = None if quotes is None else quotes.lazy().collect()
    if view.contract is not None and other is not None and key_columns(other):
        other = other.filter(pl.col("contract_id") == view.contract)
    # Signed before the sessions are selected: the first trade is signed by earlier ticks.
    signed = analysis.signed_volume(here, method=method, quotes=other, quote_delay=quote_delay)
    trades = view.rows(signed)
    length = every or bar_length(trades, view)
    bars = make_bars(trades, length, view)
    sums = make_bars(trades.with_columns(size=pl.col("signed_volume")), length, view)
    moved = sums["volume"]
    view = view.of_bars(bars)
    bars = bars.with_columns(_x=view.clock())
    drawn = make_figure(view, [0.5, 0.28, 0.22], height=660)
    path = view.parted(bars)
    drawn.add_scatter(
        x=path["_x"],
        y=path["close"],
        mode="lines",
        name="price",
        showlegend=False,
        line={"color": INK, "width": 1.2},
        hovertemplate=f"%{{y:{NUMBER_FORMAT}}}",
        row=1,
        col=1,
    )
    drawn.add_scatter(
        x=bars["_x"],
        y=moved.cum_sum(),
        mode="lines",
        name="cumulative delta",
        showlegend=False,
        line={"color": BLUE, "width": 1.6},
        fill="tozeroy",
        fillcolor=HAZE,
        hovertemplate=f"%{{y:+{NUMBER_FORMAT}}}",
        row=2,
        col=1,
    )
    drawn.add_bar(
        x=bars["_x"],
        y=moved,
        width=view.bar_width,
        name="delta",
        showlegend=False,
        row=3,
        col=1,
        marker_color=[UP if value >= 0 else DOWN for value in moved],
        hovertemplate=f"%{{y:+{NUMBER_FORMAT}}}",
    )
    price_axis(drawn)
    drawn.update_yaxes(title_text="cumulative", row=2, zeroline=True, zerolinecolor=GREY)
    drawn.update_yaxes(title_text="delta", row=3, zeroline=True, zerolinecolor=GREY)
    rule = "as signed" if method is None else f"by {method.replace('_', '-')}"
    text = f"{format_days([trades], view)}: bought less sold, {rule}, {length} a bar"
    set_title(drawn, f"{contract_label(trades, view)}: cumulative delta", text)
    return set_time_axis(drawn, view, bars.select(columns.time_ns()).to_series())


def volume_profile(frame: Frame, step: float | None, share: float, view: View) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.volume_profile`."""
    require(frame, "timestamp", "price", "size", caller="volume_profile")
    trades = view.rows(columns.trades(frame.lazy()))
    step = step or _round_step(trades["price"])
    levels = analysis.volume_profile(trades, step, share=share)
    area: list[float] = levels.filter("value_area")["price"].to_list()
    control: float = levels.filter("point_of_control")["price"].item()
    drawn = make_figure(view, [1.0], height=560)
    few = view.parted(thin_rows(trades, "price"))
    drawn.add_scatter(
        x=few["_x"],
        y=few["price"],
        mode="lines",
        name="price",
        showlegend=False,
        line={"color": INK, "width": 1, "shape": "hv"},
        hovertemplate=f"%{{y:{NUMBER_FORMAT}}}",
    )
    colours = [
        DOWN if point else BLUE if inside else PALE_BLUE
        for point, inside in levels.select("point_of_control", "value_area").rows()
    ]
    drawn.add_bar(
        x=levels["volume"],
        y=levels["price"],
        orientation="h",
        width=step * 0.86,
        xaxis="x2",
        marker_color=colours,
        name="volume",
        showlegend=False,
        hovertemplate=f"%{{x:{NUMBER_FORMAT}}} at %{{y:{NUMBER_FORMAT}}}<extra></extra>",
    )
    drawn.update_layout(
        xaxis_domain=[0, 0.65],
        xaxis2={
            "domain": [0.69, 1],
            "anchor": "y",
            "title": {"text": "volume"},
            "gridcolor": GRID,
            "zeroline": False,
            "nticks": 5,
            "automargin": True,
        },
        hovermode="closest",
    )
    drawn.update_layout(margin_r=96)
    for value, line_name, colour, anchor in (
        (area[-1], "value high", BLUE, "bottom"),
        (control, "control", DOWN, "middle"),
        (area[0], "value low", BLUE, "top"),
    ):
        drawn.add_shape(
            type="line",
            xref="paper",
            x0=0,
            x1=1,
            y0=value,
            y1=value,
            line={"color": colour, "width": 1, "dash": "dot"},
        )
        drawn.add_annotation(
            xref="paper",
            x=1.005,
            xanchor="left",
            y=value,
            yanchor=anchor,
            showarrow=False,
            text=f"{line_name} {value:,.10g}",
            font={"size": 11, "color": colour},
        )
    price_axis(drawn)
    text = (
        f"{format_days([trades], view)}: {levels['volume'].sum():,.0f} traded, levels of {step:g}, "
    )
    set_title(
        drawn,
        f"{contract_label(trades, view)}: volume by price",
        f"{text}{share:.0%} in the value area",
    )
    return set_time_axis(drawn, view, trades.select(columns.time_ns()).to_series(), x="xaxis")


def _round_step(prices: pl.Series) -> float:
    """Return a round step that makes about sixty levels, and no less than the prices differ by."""
    span = float(prices.max() - prices.min())  # type: ignore[operator, arg-type]
    raw = span / _DEFAULT_LEVELS if span > 0 else abs(float(prices[0])) / 1e4 or 1.0
    scale = 10.0 ** floor(log10(raw))
    return next(nice * scale for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if nice * scale >= raw)


_HEATMAP_VALUES: Final = {
    "volume": "volume",
    "count": "ticks",
    "spread": "mean spread",
    "range": "high less low, basis points",
}
_MAX_CELLS_WITH_GAPS: Final = 200
"""Of how many times of day at most: with more, gaps would take all the room."""

_COLOUR_SCALE: Final = [
    [0, "#f4f7fa"],
    [0.15, "#c9dceb"],
    [0.45, "#6fa3cb"],
    [0.75, "#2f6a9c"],
    [1, "#12344f"],
]


def day(frame: Frame, every: str | timedelta, quotes: Frame | None, view: View) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.day`."""
    spreads = _spreads(frame, quotes, every, view)
    trades = drawable_trades(frame, view)
    panels: list[tuple[pl.DataFrame, str, str]] = []
    if spreads is not None:
        panels.append((spreads, "spread", BLUE))
    if trades is not None:
        volume = pl.col("size").cast(pl.Float64).fill_nan(None).sum()
        panels.append((_cell_values(trades, every, view, volume), "volume", GREY))
    if spreads is not None and trades is None:
        source = view.rows(columns.quotes(frame.lazy()))
        panels.append(
            (_cell_values(source, every, view, pl.len().cast(pl.Float64)), "quotes", GREY)
        )
    if not panels:
        refuse_empty(frame, "price", "size", caller="a plot of the day")
    drawn = make_figure(view, [1.0] * len(panels), height=180 + 200 * len(panels))
    width_ms = duration_ns(every) / 1e6
    for row, (values, title, colour) in enumerate(panels, 1):
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
            hovertemplate=f"%{{y:{NUMBER_FORMAT}}}",
        )
        drawn.update_yaxes(title_text=title, rangemode="tozero", row=row)
    _clock_axis(drawn, view)
    shown = [panel for panel, _, _ in panels]
    count = max(value["_day"].n_unique() for value in shown)
    text = f"median and middle half of {count} days"
    if count == 1:
        text = f"{shown[0]['_day'][0]:%A, %-d %B %Y}"
    source = trades if trades is not None else view.rows(frame)
    weighed = "" if spreads is None else "; the spread is weighed by time"
    text += f", {every} a bar{weighed}"
    return set_title(drawn, f"{contract_label(source, view)} through the day", text)


def heatmap(frame: Frame, value: str, every: str | timedelta, view: View) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.heatmap`."""
    if value not in _HEATMAP_VALUES:
        raise InputError(f"no heat map of {value!r}: there are {', '.join(_HEATMAP_VALUES)}")
    if value == "spread":
        cells = _spreads(frame, None, every, view)
        require(frame, "bid_price", "ask_price", caller="a heat map of the spread")
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
        cells = _cell_values(rows, every, view, measure)
    dates, times, table = _cells_as_table(cells, every)
    drawn = make_figure(view, [1.0], height=max(240, 170 + 26 * len(dates)))
    drawn.add_heatmap(
        x=times.dt.offset_by(f"{duration_ns(every) // 2}ns"),
        y=dates,
        z=table,
        hoverongaps=False,
        colorscale=_COLOUR_SCALE,
        xgap=1 if len(times) <= _MAX_CELLS_WITH_GAPS else 0,
        ygap=1,
        colorbar={
            "title": {"text": _HEATMAP_VALUES[value], "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
        },
        zmin=0,
        zmax=cells["value"].quantile(0.98),
        text=[times.dt.strftime("%H:%M").to_list()] * len(dates),
        hovertemplate=f"%{{y}}, %{{text}}: %{{z:{NUMBER_FORMAT}}}<extra></extra>",
    )
    drawn.update_layout(hovermode="closest")
    drawn.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    _clock_axis(drawn, view)
    text = f"{format_days([rows], view)}: {_HEATMAP_VALUES[value]} in {every}"
    return set_title(drawn, f"{contract_label(rows, view)} by day and time of day", text)


def _cells_as_table(
    cells: pl.DataFrame, every: str | timedelta
) -> tuple[list[str], pl.Series, NDArray[np.float64]]:
    """Return days, times and values; times without a value too, for cells of one width."""
    step = duration_ns(every)
    ns = cells["_x"].dt.cast_time_unit("ns").cast(pl.Int64).to_numpy()
    places = (ns - ns.min()) // step
    days = cells["_day"].unique().sort()
    values = np.full((len(days), places.max() + 1), np.nan)
    values[days.search_sorted(cells["_day"]).to_numpy(), places] = cells["value"]
    times = pl.Series(ns.min() + step * np.arange(values.shape[1])).cast(pl.Datetime("ns"))
    return [f"{value:%a %d %b %Y}" for value in days], times, values


def _cell_values(
    rows: pl.DataFrame, every: str | timedelta, view: View, value: pl.Expr
) -> pl.DataFrame:
    """Return a value by day and time of day: ``_day``, ``_x`` (on one day for all), ``value``."""
    return rows.group_by(*_cell_columns(every, view)).agg(value.alias("value"))


def _cell_columns(every: str | timedelta, view: View) -> list[pl.Expr]:
    clock = view.clock()
    length = f"{duration_ns(every)}ns"
    midnight = pl.datetime(2000, 1, 3, time_unit="ns")
    x = (clock.dt.truncate(length) - clock.dt.truncate("1d")) + midnight
    return [clock.dt.date().alias("_day"), x.alias("_x")]


def _spreads(
    frame: Frame, quotes: Frame | None, every: str | timedelta, view: View
) -> pl.DataFrame | None:
    """Return the spread in each cell, weighted by time, without crossed quotes."""
    source = frame if quotes is None else quotes
    if not {"bid_price", "ask_price"} <= set(source.collect_schema()):
        return None
    rows = columns.quotes(source.lazy()).collect()
    if not rows.height:
        return None
    duration = (time_ns().shift(-1) - time_ns()).clip(0, duration_ns(every)).cast(pl.Float64)
    spread = pl.col("ask_price") - pl.col("bid_price")
    sound = spread.is_finite() & (spread >= 0)
    weight = pl.when(sound).then(pl.col("_held"))
    mean = (spread * weight).sum() / weight.sum()
    return _cell_values(
        view.rows(rows).with_columns(_held=duration), every, view, mean.fill_nan(None)
    )


def _clock_axis(drawn: go.Figure, view: View) -> None:
    zone = view.zone.rpartition("/")[2].replace("_", " ")
    # Below a minute, labels without seconds would repeat.
    stops = [
        {"dtickrange": [None, 999], "value": "%H:%M:%S.%L"},
        {"dtickrange": [1_000, 59_999], "value": "%H:%M:%S"},
        {"dtickrange": [60_000, None], "value": "%H:%M"},
    ]
    drawn.update_xaxes(tickformatstops=stops, hoverformat="%H:%M")
    rows = len(drawn._get_subplot_rows_columns()[0])
    drawn.update_xaxes(title_text=f"time of day, {zone}", row=rows)


_AXIS_LABELS_BY_SECONDS = {
    1: "1s",
    5: "5s",
    15: "15s",
    60: "1m",
    300: "5m",
    900: "15m",
    3600: "1h",
    86400: "1d",
}


def signature(
    frame: Frame,
    every: Sequence[str | timedelta] | None,
    quotes: Frame | None,
    view: View,
) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.signature`."""
    day = view.clock().dt.date().alias("_day")
    trades = drawable_trades(frame, view)
    source = frame if quotes is None else quotes
    lines: list[tuple[pl.DataFrame, str, str, str]] = []
    if trades is not None:
        lines.append((trades, "price", "trades", DOWN))
    if {"bid_price", "ask_price"} <= set(source.collect_schema()):
        mids = analysis.mid(view.rows(columns.quotes(source.lazy())))
        lines.append((mids, "mid", "mids of quotes", BLUE))
    if not lines:
        refuse_empty(frame, "price", caller="a signature plot")
    drawn = make_figure(view, [1.0], height=480)
    times: list[float] = []
    for rows, column, line_name, colour in lines:
        chosen = {} if every is None else {"every": every}
        result = analysis.signature(rows, column=column, per=day, **chosen)
        curve = result.group_by("every").agg(pl.col("realized_variance").mean()).sort("every")
        times = (curve["every"].dt.total_nanoseconds() / 1e9).to_list()
        drawn.add_scatter(
            x=times,
            y=curve["realized_variance"].sqrt() * 100,
            mode="lines+markers",
            name=line_name,
            line={"color": colour, "width": 1.8},
            marker={"size": 6},
            hovertemplate="%{y:.3f}%",
        )
    rows, column, line_name, _ = lines[0]
    scales = analysis.two_scale_rv(rows, column=column, per=day)["two_scale_rv"]
    kernel = analysis.realized_kernel(rows, column=column, per=day)["realized_kernel"]
    for value, text, dash in ((scales, "two scales", "dash"), (kernel, "realised kernel", "dot")):
        level = value.mean()
        if isinstance(level, float) and level > 0:
            drawn.add_scatter(
                x=[times[0], times[-1]],
                y=[level**0.5 * 100] * 2,
                mode="lines",
                name=f"{text} of {line_name}, {level**0.5:.2%}",
                line={"color": GREY, "width": 1.4, "dash": dash},
                hoverinfo="skip",
            )
    drawn.update_xaxes(
        type="log",
        title_text="time between prices",
        tickvals=list(_AXIS_LABELS_BY_SECONDS),
        ticktext=list(_AXIS_LABELS_BY_SECONDS.values()),
        hoverformat=",~f",
        ticksuffix="s",
    )
    drawn.update_yaxes(title_text="realised volatility, %", rangemode="tozero")
    shown = [line for line, _, _, _ in lines]
    several = shown[0].select(day.n_unique()).item()
    text = f"{format_days(shown, view)}: square root of the realised variance of a day"
    text += f", mean of {several} days" if several > 1 else ""
    return set_title(drawn, f"{contract_label(shown[0], view)}: signature plot", text)
