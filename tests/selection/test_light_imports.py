"""Modules that the first load of a new process imports, by name."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ibticks.format import _kernels

if TYPE_CHECKING:
    import ibticks as ibt

HEAVY = {
    "IPython",
    "dask",
    "matplotlib",
    "numba",
    "pandas",
    "pandas_market_calendars",
    "plotly",
    "scipy",
    "xarray",
}
LOAD = """
import json, sys
import ibticks as ibt
with ibt.open({root!r}) as store:
    selection = store.select("IBM", "bid_ask", session="regular", date="2013-10-08")
    print(json.dumps([selection.{load}().shape[0], list(sys.modules)]))
"""


@pytest.mark.parametrize(
    ("load", "needed"), [("to_polars", set()), ("to_arrow", set()), ("to_pandas", {"pandas"})]
)
def test_a_first_load_imports_no_more_than_its_library(
    sample_store: ibt.Store, load: str, needed: set[str]
) -> None:
    # What an installation does once has been done.
    _kernels.decode_ticks.load()
    first = "from ibticks.calendar import market; market('US').tables"
    subprocess.run([sys.executable, "-c", first], check=True)
    code = LOAD.format(root=str(sample_store.root), load=load)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    ticks, modules = json.loads(done.stdout.splitlines()[-1])
    assert ticks
    assert {name.partition(".")[0] for name in modules} & HEAVY == needed
