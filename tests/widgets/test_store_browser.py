"""The heat map of a store: its figures, and a click in a notebook."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import ibticks as ibt
from ibticks.sample import SAMPLES
from ibticks.widgets import StoreBrowser
from ibticks.widgets._store_browser import _fill_days, _seconds_by_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.widgets.jupyterlab import Sheet

DAY = 86_400_000_000_000


def fill(store: ibt.Store) -> None:
    for ticks in SAMPLES:
        store.add_contract(ticks.contract_id, ticks.symbol)
        ibt.import_table(
            store, ticks.path, contract_id=ticks.contract_id, tick_type=ticks.tick_type
        )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ibt.Store]:
    with ibt.open(tmp_path_factory.mktemp("stored")) as store:
        fill(store)
        yield store


@pytest.fixture
def browser_of(stored: ibt.Store) -> Iterator[Callable[..., StoreBrowser]]:
    browsers = []

    def make(**arguments: Any) -> StoreBrowser:
        browsers.append(StoreBrowser(stored, **arguments))
        return browsers[-1]

    yield make
    for one in browsers:
        one.close()


def test_map_counts_every_tick(browser_of: Callable[..., StoreBrowser], stored: ibt.Store) -> None:
    widget = browser_of()
    assert [(row["symbol"], row["tick_type"]) for row in widget.rows] == [
        ("IBM", "all_last"),
        ("IBM", "bid_ask"),
        ("BTCUSDT", "all_last"),
        ("BTCUSDT", "bid_ask"),
    ]
    for ticks in SAMPLES:
        (row,) = (
            row
            for row in widget.rows
            if (row["contract_id"], row["tick_type"]) == (ticks.contract_id, ticks.tick_type)
        )
        days = pl.read_parquet(ticks.path).group_by(pl.col("timestamp").dt.date()).len()
        shown = dict(zip((widget.days[day] for day in row["days"]), row["ticks"], strict=True))
        assert shown == {str(day): count for day, count in days.iter_rows()}


def test_repr_names_the_store(browser_of: Callable[..., StoreBrowser], stored: ibt.Store) -> None:
    assert repr(browser_of()) == f"<StoreBrowser: The map of the store {stored.root}>"


def test_picked_day_is_a_selection(browser_of: Callable[..., Any]) -> None:
    picked: list[Any] = []
    widget = browser_of(on_select=picked.append)
    assert widget.selection is None
    widget.picked = {"contract_id": 8314, "tick_type": "bid_ask", "date": "2013-10-08"}
    updated = widget
    assert updated.selection.count() == 62_873
    assert [selection.count() for selection in picked] == [updated.selection.count()]


def test_map_of_an_empty_store(tmp_path: Path) -> None:
    with ibt.open(tmp_path / "new") as store:
        widget = StoreBrowser(store)
        assert (widget.rows, widget.days, widget.selection) == ([], [], None)
        widget.close()


def test_gaps_are_split_by_day() -> None:
    assert _seconds_by_day(DAY - 5_000_000_000, 2 * DAY + 1_000_000_000) == [
        (date(1970, 1, 1), 5.0),
        (date(1970, 1, 2), 86400.0),
        (date(1970, 1, 3), 1.0),
    ]
    assert _seconds_by_day(DAY, 2 * DAY) == [(date(1970, 1, 2), 86400.0)]


def test_days_between_are_filled() -> None:
    friday, monday = date(2025, 1, 10), date(2025, 1, 13)
    assert _fill_days([friday, monday]) == [friday, monday]
    assert _fill_days([friday, date(2025, 1, 14)]) == [friday, monday, date(2025, 1, 14)]
    assert _fill_days([friday, date(2026, 1, 10)]) == [friday, date(2026, 1, 10)]
    assert _fill_days([]) == []


@pytest.mark.browser
def test_click_selects_a_day_in_a_notebook(sheet: Callable[..., Sheet], stored: ibt.Store) -> None:
    notebook = sheet(
        "store_browser",
        "import ibticks as ibt\nfrom ibticks.widgets import StoreBrowser\n"
        f"store = ibt.open({str(stored.root)!r})\nbrowser = StoreBrowser(store)\nbrowser",
    )
    notebook.run()
    canvas = notebook.page.locator(".ibt-store canvas")
    canvas.wait_for()
    canvas.click(position={"x": 10, "y": 22 + 18 + 9})
    notebook.page.wait_for_function(
        "document.querySelector('.ibt-store-foot').textContent"
        " === 'IBM bid_ask · 2013-10-08 · 62,873 ticks'"
    )
    notebook.wait_for_value("browser.selection and browser.selection.count()", "62873")
    # The keyboard does the same: from the oldest day, one stream up.
    notebook.page.mouse.move(0, 0)
    canvas.focus()
    for key in ("ArrowDown", "ArrowUp", "ArrowRight", "Enter"):
        notebook.page.keyboard.press(key)
    notebook.page.wait_for_function(
        "document.querySelector('.ibt-store-foot').textContent.includes('all_last')"
    )
    notebook.wait_for_value(
        "browser.picked['tick_type'], browser.picked['date']", "('all_last', '2024-08-09')"
    )
    assert notebook.errors == []
    assert notebook.foreign_requests == []
