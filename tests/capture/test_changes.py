"""A capture that runs while contracts are added to it and removed from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import ibticks as ibt
from ibticks.capture import TrackedContract
from ibticks.errors import ConfigError, InputError, WriterLockedError
from ibticks.storage import StreamWriter
from tests.capture_checks import QUICK, check_stored, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.gateway import Gateway


def ticks_of(capture: ibt.Capture, contract_id: int, tick_type: str) -> int:
    """Return the number of recorded ticks of a stream."""
    contracts = capture.status()["status"]["contracts"]
    streams: dict[str, Any] = contracts.get(str(contract_id), {}).get("streams", {})
    return int(streams.get(tick_type, {}).get("ticks", 0))


def test_streams_come_and_go(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    capture = capturing(gateway, "1:ONE:bid_ask")
    until(lambda: ticks_of(capture, 1, "bid_ask") > 10)
    capture.add("2:TWO:last:3")
    capture.add(TrackedContract(1, "ONE", ("last",)))
    until(lambda: ticks_of(capture, 2, "last") > 10 and ticks_of(capture, 1, "last") > 10)
    status = capture.status()["status"]
    assert status["total_streams"] == gateway.subscriptions == 3
    assert status["contracts"]["2"]["buffer_hours"] == 3
    assert status["contracts"]["1"]["expected_tick_types"] == ["bid_ask", "last"]
    capture.remove(1, ["bid_ask"])
    capture.remove(2)
    until(lambda: gateway.subscriptions == 1)
    assert list(capture.status()["status"]["contracts"]) == ["1"]
    assert {file.tick_type for file in store.index.open_files()} == {"last"}
    before = ticks_of(capture, 1, "last")
    until(lambda: ticks_of(capture, 1, "last") > before + 20)
    capture.add("2:TWO:last")
    until(lambda: ticks_of(capture, 2, "last") > 10)
    capture.stop()
    check_stored(store, gateway, 1, "last")
    assert store.select("TWO", "last").count() > 20
    assert list(capture.failures) == []


def test_streams_go_on_after_a_reconnection(
    gateway: Gateway, capturing: Callable[..., ibt.Capture]
) -> None:
    capture = capturing(gateway, "1:ONE:bid_ask")
    until(lambda: ticks_of(capture, 1, "bid_ask") > 10)
    gateway.shut()
    capture.add("2:TWO:last")
    capture.remove(1)
    gateway.reopen()
    until(lambda: ticks_of(capture, 2, "last") > 10)
    assert gateway.subscriptions == 1


def test_a_capture_without_contracts(gateway: Gateway, store: ibt.Store) -> None:
    with ibt.Capture(store, (), port=gateway.port, **QUICK) as capture:
        assert capture.status()["status"]["total_contracts"] == 0
        capture.add("1:ONE:last")
        until(lambda: ticks_of(capture, 1, "last") > 10)


def test_contracts_that_are_added_before_the_start(gateway: Gateway, store: ibt.Store) -> None:
    capture = ibt.Capture(store, "1:ONE:last", port=gateway.port, **QUICK)
    capture.add("2:TWO:last")
    capture.remove(1)
    with capture:
        until(lambda: ticks_of(capture, 2, "last") > 10)
        assert gateway.subscriptions == 1


def test_what_cannot_be_added(
    gateway: Gateway, capturing: Callable[..., ibt.Capture], store: ibt.Store
) -> None:
    capture = capturing(gateway, "1:ONE:bid_ask", max_tracked=2)
    writer = StreamWriter(store.root, 2, "last", store.index, fsync=None)
    with pytest.raises(WriterLockedError):
        capture.add("2:TWO:bid_ask;last")
    assert list(capture.status()["status"]["contracts"]) == ["1"]
    writer.close()
    capture.add("2:TWO:bid_ask;last")
    with pytest.raises(ConfigError, match="at most 2 may be"):
        capture.add("3:THREE:last")
    with pytest.raises(ConfigError, match="unknown tick type"):
        capture.add("2:TWO:trades")


@pytest.mark.parametrize(("contract_id", "tick_types"), [(3, None), (1, ["last"]), (3, ["last"])])
def test_what_cannot_be_removed(
    capture: ibt.Capture, contract_id: int, tick_types: list[str] | None
) -> None:
    capture.remove(1, ["last"])
    with pytest.raises(InputError, match="not captured; captured are 1:ONE:bid_ask:1,2:TWO"):
        capture.remove(contract_id, tick_types)


def test_events(gateway: Gateway, store: ibt.Store) -> None:
    events: list[tuple[Any, Any]] = []
    capture = ibt.Capture(
        store,
        "1:ONE:last,4711:NONE:last",
        port=gateway.port,
        on_event=lambda stream, message: events.append((stream, message)),
        **QUICK,
    )
    with capture:
        until(lambda: any(message["type"] == "error" for _, message in events))
        until(lambda: ticks_of(capture, 1, "last") > 10)
    codes = {message["data"]["code"] for _, message in events if message["type"] == "error"}
    assert codes == {"200"}
    statuses = [message["data"]["status"] for (number, _), message in events if number == 1]
    assert statuses[0] == "subscribed"
    assert statuses[-1] == "stopped"
