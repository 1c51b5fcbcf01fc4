"""``.ticks.plot``: pictures a trading desk would keep, interactive, and drawn without a network."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from ibticks.accessors._canvas import PlotOptions, View
from ibticks.accessors._delegation import describe_frame, to_polars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    import plotly.graph_objects as go
    import polars as pl

    from ibticks.analysis.engine import SigningMethod

__all__ = ["Plot"]

T = TypeVar("T")
Method = TypeVar("Method", bound="Callable[..., Any]")


def _with_options(method: Method) -> Method:
    """Show the plot options in the signature of a method, for completion in notebooks."""
    signature = inspect.signature(method)
    *own, _ = signature.parameters.values()
    parameters = [*own, *inspect.signature(View.of).parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


class Plot(Generic[T]):
    """Plots of one frame of ticks or bars; called, the one that suits its columns.

    Each is a plotly figure of some hundred kilobytes at most, however many ticks it is of: what
    would fall on the same pixels is drawn once. All take these arguments:

    market : Market or str, optional
        Such as ``"US"``: only its sessions are shown, on its clock; nights, weekends, holidays and
        breaks are folded away. Without it, all there is, on the clock of ``tz``.
    session : str
        Session type of the market: ``"regular"``, ``"extended"``, ...
    tz : str, optional
        Time zone of the axis; that of the market, else UTC.
    name : str, optional
        Title of the picture; by default the symbol of the contract, else its id.
    contract : int, optional
        Contract id, where the frame has several.
    template : str or plotly.graph_objects.layout.Template, optional
        Plotly's theme, such as ``"plotly_dark"``. By default ``plotly.io.templates.default``; where
        that is plotly's own, the picture has no background and takes that of the notebook.

    Frames of other ticks (``quotes=``) may be of any library. Without ``quotes``, a frame of both
    trades and quotes has them itself.

    Raises
    ------
    MissingExtraError
        plotly is not installed.
    InputError
        There is nothing to plot, or ticks of several contracts.
    UnknownColumnError
        A column is missing; the message says which ticks carry it.

    Examples
    --------
    >>> import polars as pl
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> figure = Plot(trades).candles("30m", market="US", name="IBM")
    >>> [trace.name for trace in figure.data]
    ['price', 'VWAP', 'volume']
    """

    __slots__ = ("frame",)

    frame: T

    def __init__(self, frame: T) -> None:
        self.frame = frame

    @_with_options
    def __call__(
        self,
        *,
        quotes: Any = None,
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot bars as :meth:`candles`, ticks as :meth:`price`; arguments as there."""
        view = View.of(**options)
        frame = to_polars(self.frame)
        if {"open", "mid_open"} & set(frame.collect_schema()):
            return self.candles(**options)
        from ibticks.accessors._price_plots import price

        return price(frame, _other(quotes), view)

    @_with_options
    def price(
        self,
        *,
        quotes: Any = None,
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot each trade, by its size, in the band from bid to ask; below it volume or the spread.

        Mid points are drawn as a line.

        Parameters
        ----------
        quotes : frame, optional
            The quotes, where they are in a frame of their own.
        **options
            As in :class:`Plot`.
        """
        from ibticks.accessors._price_plots import price

        view = View.of(**options)
        return price(to_polars(self.frame), _other(quotes), view)

    @_with_options
    def candles(
        self,
        every: str | timedelta | None = None,
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot candlesticks with the average price since the opening, and volume.

        Parameters
        ----------
        every : str or timedelta, optional
            The length of a bar; by default such that there are about two hundred. A frame of bars
            is drawn as it is. Without trades, bars are of the middle of bid and ask.
        **options
            As in :class:`Plot`. Without a market, the average is since the first bar.
        """
        from ibticks.accessors._price_plots import candles

        view = View.of(**options)
        return candles(to_polars(self.frame), every, view)

    @_with_options
    def cumulative_delta(
        self,
        every: str | timedelta | None = None,
        *,
        quotes: Any = None,
        method: SigningMethod | None = None,
        quote_delay: str | timedelta = "0s",
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot the price, and below it volume bought less volume sold: by bar, and in total.

        Parameters
        ----------
        every : str or timedelta, optional
            The length of a bar; by default such that there are about two hundred.
        quotes, method, quote_delay
            As in :func:`ibticks.analysis.cumulative_delta`: without a method, the column ``sign``
            if there is one; else Lee and Ready where there are quotes, and the tick rule where
            there are none.
        **options
            As in :class:`Plot`.
        """
        from ibticks.accessors._summary_plots import cumulative_delta

        view = View.of(**options)
        frame, other = to_polars(self.frame), _other(quotes)
        return cumulative_delta(frame, every, other, method, quote_delay, view)

    @_with_options
    def volume_profile(
        self,
        step: float | None = None,
        *,
        share: float = 0.7,
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot volume by price, with the point of control and the value area, and the price.

        Parameters
        ----------
        step : float, optional
            The distance of levels; by default such that there are about sixty.
        share : float
            Fraction of the volume in the value area.
        **options
            As in :class:`Plot`.
        """
        from ibticks.accessors._summary_plots import volume_profile

        view = View.of(**options)
        return volume_profile(to_polars(self.frame), step, share, view)

    @_with_options
    def day(
        self,
        every: str | timedelta = "5m",
        *,
        quotes: Any = None,
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot spread and activity by the time of day: median and middle half of several days.

        Parameters
        ----------
        every : str or timedelta
            The length of a bar.
        quotes : frame, optional
            The quotes, where they are in a frame of their own.
        **options
            As in :class:`Plot`.
        """
        from ibticks.accessors._summary_plots import day

        view = View.of(**options)
        return day(to_polars(self.frame), every, _other(quotes), view)

    @_with_options
    def heatmap(
        self,
        value: str = "volume",
        every: str | timedelta = "15m",
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot a value as colour: days from top to bottom, the time of day from left to right.

        Parameters
        ----------
        value : {"volume", "count", "spread", "range"}
            Volume; how many ticks; the mean spread, of quotes; or the highest less the lowest price
            in basis points.
        every : str or timedelta
            The length of a cell.
        **options
            As in :class:`Plot`.
        """
        from ibticks.accessors._summary_plots import heatmap

        view = View.of(**options)
        return heatmap(to_polars(self.frame), value, every, view)

    @_with_options
    def signature(
        self,
        every: Sequence[str | timedelta] | None = None,
        *,
        quotes: Any = None,
        **options: Unpack[PlotOptions],
    ) -> go.Figure:
        """Plot realised volatility by sampling interval, with two scales and a kernel.

        Parameters
        ----------
        every : sequence of str or timedelta, optional
            The intervals; those of :func:`ibticks.analysis.signature` by default.
        quotes : frame, optional
            Quotes, for the same of their mid.
        **options
            As in :class:`Plot`. Days are kept apart by the clock, and their variances averaged.
        """
        from ibticks.accessors._summary_plots import signature

        view = View.of(**options)
        return signature(to_polars(self.frame), every, _other(quotes), view)

    def __repr__(self) -> str:
        return f"<plots of {describe_frame(self.frame)}>"


def _other(frame: Any) -> pl.DataFrame | pl.LazyFrame | None:
    return None if frame is None else to_polars(frame)
