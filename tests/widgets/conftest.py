from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .jupyterlab import Lab, Sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbformat import NotebookNode
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab server for the tests of one module."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.fixture
def sheet(lab: Lab, browser: Browser) -> Iterator[Callable[..., Sheet]]:
    """Open notebooks in the browser."""
    opened = []

    def open_(name: str, *cells: str, notebook: NotebookNode | None = None) -> Sheet:
        opened.append(Sheet(lab, browser, name, list(cells), notebook))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()
