"""The HTML tables of ``_repr_html_``: one renderer, escaped, without scripts or style sheets."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = ["Html", "html_table"]


class Html(str):
    """Text that is HTML already, and is not escaped."""

    __slots__ = ()


def html_table(
    rows: Iterable[Sequence[object]],
    columns: Sequence[str] = (),
    *,
    caption: str = "",
    row_headers: bool = False,
    right: Collection[int] = (),
    empty: str = "",
    cell_style: str = "",
) -> str:
    """Render rows as an HTML table.

    Parameters
    ----------
    rows : iterable of sequence
        Cells by row. A cell is written by ``str`` and escaped, unless it is :class:`Html`.
    columns : sequence of str, optional
        Heads of the columns.
    caption : str, optional
        Caption of the table; escaped, unless it is :class:`Html`.
    row_headers : bool, optional
        Whether the first cell of each row is its head.
    right : collection of int, optional
        Numbers of the columns that are aligned to the right, as figures are.
    empty : str, optional
        Text of the only cell of a table without rows.
    cell_style : str, optional
        CSS of every cell, before its alignment.

    Examples
    --------
    >>> html_table([("ticks", 5)], row_headers=True)
    "<table><tbody><tr><th style='text-align:left'>ticks</th><td style='text-align:left'>5</td>...
    """

    def cell(tag: str, number: int, value: object) -> str:
        side = "right" if number in right else "left"
        return f"<{tag} style='{cell_style}text-align:{side}'>{_text(value)}</{tag}>"

    head = "".join(cell("th", number, name) for number, name in enumerate(columns))
    body = "".join(
        "<tr>"
        + "".join(
            cell("th" if row_headers and number == 0 else "td", number, value)
            for number, value in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    if not body and empty:
        body = f"<tr><td colspan='{max(1, len(columns))}'>{escape(empty)}</td></tr>"
    return (
        "<table>"
        + (f"<caption>{_text(caption)}</caption>" if caption else "")
        + (f"<thead><tr>{head}</tr></thead>" if columns else "")
        + f"<tbody>{body}</tbody></table>"
    )


def _text(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))
