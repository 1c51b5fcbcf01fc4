"""Recording the messages of a stream that is not captured in the background."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ibticks.capture._messages import info_message
from ibticks.capture._recorder import last_sequence
from ibticks.coverage import StreamStatus, resume_ledger
from ibticks.storage import StreamAppender

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibticks.index import ContractRecord
    from ibticks.store import Store

__all__ = ["StreamRecord"]


class StreamRecord:
    """The one writer of a stream, for whole messages; it keeps the ledger of coverage, too.

    Parameters
    ----------
    store : Store
    contract_id : int
    tick_type : str
    run : str
        Names what is recorded.

    Attributes
    ----------
    last_sequence : int
        Of the ticks that are stored.

    Raises
    ------
    WriterLockedError
        If the stream is being written already; names by whom.
    """

    def __init__(self, store: Store, contract_id: int, tick_type: str, run: str) -> None:
        self._index = store.index
        self._run = run
        self._stream_id = f"{contract_id}_{tick_type}_{run}"
        self._appender = StreamAppender(
            store.root,
            contract_id,
            tick_type,
            store.index,
            on_sealed=lambda _: store.note_change(),
        )
        try:
            self.last_sequence = last_sequence(store.index.files([contract_id], [tick_type]))
            self._ledger = resume_ledger(store.root, store.index, contract_id, tick_type, run)
        except BaseException:
            self._appender.close()
            raise

    def describe(self, contract: ContractRecord) -> None:
        """Keep what IB says of the contract, so that it can be selected by its symbol."""
        self._index.put_contracts([contract])

    def after(self, time_ns: int) -> int:
        """The time that a status said now is to have."""
        return self._ledger.after(time_ns)

    def write(self, message: Mapping[str, Any], status: StreamStatus | None = None) -> None:
        """Store a message, and note in the ledger what it says of the stream.

        Raises
        ------
        StorageFullError, StorageError
            It is then not stored.
        """
        payload, time_ns = self._appender.encode(message)
        self._appender.append_payload(payload, time_ns)
        if status is None:
            self._ledger.touch(time_ns)
            return
        about = message["metadata"]
        rows = self._ledger.change(status, time_ns, about["reason"], about.get("code"))
        if rows:
            self._index.put_coverage(rows)

    def close(self, last: Mapping[str, Any]) -> None:
        """Store the last message, seal the files and let the next writer in."""
        try:
            self.write(last)
            if self._ledger.state is not None:
                at_ns = self.after(time.time_ns())
                stopped = info_message(
                    self._stream_id, self._run, StreamStatus.STOPPED, "stopped", at_ns=at_ns
                )
                self.write(stopped, StreamStatus.STOPPED)
        finally:
            self._appender.close()

    def abandon(self) -> None:
        """Let the next writer in; nothing was recorded."""
        self._appender.close()
