"""The figures as a browser draws them, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.offline
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

US = {"market": "US", "name": "IBM"}
PICTURES = {
    "price": lambda t, q: t.ticks.plot.price(quotes=q, **US),
    "quotes": lambda t, q: q.ticks.plot(**US),
    "candles": lambda t, q: t.ticks.plot.candles(**US),
    "cumulative_delta": lambda t, q: t.ticks.plot.cumulative_delta(quotes=q, **US),
    "volume_profile": lambda t, q: t.ticks.plot.volume_profile(**US),
    "day": lambda t, q: t.ticks.plot.day(quotes=q, **US),
    "heatmap": lambda t, q: t.ticks.plot.heatmap(**US),
    "signature": lambda t, q: t.ticks.plot.signature(quotes=q, **US),
}
DRAW = """async (text) => {
    const figure = JSON.parse(text);
    Plotly.purge("figure");
    await Plotly.newPlot("figure", figure.data, figure.layout, {displayModeBar: false});
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with plotly.js of this installation and without network access."""
    opened = browser.new_page(viewport={"width": 1000, "height": 720})
    asked, errors = [], []
    opened.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    opened.set_content("<body style='margin: 0'><div id='figure'></div></body>")
    opened.add_script_tag(content=plotly.offline.get_plotlyjs())
    yield opened
    opened.close()
    assert asked == []
    assert errors == []


@pytest.mark.parametrize("name", PICTURES)
def test_a_browser_draws_each_plot(
    page: Page,
    day: tuple[pl.DataFrame, pl.DataFrame],
    week: tuple[Any, ...],
    name: str,
    tmp_path: Path,
) -> None:
    trades, quotes = week if name in ("heatmap", "candles") else day
    page.evaluate(DRAW, PICTURES[name](trades, quotes).to_json())
    path = tmp_path / f"{name}.png"
    page.locator("#figure").screenshot(path=path)
    png = path.read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 12_000
    drawn = page.locator("#figure .trace, #figure .hm, #figure .bars .point, #figure .trace.boxes")
    assert drawn.count() > 0
    assert page.locator("#figure .gtitle").text_content().startswith("IBM")
