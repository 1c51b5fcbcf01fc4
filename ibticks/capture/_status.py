"""Status of a capture: as JSON, as a file for other processes, and as a panel in a notebook."""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final, Protocol

from ibticks._html import Html, html_table
from ibticks._types import StreamKey
from ibticks.filesystem import give_to_store_owner
from ibticks.storage import metadata_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ibticks.capture._recorder import Recorder
    from ibticks.capture._settings import TrackedContract
    from ibticks.capture._supervisor import Supervisor

__all__ = [
    "contracts_status",
    "display_status",
    "panel_html",
    "read_status",
    "status_path",
    "status_text",
    "write_status",
]

_log = logging.getLogger(__name__)

REPLAY_LAG_SECONDS: Final = 3600.0
"""Difference of arrival and time at IB from which a tick counts as replayed, not as late."""

CLOCK_AHEAD_SECONDS: Final = 2.0
"""Lead of the time at IB over the arrival of a tick from which one of the two is wrong."""

STALE_SECONDS: Final = 30.0
"""Age of a status file from which on its capture counts as ended."""

_STATUS_BLOCK_BYTES: Final = 4096
_REFRESH_SECONDS: Final = 1.0
_COLOURS: Final = {
    "captured": "#2e7d32",
    "quiet": "#b26a00",
    "disconnected": "#c62828",
    "not_permitted": "#6a1b9a",
    "session_closed": "#546e7a",
}
_CELL_STYLE: Final = "padding:2px 10px;"


def contracts_status(
    tracked: Sequence[TrackedContract],
    recorders: Sequence[Recorder],
    supervisor: Supervisor | None,
) -> dict[str, dict[str, Any]]:
    """Return the status of contracts by id, with their streams."""
    subscribed = {
        StreamKey(subscription.recorder.contract_id, subscription.recorder.tick_type)
        for subscription in (() if supervisor is None else supervisor.subscriptions)
        if subscription.request is not None
    }
    streams = {StreamKey(rec.contract_id, rec.tick_type): rec for rec in recorders}
    contracts: dict[str, dict[str, Any]] = {}
    for contract in tracked:
        number = contract.contract_id
        active = [name for name in contract.tick_types if (number, name) in subscribed]
        contracts[str(number)] = {
            "symbol": contract.symbol,
            "enabled": contract.enabled,
            "expected_tick_types": list(contract.tick_types),
            "active_tick_types": active,
            "stream_count": len(active),
            "buffer_hours": contract.buffer_hours,
            "streams": {
                tick_type: _stream_status(streams[key])
                for tick_type in contract.tick_types
                if (key := StreamKey(number, tick_type)) in streams
            },
        }
    return contracts


def _stream_status(recorder: Recorder) -> dict[str, Any]:
    last, status = recorder.last_ns, recorder.last_status
    lag = last / 1e9 - recorder.last_event if last else None
    problem = "" if lag is None else _lag_problem(lag)
    return {
        "state": None if recorder.state is None else str(recorder.state),
        "since": None if status is None else _format_time(status.time_ns / 1e9),
        "reason": "" if status is None else status.reason,
        "code": None if status is None else status.code,
        "ticks": recorder.ticks,
        "sequence": recorder.sequence,
        "last_tick": _format_time(last / 1e9) if last else None,
        "last_event": _format_time(recorder.last_event) if last else None,
        "lag_seconds": None if lag is None or problem else round(lag, 3),
        "lag_problem": problem,
        "waiting": recorder.waiting,
        "storage_problem": recorder.storage_problem,
        "lost": recorder.lost,
        "errors": recorder.errors,
        "last_error": recorder.last_error,
    }


def _lag_problem(lag: float) -> str:
    """Return why the time from IB's stamp to the arrival is not a lag; empty if it is one."""
    if abs(lag) > REPLAY_LAG_SECONDS:
        return "replay"
    if lag < -CLOCK_AHEAD_SECONDS:
        return "ahead of this clock"
    return ""


def _format_time(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None  # beyond the calendar


def status_path(root: Path) -> Path:
    """Return the path of the status file of the capture of a store."""
    return metadata_folder(root) / "capture.json"


def write_status(root: Path, status: dict[str, Any]) -> None:
    """Write the status file, which ``ibticks status`` reads.

    On a full disk the file is overwritten in place, which takes no room.
    """
    path = status_path(root)
    temporary = path.with_name(f".{path.name}.new")
    data = json.dumps(status).encode()
    # Spaces are the room for a later status on a full disk.
    padded = data.ljust((len(data) // _STATUS_BLOCK_BYTES + 2) * _STATUS_BLOCK_BYTES)
    try:
        temporary.write_bytes(padded)
        give_to_store_owner(temporary)
        temporary.replace(path)
    except OSError as error:
        if not _overwrite(path, data):
            _log.warning("the status cannot be written to %s: %s", path, error)
        # A full disk may have left a part of it.
        try:
            temporary.unlink(missing_ok=True)
        except OSError as unlink_error:
            _log.warning("%s is left over: %s", temporary, unlink_error)


def _overwrite(path: Path, data: bytes) -> bool:
    """Overwrite a file without making it longer; return False where that is not possible."""
    try:
        with path.open("r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return len(data) <= size and file.write(data.ljust(size)) == size
    except OSError:
        return False


def read_status(root: Path) -> dict[str, Any]:
    """Read the status file of the capture of a store, whichever process captures.

    Parameters
    ----------
    root : Path
        The store.

    Returns
    -------
    dict
        The status of :meth:`Capture.status`. A capture that has written nothing for half a minute,
        or whose process has ended, is not running. Of a store without a capture, ``enabled`` is
        False, and there are no contracts.

    Examples
    --------
    >>> from pathlib import Path
    >>> read_status(Path("no-store"))["status"]["running"]
    False
    """
    try:
        details: dict[str, Any] = json.loads(status_path(root).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        stopped = {"running": False, "tws_connected": False}
        counts = dict.fromkeys(("total_contracts", "active_contracts", "total_streams"), 0)
        return {"enabled": False, "status": {**stopped, **counts, "contracts": {}}}
    status = details["status"]
    if status["running"]:
        age = datetime.now(UTC) - datetime.fromisoformat(status["told_at"])
        if age.total_seconds() > STALE_SECONDS or not _is_alive(status["pid"]):
            status.update(running=False, tws_connected=False, active_contracts=0, total_streams=0)
            for contract in status["contracts"].values():
                contract.update(active_tick_types=[], stream_count=0)
    return details


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def panel_html(status: dict[str, Any]) -> str:
    """Render the status of :meth:`Capture.status` as HTML."""
    capture = status["status"]
    good = capture["running"] and capture["tws_connected"]
    colour = _COLOURS["captured"] if good else _COLOURS["disconnected"]
    word = "connected" if good else ("reconnecting" if capture["running"] else "stopped")
    table = html_table(
        [
            _stream_row(contract["symbol"], tick_type, stream)
            for contract in capture["contracts"].values()
            for tick_type, stream in contract["streams"].items()
        ],
        ("contract", "tick type", "state", "ticks", "last tick (UTC)", "lag", "last error"),
        cell_style=_CELL_STYLE,
    )
    problem = capture["last_problem"] or (capture["failures"][-1] if capture["failures"] else "")
    note = f"<div style='color:{_COLOURS['disconnected']}'>{escape(problem)}</div>"
    return (
        "<div style='font-family:sans-serif;font-size:13px'>"
        f"<div><span style='color:{colour}'>&#9679;</span> <b>ibticks capture</b> {word} · "
        f"{escape(capture['gateway'])} · {capture['total_streams']} streams · "
        f"{capture['ticks']:,} ticks · {capture['ticks_per_second']:,.1f} ticks/s</div>"
        f"{table}{note if problem else ''}</div>"
    )


def _stream_row(symbol: str, tick_type: str, stream: dict[str, Any]) -> tuple[str, ...]:
    state = stream["state"] or "not yet subscribed"
    colour = _COLOURS.get(state, "#546e7a")
    return (
        symbol,
        tick_type,
        Html(f"<span style='color:{colour}'>{escape(state.replace('_', ' '))}</span>"),
        f"{stream['ticks']:,}",
        (stream["last_tick"] or "–")[:23].replace("T", " "),
        _format_lag(stream),
        stream["last_error"],
    )


def _format_lag(stream: dict[str, Any]) -> str:
    """Format the lag of a tick by IB's whole seconds; of a replay, the time it replays."""
    if stream["lag_problem"]:
        event = (stream["last_event"] or "an unknown time")[:19].replace("T", " ")
        return f"{stream['lag_problem']}: {event} UTC"
    return "–" if stream["lag_seconds"] is None else f"{stream['lag_seconds']:.1f} s"


def status_text(status: dict[str, Any]) -> str:
    """Format the status of :meth:`Capture.status` as one line of text."""
    capture = status["status"]
    word = "connected" if capture["tws_connected"] else "not connected"
    problem = capture["last_problem"] or (capture["failures"][-1] if capture["failures"] else "")
    return (
        f"ibticks capture {word if capture['running'] else 'stopped'}, "
        f"{capture['total_streams']} streams, {capture['ticks']:,} ticks"
        + (f"; last problem: {problem}" if problem else "")
    )


class SupportsStatus(Protocol):
    """The methods of a capture that its display needs."""

    @property
    def running(self) -> bool: ...
    def status(self) -> dict[str, Any]: ...
    def wait(self, timeout: float | None = None) -> bool: ...


def display_status(capture: SupportsStatus) -> None:
    """Display the panel, and update it every second while the capture runs.

    In a terminal it is printed once.
    """
    from IPython import display, get_ipython

    def panel() -> dict[str, str]:
        status = capture.status()
        return {"text/html": panel_html(status), "text/plain": status_text(status)}

    handle: Any = display.display(panel(), raw=True, display_id=True)
    if handle is None or not capture.running or not hasattr(get_ipython(), "kernel"):
        return

    def follow() -> None:
        while not capture.wait(_REFRESH_SECONDS):
            handle.update(panel(), raw=True)
        handle.update(panel(), raw=True)

    threading.Thread(target=follow, name="ibticks-panel", daemon=True).start()
