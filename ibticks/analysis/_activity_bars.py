"""Bars that close when enough has happened: ticks, volume, value, imbalances, runs.

References
----------
M. López de Prado (2018), *Advances in Financial Machine Learning*, Wiley, sections 2.3.1 and 2.3.2.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from ibticks.analysis._bar_columns import Of, aggregates, rows_of
from ibticks.analysis._columns import F, apart, by, like, require, within
from ibticks.analysis._compiled import compiled
from ibticks.analysis._grouping import in_a_row, in_time, kept
from ibticks.errors import InputError

__all__ = [
    "Informed",
    "dollar_bars",
    "expectations",
    "imbalance_bars",
    "informed_bars",
    "run_bars",
    "tick_bars",
    "volume_bars",
]

Amount: TypeAlias = Literal["tick", "volume", "dollar"]
"""Amount of a trade: one, its size, or the absolute value of price times size."""

Informed: TypeAlias = Literal["imbalance_bars", "run_bars"]

_AMOUNTS: Final[dict[str, pl.Expr]] = {
    "tick": pl.lit(1.0),
    "volume": pl.col("size"),
    # A negative price changes hands for money, too.
    "dollar": (pl.col("price") * pl.col("size")).abs(),
}
_THETA: Final[dict[Informed, pl.Expr]] = {
    "imbalance_bars": pl.col("_signed").sum().alias("imbalance"),
    "run_bars": pl.max_horizontal(
        pl.col("_signed").clip(0).sum(), -pl.col("_signed").clip(None, 0).sum()
    ).alias("run"),
}


def tick_bars(ticks: F, n: int, *, of: Of = "trades", partial: bool = False) -> F:
    """Bars of ``n`` rows each.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    n : int
        How many rows make a bar.
    of : {"trades", "quotes", "mids"}
        Of which rows.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not full.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars`; ``timestamp`` is the
        time of its first row.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``n`` is below 1.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = tick_bars(trades, 1000)
    >>> bars.height, set(bars["count"])
    (33, {1000})
    """
    if not isinstance(n, int) or n < 1:
        raise InputError(f"tick_bars: n={n!r} must be an int of at least 1")
    keys = apart(ticks)
    place = within(pl.int_range(pl.len()), keys)
    bar = place // n
    if not partial:
        bar = pl.when(bar < within(pl.len(), keys) // n).then(bar)
    return _bars(ticks, rows_of(ticks, of, what="tick_bars").with_columns(_bar=bar), aggregates(of))


def volume_bars(ticks: F, volume: float, *, partial: bool = False) -> F:
    """Bars in which ``volume`` or more was traded.

    A bar closes with the trade that brings its volume to the threshold; the next begins at nothing.
    Decimals count as they are written: ten trades of 0.1 fill a bar of 1.0.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    volume : float
        Sum of sizes that closes a bar.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not full.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars`; ``timestamp`` is the
        time of its first trade.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``volume`` is not above 0.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = volume_bars(trades, 100_000)
    >>> bars.height, bars["volume"].min()
    (52, 100004.0)
    """
    return _filled(ticks, "volume", volume, partial, "volume_bars")


def dollar_bars(ticks: F, value: float, *, partial: bool = False) -> F:
    """Bars in which ``value`` or more changed hands, price times size.

    A bar closes with the trade that brings its value to the threshold; the next begins at nothing.
    Decimals count as they are written, a negative price by its absolute value. A contract's
    multiplier is not in its ticks: of a future, ``value`` is in points.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    value : float
        Sum of price times size that closes a bar, in the currency of the contract.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not full.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars`; ``timestamp`` is the
        time of its first trade.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``value`` is not above 0.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> dollar_bars(trades, 100_000_000).select("open", "close", "count").rows()[0]
    (182.1, 180.86, 2647)
    """
    return _filled(ticks, "dollar", value, partial, "dollar_bars")


def imbalance_bars(
    ticks: F,
    amount: Amount = "tick",
    *,
    expected_ticks: int,
    span: float = 20,
    limits: tuple[float, float] | None = None,
    sign: str | None = None,
    partial: bool = False,
) -> F:
    r"""Bars that close when buyers, or sellers, outweigh the others more than expected.

    With :math:`b_t` the side of a trade (1 bought, -1 sold) and :math:`v_t` its amount, the
    imbalance is :math:`\theta_T = \sum_{t=1}^T b_t v_t`, and a bar is the shortest for which

    .. math:: |\theta_T| \ge E_0[T] \, |E_0[b_t v_t]|,

    where :math:`E_0[b_t v_t] = 2v^+ - E_0[v_t]`, for ticks :math:`2P[b_t = 1] - 1`.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival, of any contracts and tick types.
    amount : {"tick", "volume", "dollar"}
        What a trade counts for: 1, its size, or price times size.
    expected_ticks : int
        Length of the first bar of each contract, of which nothing is expected yet.
    span : float
        Of the exponential averages, in bars: the weight of a bar falls by
        ``1 - 2 / (span + 1)`` with the next.
    limits : (float, float), optional
        Least and most that :math:`E_0[T]` may become. Without limits a threshold that has grown may
        feed on itself, as the author warns of: larger bars are expected to be larger still.
    sign : str, optional
        A column with the side of each trade, 1 or -1, for instance from ``trade_sign``; 0 or null
        where it is not known. By default the tick rule: 1 if the price is above the one before, -1
        if below, else as before; 0 until the price first changes.
    partial : bool
        Whether the last bar of each contract comes, too, if it is not closed.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars` and ``imbalance``, its
        :math:`\theta_T`. A lazy frame stays lazy, but does not stream: the rows of a contract are
        taken at once.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``amount`` is none of the three, or a number is out of its range.

    Notes
    -----
    The book leaves open how its averages are taken. Here, at the close of each bar:
    :math:`E_0[T]` is the exponential average of the lengths of all bars so far;
    :math:`E_0[b_t v_t]` that of :math:`b_t v_t` over all trades so far, with a span of
    ``span * expected_ticks`` trades. Both weigh as ``ewm_mean(adjust=True)`` does. Where the
    expected imbalance is nearly nothing, bars become as short as one trade.

    References
    ----------
    López de Prado (2018), section 2.3.2.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = imbalance_bars(trades, "volume", expected_ticks=500, limits=(100, 2000))
    >>> bars.select("count", "imbalance").head(2).rows()
    [(500, 69281.0), (2210, -66609.0)]
    """
    given = expectations("imbalance_bars", amount, expected_ticks, span, limits, sign)
    return _informed(ticks, "imbalance_bars", given, sign, partial)


def run_bars(
    ticks: F,
    amount: Amount = "tick",
    *,
    expected_ticks: int,
    span: float = 20,
    limits: tuple[float, float] | None = None,
    sign: str | None = None,
    partial: bool = False,
) -> F:
    r"""Bars that close when one side has traded more than expected, whatever the other did.

    With :math:`b_t` the side of a trade and :math:`v_t` its amount, the run is

    .. math:: \theta_T = \max\Big\{\sum_{b_t = 1} v_t, \sum_{b_t = -1} v_t\Big\},

    and a bar is the shortest for which

    .. math:: \theta_T \ge E_0[T] \max\{P[b_t = 1] E_0[v_t | b_t = 1],
              (1 - P[b_t = 1]) E_0[v_t | b_t = -1]\}.

    Parameters
    ----------
    ticks, amount, expected_ticks, span, limits, sign, partial
        As of :func:`imbalance_bars`.

    Returns
    -------
    same as ticks
        One row a bar, with the columns of :func:`ibticks.analysis.time_bars` and ``run``, its
        :math:`\theta_T`. A lazy frame stays lazy, but does not stream.

    Raises
    ------
    UnknownColumnError
        A column is missing.
    InputError
        ``amount`` is none of the three, or a number is out of its range.

    Notes
    -----
    At the close of each bar, :math:`E_0[T]` is the exponential average of the lengths of all bars
    so far, :math:`P[b_t = 1]` that of their shares of buys (among trades whose side is known), and
    :math:`E_0[v_t | b_t]` those of their mean amounts of a buy and of a sell; bars without such a
    trade are left out of the average. All weigh as ``ewm_mean(adjust=True)`` does.

    References
    ----------
    López de Prado (2018), section 2.3.2.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = run_bars(trades, expected_ticks=500, limits=(100, 2000))
    >>> bars.select("count", "run").head(2).rows()
    [(500, 282.0), (474, 283.0)]
    """
    given = expectations("run_bars", amount, expected_ticks, span, limits, sign)
    return _informed(ticks, "run_bars", given, sign, partial)


def expectations(
    what: Informed,
    amount: Amount,
    expected_ticks: int,
    span: float,
    limits: tuple[float, float] | None,
    sign: str | None,
) -> tuple[list[pl.Expr], tuple[float, ...]]:
    """What the kernel of :func:`imbalance_bars` or :func:`run_bars` is given.

    Returns
    -------
    inputs : list of polars.Expr
        Prices, amounts and sides, of the rows that bars are made of.
    constants : tuple of float

    Raises
    ------
    InputError
        ``amount`` is none of the three, or a number is out of its range.

    Examples
    --------
    >>> expectations("run_bars", "tick", 500, 20, None, None)[1]
    (500.0, 20.0, 0.0, inf)
    """
    fewest, most = (0.0, float("inf")) if limits is None else limits
    if amount not in _AMOUNTS:
        raise InputError(f"{what} of {amount!r}: there are {', '.join(get_args(Amount))}")
    if expected_ticks < 1 or span < 1 or not 0 <= fewest <= most:
        raise InputError(
            f"{what}: expected_ticks={expected_ticks!r} and span={span!r} must be at least 1, and "
            f"limits={limits!r} the lower first"
        )
    side = pl.lit(None, pl.Float64) if sign is None else pl.col(sign).cast(pl.Float64)
    inputs = [pl.col("price").cast(pl.Float64), _AMOUNTS[amount], pl.when(side != 0).then(side)]
    return inputs, (float(expected_ticks), float(span), float(fewest), float(most))


def informed_bars(ticks: F, rows: pl.LazyFrame, what: Informed, partial: bool) -> F:
    """The bars of rows of ``rows_of`` with ``_bar _signed``.

    Of those the kernel gives; see :func:`ibticks.analysis.imbalance_bars`.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame(
    ...     {"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)] * 2, "price": [1.0, 2.0], "size": 5.0}
    ... )
    >>> rows = ticks.lazy().with_columns(_bar=0, _signed=pl.lit(1.0))
    >>> informed_bars(ticks, rows, "imbalance_bars", False)["imbalance"].to_list()
    [2.0]
    """
    return _bars(ticks, _finished(rows, partial), [*aggregates("trades"), _THETA[what]])


def _filled(ticks: F, amount: Amount, threshold: float, partial: bool, what: str) -> F:
    if not threshold > 0:
        raise InputError(f"{what}: a threshold of {threshold!r} closes no bar; give one above 0")

    bar = compiled(
        "filled_bars",
        [_AMOUNTS[amount]],
        float(threshold),
        keys=apart(ticks),
        results={"bar": pl.Int64()},
    )
    rows = rows_of(ticks, "trades", what=what).with_columns(_bar=bar)
    return _bars(ticks, _finished(rows, partial), aggregates("trades"))


def _informed(
    ticks: F,
    what: Informed,
    given: tuple[list[pl.Expr], tuple[float, ...]],
    sign: str | None,
    partial: bool,
) -> F:
    rows = rows_of(ticks, "trades", what=what)
    if sign is not None:
        require(ticks, sign, what=what)
    inputs, constants = given
    results = {"bar": pl.Int64(), "signed": pl.Float64()}
    found = compiled(what, inputs, *constants, keys=apart(ticks), results=results)
    rows = rows.with_columns(_found=found).with_columns(
        _bar=pl.col("_found").struct.field("bar"), _signed=pl.col("_found").struct.field("signed")
    )
    return informed_bars(ticks, rows, what, partial)


def _finished(rows: pl.LazyFrame, partial: bool) -> pl.LazyFrame:
    """The rows of bars that are closed; kernels number those of the last one ``-1 - number``."""
    bar = pl.col("_bar")
    number = pl.when(bar < 0).then(-1 - bar if partial else None).otherwise(bar)
    return rows.with_columns(_bar=number)


def _bars(ticks: F, rows: pl.LazyFrame, columns: list[pl.Expr]) -> F:
    """The bars of numbered rows; those without a number are in none."""
    keys: list[str] = by(ticks)
    rows, start = rows.drop_nulls("_bar"), pl.col("timestamp").first()
    if in_time(ticks):
        ordered = in_a_row(rows, pl.col("_bar"), *kept(ticks, []), start, *columns)
    else:
        bars = rows.group_by("_bar", *keys).agg(start, *columns)
        ordered = bars.sort("timestamp", *keys, "_bar")
    return like(
        ticks,
        ordered.select("timestamp", *keys, pl.exclude("timestamp", *keys, "_bar")),
        engine="streaming",
    )
