"""Outliers, duplicates and crossed quotes, and a report that counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from ibticks.analysis._durations import stream_columns, stream_keys
from ibticks.analysis._engine import columns
from ibticks.analysis._engine.columns import (
    Frame,
    collect_like,
    grouping_keys,
    key_columns,
    over_keys,
    require,
    time_ns,
)
from ibticks.analysis._engine.grouping import (
    apply_kernel,
    group_rows,
    is_all_set,
    number_or_null,
    quote_rows,
    trade_rows,
)
from ibticks.analysis._engine.registry import NotIncremental, Rowwise, measure
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["crossed_quotes", "duplicates", "outliers", "quality_report"]

_MOMENTS: Final[Mapping[str, pl.DataType]] = {"mean": pl.Float64(), "deviation": pl.Float64()}

_RULES: Final = pl.Enum(["not_positive", "crossed", "brownlees_gallo"])

_MIN_RELATIVE_CHANGE: Final = 1e-9

_PRICE_TOLERANCE: Final = 1e-11

_NO_SAMENESS: Final = ("sequence", "stream_id", "metadata")


@measure("Arrival and quality", NotIncremental("it looks at what comes after each tick"))
def outliers(
    ticks: Frame,
    *,
    neighbours: int = 60,
    trim: float = 0.1,
    deviations: float = 3.0,
    granularity: float | None = None,
) -> Frame:
    r"""Outliers among trades or quotes, with the rule that each breaks.

    A price :math:`p_i` is in line, by Brownlees and Gallo's rule, if
    :math:`|p_i - \bar p_i(k)| \le 3 s_i(k) + \gamma`, where :math:`\bar p_i(k)` and :math:`s_i(k)`
    are the mean and the sample deviation of the k prices around it (itself among them; at the ends
    of the frame the first or last k) without the share :math:`\delta` at either extreme. The price
    is that of trades where the frame has some, else the mid of quotes.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``price``, or with ``bid_price`` and ``ask_price``, in order of arrival.
    neighbours : int
        k.
    trim : float
        Delta, below 0.5.
    deviations : float
        Number of deviations that are in line.
    granularity : float, optional
        Gamma: without it, after a calm period each change would be an outlier. Some ticks of the
        contract; by default twice the least change of price in the frame.

    Returns
    -------
    same as ticks
        The trades (or quotes), with ``outlier`` (bool) and ``outlier_rule`` (enum): the first of
        ``not_positive`` (a price, bid or ask of 0 or below: leave it aside where such are traded),
        ``crossed`` (bid above ask), ``brownlees_gallo``; null where none fires. Only prices that no
        other rule takes are neighbours.

    Raises
    ------
    InputError
        Numbers that cannot be.

    Notes
    -----
    Take one session at a time: neighbours should not lie a night apart. There is no result with
    fewer prices than ``2 + 2 * int(trim * neighbours)``. The rule looks at what comes after, and so
    cannot be applied as ticks come in.

    References
    ----------
    C. T. Brownlees and G. M. Gallo, Financial econometric analysis at ultra-high frequency: data
    handling concerns, *Computational Statistics & Data Analysis* 51 (2006), 2232-2245.

    Examples
    --------
    >>> prices = [10.0, 10.01] * 30 + [10.6] + [10.0, 10.01] * 30
    >>> flagged = outliers(pl.DataFrame({"price": prices}))
    >>> flagged.filter("outlier").select("price", "outlier_rule").rows()
    [(10.6, 'brownlees_gallo')]
    """
    if not (neighbours > 1 and 0 <= trim < 0.5 and deviations >= 0):
        raise InputError(
            "outliers: neighbours are two or more, trim is within 0 to 0.5, deviations 0 or more"
        )
    if granularity is not None and not granularity >= 0:
        raise InputError(f"outliers: a granularity of {granularity} is not one of prices")
    keys = grouping_keys(ticks)
    if "price" in ticks.collect_schema():
        rows, value, rules = trade_rows(ticks), pl.col("price"), _of_prices("price")
    else:
        require(ticks, "bid_price", "ask_price", caller="outliers")
        rows = quote_rows(ticks)
        bid, ask = (number_or_null(ticks, name) for name in ("bid_price", "ask_price"))
        value, rules = (
            (bid + ask) / 2,
            {**_of_prices("bid_price", "ask_price"), "crossed": bid > ask},
        )
    first = pl.coalesce(pl.when(fired).then(pl.lit(name, _RULES)) for name, fired in rules.items())
    # Ticks that another rule flags are no neighbours.
    sound = pl.when(pl.col("_rule").is_null() & pl.col("_price").is_finite()).then("_price")
    moments = apply_kernel(
        "trimmed_moments",
        [sound],
        neighbours,
        int(trim * neighbours),
        keys=keys,
        results=_MOMENTS,
    )
    gamma = over_keys(_least_change(sound), keys) if granularity is None else pl.lit(granularity)
    mean, deviation = (pl.col("_moments").struct.field(name) for name in _MOMENTS)
    price = pl.col("_price")
    allowed = deviations * deviation + pl.col("_gamma") + _PRICE_TOLERANCE * price.abs()
    far = pl.when((price - mean).abs() > allowed).then(pl.lit("brownlees_gallo", _RULES))
    names = [name for name in ticks.collect_schema() if name not in ("outlier", "outlier_rule")]
    result = (
        rows.with_columns(_price=value, _rule=first)
        .with_columns(_moments=moments, _gamma=gamma)
        .with_columns(_rule=pl.coalesce("_rule", far))
        .select(*names, outlier=pl.col("_rule").is_not_null(), outlier_rule="_rule")
    )
    return collect_like(ticks, result, engine="streaming")


@measure("Arrival and quality", Rowwise("last_of_stream"))
def duplicates(ticks: Frame) -> Frame:
    """Ticks that repeat the one before them in all columns, at the same time.

    Two trades of the same size at the same price in the same microsecond do happen. Of more than
    one in a row, each but the first is marked.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp``, in order of arrival.

    Returns
    -------
    same as ticks
        With ``duplicate`` (bool). ``sequence``, ``stream_id`` and ``metadata`` are not compared.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = [datetime(2025, 1, 10, 15, tzinfo=UTC)] * 3
    >>> duplicates(pl.DataFrame({"timestamp": at, "price": [1.0, 1.0, 2.0]}))["duplicate"].to_list()
    [False, True, False]
    """
    require(ticks, "timestamp", caller="duplicates")
    keys: list[str] = stream_columns(ticks)
    compared = [
        name for name in ticks.collect_schema() if name not in (*keys, *_NO_SAMENESS, "duplicate")
    ]
    full = [name for name in compared if _is_full(ticks, name)]
    same = [pl.col(name) == pl.col(name).shift() for name in full]
    same += [pl.col(name).eq_missing(pl.col(name).shift()) for name in compared if name not in full]
    if not full:  # of those that are, the first row says that nothing is before it
        same.append(pl.int_range(pl.len()) > 0)
    result = pl.all_horizontal(same).fill_null(value=False)
    marked = ticks.lazy().with_columns(duplicate=over_keys(result, stream_keys(ticks)))
    return collect_like(ticks, marked, engine="streaming")


@measure("Arrival and quality", Rowwise())
def crossed_quotes(ticks: Frame) -> Frame:
    """Quotes whose bid is above their ask, or equal to it.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``bid_price`` and ``ask_price``.

    Returns
    -------
    same as ticks
        The quotes, with ``crossed`` (bid above ask) and ``locked`` (bid and ask the same price);
        bool, false where a side is missing.

    Examples
    --------
    >>> quotes = pl.DataFrame({"bid_price": [1.0, 2.0, 3.0], "ask_price": [2.0, 2.0, 2.0]})
    >>> crossed_quotes(quotes).select("crossed", "locked").rows()
    [(False, False), (False, True), (True, False)]
    """
    require(ticks, "bid_price", "ask_price", caller="crossed_quotes")
    bid, ask = pl.col("bid_price"), pl.col("ask_price")
    result = {"crossed": bid > ask, "locked": bid == ask}
    if not (is_all_set(ticks, "bid_price") and is_all_set(ticks, "ask_price")):
        result = {name: value.fill_null(value=False) for name, value in result.items()}
    return collect_like(ticks, quote_rows(ticks).with_columns(**result), engine="streaming")


def _is_full(ticks: pl.DataFrame | pl.LazyFrame, name: str) -> bool:
    """Return whether a column is known to have no nulls."""
    return isinstance(ticks, pl.DataFrame) and not ticks[name].null_count()


def _least_change(price: pl.Expr) -> pl.Expr:
    """Return twice the least change of price; none, where no price changes."""
    there = price.drop_nulls()
    change = there.diff().abs()
    return 2 * change.filter(change > _MIN_RELATIVE_CHANGE * there.abs()).min().fill_null(0)


def _of_prices(*names: str) -> dict[str, pl.Expr]:
    return {"not_positive": pl.any_horizontal(pl.col(name) <= 0 for name in names)}


@measure("Arrival and quality", NotIncremental("its outliers look ahead"))
def quality_report(ticks: Frame, *, granularity: float | None = None) -> Frame:
    """Count doubtful ticks among trades, quotes and mid points.

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
        A row for each contract and type of tick that there is, in this order: ``contract_id`` (if
        the ticks have it), ``kind`` (``trades``, ``quotes``, ``mids``), ``first`` and ``last``
        (times), ``longest_gap`` (duration[ns]), and counts (uint32): ``ticks``; ``out_of_order``,
        whose time is before that of the tick before; ``duplicates``, as
        :func:`~ibticks.analysis.duplicates` marks them; ``not_positive`` and ``outliers``, by the
        rules of :func:`~ibticks.analysis.outliers`; and of quotes ``crossed``, ``locked`` and
        ``one_sided`` (null for others).

    Raises
    ------
    UnknownColumnError
        The frame has no times, or no prices of any type.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_quotes").path)
    >>> report = quality_report(ibm)
    >>> report.select("ticks", "duplicates", "crossed", "locked", "one_sided", "outliers").row(0)
    (62875, 0, 40, 504, 0, 86)
    """
    require(ticks, "timestamp", caller="quality_report")
    keys: list[str] = key_columns(ticks)
    reports = [
        _report(rows, source, granularity).select(
            *keys, pl.lit(source).alias("kind"), pl.exclude(keys)
        )
        for source, rows in _kinds(ticks)
    ]
    if not reports:
        require(ticks, "price", caller="quality_report")
    return collect_like(
        ticks, pl.concat(reports).sort(*keys, "kind", descending=[*(False for _ in keys), True])
    )


def _kinds(ticks: Frame) -> Iterator[tuple[str, Frame]]:
    there = ticks.collect_schema()
    if "price" in there:
        yield "trades", collect_like(ticks, trade_rows(ticks))
    if "bid_price" in there and "ask_price" in there:
        yield "quotes", collect_like(ticks, quote_rows(ticks).drop("price", strict=False))
    if "mid_price" in there:
        yield "mids", columns.mids(ticks).with_columns(price=pl.col("mid_price"))


def _report(rows: Frame, source: str, granularity: float | None) -> pl.LazyFrame:
    rows = outliers(duplicates(rows), granularity=granularity)
    contract: list[pl.Expr] = [pl.col(key) for key in key_columns(rows)]
    counted = {
        "out_of_order": pl.col("_since") < 0,
        "duplicates": pl.col("duplicate"),
        "not_positive": pl.col("outlier_rule") == "not_positive",
        "outliers": pl.col("outlier_rule") == "brownlees_gallo",
    }
    if source == "quotes":
        rows = crossed_quotes(rows)
        both = pl.col("bid_price").is_finite() & pl.col("ask_price").is_finite()
        counted["crossed"], counted["locked"] = pl.col("crossed"), pl.col("locked")
        counted["one_sided"] = ~both.fill_null(value=False)
    counts = {name: value.sum().cast(pl.UInt32) for name, value in counted.items()}
    for name in ("crossed", "locked", "one_sided"):
        counts.setdefault(name, pl.lit(None, pl.UInt32))
    since = over_keys(time_ns().diff(), grouping_keys(rows))
    return group_rows(
        rows.lazy().with_columns(_since=since),
        contract,
        rows,
        first=pl.col("timestamp").min(),
        last=pl.col("timestamp").max(),
        longest_gap=pl.col("_since").max().cast(pl.Duration("ns")),
        ticks=pl.len().cast(pl.UInt32),
        **counts,
    )
