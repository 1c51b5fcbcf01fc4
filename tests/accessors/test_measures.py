"""Methods of ``.ticks``: generated from the registry, typed by ``ibt.ticks``."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import xarray as xr

import ibticks as ibt
from ibticks import analysis
from ibticks.accessors import Ticks, _measures
from ibticks.analysis.engine import MEASURES

from .generate_measures import source

QUOTES = {"bid_price": [1.0], "ask_price": [2.0]}


def test_the_generated_methods_are_up_to_date() -> None:
    """After a change of measures: ``python tests/accessors/generate_measures.py``."""
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "-", "--line-length", "100"],
        input=source(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(_measures.__file__).read_text(encoding="utf-8") == formatted.stdout


@pytest.mark.parametrize("name", sorted({*analysis.__all__} - {"Incremental"}))
def test_a_method_has_the_signature_and_the_docstring_of_its_measure(name: str) -> None:
    function, method = getattr(analysis, name), getattr(Ticks, name)
    assert MEASURES[name].function is function
    assert method.__doc__ == function.__doc__
    _, *expected = inspect.signature(function).parameters.values()
    _, *parameters = inspect.signature(method).parameters.values()
    assert parameters == expected


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(QUOTES),
        pl.DataFrame(QUOTES),
        pl.LazyFrame(QUOTES),
        xr.Dataset(pd.DataFrame(QUOTES)),  # type: ignore[arg-type]
    ],
    ids=lambda frame: f"{type(frame).__module__.partition('.')[0]}-{type(frame).__name__}",
)
def test_ticks_of_a_frame_is_its_accessor(frame: Any) -> None:
    assert isinstance(ibt.ticks(frame), Ticks)
    assert ibt.ticks(frame).frame is frame
    assert isinstance(ibt.ticks(frame).mid(), type(frame))


@pytest.mark.parametrize(
    ("old", "new", "arguments"),
    [("last", "trailing_window", ("1h",)), ("roll", "roll_spread", ())],
)
def test_renamed_measures_warn(old: str, new: str, arguments: tuple[str, ...]) -> None:
    at = pd.to_datetime(["2025-01-10T15:00Z", "2025-01-10T15:01Z", "2025-01-10T15:02Z"])
    frame = pl.DataFrame({"timestamp": at, "price": [1.0, 2.0, 1.0]})
    expected = getattr(frame.ticks, new)(*arguments)
    with pytest.warns(DeprecationWarning, match=rf"\.ticks\.{old} is called \.ticks\.{new} now"):
        result = getattr(frame.ticks, old)(*arguments)
    assert result.equals(expected)
    with pytest.warns(DeprecationWarning, match=f"analysis.{old} is called .*analysis.{new} now"):
        function = getattr(analysis, old)
    assert function is getattr(analysis, new)


def test_plots_show_their_options() -> None:
    """Notebooks complete keyword arguments by the signature."""
    plot = Ticks(pl.DataFrame(QUOTES)).plot
    options = ["market", "session", "tz", "name", "contract", "template"]
    for name in ("price", "candles", "cumulative_delta", "volume_profile", "day", "heatmap"):
        assert list(inspect.signature(getattr(plot, name)).parameters)[-6:] == options
    with pytest.raises(TypeError, match="unexpected keyword argument 'tick_type'"):
        plot.price(tick_type="last")  # type: ignore[call-arg]
