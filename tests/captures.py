"""A fake capture without IB: it stores ticks and statuses, and can be killed."""

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

_runs = itertools.count(1)
_SECOND = 1_000_000_000


class FakeCapture:
    """One run of a capture of one stream."""

    def __init__(self, root: Path, index: Index, contract_id: int, tick_type: str = "last") -> None:
        self.run = f"run{next(_runs)}"
        self.stream_id = f"{contract_id}_{tick_type}_{self.run}"
        self.index = index
        self.stream = contract_id, tick_type
        self.writer = StreamWriter(root, contract_id, tick_type, index, fsync=None)
        self.ledger = resume_ledger(root, index, contract_id, tick_type, self.run)

    def tick(self, time_ns: int) -> None:
        contract_id, tick_type = self.stream
        data = {"contract_id": contract_id, "tick_type": tick_type, "price": 1.5, "size": 100.0}
        self._append("tick", data, time_ns)
        self.ledger.touch(time_ns)

    def error(self, time_ns: int) -> None:
        self._append("error", {"code": "2104", "message": "ok", "recoverable": True}, time_ns)

    def say(
        self, status: StreamStatus, time_ns: int, reason: str = "", code: int | None = None
    ) -> int:
        """Say a status, in the stream and then in the index; returns the time it got."""
        time_ns = self.mention(status, time_ns, reason=reason, code=code)
        self.index.put_coverage(self.ledger.change(status, time_ns, reason, code))
        return time_ns

    def say_unheard(self, status: StreamStatus, time_ns: int) -> int:
        """Write a status that does not reach the index, as if the process was killed."""
        time_ns = self.mention(status, time_ns)
        self.ledger.change(status, time_ns)
        return time_ns

    def mention(self, status: StreamStatus, time_ns: int, **metadata: object) -> int:
        """Say a status in the stream only, as one that is killed the moment after."""
        time_ns = self.ledger.next_time_ns(time_ns)
        reported = {key: value for key, value in metadata.items() if value is not None}
        self._append("info", {"status": str(status)}, time_ns, {"run": self.run, **reported})
        return time_ns

    def backfill(self, time_ns: int, start_ns: int, end_ns: int, ticks: int = 1) -> list[Interval]:
        """Fill gaps like another process; return the filled intervals."""
        contract_id, tick_type = self.stream
        ours, self.run, self.stream_id = (self.run, self.stream_id), "backfill", "backfill"
        parts = missing_intervals(self._known(start_ns, end_ns), start_ns, end_ns)
        for start, end in parts:
            reported = {"start_ns": start, "end_ns": end, "ticks": ticks}
            self.ledger.touch(self.mention(StreamStatus.BACKFILLED, time_ns, **reported))
            known = self._known(start, end)
            self.index.put_coverage(
                backfilled_rows(contract_id, tick_type, **reported, known=known)
            )
        self.run, self.stream_id = ours
        return parts

    def _known(self, start_ns: int, end_ns: int) -> list[CoverageRecord]:
        contract_id, tick_type = self.stream
        return self.index.coverage([contract_id], [tick_type], start_ns, end_ns)

    def stop(self, time_ns: int) -> int:
        time_ns = self.say(StreamStatus.STOPPED, time_ns, "stopped")
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
        self, kind: str, data: dict[Any, Any], time_ns: int, metadata: dict[Any, Any] | None = None
    ) -> None:
        seconds, rest = divmod(time_ns, _SECOND)
        message = {
            "type": kind,
            "stream_id": self.stream_id,
            "timestamp": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z",
            "data": data,
        }
        self.writer.append(message | ({"metadata": metadata} if metadata else {}))
