"""The status page in a real browser, by itself and in JupyterLab."""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ibticks.calendar import to_ns
from ibticks.config import DAY_NS, NANOSECONDS
from ibticks.service import Service
from ibticks.service._proxy import describe_server
from tests.live.simulation import columns
from tests.widgets.jupyterlab import Lab

from .test_status import write_capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    import ibticks as ibt

CONTRACT = 265598
SYMBOL = "<b>AAPL</b>"

# Text whose contrast with the page is below 4.5, as WCAG demands of small text.
FAINT_TEXT = """
() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll("h1, h2, p, small, dt, dd, th, td, a")]
    .filter((one) => {
      const text = light(getComputedStyle(one).color);
      const [dark, bright] = [page, text].sort((a, b) => a - b);
      return (bright + 0.05) / (dark + 0.05) < 4.5;
    })
    .map((one) => one.textContent);
}
"""


@pytest.fixture
def captured(store: ibt.Store) -> ibt.Store:
    """A store with ticks of yesterday, and the status of a capture that adds to them."""
    store.add_contract(CONTRACT, SYMBOL)
    yesterday_ns = to_ns(datetime.now(UTC)) // DAY_NS * DAY_NS - DAY_NS
    with store.writer(CONTRACT, "last", fsync=None) as writer:
        writer.write(columns("last", [yesterday_ns + i * NANOSECONDS for i in range(60)], 0))
    write_running(store)
    return store


def write_running(store: ibt.Store, state: str = "captured", **changes: Any) -> None:
    stream = {
        "state": state,
        "reason": "subscribed",
        "last_tick": "2025-07-10T13:45:22.5+00:00",
        "lag_seconds": 0.25,
    }
    contracts = {
        str(CONTRACT): {
            "symbol": SYMBOL,
            "enabled": True,
            "expected_tick_types": ["last"],
            "active_tick_types": ["last"],
            "buffer_hours": 1,
            "stream_count": 1,
            "streams": {"last": stream},
        }
    }
    write_capture(store.root, contracts=contracts, total_streams=1, last_problem="", **changes)


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """Open a page that must cause neither an error nor a request to another host."""
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on(
        "request",
        lambda request: None if request.url.startswith(url) else problems.append(request.url),
    )
    page.goto(url)
    yield page
    page.close()
    assert problems == []


def test_page_follows_the_capture(browser: Browser, captured: ibt.Store) -> None:
    with Service(captured, port=0) as service, opened(browser, service.url) as page:
        page.get_by_text("The capture runs, connected: 1 streams.").wait_for()
        row = page.locator("#streams tbody tr")
        assert row.count() == 1
        assert row.locator("th, td").all_inner_texts()[:4] == [SYMBOL, "last", "captured", "60"]
        days = row.locator(".days i")
        assert days.count() == 14
        assert "60 ticks" in (days.nth(12).get_attribute("aria-label") or "")
        assert days.nth(12).get_attribute("class") in ("ticks", "missing")
        assert "No client reads a live stream." in page.locator("#clients").inner_text()
        write_running(captured, "disconnected", tws_connected=False)
        page.get_by_text("The capture runs, not connected: 1 streams.").wait_for()
        page.locator("#streams td.bad", has_text="disconnected").wait_for()
        with httpx.stream(
            "GET", f"{service.url}/v2/stream/{CONTRACT}?tick_types=last", timeout=60
        ) as response:
            lines = response.iter_lines()
            next(lines)
            page.locator("#clients td", has_text=str(CONTRACT)).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(browser: Browser, captured: ibt.Store, scheme: Any) -> None:
    with Service(captured, port=0) as service, opened(browser, service.url) as page:
        page.emulate_media(color_scheme=scheme)
        page.locator("#streams tbody tr").wait_for()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 20, 24)"}[scheme]
        assert page.evaluate(FAINT_TEXT) == []


def test_page_of_an_empty_store(browser: Browser, store: ibt.Store) -> None:
    with Service(store, port=0) as service, opened(browser, service.url) as page:
        page.get_by_text("No capture.").wait_for()
        page.get_by_text("No ticks are stored.").wait_for()


def test_page_is_served_with_a_policy(captured: ibt.Store) -> None:
    with Service(captured, port=0) as service, httpx.Client(base_url=service.url) as client:
        assert "default-src 'self'" in client.get("/").headers["content-security-policy"]
        assert client.get("/static/status.mjs").status_code == 200
        for path in ("/static/nothing", "/static/..%2f_app.py", "/static/status.html"):
            assert client.get(path).status_code == 404
        overview = client.get("/status/overview").json()
        assert str(captured.root) not in client.get("/status/overview").text
        assert overview["storage"]["ticks"] == 60
        assert "pid" not in overview["capture"]


def test_page_in_jupyterlab(
    browser: Browser, sample_store: ibt.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The entry point of the installed package makes the card of the launcher.
    monkeypatch.setenv("IBTICKS_STORE", str(sample_store.root))
    lab = Lab(tmp_path)
    try:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{lab.url}/lab")
        page.locator(".jp-LauncherCard", has_text="ibticks").click()
        shown = page.frame_locator("iframe")
        shown.locator("#streams tbody th").get_by_text("IBM").first.wait_for()
        shown.get_by_text("No capture.").wait_for()
        page.close()
    finally:
        lab.close()


def test_entry_point_of_jupyter_server_proxy() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    entries = project["project"]["entry-points"]["jupyter_serverproxy_servers"]
    assert entries == {"ibticks": f"{describe_server.__module__}:{describe_server.__name__}"}
    server = describe_server()
    assert "{unix_socket}" in server["command"]
    assert Path(server["launcher_entry"]["icon_path"]).is_file()
