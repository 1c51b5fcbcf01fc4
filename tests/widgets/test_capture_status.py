"""The status widget of a real capture from the simulated gateway."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ibticks as ibt
from ibticks.gateway import Gateway, Replay
from ibticks.widgets import CaptureStatus

from .jupyterlab import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[ibt.Capture]:
    gateway = Gateway(Replay.from_samples(["ibm_quotes"]), speed=100).start()
    with ibt.open(tmp_path / "store") as store:
        capture = ibt.Capture(store, "8314:IBM:bid_ask", port=gateway.port, same_contract_seconds=0)
        yield capture
        capture.stop()
    gateway.close()


def test_status_follows_and_stops_a_capture(capture: ibt.Capture) -> None:
    threads = set(threading.enumerate())
    capture.start()
    status = CaptureStatus(capture)
    panel, (button, line) = status.children[0], status.children[1].children
    until(lambda: "captured" in panel.value)
    before = panel.value
    until(lambda: panel.value != before)
    until(lambda: line.value.count(",") > 3)
    assert "IBM" in panel.value
    assert button.description == "Stop"
    assert repr(status) == "<CaptureStatus: The state of a capture>"
    button.click()
    assert not capture.running
    assert button.description == "Start"
    assert "stopped" in panel.value
    button.click()
    assert capture.running
    status.close()
    assert capture.running, "a view that is closed leaves the capture alone"
    capture.stop()
    assert set(threading.enumerate()) == threads


def test_the_page_has_the_last_state(capture: ibt.Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads refresh; the second one begins while the first one sends."""
    monkeypatch.setattr("ibticks.widgets._capture_status._REFRESH_SECONDS", 3600)
    running = [True]
    monkeypatch.setattr(type(capture), "running", property(lambda _: running[0]))
    status = CaptureStatus(capture)
    button = status.children[1].children[0]
    button.description = ""
    sent: list[str] = []
    second = threading.Thread(target=status._refresh)

    def send(state: dict[str, str]) -> None:
        if "description" in state and threading.current_thread() is not second:
            running[0] = False
            second.start()
            second.join(1)  # it may overtake this thread, if it can
        sent.append(state.get("description", ""))

    monkeypatch.setattr(button, "send_state", lambda key=None: send(button.get_state(key)))
    status._refresh()
    second.join()
    assert sent[-1] == button.description == "Start"
    running[0] = False
    status.close()
