"""A measure with its arguments, still without ticks."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ibticks import analysis
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl

__all__ = ["Call", "call_of"]


@dataclass(frozen=True)
class Call:
    """What is asked of ticks.

    Attributes
    ----------
    name : str
        Of the measure.
    function : callable
        The measure.
    arguments : mapping of str to object
        All but the ticks, those left out too.
    text : str
        As it was written.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    text: str

    def __call__(self, ticks: pl.DataFrame, **changed: Any) -> pl.DataFrame:
        """What the measure says of ticks, some arguments changed."""
        found: pl.DataFrame = self.function(ticks, **{**self.arguments, **changed})
        return found

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]


def call_of(
    measure: str | Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> Call:
    """Bind arguments to a measure of :mod:`ibticks.analysis`.

    Raises
    ------
    InputError
        There is no such measure, or it has no such arguments.

    Examples
    --------
    >>> call_of("time_bars", ("1m",), {"of": "quotes"})["every"]
    '1m'
    >>> call_of("time_bars", (), {})
    Traceback (most recent call last):
        ...
    ibticks.errors.InputError: time_bars: missing a required argument: 'every'
    """
    name = measure if isinstance(measure, str) else getattr(measure, "__name__", repr(measure))
    function = getattr(analysis, name) if name in analysis.__all__ else None
    if not inspect.isfunction(function) or measure not in (name, function):
        raise InputError(f"{name} is no measure; ibticks.analysis.__all__ lists them")
    try:
        bound = inspect.signature(function).bind(None, *arguments, **named)
    except TypeError as problem:
        raise InputError(f"{name}: {problem}") from None
    bound.apply_defaults()
    _, *given = bound.arguments.items()
    said = [*map(repr, arguments), *(f"{each}={value!r}" for each, value in named.items())]
    return Call(name, function, dict(given), f"{name}({', '.join(said)})")
