"""Pictures of who traded where: cumulative delta and the volume profile."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING

import polars as pl

from ibticks import analysis
from ibticks.accessors._canvas import (
    BLUE,
    DOWN,
    GREY,
    GRID,
    HAZE,
    INK,
    NUMBER,
    PALE_BLUE,
    UP,
    figure,
    finish,
    price_axis,
    titled,
)
from ibticks.accessors._price_plots import Frame, bars_of, days, label
from ibticks.accessors._view import View, drawable_sizes, thinned, width
from ibticks.analysis.engine import by, columns, require

if TYPE_CHECKING:
    from datetime import timedelta

    import plotly.graph_objects as go

    from ibticks.analysis.engine import Method

__all__ = ["cumulative_delta", "volume_profile"]

_LEVELS = 60


def cumulative_delta(
    frame: Frame,
    every: str | timedelta | None,
    quotes: Frame | None,
    method: Method | None,
    quote_delay: str | timedelta,
    view: View,
    name: str | None,
) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.cumulative_delta`."""
    require(frame, "timestamp", "price", "size", what="cumulative_delta")
    here = drawable_sizes(frame.lazy()).collect()
    known = set(here.columns)
    if method is None and "sign" not in known:
        both = quotes is not None or {"bid_price", "ask_price"} <= known
        method = "lee_ready" if both else "tick"
    other = None if quotes is None else quotes.lazy().collect()
    if view.contract is not None and other is not None and by(other):
        other = other.filter(pl.col("contract_id") == view.contract)
    # Signed before it is cut to the sessions: the first trade goes by what was before.
    signed = analysis.signed_volume(here, method=method, quotes=other, quote_delay=quote_delay)
    trades = view.rows(signed)
    length = every or width(trades, view)
    bars = bars_of(trades, length, view)
    sums = bars_of(trades.with_columns(size=pl.col("signed_volume")), length, view)
    moved = sums["volume"]
    view = view.of_bars(bars)
    bars = bars.with_columns(_x=view.clock())
    drawn = figure(view, [0.5, 0.28, 0.22], height=660)
    path = view.parted(bars)
    drawn.add_scatter(
        x=path["_x"],
        y=path["close"],
        mode="lines",
        name="price",
        showlegend=False,
        line={"color": INK, "width": 1.2},
        hovertemplate=f"%{{y:{NUMBER}}}",
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
        hovertemplate=f"%{{y:+{NUMBER}}}",
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
        marker_color=[UP if each >= 0 else DOWN for each in moved],
        hovertemplate=f"%{{y:+{NUMBER}}}",
    )
    price_axis(drawn)
    drawn.update_yaxes(title_text="cumulative", row=2, zeroline=True, zerolinecolor=GREY)
    drawn.update_yaxes(title_text="delta", row=3, zeroline=True, zerolinecolor=GREY)
    rule = "as signed" if method is None else f"by {method.replace('_', '-')}"
    said = f"{days([trades], view)}: bought less sold, {rule}, {length} a bar"
    titled(drawn, f"{label(trades, name)}: cumulative delta", said)
    return finish(drawn, view, bars.select(columns.instant()).to_series())


def volume_profile(
    frame: Frame, step: float | None, share: float, view: View, name: str | None
) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.volume_profile`."""
    require(frame, "timestamp", "price", "size", what="volume_profile")
    trades = view.rows(columns.trades(frame.lazy()))
    step = step or _nice(trades["price"])
    levels = analysis.volume_profile(trades, step, share=share)
    area: list[float] = levels.filter("value_area")["price"].to_list()
    control: float = levels.filter("point_of_control")["price"].item()
    drawn = figure(view, [1.0], height=560)
    few = view.parted(thinned(trades, "price"))
    drawn.add_scatter(
        x=few["_x"],
        y=few["price"],
        mode="lines",
        name="price",
        showlegend=False,
        line={"color": INK, "width": 1, "shape": "hv"},
        hovertemplate=f"%{{y:{NUMBER}}}",
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
        hovertemplate=f"%{{x:{NUMBER}}} at %{{y:{NUMBER}}}<extra></extra>",
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
    for value, what, colour, anchor in (
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
            text=f"{what} {value:,.10g}",
            font={"size": 11, "color": colour},
        )
    price_axis(drawn)
    said = f"{days([trades], view)}: {levels['volume'].sum():,.0f} traded, levels of {step:g}, "
    titled(drawn, f"{label(trades, name)}: volume by price", f"{said}{share:.0%} in the value area")
    return finish(drawn, view, trades.select(columns.instant()).to_series(), x="xaxis")


def _nice(prices: pl.Series) -> float:
    """A round step that makes about sixty levels, and no less than the prices differ by."""
    span = float(prices.max() - prices.min())  # type: ignore[operator, arg-type]
    raw = span / _LEVELS if span > 0 else abs(float(prices[0])) / 1e4 or 1.0
    scale = 10.0 ** floor(log10(raw))
    return next(nice * scale for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if nice * scale >= raw)
