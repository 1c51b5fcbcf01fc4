"""A fake capture of a replay, with gaps, and the complete ticks to compare with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ibticks.coverage import StreamStatus
from ibticks.frames import to_polars, to_table
from ibticks.testing import FakeCapture
from tests.capture_checks import check_index

if TYPE_CHECKING:
    import polars as pl

    import ibticks as ibt
    from ibticks.gateway import Replay, TickStream

_SECOND = 1_000_000_000


class Recorded:
    """All of a replay in a store, as it came in its time, but for some gaps."""

    def __init__(
        self,
        store: ibt.Store,
        replay: Replay,
        gaps: list[tuple[int, int]],
        *,
        has_symbols: bool = True,
    ) -> None:
        self.store, self.replay, self.gaps = store, replay, gaps
        self.begin = replay.start_ns - _SECOND
        self.end = replay.end_ns + 2 * _SECOND
        for contract in replay.contracts if has_symbols else ():
            store.add_contract(
                contract.contract_id,
                contract.symbol,
                exchange=contract.exchange,
                currency=contract.currency,
                contract_type=contract.sec_type,
            )
        for contract_id, tick_type in replay.streams:
            self._record(contract_id, tick_type)

    def _record(self, contract_id: int, tick_type: str) -> None:
        capture = FakeCapture(self.store.root, self.store.index, contract_id, tick_type)
        stream = self.replay.streams[contract_id, tick_type]
        at = capture.report_status(StreamStatus.SUBSCRIBED, self.begin)
        for start, end in [*self.gaps, (self.end, None)]:
            here = slice(*np.searchsorted(stream.time_ns, (at, start)).tolist())
            capture.writer.write(stream.columns.take(here), stream_id=capture.stream_id)
            if end is not None:
                capture.report_status(StreamStatus.DISCONNECTED, start, "connection lost", 1100)
                at = capture.report_status(StreamStatus.SUBSCRIBED, end)
        capture.stop(self.end)

    def missed(self, contract_id: int, tick_type: str) -> int:
        """Count the ticks of a stream that came in the gaps."""
        times = self.replay.streams[contract_id, tick_type].time_ns
        return sum(int(np.diff(np.searchsorted(times, gap)).item()) for gap in self.gaps)

    def check(self) -> None:
        """Assert that captured and backfilled ticks are those of the gateway, each once."""
        for (contract_id, tick_type), stream in self.replay.streams.items():
            assert everything(self.store, contract_id, tick_type) == of_stream(stream)
            coverage = self.store.coverage(contract_id, tick_type, start=self.begin, end=self.end)
            assert coverage.fraction == 1.0
            assert coverage.gaps() == []
        check_index(self.store.root, self.store.index)


def as_counter(frame: pl.DataFrame) -> Counter[tuple[object, ...]]:
    """Count ticks by their fields of IB, without arrival time and sequence number."""
    import polars as pl

    columns = [name for name in frame.columns if name not in ("timestamp", "sequence")]
    plain = frame.select(columns).with_columns(pl.col(pl.Categorical).cast(pl.String))
    return Counter(
        tuple(tuple(cell) if isinstance(cell, list) else cell for cell in row)
        for row in plain.iter_rows()
    )


def everything(store: ibt.Store, contract_id: int, tick_type: str) -> Counter[tuple[object, ...]]:
    """The captured and the backfilled ticks of a stream."""
    return as_counter(store.select(contract_id, tick_type, backfill="include").to_polars())


def of_stream(stream: TickStream) -> Counter[tuple[object, ...]]:
    """The ticks a gateway has."""
    return as_counter(to_polars(to_table([stream.columns], list(stream.columns.columns))))
