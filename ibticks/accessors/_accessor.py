"""``.ticks``: what can be asked of a frame of ticks or bars, whatever library it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from ibticks import analysis
from ibticks.accessors._delegation import measure, measures
from ibticks.accessors._libraries import Given, named

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from ibticks.accessors._plotting import Plot

__all__ = ["Ticks"]

T = TypeVar("T")


class Ticks(Generic[T]):
    """The measures of :mod:`ibticks.analysis` on one frame, and windows, panels and plots of it.

    Methods have the names, the arguments and the docstrings of the functions they call, less the
    first argument, which is this frame, and return a frame of the same library: a polars
    ``LazyFrame`` stays lazy, in pandas and xarray times keep their nanoseconds and are UTC. A
    missing column is an error that says which ticks carry it. Other frames among the arguments
    (``quotes=``) may be of any library.

    A polars frame is used as it is, but that decimals become float64. One of pandas or xarray is
    converted at each call, which takes some tenths of a second for a million ticks; columns of text
    are most of it.

    In pandas, a time index is taken for the column ``timestamp``, and is the index of the result
    too; rows are numbered from 0 otherwise. In xarray, the dimension is ``timestamp``, or the one
    there is, if it is of times; where a result has no times, ``contract_id`` (of a panel,
    ``contract``) if each contract has one row, and ``row`` if not. What was computed is noted in
    ``df.attrs["ibticks"]["measures"]``, in xarray in the JSON of ``ds.attrs["ibticks"]``.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame, polars.LazyFrame or xarray.Dataset
        With ibticks' columns, as :class:`ibticks.Selection` gives it.

    Examples
    --------
    >>> import pandas as pd
    >>> quotes = pd.DataFrame({"bid_price": [187.49], "ask_price": [187.53]})
    >>> Ticks(quotes).mid()["mid"].tolist()
    [187.51]
    >>> Ticks(quotes).vwap()
    Traceback (most recent call last):
        ...
    ibticks.errors.UnknownColumnError: ...vwap...needs timestamp, price, size; the frame has
    bid_price, ask_price. ...
    """

    __slots__ = ("frame",)

    frame: T

    def __init__(self, frame: T) -> None:
        self.frame = frame

    # What of the time there is.
    session = measure(analysis.session)
    last = measure(analysis.last)
    since_open = measure(analysis.since_open)

    # Bars.
    time_bars = measure(analysis.time_bars)
    tick_bars = measure(analysis.tick_bars)
    volume_bars = measure(analysis.volume_bars)
    dollar_bars = measure(analysis.dollar_bars)
    imbalance_bars = measure(analysis.imbalance_bars)
    run_bars = measure(analysis.run_bars)

    # Prices.
    mid = measure(analysis.mid)
    microprice = measure(analysis.microprice)
    spread = measure(analysis.spread)
    vwap = measure(analysis.vwap)
    twap = measure(analysis.twap)
    rolling_vwap = measure(analysis.rolling_vwap)
    rolling_twap = measure(analysis.rolling_twap)
    anchored_vwap = measure(analysis.anchored_vwap)
    anchored_twap = measure(analysis.anchored_twap)
    bollinger_bands = measure(analysis.bollinger_bands)
    volume_profile = measure(analysis.volume_profile)

    # Who traded, and which way.
    trade_sign = measure(analysis.trade_sign)
    signed_volume = measure(analysis.signed_volume)
    delta = measure(analysis.delta)
    cumulative_delta = measure(analysis.cumulative_delta)
    order_flow_imbalance = measure(analysis.order_flow_imbalance)
    quote_imbalance = measure(analysis.quote_imbalance)
    vpin = measure(analysis.vpin)

    # What it costs.
    quoted_spread = measure(analysis.quoted_spread)
    effective_spread = measure(analysis.effective_spread)
    realized_spread = measure(analysis.realized_spread)
    price_impact = measure(analysis.price_impact)
    kyle_lambda = measure(analysis.kyle_lambda)
    amihud = measure(analysis.amihud)
    roll = measure(analysis.roll)

    # How much prices move.
    realized_variance = measure(analysis.realized_variance)
    two_scale_rv = measure(analysis.two_scale_rv)
    realized_kernel = measure(analysis.realized_kernel)
    bipower_variation = measure(analysis.bipower_variation)
    signature = measure(analysis.signature)
    parkinson = measure(analysis.parkinson)
    garman_klass = measure(analysis.garman_klass)
    rogers_satchell = measure(analysis.rogers_satchell)
    yang_zhang = measure(analysis.yang_zhang)

    # When ticks come, and how good they are.
    interarrival = measure(analysis.interarrival)
    intensity = measure(analysis.intensity)
    staleness = measure(analysis.staleness)
    latency = measure(analysis.latency)
    gaps = measure(analysis.gaps)
    coverage = measure(analysis.coverage)
    duplicates = measure(analysis.duplicates)
    crossed_quotes = measure(analysis.crossed_quotes)
    outliers = measure(analysis.outliers)
    quality_report = measure(analysis.quality_report)

    # Cleaned, as R's highfrequency does it.
    trades_cleanup = measures(analysis.trades_cleanup)
    quotes_cleanup = measures(analysis.quotes_cleanup)
    no_zero_prices = measure(analysis.no_zero_prices)
    no_zero_quotes = measure(analysis.no_zero_quotes)
    rm_corrected = measure(analysis.rm_corrected)
    rm_large_spread = measure(analysis.rm_large_spread)
    rm_negative_spread = measure(analysis.rm_negative_spread)
    rm_quote_outliers = measure(analysis.rm_quote_outliers)
    rm_trade_outliers = measure(analysis.rm_trade_outliers)
    sales_condition = measure(analysis.sales_condition)
    select_exchange = measure(analysis.select_exchange)

    # Streams put together.
    quotes_at = measure(analysis.quotes_at)
    align = measure(analysis.align)
    last_value = measure(analysis.last_value)
    refresh_time = measure(analysis.refresh_time)
    merge_same_timestamp = measure(analysis.merge_same_timestamp)

    def panel(self, *, names: Mapping[int, str] | None = None) -> xr.Dataset:
        """Bars of several contracts as one dataset ``[contract, time]``.

        Parameters
        ----------
        names : mapping of int to str, optional
            What to call each contract id along ``contract``, such as symbols; the coordinate
            ``contract_id`` keeps the ids. By default they are the labels.

        Returns
        -------
        xarray.Dataset
            Whatever library the bars are of. A variable for each column: numbers float64 (NaN where
            a contract has no bar), times ``datetime64[ns]`` in naive UTC; with ``long_name`` and
            ``units``, and the metadata of the bars in ``ds.attrs["ibticks"]``. A lazy frame is
            collected. ``to_netcdf`` and ``to_zarr`` keep all of it, and a panel has ``.ticks`` too.

        Raises
        ------
        UnknownColumnError
            There is no ``timestamp`` or no ``contract_id``.
        InputError
            A contract has several bars at one time.

        Examples
        --------
        >>> import polars as pl
        >>> from ibticks.sample import sample
        >>> trades = pl.read_parquet(sample("ibm_trades").path)
        >>> bars = Ticks(trades.with_columns(contract_id=8314)).time_bars("1h")
        >>> dict(Ticks(bars).panel(names={8314: "IBM"}).sizes)
        {'contract': 1, 'time': 12}
        """
        from ibticks.accessors._panels import to_panel

        given = Given(self.frame)
        return to_panel(given.polars(), names=names, attributes=given.noted("panel()"))

    @property
    def plot(self) -> Plot[T]:
        """Pictures of the frame; ``.ticks.plot()`` picks one by what the frame holds.

        Raises
        ------
        MissingExtraError
            plotly is not installed.
        """
        from ibticks.accessors._plotting import Plot

        return Plot(self.frame)

    def __repr__(self) -> str:
        return f"<ticks of {named(self.frame)}>"

    def _repr_html_(self) -> str:
        from ibticks.accessors._listing import listing

        names = [name for name in vars(Ticks) if name in analysis.__all__]
        return listing(names, repr(self)[1:-1])
