"""A capture's status as a panel in a notebook, kept up to date while it runs."""

from __future__ import annotations

import threading
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ibticks.capture import Capture

__all__ = ["panel_html", "show_live", "status_text"]

_REFRESH: Final = 1.0
_COLOURS: Final = {
    "captured": "#2e7d32",
    "quiet": "#b26a00",
    "disconnected": "#c62828",
    "not_permitted": "#6a1b9a",
    "session_closed": "#546e7a",
}
_CELL: Final = "padding:2px 10px;text-align:left"


def panel_html(status: dict[str, Any]) -> str:
    """The status of :meth:`Capture.status` as HTML."""
    said = status["status"]
    good = said["running"] and said["tws_connected"]
    colour = _COLOURS["captured"] if good else _COLOURS["disconnected"]
    word = "connected" if good else ("reconnecting" if said["running"] else "stopped")
    rows = "".join(
        _row(contract["symbol"], kind, stream)
        for contract in said["contracts"].values()
        for kind, stream in contract["streams"].items()
    )
    head = "".join(
        f"<th style='{_CELL}'>{name}</th>"
        for name in (
            "contract",
            "tick type",
            "state",
            "ticks",
            "last tick (UTC)",
            "lag",
            "last error",
        )
    )
    problem = said["last_problem"] or (said["failures"][-1] if said["failures"] else "")
    note = f"<div style='color:{_COLOURS['disconnected']}'>{escape(problem)}</div>"
    return (
        "<div style='font-family:sans-serif;font-size:13px'>"
        f"<div><span style='color:{colour}'>&#9679;</span> <b>ibticks capture</b> {word} · "
        f"{escape(said['gateway'])} · {said['total_streams']} streams · "
        f"{said['ticks']:,} ticks · {said['ticks_per_second']:,.1f} ticks/s</div>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"{note if problem else ''}</div>"
    )


def _row(symbol: str, kind: str, stream: dict[str, Any]) -> str:
    state = stream["state"] or "not yet subscribed"
    cells = (
        escape(symbol),
        kind,
        f"<span style='color:{_COLOURS.get(state, '#546e7a')}'>{state.replace('_', ' ')}</span>",
        f"{stream['ticks']:,}",
        escape((stream["last_tick"] or "–")[:23].replace("T", " ")),
        _lag(stream),
        escape(stream["last_error"]),
    )
    return "<tr>" + "".join(f"<td style='{_CELL}'>{cell}</td>" for cell in cells) + "</tr>"


def _lag(stream: dict[str, Any]) -> str:
    """Format the lag of a tick by IB's whole seconds; of a replay, the time it replays."""
    if stream["lag_problem"]:
        event = (stream["last_event"] or "an unknown time")[:19].replace("T", " ")
        return escape(f"{stream['lag_problem']}: {event} UTC")
    return "–" if stream["lag_seconds"] is None else f"{stream['lag_seconds']:.1f} s"


def status_text(status: dict[str, Any]) -> str:
    """The same in one line of text."""
    said = status["status"]
    word = "connected" if said["tws_connected"] else "not connected"
    problem = said["last_problem"] or (said["failures"][-1] if said["failures"] else "")
    return (
        f"ibticks capture {word if said['running'] else 'stopped'}, "
        f"{said['total_streams']} streams, {said['ticks']:,} ticks"
        + (f"; last problem: {problem}" if problem else "")
    )


def show_live(capture: Capture) -> None:
    """Display the panel, and have it follow the capture for as long as that runs.

    A terminal has nothing to keep up to date: there it is printed, once.
    """
    from IPython import display, get_ipython

    def panel() -> dict[str, str]:
        status = capture.status()
        return {"text/html": panel_html(status), "text/plain": status_text(status)}

    handle: Any = display.display(panel(), raw=True, display_id=True)
    if handle is None or not capture.running or not hasattr(get_ipython(), "kernel"):
        return

    def follow() -> None:
        while not capture.wait(_REFRESH):
            handle.update(panel(), raw=True)
        handle.update(panel(), raw=True)

    threading.Thread(target=follow, name="ibticks-panel", daemon=True).start()
