"""Pictures of the price: trades in the band from bid to ask, and candlesticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import polars as pl

from ibticks import analysis
from ibticks.accessors._canvas import (
    BLUE,
    DOWN,
    GREY,
    HAZE,
    INK,
    NUMBER_FORMAT,
    UP,
    View,
    bar_length,
    make_figure,
    price_axis,
    set_time_axis,
    set_title,
    thin_rows,
)
from ibticks.analysis.engine import columns, require, session_start
from ibticks.errors import InputError
from ibticks.frames import symbol_of

if TYPE_CHECKING:
    from datetime import date, timedelta

    import plotly.graph_objects as go

    from ibticks.analysis.engine import BarSource

__all__ = [
    "candles",
    "contract_label",
    "drawable_trades",
    "format_days",
    "make_bars",
    "price",
    "quotes_with_spread",
    "refuse_empty",
]

Frame = pl.DataFrame | pl.LazyFrame

_OHLC = ("open", "high", "low", "close")
_MAX_DOTS = 1_500
_LARGEST_TRADES = 300
_MAX_BANDS = 40


def price(frame: Frame, quotes: Frame | None, view: View) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.price`."""
    band, trades = quotes_with_spread(frame, quotes, view), drawable_trades(frame, view)
    if band is None and trades is None:
        return _mid_points(frame, view)
    drawn = make_figure(view, [0.76, 0.24], height=600)
    if band is not None:
        _band(drawn, band, view)
    if trades is not None:
        _dots(drawn, trades, view, alone=band is None)
        bars = make_bars(trades, bar_length(trades, view), view)
        drawn.add_bar(
            x=bars["_x"],
            y=bars["volume"],
            marker_color=GREY,
            name="volume",
            row=2,
            col=1,
            hovertemplate=f"%{{y:{NUMBER_FORMAT}}}",
            showlegend=False,
        )
        drawn.update_yaxes(title_text="volume", row=2, rangemode="tozero")
    elif band is not None:
        few = view.parted(thin_rows(band, "_spread"))
        drawn.add_scatter(
            x=few["_x"],
            y=few["_spread"],
            mode="lines",
            name="spread",
            showlegend=False,
            line={"shape": "hv", "width": 1, "color": BLUE},
            row=2,
            col=1,
        )
        drawn.update_yaxes(title_text="spread", row=2)
    shown = [value for value in (band, trades) if value is not None]
    price_axis(drawn)
    times = pl.concat([value.select(columns.time_ns()).to_series() for value in shown])
    text = " and ".join(
        f"{value.height:,} {tick_name}"
        for value, tick_name in ((trades, "trades"), (band, "quotes"))
        if value is not None
    )
    set_title(drawn, contract_label(shown[0], view), f"{format_days(shown, view)}: {text}")
    return set_time_axis(drawn, view, times)


def candles(frame: Frame, every: str | timedelta | None, view: View) -> go.Figure:
    """See :meth:`ibticks.accessors.Plot.candles`."""
    rows = view.rows(frame)
    if {"open", "mid_open"} & set(rows.columns):
        bars, text = rows, "bars"
    else:
        length = every or bar_length(rows, view)
        bars, text = make_bars(rows, length, view, _bar_source(rows)), f"bars of {length}"
    if "open" not in bars.columns:
        bars = bars.rename({f"mid_{value}": value for value in _OHLC}, strict=False)
        text += ", of the middle of bid and ask"
    require(bars, "timestamp", *_OHLC, caller="candles")
    view = view.of_bars(bars)
    bars = bars.with_columns(_x=view.clock())
    drawn = make_figure(view, [0.76, 0.24] if "volume" in bars.columns else [1.0], height=580)
    drawn.add_candlestick(
        x=bars["_x"],
        open=bars["open"],
        high=bars["high"],
        low=bars["low"],
        close=bars["close"],
        increasing={"line": {"color": UP, "width": 1}, "fillcolor": UP},
        decreasing={"line": {"color": DOWN, "width": 1}, "fillcolor": DOWN},
        name="price",
        yhoverformat=NUMBER_FORMAT,
        showlegend=False,
        row=1,
        col=1,
    )
    drawn.update_layout(xaxis_rangeslider_visible=False)
    price_axis(drawn)
    if {"vwap", "volume"} <= set(bars.columns):
        path = view.parted(bars.with_columns(_vwap=_session_vwap(bars, view)))
        drawn.add_scatter(
            x=path["_x"],
            y=path["_vwap"],
            mode="lines",
            connectgaps=False,
            line={"color": INK, "width": 1.2, "dash": "dot"},
            name="VWAP",
            row=1,
            col=1,
            hovertemplate="%{y:,.3f}",
        )
    if "volume" in bars.columns:
        rose = bars["close"] >= bars["open"]
        drawn.add_bar(
            x=bars["_x"],
            y=bars["volume"],
            width=view.bar_width,
            name="volume",
            showlegend=False,
            row=2,
            col=1,
            marker={"color": [UP if up else DOWN for up in rose], "opacity": 0.75},
            hovertemplate=f"%{{y:{NUMBER_FORMAT}}}",
        )
        drawn.update_yaxes(title_text="volume", row=2)
    set_title(
        drawn, contract_label(bars, view), f"{format_days([bars], view)}: {bars.height:,} {text}"
    )
    return set_time_axis(drawn, view, bars.select(columns.time_ns()).to_series())


def make_bars(
    ticks: pl.DataFrame, every: str | timedelta, view: View, of: BarSource = "trades"
) -> pl.DataFrame:
    """Return bars, by the sessions of the view if it has some, with ``_x``, their clock."""
    if view.market is None:
        bars = analysis.time_bars(ticks, every, of=of)
    else:
        bars = analysis.time_bars(
            ticks, every, of=of, anchor="session", market=view.market, session_type=view.session
        )
    return bars.with_columns(_x=view.clock())


def quotes_with_spread(frame: Frame, quotes: Frame | None, view: View) -> pl.DataFrame | None:
    """Return the quotes to draw with ``_spread``; None if there are none.

    Where the bid is above the ask, the quote is left out: such quotes last a millisecond.
    """
    source = frame if quotes is None else quotes
    if not {"bid_price", "ask_price"} <= set(source.collect_schema()):
        if quotes is not None:
            require(source, "bid_price", "ask_price", caller="a band from bid to ask")
        return None
    spread = pl.col("ask_price") - pl.col("bid_price")
    rows = columns.quotes(source.lazy()).with_columns(_spread=spread).filter(spread >= 0).collect()
    return view.rows(rows) if rows.height else None


def drawable_trades(frame: Frame, view: View) -> pl.DataFrame | None:
    """Return the trades to draw; None if there are none."""
    if not {"price", "size"} <= set(frame.collect_schema()):
        return None
    rows = columns.trades(frame.lazy()).collect()
    return view.rows(rows) if rows.height else None


def contract_label(rows: pl.DataFrame, view: View) -> str:
    """Return the name of the contract: the one given, its symbol, or its id."""
    if view.name is not None or "contract_id" not in rows.columns:
        return view.name or "Ticks"
    contract_id = rows["contract_id"][0]
    return symbol_of(contract_id) or f"Contract {contract_id}"


def format_days(frames: list[pl.DataFrame], view: View) -> str:
    """Format the days that are shown."""
    dates = pl.concat(frame.select(view.clock().dt.date()).to_series().unique() for frame in frames)
    result: list[date] = dates.sort().to_list()
    first, last = result[0], result[-1]
    if first == last:
        return f"{first:%A, %-d %B %Y}"
    return f"{first:%-d %B %Y} to {last:%-d %B %Y}"


def refuse_empty(frame: Frame, *names: str, caller: str) -> NoReturn:
    """Raise an error that names the missing column, or says that there are no ticks."""
    require(frame, *names, caller=caller)
    raise InputError("there is nothing to plot: no trade, and no quote")


def _bar_source(ticks: pl.DataFrame) -> BarSource:
    """Return the rows that bars are made of: trades, if there are some."""
    prices: dict[str, BarSource] = {"price": "trades", "bid_price": "quotes", "mid_price": "mids"}
    there = (of for name, of in prices.items() if name in ticks.columns and ticks[name].count())
    return next(there, "trades")


def _mid_points(frame: Frame, view: View) -> go.Figure:
    """Plot mid points, as IB sends them."""
    if "mid_price" not in frame.collect_schema():
        refuse_empty(frame, "price", caller="a plot of the price")
    mids = view.rows(columns.mids(frame.lazy()))
    drawn = make_figure(view, [1.0], height=460)
    path = view.parted(thin_rows(mids, "mid_price"))
    drawn.add_scatter(
        x=path["_x"],
        y=path["mid_price"],
        mode="lines",
        name="mid",
        showlegend=False,
        line={"shape": "hv", "width": 1, "color": BLUE},
        hovertemplate=f"%{{y:{NUMBER_FORMAT}}}",
    )
    price_axis(drawn)
    set_title(
        drawn,
        contract_label(mids, view),
        f"{format_days([mids], view)}: {mids.height:,} mid points",
    )
    return set_time_axis(drawn, view, mids.select(columns.time_ns()).to_series())


def _band(drawn: go.Figure, band: pl.DataFrame, view: View) -> None:
    edge: dict[str, Any] = {"shape": "hv", "width": 1, "color": BLUE}
    few = thin_rows(band, "bid_price", "ask_price").with_columns(_x=view.clock())
    # Plotly fills across the gaps in a line: each session is a separate band.
    bands = [few]
    if view.table is not None:
        sessions = few.with_columns(_session=session_start(view.table))
        bands = sessions.partition_by("_session", maintain_order=True)
    for segment in bands if len(bands) <= _MAX_BANDS else [few]:
        drawn.add_scatter(
            x=segment["_x"],
            y=segment["bid_price"],
            mode="lines",
            line=edge,
            name="bid",
            row=1,
            col=1,
            showlegend=False,
            hovertemplate=f"%{{y:{NUMBER_FORMAT}}}",
        )
        drawn.add_scatter(
            x=segment["_x"],
            y=segment["ask_price"],
            mode="lines",
            line=edge,
            fill="tonexty",
            fillcolor=HAZE,
            name="bid to ask",
            legendgroup="band",
            showlegend=segment is bands[0] or segment is few,
            row=1,
            col=1,
            hovertemplate=f"%{{y:{NUMBER_FORMAT}}}<extra>ask</extra>",
        )


def _dots(drawn: go.Figure, trades: pl.DataFrame, view: View, *, alone: bool) -> None:
    if alone:
        line = {"shape": "hv", "width": 1, "color": BLUE}
        path = view.parted(thin_rows(trades, "price"))
        drawn.add_scatter(
            x=path["_x"],
            y=path["price"],
            mode="lines",
            line=line,
            name="price",
            row=1,
            col=1,
            showlegend=False,
            hoverinfo="skip",
        )
    several = trades.height > _MAX_DOTS
    # Among equal sizes, trades of all times, not the earliest.
    chance = pl.int_range(pl.len()).hash()
    few = (
        trades.top_k(_LARGEST_TRADES, by=["size", chance]).sort("timestamp") if several else trades
    )
    few = few.with_columns(_x=view.clock())
    # Plotly refuses a null marker size: a trade without a size gets the smallest marker.
    area = few["size"].fill_null(0.0)
    largest = area.max() or 1.0
    texts = ["no size" if size is None else _format_number(size) for size in few["size"]]
    drawn.add_scatter(
        x=few["_x"],
        y=few["price"],
        mode="markers",
        name=f"the {few.height} largest trades" if several else "trades, by size",
        row=1,
        col=1,
        marker={
            "size": (area / largest).sqrt() * 26,
            "sizemin": 3,
            "color": DOWN,
            "opacity": 0.55,
            "line": {"width": 0},
        },
        customdata=texts,
        hovertemplate=f"%{{customdata}} at %{{y:{NUMBER_FORMAT}}}",
    )


def _format_number(value: float) -> str:
    """Format a number as :data:`NUMBER_FORMAT` has plotly write it."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def _session_vwap(bars: pl.DataFrame, view: View) -> pl.Series:
    table = view.table
    start = pl.lit(0) if table is None else session_start(table)
    value = (pl.col("vwap") * pl.col("volume")).fill_null(0.0)
    so_far = value.cum_sum().over("_session") / pl.col("volume").cum_sum().over("_session")
    return bars.with_columns(_session=start).select(so_far).to_series().fill_nan(None)
