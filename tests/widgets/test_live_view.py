"""The live view: its messages to the page, its end, and its looks in a notebook."""

from __future__ import annotations

import gc
import json
import os
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import nbformat
import polars as pl
import pytest

import ibticks as ibt
from ibticks.coverage import StreamStatus, closed_reason
from ibticks.errors import InputError, UnknownMarketError
from ibticks.widgets import LiveView

from .jupyterlab import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.testing import FakeCapture
    from tests.widgets.jupyterlab import Sheet

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "04_live_view.ipynb"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ibt.Store]:
    with ibt.open(tmp_path / "store") as store:
        store.add_contract(1, "ONE")
        write(store, [100.0, 101.0, 102.0])
        yield store


def write(store: ibt.Store, prices: list[Any], contract_id: int = 1) -> None:
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


class RecordingView(LiveView):
    """A view that records its messages to the page."""

    def __init__(self, *arguments: ibt.Live, **options: Any) -> None:
        self.sent: list[Any] = []
        super().__init__(*arguments, **options)

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append((content, buffers))
        super().send(content, buffers)


def facts(view: RecordingView) -> dict[Any, Any]:
    return {
        name: fact for message, _ in view.sent for name, fact in message.get("facts", {}).items()
    }


@pytest.fixture
def view_of(store: ibt.Store) -> Iterator[Callable[..., RecordingView]]:
    views = []

    def make(*arguments: Any, **options: Any) -> RecordingView:
        live = store.live(*arguments, **options)
        views.append(RecordingView(live))
        return views[-1]

    yield make
    for view in views:
        view.close()


def test_view_shows_the_buffer_then_live_ticks(
    store: ibt.Store, view_of: Callable[..., RecordingView]
) -> None:
    view = view_of("ONE", "last", "1h")
    assert view.contracts == [[1, "ONE"]]
    assert repr(view) == "<RecordingView: A live view of ONE>"
    until(lambda: facts(view).get("state") == "no capture")
    assert (facts(view)["last"], facts(view)["ticks"]) == (102, 3)
    write(store, [103.0])
    until(lambda: facts(view).get("last") == 103)
    assert facts(view)["ticks"] == 4
    message_types = [message["type"] for message, _ in view.sent]
    assert message_types[0] == "reset"
    assert set(message_types[1:]) == {"append"}
    assert [message["seq"] for message, _ in view.sent] == list(range(1, len(message_types) + 1))


def test_new_page_gets_a_snapshot(store: ibt.Store, view_of: Callable[..., RecordingView]) -> None:
    view = view_of("ONE", "last", "1h")
    until(lambda: facts(view).get("ticks") == 3)
    before = len(view.sent)
    view._on_page_message(view, {"type": "snapshot_request"}, [])
    until(lambda: any(message["type"] == "reset" for message, _ in view.sent[before:]))
    message, buffers = next(sent for sent in view.sent[before:] if sent[0]["type"] == "reset")
    assert len(buffers[1]) == 3 * 4 * 8, "the trades, all of them"
    assert message["facts"]["ticks"] == 3


def test_contract_and_window_can_change(
    store: ibt.Store, view_of: Callable[..., RecordingView]
) -> None:
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


def test_update_has_every_received_tick(
    store: ibt.Store, view_of: Callable[..., RecordingView]
) -> None:
    """Also ticks after those that were waiting to be merged."""
    view = view_of("ONE", "last", "1h")
    until(lambda: facts(view).get("state") == "no capture")
    with store.live("ONE", "last") as other:
        assert other._reader.take() is None
        batches = []
        for price in (103.0, 104.0):
            write(store, [price])
            batches.append(other._reader.take())
    view._closing.set()
    view._thread.join()
    view._batches = SimpleNamespace(  # type: ignore[assignment, misc]
        poll=lambda: batches.pop(0) if batches else None
    )
    view._send_update()
    assert view.sent[-1][0]["facts"]["last"] == 104


def test_failure_is_shown_in_the_page(
    store: ibt.Store, view_of: Callable[..., RecordingView], caplog: pytest.LogCaptureFixture
) -> None:
    view = view_of("ONE", "last", "1h")
    until(lambda: facts(view).get("ticks") == 3)
    view._chart = None  # type: ignore[assignment]
    write(store, [104.0])
    until(lambda: view.sent[-1][0]["type"] == "failed")
    assert "AttributeError" in view.sent[-1][0]["problem"]
    assert "a live view failed" in caplog.text


def test_closed_view_leaves_nothing_open(store: ibt.Store) -> None:
    def open_files() -> int:
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
    """Code cells of the notebook up to the one that shows the view."""
    cells = [cell.source for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    (last,) = (
        number for number, cell in enumerate(cells) if re.search(r"^view$", cell, re.MULTILINE)
    )
    return cells[: last + 1]


@pytest.mark.browser
def test_live_view_notebook(
    sheet: Callable[..., Sheet], tmp_path_factory: pytest.TempPathFactory
) -> None:
    notebook = sheet("live_view", *cells_until_view())
    page = notebook.page
    notebook.run()
    root = page.locator(".ibt-live")
    root.wait_for()
    root.scroll_into_view_if_needed()

    def data() -> dict[str, str]:
        return json.loads(root.evaluate("root => JSON.stringify({...root.dataset})"))

    def wait_for(condition: str) -> None:
        page.wait_for_function(f"(({condition}))(document.querySelector('.ibt-live'))")

    # It draws, and is updated.
    wait_for("root => root.dataset.state === 'live' && Number(root.dataset.n) > 1000")
    first = data()
    wait_for(f"root => root.dataset.last !== '{first['last']}' && root.dataset.n > {first['n']}")
    drawn = root.locator("canvas").first.evaluate(
        "canvas => new Set(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert drawn > 20, "a chart has colours"
    assert root.locator(".ibt-tape tbody tr").count() > 10
    root.screenshot(path=tmp_path_factory.mktemp("pictures") / "live_view.png")

    # Above it is the status of the capture.
    status = page.locator(".widget-html").first
    assert "connected" in status.inner_text()
    assert "BTCUSDT" in status.inner_text()

    # Paused, it is frozen while the stream continues; the kernel has the trait.
    root.get_by_role("button", name="Pause").click()
    wait_for("root => root.dataset.state === 'paused'")
    still = data()
    wait_for(f"root => Number(root.dataset.seq) > {int(still['seq']) + 5}")
    assert data()["n"] == still["n"]
    notebook.wait_for_value("view.paused", "True")
    root.get_by_role("button", name="Resume").click()
    wait_for(f"root => root.dataset.state === 'live' && root.dataset.n > {still['n']}")

    # Another window has another number of buckets.
    wide = int(data()["buckets"])
    root.get_by_role("button", name="30s").click()
    wait_for(f"root => Number(root.dataset.buckets) !== {wide}")
    notebook.wait_for_value("view.window", "30.0")

    # The page shows the figures of the kernel.
    assert notebook.value("capture.running") == "True"
    notebook.value("[gateway.close(), capture.stop()]")
    shown = "view._chart.snapshot(0)[0]['facts']"
    wait_for("root => root.querySelector('.ibt-badge').textContent === 'NO CAPTURE'")
    page.wait_for_timeout(1500)
    assert float(data()["last"]) == float(notebook.value(f"{shown}['last']"))
    assert data()["n"] == notebook.value(f"{shown}['ticks']")
    # A closed view leaves no thread.
    notebook.value("view.close()")
    threads = "[t.name for t in __import__('threading').enumerate() if t.name == 'ibticks-view']"
    assert notebook.value(threads) == "[]"
    assert notebook.errors == []
    assert notebook.foreign_requests == []


# --- the condition of the feed --------------------------------------------------------------------


@pytest.fixture
def fed(store: ibt.Store, fake_capture: type[FakeCapture]) -> Iterator[FakeCapture]:
    """A capture of the trades of TWO, whose status the test sets."""
    store.add_contract(2, "TWO")
    running = fake_capture(store.root, store.index, 2)
    running.report_status(StreamStatus.SUBSCRIBED, time.time_ns())
    running.tick(time.time_ns())
    yield running
    running.kill()


CONDITIONS = [
    (StreamStatus.QUIET, "no tick for 61 s", None, "quiet"),
    (StreamStatus.DISCONNECTED, "connection lost", 1100, "disconnected"),
    (StreamStatus.NOT_PERMITTED, "no permission", 10189, "not permitted"),
    (StreamStatus.SESSION_CLOSED, closed_reason(4_102_444_800 * 10**9), None, "closed"),
]


@pytest.mark.parametrize(("status", "reason", "code", "state"), CONDITIONS)
def test_badge_shows_the_condition_of_the_feed(
    fed: FakeCapture,
    view_of: Callable[..., RecordingView],
    status: StreamStatus,
    reason: str,
    code: int | None,
    state: str,
) -> None:
    view = view_of("TWO", "last", "1h")
    until(lambda: facts(view).get("state") == "live")
    fed.report_status(status, time.time_ns(), reason, code)
    until(lambda: facts(view).get("state") == state)
    (stream,) = facts(view)["streams"]
    assert (stream["condition"], stream["code"]) == (state, code)
    assert abs(stream["since"] - time.time()) < 60
    assert stream["next_open"] == (4_102_444_800 if state == "closed" else None)
    fed.report_status(StreamStatus.RESTORED, time.time_ns())
    until(lambda: facts(view).get("state") == "live")


def test_killed_capture_is_shown(fed: FakeCapture, view_of: Callable[..., RecordingView]) -> None:
    view = view_of("TWO", "last", "1h")
    until(lambda: facts(view).get("state") == "live")
    fed.kill()
    until(lambda: facts(view).get("state") == "no capture")
    assert "killed" in facts(view)["streams"][0]["reason"]


def test_badge_shows_the_worst_stream(
    store: ibt.Store,
    fed: FakeCapture,
    view_of: Callable[..., RecordingView],
    fake_capture: type[FakeCapture],
) -> None:
    quotes = fake_capture(store.root, store.index, 2, "bid_ask")
    quotes.report_status(StreamStatus.SUBSCRIBED, time.time_ns())
    view = view_of("TWO", ["last", "bid_ask"], "1h")
    until(lambda: facts(view).get("state") == "live")
    fed.report_status(StreamStatus.NOT_PERMITTED, time.time_ns(), "no permission", 354)
    until(lambda: facts(view).get("state") == "not permitted")
    assert [stream["condition"] for stream in facts(view)["streams"]] == ["live", "not permitted"]
    quotes.kill()


def test_change_is_from_the_named_previous_close(
    store: ibt.Store, view_of: Callable[..., RecordingView]
) -> None:
    for time_, price in (("2013-10-07T19:59:00Z", 181.0), ("2013-10-08T14:00:00Z", 184.0)):
        frame = pl.DataFrame({"timestamp": [time_], "price": [price], "size": [1.0]})
        store.write(frame, contract_id=3, tick_type="last")
    view = view_of(3, "last", "10m", now="last_tick")
    until(lambda: facts(view).get("close") == 181)
    assert facts(view)["close_day"] == "2013-10-07"
    assert "last trade of the regular session of US on 2013-10-07" in facts(view)["close_name"]
    view = view_of("ONE", "last", "1h")
    until(lambda: "close_name" in facts(view))
    assert (facts(view)["close"], facts(view)["close_day"]) == (None, "")


@pytest.mark.parametrize(
    ("wrong", "error"), [({"market": "MOON"}, UnknownMarketError), ({"window": "5q"}, InputError)]
)
def test_wrong_arguments_leave_the_stream_open(
    store: ibt.Store, wrong: dict[str, Any], error: type[UnknownMarketError] | type[InputError]
) -> None:
    with store.live("ONE", "last", "1h") as live:
        with pytest.raises(error, match=next(iter(wrong.values()))):
            LiveView(live, **wrong)
        gc.collect()
        assert not live.closed
        assert len(live.read()) == 3


CELLS = """
import os, sys, tempfile, time
import polars as pl
import ibticks as ibt
from ibticks.coverage import StreamStatus, closed_reason
from ibticks.widgets import LiveView
sys.path.insert(0, REPOSITORY)
from ibticks.testing import FakeCapture
scratch = tempfile.TemporaryDirectory(prefix="ibt")
os.chmod(scratch.name, 0o711)
os.environ |= {"IBTICKS_PGDATA": scratch.name + "/pg", "IBTICKS_DSN": ""}
store = ibt.open(scratch.name + "/ticks")
store.add_contract(1, "ONE")
now = time.time_ns()
past = pl.DataFrame({
    "timestamp": [now - (200 - n) * 1_000_000_000 for n in range(200)],
    "price": [1.5 + n % 7 * 0.0025 for n in range(200)],
    "size": [100.0] * 200,
}).with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC")))
store.write(past, contract_id=1, tick_type="last")
from ibticks.calendar import market
closes = [session.end_ns - 60_000_000_000 for session in market("US").previous_sessions(2)]
store.write(
    pl.DataFrame({"timestamp": closes, "price": [1.4, 1.4], "size": [1.0, 1.0]})
    .with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC"))),
    contract_id=1, tick_type="last",
)
capture = FakeCapture(store.root, store.index, 1)
capture.report_status(StreamStatus.SUBSCRIBED, time.time_ns())
capture.tick(time.time_ns())
view = LiveView(store.live("ONE", "last", buffer="10m"), window="5m", tz="America/New_York")
view
"""


@pytest.mark.browser
def test_each_condition_in_light_and_dark_themes(
    sheet: Callable[..., Sheet], tmp_path_factory: pytest.TempPathFactory
) -> None:
    notebook = sheet("conditions", CELLS.replace("REPOSITORY", repr(str(NOTEBOOK.parents[1]))))
    page = notebook.page
    notebook.run()
    root = page.locator(".ibt-live")
    root.wait_for()
    root.scroll_into_view_if_needed()
    pictures = Path(os.environ.get("IBTICKS_PICTURES") or tmp_path_factory.mktemp("pictures"))

    def wait_for(condition: str) -> None:
        page.wait_for_function(f"(({condition}))(document.querySelector('.ibt-live'))")

    def badge() -> str:
        return root.locator(".ibt-badge").inner_text()

    def note() -> str:
        return root.locator(".ibt-note").inner_text()

    def report_status(status: str, reason: str, code: int | None = None) -> None:
        call = f"capture.report_status(StreamStatus.{status}, time.time_ns(), {reason}, {code})"
        notebook.value(call)

    def picture(name: str) -> None:
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            page.evaluate(
                "async (theme) => window.jupyterapp.commands.execute("
                "'apputils:change-theme', { theme })",
                theme,
            )
            light = "true" if theme.endswith("Light") else "false"
            page.wait_for_function(f"document.body.dataset.jpThemeLight === '{light}'")
            root.screenshot(path=pictures / f"{name}-{theme.split()[1].lower()}.png")

    wait_for("root => root.dataset.state === 'live'")
    assert badge() == "LIVE"
    assert note() == ""
    change = root.locator(".ibt-fact").first.inner_text()
    assert "CLOSE" in change.upper()
    assert "(+7.14%)" in change, "from 1.4 to 1.5"
    picture("live")
    # The axis and the age follow the clock while no tick comes.
    age = float(str(root.get_attribute("data-age")))
    end = float(str(root.get_attribute("data-end")))
    wait_for(
        f"root => Number(root.dataset.age) > {age} + 2 && Number(root.dataset.end) > {end} + 2"
    )
    for name, arguments, words in (
        ("quiet", ("QUIET", "'no tick for 61 s'"), "no tick for 61 s"),
        ("disconnected", ("DISCONNECTED", "'connection lost'", 1100), "connection lost"),
        ("not permitted", ("NOT_PERMITTED", "'no permission'", 10189), "(10189)"),
        ("closed", ("SESSION_CLOSED", "closed_reason(4102444800 * 10**9)"), "opens at 2099-12-31"),
    ):
        report_status(*arguments)
        wait_for(f"root => root.dataset.state === '{name}'")
        assert badge() == name.upper()
        assert words in note()
        assert "America/New_York" in note(), "times have a zone"
        picture(name.replace(" ", "-"))
    report_status("RESTORED", "''")
    wait_for("root => root.dataset.state === 'live'")
    notebook.value("capture.kill()")
    wait_for("root => root.dataset.state === 'no capture'")
    assert badge() == "NO CAPTURE"
    assert "killed" in note()
    picture("no-capture")
    notebook.value("[view.close(), store.close(), scratch.cleanup()]")
    assert notebook.errors == []
    assert notebook.foreign_requests == []
