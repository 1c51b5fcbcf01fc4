"""That ``.ticks`` is there, whichever library is imported first, and costs no import."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from ibticks.accessors._registration import LIBRARIES

FRAMES = {
    "pandas": "pandas.DataFrame",
    "polars": "polars.LazyFrame",
    "xarray": "xarray.Dataset",
}


def run(*lines: str) -> str:
    code = "\n".join(("import sys", *lines))
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("first", [*LIBRARIES, "pandas, polars, xarray"])
def test_any_order_of_imports(first: str) -> None:
    """Import some libraries before ibticks and the others after it."""
    later = [name for name in LIBRARIES if name not in first]
    output = run(
        f"import {first}",
        "import ibticks",
        *(f"import {name}" for name in later),
        *(f"print({frame}.ticks.__name__)" for frame in FRAMES.values()),
        "print(any('registration' in type(f).__module__ for f in sys.meta_path))",
    )
    assert output.split() == ["ticks"] * 3 + ["False"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_imported_later_brings_no_other(library: str) -> None:
    others = {"pandas", "polars", "xarray", "pyarrow", "plotly", "numba"} - {library}
    if library == "xarray":
        others.discard("pandas")  # it needs it itself
    plain = run(f"import {library}", "print(*sys.modules)")
    ours = run("import ibticks", f"import {library}", "print(*sys.modules)")
    added = set(ours.split()) - set(plain.split())
    assert not {name.partition(".")[0] for name in added} & (others | {"numpy"})


def test_polars_needs_no_other_library() -> None:
    """No library is imported for the accessor or for its measures."""
    output = run(
        "import ibticks, polars",
        "polars.DataFrame({'bid_price': [1.0], 'ask_price': [2.0]}).ticks.mid()",
        "print(*sys.modules)",
    )
    heavy = {"pandas", "pyarrow", "xarray", "numba", "plotly", "pandas_market_calendars"}
    assert not heavy & set(output.split())


def test_a_second_import_of_ibticks_registers_nothing_twice() -> None:
    """Polars and pandas warn about an accessor that takes the place of another: here an error."""
    run(
        "import pandas, polars, xarray, ibticks, importlib",
        "importlib.reload(ibticks)",
        "print(pandas.DataFrame.ticks)",
    )


def test_finding_a_library_spec_imports_nothing() -> None:
    output = run(
        "import ibticks, importlib.util",
        "print(importlib.util.find_spec('pandas').name, 'pandas' in sys.modules)",
        "import pandas",
        "print(pandas.DataFrame.ticks.__name__, type(pandas.__spec__.loader).__name__)",
    )
    assert output.split() == ["pandas", "False", "ticks", "SourceFileLoader"]


def test_a_missing_library_stays_missing() -> None:
    output = run(
        "import ibticks",
        "sys.modules['polars'] = None",
        "try: import polars",
        "except ImportError as error: print(type(error).__name__)",
    )
    assert output.strip() == "ModuleNotFoundError"


def test_every_pair_of_orders_names_the_same_accessor() -> None:
    """In this process all are there."""
    import pandas as pd
    import polars as pl
    import xarray as xr

    classes = (pd.DataFrame, pl.DataFrame, pl.LazyFrame, xr.Dataset)
    assert all(a.ticks is b.ticks for a, b in itertools.pairwise(classes))
