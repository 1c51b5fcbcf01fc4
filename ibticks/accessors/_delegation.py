"""Frames of any library for the measures, and measures as methods of an accessor."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, TypeAlias, TypeVar

import polars as pl

from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.schema import COLUMNS, FieldType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from ibticks.accessors._measures import Measures

__all__ = [
    "Library",
    "SourceFrame",
    "call_text",
    "delegate",
    "delegate_pair",
    "describe_frame",
    "library_of",
    "to_polars",
]

Library: TypeAlias = Literal["polars", "pandas", "xarray"]

_CLASSES: Final[dict[Library, tuple[str, ...]]] = {
    "polars": ("DataFrame", "LazyFrame"),
    "pandas": ("DataFrame",),
    "xarray": ("Dataset",),
}
_ZONE_HINTS: Final = {
    "pandas": 'df["timestamp"].dt.tz_localize("UTC")',
    "index": 'df.tz_localize("UTC")',
    "xarray": "ds.timestamp.attrs['time_zone'] = 'UTC'",
}


def library_of(value: object) -> Library | None:
    """Return the library of a frame, None if it is no frame; no library is loaded.

    Examples
    --------
    >>> library_of(pl.DataFrame()), library_of("no frame")
    ('polars', None)
    """
    for name, class_names in _CLASSES.items():
        module = sys.modules.get(name)
        if module is not None and isinstance(value, tuple(getattr(module, k) for k in class_names)):
            return name
    return None


def describe_frame(frame: object) -> str:
    """Return a short description of a frame.

    Examples
    --------
    >>> describe_frame(pl.DataFrame())
    'a polars DataFrame'
    """
    library = library_of(frame)
    return f"{'an' if library == 'xarray' else 'a'} {library} {type(frame).__name__}"


def to_polars(frame: Any) -> pl.DataFrame | pl.LazyFrame:
    """Convert a frame of any library for the measures; polars frames stay as they are.

    Times keep their nanoseconds and their zone. Absent values become null, and decimals
    become float64, in polars too.

    Raises
    ------
    InputError
        It is no frame, or has columns of mixed types.
    NaiveDatetimeError
        The times of a pandas frame or a dataset do not say their zone.

    Examples
    --------
    >>> import pandas as pd
    >>> times = pd.DatetimeIndex(["2025-01-10 09:30:00.123456789"], tz="America/New_York")
    >>> to_polars(pd.DataFrame({"price": [187.5]}, index=times)).schema["timestamp"]
    Datetime(time_unit='ns', time_zone='America/New_York')
    """
    library = library_of(frame)
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return _decimals_as_floats(frame)
    if library is None:
        raise InputError(
            f"a {type(frame).__name__} is no frame of pandas or polars, and no dataset of xarray"
        )
    ticks = _from_arrow(_to_arrow_table(frame, library))
    dtype = ticks.schema.get("timestamp")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        indexed = library == "pandas" and "timestamp" not in frame.columns
        raise NaiveDatetimeError(
            "the times in column timestamp have no zone; say which it is, as in "
            + _ZONE_HINTS["index" if indexed else library],
            column="timestamp",
        )
    return _decimals_as_floats(ticks)


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """The frame an accessor is of, and conversions to polars and back.

    Attributes
    ----------
    frame : polars.DataFrame, polars.LazyFrame, pandas.DataFrame or xarray.Dataset
    """

    frame: Any

    def polars(self) -> pl.DataFrame | pl.LazyFrame:
        """Return the frame as :func:`to_polars` has it."""
        return to_polars(self.frame)

    def convert_other(self, other: Any) -> Any:
        """Convert another frame of any library, as eager or lazy as this one."""
        frame = to_polars(other)
        if isinstance(self.frame, pl.LazyFrame):
            return frame.lazy()
        return frame.collect() if isinstance(frame, pl.LazyFrame) else frame

    def restore(self, result: pl.DataFrame | pl.LazyFrame, call: str) -> Any:
        """Return a result in the library of the frame.

        Parameters
        ----------
        result : polars.DataFrame or polars.LazyFrame
        call : str
            The call that computed it, for the metadata, which pandas and xarray carry.

        Returns
        -------
        same as the frame
        """
        if not isinstance(result, pl.DataFrame) or isinstance(self.frame, pl.DataFrame):
            return result
        if library_of(self.frame) == "pandas":
            return self._pandas(result, call)
        from ibticks.accessors._datasets import dataset_like

        return dataset_like(self.frame, result, to_arrow(result), self.metadata_with(call))

    def _pandas(self, result: pl.DataFrame, call: str) -> Any:
        from ibticks.frames import METADATA_KEY, to_pandas

        made = to_pandas(to_arrow(result))
        made.attrs = {**self.frame.attrs, METADATA_KEY: self.metadata_with(call)}
        timed = "timestamp" not in self.frame.columns and "timestamp" in made.columns
        return made.set_index("timestamp") if timed else made

    def sessions(self) -> list[tuple[str, str]] | None:
        """Return the sessions of the selection the frame came from, None if there are not several.

        Each begins with the end of the one before: bars of the clock may begin before an opening,
        and other frames may have quotes from before it. One interval divides nothing.
        """
        from ibticks.frames import metadata_of

        if library_of(self.frame) == "polars":
            return None
        ends = [end for _, end in metadata_of(self.frame).get("intervals") or ()]
        return list(zip(["the beginning", *ends], ends, strict=False)) if len(ends) > 1 else None

    def metadata_with(self, call: str) -> dict[str, Any]:
        """Return the metadata of the frame, with a call added to its measures."""
        from ibticks.frames import metadata_of

        carries = library_of(self.frame) != "polars"
        metadata = metadata_of(self.frame) if carries else {}
        return {**metadata, "measures": [*metadata.get("measures", ()), call]}


def to_arrow(frame: pl.DataFrame) -> pa.Table:
    """Return a polars frame as an Arrow table; columns of ticks with their Arrow types.

    Examples
    --------
    >>> ticks = pl.DataFrame({"exchange": pl.Series(["P"], dtype=pl.Categorical)})
    >>> str(to_arrow(ticks).schema.field("exchange").type)
    'dictionary<values=string, indices=int32, ordered=0>'
    """
    import pyarrow as pa

    from ibticks.frames import arrow_type, map_array

    table = frame.to_arrow()
    for place, field in enumerate(table.schema):
        column = table.column(place)
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, column.cast(arrow_type("exchange")))
        elif field.name in COLUMNS and COLUMNS[field.name].type is FieldType.MAP:
            table = table.set_column(place, field.name, map_array(column))
    return table


def _decimals_as_floats(frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame | pl.LazyFrame:
    """Cast decimals, as databases have them: measures compute with floats."""
    exact = [name for name, dtype in frame.collect_schema().items() if dtype == pl.Decimal]
    return frame.with_columns(pl.col(exact).cast(pl.Float64)) if exact else frame


def _to_arrow_table(frame: Any, library: Library) -> pa.Table:
    if library == "pandas":
        from ibticks.frames import frame_to_arrow

        return frame_to_arrow(frame)
    from ibticks.accessors._datasets import from_dataset

    return from_dataset(frame)


def _from_arrow(table: pa.Table) -> pl.DataFrame:
    from ibticks.frames import to_polars as wrapped

    return wrapped(table)


P = ParamSpec("P")
T = TypeVar("T")

_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def delegate(
    function: Callable[Concatenate[Any, P], Any],
) -> Callable[Concatenate[Measures[T], P], T]:
    """Return a measure of :mod:`ibticks.analysis` as a method.

    The method has the arguments and the docstring of the function; its first argument is the frame
    the accessor is of. Frames among the others may be of any library.

    Examples
    --------
    >>> from ibticks.analysis import spread
    >>> inspect.signature(delegate(spread))
    <Signature (self, *, tick_size: 'float | None' = None) -> 'Frame'>
    """
    return _make_method(function)


def delegate_pair(
    function: Callable[Concatenate[Any, P], Any],
) -> Callable[Concatenate[Measures[T], P], tuple[T, T]]:
    """Return a measure that has two frames as a result as a method.

    Examples
    --------
    >>> from ibticks.analysis import quotes_cleanup
    >>> delegate_pair(quotes_cleanup).__name__
    'quotes_cleanup'
    """
    return _make_method(function)


def call_text(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return a call as source text.

    Examples
    --------
    >>> import polars as pl
    >>> call_text("time_bars", ("1m",), {"empty": True})
    "time_bars('1m', empty=True)"
    >>> call_text("trade_sign", (), {"quotes": pl.DataFrame()})
    'trade_sign(quotes=<polars frame>)'
    """
    values = [_argument_text(value) for value in args]
    values += [f"{key}={_argument_text(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(values)})"


def _make_method(function: Callable[..., Any]) -> Callable[..., Any]:
    divides = "sessions" in inspect.signature(function).parameters

    def method(self: Measures[Any], *args: Any, **kwargs: Any) -> Any:
        source = SourceFrame(self.frame)
        positional = [_convert(source, value) for value in args]
        keywords = {name: _convert(source, value) for name, value in kwargs.items()}
        if divides and keywords.get("market") is None and keywords.get("sessions") is None:
            keywords["sessions"] = source.sessions()
        result = function(source.polars(), *positional, **keywords)
        call = call_text(function.__name__, args, kwargs)
        if isinstance(result, tuple):
            named_tuple: Any = type(result)
            return named_tuple(*(source.restore(item, call) for item in result))
        return source.restore(result, call)

    signature = inspect.signature(function)
    _, *others = signature.parameters.values()
    method.__name__ = function.__name__
    method.__qualname__ = f"Ticks.{function.__name__}"
    method.__doc__ = function.__doc__
    parameters = [_SELF, *others]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


def _convert(source: SourceFrame, value: Any) -> Any:
    return value if library_of(value) is None else source.convert_other(value)


def _argument_text(value: Any) -> str:
    library = library_of(value)
    return repr(value) if library is None else f"<{library} frame>"
