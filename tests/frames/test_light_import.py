from __future__ import annotations

import subprocess
import sys

import pytest

import ibticks.frames

HEAVY = ("dask", "pandas", "polars", "pyarrow", "xarray")


def loaded_by(code):
    probe = f"{code}; import sys; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    return subprocess.check_output([sys.executable, "-c", probe], text=True).split()


def test_the_room_is_light_until_it_is_used():
    assert loaded_by("import ibticks.frames") == []
    assert loaded_by("from ibticks.frames import describe_mapping") == []
    assert "pandas" not in loaded_by("from ibticks.frames import to_table, to_polars, scan")


def test_every_public_name_is_there():
    assert sorted(ibticks.frames.__all__) == ibticks.frames.__all__
    for name in ibticks.frames.__all__:
        assert getattr(ibticks.frames, name).__name__ == name
    assert set(ibticks.frames.__all__) <= set(dir(ibticks.frames))
    with pytest.raises(AttributeError, match="to_excel"):
        _ = ibticks.frames.to_excel
