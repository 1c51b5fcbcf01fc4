"""Pictures of how the volatility that is measured depends on how often one looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks import analysis
from ibticks.accessors._canvas import BLUE, DOWN, GREY, figure, titled
from ibticks.accessors._price_plots import Frame, days, label, priced, refuse
from ibticks.analysis.engine import columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    import plotly.graph_objects as go

    from ibticks.accessors._view import View

__all__ = ["signature"]

_TICKS = {1: "1s", 5: "5s", 15: "15s", 60: "1m", 300: "5m", 900: "15m", 3600: "1h", 86400: "1d"}


def signature(
    frame: Frame,
    every: Sequence[str | timedelta] | None,
    quotes: Frame | None,
    view: View,
    name: str | None,
) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.signature`."""
    day = view.clock().dt.date().alias("_day")
    trades = priced(frame, view)
    source = frame if quotes is None else quotes
    lines: list[tuple[pl.DataFrame, str, str, str]] = []
    if trades is not None:
        lines.append((trades, "price", "trades", DOWN))
    if {"bid_price", "ask_price"} <= set(source.collect_schema()):
        mids = analysis.mid(view.rows(columns.quotes(source.lazy())))
        lines.append((mids, "mid", "mids of quotes", BLUE))
    if not lines:
        refuse(frame, "price", what="a signature plot")
    drawn = figure(view, [1.0], height=480)
    times: list[float] = []
    for rows, column, what, colour in lines:
        chosen = {} if every is None else {"every": every}
        found = analysis.signature(rows, column=column, per=day, **chosen)
        curve = found.group_by("every").agg(pl.col("realized_variance").mean()).sort("every")
        times = (curve["every"].dt.total_nanoseconds() / 1e9).to_list()
        drawn.add_scatter(
            x=times,
            y=curve["realized_variance"].sqrt() * 100,
            mode="lines+markers",
            name=what,
            line={"color": colour, "width": 1.8},
            marker={"size": 6},
            hovertemplate="%{y:.3f}%",
        )
    rows, column, what, _ = lines[0]
    scales = analysis.two_scale_rv(rows, column=column, per=day)["two_scale_rv"]
    kernel = analysis.realized_kernel(rows, column=column, per=day)["realized_kernel"]
    for value, said, dash in ((scales, "two scales", "dash"), (kernel, "realised kernel", "dot")):
        level = value.mean()
        if isinstance(level, float) and level > 0:
            drawn.add_scatter(
                x=[times[0], times[-1]],
                y=[level**0.5 * 100] * 2,
                mode="lines",
                name=f"{said} of {what}, {level**0.5:.2%}",
                line={"color": GREY, "width": 1.4, "dash": dash},
                hoverinfo="skip",
            )
    drawn.update_xaxes(
        type="log",
        title_text="time between prices",
        tickvals=list(_TICKS),
        ticktext=list(_TICKS.values()),
        hoverformat=",~f",
        ticksuffix="s",
    )
    drawn.update_yaxes(title_text="realised volatility, %", rangemode="tozero")
    shown = [each for each, _, _, _ in lines]
    several = shown[0].select(day.n_unique()).item()
    said = f"{days(shown, view)}: square root of the realised variance of a day"
    said += f", mean of {several} days" if several > 1 else ""
    return titled(drawn, f"{label(shown[0], name)}: signature plot", said)
