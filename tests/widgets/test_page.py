"""The JavaScript of the views in a browser, with a stub of the kernel: no JupyterLab is needed."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from ibticks.widgets._chart_state import ChartState
from ibticks.widgets._page_widget import javascript, style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page

pytestmark = pytest.mark.browser

STUB = """
async ([source, css, traits]) => {
  const sheet = document.createElement("style");
  sheet.textContent = css;
  document.head.append(sheet);
  const handlers = {};
  const model = {
    sent: [],
    saved: 0,
    get: (name) => traits[name],
    set: (name, value) => { traits[name] = value; model.fire(`change:${name}`); },
    save_changes: () => { model.saved += 1; },
    send: (message) => model.sent.push(message),
    on: (names, handler) => {
      for (const name of names.split(" ")) (handlers[name] ??= []).push(handler);
    },
    off: (names, handler) => {
      for (const name of names.split(" ")) {
        handlers[name] = handlers[name].filter((one) => one !== handler);
      }
    },
    fire: (name, ...values) => { for (const handler of handlers[name] ?? []) handler(...values); },
    receive: (message, buffers) => {
      const views = buffers.map((text) => {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        return new DataView(bytes.buffer);
      });
      model.fire("msg:custom", message, views);
    },
    handlers: () => Object.values(handlers).flat().length,
  };
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: view } = await import(url);
  const el = document.createElement("div");
  document.body.append(el);
  window.model = model;
  window.remove = view.render({ model, el });
}
"""
LIVE_TRAITS = {
    "window": 60.0,
    "paused": False,
    "contract": 1,
    "contracts": [[1, "ONE"], [2, "TWO"]],
    "shown": ["bid_ask", "mid", "last", "volume"],
    "tz": "UTC",
    "height": 420,
}


class Kernel:
    """The kernel's half of a view: it sends messages to the stub."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.chart = ChartState(60.0)
        self.sequence = 0
        self.ticks = 0

    def add(self, count: int) -> None:
        now = time.time_ns()
        times = [now - (count - number) * 1_000_000 for number in range(count)]
        ticks = {
            "timestamp": pl.Series(times).cast(pl.Datetime("ns", "UTC")),
            "price": [100.0 + number % 7 * 0.25 for number in range(count)],
            "size": [1.0] * count,
            "bid_price": [99.75] * count,
            "ask_price": [101.75] * count,
        }
        self.chart.add(pl.DataFrame(ticks), time.monotonic())
        self.ticks += count

    def send(self, *, snapshot: bool = False, **facts: Any) -> None:
        now = time.monotonic()
        message, buffers = self.chart.snapshot(now) if snapshot else self.chart.changes(now)
        self.sequence += 1
        message |= {"type": "reset" if snapshot else "append", "seq": self.sequence}
        message["facts"] |= {"state": "live", "now": time.time(), "streams": [], **facts}
        encoded = [base64.b64encode(buffer).decode() for buffer in buffers]
        self.page.evaluate(
            "([message, buffers]) => model.receive(message, buffers)", [message, encoded]
        )


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    pages = []

    def open_(view: str, traits: dict[str, Any], *, charts: bool) -> tuple[Page, list[str]]:
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        pages.append(page)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))

        def note_error(message: ConsoleMessage) -> None:
            if message.type == "error":
                errors.append(message.text)

        page.on("console", note_error)
        page.goto("about:blank")
        sources = javascript(view, charts=charts), style(view, charts=charts)
        page.evaluate(STUB, [*sources, traits])
        return page, errors

    yield open_
    for page in pages:
        page.close()


def waiter(page: Page, selector: str) -> Callable[[str], object]:
    return lambda condition: page.wait_for_function(
        f"(({condition}))(document.querySelector('{selector}'))"
    )


def sent(page: Page) -> list[dict[str, Any]]:
    return json.loads(page.evaluate("JSON.stringify(model.sent)"))


def test_live_view_draws_pauses_and_requests_missed_changes(
    open_page: Callable[..., tuple[Page, list[str]]],
) -> None:
    page, errors = open_page("live_view", dict(LIVE_TRAITS), charts=True)
    wait_for = waiter(page, ".ibt-live")
    assert sent(page)[0] == {"type": "snapshot_request"}
    kernel = Kernel(page)
    kernel.add(500)
    kernel.send(snapshot=True, live_from=time.time() - 0.2, close=100.0, close_day="2025-01-10")
    wait_for("root => root.dataset.state === 'live' && root.dataset.n === '500'")
    assert page.locator(".ibt-tape tbody tr").count() > 10
    assert page.locator(".ibt-badge").inner_text() == "LIVE"
    head = page.locator(".ibt-head").inner_text()
    assert "99.75 × 0" in head
    assert "2025-01-10" in head
    colours = page.locator("canvas").first.evaluate(
        "canvas => new Set(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert colours > 20, "a chart has colours"
    kernel.add(10)
    kernel.send()
    wait_for("root => root.dataset.n === '510'")
    # Paused, it is frozen while messages come; resumed, it shows them.
    page.get_by_role("button", name="Pause").click()
    wait_for("root => root.dataset.state === 'paused'")
    kernel.add(10)
    kernel.send()
    wait_for("root => root.dataset.seq === '3'")
    assert page.locator(".ibt-live").get_attribute("data-n") == "510"
    page.get_by_role("button", name="Resume").click()
    wait_for("root => root.dataset.n === '520'")
    # A selection with the mouse zooms in, and pauses.
    box = page.locator(".u-over").first.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 50, steps=5)
    page.mouse.up()
    wait_for("root => root.dataset.state === 'paused'")
    page.get_by_role("button", name="Resume").click()
    # A missed message makes it ask for a snapshot.
    kernel.sequence += 1
    kernel.send()
    page.wait_for_function("model.sent.length > 1")
    kernel.send(snapshot=True, state="quiet")
    wait_for("root => root.dataset.state === 'quiet'")
    assert errors == []


def test_live_view_buttons_set_traits(open_page: Callable[..., tuple[Page, list[str]]]) -> None:
    page, errors = open_page("live_view", dict(LIVE_TRAITS), charts=True)
    page.get_by_role("button", name="30s").click()
    assert page.evaluate("model.get('window')") == 30
    pressed = page.locator("button[data-window='30']").get_attribute("aria-pressed")
    assert pressed == "true"
    page.get_by_role("button", name="Volume").click()
    assert page.evaluate("model.get('shown')") == ["bid_ask", "mid", "last"]
    page.get_by_label("contract").select_option("2")
    assert page.evaluate("model.get('contract')") == 2
    assert page.evaluate("model.saved") == 3
    page.evaluate("model.set('tz', 'America/New_York')")
    assert "America/New_York" in page.locator(".ibt-head").text_content()
    assert errors == []


def test_removed_views_stop_listening(open_page: Callable[..., tuple[Page, list[str]]]) -> None:
    store_traits: dict[str, Any] = {"rows": [], "days": [], "picked": {}}
    for view, traits, charts in (
        ("live_view", LIVE_TRAITS, True),
        ("store_browser", store_traits, False),
    ):
        page, errors = open_page(view, dict(traits), charts=charts)
        assert page.evaluate("model.handlers()") > 3
        page.evaluate("window.remove()")
        assert page.evaluate("model.handlers()") == 0
        assert errors == []


def test_store_browser_selects_with_mouse_and_keyboard(
    open_page: Callable[..., tuple[Page, list[str]]],
) -> None:
    row = {
        "contract_id": 8314,
        "symbol": "IBM",
        "days": [0, 2],
        "ticks": [10, 2500],
        "gaps": [0.0, 5400.0],
    }
    rows = [row | {"tick_type": tick_type} for tick_type in ("all_last", "bid_ask")]
    traits = {"rows": rows, "days": ["2025-01-10", "2025-01-13", "2025-01-14"], "picked": {}}
    page, errors = open_page("store_browser", traits, charts=False)
    foot = page.locator(".ibt-store-foot")
    assert foot.inner_text().startswith("A click selects a day of a stream")
    page.wait_for_function(
        "document.querySelector('.ibt-store-head').textContent.includes('5,020 ticks')"
    )
    canvas = page.locator(".ibt-store canvas")
    canvas.click(position={"x": 6 + 2 * 16 + 4, "y": 22 + 18 + 9})
    picked = {"contract_id": 8314, "tick_type": "bid_ask", "date": "2025-01-14"}
    assert page.evaluate("model.get('picked')") == picked
    assert foot.inner_text() == "IBM bid_ask · 2025-01-14 · 2,500 ticks · 1 h 30 min missing"
    page.evaluate("model.receive({ type: 'picked' }, [])")
    page.mouse.move(0, 0)
    canvas.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("model.get('picked').tick_type") == "all_last"
    page.evaluate("model.fire('comm_live_update')")
    assert foot.inner_text().startswith("The kernel does not respond: run the cell again")
    assert errors == []
