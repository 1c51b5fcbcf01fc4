from __future__ import annotations

import subprocess
import sys

import pytest

import ibticks.frames

HEAVY = ("dask", "pandas", "polars", "pyarrow", "xarray")


def loaded_by(code: str) -> list[str]:
    probe = f"{code}; import sys; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    return subprocess.check_output([sys.executable, "-c", probe], text=True).split()


def test_frames_are_imported_lazily() -> None:
    assert loaded_by("import ibticks.frames") == []
    assert loaded_by("from ibticks.tables import describe_mapping") == []
    assert "pandas" not in loaded_by("from ibticks.frames import to_table, to_polars, scan")


TABLES = """
import numpy as np, pyarrow as pa
from ibticks.schema import MapColumn, StringColumn, TickColumns, Values
from ibticks.schema import StringListColumn
from ibticks.schema import COLUMNS
from ibticks.frames import to_polars, to_table
zero = np.zeros(1, np.int32)
two = TickColumns(2, {
    "timestamp": Values(np.array([1, 5])),
    "contract_id": Values(np.array([7, 7], np.uint32)),
    "tick_type": StringColumn(np.zeros(2, np.int32), ("last",)),
    "price": Values(np.array([1.0, 2.0]), np.array([True, False])),
    "conditions": StringListColumn(np.array([0, 0, 1]), zero, ("T",)),
    "metadata": MapColumn(np.array([0, 1, 1]), zero, zero + 1, ("k", "v")),
})
one = TickColumns(1, {
    "timestamp": Values(np.array([3])),
    "contract_id": Values(np.array([7], np.uint32)),
    "tick_type": StringColumn(zero, ("all_last",)),
})
table = to_table([two, one], list(COLUMNS))
to_polars(table)"""


def test_arrow_and_polars_do_without_pandas() -> None:
    # pyarrow imports it at the first pa.array(): 0.3 s and 60 MB.
    assert loaded_by(TABLES) == ["polars", "pyarrow"]


def test_every_public_name_is_there() -> None:
    assert len(set(ibticks.frames.__all__)) == len(ibticks.frames.__all__)
    for name in ibticks.frames.__all__:
        assert getattr(ibticks.frames, name) is not None
    assert set(ibticks.frames.__all__) <= set(dir(ibticks.frames))
    with pytest.raises(AttributeError, match="to_excel"):
        _ = ibticks.frames.to_excel  # type: ignore[attr-defined]
