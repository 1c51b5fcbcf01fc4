"""The live view: what it tells the page, how it ends, and how it looks in a real notebook."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import polars as pl
import pytest

import ibticks as ibt
from ibticks.widgets import LiveView

from .lab import until

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "04_live_view.ipynb"


@pytest.fixture
def store(tmp_path):
    with ibt.open(tmp_path / "store") as store:
        store.add_contract(1, "ONE")
        write(store, [100.0, 101.0, 102.0])
        yield store


def write(store, prices, contract_id=1):
    now = time.time_ns()
    store.write(
        pl.DataFrame(
            {
                "timestamp": pl.Series([now + n for n in range(len(prices))]).cast(
                    pl.Datetime("ns", "UTC")
                ),
                "price": prices,
                "size": [1.0] * len(prices),
            }
        ),
        contract_id=contract_id,
        tick_type="last",
    )


class Heard(LiveView):
    """A view that keeps what it tells the page."""

    def __init__(self, *arguments, **named):
        self.told = []
        super().__init__(*arguments, **named)

    def send(self, content, buffers=None):
        self.told.append((content, buffers))
        super().send(content, buffers)


def facts(view):
    return {name: fact for said, _ in view.told for name, fact in said.get("facts", {}).items()}


@pytest.fixture
def view_of(store):
    views = []

    def make(*arguments, **named):
        live = store.live(*arguments, **named)
        views.append(Heard(live))
        return views[-1]

    yield make
    for view in views:
        view.close()


def test_history_and_then_what_comes(store, view_of):
    view = view_of("ONE", "last", "1h")
    assert view.contracts == [[1, "ONE"]]
    until(lambda: facts(view).get("state") == "live")
    assert (facts(view)["last"], facts(view)["ticks"]) == (102, 3)
    write(store, [103.0])
    until(lambda: facts(view).get("last") == 103)
    assert facts(view)["ticks"] == 4
    kinds = [said["type"] for said, _ in view.told]
    assert kinds[0] == "reset"
    assert set(kinds[1:]) == {"append"}
    assert [said["seq"] for said, _ in view.told] == list(range(1, len(kinds) + 1))


def test_a_page_that_begins_is_told_all(store, view_of):
    view = view_of("ONE", "last", "1h")
    until(lambda: facts(view).get("ticks") == 3)
    before = len(view.told)
    view._hear(view, {"type": "hello"}, [])
    until(lambda: any(said["type"] == "reset" for said, _ in view.told[before:]))
    said, buffers = next(told for told in view.told[before:] if told[0]["type"] == "reset")
    assert len(buffers[1]) == 3 * 4 * 8, "the trades, all of them"
    assert said["facts"]["ticks"] == 3


def test_another_contract_another_window(store, view_of):
    write(store, [5.0, 6.0], contract_id=2)
    view = view_of([1, 2], "last", "1h")
    until(lambda: facts(view).get("last") == 102)
    view.contract = 2
    until(lambda: facts(view).get("last") == 6)
    assert facts(view)["ticks"] == 2
    view.window = 60.0
    write(store, [7.0], contract_id=2)
    until(lambda: facts(view).get("last") == 7)
    assert facts(view)["ticks"] == 3


def test_a_message_tells_of_all_that_has_come(store, view_of):
    """Not only of the ticks that were held, while later ones are there already."""
    view = view_of("ONE", "last", "1h")
    until(lambda: facts(view).get("state") == "live")
    with store.live("ONE", "last") as other:
        assert other.take() is None
        batches = []
        for price in (103.0, 104.0):
            write(store, [price])
            batches.append(other.take())
    view._ended.set()
    view._thread.join()
    view._reader = SimpleNamespace(poll=lambda: batches.pop(0) if batches else None)
    view._tell()
    assert view.told[-1][0]["facts"]["last"] == 104


def test_what_fails_is_seen(store, view_of, caplog):
    view = view_of("ONE", "last", "1h")
    until(lambda: facts(view).get("ticks") == 3)
    view._picture = None
    write(store, [104.0])
    until(lambda: view.told[-1][0]["type"] == "failed")
    assert "AttributeError" in view.told[-1][0]["problem"]
    assert "a live view has ended" in caplog.text


def test_nothing_is_left_of_it(store):
    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    threads, files = set(threading.enumerate()), open_files()
    live = store.live("ONE", "last", "1h")
    view = LiveView(live)
    view.close()
    assert live.closed
    assert set(threading.enumerate()) == threads
    assert open_files() == files
    assert view.comm is None


def cells_until_view() -> list[str]:
    """The notebook's code, up to where it shows the view."""
    cells = [cell.source for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    (last,) = (
        number for number, cell in enumerate(cells) if re.search(r"^view$", cell, re.MULTILINE)
    )
    return cells[: last + 1]


@pytest.mark.browser
def test_the_notebook(sheet, tmp_path_factory):
    notebook = sheet("live_view", *cells_until_view())
    page = notebook.page
    notebook.run()
    root = page.locator(".ibt-live")
    root.wait_for()
    root.scroll_into_view_if_needed()

    def data() -> dict[str, str]:
        return json.loads(root.evaluate("root => JSON.stringify({...root.dataset})"))

    def waits(condition: str) -> None:
        page.wait_for_function(f"(({condition}))(document.querySelector('.ibt-live'))")

    # It draws, and goes on.
    waits("root => root.dataset.state === 'live' && Number(root.dataset.n) > 1000")
    first = data()
    waits(f"root => root.dataset.last !== '{first['last']}' && root.dataset.n > {first['n']}")
    drawn = root.locator("canvas").first.evaluate(
        "canvas => new Set(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert drawn > 20, "a chart has colours"
    assert root.locator(".ibt-tape tbody tr").count() > 10
    root.screenshot(path=tmp_path_factory.mktemp("pictures") / "live_view.png")

    # Above it stands the capture's own state.
    status = page.locator(".widget-html").first
    assert "connected" in status.inner_text()
    assert "BTCUSDT" in status.inner_text()

    # Paused, it stands still while the stream goes on; the kernel knows.
    root.get_by_role("button", name="Pause").click()
    waits("root => root.dataset.state === 'paused'")
    still = data()
    waits(f"root => Number(root.dataset.seq) > {int(still['seq']) + 5}")
    assert data()["n"] == still["n"]
    assert notebook.value("view.paused") == "True"
    root.get_by_role("button", name="Resume").click()
    waits(f"root => root.dataset.state === 'live' && root.dataset.n > {still['n']}")

    # Another window is another picture.
    wide = int(data()["moments"])
    root.get_by_role("button", name="30s").click()
    waits(f"root => Number(root.dataset.moments) !== {wide}")
    assert notebook.value("view.window") == "30.0"

    # What the page shows is what the kernel has.
    assert notebook.value("capture.running") == "True"
    notebook.value("[gateway.close(), capture.stop()]")
    shown = "view._picture.whole(0)[0]['facts']"
    waits("root => root.querySelector('.ibt-badge').textContent === 'LIVE'")
    page.wait_for_timeout(1500)
    assert float(data()["last"]) == float(notebook.value(f"{shown}['last']"))
    assert data()["n"] == notebook.value(f"{shown}['ticks']")
    # Closed, it leaves nothing.
    notebook.value("view.close()")
    threads = "[t.name for t in __import__('threading').enumerate() if t.name == 'ibticks-view']"
    assert notebook.value(threads) == "[]"
    assert notebook.errors == []
    assert notebook.strangers == []
