"""Reports of coverage: text, table rows, and an SVG picture without scripts or network access."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from ibticks._html import html_table
from ibticks.calendar import format_duration, format_ns
from ibticks.config import NANOSECONDS
from ibticks.coverage._states import (
    MEANINGS,
    CoverageState,
    covered_fraction,
    duration_by_state,
    group_adjacent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ibticks._types import Interval
    from ibticks.coverage._model import Coverage
    from ibticks.coverage._states import CoverageInterval

__all__ = [
    "GAP_COLUMNS",
    "SUMMARY_COLUMNS",
    "format_coarse_duration",
    "format_fraction",
    "format_report",
    "gap_rows",
    "render_html",
    "render_svg",
    "summary_rows",
]

SUMMARY_COLUMNS: Final = ("stream", "covered", "time")
"""Heads of the columns of :func:`summary_rows`."""

GAP_COLUMNS: Final = ("stream", "start", "end", "duration", "state", "reason")
"""Heads of the columns of :func:`gap_rows`."""

# Colours that the colour-blind can tell apart (Okabe and Ito, "Color Universal Design", 2008);
# states without a row in the ledger are drawn in the colour of the text, at some opacity.
_FILLS: Final[dict[CoverageState, str]] = {
    CoverageState.CAPTURED: "#009E73",
    CoverageState.BACKFILLED: "#56B4E9",
    CoverageState.SESSION_CLOSED: "#BBBBBB",
    CoverageState.QUIET: "#F0E442",
    CoverageState.DISCONNECTED: "#D55E00",
    CoverageState.NOT_PERMITTED: "#CC79A7",
    CoverageState.DELETED: "#0072B2",
    CoverageState.NOT_RUNNING: "currentColor",
    CoverageState.ENDED: "currentColor",
    CoverageState.UNKNOWN: "currentColor",
}
_OPACITY: Final = {
    CoverageState.NOT_RUNNING: 0.75,
    CoverageState.ENDED: 0.3,
    CoverageState.UNKNOWN: 0.15,
}

_WIDTH_PX: Final = 900
_LABEL_WIDTH_PX: Final = 170
_ROW_HEIGHT_PX: Final = 22
_BAR_HEIGHT_PX: Final = 16
_LEGEND_WIDTH_PX: Final = 140
_SPACING_PX: Final = 3
_AXIS_LABEL_PX: Final = 90
_LETTER_PX: Final = 6.6
_MAX_TABLE_GAPS: Final = 10
_MAX_TEXT_GAPS: Final = 20
_DAY_NS: Final = 86_400 * NANOSECONDS
_AXIS_STEPS_NS: Final = tuple(
    seconds * NANOSECONDS
    for seconds in (
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(3600, 7200, 10800, 21600, 43200),
        *(86400 * days for days in (1, 2, 7, 14, 30, 60, 90, 180, 365, 730, 1825, 3650)),
    )
)


def format_coarse_duration(ns: int) -> str:
    """Format a duration with the precision a reader needs; from a minute on, to the second.

    Examples
    --------
    >>> format_coarse_duration(3_725_123_456_789), format_coarse_duration(1_250_000_000)
    ('1h2m5s', '1s250ms')
    """
    minute, millisecond, microsecond = 60 * NANOSECONDS, NANOSECONDS // 1000, 1_000
    for min_ns, unit_ns in (
        (minute, NANOSECONDS),
        (NANOSECONDS, millisecond),
        (millisecond, microsecond),
    ):
        if ns >= min_ns:
            ns -= ns % unit_ns
            break
    return format_duration(ns) if ns > 0 else "0s"


def format_fraction(fraction: float) -> str:
    """Format a fraction as percent; only exact values are shown as 0 % and 100 %.

    Examples
    --------
    >>> format_fraction(1.0), format_fraction(0.99999), format_fraction(0.00001)
    ('100 %', '99.9 %', '0.1 %')
    """
    if fraction in (0.0, 1.0):
        return f"{fraction:.0%}".replace("%", " %")
    return f"{min(max(fraction * 100, 0.1), 99.9):.1f} %"


def summary_rows(coverage: Coverage) -> list[tuple[str, ...]]:
    """Return the name, the covered fraction and the time in each state of every stream."""
    return [
        (
            coverage.name(stream),
            format_fraction(covered_fraction(intervals)),
            ", ".join(
                f"{state.label} {format_coarse_duration(ns)}"
                for state, ns in duration_by_state(intervals).items()
            ),
        )
        for stream, intervals in coverage.by_stream()
    ]


def gap_rows(coverage: Coverage, gaps: Iterable[CoverageInterval]) -> list[tuple[str, ...]]:
    """Return the cells of gaps, in the order of :data:`GAP_COLUMNS`."""
    return [
        (
            coverage.name(gap.stream),
            format_ns(gap.start_ns),
            format_ns(gap.end_ns),
            format_coarse_duration(gap.end_ns - gap.start_ns),
            gap.state.label,
            gap.reason,
        )
        for gap in gaps
    ]


def format_report(coverage: Coverage) -> str:
    """Format the coverage of each stream, and the longest gaps, as text."""
    if not coverage.state_intervals:
        return f"{_title(coverage)}\n  nothing is known of this time"
    lines = [_title(coverage), f"  {_time_range(coverage)}"]
    rows = summary_rows(coverage)
    width = max(len(row[0]) for row in rows)
    lines += (f"  {name:<{width}}  {fraction:>7}  {states}" for name, fraction, states in rows)
    gaps = group_adjacent(coverage.gaps())
    longest = sorted(gaps, key=_length_ns)[-_MAX_TEXT_GAPS:]
    limit = f", the {_MAX_TEXT_GAPS} longest" if len(longest) < len(gaps) else ""
    lines.append(f"gaps: {len(gaps) or 'none'}{limit}")
    for gap in (gap for group in gaps if group in longest for gap in group):
        lines.append(f"  {coverage.name(gap.stream):<{width}}  {_describe(gap)}")
    if any(
        state_interval.state is CoverageState.UNKNOWN for state_interval in coverage.state_intervals
    ):
        lines.append(f"unknown: {CoverageState.UNKNOWN.meaning}")
    return "\n".join(lines)


def render_html(coverage: Coverage) -> str:
    """Render the picture, and the longest gaps as a table, for a notebook."""
    if not coverage.state_intervals:
        return f"<p>{escape(_title(coverage))}: nothing is known of this time</p>"
    gaps = sorted(group_adjacent(coverage.gaps()), key=_length_ns, reverse=True)
    limit = f", the {_MAX_TABLE_GAPS} longest of {len(gaps):,}" * (len(gaps) > _MAX_TABLE_GAPS)
    longest = [gap for group in gaps[:_MAX_TABLE_GAPS] for gap in group]
    table = (
        html_table(gap_rows(coverage, longest), GAP_COLUMNS, caption=f"gaps{limit}")
        if gaps
        else "<p>no gaps</p>"
    )
    return f"<figure style='margin:0'>{render_svg(coverage)}</figure>{table}"


def render_svg(coverage: Coverage) -> str:
    """Render an SVG: a row for each stream, a colour for each state, a legend and a time axis."""
    axis = _Axis(coverage.intervals)
    present = list(duration_by_state(coverage.state_intervals))
    per_line = (_WIDTH_PX - 10) // _LEGEND_WIDTH_PX
    bars_end = 30 + _ROW_HEIGHT_PX * len(coverage.streams)
    height = bars_end + 24 + 18 * -(-len(present) // per_line)
    summary = "; ".join(
        f"{coverage.name(stream)} {format_fraction(covered_fraction(intervals))}"
        for stream, intervals in coverage.by_stream()
    )
    label = escape(f"{_title(coverage)}. {_time_range(coverage)}. {summary}", quote=True)
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH_PX} {height}' role='img' "
        f"style='width:100%;max-width:{_WIDTH_PX}px;font:12px sans-serif' fill='currentColor' "
        f"aria-label='{label}'>"
    )
    elements = [
        head,
        f"<text x='0' y='14' font-weight='bold'>{escape(_title(coverage))}</text>",
    ]
    for row, (stream, intervals) in enumerate(coverage.by_stream()):
        top = 24 + row * _ROW_HEIGHT_PX
        fraction = format_fraction(covered_fraction(intervals))
        elements.append(f"<text x='0' y='{top + 13}'>{escape(coverage.name(stream))}</text>")
        elements.append(
            f"<text x='{_LABEL_WIDTH_PX - 6}' y='{top + 13}' text-anchor='end'>{fraction}</text>"
        )
        # Gaps are drawn last, at least a pixel wide, so that no other state hides them.
        for state in sorted(present, key=list(CoverageState).index):
            in_state = [interval for interval in intervals if interval.state is state]
            elements += (
                f"<rect x='{left:.1f}' y='{top}' width='{width:.1f}' height='{_BAR_HEIGHT_PX}' "
                f"{_fill(state)}><title>{escape(text)}</title></rect>"
                for left, width, text in axis.bars(in_state)
            )
    elements.append(
        f"<text x='{_LABEL_WIDTH_PX - 6}' y='{bars_end + 10}' text-anchor='end'>UTC</text>"
    )
    for x, text in axis.labels():
        elements.append(
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{bars_end - 8}' y2='{bars_end - 3}' "
            f"stroke='currentColor'/><text x='{x:.1f}' y='{bars_end + 10}' text-anchor='start'>"
            f"{text}</text>"
        )
    for number, state in enumerate(present):
        left = number % per_line * _LEGEND_WIDTH_PX
        top = bars_end + 22 + 18 * (number // per_line)
        elements.append(
            f"<rect x='{left}' y='{top}' width='12' height='12' {_fill(state)}/>"
            f"<text x='{left + 17}' y='{top + 10}'>{state.label}"
            f"<title>{escape(MEANINGS[state])}</title></text>"
        )
    return "".join([*elements, "</svg>"])


class _Axis:
    """Time axis of the picture: the intervals side by side, each as wide as it is long.

    Parameters
    ----------
    intervals : sequence of (int, int)
    """

    def __init__(self, intervals: Sequence[Interval]) -> None:
        self._total_ns = sum(end - start for start, end in intervals)
        width = _WIDTH_PX - _LABEL_WIDTH_PX
        self._spacing = min(_SPACING_PX, width / (2 * len(intervals)))
        self._scale = (width - self._spacing * (len(intervals) - 1)) / self._total_ns
        self._places: list[tuple[int, int, float]] = []
        left = float(_LABEL_WIDTH_PX)
        for start, end in intervals:
            self._places.append((start, end, left))
            left += (end - start) * self._scale + self._spacing

    def bars(self, intervals: Sequence[CoverageInterval]) -> Iterator[tuple[float, float, str]]:
        """Yield the left edge, the width and the tooltip of the bars of one state.

        Bars that would touch are drawn as one, so there are never more than pixels.
        """
        places = iter(self._places)
        start, end, left = next(places)
        bar: tuple[float, float, list[CoverageInterval]] | None = None
        for interval in intervals:
            while interval.start_ns >= end:
                start, end, left = next(places)
            begin = left + (interval.start_ns - start) * self._scale
            until = begin + max(1.0, (interval.end_ns - interval.start_ns) * self._scale)
            if bar is not None and begin < bar[1] + 0.5:
                bar = bar[0], max(until, bar[1]), [*bar[2][:_MAX_TABLE_GAPS], interval]
                continue
            if bar is not None:
                yield bar[0], bar[1] - bar[0], _tooltip(bar[2])
            bar = begin, until, [interval]
        if bar is not None:
            yield bar[0], bar[1] - bar[0], _tooltip(bar[2])

    def labels(self) -> Iterator[tuple[float, str]]:
        """Yield the place and the text (UTC) of the labels of the axis."""
        if len(self._places) > 1:
            free = float(_LABEL_WIDTH_PX)
            for start, _, left in self._places:
                text = format_ns(start)[:10]
                if left >= free and left + _LETTER_PX * len(text) <= _WIDTH_PX:
                    yield left, text
                    free = left + _AXIS_LABEL_PX
            return
        start, end, left = self._places[0]
        max_labels = (_WIDTH_PX - _LABEL_WIDTH_PX) / _AXIS_LABEL_PX
        step = next(
            (step for step in _AXIS_STEPS_NS if self._total_ns / step <= max_labels),
            _AXIS_STEPS_NS[-1],
        )
        free, day = 0.0, ""
        for time_ns in range(-(-start // step) * step, end, step):
            date, time = format_ns(time_ns)[:10], format_ns(time_ns)[11:19].removesuffix(":00")
            text = " ".join([date] * (date != day) + [time] * (step < _DAY_NS))
            x = left + (time_ns - start) * self._scale
            if x >= free and x + _LETTER_PX * len(text) <= _WIDTH_PX:
                yield x, text
                free, day = x + _LETTER_PX * (len(text) + 1), date


def _fill(state: CoverageState) -> str:
    opacity = f" fill-opacity='{_OPACITY[state]}'" if state in _OPACITY else ""
    return f"fill='{_FILLS[state]}'{opacity}"


def _tooltip(intervals: Sequence[CoverageInterval]) -> str:
    more = "\n…" * (len(intervals) > _MAX_TABLE_GAPS)
    return "\n".join(map(_describe, intervals[:_MAX_TABLE_GAPS])) + more


def _describe(interval: CoverageInterval) -> str:
    length = format_coarse_duration(interval.end_ns - interval.start_ns)
    reason = " ".join(filter(None, (interval.state.label, interval.reason)))
    return f"{format_ns(interval.start_ns)} to {format_ns(interval.end_ns)}  {length}  {reason}"


def _length_ns(group: Sequence[CoverageInterval]) -> int:
    return group[-1].end_ns - group[0].start_ns


def _title(coverage: Coverage) -> str:
    return f"coverage of {coverage.label}" if coverage.label else "coverage"


def _time_range(coverage: Coverage) -> str:
    first, last = coverage.intervals[0][0], coverage.intervals[-1][1]
    number = len(coverage.intervals)
    parts = f" in {number} parts" if number > 1 else ""
    return f"{format_ns(first)} to {format_ns(last)}{parts}"
