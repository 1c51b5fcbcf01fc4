"""Walking through IB's history, page by page, each second once and whole.

What is known of a page (Interactive Brokers, *TWS API: Historical Time and Sales Data*): it begins
with the first tick of a second, never reaches into another trading session, and "to complete a full
second, more ticks may be returned than requested". So

- a page with more ticks than were asked for is whole to its last second, and so is one with fewer;
- one with exactly as many may end within a second: that second is asked for again, from its
  beginning. If it is all there is on the page, nothing more can be had: that is told in the log,
  and the next one follows;
- an empty page says nothing of later sessions. The walk goes on at the next quarter of an hour, as
  sessions begin at one.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["QUARTER", "Timed", "walk"]

_log = logging.getLogger(__name__)

QUARTER: Final = 900
"""Seconds from one moment at which a session may begin to the next."""


class Timed(Protocol):
    """Whatever has a time in whole seconds."""

    @property
    def time(self) -> int:
        """UTC seconds."""


T = TypeVar("T", bound=Timed)


def walk(
    ask: Callable[[int, int], Sequence[T]],
    start: int,
    end: int,
    most: int,
    *,
    step: int = QUARTER,
) -> Iterator[tuple[int, list[T]]]:
    """All ticks of the seconds in ``[start, end)``, in order.

    Parameters
    ----------
    ask : callable
        Given a second and a number: the page of about so many ticks that begins there.
    start, end : int
        UTC seconds.
    most : int
        Ticks to ask for at a time; IB gives a thousand at most.
    step : int
        To which multiple of seconds an empty page is skipped.

    Yields
    ------
    until : int
        Everything before this second has been given now.
    ticks : list
        Those of whole seconds before it.

    Examples
    --------
    >>> from ibticks.history._historical_tick import PastTick
    >>> history = [PastTick(second, (180.5,)) for second in (1, 1, 2, 2, 2, 4)]
    >>> def ask(second, most):
    ...     return [tick for tick in history if tick.time >= second][:most]
    >>> [(until, len(ticks)) for until, ticks in walk(ask, 1, 5, 4)]
    [(2, 2), (4, 3), (5, 1)]
    """
    at = start
    while at < end:
        page = sorted(
            (tick for tick in ask(at, most) if tick.time >= at), key=lambda tick: tick.time
        )
        until = _whole_until(page, most) if page else at - at % step + step
        if len(page) == most and page[0].time == page[-1].time < end:
            _log.warning(
                "all %d ticks of a page are of %s UTC: if there are more of that second, IB keeps "
                "them",
                most,
                f"{datetime.fromtimestamp(page[0].time, UTC):%Y-%m-%d %H:%M:%S}",
            )
        until = min(until, end)
        yield until, [tick for tick in page if tick.time < until]
        at = until


def _whole_until(page: Sequence[Timed], most: int) -> int:
    """The second before which a page is whole."""
    last = page[-1].time
    may_be_cut = len(page) == most and page[0].time < last
    return last if may_be_cut else last + 1
