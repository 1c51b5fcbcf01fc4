"""How much was traded at each price, and where most of it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibticks.analysis._columns import F, by, like, require
from ibticks.analysis._flow import price_level, sized
from ibticks.analysis._grouping import grouped, trade_rows
from ibticks.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mark_value_area", "value_area", "volume_profile"]


def volume_profile(ticks: F, step: float | None = None, *, share: float = 0.7) -> F:
    """Volume by price, with the point of control and the value area.

    The point of control is the level with the most volume; of equals, the one nearest to the middle
    of the profile, and then the lower. The value area grows from there: of the two levels above and
    the two below, the pair with more volume joins it (of equals, the one above), until it holds
    ``share`` of the volume. Levels at which nothing was traded are none.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``price`` and ``size``; with ``sign`` too, the volume is told apart. Collected as
        soon as a lazy result is, when it is a row for each price.
    step : float, optional
        The distance of levels; each trade counts at the nearest. By default each price is one.
    share : float
        The part of the volume that the value area holds, above 0 and up to 1.

    Returns
    -------
    same as ticks
        A row for each contract and level, in this order: ``contract_id``, ``price``, ``volume``
        (float64), ``trades`` (uint32), ``buy_volume sell_volume delta`` (if there are signs), and
        ``point_of_control``, ``value_area`` (bool).

    Notes
    -----
    What to do with equals is as in Linn Software's method A (linnsoft.com/qa/a/123.htm); the book
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
    require(ticks, "price", "size", what="volume_profile")
    if not 0 < share <= 1:
        raise InputError(
            f"volume_profile: the share of the value area is within 0 to 1, not {share}"
        )
    size = pl.col("_size")
    keys: list[str] = by(ticks)
    sums = {"volume": size.sum(), "trades": pl.len().cast(pl.UInt32)}
    if "sign" in ticks.collect_schema():
        sign = pl.col("sign")
        sums["buy_volume"] = size.filter(sign > 0).sum()
        sums["sell_volume"] = size.filter(sign < 0).sum()
        sums["delta"] = (size * sign).sum()
    groups = [*(pl.col(key) for key in keys), price_level(step)]
    levels = grouped(trade_rows(ticks).with_columns(_size=sized(ticks)), groups, ticks, **sums)
    flags = {"point_of_control": pl.Boolean(), "value_area": pl.Boolean()}
    schema = {**levels.collect_schema(), **flags}
    marked = levels.map_batches(lambda frame: mark_value_area(frame, share), schema=schema)
    return like(ticks, marked, engine="streaming")


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
    keys = by(levels) if len(levels) else []
    parts = levels.partition_by(keys, maintain_order=True) if keys else [levels]
    return pl.concat(_mark(part, share) for part in parts)


def value_area(volumes: NDArray[np.float64], share: float) -> tuple[int, int, int]:
    """The point of control and the value area of volumes by rising price.

    Returns
    -------
    control, low, high : int
        Places in ``volumes``; ``low`` and ``high`` are in the value area.

    Examples
    --------
    >>> value_area(np.array([10.0, 20.0, 50.0, 30.0, 5.0]), 0.7)
    (2, 2, 4)
    """
    largest = np.flatnonzero(volumes == volumes.max())
    control = int(min(largest, key=lambda place: abs(2 * place - (len(volumes) - 1))))
    low = high = control
    held, wanted = float(volumes[control]), share * float(volumes.sum()) * (1 - 1e-12)
    while held < wanted:
        above, below = volumes[high + 1 : high + 3], volumes[max(0, low - 2) : low]
        if len(above) and (not len(below) or above.sum() >= below.sum()):
            high += len(above)
            held += float(above.sum())
        else:
            low -= len(below)
            held += float(below.sum())
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
