"""Read numbers in the notations of text files: thousands separators, decimal commas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.frames import combine_chunks
from ibticks.tables._files import is_string

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_no_fractions", "find_decimal_mark", "read_numerals"]

_SAMPLE_VALUES: Final = 10_000
_SPACES: Final = " \u00a0\u2009\u202f'\u2019"  # blanks that do not break, apostrophes
_MARKS: Final = {".": ",", ",": "."}  # of decimals, and the mark of thousands that goes with it
_EITHER: Final = r"^[+-]?[1-9]\d{0,2},\d{3}$"
_EITHER_BY_A_DOT: Final = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"

# 110'165 is 110 and 16.5 thirty-seconds, as prices of US bonds and notes are quoted.
_APOSTROPHE: Final = r"['\x{2019}]"
_THIRTY_SECONDS: Final = r"^[+-]?\d+['\x{2019}]([0-2]\d|3[01])[0257]?\+?$"


def _notation(decimal: str) -> str:
    """Return the pattern of a number: whole groups of thousands, decimals, an exponent."""
    thousands = rf"\d{{1,3}}(\{_MARKS[decimal]}\d{{3}})+|\d{{1,3}}([{_SPACES}]\d{{3}})+"
    return rf"^[+-]?(\d+|{thousands})?(\{decimal}\d*)?([eE][+-]?\d+)?$"


def _sure_notation(decimal: str) -> str:
    """Return the pattern of a number that only this decimal mark explains."""
    other, mark = rf"\{_MARKS[decimal]}", rf"\{decimal}"
    alternatives = (
        rf"\d{{1,3}}({other}\d{{3}})+{mark}\d*",
        rf"\d{{1,3}}({other}\d{{3}}){{2,}}",
        rf"\d*{mark}(\d{{0,2}}|\d{{4,}})",
        rf"\d{{4,}}{mark}\d*",
        rf"0?{mark}\d+",
    )
    return rf"^[+-]?({'|'.join(alternatives)})$"


def find_decimal_mark(
    columns: Iterable[tuple[str, pa.ChunkedArray]], delimiter: str = ","
) -> str | None:
    """Detect whether a file writes decimals with a point or a comma.

    Parameters
    ----------
    columns : iterable of (str, pyarrow.ChunkedArray)
        Names and first values of the columns that are to be numbers; only texts count.
    delimiter : str
        Character between the values of the file; files with decimal commas have semicolons, so
        that there 1.234 may be either.

    Returns
    -------
    "." or "," or None
        None where no number has a mark of either kind.

    Raises
    ------
    InputError
        If some numbers have a decimal point and some a decimal comma, or a mark may be either.

    Examples
    --------
    >>> find_decimal_mark([("price", pa.chunked_array([["1.234,50", "12,5"]]))])
    ','
    >>> find_decimal_mark(
    ...     [("size", pa.chunked_array([["1,234"]])), ("p", pa.chunked_array([["0.5"]]))]
    ... )
    '.'
    """
    sure: dict[str, str] = {}
    unsure: tuple[str, str] | None = None
    patterns = {"1,234": _EITHER} | ({"1.234": _EITHER_BY_A_DOT} if delimiter == ";" else {})
    for name, column in columns:
        if not is_string(column.type):
            continue
        texts = pc.utf8_trim_whitespace(combine_chunks(column).drop_null()[:_SAMPLE_VALUES])
        texts = texts.filter(pc.match_substring_regex(texts, "[.,]"))
        if not len(texts):
            continue
        for mark, pattern in _SURE.items():
            if mark not in sure and pc.any(pc.match_substring_regex(texts, pattern)).as_py():
                sure[mark] = name
        for example, pattern in patterns.items():
            if unsure is None and pc.any(pc.match_substring_regex(texts, pattern)).as_py():
                unsure = name, example
    if len(sure) > 1:
        raise InputError(
            f"column {sure['.']!r} has decimal points and column {sure[',']!r} has decimal commas: "
            f"say which of them it is with decimal='.' or decimal=','",
            column=sure[","],
        )
    if sure:
        return next(iter(sure))
    if unsure is not None:
        raise InputError(
            f"column {unsure[0]!r} has numbers such as {unsure[1]}, which may be thousands or "
            f"decimals: say which character is the decimal mark with decimal='.' or decimal=','",
            column=unsure[0],
        )
    return None


def check_no_fractions(name: str, column: pa.ChunkedArray) -> None:
    """Raise if the prices of a column are quoted in thirty-seconds, such as 110'165.

    The apostrophe would be taken for a mark of thousands.

    Raises
    ------
    InputError
        If every price with an apostrophe has thirty-seconds behind it.
    """
    if not is_string(column.type):
        return
    texts = pc.utf8_trim_whitespace(combine_chunks(column).drop_null()[:_SAMPLE_VALUES])
    texts = texts.filter(pc.match_substring_regex(texts, _APOSTROPHE))
    if len(texts) and pc.all(pc.match_substring_regex(texts, _THIRTY_SECONDS)).as_py():
        raise InputError(
            f"column {name!r} has {texts[0].as_py()!r}, which looks like a price in 32nds: write "
            f"such prices as decimals, and numbers of thousands without apostrophes",
            column=name,
        )


def read_numerals(
    column: pa.ChunkedArray, name: str, decimal: str | None, *, whole: bool = False
) -> pa.ChunkedArray:
    """Read texts as numbers; a column of another type is returned as it is.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
    name : str
        The column's name, for errors.
    decimal : "." or "," or None
        The decimal mark; with None a number with a mark of thousands is refused.
    whole : bool
        Whether the numbers are integers, which may be longer than a float can hold.

    Raises
    ------
    InputError
        If a text is no number in this notation; the message quotes it.

    Examples
    --------
    >>> texts = pa.chunked_array([["1.234,5", "12"]])
    >>> read_numerals(texts, "price", ",").to_pylist()
    [1234.5, 12.0]
    """
    if not is_string(column.type):
        return column
    data_type = pa.uint64() if whole else pa.float64()
    if decimal != ",":
        try:
            plain = column.cast(data_type)
        except pa.ArrowInvalid:
            pass
        else:
            if whole or not np.isinf(combine_chunks(plain).fill_null(0).to_numpy()).any():
                return plain
    texts = pc.utf8_trim_whitespace(combine_chunks(column).cast(pa.large_string()))
    # An empty text between blanks is as absent as one without.
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    pattern = _NOTATIONS[decimal] if decimal else r"^[+-]?\d*(\.\d*)?([eE][+-]?\d+)?$"
    fits = pc.and_(pc.match_substring_regex(texts, pattern), pc.match_substring_regex(texts, r"\d"))
    if pc.any(pc.invert(fits)).as_py():
        strange = texts.filter(pc.fill_null(pc.invert(fits), False))[0].as_py()
        mark = {".": "a decimal point", ",": "a decimal comma", None: "no mark of thousands"}
        raise InputError(
            f"column {name!r} has {strange!r}, which is no number with {mark[decimal]}: mend it, "
            f"or say which character is the decimal mark with decimal=",
            column=name,
        )
    if decimal is not None:
        thousands = "." if decimal == "," else ","
        texts = pc.replace_substring_regex(texts, rf"[{_SPACES}{thousands}]", "")
        texts = pc.replace_substring(texts, decimal, ".")
    if whole:
        texts = pc.replace_substring_regex(texts, r"\.0*$", "")
    texts = pc.replace_substring_regex(texts, r"^\+", "")
    try:
        return pa.chunked_array([texts.cast(data_type)])
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {name!r} has a text that is no number: {error}", column=name
        ) from error


_NOTATIONS: Final = {decimal: _notation(decimal) for decimal in _MARKS}
_SURE: Final = {decimal: _sure_notation(decimal) for decimal in _MARKS}
