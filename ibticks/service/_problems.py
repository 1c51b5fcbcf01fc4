"""Problems of the capture, the gateway and the disk, as v2 messages to the clients of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibticks._types import StreamKey
from ibticks.capture import SharedStreams, read_status, status_path
from ibticks.tws import Action, find_code

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ibticks.capture import SharingOptions
    from ibticks.service._broadcast import Broadcaster
    from ibticks.store import Store

__all__ = ["CaptureProblems", "explain_event", "share_streams", "storage_error"]

_NO_SUCH_CONTRACT: Final = 200
_LIMITS: Final = (100, 101, 420, 10190)
_STORAGE_CODE: Final = 0


class CaptureProblems:
    """Streams that the capture of a store cannot write, whichever process captures.

    Parameters
    ----------
    root : Path
        The store.

    Attributes
    ----------
    current : dict of StreamKey to str
        The problem of each.
    """

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._version: tuple[int, int] | None = None
        self.current: dict[StreamKey, str] = {}

    def changes(self) -> list[tuple[StreamKey, str, dict[str, Any]]]:
        """Return stream, type and data of the messages about what has changed since the last call.

        An error for a stream that cannot be written any more, an info for one that can again.
        """
        try:
            status_file = status_path(self._root).stat()
        except OSError:
            return []
        version = status_file.st_ino, status_file.st_mtime_ns
        if version == self._version:
            return []
        self._version = version
        details = read_status(self._root)
        if not details["enabled"]:  # it is being written
            self._version = None
            return []
        before, self.current = self.current, _storage_problems(details["status"])
        messages = [
            (key, *storage_error(key, text))
            for key, text in self.current.items()
            if text != before.get(key)
        ]
        restored = [key for key in before if key not in self.current]
        return [*messages, *((key, "info", {"status": "storage_restored"}) for key in restored)]


def _storage_problems(status: Mapping[str, Any]) -> dict[StreamKey, str]:
    if not status["running"]:
        return {}
    return {
        StreamKey(int(contract_id), tick_type): stream["storage_problem"]
        for contract_id, contract in status["contracts"].items()
        for tick_type, stream in contract["streams"].items()
        if stream.get("storage_problem")
    }


def storage_error(key: StreamKey, problem: str) -> tuple[str, dict[str, Any]]:
    """Return type and data of the message that a stream cannot be written.

    Examples
    --------
    >>> kind, data = storage_error(StreamKey(8314, "last"), "no space left on the disk")
    >>> kind, data["code"], data["recoverable"]
    ('error', 'STORAGE_ERROR', True)
    """
    text = f"{key.tick_type} ticks of {key.contract_id} cannot be stored: {problem}"
    return "error", _error("STORAGE_ERROR", text, key, recoverable=True)


def explain_event(key: StreamKey, message: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return type and data of the message to clients about an event of a stream on demand.

    Parameters
    ----------
    key : StreamKey
    message : mapping
        Info or error message of the stream.

    Returns
    -------
    tuple or None
        None for what is no business of clients.

    Examples
    --------
    >>> data = {"code": "10190", "message": "no line is free", "recoverable": True}
    >>> kind, data = explain_event(StreamKey(8314, "last"), {"type": "error", "data": data})
    >>> kind, data["code"], data["recoverable"], data["details"]["ib_code"]
    ('error', 'RATE_LIMIT_EXCEEDED', True, 10190)
    """
    data = message["data"]
    if message["type"] == "error":
        number = int(data["code"])
        if number == _STORAGE_CODE:
            return storage_error(key, data["message"].rpartition(": ")[2])
        is_final = not data["recoverable"]
        code = _code(number, data["message"], is_final=is_final)
        return "error", _error(code, data["message"], key, number, recoverable=not is_final)
    metadata = message["metadata"]
    match data["status"]:
        case "disconnected":
            return "error", _error(
                "CONNECTION_ERROR",
                metadata["reason"],
                key,
                metadata.get("code"),
                recoverable=True,
            )
        case "subscribed" | "restored" | "stopped":
            return "info", {"status": data["status"]}
    return None


def share_streams(store: Store, broadcaster: Broadcaster, options: SharingOptions) -> SharedStreams:
    """Return streams on demand whose problems are sent to their clients."""

    def on_event(key: StreamKey, message: Mapping[str, Any]) -> None:
        explained = explain_event(key, message)
        if explained is not None:
            broadcaster.post(key, *explained)

    return SharedStreams(store, on_event=on_event, **options)


def _code(number: int, text: str, *, is_final: bool) -> str:
    if number == _NO_SUCH_CONTRACT:
        return "CONTRACT_NOT_FOUND"
    if is_final or find_code(number, text).action is Action.GIVE_UP:
        return "PERMISSION_DENIED"
    return "RATE_LIMIT_EXCEEDED" if number in _LIMITS else "CONNECTION_ERROR"


def _error(
    code: str, text: str, key: StreamKey, ib_code: int | None = None, *, recoverable: bool
) -> dict[str, Any]:
    details: dict[str, Any] = {"contract_id": key.contract_id, "tick_type": key.tick_type}
    if ib_code is not None:
        details["ib_code"] = ib_code
    return {"code": code, "message": text, "recoverable": recoverable, "details": details}
