"""Messages of IB and the reaction of a capture, from the gateway to the files and the coverage."""

from __future__ import annotations

import itertools
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from ibapi import errors as ibapi_errors

from ibticks.capture import _connection as connection
from ibticks.capture import _subscriptions as subscriptions
from ibticks.gateway import Gateway, Limits, Replay
from ibticks.tws import Action, Client, find_code, make_contract
from ibticks.tws._error_codes import CODES
from tests.capture_checks import (
    SERVER_VERSIONS,
    STREAMS,
    TICKING,
    check_stored,
    covered,
    errors,
    statuses,
    stored,
    until,
)
from tests.scripted_server import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Capture, Store


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten delays of minutes to parts of a second."""
    monkeypatch.setattr(connection, "_RETRY_SECONDS", 0.3)
    monkeypatch.setattr(connection, "_RETRY_REFUSED_SECONDS", 0.3)
    monkeypatch.setattr(connection, "_PACING_PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(subscriptions, "_BACKOFF_SECONDS", 0.05)


@pytest.fixture
def begin(
    serve: Callable[..., Gateway], steady: Replay, capturing: Callable[..., Capture]
) -> Callable[..., tuple[Gateway, Capture]]:
    """A gateway that ticks steadily, and a capture of it, in full swing."""

    def start(
        tracked: str = TICKING,
        streams: int = 3,
        before: Callable[..., None] = lambda gateway: None,
        **how: Any,
    ) -> tuple[Gateway, Capture]:
        gateway = serve(steady, **{"speed": 1.0} | how)
        before(gateway)
        capture = capturing(gateway, tracked)
        until(lambda: ticking(capture) >= streams, "all streams tick")
        return gateway, capture

    return start


def streams_of(capture: Capture) -> dict[tuple[int, str], dict[Any, Any]]:
    contracts = capture.status()["status"]["contracts"]
    return {
        (int(number), kind): stream
        for number, contract in contracts.items()
        for kind, stream in contract["streams"].items()
    }


def ticking(capture: Capture) -> int:
    return sum(stream["ticks"] > 0 for stream in streams_of(capture).values())


def states(capture: Capture) -> list[str | None]:
    return [stream["state"] for stream in streams_of(capture).values()]


def grows(capture: Capture, *keys: tuple[int, str]) -> None:
    """Wait until more ticks have come of these streams."""
    keys = keys or tuple(streams_of(capture))
    before = {key: streams_of(capture)[key]["ticks"] for key in keys}
    until(lambda: all(streams_of(capture)[key]["ticks"] > before[key] for key in keys), "ticks")


def requests(gateway: Gateway) -> set[int]:
    return {sent.req_id for sent in gateway.log}


def with_codes(store: Store, contract_id: int, tick_type: str) -> list[Any]:
    return [status for status in statuses(store, contract_id, tick_type) if status[1] is not None]


# --- IB and its farms -----------------------------------------------------------------------------


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_outage_of_ib_that_ends_with_data_kept(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin()
    gateway.lose_contact()
    until(lambda: states(capture) == ["disconnected"] * 3)
    assert not capture.status()["status"]["tws_connected"]
    asked = requests(gateway)
    gateway.regain_contact(data_lost=False)
    until(lambda: states(capture) == ["captured"] * 3)
    grows(capture)
    assert capture.status()["status"]["tws_connected"]
    assert requests(gateway) == asked
    capture.stop()
    for key in STREAMS:
        assert with_codes(store, *key) == [("disconnected", 1100), ("restored", 1102)]
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
        check_stored(store, gateway, *key)


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_outage_of_ib_that_ends_with_data_lost(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    """IB has dropped the subscriptions, and the capture subscribes again."""
    gateway, capture = begin()
    gateway.lose_contact()
    until(lambda: states(capture) == ["disconnected"] * 3)
    asked = requests(gateway)
    gateway.regain_contact(data_lost=True, lose=10)
    until(lambda: states(capture) == ["captured"] * 3)
    grows(capture)
    assert gateway.subscriptions == 3
    # New ids, so that IB cannot reject them as in use.
    assert len(requests(gateway) - asked) == 3
    assert min(requests(gateway) - asked) > max(asked)
    capture.stop()
    for key in STREAMS:
        assert statuses(store, *key)[1:4] == [
            ("disconnected", 1100),
            ("disconnected", 1101),
            ("subscribed", None),
        ]
        assert covered(store, *key) == ["captured", "disconnected", "captured"]
        check_stored(store, gateway, *key)


def test_data_lost_without_an_outage_before(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin()
    gateway.send_error(1101)
    until(lambda: statuses(store, 1, "last").count(("subscribed", None)) == 2)
    grows(capture)
    capture.stop()
    for key in STREAMS:
        assert statuses(store, *key)[1:3] == [("disconnected", 1101), ("subscribed", None)]
        check_stored(store, gateway, *key)


def test_no_request_is_sent_during_an_outage_of_ib(
    begin: Callable[..., tuple[Gateway, Capture]],
) -> None:
    gateway, capture = begin()
    gateway.forbid(1, "last", code=420)
    gateway.send_error(1101)
    until(lambda: states(capture) == ["captured", "not_permitted", "captured"])
    gateway.lose_contact()
    until(lambda: states(capture)[0] == "disconnected")
    gateway.permit(1, "last")
    # It would be due by now.
    with pytest.raises(AssertionError):
        until(lambda: gateway.subscriptions == 3, seconds=0.7)
    gateway.regain_contact(data_lost=False)
    grows(capture)


def test_tws_loses_the_connection_to_its_server(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin()
    gateway.pause()
    gateway.send_error(2110)
    until(lambda: states(capture) == ["disconnected"] * 3)
    gateway.send_error(1102)
    gateway.resume()
    grows(capture)
    capture.stop()
    for key in STREAMS:
        assert with_codes(store, *key) == [("disconnected", 2110), ("restored", 1102)]


def test_outage_of_a_market_data_farm(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin()
    gateway.pause()
    gateway.send_error(2103)
    until(lambda: states(capture) == ["disconnected"] * 3)
    asked = requests(gateway)
    # The outage of another farm does not count.
    gateway.send_error(2104, "Market data farm connection is OK:eufarm")
    with pytest.raises(AssertionError):
        until(lambda: "captured" in states(capture), seconds=0.3)
    gateway.send_error(2104)
    until(lambda: states(capture) == ["captured"] * 3)
    gateway.resume()
    grows(capture)
    assert requests(gateway) == asked
    capture.stop()
    for key in STREAMS:
        assert with_codes(store, *key) == [("disconnected", 2103), ("restored", 2104)]
        assert covered(store, *key) == ["captured", "disconnected", "captured"]


def test_streams_of_another_farm_go_on(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin()
    gateway.mute(2)
    gateway.send_error(2103, "Market data farm connection is broken:usfuture")
    until(lambda: states(capture) == ["captured", "captured", "disconnected"])
    grows(capture, (1, "bid_ask"), (1, "last"))
    gateway.unmute(2)
    grows(capture, (2, "bid_ask"))
    # The stream ticks in spite of the farm's message.
    until(lambda: states(capture) == ["captured"] * 3)
    assert ("restored", None) in statuses(store, 2, "bid_ask")


def test_streams_are_subscribed_during_the_outage_of_a_farm(
    begin: Callable[..., tuple[Gateway, Capture]],
) -> None:
    """Farms of no concern may be broken for a whole weekend."""
    gateway, capture = begin()
    gateway.send_error(2103, "Market data farm connection is broken:cashhmds")
    gateway.forbid(1, "last", code=420)
    gateway.send_error(1101)
    until(lambda: states(capture)[1] == "not_permitted")
    gateway.send_error(2103, "Market data farm connection is broken:cashhmds")
    gateway.permit(1, "last")
    until(lambda: gateway.subscriptions == 3)
    grows(capture)


CALM = sorted(number for number, code in CODES.items() if code.action is Action.NOTE)


def test_harmless_messages_change_nothing(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    of_requests, of_farms = [300, 317, 501, 505, 531, 577, 587], [2105, 2106, 2107, 2108, 2109]
    of_data = [2119, 2157, 2158, 2176, 10090, 10091, 10167]
    assert [*of_requests, *of_farms, *of_data] == CALM
    gateway, capture = begin()
    for number in (*CALM, 2104, 1102, 9999):
        for request in (-1, min(requests(gateway)), 77):
            gateway.send_error(number, "harmless", req_id=request)
    grows(capture)
    assert states(capture) == ["captured"] * 3
    assert gateway.subscriptions == 3
    capture.stop()
    for key in STREAMS:
        assert statuses(store, *key) == [("subscribed", None), ("stopped", None)]
        assert errors(store, *key) == []
        check_stored(store, gateway, *key)


# --- the connection -------------------------------------------------------------------------------


def test_tws_announces_another_port_and_comes_back(
    begin: Callable[..., tuple[Gateway, Capture]],
    serve: Callable[..., Gateway],
    steady: Replay,
    capturing: Callable[..., Capture],
    store: Store,
) -> None:
    gateway, capture = begin()
    other = serve(steady, speed=1.0)
    gateway.send_error(
        1300,
        "TWS socket port has been reset and this connection is being dropped.\n"
        f"Please reconnect on the new port - {other.port}",
    )
    until(lambda: other.clients == (10,))
    assert gateway.clients == ()
    grows(capture)
    assert with_codes(store, 1, "last")[0] == ("disconnected", 1300)
    # It may have moved back while we were not looking.
    other.close()
    until(lambda: gateway.clients == (10,))
    grows(capture)


@pytest.mark.parametrize("text", ["", "the new port is 99999", "the new port is none"])
def test_tws_announces_no_valid_port(
    text: str, begin: Callable[..., tuple[Gateway, Capture]]
) -> None:
    gateway, capture = begin()
    gateway.send_error(1300, text)
    until(lambda: capture.status()["status"]["connections"] == 2)
    grows(capture)


def test_capture_starts_before_tws(
    serve: Callable[..., Gateway],
    steady: Replay,
    capturing: Callable[..., Capture],
    store: Store,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = serve(steady)
    port = gone.port
    gone.close()
    capture = capturing(port, TICKING)
    until(lambda: states(capture) == ["disconnected"] * 3)
    assert "Connection refused (502)" in capture.status()["status"]["last_problem"]
    advised = [record for record in caplog.records if "usual ports" in record.getMessage()]
    assert len(advised) == 1, "the advice is logged once for a series of failures"
    gateway = serve(steady, port=port, speed=1.0)
    until(lambda: ticking(capture) == 3)
    assert capture.status()["status"]["last_problem"] == ""
    capture.stop()
    for key in STREAMS:
        # After several attempts, the message is logged once.
        assert statuses(store, *key)[:2] == [("disconnected", 502), ("subscribed", None)]
        assert covered(store, *key) == ["disconnected", "captured"]
        check_stored(store, gateway, *key)


def test_client_id_in_use_until_it_is_free(
    begin: Callable[..., tuple[Gateway, Capture]],
    gateway: Gateway,
    capturing: Callable[..., Capture],
    store: Store,
) -> None:
    gateway.refuse(10)
    capture = capturing(gateway, TICKING)
    until(lambda: states(capture) == ["disconnected"] * 3)
    assert "already in use. (326)" in capture.status()["status"]["last_problem"]
    gateway.admit(10)
    until(lambda: ticking(capture) == 3)
    capture.stop()
    for key in STREAMS:
        assert statuses(store, *key)[:2] == [("disconnected", 326), ("subscribed", None)]


def test_client_id_taken_by_a_second_capture(
    begin: Callable[..., tuple[Gateway, Capture]], capturing: Callable[..., Capture], store: Store
) -> None:
    """The client is refused while the first one is connected, and retries."""
    gateway, capture = begin("1:ONE:bid_ask", 1)
    second = capturing(gateway, "2:TWO:bid_ask")
    until(lambda: "(326)" in second.status()["status"]["last_problem"])
    capture.stop()
    until(lambda: ticking(second) == 1)


# --- one request ----------------------------------------------------------------------------------


@pytest.mark.parametrize("server_version", SERVER_VERSIONS)
def test_unknown_contract_is_refused(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin("7:NONE:last;bid_ask,1:ONE:bid_ask;last,2:TWO:bid_ask")
    until(lambda: states(capture)[:2] == ["not_permitted"] * 2)
    grows(capture, *STREAMS)
    assert requests(gateway) == {sent.req_id for sent in gateway.log if sent.contract_id != 7}
    assert capture.status()["status"]["contracts"]["7"]["active_tick_types"] == []
    assert capture.status()["status"]["active_contracts"] == 2
    capture.stop()
    for kind in ("last", "bid_ask"):
        assert errors(store, 7, kind) == [("200", False)]
        assert statuses(store, 7, kind) == [("not_permitted", 200), ("stopped", None)]
        assert covered(store, 7, kind) == ["not_permitted"]


PERMANENT = [
    (200, ""),
    (354, ""),
    (10089, ""),
    (10189, "Failed to request tick-by-tick data: No market data permissions for NYSE STK"),
    (10189, "Failed to request tick-by-tick data:BidAsk tick-by-tick requests are not supported"),
    (420, "Invalid Real-time Query:No market data permissions for ISLAND STK"),
]
PASSING = [
    (101, "Max number of tickers has been reached"),
    (10190, "Max number of tick-by-tick requests has been reached."),
    (10189, "Failed to request tick-by-tick data:Trading TWS session is connected from a differe"),
    (420, "Invalid Real-time Query:Pacing violation"),
    (102, "Duplicate ticker ID for API historical data query"),
    (322, "Error processing request:-'cf' : cause - Duplicate ticker id"),
]


@pytest.mark.parametrize(("code", "text"), PERMANENT)
def test_permanent_refusals(
    code: int, text: str, begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    """It is tried again now and then, since permissions are bought; and the others tick on."""

    def refuse(gateway: Any) -> None:
        gateway.forbid(1, "last", code=code, message=text)

    gateway, capture = begin(streams=2, before=refuse)
    until(lambda: states(capture)[1] == "not_permitted")
    grows(capture, (1, "bid_ask"), (2, "bid_ask"))
    assert find_code(code, text).action is Action.GIVE_UP
    gateway.permit(1, "last")
    until(lambda: states(capture)[1] == "captured")
    grows(capture)
    # And then it is a stream as any other.
    gateway.drop()
    until(lambda: ("disconnected", 504) in statuses(store, 1, "last"))
    grows(capture)
    capture.stop()
    assert set(errors(store, 1, "last")) == {(str(code), False)}
    assert ("not_permitted", code) in statuses(store, 1, "last")
    assert covered(store, 2, "bid_ask") == ["captured", "disconnected", "captured"]
    check_stored(store, gateway, 1, "last")


@pytest.mark.parametrize(("code", "text"), PASSING)
def test_temporary_refusals(
    code: int, text: str, begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    def refuse(gateway: Any) -> None:
        gateway.forbid(1, "last", code=code, message=text)

    gateway, capture = begin(streams=2, before=refuse)
    state = "disconnected" if code in (102, 322) else "not_permitted"
    until(lambda: len(errors(store, 1, "last")) >= 2, "it is tried again")
    assert streams_of(capture)[1, "last"]["last_error"].startswith(f"{code}: ")
    gateway.permit(1, "last")
    grows(capture)
    capture.stop()
    assert set(errors(store, 1, "last")) == {(str(code), True)}
    assert (state, code) in statuses(store, 1, "last")
    assert covered(store, 1, "last")[-2:] == [state, "captured"]
    assert len(requests(gateway)) == 3
    check_stored(store, gateway, 1, "last")


def test_repeated_refusals_back_off(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    def refuse(gateway: Any) -> None:
        gateway.forbid(1, "last", code=322)

    _, capture = begin(streams=2, before=refuse)
    until(lambda: len(errors(store, 1, "last")) == 6)
    times = [
        message["timestamp"]
        for message in store.select(1, "last").messages()
        if message["type"] == "error"
    ]
    seconds = [float(re.search(r"[\d.]+(?=Z)", time).group()) for time in times]
    first, *_, last = [(b - a) % 60 for a, b in itertools.pairwise(seconds)]
    # Sixteen times as long by then: more than a busy machine adds to the first.
    assert last > first
    capture.stop()


def test_competing_session_takes_the_data(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin()
    (request,) = {sent.req_id for sent in gateway.log if sent.key == (1, "last")}
    gateway.mute(1, "last")
    gateway.send_error(10197, req_id=request)
    until(lambda: states(capture)[1] == "quiet")
    # It is cancelled, so that no tick comes twice, and subscribed again. Until its cancellation
    # has come, the first request may tick again.
    gateway.unmute(1, "last")
    until(lambda: request_of(gateway, 1, "last") > request, "the second request ticks")
    grows(capture)
    assert gateway.subscriptions == 3
    capture.stop()
    assert errors(store, 1, "last") == [("10197", True)]
    assert ("quiet", 10197) in statuses(store, 1, "last")
    assert covered(store, 1, "last") == ["captured", "quiet", "captured"]
    assert covered(store, 2, "bid_ask") == ["captured"]
    check_stored(store, gateway, 1, "last")


def test_tick_by_tick_limit_reached_until_a_line_is_free(
    begin: Callable[..., tuple[Gateway, Capture]], steady: Replay, store: Store
) -> None:
    events: Any = EventLog()
    taken = Client(events)

    def take(gateway: Any) -> None:
        taken.open("127.0.0.1", gateway.port, 11, 20.0)
        taken.subscribe(1, make_contract(2, "CME"), "last")
        until(lambda: gateway.subscriptions == 1)

    _gateway, capture = begin(streams=2, before=take, limits=Limits(streams=3))
    until(lambda: "not_permitted" in states(capture))
    taken.close()
    until(lambda: states(capture) == ["captured"] * 3)
    grows(capture)
    assert {code for key in STREAMS for code, _ in errors(store, *key)} == {"10190"}


@pytest.mark.parametrize("most", [3, 5])
def test_too_many_requests_slow_the_capture_down(
    most: int, begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    """IB drops excess messages, also cancellations, and reports only that it dropped one."""
    gateway, capture = begin(limits=Limits(requests_per_second=most))
    until(lambda: gateway.subscriptions == 3, "each stream comes once")
    grows(capture)
    capture.stop()
    assert list(capture.failures) == []
    for key in STREAMS:
        values = stored(store, *key)["bid_price" if key[1] == "bid_ask" else "price"]
        assert values.is_unique().all()


def test_requests_for_one_contract_are_spaced(
    begin: Callable[..., tuple[Gateway, Capture]],
    serve: Callable[..., Gateway],
    steady: Replay,
    capturing: Callable[..., Capture],
    store: Store,
) -> None:
    # Requests arrive later than they are sent, on a busy machine by parts of a second: the gateway
    # allows much less than the capture waits, and more than requests without a pace would have.
    gateway = serve(steady, speed=1.0, limits=Limits(seconds_between=0.1))
    capture = capturing(gateway, TICKING, same_contract_seconds=1.5)
    until(lambda: ticking(capture) == 3)
    assert [errors(store, *key) for key in STREAMS] == [[], [], []]


@pytest.mark.parametrize(
    ("tracked", "waiting"),
    [
        ("1:ONE:bid_ask;last", ["ONE last"]),
        (TICKING, ["ONE last"]),
        ("1:ONE:last;bid_ask,2:TWO:last;bid_ask", ["ONE bid_ask", "TWO bid_ask"]),
        ("1:ONE:last,2:TWO:bid_ask", []),
    ],
)
def test_wait_for_the_limit_of_a_contract_is_logged_once(
    serve: Callable[..., Gateway],
    steady: Replay,
    capturing: Callable[..., Capture],
    caplog: pytest.LogCaptureFixture,
    tracked: str,
    waiting: list[str],
) -> None:
    caplog.set_level(logging.INFO)
    contracts = len(tracked.split(","))
    capture = capturing(serve(steady, speed=1.0), tracked, same_contract_seconds=600)
    until(lambda: ticking(capture) == contracts)
    grows(capture, *(key for key, stream in streams_of(capture).items() if stream["ticks"]))
    pattern = r"waiting [56]\d\d? s before (.*): IB allows one request for a contract in 600 s"
    matches = [re.fullmatch(pattern, record.getMessage()) for record in caplog.records]
    assert sorted(match.group(1) for match in matches if match) == waiting


# --- the whole table ------------------------------------------------------------------------------


def request_of(gateway: Gateway, contract_id: int, tick_type: str) -> int:
    """Return the last request of a stream."""
    return max(sent.req_id for sent in gateway.log if sent.key == (contract_id, tick_type))


def is_requested_again(gateway: Gateway, before: set[int], *keys: tuple[int, str]) -> bool:
    """Return whether these streams tick for new requests."""
    return all(request_of(gateway, *key) > max(before) for key in keys)


def check_note(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    before = requests(gateway)
    for request in (-1, request_of(gateway, 1, "last"), 77):
        gateway.send_error(number, req_id=request)
    grows(capture)
    assert requests(gateway) == before
    assert states(capture) == ["captured"] * 3
    assert [errors(store, *key) for key in STREAMS] == [[], [], []]


def check_broken(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    before = requests(gateway)
    gateway.pause()
    gateway.send_error(number)
    until(lambda: states(capture) == ["disconnected"] * 3)
    gateway.send_error(1102)
    until(lambda: states(capture) == ["captured"] * 3)
    gateway.resume()
    grows(capture)
    assert requests(gateway) == before
    assert ("disconnected", number) in statuses(store, 2, "bid_ask")


def check_restored(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    before = requests(gateway)
    gateway.pause()
    gateway.send_error({2104: 2103}.get(number, 1100))
    until(lambda: states(capture) == ["disconnected"] * 3)
    gateway.send_error(number)
    until(lambda: states(capture) == ["captured"] * 3)
    gateway.resume()
    grows(capture)
    assert requests(gateway) == before
    assert ("restored", number) in statuses(store, 2, "bid_ask")


def check_resubscribe(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    before = requests(gateway)
    gateway.send_error(number, req_id=request_of(gateway, 1, "last"))
    until(lambda: is_requested_again(gateway, before, (1, "last")), "it is asked for again")
    grows(capture)
    assert len(requests(gateway)) == len(before) + 1, "the others are left alone"
    assert errors(store, 1, "last") == [(str(number), True)]
    assert with_codes(store, 1, "last") == [("disconnected", number)]
    # The index is written by another thread than the files.
    until(lambda: covered(store, 1, "last") == ["captured", "disconnected", "captured"])


def check_resubscribe_all(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    before = requests(gateway)
    gateway.send_error(number)
    until(lambda: is_requested_again(gateway, before, *STREAMS), "all are asked for again")
    assert ("disconnected", number) in statuses(store, 1, "last")


def check_reconnect(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    gateway.send_error(number)
    until(lambda: capture.status()["status"]["connections"] == 2, "it connects again")
    assert ("disconnected", number) in statuses(store, 1, "last")


def check_refusal(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    before = requests(gateway)
    action = CODES[number].action
    gateway.forbid(1, "last", code=number, message=f"Error {number}")
    gateway.send_error(1101)  # all are asked for again
    until(lambda: errors(store, 1, "last"), "it is refused")
    gateway.permit(1, "last")
    until(lambda: is_requested_again(gateway, before, (1, "last")), "it is asked for again")
    assert set(errors(store, 1, "last")) == {(str(number), action is not Action.GIVE_UP)}
    state = "disconnected" if action is Action.RETRY_SOON else "not_permitted"
    assert ("quiet" if number == 10197 else state, number) in statuses(store, 1, "last")


def check_slow_down(number: Any, gateway: Any, capture: Any, store: Any) -> None:
    gateway.send_error(number)
    grows(capture)
    assert states(capture) == ["captured"] * 3
    assert [errors(store, *key) for key in STREAMS] == [[], [], []]


CHECKS = {
    Action.NOTE: check_note,
    Action.BROKEN: check_broken,
    Action.RESTORED: check_restored,
    Action.RESUBSCRIBE: check_resubscribe,
    Action.RESUBSCRIBE_ALL: check_resubscribe_all,
    Action.RECONNECT: check_reconnect,
    Action.RETRY_SOON: check_refusal,
    Action.RETRY_LATER: check_refusal,
    Action.GIVE_UP: check_refusal,
    Action.SLOW_DOWN: check_slow_down,
}


@pytest.mark.parametrize("number", CODES)
def test_every_code_of_the_table(
    number: int, begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    """The error arrives during a capture; then all streams tick, each tick once."""
    gateway, capture = begin()
    CHECKS[CODES[number].action](number, gateway, capture, store)
    grows(capture)
    until(lambda: gateway.subscriptions == 3, "each stream is subscribed once")
    capture.stop()
    assert list(capture.failures) == []
    for key in STREAMS:
        check_stored(store, gateway, *key)


LOST = [
    (10225, ""),
    (10182, ""),
    (316, "Market depth data has been HALTED. Please re-subscribe."),
    (10999, "The subscription is deactivated."),
    (10998, "Data farm was restarted, please resubscribe."),
]


@pytest.mark.parametrize(("number", "text"), LOST)
def test_subscription_that_is_lost_repeatedly(
    number: int, text: str, begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    """Each time it is cancelled and requested again, and its gap is recorded."""
    gateway, capture = begin()
    for _ in range(3):
        before = requests(gateway)
        ended = request_of(gateway, 1, "last")
        gateway.send_error(number, text, req_id=ended)
        until(lambda before=before: is_requested_again(gateway, before, (1, "last")))
        grows(capture)
    until(lambda: gateway.subscriptions == 3)
    capture.stop()
    assert errors(store, 1, "last") == [(str(number), True)] * 3
    assert with_codes(store, 1, "last") == [("disconnected", number)] * 3
    assert covered(store, 1, "bid_ask") == covered(store, 2, "bid_ask") == ["captured"]
    check_stored(store, gateway, 1, "last")


def test_ticks_in_flight_at_a_new_subscription() -> None:
    subscription = subscriptions.Subscription(recorder=None)  # type: ignore[arg-type]
    subscription.begin(1, 0.0)
    assert [subscription.accepts(request) for request in (1, 0)] == [True, False]
    subscription.begin(2, 1.0)
    # Sent before the server read that request 1 is cancelled: after request 2 ticks, twice there.
    assert [subscription.accepts(request) for request in (1, 1, 2, 1, 2)] == [
        *(True, True, True),
        *(False, True),
    ]


def test_loss_of_an_unknown_request_changes_nothing(
    begin: Callable[..., tuple[Gateway, Capture]], store: Store
) -> None:
    gateway, capture = begin()
    before = requests(gateway)
    for request in (-1, 77):
        gateway.send_error(10225, req_id=request)
    grows(capture)
    assert requests(gateway) == before
    assert [errors(store, *key) for key in STREAMS] == [[], [], []]


def test_limit_of_lines_reported_by_another_code() -> None:
    """Seen as 322 where others see 10190: it is no use to ask again at once."""
    text = "Error processing request:-'cm' : cause - Max number of tick-by-tick requests reached"
    assert find_code(322, text).action is Action.RETRY_LATER
    assert find_code(322, "Duplicate ticker id").action is Action.RETRY_SOON


def test_every_code_has_a_text() -> None:
    assert len(CODES) == len({code.number for code in CODES.values()}) == 60
    assert all(code.text for code in CODES.values())
    assert set(CHECKS) == set(Action)
    assert find_code(9999, "whatever").action is Action.NOTE


def test_codes_of_ibapi_are_in_the_table() -> None:
    """Errors of the client, that are about no order, account, bar or news."""
    ours: tuple[str, ...] = (
        "TICKBYTICKDATA",
        "REQCONTRACT",
        "STARTAPI",
        "CURRTIME",
        "SOCK",
        "INVALID_SYMBOL",
    )
    ours += ("CONNECT", "UPDATE_TWS", "UNKNOWN_ID", "BAD_", "PROTOBUF")
    pairs = {name: pair for name, pair in vars(ibapi_errors).items() if hasattr(pair, "errorCode")}
    numbers = {pair.errorCode for name, pair in pairs.items() if any(part in name for part in ours)}
    assert len(numbers) > 10
    assert numbers <= CODES.keys()
