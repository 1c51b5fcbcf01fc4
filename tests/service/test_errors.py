"""Errors over HTTP: a status, one v2 message, a standard code, and what to do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Request

from ibticks.errors import CorruptFileError, IndexUnavailableError
from ibticks.service._errors import error_response, explain_error

from .conftest import IBM

if TYPE_CHECKING:
    import httpx

RANGE = f"/v2/historical/{IBM}/range"
TIMES = {"start_time": "2013-10-08T14:00:00Z", "end_time": "2013-10-08T14:00:30Z"}


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """Return the data of a v2 error message."""
    assert response.status_code == status, response.text
    message = response.json()
    assert list(message) == ["type", "stream_id", "timestamp", "data"]
    assert message["type"] == "error"
    assert list(message["data"]) == ["code", "message", "recoverable", "details"]
    data: dict[str, Any] = message["data"]
    return data


@pytest.mark.parametrize(
    ("path", "parameters", "status", "code", "says"),
    [
        (
            "/v2/historical/8315/range",
            TIMES,
            404,
            "CONTRACT_NOT_FOUND",
            "no contract 8315 in this store",
        ),
        ("/v2/historical/IBN/range", TIMES, 404, "CONTRACT_NOT_FOUND", "IBM (8314"),
        (RANGE, {**TIMES, "tick_type": "trades"}, 400, "INVALID_TICK_TYPE", "last, all_last"),
        (RANGE, {**TIMES, "tick_types": "last,bid ask"}, 400, "INVALID_TICK_TYPE", "'bid ask'"),
        (RANGE, {**TIMES, "tick_type": ","}, 400, "INVALID_REQUEST", "no tick type is given"),
        (
            RANGE,
            {**TIMES, "tick_type": "last", "tick_types": "last"},
            400,
            "INVALID_REQUEST",
            "keep one of them",
        ),
        (
            RANGE,
            {**TIMES, "start_time": "2013-10-08T14:00:00"},
            400,
            "INVALID_REQUEST",
            "start_time='2013-10-08T14:00:00' has no time zone",
        ),
        (
            RANGE,
            {**TIMES, "end_time": TIMES["start_time"]},
            400,
            "INVALID_REQUEST",
            "a range is half-open",
        ),
        (RANGE, {"start_time": "x"}, 400, "INVALID_REQUEST", "end_time is missing"),
        (RANGE, {**TIMES, "parallel": "perhaps"}, 400, "INVALID_REQUEST", "parallel='perhaps'"),
        (RANGE, {**TIMES, "tz": "Moon/Base"}, 200, "", ""),
        (
            f"/v2/historical/{IBM}/to-present",
            {"start_time": "2200-01-01T00:00Z"},
            400,
            "INVALID_REQUEST",
            "still to come",
        ),
        (
            f"/v2/historical/{IBM}/protobuf",
            {"start_time": "2200-01-01T00:00Z"},
            400,
            "INVALID_REQUEST",
            "still to come",
        ),
        (
            f"/v2/historical/{IBM}/protobuf",
            {**TIMES, "format": "xml"},
            400,
            "INVALID_REQUEST",
            "format='xml'",
        ),
        (
            f"/v2/historical/{IBM}/session",
            {"date": "2013-10-06"},
            404,
            "SESSION_NOT_FOUND",
            "no regular session on Sunday",
        ),
        (
            f"/v2/historical/{IBM}/session",
            {"market": "MOON"},
            400,
            "INVALID_REQUEST",
            "MOON",
        ),
        (
            f"/v2/historical/{IBM}/session",
            {"session_type": "lunch"},
            400,
            "INVALID_REQUEST",
            "no session type 'lunch'",
        ),
        (
            f"/v2/historical/{IBM}/relative",
            {"period": "last_fortnight"},
            400,
            "INVALID_REQUEST",
            "last_hour",
        ),
        (
            f"/v2/historical/{IBM}/relative",
            {"period": "1h", "buffer_duration": "1h"},
            400,
            "INVALID_REQUEST",
            "keep one of them",
        ),
        ("/v2/historical", {}, 404, "NOT_FOUND", "GET /v2/historical"),
    ],
)
def test_wrong_requests(
    client: httpx.Client, path: str, parameters: dict[str, str], status: int, code: str, says: str
) -> None:
    response = client.get(path, params=parameters)
    if status == 200:
        assert response.status_code == 200
        return
    data = error_of(response, status)
    assert data["code"] == code
    assert says in data["message"]
    assert data["recoverable"] is False


def test_the_stream_id_is_that_of_the_request(client: httpx.Client) -> None:
    for parameters, stream_id in (
        ({}, "8314_bid_ask"),
        ({"tick_type": "last"}, "8314_last"),
        ({"tick_types": "last,bid_ask"}, "8314_multi"),
    ):
        assert client.get(RANGE, params=parameters).json()["stream_id"] == stream_id


def test_candidates_are_details(client: httpx.Client) -> None:
    data = error_of(client.get("/v2/historical/IBN/range", params=TIMES), 404)
    assert data["details"] == {"symbol": "IBN", "candidates": [IBM]}


def test_other_methods_are_refused(client: httpx.Client) -> None:
    response = client.post(RANGE, params=TIMES)
    assert error_of(response, 405)["code"] == "METHOD_NOT_ALLOWED"
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    "contract",
    ["..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "-1", "0", "9" * 400, "1e3", "NaN", "ıbm", "%00"],
)
def test_contracts_that_are_none(client: httpx.Client, contract: str) -> None:
    error_of(client.get(f"/v2/historical/{contract}/range", params=TIMES), 404)


@pytest.mark.parametrize(
    "time",
    ["", "NaN", "inf", "0", "9" * 400, "-2013-01-01T00:00Z", "0001-01-01T00:00Z", "2013-13-01",
     "9999-12-31T23:59:59Z", "2013-10-08T14:00:00+99:99", "../../etc/passwd", "\x00", "２０１３"],
)  # fmt: skip
def test_times_that_are_none(client: httpx.Client, time: str) -> None:
    data = error_of(client.get(RANGE, params={**TIMES, "start_time": time}), 400)
    assert data["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize(
    "period", ["", "0s", "-1h", "1e9h", "9" * 400 + "h", "last_0_hours", "NaN", "1h1h", "\x00"]
)
def test_periods_that_are_none(client: httpx.Client, period: str) -> None:
    error_of(client.get(f"/v2/historical/{IBM}/relative", params={"period": period}), 400)


def test_ten_thousand_tick_types(client: httpx.Client) -> None:
    many = client.get(RANGE, params={**TIMES, "tick_types": ",".join(["last"] * 9_000)})
    assert many.json() == {"messages": [], "count": 0}


def test_other_host_names_are_refused(client: httpx.Client) -> None:
    """DNS rebinding: a page of another site cannot read the store of the one who views it."""
    for host in ("evil.example", "localhost.evil.example:8001", "127.0.0.1.evil.example", ""):
        data = error_of(client.get("/health", headers={"Host": host}), 403)
        assert data["code"] == "PERMISSION_DENIED"
    for host in ("localhost", "LOCALHOST:8001", "[::1]:8001", "127.0.0.1"):
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_other_origins_get_no_permission(client: httpx.Client) -> None:
    response = client.get("/health", headers={"Origin": "https://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("error", "status", "code", "recoverable"),
    [
        (CorruptFileError("/home/me/ticks/x.pb is damaged"), 500, "INTERNAL_ERROR", False),
        (IndexUnavailableError("postgresql://me:secret@host"), 503, "CONNECTION_ERROR", True),
        (RuntimeError("/home/me"), 500, "INTERNAL_ERROR", False),
    ],
)
def test_errors_of_the_service_stay_in_its_log(
    caplog: pytest.LogCaptureFixture, error: Exception, status: int, code: str, *, recoverable: bool
) -> None:
    with caplog.at_level(logging.ERROR):
        kind, message, details = explain_error(error)
    assert kind == (status, code, recoverable)
    assert "/home" not in message
    assert "secret" not in message
    assert details["reference"] in message
    assert details["reference"] in caplog.text
    assert str(error) in caplog.text
    request = Request({"type": "http", "path_params": {}, "query_string": b"", "headers": []})
    assert error_response(request, kind, message, details).status_code == status
