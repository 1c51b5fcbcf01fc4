from __future__ import annotations

import pytest

from .lab import Lab, Sheet


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server that remembers no notebook of another module."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.fixture
def sheet(lab, browser):
    """Makes notebooks that are open in the browser."""
    sheets = []

    def open_(name: str, *cells: str) -> Sheet:
        sheets.append(Sheet(lab, browser, name, list(cells)))
        return sheets[-1]

    yield open_
    for one in sheets:
        one.close()
