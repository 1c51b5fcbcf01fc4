"""A live view in a browser, while thousands of ticks a second come.

JupyterLab and Chromium are those of the tests. Run as a script it is the process that writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from rich.console import Console

from benchmarks.report import Figure, Row, at_least, at_most
from ibticks.config import NANOSECONDS
from ibticks.format import TickEncoder
from ibticks.index import MemoryIndex
from ibticks.sample import sample
from ibticks.storage import StreamAppender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scene import Scene

__all__ = ["view"]

_RATE: Final = 5_000
_SECONDS: Final = 30
_TIMEOUT_SECONDS: Final = 30
_CONTRACT: Final = 990101
_KINDS: Final = ("bid_ask", "all_last")
_EACH_TRADE: Final = 5  # one of so many ticks is a trade
_CELL: Final = """\
from pathlib import Path
from ibticks.format import columns_of
from ibticks.live import Live
from ibticks.widgets import LiveView
kinds = {kinds!r}
live = Live(Path({root!r}), [({contract}, kind) for kind in kinds], columns_of(kinds), None)
view = LiveView(live)
view
"""
_USED: Final = "__import__('time').process_time()"
# What the page does is seen from inside the page.
_WATCH: Final = """\
() => {
  const seen = (window.seen = { gaps: [], behind: [], replies: [], heap: [] });
  const root = document.querySelector(".ibt-live");
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  let last = performance.now();
  requestAnimationFrame(function step(now) {
    seen.gaps.push((now - last) / 1000);
    last = now;
    requestAnimationFrame(step);
  });
  new MutationObserver(() => seen.behind.push(Date.now() / 1000 - Number(root.dataset.time)))
    .observe(root, { attributeFilter: ["data-seq"] });
  setInterval(async () => {
    const asked = performance.now();
    await kernel.requestExecute({ code: "", silent: true }).done;
    seen.replies.push((performance.now() - asked) / 1000);
    seen.heap.push(performance.memory.usedJSHeapSize);
  }, 500);
}
"""


def view(scene: Scene) -> Iterator[Row]:
    """Measure the page and its kernel while quotes and trades come."""
    if (lack := _lack()) is not None:
        Console().print(f"No figures of the view: there is no {lack}.")
        return
    seen, used, written, read = _seen(scene.folder / "view")
    what = f"a view of {_RATE:,} ticks/s for {_SECONDS} s"
    frames = Figure(len(seen["gaps"]) / sum(seen["gaps"]), "frames/s")
    yield Row(f"{what}: frames of its page", frames, goal=at_least(30, absolute=True))
    for name, text in (
        ("gaps", "from one frame to the next"),
        ("behind", "from the last tick of a picture to its being drawn"),
        ("replies", "reply of the kernel to the page"),
    ):
        values = sorted(seen[name])
        runs = tuple(seen[name])
        for share, value in (
            ("median", median(values)),
            ("p95", values[int(0.95 * len(values))]),
            ("worst", values[-1]),
        ):
            yield Row(f"{text}: {share}", Figure(value, "s", runs))
    runs = tuple(seen["heap"])
    half = len(runs) // 2
    yield Row("memory of the page's scripts: most", Figure(max(runs), "B", runs))
    yield Row(
        "the same, second half of the time",
        Figure(max(runs[half:]), "B", runs[half:]),
        "first half",
        Figure(max(runs[:half]), "B", runs[:half]),
        share=True,
        goal=at_most(1.25),
    )
    yield Row("the kernel: processor time a second", Figure(used, "s"))
    came, known = Figure(written, "ticks"), Figure(read, "ticks")
    what = "ticks that were seen"
    yield Row(what, known, "were written", came, share=True, goal=at_least(1))


def _lack() -> str | None:
    """Return the parts that a browser needs and that are missing."""
    if any(find_spec(name) is None for name in ("jupyterlab", "playwright", "pytest")):
        return "JupyterLab with playwright (pip install -e '.[test]')"
    from tests.conftest import CHROMIUM

    return None if CHROMIUM.exists() else str(CHROMIUM)


def _seen(root: Path) -> tuple[dict[str, list[float]], float, int, int]:
    """Return figures of the page, processor time a second, ticks written, and ticks read."""
    from playwright.sync_api import sync_playwright

    from tests.conftest import CHROMIUM, FLAGS
    from tests.widgets.jupyterlab import Lab, Sheet

    home = root / "lab"
    home.mkdir(parents=True)
    lab = Lab(home)
    flags = [*FLAGS, "--enable-precise-memory-info"]
    cell = _CELL.format(kinds=_KINDS, root=str(root / "ticks"), contract=_CONTRACT)
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
            sheet = Sheet(lab, browser, "view", [cell])
            sheet.run()
            sheet.page.wait_for_selector(".ibt-live[data-state='live']")
            writer = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.view", str(root / "ticks")],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                text=True,
            )
            sheet.page.wait_for_function(
                "Number(document.querySelector('.ibt-live').dataset.n) > 0"
            )
            sheet.page.evaluate(_WATCH)
            begun, before = time.monotonic(), float(sheet.value(_USED))
            written = int(writer.communicate()[0])
            used = (float(sheet.value(_USED)) - before) / (time.monotonic() - begun)
            seen: dict[str, Any] = json.loads(sheet.page.evaluate("JSON.stringify(window.seen)"))
            end = time.monotonic() + _TIMEOUT_SECONDS
            while (read := int(sheet.value("live.stats()['ticks']"))) < written:
                if time.monotonic() > end:
                    break
                time.sleep(0.1)
            browser.close()
    finally:
        lab.close()
    return seen, used, written, read


def _write(root: str) -> None:
    """Real quotes and trades, over and over, stamped as they are written; print how many."""
    quotes = _rows("btcusdt_quotes", "bid_price", "bid_size", "ask_price", "ask_size")
    trades = _rows("btcusdt_trades", "price", "size")
    index = MemoryIndex()
    appenders = {kind: StreamAppender(Path(root), _CONTRACT, kind, index) for kind in _KINDS}
    encoders = {kind: TickEncoder(_CONTRACT, kind, "") for kind in _KINDS}
    begun, number = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < _SECONDS:
        for _ in range(number, int(passed * _RATE)):
            number += 1
            now = time.time_ns()
            second = now // NANOSECONDS
            if number % _EACH_TRADE:
                kind = "bid_ask"
                bid, bids, ask, asks = quotes[number % len(quotes)]
                frame = encoders[kind].bid_ask(now, bid, bids, ask, asks, number, second)
            else:
                kind = "all_last"
                price, size = trades[number // _EACH_TRADE % len(trades)]
                frame = encoders[kind].trade(now, price, size, "BINANCE", (), number, second)
            appenders[kind].append_frames(frame, now)
        time.sleep(0.002)
    for appender in appenders.values():
        appender.close()
    print(number)


def _rows(name: str, *columns: str) -> list[tuple[float, ...]]:
    return pl.read_parquet(sample(name).path, columns=list(columns)).select(columns).rows()


if __name__ == "__main__":
    _write(sys.argv[1])
