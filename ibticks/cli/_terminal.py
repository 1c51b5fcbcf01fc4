"""Text from files and networks on a terminal, which obeys control characters."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import ConsoleOptions, RenderableType

__all__ = ["PlainConsole", "printable"]

_OBEYED: Final = ("Cc", "Cf", "Zl", "Zp")
"""Categories of characters that move the cursor, colour, or turn the direction of what follows."""


def printable(text: str) -> str:
    r"""Write control and formatting characters as escapes: a terminal would obey them.

    Examples
    --------
    >>> print(printable("A\x1b[2JB"))
    A\x1b[2JB
    """
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in _OBEYED
        else character.encode("unicode_escape").decode()
        for character in text
    )


class PlainConsole(Console):
    """A console on which no text is a command to the terminal, wherever it comes from."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render what is printed, with the control characters of its texts as escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
