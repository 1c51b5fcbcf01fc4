"""Long work shows how far it is: where someone is looking, and nowhere else."""

from __future__ import annotations

import sys
import types

import pytest

from ibticks._progress import track
from ibticks.store import progress_bar


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have progress displayed as in a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")


def test_items_are_passed_through() -> None:
    assert list(track(iter("abc"), "reading", 3, show=False)) == ["a", "b", "c"]
    assert list(track([], "reading", None, show=True)) == []


def test_no_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "reading", 3)) == [0, 1, 2]
    with progress_bar("reading", None) as done:
        done(5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [3, None])
def test_progress_is_written_to_standard_error(
    capsys: pytest.CaptureFixture[str], screen: None, total: int | None
) -> None:
    assert list(track(range(3), "reading", total, show=True)) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading" in err


def test_progress_in_a_terminal_and_in_a_notebook(
    capsys: pytest.CaptureFixture[str], screen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(track(range(3), "in a terminal", 3))
    assert "in a terminal" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    list(track(range(3), "in a notebook", 3))
    assert "in a notebook" in capsys.readouterr().err
    list(track(range(3), "asked not to", 3, show=False))
    assert capsys.readouterr().err == ""


def test_a_failed_iteration_clears_its_progress_bar(
    capsys: pytest.CaptureFixture[str], screen: None
) -> None:
    with pytest.raises(ZeroDivisionError), progress_bar("failing", 3, show=True):
        _ = 1 / 0
    items = track(range(3), "left", 3, show=True)
    assert next(items) == 0
    items.close()
    with progress_bar("again", 1, show=True) as done:  # rich allows one at a time
        done(1)
    assert "again" in capsys.readouterr().err
