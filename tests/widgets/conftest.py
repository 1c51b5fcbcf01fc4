from __future__ import annotations

import os
from pathlib import Path

import pytest

from .lab import CHROMIUM, FLAGS, Lab, Sheet


@pytest.fixture(scope="session")
def browser():
    if not Path(CHROMIUM).exists():
        missing = f"no Chromium at {CHROMIUM}: apt-get install chromium"
        if os.environ.get("IBTICKS_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
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
