"""Log of the ticks a gateway has sent to each client: the ground truth of tests."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.gateway._replay import StreamKey

__all__ = ["Sent", "SentLog"]


@dataclass(frozen=True, slots=True)
class Sent:
    """Rows of a stream that went to one client without a break.

    Attributes
    ----------
    connection : int
        Number of the connection, from 1.
    client_id, req_id : int
    contract_id : int
    tick_type : str
    first, last : int
        Rows of the stream in the replay, both inclusive.
    ignore_size : bool
        Whether, of the quotes in between, only those with a new price were sent.
    """

    connection: int
    client_id: int
    req_id: int
    contract_id: int
    tick_type: str
    first: int
    last: int
    ignore_size: bool = False

    @property
    def key(self) -> StreamKey:
        """Contract id and tick type."""
        return self.contract_id, self.tick_type

    @property
    def rows(self) -> range:
        """The rows."""
        return range(self.first, self.last + 1)


class SentLog:
    """Written by the gateway's thread, read and waited for by any other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._records: list[Sent] = []
        self._open: dict[tuple[int, int], tuple[int, int]] = {}
        self._counts: Counter[StreamKey] = Counter()
        self._ended: set[tuple[int, StreamKey]] = set()
        self.total = 0

    def add(self, sent: Sent, start: int, ticks: int) -> None:
        """Note that ticks went out.

        Parameters
        ----------
        sent : Sent
        start : int
            Place of the first one among those the subscription is sent; where it follows the last
            one, their record grows.
        ticks : int
        """
        subscription = (sent.connection, sent.req_id)
        with self._changed:
            place, follows = self._open.get(subscription, (-1, -1))
            if follows == start and self._records[place].key == sent.key:
                self._records[place] = replace(self._records[place], last=sent.last)
            else:
                place = len(self._records)
                self._records.append(sent)
            self._open[subscription] = (place, start + ticks)
            self._counts[sent.key] += ticks
            self.total += ticks
            self._changed.notify_all()

    def end(self, client_id: int, key: StreamKey) -> None:
        """Note that a client has come to the end of a stream."""
        with self._changed:
            self._ended.add((client_id, key))
            self._changed.notify_all()

    def records(self) -> tuple[Sent, ...]:
        """Everything sent so far, in the order in which it began."""
        with self._changed:
            return tuple(self._records)

    def counts(self) -> dict[StreamKey, int]:
        """Ticks sent of each stream, over all clients."""
        with self._changed:
            return dict(self._counts)

    def ended(self) -> int:
        """Count how often a client has reached the end of a stream."""
        with self._changed:
            return len(self._ended)

    def wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Wait until something holds; False if it does not in that many seconds."""
        with self._changed:
            return self._changed.wait_for(reached, timeout)

    def notify(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()
