"""What there is to be said against the ticks of a frame, in one row for each contract and kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ibticks.analysis import _columns as columns
from ibticks.analysis._columns import F, apart, by, instant, like, require, within
from ibticks.analysis._flags import crossed_quotes, duplicates, outliers
from ibticks.analysis._grouping import grouped, quote_rows, trade_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["quality_report"]


def quality_report(ticks: F, *, granularity: float | None = None) -> F:
    """Count what is doubtful in trades, quotes and mid points.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and some of ``price``, ``bid_price`` and ``ask_price``,
        ``mid_price``, in order of arrival.
    granularity
        As in :func:`~ibticks.analysis.outliers`.

    Returns
    -------
    same as ticks
        A row for each contract and kind of tick that there is, in this order: ``contract_id`` (if
        the ticks have it), ``kind`` (``trades``, ``quotes``, ``mids``), ``first`` and ``last``
        (times), ``longest_gap`` (duration[ns]), and counts (uint32): ``ticks``; ``out_of_order``,
        whose time is before that of the tick before; ``duplicates``, as
        :func:`~ibticks.analysis.duplicates` marks them; ``not_positive`` and ``outliers``, by the
        rules of :func:`~ibticks.analysis.outliers`; and of quotes ``crossed``, ``locked`` and
        ``one_sided`` (null for others).

    Raises
    ------
    UnknownColumnError
        The frame has no times, or no prices of any kind.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_quotes").path)
    >>> report = quality_report(ibm)
    >>> report.select("ticks", "duplicates", "crossed", "locked", "one_sided", "outliers").row(0)
    (62875, 0, 40, 504, 0, 86)
    """
    require(ticks, "timestamp", what="quality_report")
    keys: list[str] = by(ticks)
    reports = [
        _report(rows, kind, granularity).select(*keys, pl.lit(kind).alias("kind"), pl.exclude(keys))
        for kind, rows in _kinds(ticks)
    ]
    if not reports:
        require(ticks, "price", what="quality_report")
    return like(
        ticks, pl.concat(reports).sort(*keys, "kind", descending=[*(False for _ in keys), True])
    )


def _kinds(ticks: F) -> Iterator[tuple[str, F]]:
    there = ticks.collect_schema()
    if "price" in there:
        yield "trades", like(ticks, trade_rows(ticks))
    if "bid_price" in there and "ask_price" in there:
        yield "quotes", like(ticks, quote_rows(ticks).drop("price", strict=False))
    if "mid_price" in there:
        yield "mids", columns.mids(ticks).with_columns(price=pl.col("mid_price"))


def _report(rows: F, kind: str, granularity: float | None) -> pl.LazyFrame:
    rows = outliers(duplicates(rows), granularity=granularity)
    contract: list[pl.Expr] = [pl.col(key) for key in by(rows)]
    counted = {
        "out_of_order": pl.col("_since") < 0,
        "duplicates": pl.col("duplicate"),
        "not_positive": pl.col("outlier_rule") == "not_positive",
        "outliers": pl.col("outlier_rule") == "brownlees_gallo",
    }
    if kind == "quotes":
        rows = crossed_quotes(rows)
        both = pl.col("bid_price").is_finite() & pl.col("ask_price").is_finite()
        counted["crossed"], counted["locked"] = pl.col("crossed"), pl.col("locked")
        counted["one_sided"] = ~both.fill_null(value=False)
    counts = {name: each.sum().cast(pl.UInt32) for name, each in counted.items()}
    for name in ("crossed", "locked", "one_sided"):
        counts.setdefault(name, pl.lit(None, pl.UInt32))
    since = within(instant().diff(), apart(rows))
    return grouped(
        rows.lazy().with_columns(_since=since),
        contract,
        rows,
        first=pl.col("timestamp").min(),
        last=pl.col("timestamp").max(),
        longest_gap=pl.col("_since").max().cast(pl.Duration("ns")),
        ticks=pl.len().cast(pl.UInt32),
        **counts,
    )
