from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .jupyterlab import Lab, Sheet

if TYPE_CHECKING:
    from nbformat import NotebookNode


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

    def open_(name: str, *cells: str, notebook: NotebookNode | None = None) -> Sheet:
        sheets.append(Sheet(lab, browser, name, list(cells), notebook))
        return sheets[-1]

    yield open_
    for one in sheets:
        one.close()
