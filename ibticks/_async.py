"""Awaitable forms of methods that read files or ask the index."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["in_thread"]

Owner = TypeVar("Owner")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


def in_thread(
    method: Callable[Concatenate[Owner, Arguments], Result], summary: str
) -> Callable[Concatenate[Owner, Arguments], Coroutine[Any, Any, Result]]:
    """Return the awaitable form of a method: it runs in a thread of the event loop's pool.

    Cancellation takes effect at once; the thread then ends by itself, and its result is dropped.

    Parameters
    ----------
    method : callable
    summary : str
        First line of the docstring.

    Examples
    --------
    >>> import asyncio
    >>> class Sum:
    ...     def add(self, value: int) -> int:
    ...         return 2 + value
    ...
    ...     add_async = in_thread(add, "Add, without blocking the event loop.")
    >>> asyncio.run(Sum().add_async(3))
    5
    """

    async def run(owner: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return await asyncio.to_thread(method, owner, *args, **kwargs)

    functools.update_wrapper(run, method)
    run.__name__ = f"{method.__name__}_async"
    run.__qualname__ = f"{method.__qualname__}_async"
    run.__doc__ = summary
    return run
