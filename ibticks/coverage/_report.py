"""Coverage to look at: a report in words, and a picture that needs no network and no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from ibticks.calendar import format_duration, format_ns
from ibticks.coverage._model import fraction, runs, sums
from ibticks.coverage._states import MEANINGS, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ibticks.coverage._model import Coverage, Stretch

__all__ = ["page", "percent", "report", "said", "strip", "until_second"]

# Colours that the colour-blind tell apart (Okabe and Ito, "Color Universal Design", 2008); what is
# in no ledger is drawn in the colour of the text, thick or thin.
_FILLS: Final[dict[State, str]] = {
    State.CAPTURED: "#009E73",
    State.BACKFILLED: "#56B4E9",
    State.SESSION_CLOSED: "#BBBBBB",
    State.QUIET: "#F0E442",
    State.DISCONNECTED: "#D55E00",
    State.NOT_PERMITTED: "#CC79A7",
    State.DELETED: "#0072B2",
    State.NOT_RUNNING: "currentColor",
    State.ENDED: "currentColor",
    State.UNKNOWN: "currentColor",
}
_OPACITY: Final = {State.NOT_RUNNING: 0.75, State.ENDED: 0.3, State.UNKNOWN: 0.15}

_WIDTH: Final = 900
_LEFT: Final = 170
_ROW: Final = 22
_BAR: Final = 16
_LEGEND: Final = 140
_BETWEEN: Final = 3
_LABEL: Final = 90
_LETTER: Final = 6.6
_MOST_GAPS: Final = 10
_MOST_LINES: Final = 20
_NS: Final = 1_000_000_000
_DAY: Final = 86_400 * _NS
_STEPS: Final = tuple(
    seconds * _NS
    for seconds in (
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(3600, 7200, 10800, 21600, 43200),
        *(86400 * days for days in (1, 2, 7, 14, 30, 60, 90, 180, 365, 730, 1825, 3650)),
    )
)


def until_second(ns: int) -> str:
    """A duration for a person; from a minute on, to the second.

    Examples
    --------
    >>> until_second(3_725_123_456_789), until_second(1_250_000_000)
    ('1h2m5s', '1s250ms')
    """
    for least, unit in ((60 * _NS, _NS), (_NS, 1_000_000), (1_000_000, 1_000)):
        if ns >= least:
            ns -= ns % unit
            break
    return format_duration(ns) if ns > 0 else "0s"


def report(coverage: Coverage) -> str:
    """What was covered of each stream, and its longest gaps, in words."""
    if not coverage.stretches:
        return f"{_title(coverage)}\n  nothing is known of this time"
    lines = [_title(coverage), f"  {_range(coverage)}"]
    names = {stream: coverage.name(stream) for stream in coverage.streams}
    width = max(map(len, names.values()))
    for stream, stretches in coverage.by_stream():
        states = ", ".join(
            f"{said(state)} {until_second(ns)}" for state, ns in sums(stretches).items()
        )
        lines.append(f"  {names[stream]:<{width}}  {percent(fraction(stretches)):>7}  {states}")
    gaps = runs(coverage.gaps())
    longest = sorted(gaps, key=_length)[-_MOST_LINES:]
    shown = f", the {_MOST_LINES} longest" if len(longest) < len(gaps) else ""
    lines.append(f"gaps: {len(gaps) or 'none'}{shown}")
    for gap in (gap for run in gaps if run in longest for gap in run):
        name = names[gap.contract_id, gap.tick_type]
        lines.append(f"  {name:<{width}}  {_when(gap)}")
    if any(stretch.state is State.UNKNOWN for stretch in coverage.stretches):
        lines.append(f"unknown: {MEANINGS[State.UNKNOWN]}")
    return "\n".join(lines)


def page(coverage: Coverage) -> str:
    """The picture, and its longest gaps as a table, for a notebook."""
    if not coverage.stretches:
        return f"<p>{escape(_title(coverage))}: nothing is known of this time</p>"
    gaps = sorted(runs(coverage.gaps()), key=_length, reverse=True)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td style='text-align:left'>{escape(cell)}</td>"
            for cell in (
                coverage.name((gap.contract_id, gap.tick_type)),
                format_ns(gap.start_ns),
                format_ns(gap.end_ns),
                until_second(gap.end_ns - gap.start_ns),
                said(gap.state),
                gap.reason,
            )
        )
        + "</tr>"
        for run in gaps[:_MOST_GAPS]
        for gap in run
    )
    head = "".join(
        f"<th style='text-align:left'>{name}</th>"
        for name in ("stream", "start", "end", "duration", "state", "reason")
    )
    more = f", the {_MOST_GAPS} longest of {len(gaps):,}" if len(gaps) > _MOST_GAPS else ""
    table = (
        f"<table><caption>gaps{more}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        if gaps
        else "<p>no gaps</p>"
    )
    return f"<figure style='margin:0'>{strip(coverage)}</figure>{table}"


def strip(coverage: Coverage) -> str:
    """An SVG: a row for each stream, a colour for each state, a legend and a time axis."""
    axis = _Axis(coverage.intervals)
    present = list(sums(coverage.stretches))
    per_line = (_WIDTH - 10) // _LEGEND
    bars = 30 + _ROW * len(coverage.streams)
    height = bars + 24 + 18 * -(-len(present) // per_line)
    summary = "; ".join(
        f"{coverage.name(stream)} {percent(fraction(stretches))}"
        for stream, stretches in coverage.by_stream()
    )
    spoken = escape(f"{_title(coverage)}. {_range(coverage)}. {summary}", quote=True)
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' role='img' "
        f"style='width:100%;max-width:{_WIDTH}px;font:12px sans-serif' fill='currentColor' "
        f"aria-label='{spoken}'>"
    )
    parts = [head, f"<text x='0' y='14' font-weight='bold'>{escape(_title(coverage))}</text>"]
    for row, (stream, stretches) in enumerate(coverage.by_stream()):
        top = 24 + row * _ROW
        share = percent(fraction(stretches))
        parts.append(f"<text x='0' y='{top + 13}'>{escape(coverage.name(stream))}</text>")
        parts.append(f"<text x='{_LEFT - 6}' y='{top + 13}' text-anchor='end'>{share}</text>")
        # What is missing is drawn last, and never thinner than a line.
        for state in sorted(present, key=lambda each: list(State).index(each)):
            mine = [stretch for stretch in stretches if stretch.state is state]
            parts += (
                f"<rect x='{left:.1f}' y='{top}' width='{width:.1f}' height='{_BAR}' "
                f"{_fill(state)}><title>{escape(text)}</title></rect>"
                for left, width, text in axis.bars(mine)
            )
    parts.append(f"<text x='{_LEFT - 6}' y='{bars + 10}' text-anchor='end'>UTC</text>")
    for at, text in axis.labels():
        parts.append(
            f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{bars - 8}' y2='{bars - 3}' "
            f"stroke='currentColor'/><text x='{at:.1f}' y='{bars + 10}' text-anchor='start'>"
            f"{text}</text>"
        )
    for number, state in enumerate(present):
        left, top = number % per_line * _LEGEND, bars + 22 + 18 * (number // per_line)
        parts.append(
            f"<rect x='{left}' y='{top}' width='12' height='12' {_fill(state)}/>"
            f"<text x='{left + 17}' y='{top + 10}'>{said(state)}"
            f"<title>{escape(MEANINGS[state])}</title></text>"
        )
    return "".join([*parts, "</svg>"])


class _Axis:
    """Where on the picture an instant is: the intervals side by side, each as wide as it is long.

    Parameters
    ----------
    intervals : sequence of (int, int)
    """

    def __init__(self, intervals: Sequence[tuple[int, int]]) -> None:
        self._total = sum(end - start for start, end in intervals)
        room = _WIDTH - _LEFT
        self._between = min(_BETWEEN, room / (2 * len(intervals)))
        self._scale = (room - self._between * (len(intervals) - 1)) / self._total
        self._places: list[tuple[int, int, float]] = []
        left = float(_LEFT)
        for start, end in intervals:
            self._places.append((start, end, left))
            left += (end - start) * self._scale + self._between

    def bars(self, stretches: Sequence[Stretch]) -> Iterator[tuple[float, float, str]]:
        """Left edge, width and text of what is to be drawn of one state.

        Bars that would touch are drawn as one: there are never more than the picture is wide.
        """
        places = iter(self._places)
        start, end, left = next(places)
        drawn: tuple[float, float, list[Stretch]] | None = None
        for stretch in stretches:
            while stretch.start_ns >= end:
                start, end, left = next(places)
            begin = left + (stretch.start_ns - start) * self._scale
            until = begin + max(1.0, (stretch.end_ns - stretch.start_ns) * self._scale)
            if drawn is not None and begin < drawn[1] + 0.5:
                drawn = drawn[0], max(until, drawn[1]), [*drawn[2][:_MOST_GAPS], stretch]
                continue
            if drawn is not None:
                yield drawn[0], drawn[1] - drawn[0], _tooltip(drawn[2])
            drawn = begin, until, [stretch]
        if drawn is not None:
            yield drawn[0], drawn[1] - drawn[0], _tooltip(drawn[2])

    def labels(self) -> Iterator[tuple[float, str]]:
        """Where the axis says a time, and which (UTC)."""
        if len(self._places) > 1:
            free = float(_LEFT)
            for start, _, left in self._places:
                text = format_ns(start)[:10]
                if left >= free and left + _LETTER * len(text) <= _WIDTH:
                    yield left, text
                    free = left + _LABEL
            return
        start, end, left = self._places[0]
        most = (_WIDTH - _LEFT) / _LABEL
        step = next((step for step in _STEPS if self._total / step <= most), _STEPS[-1])
        free, day = 0.0, ""
        for at in range(-(-start // step) * step, end, step):
            date, time = format_ns(at)[:10], format_ns(at)[11:19].removesuffix(":00")
            text = " ".join([date] * (date != day) + [time] * (step < _DAY))
            place = left + (at - start) * self._scale
            if place >= free and place + _LETTER * len(text) <= _WIDTH:
                yield place, text
                free, day = place + _LETTER * (len(text) + 1), date


def _fill(state: State) -> str:
    opacity = f" fill-opacity='{_OPACITY[state]}'" if state in _OPACITY else ""
    return f"fill='{_FILLS[state]}'{opacity}"


def _tooltip(stretches: Sequence[Stretch]) -> str:
    return "\n".join(map(_when, stretches[:_MOST_GAPS])) + "\n…" * (len(stretches) > _MOST_GAPS)


def _when(stretch: Stretch) -> str:
    length = until_second(stretch.end_ns - stretch.start_ns)
    why = " ".join(part for part in (said(stretch.state), stretch.reason) if part)
    return f"{format_ns(stretch.start_ns)} to {format_ns(stretch.end_ns)}  {length}  {why}"


def _length(run: Sequence[Stretch]) -> int:
    return run[-1].end_ns - run[0].start_ns


def said(state: State) -> str:
    """A state as words."""
    return state.value.replace("_", " ")


def percent(share: float) -> str:
    """A share that says 100 % only where it is.

    Examples
    --------
    >>> percent(1.0), percent(0.99999), percent(0.00001)
    ('100 %', '99.9 %', '0.1 %')
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def _title(coverage: Coverage) -> str:
    return f"coverage of {coverage.label}" if coverage.label else "coverage"


def _range(coverage: Coverage) -> str:
    first, last = coverage.intervals[0][0], coverage.intervals[-1][1]
    parts = f" in {len(coverage.intervals)} parts" if len(coverage.intervals) > 1 else ""
    return f"{format_ns(first)} to {format_ns(last)}{parts}"
