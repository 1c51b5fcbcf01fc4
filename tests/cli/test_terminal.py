"""Control characters in symbols, names and messages are shown, not obeyed."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from ibticks.cli import _options as options
from ibticks.cli._options import PlainConsole

HOSTILE = {
    "a cleared screen": "A\x1b[2JB",
    "a title": "A\x1b]0;owned\x07B",
    "a line overwritten": "A\rB\x08",
    "one byte": "A\x9b31mB",
    "turned around": "A\u202eB",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("how", ["table", "facts", "print"])
def test_control_characters_are_escaped(
    monkeypatch: pytest.MonkeyPatch, text: str, is_terminal: bool, how: str
) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=is_terminal, width=200, color_system=None)
    monkeypatch.setattr(options, "console", console)
    if how == "table" and not is_terminal:
        monkeypatch.setattr("sys.stdout", out)
    if how == "table":
        options.table(text, ("symbol",), [(text,)])
    elif how == "facts":
        options.facts({"symbol": text})
    else:
        console.print(Text(text))
    shown = out.getvalue()
    if how != "print":  # rich itself leaves some of them out
        assert text.encode("unicode_escape").decode() in shown
    assert not set(shown) & set("\x1b\x07\r\x08\x9b\u202e")
