"""Prices of a market: mid, microprice, spread, averages, and volume by price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibticks.analysis._engine.bars import bar_rows
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    key_columns,
    per_contract,
    present,
    relative_to_mid,
    require,
    time_ns,
)
from ibticks.analysis._engine.grouping import (
    group_rows,
    has_complete_quotes,
    is_all_set,
    rows_with,
    trade_rows,
)
from ibticks.analysis._engine.registry import Additive, BySessions, Rowwise, Snapshot, measure
from ibticks.analysis._engine.sessions import SessionIntervals, SessionSplit, within_session
from ibticks.analysis._flow import price_level, trade_size
from ibticks.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ibticks.calendar import Market

__all__ = [
    "mark_value_area",
    "microprice",
    "mid",
    "spread",
    "twap",
    "value_area",
    "volume_profile",
    "vwap",
]


@measure("Prices", Rowwise())
def mid(ticks: Frame) -> Frame:
    """Mid of each quote: column ``mid``, ``(bid_price + ask_price) / 2``.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks, some of which are quotes.

    Returns
    -------
    same as ticks
        All rows, with ``mid`` (float64): null where there is no quote, or of one side only. IB's
        sentinels for no price, and a quote of 0 by 0, are absent sides.

    Raises
    ------
    UnknownColumnError
        The frame lacks ``bid_price`` or ``ask_price``.

    Examples
    --------
    >>> mid(pl.DataFrame({"bid_price": [187.49, 187.49], "ask_price": [187.53, None]}))["mid"]
    shape: (2,)
    Series: 'mid' [f64]
    [
        187.51
        null
    ]
    """
    require(ticks, "bid_price", "ask_price", caller="mid")
    return collect_like(ticks, ticks.lazy().with_columns(mid=_mid(*_sides(ticks))))


@measure("Prices", Rowwise())
def microprice(ticks: Frame) -> Frame:
    r"""Mid of each quote, weighted by the sizes on the other side: column ``microprice``.

    .. math:: \frac{Q^a P^b + Q^b P^a}{Q^b + Q^a}

    It leans to the ask where more is bid. It is the *weighted mid-price* of the literature, which
    practitioners call microprice; Stoikov's micro-price adjusts it further, by a model of how it
    moves.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks, some of which are quotes.

    Returns
    -------
    same as ticks
        All rows, with ``microprice`` (float64): null where a price or a size is missing, and where
        both sizes are zero.

    Raises
    ------
    UnknownColumnError
        The frame lacks a price or a size.

    References
    ----------
    J. Gatheral and R. Oomen (2010), Zero-intelligence realized variance estimation, *Finance and
    Stochastics* 14, 249-283. S. Stoikov (2018), The micro-price: a high-frequency estimator of
    future prices, *Quantitative Finance* 18, 1959-1966.

    Examples
    --------
    >>> quote = {"bid_price": [10.0], "bid_size": [300.0], "ask_price": [10.4], "ask_size": [100.0]}
    >>> microprice(pl.DataFrame(quote))["microprice"].item()
    10.3
    """
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    require(ticks, *names, caller="microprice")
    plain = has_complete_quotes(ticks)
    bid, bid_size, ask, ask_size = (
        pl.col(name) if plain else present(name, names) for name in names
    )
    # From the bid upwards, so that no digit is lost where sizes are large.
    total = bid_size + ask_size
    price = pl.when(total != 0).then(bid + (ask - bid) * (bid_size / total))
    return collect_like(ticks, ticks.lazy().with_columns(microprice=price), engine="streaming")


@measure("Prices", Rowwise())
def spread(ticks: Frame, *, tick_size: float | None = None) -> Frame:
    """Spread of each quote: columns ``spread`` and ``relative_spread``.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks, some of which are quotes.
    tick_size : float, optional
        The least step of the price, for ``spread_ticks``.

    Returns
    -------
    same as ticks
        All rows, with ``spread`` (ask - bid, in the unit of the price), ``relative_spread`` (a
        fraction of the absolute mid, null where that is 0) and, if a tick size is given,
        ``spread_ticks``; float64, null where there is no quote, or of one side only. A locked
        quote has 0, a crossed one less. IB's sentinels for no price, and a quote of 0 by 0, are
        absent sides.

    Raises
    ------
    UnknownColumnError
        The frame lacks ``bid_price`` or ``ask_price``.
    InputError
        ``tick_size`` is not above 0.

    Examples
    --------
    >>> quote = pl.DataFrame({"bid_price": [99.75], "ask_price": [100.25]})
    >>> spread(quote, tick_size=0.25).row(0)
    (99.75, 100.25, 0.5, 0.005, 2.0)
    """
    require(ticks, "bid_price", "ask_price", caller="spread")
    bid, ask = _sides(ticks)
    wide = ask - bid
    result = {"spread": wide, "relative_spread": relative_to_mid(wide, _mid(bid, ask))}
    if tick_size is not None:
        if not tick_size > 0:
            raise InputError(f"spread: tick_size={tick_size!r} must be above 0")
        result["spread_ticks"] = wide / tick_size
    return collect_like(ticks, ticks.lazy().with_columns(**result))


@measure("Prices", Additive(("volume", "count"), {"vwap": "volume"}))
def vwap(ticks: Frame) -> Frame:
    """Average price of all trades, weighted by size.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks, some of which are trades.

    Returns
    -------
    same as ticks
        One row a contract: ``contract_id`` (if the ticks have it), ``vwap`` (float64, null without
        volume), ``volume`` (float64) and ``count`` (uint32) of the trades.

    Raises
    ------
    UnknownColumnError
        A column is missing.

    See Also
    --------
    rolling_vwap, anchored_vwap : the same as of each trade.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> vwap(pl.read_parquet(sample("ibm_trades").path)).row(0)
    (179.79936..., 5564671.0, 33381)
    """
    rows = bar_rows(ticks, "trades", caller="vwap")
    volume = pl.col("size").sum()
    average = (pl.col("price") * pl.col("size")).sum() / volume
    values = [
        pl.when(volume > 0).then(average).alias("vwap"),
        volume.alias("volume"),
        pl.len().alias("count"),
    ]
    return collect_like(ticks, per_contract(ticks, rows, values), engine="streaming")


@measure(
    "Prices",
    BySessions(
        Additive(("seconds",), {"twap": "seconds"}, lookback="last_with_column"),
        Snapshot("mean_and_last"),
    ),
)
def twap(
    ticks: Frame,
    *,
    column: str = "price",
    market: Market | str | None = None,
    session_type: str = "regular",
    sessions: SessionIntervals | None = None,
) -> Frame:
    r"""Average price over time, each price held until the next.

    .. math:: \frac{\sum_i p_i (t_{i+1} - t_i)}{t_n - t_1}

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks in order of arrival.
    column : str
        Column of the price: ``"price"``, ``"mid_price"``, ``"mid"`` (from :func:`mid`), ...; rows
        without it are passed over.
    market, session_type, sessions : optional
        Sessions, as in :func:`~ibticks.analysis.quoted_spread`: no price holds over the end of one.

    Returns
    -------
    same as ticks
        One row a contract: ``contract_id`` (if the ticks have it), ``twap`` (float64; where no time
        passes, the last price) and ``seconds`` (float64), the time from first to last row; of
        sessions, the sum over them.

    Raises
    ------
    UnknownColumnError
        A column is missing.

    See Also
    --------
    rolling_twap, anchored_twap : the same as of each row.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, 0, second, tzinfo=UTC) for second in (0, 1, 4)]
    >>> twap(pl.DataFrame({"timestamp": at, "price": [10.0, 14.0, 99.0]})).row(0)
    (13.0, 4.0)
    """
    require(ticks, "timestamp", column, caller="twap")
    price, at = pl.col(column), pl.col("_at")
    split = SessionSplit.of(market, session_type, sessions, caller="twap")
    rows = rows_with(ticks, column).with_columns(_at=time_ns())
    passed, span = at.diff(), (at.last() - at.first()).alias("_span")
    if split is not None:
        rows, passed = split.inside(rows), within_session(passed)
        span = passed.sum().alias("_span")
    area = (price.shift() * passed).sum().alias("_area")
    sums = per_contract(ticks, rows, [area, span, price.last().alias("_last")])
    average = pl.col("_area") / pl.col("_span")
    return collect_like(
        ticks,
        sums.select(
            pl.exclude("_area", "_span", "_last"),
            twap=pl.when(pl.col("_span") > 0).then(average).otherwise("_last"),
            seconds=pl.col("_span") / 1e9,
        ),
        engine="streaming",
    )


def _sides(ticks: pl.DataFrame | pl.LazyFrame) -> list[pl.Expr]:
    """Return bid and ask, null where absent; as they are where all are known to be there."""
    names = ticks.collect_schema()
    sides = ("bid_price", "ask_price")
    if all(is_all_set(ticks, name) for name in sides):
        return [pl.col(name) for name in sides]
    return [present(name, names) for name in sides]


def _mid(bid: pl.Expr, ask: pl.Expr) -> pl.Expr:
    return (bid + ask) / 2


@measure(
    "Prices",
    Additive(
        ("volume", "trades", "buy_volume", "sell_volume", "delta"),
        marks=("point_of_control", "value_area"),
        finish=lambda call, levels: mark_value_area(levels, call["share"]),
    ),
)
def volume_profile(ticks: Frame, step: float | None = None, *, share: float = 0.7) -> Frame:
    """Volume by price, with the point of control and the value area.

    The point of control is the level with the most volume; of equals, the one nearest to the middle
    of the profile, and then the lower. The value area grows from there: of the two levels above and
    the two below, the pair with more volume joins it (of equals, the one above), until it holds
    ``share`` of the volume. Levels at which nothing was traded are none.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``price`` and ``size``; with ``sign`` too, bought and sold volume are separate.
        Collected as soon as a lazy result is, when it is a row for each price.
    step : float, optional
        The distance of levels; each trade counts at the nearest. By default each price is one.
    share : float
        Fraction of the volume in the value area, above 0 and up to 1.

    Returns
    -------
    same as ticks
        A row for each contract and level, in this order: ``contract_id``, ``price``, ``volume``
        (float64), ``trades`` (uint32), ``buy_volume sell_volume delta`` (if there are signs), and
        ``point_of_control``, ``value_area`` (bool).

    Notes
    -----
    Equals are treated as in Linn Software's method A (linnsoft.com/qa/a/123.htm); the book
    does not say.

    References
    ----------
    J. F. Dalton, E. T. Jones and R. B. Dalton, *Mind Over Markets: Power Trading with Market
    Generated Information*, updated edition (2013), appendix 1.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> profile = volume_profile(ibm, 0.5)
    >>> profile.filter("point_of_control").select("price", "volume").row(0)
    (179.5, 1595046.0)
    >>> profile.filter("value_area")["price"].to_list()
    [178.5, 179.0, 179.5, 180.0, 180.5]
    """
    require(ticks, "price", "size", caller="volume_profile")
    if not 0 < share <= 1:
        raise InputError(
            f"volume_profile: the share of the value area is within 0 to 1, not {share}"
        )
    size = pl.col("_size")
    keys: list[str] = key_columns(ticks)
    sums = {"volume": size.sum(), "trades": pl.len().cast(pl.UInt32)}
    if "sign" in ticks.collect_schema():
        sign = pl.col("sign")
        sums["buy_volume"] = size.filter(sign > 0).sum()
        sums["sell_volume"] = size.filter(sign < 0).sum()
        sums["delta"] = (size * sign).sum()
    groups = [*(pl.col(key) for key in keys), price_level(step)]
    levels = group_rows(
        trade_rows(ticks).with_columns(_size=trade_size(ticks)), groups, ticks, **sums
    )
    flags = {"point_of_control": pl.Boolean(), "value_area": pl.Boolean()}
    schema = {**levels.collect_schema(), **flags}
    marked = levels.map_batches(lambda frame: mark_value_area(frame, share), schema=schema)
    return collect_like(ticks, marked, engine="streaming")


def mark_value_area(levels: pl.DataFrame, share: float) -> pl.DataFrame:
    """Mark the point of control and the value area of each contract.

    Parameters
    ----------
    levels : polars.DataFrame
        A row for each contract and level, by rising ``price``, with ``volume``.
    share : float
        As in :func:`volume_profile`.

    Examples
    --------
    >>> levels = pl.DataFrame({"price": [1.0, 2.0, 3.0], "volume": [5.0, 80.0, 15.0]})
    >>> mark_value_area(levels, 0.7)["value_area"].to_list()
    [False, True, False]
    """
    keys = key_columns(levels) if len(levels) else []
    blocks = levels.partition_by(keys, maintain_order=True) if keys else [levels]
    return pl.concat(_mark(block, share) for block in blocks)


def value_area(volumes: NDArray[np.float64], share: float) -> tuple[int, int, int]:
    """The point of control and the value area of volumes by rising price.

    Returns
    -------
    control : int
        Position of the point of control in ``volumes``.
    low, high : int
        First and last position of the value area.

    Examples
    --------
    >>> value_area(np.array([10.0, 20.0, 50.0, 30.0, 5.0]), 0.7)
    (2, 2, 4)
    """
    largest = np.flatnonzero(volumes == volumes.max())
    control = int(min(largest, key=lambda place: abs(2 * place - (len(volumes) - 1))))
    low = high = control
    included, wanted = float(volumes[control]), share * float(volumes.sum()) * (1 - 1e-12)
    while included < wanted:
        above, below = volumes[high + 1 : high + 3], volumes[max(0, low - 2) : low]
        if len(above) and (not len(below) or above.sum() >= below.sum()):
            high += len(above)
            included += float(above.sum())
        else:
            low -= len(below)
            included += float(below.sum())
    return control, low, high


def _mark(levels: pl.DataFrame, share: float) -> pl.DataFrame:
    place = np.arange(len(levels))
    control = low = high = -1
    if len(levels):
        control, low, high = value_area(levels["volume"].to_numpy(), share)
    return levels.with_columns(
        pl.Series("point_of_control", place == control, dtype=pl.Boolean),
        pl.Series("value_area", (place >= low) & (place <= high), dtype=pl.Boolean),
    )
