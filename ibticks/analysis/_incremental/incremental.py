"""The public class of incremental measures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from ibticks.analysis._engine.columns import instant, require
from ibticks.analysis._incremental.plans import way_of
from ibticks.analysis._incremental.states import call_of, moment
from ibticks.config import TIME_MIN
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Incremental"]


class Incremental:
    """A measure of ticks as they come: what it says of all of them, at the cost of the new ones.

    However ticks are cut into pieces, what :meth:`update` says of each piece and what :meth:`open`
    says at the end are together what the measure says of all ticks at once::

        bars = Incremental("time_bars", "1m")
        found = pl.concat([*map(bars.update, pieces), bars.open()])
        assert_frame_equal(found, time_bars(pl.concat(pieces), "1m"))

    up to the rounding of sums, and but for the order where several contracts share the ticks: what
    is said of one is in its order, but comes when it is final. Of a total, such as ``vwap``,
    :meth:`update` says what it is of everything so far.

    Parameters
    ----------
    measure : str or callable
        One of :mod:`ibticks.analysis`, by its name or itself.
    *arguments, **named
        Those of the measure, without the ticks. ``quotes`` is left out: trades and quotes come
        together, in one frame.

    Raises
    ------
    InputError
        There is no such measure or argument; or the measure cannot take ticks as they come, since
        it looks ahead or at all there is: the message says which, and what to do instead.

    Notes
    -----
    Kept are a few ticks of each contract, by what the measure looks back at: none (``mid``), the
    last one (``interarrival``), the quotes in force (``effective_spread``), a window
    (``rolling_vwap``), the bar that is open (``time_bars``), or two that stand for a session
    (``anchored_vwap``). Their number does not grow with what has passed. A session or a day that is
    one bar is open all day; its ticks are kept.

    Bars by the clock are final when a tick comes at or after their end, of any contract and kind;
    those of ``quoted_spread`` and what ``merge_same_timestamp`` merges, when the next of the
    contract does: a quote is in force until then, and more may come at the same time. Bars of
    activity are final when they are full; with ``partial=True``, :meth:`open` says what the last is
    so far. ``realized_spread`` and ``price_impact`` speak of a trade when its horizon is over.

    Ticks are taken in their order of arrival, as :meth:`ibticks.Store.live` gives them. One of an
    earlier time than that before it is taken like any other, where the measure goes by order; where
    it belongs to a bar that was final already, it is refused, and nothing is changed. A window, or
    a quote delay, reaches back from the latest time of the contract: what is older is not looked
    for.

    What is said of ticks is not changed later, so that :meth:`open` may be asked in another thread.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> trades = pl.read_parquet(sample("ibm_trades").path)
    >>> bars = Incremental("time_bars", "1h")
    >>> [bars.update(piece).height for piece in trades.iter_slices(10_000)]
    [3, 2, 2, 4]
    >>> bars.open().select("open", "close", "count").rows()
    [(179.35, 179.55, 3)]
    >>> bars
    <Incremental time_bars('1h'): 33,381 ticks to 2013-10-08T23:23:56.822Z, 3 rows kept>

    >>> whole = Incremental("vwap")
    >>> for piece in trades.iter_slices(10_000):
    ...     print(whole.update(piece)["vwap"].round(2).item())
    180.69
    180.27
    179.95
    179.8

    >>> Incremental("outliers")
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: outliers cannot take ticks as they come: it looks at what comes
    after each tick; take the measure of a buffer, as of store.buffer(...).to_polars()
    """

    def __init__(self, measure: str | Callable[..., Any], *arguments: Any, **named: Any) -> None:
        self._call = call_of(measure, arguments, named)
        self._way = way_of(self._call)
        self._schema: pl.Schema | None = None
        self._ticks = 0
        self._newest = TIME_MIN

    def update(self, ticks: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Take more ticks.

        Parameters
        ----------
        ticks : polars.DataFrame or polars.LazyFrame
            Those that came after all before, in their order; none will do. Always of the same
            columns, ``timestamp`` among them.

        Returns
        -------
        polars.DataFrame
            What is final with them and was not yet: rows, or bars. Of a total, the total so far.

        Raises
        ------
        UnknownColumnError
            A column is missing.
        InputError
            The columns are others than before, or a tick belongs to what is final already. Nothing
            of the ticks was taken then.

        Examples
        --------
        >>> from ibticks.sample import sample
        >>> quotes = pl.read_parquet(sample("ibm_quotes").path)
        >>> spreads = Incremental("quoted_spread", "1h")
        >>> spreads.update(quotes[:20_000]).height, spreads.update(quotes[20_000:]).height
        (7, 9)
        """
        frame = ticks.lazy().collect()
        if self._schema is None:
            require(frame, "timestamp", what=f"{self._call.name} of ticks as they come")
            # What is wrong with the columns or the arguments says the measure itself, of no ticks.
            self._call(frame.clear())
        elif frame.schema != self._schema:
            raise InputError(
                f"{self._call.name}: the ticks have columns {_said(frame.schema)}; those before "
                f"had {_said(self._schema)}"
            )
        newest = frame.select(instant().max()).item()
        now = self._newest if newest is None else max(newest, self._newest)
        found, self._way = self._way.after(frame, now)
        self._schema, self._newest, self._ticks = frame.schema, now, self._ticks + frame.height
        return found

    def open(self) -> pl.DataFrame:
        """What the measure would say more, if nothing came any more.

        Returns
        -------
        polars.DataFrame
            The bars that are open, as they are so far; the rows that wait; or none. Of a total, the
            total. Before any ticks, a frame without columns.

        Examples
        --------
        >>> Incremental("time_bars", "1h").open().shape
        (0, 0)
        """
        return pl.DataFrame() if self._schema is None else self._way.open()

    @property
    def kept(self) -> int:
        """How many rows are kept: ticks, or of a total what was added up.

        Examples
        --------
        >>> Incremental("mid").kept
        0
        """
        return self._way.kept

    def __repr__(self) -> str:
        rows = f"{self.kept:,} row{'' if self.kept == 1 else 's'} kept"
        return f"<Incremental {self._call.text}: {self._seen()}, {rows}>"

    def _repr_html_(self) -> str:
        rows = {"measure": self._call.text, "ticks": self._seen(), "rows kept": f"{self.kept:,}"}
        cells = (
            f"<tr><td>{name}</td><td><code>{escape(value)}</code></td></tr>"
            for name, value in rows.items()
        )
        return f"<table>{''.join(cells)}</table>"

    def _seen(self) -> str:
        if self._newest == TIME_MIN:
            return f"{self._ticks:,} ticks"
        return f"{self._ticks:,} ticks to {moment(self._newest)}"


def _said(schema: pl.Schema) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in schema.items())
