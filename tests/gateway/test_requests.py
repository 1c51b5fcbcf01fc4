"""Parsing of requests as clients write them, and of invalid ones."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.errors import FormatError
from ibticks.gateway import _requests as requests
from ibticks.gateway._contracts import ContractQuery

from .clients import contract_fields, request

IBM = ContractQuery(8314, "IBM", "STK", exchange="SMART", currency="USD")
IBM_FIELDS = contract_fields(8314, "IBM", "STK", "SMART", "USD")

KNOWN = [
    ((71, 2, 10, ""), requests.StartApi(10)),
    ((8, 1, 1), requests.AskIds()),
    ((17, 1), requests.AskAccounts()),
    ((49, 1), requests.AskTime(millis=False)),
    ((105,), requests.AskTime(millis=True)),
    ((9, 8, 5, *IBM_FIELDS, 0, "", "", ""), requests.AskContract(5, IBM)),
    ((97, 6, *IBM_FIELDS, "BidAsk", 3, 1), requests.AskTicks(6, IBM, "BidAsk", 3, True)),
    ((98, 6), requests.CancelTicks(6)),
    (
        (96, 7, *IBM_FIELDS, 0, "", "20131008-13:30:00", 1000, "TRADES", 1, 0, ""),
        requests.AskHistoricalTicks(7, IBM, "", "20131008-13:30:00", 1000, "TRADES", True, False),
    ),
    # ib_async writes a truth typed as such, and its own defaults, as Python does.
    (
        (96, 7, *IBM_FIELDS, False, "x", "", 9, "BID_ASK", True, "False", ""),
        requests.AskHistoricalTicks(7, IBM, "x", "", 9, "BID_ASK", True, False),
    ),
    ((107, 7), requests.CancelHistoricalTicks(7)),
    ((61, 1), requests.AskPositions()),
    ((5, 1), requests.AskOpenOrders()),
    ((16, 1), requests.AskOpenOrders()),
    ((99, 0), requests.AskCompletedOrders()),
    ((6, 2, 1, "DU1"), requests.AskAccountUpdates(True, "DU1")),
    ((6, 2, 0, "DU1"), requests.AskAccountUpdates(False, "DU1")),
    ((76, 1, 8, "DU1", "", 1), requests.AskAccountUpdatesMulti(8)),
    ((7, 3, 9, 0, "", "", "", "", "", ""), requests.AskExecutions(9)),
    ((1, 11, 3), requests.Unknown(1, ("11", "3"))),
]


@pytest.mark.parametrize(("fields", "wanted"), KNOWN)
def test_requests_are_parsed(fields: tuple[Any, ...] | tuple[int | str, ...], wanted: Any) -> None:
    assert requests.parse(request(*fields)[4:], 200) == wanted


@pytest.mark.parametrize(
    ("fields", "req_id"),
    [
        ((97, 6, 8314, "IBM"), 6),
        ((97, 6, "many", "IBM", *IBM_FIELDS), 6),
        ((97, "six"), -1),
        ((98,), -1),
        (("ninety", 1), -1),
    ],
)
def test_an_invalid_request_is_reported_with_its_id(
    fields: tuple[Any, ...] | tuple[int | str, ...], req_id: int
) -> None:
    with pytest.raises(FormatError) as caught:
        requests.parse(request(*fields)[4:], 200)
    assert caught.value.context["req_id"] == req_id


@given(
    st.one_of(
        st.binary(),
        st.lists(st.sampled_from(["97", "9", "96", "1", "", "x"])).map(
            lambda fields: request(*fields)[4:]
        ),
    ),
    st.sampled_from([157, 200, 201, 208, 226]),
)
def test_nothing_a_client_sends_breaks_the_parser(payload: Any, version: int) -> None:
    with contextlib.suppress(FormatError):
        requests.parse(payload, version)


@pytest.mark.parametrize(
    ("payload", "versions"),
    [(b"v100..226", (100, 226)), (b"v157..178 +PACEAPI", (157, 178)), (b"v178", (178, 178))],
)
def test_versions(payload: bytes, versions: tuple[int, int]) -> None:
    assert requests.versions_offered(payload) == versions


@pytest.mark.parametrize("payload", [b"", b"100..200", b"v..200", b"vx..y", b"GET / HTTP/1.1"])
def test_invalid_versions(payload: bytes) -> None:
    with pytest.raises(FormatError, match="which versions"):
        requests.versions_offered(payload)
