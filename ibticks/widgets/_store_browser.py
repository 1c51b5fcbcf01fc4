"""``StoreBrowser``: a heat map of the streams and days of a store, to pick a Selection from."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

from ibticks._types import StreamKey
from ibticks.config import NANOSECONDS
from ibticks.widgets._page_widget import PageWidget, javascript, style

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.selection import Selection
    from ibticks.store import Store

__all__ = ["StoreBrowser"]

_DAY_NS: Final = 86_400_000_000_000
_EPOCH: Final = date(1970, 1, 1)
_SATURDAY: Final = 5
_MAX_EMPTY_DAYS: Final = 14


class StoreBrowser(PageWidget, anywidget.AnyWidget):
    """A heat map of a store: a row for each stream, a column for each UTC day, ticks and gaps.

    A click or Enter on a day selects it: :attr:`selection` has the ticks of that day then.

    Parameters
    ----------
    store : Store
    on_select : callable, optional
        Called with the Selection whenever a day is picked.

    Examples
    --------
    >>> import tempfile
    >>> import ibticks as ibt
    >>> from ibticks.widgets import StoreBrowser
    >>> with ibt.open(tempfile.mkdtemp()) as store:
    ...     browser = StoreBrowser(store)
    ...     print(browser.selection)
    ...     browser.close()
    None
    """

    _esm = javascript("store_browser")
    _css = style("store_browser")

    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    days: traitlets.List[str] = traitlets.List().tag(sync=True)
    picked = traitlets.Dict().tag(sync=True)

    def __init__(
        self, store: Store, *, on_select: Callable[[Selection], object] | None = None
    ) -> None:
        super().__init__()
        self.store: Final = store
        self.summary = f"The map of the store {store.root}"
        self._on_select: Final = on_select
        self.refresh()
        self.observe(self._on_pick, "picked")

    @property
    def selection(self) -> Selection | None:
        """The ticks of the day that was picked last; None before that."""
        if not self.picked:
            return None
        first = date.fromisoformat(self.picked["date"])
        return self.store.select(
            self.picked["contract_id"],
            self.picked["tick_type"],
            start=f"{first}T00:00:00Z",
            end=f"{first + timedelta(days=1)}T00:00:00Z",
        )

    def refresh(self) -> None:
        """Read the contents of the store again."""
        symbols = {contract.contract_id: contract.symbol for contract in self.store.contracts()}
        ticks: dict[StreamKey, dict[date, int]] = defaultdict(dict)
        for stats in self.store.daily_stats():
            ticks[StreamKey(stats.contract_id, stats.tick_type)][date.fromisoformat(stats.date)] = (
                stats.ticks
            )
        gaps: dict[StreamKey, dict[date, float]] = defaultdict(lambda: defaultdict(float))
        for gap in self.store.coverage().gaps():
            stream = StreamKey(gap.contract_id, gap.tick_type)
            for day, seconds in _seconds_by_day(gap.start_ns, gap.end_ns):
                gaps[stream][day] += seconds
        filled = {day for by_stream in (ticks, gaps) for days in by_stream.values() for day in days}
        days = _fill_days(sorted(filled))
        column = {day: number for number, day in enumerate(days)}
        rows: list[dict[str, Any]] = []
        for stream in sorted(ticks.keys() | gaps.keys()):
            stream_days = sorted(ticks[stream].keys() | gaps[stream].keys())
            rows.append(
                {
                    "contract_id": stream.contract_id,
                    "tick_type": stream.tick_type,
                    "symbol": symbols.get(stream.contract_id) or str(stream.contract_id),
                    "days": [column[day] for day in stream_days],
                    "ticks": [ticks[stream].get(day, 0) for day in stream_days],
                    "gaps": [gaps[stream].get(day, 0.0) for day in stream_days],
                }
            )
        with self.hold_sync():
            self.days = [day.isoformat() for day in days]
            self.rows = rows

    def _on_pick(self, _: object) -> None:
        self.send({"type": "picked"})
        selection = self.selection
        if self._on_select is not None and selection is not None:
            self._on_select(selection)


def _fill_days(filled: list[date]) -> list[date]:
    """Add the empty weekdays between days that have ticks or gaps, unless there are many.

    A holiday is added and a weekend is not; nor are the years between two recordings.
    """
    days = filled[:1]
    for day in filled[1:]:
        between = [days[-1] + timedelta(days=n) for n in range(1, (day - days[-1]).days)]
        if len(between) <= _MAX_EMPTY_DAYS:
            days += [empty for empty in between if empty.weekday() < _SATURDAY]
        days.append(day)
    return days


def _seconds_by_day(start_ns: int, end_ns: int) -> list[tuple[date, float]]:
    """Return the seconds of each UTC day between two times."""
    seconds = []
    for number in range(start_ns // _DAY_NS, -(-end_ns // _DAY_NS)):
        begin = max(start_ns, number * _DAY_NS)
        end = min(end_ns, (number + 1) * _DAY_NS)
        seconds.append((_EPOCH + timedelta(days=number), (end - begin) / NANOSECONDS))
    return seconds
