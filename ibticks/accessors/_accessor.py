"""``.ticks``: what can be asked of a frame of ticks or bars, whatever library it is of."""

from __future__ import annotations

import re
import warnings
from html import escape
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ibticks import analysis
from ibticks._html import Html, html_table
from ibticks.accessors._delegation import SourceFrame, describe_frame
from ibticks.accessors._measures import Measures
from ibticks.analysis.engine import MEASURES, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from ibticks.accessors._plotting import Plot

__all__ = ["Ticks", "measures_html"]

T = TypeVar("T")

_MATH: Final = re.compile(r":math:`([^`]+)`")
_MARKUP: Final = re.compile(r":\w+:`~?(?:[\w.]*\.)?([^`]+)`|``([^`]+)``")


class Ticks(Measures[T]):
    """Measures of :mod:`ibticks.analysis` on one frame, and its windows, panels and plots.

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
    ``contract``) if each contract has one row, and ``row`` if not. The calls are listed in
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

    def panel(self, *, names: Mapping[int, str] | None = None) -> xr.Dataset:
        """Return bars of several contracts as one dataset ``[contract, time]``.

        Parameters
        ----------
        names : mapping of int to str, optional
            Label of each contract id along ``contract``, such as a symbol; the coordinate
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
        from ibticks.accessors._datasets import to_panel

        source = SourceFrame(self.frame)
        attributes = source.metadata_with("panel()")
        return to_panel(source.polars(), names=names, attributes=attributes)

    @property
    def plot(self) -> Plot[T]:
        """Plots of the frame; ``.ticks.plot()`` picks one by the columns of the frame.

        Raises
        ------
        MissingExtraError
            plotly is not installed.
        """
        from ibticks.accessors._plotting import Plot

        return Plot(self.frame)

    def __repr__(self) -> str:
        return f"<ticks of {describe_frame(self.frame)}>"

    def roll(self, *args: Any, **kwargs: Any) -> T:
        """Return :meth:`roll_spread`; deprecated."""
        _warn_renamed("roll", "roll_spread")
        return self.roll_spread(*args, **kwargs)

    def last(self, *args: Any, **kwargs: Any) -> T:
        """Return :meth:`trailing_window`; deprecated."""
        _warn_renamed("last", "trailing_window")
        return self.trailing_window(*args, **kwargs)

    def _repr_html_(self) -> str:
        return measures_html(repr(self)[1:-1])


def measures_html(caption: str) -> str:
    """Render the measures as HTML, by section, with the first sentence of each.

    Formulas stand between dollar signs, where notebooks look for them.

    Examples
    --------
    >>> table = measures_html("ticks of a polars DataFrame")
    >>> "<code>vwap</code>" in table
    True
    """
    functions = {name: getattr(analysis, name) for name in analysis.__all__}
    tables = [
        html_table(
            [
                (Html(f"<code>{name}</code>"), Html(_first_sentence(functions[name].__doc__)))
                for name, value in sorted(MEASURES.items())
                if value.section == section
            ],
            caption=section,
        )
        for section in SECTIONS
    ]
    return f"<details><summary>{escape(caption)}</summary>{''.join(tables)}</details>"


def _first_sentence(doc: str | None) -> str:
    """Return the first sentence of a docstring as HTML, without its markup."""
    first = " ".join((doc or "").strip().partition("\n\n")[0].split())
    plain = _MARKUP.sub(lambda match: match[1] or match[2], _MATH.sub(r"$\1$", first))
    return escape(plain)


def _warn_renamed(old: str, new: str) -> None:
    warnings.warn(f".ticks.{old} is called .ticks.{new} now", DeprecationWarning, stacklevel=3)
