"""A function on polars frames as a method of an accessor: same arguments, same words."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from ibticks.accessors._libraries import Given, library_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ibticks.accessors._accessor import Ticks

__all__ = ["call_text", "measure", "measures"]

P = ParamSpec("P")
T = TypeVar("T")

_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def measure(
    function: Callable[Concatenate[Any, P], Any],
) -> Callable[Concatenate[Ticks[T], P], T]:
    """A measure of :mod:`ibticks.analysis` as a method.

    The method has the arguments and the docstring of the function; its first argument is the frame
    the accessor is of. Frames among the others may be of any library.

    Examples
    --------
    >>> from ibticks.analysis import spread
    >>> inspect.signature(measure(spread))
    <Signature (self, *, tick_size: 'float | None' = None) -> 'F'>
    """
    return _method(function)


def measures(
    function: Callable[Concatenate[Any, P], Any],
) -> Callable[Concatenate[Ticks[T], P], tuple[T, T]]:
    """The same as :func:`measure`, of one that gives two frames.

    Examples
    --------
    >>> from ibticks.analysis import quotes_cleanup
    >>> measures(quotes_cleanup).__name__
    'quotes_cleanup'
    """
    return _method(function)


def call_text(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A call as it would be written down.

    Examples
    --------
    >>> import polars as pl
    >>> call_text("time_bars", ("1m",), {"empty": True})
    "time_bars('1m', empty=True)"
    >>> call_text("trade_sign", (), {"quotes": pl.DataFrame()})
    'trade_sign(quotes=<polars frame>)'
    """
    values = [_text(value) for value in args]
    values += [f"{key}={_text(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(values)})"


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    divides = "sessions" in inspect.signature(function).parameters

    def method(self: Ticks[Any], *args: Any, **kwargs: Any) -> Any:
        given = Given(self.frame)
        positional = [_second(given, value) for value in args]
        named = {name: _second(given, value) for name, value in kwargs.items()}
        if divides and named.get("market") is None and named.get("sessions") is None:
            named["sessions"] = given.sessions()
        result = function(given.polars(), *positional, **named)
        said = call_text(function.__name__, args, kwargs)
        if isinstance(result, tuple):
            named_tuple: Any = type(result)
            return named_tuple(*(given.back(each, said) for each in result))
        return given.back(result, said)

    signature = inspect.signature(function)
    _, *others = signature.parameters.values()
    method.__name__ = function.__name__
    method.__qualname__ = f"Ticks.{function.__name__}"
    method.__doc__ = function.__doc__
    method.__signature__ = signature.replace(parameters=[_SELF, *others])  # type: ignore[attr-defined]
    return method


def _second(given: Given, value: Any) -> Any:
    return value if library_of(value) is None else given.second(value)


def _text(value: Any) -> str:
    library = library_of(value)
    return repr(value) if library is None else f"<{library} frame>"
