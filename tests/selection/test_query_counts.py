"""Queries of the index: their number does not grow with the contracts asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.errors import UnknownContractError
from ibticks.index import ContractRecord, CoverageRecord, FileRecord
from ibticks.index._database import Database
from ibticks.storage import FileKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

FIRST_HOUR_NS = 1_736_467_200_000_000_000  # 2025-01-10 00:00 UTC
CONTRACTS = range(1, 41)
TICK_TYPES = ("last", "bid_ask")


def file(contract_id: int, tick_type: str, hour: int = 0, *, sealed: bool = True) -> FileRecord:
    key = FileKey(contract_id, tick_type, FIRST_HOUR_NS + hour * HOUR_NS)
    return FileRecord(
        key.path, contract_id, tick_type, key.hour_ns, key.hour_ns, key.hour_ns + 9, 400, 2, 2,
        sealed=sealed, first_tick_ns=key.hour_ns, last_tick_ns=key.hour_ns + 9,
    )  # fmt: skip


@pytest.fixture
def many(store: Store) -> Iterator[Store]:
    """A store whose index has forty contracts of two tick types, half of them with symbols."""
    index = store.index
    index.replace_files(
        [file(c, kind, hour) for c in CONTRACTS for kind in TICK_TYPES for hour in range(3)]
    )
    index.put_contracts([ContractRecord(c, f"S{c}") for c in CONTRACTS if c % 2])
    until = FIRST_HOUR_NS + 2 * HOUR_NS
    index.put_coverage(
        [
            CoverageRecord(c, k, FIRST_HOUR_NS, until, "captured")
            for c in CONTRACTS
            for k in TICK_TYPES
        ]
    )
    yield store
    store._changed = False  # no catalogue of files that are not there


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Count the transactions of a call: ``queries(call)``."""
    seen = []
    plain = Database.run

    def run(database: Any, work: Any, **options: Any) -> Any:
        seen.append(work)
        return plain(database, work, **options)

    monkeypatch.setattr(Database, "run", run)

    def count(call: Callable[[], Any]) -> int:
        seen.clear()
        call()
        return len(seen)

    return count


CALLS = {
    "select by id": lambda store, ids: store.select(ids, "last"),
    "select by id, tick types looked up": lambda store, ids: store.select(ids),
    "select by symbol": lambda store, ids: store.select([f"s{c}" for c in ids if c % 2], "last"),
    "select by text": lambda store, ids: store.select([str(c) for c in ids], "last"),
    "buffer by symbol": lambda store, ids: store.buffer([f"S{c}" for c in ids if c % 2], "last"),
    "coverage": lambda store, ids: store.select(ids).coverage(),
    "gaps": lambda store, ids: store.coverage(ids).gaps(),
    "daily statistics": lambda store, ids: store.daily_stats(ids),
}


@pytest.mark.parametrize("name", CALLS)
def test_many_contracts_take_as_many_queries_as_two(
    many: Store, queries: Callable[..., int], name: str
) -> None:
    ids = list(CONTRACTS)
    few = queries(lambda: CALLS[name](many, ids[:3]))
    assert queries(lambda: CALLS[name](many, ids)) == few <= 8


def test_streams_are_those_with_captured_files(many: Store, queries: Callable[..., int]) -> None:
    assert many.index.streams() == {(c, kind) for c in CONTRACTS for kind in TICK_TYPES}
    many.index.put_files([file(99, "last", sealed=False)])
    key = FileKey(98, "last", FIRST_HOUR_NS, "backfill")
    beside = file(98, "last")
    many.index.put_files([FileRecord(**{**as_dict(beside), "path": key.path})])
    assert many.index.streams() - {(99, "last")} == {(c, k) for c in CONTRACTS for k in TICK_TYPES}


def as_dict(record: FileRecord) -> dict[Any, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_coverage_of_all_time_reaches_as_far_as_ticks(many: Store) -> None:
    actual = many.select(1, "last").coverage()
    assert (actual.intervals[0][0], actual.intervals[-1][1]) == (
        FIRST_HOUR_NS,
        FIRST_HOUR_NS + 2 * HOUR_NS + 10,
    )


def test_an_unknown_contract_among_many_is_named(many: Store) -> None:
    with pytest.raises(UnknownContractError, match="no contract 4711") as caught:
        many.select([*CONTRACTS, 4711])
    assert caught.value.context["candidates"] == list(CONTRACTS)
    with pytest.raises(UnknownContractError, match="'S99'"):
        many.select(["S1", "S99"])
    with pytest.raises(UnknownContractError, match="'S99'"):
        many.buffer([1, "S1", "S99"], "last")
