"""Cleaning rules of Barndorff-Nielsen, Hansen, Lunde and Shephard, one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import polars as pl

from ibticks.analysis._engine import columns
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    finite_column,
    grouping_keys,
    present,
    require,
    time_ns,
)
from ibticks.analysis._engine.grouping import (
    apply_kernel,
    has_complete_quotes,
    number_or_null,
    quote_rows,
    rows_with,
)
from ibticks.analysis._engine.registry import ClockBars, NotIncremental, Rowwise, measure
from ibticks.analysis._engine.sessions import SessionIntervals, SessionSplit
from ibticks.analysis._signing import trades_with_quotes
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from ibticks.calendar import Market

__all__ = [
    "correction_column",
    "merge_same_timestamp",
    "no_zero_prices",
    "no_zero_quotes",
    "rm_corrected",
    "rm_large_spread",
    "rm_negative_spread",
    "rm_quote_outliers",
    "rm_trade_outliers",
    "sales_condition",
    "select_exchange",
]

CONDITIONS: Final = ("", "@", "E", "@E", "F", "FI", "@F", "@FI", "I", "@I")
"""Sale conditions that R's *highfrequency* takes for normal trades of US shares."""

_MAP: Final = pl.Map(pl.String, pl.String)

_NORMAL_MAD_RATIO: Final = 1.4826
"""Standard deviation by median absolute deviation of a normal distribution."""

_PRICE_TOLERANCE: Final = 1e-11
"""Relative tolerance: far above the rounding of a price, far below a change of one."""


@measure("Cleaning", Rowwise())
def no_zero_prices(ticks: Frame) -> Frame:
    """Drop trades at a price of 0 (rule P2); negative prices stay.

    Examples
    --------
    >>> no_zero_prices(pl.DataFrame({"price": [0.0, 1.0, -37.63, None]}))["price"].to_list()
    [1.0, -37.63]
    """
    require(ticks, "price", caller="no_zero_prices")
    remaining = rows_with(ticks, "price").filter(pl.col("price") != 0)
    return collect_like(ticks, remaining, engine="streaming")


@measure("Cleaning", Rowwise())
def no_zero_quotes(ticks: Frame) -> Frame:
    """Drop quotes without a bid and an ask other than 0 (rule P2); negative ones stay.

    Examples
    --------
    >>> no_zero_quotes(pl.DataFrame({"bid_price": [0.0, 1.0], "ask_price": [2.0, 2.0]})).height
    1
    """
    require(ticks, "bid_price", "ask_price", caller="no_zero_quotes")
    if has_complete_quotes(ticks):
        return ticks.clone()
    names = ticks.collect_schema()
    both = [present(name, names) != 0 for name in ("bid_price", "ask_price")]
    return collect_like(ticks, ticks.lazy().filter(*both), engine="streaming")


@measure("Cleaning", Rowwise())
def select_exchange(
    ticks: Frame, exchanges: str | Collection[str], column: str = "exchange"
) -> Frame:
    """Select the ticks of one exchange, or of several (rule P3).

    Examples
    --------
    >>> select_exchange(pl.DataFrame({"exchange": ["N", "Q", None]}), "N").height
    1
    """
    require(ticks, column, caller="select_exchange")
    name = pl.col(column).cast(pl.String)
    wanted = name == exchanges if isinstance(exchanges, str) else name.is_in(list(exchanges))
    return collect_like(ticks, ticks.lazy().filter(wanted), engine="streaming")


@measure("Cleaning", Rowwise())
def sales_condition(ticks: Frame, conditions: Collection[str] = CONDITIONS) -> Frame:
    """Select the trades with a normal sale condition (rule T2).

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``conditions``: a list of words, as IB's come, or a string.
    conditions : collection of str
        The normal ones, each as the words together without spaces; no condition is ``""``.

    Examples
    --------
    >>> sales_condition(pl.DataFrame({"conditions": [[], ["F", "I"], ["T"]]})).height
    2
    """
    require(ticks, "conditions", caller="sales_condition")
    several = isinstance(ticks.collect_schema()["conditions"], pl.List)

    def normal(conditions_column: pl.Series) -> pl.Series:
        words = _together(conditions_column) if several else conditions_column.cast(pl.String)
        # Few values are distinct: only those are parsed.
        different = words.unique()
        bare = different.str.replace_all(r"\s", "").fill_null("")
        wanted = different.filter(bare.is_in(list(conditions)))
        return words.is_in(wanted.to_list(), nulls_equal=True)

    remaining = pl.col("conditions").map_batches(normal, pl.Boolean, is_elementwise=True)
    return collect_like(ticks, ticks.lazy().filter(remaining), engine="streaming")


@measure("Cleaning", Rowwise())
def rm_corrected(ticks: Frame, column: str | None = None) -> Frame:
    """Drop trades that were corrected, cancelled or reported in error (rule T1).

    Of TAQ's correction indicators (``CORR``, ``TR_CORR``), 00 is a regular trade; 01 one that was
    corrected later, 07 and 08 errors and cancelled trades, 10 to 12 the messages that say so. R's
    *highfrequency* keeps those of 0 alone, as this does.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with the correction in a column, or in the map ``metadata`` under ``correction``, as
        imported ones have it: ``store.select(...).with_columns("price", ..., "metadata")``.
    column : str, optional
        Column of the corrections, text or numbers. By default ``correction``, else ``metadata``.

    Returns
    -------
    same as ticks
        The rows without a correction, or with one of zeros only (``0``, ``00``, ``000``).

    Raises
    ------
    UnknownColumnError
        There is no such column.

    References
    ----------
    As for :func:`trades_cleanup`. NYSE, *Daily TAQ client specification*.

    Examples
    --------
    >>> trades = pl.DataFrame({"price": [1.0, 2.0, 3.0], "correction": ["00", "08", None]})
    >>> rm_corrected(trades)["price"].to_list()
    [1.0, 3.0]
    """
    name = column or correction_column(ticks) or "correction"
    require(ticks, name, caller="rm_corrected")
    dtype, indicator = ticks.collect_schema()[name], pl.col(name)
    if isinstance(dtype, pl.Map | pl.List):
        entries = indicator.cast(_MAP) if isinstance(dtype, pl.List) else indicator
        indicator = entries.map.get("correction")
    if dtype.is_numeric():
        regular = (indicator == 0) | (indicator.is_nan() if dtype.is_float() else False)
    else:
        regular = indicator.cast(pl.String).str.contains(r"^\s*0*(\.0*)?\s*$")
    return collect_like(
        ticks, ticks.lazy().filter(regular.fill_null(value=True)), engine="streaming"
    )


def correction_column(ticks: pl.DataFrame | pl.LazyFrame) -> str | None:
    """Return the column that has the corrections, or None."""
    schema = ticks.collect_schema()
    if "correction" in schema:
        return "correction"
    return "metadata" if isinstance(schema.get("metadata"), pl.Map | pl.List) else None


def _together(lists: pl.Series) -> pl.Series:
    """Join the words of each list; most lists have one at most, which is taken as it is."""
    first, several = lists.list.first().cast(pl.String), lists.list.len() > 1
    rows = several.arg_true()
    if not len(rows):
        return first
    return first.scatter(rows, lists.gather(rows).cast(pl.List(pl.String)).list.join(""))


@measure("Cleaning", Rowwise())
def rm_negative_spread(ticks: Frame) -> Frame:
    """Drop quotes whose bid is above their ask (rule Q2); one-sided quotes stay.

    R's *highfrequency* takes out those whose bid is their ask, too.

    Examples
    --------
    >>> rm_negative_spread(pl.DataFrame({"bid_price": [3.0, 2.0], "ask_price": [2.0, 2.0]})).height
    1
    """
    crossed = number_or_null(ticks, "bid_price") > number_or_null(ticks, "ask_price")
    remaining = quote_rows(ticks).filter(~crossed.fill_null(value=False))
    return collect_like(ticks, remaining, engine="streaming")


@measure("Cleaning", NotIncremental("it looks at the median spread of the whole day"))
def rm_large_spread(
    ticks: Frame, times: float = 50.0, *, day: str | pl.Expr | None = None
) -> Frame:
    """Drop quotes whose spread is above a multiple of the day's median (rule Q3).

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``bid_price`` and ``ask_price``.
    times : float
        50 in the paper.
    day : str or polars.Expr, optional
        Column or expression of the day; by default the date of ``timestamp``, in its zone.

    Notes
    -----
    A spread of exactly so many times the median stays; R's *highfrequency* takes it out.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> quotes = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2025, 1, 10, tzinfo=UTC)] * 3,
    ...         "bid_price": [9.99, 9.99, 0.01],
    ...         "ask_price": [10.0, 10.0, 10.0],
    ...     }
    ... )
    >>> rm_large_spread(quotes).height
    2
    """
    require(ticks, "timestamp", "bid_price", "ask_price", caller="rm_large_spread")
    spread = number_or_null(ticks, "ask_price") - number_or_null(ticks, "bid_price")
    typical = _of_day(spread.median(), _days(ticks, day))
    rounding = number_or_null(ticks, "ask_price").abs() * _PRICE_TOLERANCE
    near = (spread <= times * typical + rounding).fill_null(value=True)
    return collect_like(ticks, quote_rows(ticks).filter(near))


@measure("Cleaning", NotIncremental("it looks at what comes after each tick"))
def rm_quote_outliers(
    ticks: Frame, times: float = 10.0, *, window: int = 50, day: str | pl.Expr | None = None
) -> Frame:
    """Drop quotes whose mid is far from those around it (rule Q4).

    Not far is at most ``times`` the median absolute deviation of the mids of the day (times 1.4826,
    as for a normal distribution) from the median of the ``window`` mids around the quote, half
    before and half after, itself not among them.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, ``bid_price`` and ``ask_price``, in order of arrival. Quotes of
        one side have no mid and are left out.
    times : float
        10 in the paper.
    window : int
        50 in the paper; even.
    day
        As in :func:`rm_large_spread`. The window reaches over days.

    Notes
    -----
    The paper has the mean absolute deviation of the window; R's *highfrequency*, which this
    follows, the median one of the day, so that a calm period does not make every change an
    outlier. This is its ``type="standard"``; its default takes the nearest of three medians: of the
    neighbours, of those before, of those after. Towards the ends of the frame there are fewer
    neighbours. Where most mids of a day are the same, the deviation is 0, and only mids that are
    the median of their neighbours stay.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> quotes = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2025, 1, 10, tzinfo=UTC)] * 5,
    ...         "bid_price": [9.99, 9.98, 9.0, 9.99, 9.98],
    ...         "ask_price": [10.0, 10.0, 9.1, 10.0, 10.0],
    ...     }
    ... )
    >>> rm_quote_outliers(quotes).height
    4
    """
    require(ticks, "timestamp", "bid_price", "ask_price", caller="rm_quote_outliers")
    if window < 2 or window % 2:
        raise InputError(
            f"rm_quote_outliers: the window must be even, for two halves, not {window}"
        )
    mid = (pl.col("bid_price") + pl.col("ask_price")) / 2
    rows = quote_rows(ticks).with_columns(_mid=mid).filter(pl.col("_mid").is_finite())
    days = _days(ticks, day)
    median = apply_kernel(
        "neighbour_median",
        [pl.col("_mid")],
        window // 2,
        keys=grouping_keys(ticks),
        results={"median": pl.Float64()},
    )
    off_day = (pl.col("_mid") - _of_day(pl.col("_mid").median(), days)).abs()
    rows = rows.with_columns(_median=median, _off=off_day)
    allowed = times * _NORMAL_MAD_RATIO * _of_day(pl.col("_off").median(), days)
    # A single quote has no neighbours, and its median is null.
    far = (pl.col("_mid") - pl.col("_median")).abs() > allowed
    remaining = rows.filter(~far.fill_null(value=False)).drop("_mid", "_median", "_off")
    return collect_like(ticks, remaining, engine="streaming")


@measure("Cleaning", Rowwise("quotes_in_force", "no_row"))
def rm_trade_outliers(
    ticks: Frame,
    quotes: Frame | None = None,
    *,
    quote_delay: str | timedelta = "0s",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    """Drop trades more than a spread below the bid or above the ask (rule T4).

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and ``price``, in order of arrival.
    quotes, quote_delay
        The quotes (clean ones, best) and how much older than the trade they must at least be, as
        in ``quotes_at``. Trades without a quote of both sides stay.
    market, session_type, sessions : optional
        Sessions, as in ``quotes_at``: the quotes of an earlier one do not count.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2025, 1, 10, tzinfo=UTC)] * 3,
    ...         "price": [None, 10.02, 10.03],
    ...         "bid_price": [10.0, None, None],
    ...         "ask_price": [10.01, None, None],
    ...     }
    ... )
    >>> rm_trade_outliers(ticks)["price"].to_list()
    [10.02]
    """
    require(ticks, "timestamp", "price", caller="rm_trade_outliers")
    split = SessionSplit.of(market, session_type, sessions, caller="rm_trade_outliers")
    with_quotes, remaining = trades_with_quotes(ticks, quotes, quote_delay, split)
    bid, ask, price = pl.col("bid_price"), pl.col("ask_price"), pl.col("price")
    rounding = price.abs() * _PRICE_TOLERANCE
    far = (price > 2 * ask - bid + rounding) | (price < 2 * bid - ask - rounding)
    near = with_quotes.filter(~far.fill_null(value=False)).select(remaining)
    return collect_like(ticks, near, engine="streaming")


def _days(ticks: pl.DataFrame | pl.LazyFrame, day: str | pl.Expr | None) -> list[pl.Expr]:
    keys = [pl.col(key) for key in grouping_keys(ticks)]
    if day is None:
        day = pl.col("timestamp").dt.date()
        if isinstance(ticks, pl.DataFrame) and ticks.height:
            at = pl.col("timestamp")
            first, last = ticks.select(first=at.min().dt.date(), last=at.max().dt.date()).row(0)
            if first == last:
                return keys
    return [*keys, pl.col(day) if isinstance(day, str) else day]


def _of_day(value: pl.Expr, days: list[pl.Expr]) -> pl.Expr:
    return value.over(days) if days else value


How: TypeAlias = Literal["median", "max_volume", "weighted_average"]
"""Which price stands for all."""

_MERGE_RESULTS: Final = {name: pl.Float64() for name in ("value", "sum", "largest", "rows")}


@measure("Joins", ClockBars("by_of", clock="timestamps", per_contract=True))
def merge_same_timestamp(
    ticks: Frame, *, of: Literal["trades", "quotes"] = "trades", how: How = "median"
) -> Frame:
    """Merge the trades, or quotes, of a contract that have the same timestamp.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival; other rows are left out.
    of : {"trades", "quotes"}
        Rows that are merged.
    how : {"median", "max_volume", "weighted_average"}
        The price is the median; that of the largest size (the highest of several); or the average
        weighted by size (the plain average if all sizes are zero). Of a quote, each side by its own
        size.

    Returns
    -------
    same as ticks
        The columns of the ticks and ``count`` (uint32), of how many rows each is made. Sizes are
        the sum; of trades with ``"max_volume"``, the largest. All else is that of the last row.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``of`` or ``how`` is not known.

    Notes
    -----
    As ``mergeTradesSameTimestamp`` and ``mergeQuotesSameTimestamp`` of R's *highfrequency*. Times
    are those of arrival; the trades of one order that swept a book often share one.

    References
    ----------
    O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard (2009), Realized kernels in
    practice: trades and quotes, *Econometrics Journal* 12, C1-C32: rules T3 and Q1.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, tzinfo=UTC)] * 3
    >>> trades = pl.DataFrame({"timestamp": at, "price": [1.0, 2.0, 5.0], "size": [1.0, 1.0, 2.0]})
    >>> merge_same_timestamp(trades).row(0)[1:]
    (2.0, 4.0, 3)
    >>> merge_same_timestamp(trades, how="weighted_average").row(0)[1:]
    (3.25, 4.0, 3)
    """
    sides = {
        "trades": [("price", "size")],
        "quotes": [("bid_price", "bid_size"), ("ask_price", "ask_size")],
    }
    if of not in sides or how not in get_args(How):
        raise InputError(
            f"merge_same_timestamp: of={of!r} is trades or quotes, how={how!r} is one of "
            f"{', '.join(get_args(How))}"
        )
    names: list[str] = [name for side in sides[of] for name in side]
    require(ticks, "timestamp", *names, caller=f"merge_same_timestamp of {of}")
    lazy = ticks.lazy()
    rows = columns.trades(lazy) if of == "trades" else columns.quotes(lazy)
    keys = grouping_keys(ticks)
    code = get_args(How).index(how)
    merges = {
        f"_{price}": apply_kernel(
            "merge_equal_times",
            [time_ns(), finite_column(price), finite_column(size)],
            code,
            keys=keys,
            results=_MERGE_RESULTS,
        )
        for price, size in sides[of]
    }
    merged = {}
    for price, size in sides[of]:
        field = pl.col(f"_{price}").struct.field
        merged[price] = field("value")
        merged[size] = field("largest" if (how, of) == ("max_volume", "trades") else "sum")
        merged["count"] = field("rows")
    last = pl.col("count").is_not_null()
    rows = rows.with_columns(**merges).with_columns(**merged).filter(last)
    return collect_like(ticks, rows.drop(merges).with_columns(pl.col("count").cast(pl.UInt32)))
