"""How a capture is doing, as JSON can hold it, and the file that tells other processes."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ibticks.filesystem import give_to_store_owner
from ibticks.storage import metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ibticks.capture._recorder import Recorder
    from ibticks.capture._supervisor import Supervisor
    from ibticks.capture._tracked import TrackedContract

__all__ = ["contracts_status", "status_path", "write_status"]

_log = logging.getLogger(__name__)

REPLAY_LAG_SECONDS: Final = 3600.0
"""A tick whose time at IB is that far from its arrival was replayed: that is not a lag."""

AHEAD_SECONDS: Final = 2.0
"""A tick that comes that much before its time at IB was stamped anew, or a clock is wrong."""


def contracts_status(
    tracked: Sequence[TrackedContract],
    recorders: Sequence[Recorder],
    supervisor: Supervisor | None,
) -> dict[str, dict[str, Any]]:
    """Contracts by id, with their streams."""
    subscribed = {
        (each.recorder.contract_id, each.recorder.tick_type)
        for each in (() if supervisor is None else supervisor.subscriptions)
        if each.request is not None
    }
    streams = {(each.contract_id, each.tick_type): each for each in recorders}
    told: dict[str, dict[str, Any]] = {}
    for contract in tracked:
        number = contract.contract_id
        active = [kind for kind in contract.tick_types if (number, kind) in subscribed]
        told[str(number)] = {
            "symbol": contract.symbol,
            "enabled": contract.enabled,
            "expected_tick_types": list(contract.tick_types),
            "active_tick_types": active,
            "stream_count": len(active),
            "buffer_hours": contract.buffer_hours,
            "streams": {
                kind: _stream(streams[number, kind])
                for kind in contract.tick_types
                if (number, kind) in streams
            },
        }
    return told


def _stream(recorder: Recorder) -> dict[str, Any]:
    last, said = recorder.last_ns, recorder.said
    lag = last / 1e9 - recorder.last_event if last else None
    problem = "" if lag is None else _lag_problem(lag)
    return {
        "state": None if recorder.state is None else str(recorder.state),
        "since": None if said is None else _instant(said[3] / 1e9),
        "reason": "" if said is None else said[1],
        "code": None if said is None else said[2],
        "ticks": recorder.ticks,
        "sequence": recorder.sequence,
        "last_tick": _instant(last / 1e9) if last else None,
        "last_event": _instant(recorder.last_event) if last else None,
        "lag_seconds": None if lag is None or problem else round(lag, 3),
        "lag_problem": problem,
        "waiting": recorder.waiting,
        "lost": recorder.lost,
        "errors": recorder.errors,
        "last_error": recorder.last_error,
    }


def _lag_problem(lag: float) -> str:
    """Why the time from IB's stamp to the arrival of a tick is no lag, if it is none."""
    if abs(lag) > REPLAY_LAG_SECONDS:
        return "replay"
    if lag < -AHEAD_SECONDS:
        return "ahead of this clock"
    return ""


def _instant(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None  # no time that a calendar has


def status_path(root: Path) -> Path:
    """Where the capture of a store tells how it is doing."""
    return metadata(root) / "capture.json"


def write_status(root: Path, status: dict[str, Any]) -> None:
    """Tell other processes, as ``ibticks status``; if the disk has no room, they are not told."""
    path = status_path(root)
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(json.dumps(status))
        give_to_store_owner(beside)
        beside.replace(path)
    except OSError as error:
        _log.warning("the status cannot be written to %s: %s", path, error)
        # What a full disk left of it would only stand in the way.
        try:
            beside.unlink(missing_ok=True)
        except OSError as left:
            _log.warning("%s is left over: %s", beside, left)
