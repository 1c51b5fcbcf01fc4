"""Settings: from the environment, from arguments, and refused with the reason."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import ibticks as ibt
from ibticks.capture import CaptureOptions, CaptureSettings, TrackedContract
from ibticks.errors import ConfigError
from ibticks.tws import parse_address

AAPL = TrackedContract(265598, "AAPL")
TWELVE = ",".join(f"{n}:S{n}" for n in range(1, 13))


def test_the_options_of_a_capture_are_its_settings() -> None:
    settings = get_type_hints(CaptureSettings)
    duration = float | str | timedelta | None
    also = {"max_tracked": int | None, "compress_after": duration, "keep": duration}
    assert get_type_hints(CaptureOptions) | {"tracked": settings["tracked"]} == settings | also


def test_defaults() -> None:
    settings = CaptureSettings.from_environment({})
    assert (settings.tracked, settings.max_tracked) == ((), 10)
    assert (settings.host, settings.port, settings.client_id) == ("127.0.0.1", 4002, 10)
    assert settings.reconnect_delay == 30


def test_the_environment() -> None:
    settings = CaptureSettings.from_environment(
        {
            "IB_STREAM_TRACKED_CONTRACTS": f"{TWELVE}",
            "IB_STREAM_MAX_TRACKED": " 12 ",
            "IB_STREAM_RECONNECT_DELAY": "2.5",
            "IBTICKS_GATEWAY": "tws.local:7497",
        }
    )
    assert [contract.contract_id for contract in settings.tracked] == list(range(1, 13))
    assert (settings.max_tracked, settings.reconnect_delay) == (12, 2.5)
    assert (settings.host, settings.port) == ("tws.local", 7497)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("IB_STREAM_TRACKED_CONTRACTS", "1:A:x", "IB_STREAM_TRACKED_CONTRACTS: entry 1 of the tr"),
        ("IB_STREAM_TRACKED_CONTRACTS", TWELVE, "IB_STREAM_TRACKED_CONTRACTS: 12 contracts are to"),
        ("IB_STREAM_MAX_TRACKED", "ten", "IB_STREAM_MAX_TRACKED='ten' is not a whole number above"),
        ("IB_STREAM_MAX_TRACKED", "10.5", "is not a whole number above 0"),
        ("IB_STREAM_MAX_TRACKED", "0", "is not a whole number above 0"),
        ("IB_STREAM_MAX_TRACKED", "-1", "is not a whole number above 0"),
        ("IB_STREAM_RECONNECT_DELAY", "soon", "IB_STREAM_RECONNECT_DELAY='soon' is not a number "),
        ("IB_STREAM_RECONNECT_DELAY", "0", "is not a number above 0"),
        ("IB_STREAM_RECONNECT_DELAY", "nan", "is not a number above 0"),
        ("IB_STREAM_RECONNECT_DELAY", "inf", "is not a number above 0"),
        ("IBTICKS_GATEWAY", "7497", "IBTICKS_GATEWAY: '7497' is not an address: write host:port"),
        ("IBTICKS_GATEWAY", "localhost:tws", "is not an address"),
    ],
)
def test_invalid_variables(variable: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        CaptureSettings.from_environment({variable: value})


@pytest.mark.parametrize("name", ["IB_STREAM_MAX_TRACKED", "IB_STREAM_RECONNECT_DELAY"])
def test_empty_variables_are_ignored(name: str) -> None:
    assert CaptureSettings.from_environment({name: " "}) == CaptureSettings(())


def test_arguments_override_the_environment() -> None:
    wrong = {
        "IB_STREAM_TRACKED_CONTRACTS": "?",
        "IB_STREAM_MAX_TRACKED": "?",
        "IB_STREAM_RECONNECT_DELAY": "?",
        "IBTICKS_GATEWAY": "?",
    }
    settings = CaptureSettings.from_environment(
        wrong, tracked=[AAPL], max_tracked=1, reconnect_delay=1, host="h", port=1
    )
    assert settings.tracked == (AAPL,)
    # But what is not given is.
    with pytest.raises(ConfigError, match="IBTICKS_GATEWAY"):
        CaptureSettings.from_environment({"IBTICKS_GATEWAY": "?"}, tracked=[AAPL], host="h")


def test_limit_of_the_environment_applies_to_arguments() -> None:
    with pytest.raises(ConfigError, match="12 contracts are to be tracked, and at most 10"):
        CaptureSettings.from_environment({}, tracked=TWELVE)
    more = CaptureSettings.from_environment({"IB_STREAM_MAX_TRACKED": "12"}, tracked=TWELVE)
    assert len(more.tracked) == 12


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("host", "", "host='': give the name or address of a machine"),
        ("host", None, "host=None: give the name"),
        ("port", 0, "port=0: give a whole number from 1 to 65535"),
        ("port", "4002", "port='4002': give a whole number"),
        ("port", 65536, "port=65536"),
        ("client_id", -1, "client_id=-1: give a whole number from 0"),
        ("client_id", True, "client_id=True"),
        ("max_tracked", 0, "max_tracked=0"),
        ("requests_per_second", 51, "requests_per_second=51: give a whole number from 1 to 50"),
        ("reconnect_delay", 0, "reconnect_delay=0: give seconds, more than 0"),
        ("connect_timeout", "15", "connect_timeout='15': give seconds"),
        ("quiet_after", float("nan"), "quiet_after=nan"),
        ("heartbeat", float("inf"), "heartbeat=inf"),
        ("same_contract_seconds", -1, "same_contract_seconds=-1: give seconds, 0 or more"),
        ("fsync", -0.5, "fsync=-0.5: give seconds, 0 or more"),
        ("fsync", True, "fsync=True"),
        ("tracked", (1,), "1 is not a TrackedContract"),
    ],
)
def test_invalid_settings(name: str, value: str | float | tuple[int] | None, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        CaptureSettings(**{"tracked": (AAPL,), name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("fsync", [None, 0, 0.5])
def test_settings_of_fsync(fsync: float | None) -> None:
    assert CaptureSettings((AAPL,), fsync=fsync).fsync == fsync


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4002",
        ":4002",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "host:-1",
        "host:４",
        "::1:4002",
        "[::1]",
        "[host]:1",
        "[::1:1",
    ],
)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an address: write host:port, as "):
        parse_address(text)


def test_capture_refuses_invalid_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IB_STREAM_TRACKED_CONTRACTS", raising=False)
    store: Any = object()
    with pytest.raises(ConfigError, match="no contract to capture: give some, as '265598:AAPL"):
        ibt.Capture(store)
    with pytest.raises(ConfigError, match="no contract to capture"):
        ibt.Capture(store, [TrackedContract(1, "A", enabled=False)])
    with pytest.raises(ConfigError, match="a capture has no setting 'prot'; it has tracked, max_"):
        ibt.Capture(store, "1:A", prot=7497)  # type: ignore[call-arg]
    monkeypatch.setenv("IB_STREAM_TRACKED_CONTRACTS", "1:A:last")
    assert ibt.Capture(store).settings.tracked == (TrackedContract(1, "A", ("last",)),)
