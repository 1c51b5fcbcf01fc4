"""Plots of sizes that are none, in the theme of the notebook, under the name of the contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import plotly.io as pio
import polars as pl
import pytest

from ibticks.errors import InputError
from ibticks.frames import remember_symbols

from .conftest import IN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

START = datetime(2025, 3, 3, 14, 30, tzinfo=UTC)
NAN, INFINITE = float("nan"), float("inf")
SIZES = {
    "one absent": [1.0, None, 1.0, 4.0],
    "all absent": [None] * 4,
    "NaN": [1.0, NAN, 1.0, 4.0],
    "infinite": [1.0, INFINITE, 1.0, 4.0],
    "negative": [1.0, -1.0, 1.0, 4.0],
    "zero": [0.0] * 4,
}
KINDS = ["price", "candles", "cumulative_delta", "volume_profile", "day", "heatmap", "signature"]


def trades(sizes: list[Any]) -> pl.DataFrame:
    times = [START + timedelta(minutes=minute) for minute in range(len(sizes))]
    return pl.DataFrame(
        {
            "timestamp": pl.Series(times, dtype=pl.Datetime("ns", "UTC")),
            "price": [2400.0 + row for row in range(len(sizes))],
            "size": pl.Series(sizes, dtype=pl.Float64),
        }
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_absent_sizes_are_not_drawn(sizes: Any, kind: str, library: Any) -> None:
    sound = [size if size in (0.0, 1.0, 4.0) else None for size in sizes]
    drawn = getattr(IN[library](trades(sizes)).ticks.plot, kind)().to_json()
    assert (
        json.loads(drawn)["data"]
        == json.loads(getattr(trades(sound).ticks.plot, kind)().to_json())["data"]
    )


def test_a_trade_without_a_size_is_labelled() -> None:
    dots = next(
        trace
        for trace in trades([1.0, None, 0.5, 4.0]).ticks.plot().data
        if trace.mode == "markers"
    )
    assert list(dots.customdata) == ["1", "no size", "0.5", "4"]
    assert [float(size) for size in dots.marker.size] == [
        13.0,
        0.0,
        pytest.approx(9.19, 0.01),
        26.0,
    ]


def test_many_trades_show_the_largest_sizes_not_the_infinite_ones() -> None:
    sizes = [float(row % 1000) for row in range(3000)]
    sizes[7] = INFINITE
    sizes[8] = NAN
    dots = trades(sizes).ticks.plot().data[1]
    assert dots.name == "the 300 largest trades"
    assert min(float(size.replace(",", "")) for size in dots.customdata) == 900


@pytest.fixture
def default_template() -> Iterator[Callable[..., None]]:
    before = pio.templates.default
    yield lambda name: setattr(pio.templates, "default", name)
    pio.templates.default = before


@pytest.mark.parametrize("kind", KINDS)
def test_the_background_is_that_of_the_notebook(
    kind: str, default_template: Callable[..., None]
) -> None:
    default_template("plotly")
    layout = getattr(trades([1.0] * 4).ticks.plot, kind)().layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", ["plotly_dark", "plotly_white+presentation"])
@pytest.mark.parametrize("way", ["default", "argument"])
def test_a_template_decides_on_colours(
    kind: str, chosen: str, way: str, default_template: Callable[..., None]
) -> None:
    if way == "default":
        default_template(chosen)
    more = {"template": chosen} if way == "argument" else {}
    layout = getattr(trades([1.0] * 4).ticks.plot, kind)(**more).layout
    wanted = pio.templates[chosen].layout
    assert layout.template.layout.paper_bgcolor == wanted.paper_bgcolor
    for own in (layout.paper_bgcolor, layout.plot_bgcolor, layout.font.color):
        assert own is None
    assert layout.xaxis.gridcolor is layout.yaxis.gridcolor is None


def test_a_template_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"solarized.*plotly_dark"):
        trades([1.0] * 4).ticks.plot(template="solarized")


@pytest.mark.parametrize("kind", KINDS)
def test_no_button_offers_an_upload(kind: str) -> None:
    removed = getattr(trades([1.0] * 4).ticks.plot, kind)().layout.modebar.remove
    assert "sendChartToCloud" in removed


def test_the_title_is_the_symbol_of_the_selection(sample_store: Store) -> None:
    selection = sample_store.select(
        "ibm", "all_last", start="2013-10-08T14:00Z", end="2013-10-08T14:10Z"
    )
    filtered = selection.lazy().filter(pl.col("size") > 100).collect()
    for ticks in (filtered, selection.to_polars(), selection.to_pandas(), selection.to_xarray()):
        assert "<b>IBM</b>" in ticks.ticks.plot().layout.title.text
        assert "<b>Mine</b>" in ticks.ticks.plot(name="Mine").layout.title.text
    bars = selection.to_polars().ticks.time_bars("1m")
    assert "<b>IBM: signature" in selection.to_polars().ticks.plot.signature().layout.title.text
    assert "<b>IBM</b>" in bars.ticks.plot().layout.title.text


def test_a_symbol_is_escaped_in_the_title() -> None:
    remember_symbols({5: "S&P <500>"})
    ticks = trades([1.0] * 4).with_columns(contract_id=pl.lit(5, pl.UInt32))
    assert "<b>S&amp;P &lt;500&gt;</b>" in ticks.ticks.plot().layout.title.text
