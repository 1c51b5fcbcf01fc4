"""Information-driven bars: they close at an unexpected imbalance or run of trades.

References
----------
M. López de Prado (2018), *Advances in Financial Machine Learning*, Wiley, section 2.3.2.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from ibticks.analysis._bars import AMOUNTS, Amount, closed_rows, numbered_bars
from ibticks.analysis._engine.bars import bar_aggregates, bar_rows
from ibticks.analysis._engine.columns import Frame, grouping_keys, require
from ibticks.analysis._engine.grouping import apply_kernel
from ibticks.analysis._engine.registry import InformationBars, measure
from ibticks.errors import InputError

__all__ = [
    "InformationBarsName",
    "imbalance_bars",
    "kernel_arguments",
    "numbered_information_bars",
    "run_bars",
]

InformationBarsName: TypeAlias = Literal["imbalance_bars", "run_bars"]

_THETA: Final[dict[InformationBarsName, pl.Expr]] = {
    "imbalance_bars": pl.col("_signed").sum().alias("imbalance"),
    "run_bars": pl.max_horizontal(
        pl.col("_signed").clip(0).sum(), -pl.col("_signed").clip(None, 0).sum()
    ).alias("run"),
}


@measure("Bars", InformationBars())
def imbalance_bars(
    ticks: Frame,
    amount: Amount = "tick",
    *,
    expected_ticks: int,
    span: float = 20,
    limits: tuple[float, float] | None = None,
    sign: str | None = None,
    partial: bool = False,
) -> Frame:
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
        Amount of a trade: 1, its size, or price times size.
    expected_ticks : int
        Length of the first bar of each contract, of which nothing is expected yet.
    span : float
        Span of the exponential averages, in bars: the weight of a bar falls by
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
    kernel_inputs = kernel_arguments("imbalance_bars", amount, expected_ticks, span, limits, sign)
    return _information_bars(ticks, "imbalance_bars", kernel_inputs, sign, partial)


@measure("Bars", InformationBars())
def run_bars(
    ticks: Frame,
    amount: Amount = "tick",
    *,
    expected_ticks: int,
    span: float = 20,
    limits: tuple[float, float] | None = None,
    sign: str | None = None,
    partial: bool = False,
) -> Frame:
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
    kernel_inputs = kernel_arguments("run_bars", amount, expected_ticks, span, limits, sign)
    return _information_bars(ticks, "run_bars", kernel_inputs, sign, partial)


def kernel_arguments(
    caller: InformationBarsName,
    amount: Amount,
    expected_ticks: int,
    span: float,
    limits: tuple[float, float] | None,
    sign: str | None,
) -> tuple[list[pl.Expr], tuple[float, ...]]:
    """Return the inputs and constants of the kernel of a measure.

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
    >>> kernel_arguments("run_bars", "tick", 500, 20, None, None)[1]
    (500.0, 20.0, 0.0, inf)
    """
    fewest, most = (0.0, float("inf")) if limits is None else limits
    if amount not in AMOUNTS:
        raise InputError(f"{caller} of {amount!r}: there are {', '.join(get_args(Amount))}")
    if expected_ticks < 1 or span < 1 or not 0 <= fewest <= most:
        raise InputError(
            f"{caller}: expected_ticks={expected_ticks!r} and span={span!r} must be at least 1, "
            f"and limits={limits!r} the lower first"
        )
    side = pl.lit(None, pl.Float64) if sign is None else pl.col(sign).cast(pl.Float64)
    inputs = [pl.col("price").cast(pl.Float64), AMOUNTS[amount], pl.when(side != 0).then(side)]
    return inputs, (float(expected_ticks), float(span), float(fewest), float(most))


def numbered_information_bars(
    ticks: Frame, rows: pl.LazyFrame, caller: InformationBarsName, partial: bool
) -> Frame:
    """Return the bars of rows with ``_bar _signed``.

    The kernel computes both; see :func:`ibticks.analysis.imbalance_bars`.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> ticks = pl.DataFrame(
    ...     {"timestamp": [datetime(2025, 1, 10, tzinfo=UTC)] * 2, "price": [1.0, 2.0], "size": 5.0}
    ... )
    >>> rows = ticks.lazy().with_columns(_bar=0, _signed=pl.lit(1.0))
    >>> numbered_information_bars(ticks, rows, "imbalance_bars", False)["imbalance"].to_list()
    [2.0]
    """
    return numbered_bars(
        ticks, closed_rows(rows, partial), [*bar_aggregates("trades"), _THETA[caller]]
    )


def _information_bars(
    ticks: Frame,
    caller: InformationBarsName,
    kernel_inputs: tuple[list[pl.Expr], tuple[float, ...]],
    sign: str | None,
    partial: bool,
) -> Frame:
    rows = bar_rows(ticks, "trades", caller=caller)
    if sign is not None:
        require(ticks, sign, caller=caller)
    inputs, constants = kernel_inputs
    results = {"bar": pl.Int64(), "signed": pl.Float64()}
    result = apply_kernel(caller, inputs, *constants, keys=grouping_keys(ticks), results=results)
    rows = rows.with_columns(_found=result).with_columns(
        _bar=pl.col("_found").struct.field("bar"), _signed=pl.col("_found").struct.field("signed")
    )
    return numbered_information_bars(ticks, rows, caller, partial)
