"""Views without the packages of the extra ``lab``."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
sys.modules[{package!r}] = None
import ibticks.errors
try:
    from ibticks.widgets import {view}
except ibticks.errors.MissingExtraError as error:
    print(error)
"""


@pytest.mark.parametrize("view", ["CaptureStatus", "LiveView", "StoreBrowser"])
@pytest.mark.parametrize("package", ["ipywidgets", "traitlets"])
def test_missing_package_names_the_install_command(view: str, package: str) -> None:
    probe = WITHOUT.format(package=package, view=view)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"{view} needs {package}, which is not installed: pip install 'ibticks[lab]'\n"
    )
