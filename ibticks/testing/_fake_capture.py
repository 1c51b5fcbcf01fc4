"""A fake capture, which stores ticks and statuses without IB."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ibticks.coverage import StreamStatus, backfilled_rows, missing_intervals, resume_ledger
from ibticks.storage import StreamWriter

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks._types import Interval
    from ibticks.index import CoverageRecord, Index

__all__ = ["FakeCapture"]

_runs = itertools.count(1)
_SECOND = 1_000_000_000


class FakeCapture:
    """One run of a capture of one stream, which stores what a test tells it.

    Parameters
    ----------
    root : Path
        Folder of the store.
    index : Index
        Index of the store; :class:`~ibticks.index.MemoryIndex` needs no server.
    contract_id : int
    tick_type : str

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from ibticks.coverage import StreamStatus
    >>> from ibticks.index import MemoryIndex
    >>> index, start_ns = MemoryIndex(), 1_736_519_400_000_000_000
    >>> capture = FakeCapture(Path(tempfile.mkdtemp()), index, 265598)
    >>> _ = capture.report_status(StreamStatus.SUBSCRIBED, start_ns)
    >>> capture.tick(start_ns + 10**9)
    >>> _ = capture.stop(start_ns + 5 * 10**9)
    >>> [interval.state for interval in index.coverage()], index.files()[0].ticks
    (['captured'], 1)
    """

    def __init__(self, root: Path, index: Index, contract_id: int, tick_type: str = "last") -> None:
        self.run = f"run{next(_runs)}"
        self.stream_id = f"{contract_id}_{tick_type}_{self.run}"
        self.index = index
        self.stream = contract_id, tick_type
        self.writer = StreamWriter(root, contract_id, tick_type, index, fsync=None)
        self.ledger = resume_ledger(root, index, contract_id, tick_type, self.run)

    def tick(self, time_ns: int) -> None:
        """Store a trade."""
        contract_id, tick_type = self.stream
        data = {"contract_id": contract_id, "tick_type": tick_type, "price": 1.5, "size": 100.0}
        self._append("tick", data, time_ns)
        self.ledger.touch(time_ns)

    def error(self, time_ns: int) -> None:
        """Store an error message of IB."""
        self._append("error", {"code": "2104", "message": "ok", "recoverable": True}, time_ns)

    def report_status(
        self, status: StreamStatus, time_ns: int, reason: str = "", code: int | None = None
    ) -> int:
        """Write a status to the file and then to the index; return the time that it got."""
        time_ns = self.write_status(status, time_ns, reason=reason, code=code)
        self.index.put_coverage(self.ledger.change(status, time_ns, reason, code))
        return time_ns

    def report_unindexed(self, status: StreamStatus, time_ns: int) -> int:
        """Write a status that does not reach the index, as if the process was killed."""
        time_ns = self.write_status(status, time_ns)
        self.ledger.change(status, time_ns)
        return time_ns

    def write_status(self, status: StreamStatus, time_ns: int, **metadata: object) -> int:
        """Write a status to the file only, as a capture that is killed the moment after."""
        time_ns = self.ledger.next_time_ns(time_ns)
        reported = {key: value for key, value in metadata.items() if value is not None}
        self._append("info", {"status": str(status)}, time_ns, {"run": self.run, **reported})
        return time_ns

    def backfill(self, time_ns: int, start_ns: int, end_ns: int, ticks: int = 1) -> list[Interval]:
        """Fill gaps like another process; return the filled intervals."""
        contract_id, tick_type = self.stream
        own, self.run, self.stream_id = (self.run, self.stream_id), "backfill", "backfill"
        missing = missing_intervals(self._known(start_ns, end_ns), start_ns, end_ns)
        for start, end in missing:
            reported = {"start_ns": start, "end_ns": end, "ticks": ticks}
            self.ledger.touch(self.write_status(StreamStatus.BACKFILLED, time_ns, **reported))
            known = self._known(start, end)
            self.index.put_coverage(
                backfilled_rows(contract_id, tick_type, **reported, known=known)
            )
        self.run, self.stream_id = own
        return missing

    def _known(self, start_ns: int, end_ns: int) -> list[CoverageRecord]:
        contract_id, tick_type = self.stream
        return self.index.coverage([contract_id], [tick_type], start_ns, end_ns)

    def stop(self, time_ns: int) -> int:
        """Report that the capture stopped, and seal its files; return the time of the report."""
        time_ns = self.report_status(StreamStatus.STOPPED, time_ns, "stopped")
        self.writer.close()
        return time_ns

    def kill(self) -> None:
        """Leave the files as they are, and release the lock as the system does after a kill."""
        appender = self.writer.appender
        for file in appender._open.values():
            file.close()
        appender._open.clear()
        appender._stream_lock.release()

    def _append(
        self,
        message_type: str,
        data: dict[Any, Any],
        time_ns: int,
        metadata: dict[Any, Any] | None = None,
    ) -> None:
        seconds, rest = divmod(time_ns, _SECOND)
        message = {
            "type": message_type,
            "stream_id": self.stream_id,
            "timestamp": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z",
            "data": data,
        }
        self.writer.append(message | ({"metadata": metadata} if metadata else {}))
