"""What a store holds, as a heat map of streams and days from which a Selection is picked."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

from ibticks.widgets._assets import module, style
from ibticks.widgets._joined import Joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.selection import Selection
    from ibticks.store import Store

__all__ = ["StoreBrowser"]

_DAY_NS: Final = 86_400_000_000_000
_EPOCH: Final = date(1970, 1, 1)
_SATURDAY: Final = 5
_LONG: Final = 14


class StoreBrowser(Joined, anywidget.AnyWidget):
    """The streams of a store, a row each, and their UTC days: how many ticks, and what is missing.

    A click on a day, or Enter on it, selects it: :attr:`selection` is that day's ticks then.

    Parameters
    ----------
    store : Store
        What is shown.
    on_select : callable, optional
        Called with the Selection whenever one is picked.

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

    _esm = module("store_browser")
    _css = style("store_browser")

    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    days: traitlets.List[str] = traitlets.List().tag(sync=True)
    picked = traitlets.Dict().tag(sync=True)

    def __init__(
        self, store: Store, *, on_select: Callable[[Selection], object] | None = None
    ) -> None:
        super().__init__()
        self.store: Final = store
        self.described = f"The map of the store {store.root}"
        self._on_select: Final = on_select
        self.refresh()
        self.observe(self._tell, "picked")

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
        """Read again what is stored."""
        symbols = {one.contract_id: one.symbol for one in self.store.contracts()}
        ticks: dict[tuple[int, str], dict[date, int]] = defaultdict(dict)
        for stats in self.store.daily_stats():
            ticks[stats.contract_id, stats.tick_type][date.fromisoformat(stats.date)] = stats.ticks
        gaps: dict[tuple[int, str], dict[date, float]] = defaultdict(lambda: defaultdict(float))
        for gap in self.store.coverage().gaps():
            for day, seconds in _by_day(gap.start_ns, gap.end_ns):
                gaps[gap.contract_id, gap.tick_type][day] += seconds
        found = {day for of in (ticks, gaps) for days in of.values() for day in days}
        days = _worth_showing(sorted(found))
        place = {day: number for number, day in enumerate(days)}
        rows: list[dict[str, Any]] = []
        for stream in sorted(ticks.keys() | gaps.keys()):
            own = sorted(ticks[stream].keys() | gaps[stream].keys())
            rows.append(
                {
                    "contract_id": stream[0],
                    "tick_type": stream[1],
                    "symbol": symbols.get(stream[0]) or str(stream[0]),
                    "days": [place[day] for day in own],
                    "ticks": [ticks[stream].get(day, 0) for day in own],
                    "gaps": [gaps[stream].get(day, 0.0) for day in own],
                }
            )
        with self.hold_sync():
            self.days = [day.isoformat() for day in days]
            self.rows = rows

    def _tell(self, _: object) -> None:
        self.send({"type": "picked"})
        selection = self.selection
        if self._on_select is not None and selection is not None:
            self._on_select(selection)


def _worth_showing(found: list[date]) -> list[date]:
    """The days on which there is something, and few empty ones between them.

    A holiday stays and a weekend does not; nor do the years between two recordings.
    """
    days = found[:1]
    for day in found[1:]:
        between = [days[-1] + timedelta(days=n) for n in range(1, (day - days[-1]).days)]
        if len(between) <= _LONG:
            days += [empty for empty in between if empty.weekday() < _SATURDAY]
        days.append(day)
    return days


def _by_day(start_ns: int, end_ns: int) -> list[tuple[date, float]]:
    """The seconds of each UTC day between two times."""
    parts = []
    for number in range(start_ns // _DAY_NS, -(-end_ns // _DAY_NS)):
        begin = max(start_ns, number * _DAY_NS)
        end = min(end_ns, (number + 1) * _DAY_NS)
        parts.append((_EPOCH + timedelta(days=number), (end - begin) / 1e9))
    return parts
