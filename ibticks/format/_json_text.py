"""Any JSON value as a string, one to one.

The maps of the schema (``metadata``, the ``details`` of an error) hold strings; v2 JSON has any
value there. A value that is not a string is held as its JSON text, just as :func:`json.dumps`
writes it (``True`` as ``true``). A string is held as it is, unless that text would be read as such
a value: then its JSON-quoted form is held (the string ``true`` as ``"true"``).

Read back, a text is JSON only if it is exactly what :func:`json.dumps` writes: ``1e5``, `` 5`` and
``"hello"`` with its quotes are strings. Every text so has one value, and that value this text;
neither way loses anything. Texts of other writers obey the same rule, so the ``5`` of a writer that
had turned everything into strings is read as a number.
"""

from __future__ import annotations

import json
import reprlib
from typing import Any, Final

from ibticks.errors import ProtocolError

__all__ = ["MAX_DEPTH", "from_text", "is_utf8", "to_text"]

MAX_DEPTH: Final = 64
"""Deepest nesting of a value; a fixed bound, so that the meaning of a text does not depend on how
deep the interpreter can recurse."""


def to_text(value: Any, key: str) -> str:
    """The text that :func:`from_text` reads as ``value``.

    Parameters
    ----------
    value : None, bool, int, float, str, list or dict
        NaN and the infinities are taken, as :func:`json.dumps` takes them.
    key : str
        Where the value stands, for the error.

    Raises
    ------
    ProtocolError
        JSON has no such value (a tuple, a key that is not a string, an object of another class), it
        is nested deeper than 64 levels, or an integer in it has more digits than Python prints.

    Examples
    --------
    >>> [to_text(value, "metadata.k") for value in (True, 1.5, "last", "5", [None])]
    ['true', '1.5', 'last', '"5"', '[null]']
    """
    if isinstance(value, str):
        return json.dumps(value) if _needs_quotes(value) else value
    _check(value, key, MAX_DEPTH)
    try:
        return json.dumps(value)
    except ValueError as error:
        raise ProtocolError(f"{key}: {error}", key=key) from error


def from_text(text: str) -> Any:
    """The value of a text: what it says as canonical JSON, or else the text itself.

    Examples
    --------
    >>> [from_text(text) for text in ("true", "1.5", "last", '"5"', "1e5", " 5")]
    [True, 1.5, 'last', '5', '1e5', ' 5']
    """
    is_json, value = _canonical(text)
    if not is_json or (isinstance(value, str) and not _needs_quotes(value)):
        return text
    return value


def is_utf8(value: str) -> bool:
    """Return whether a string can be written as UTF-8: lone surrogates cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _needs_quotes(value: str) -> bool:
    """Return whether a string cannot be its own text: no UTF-8, or JSON of another value."""
    if not is_utf8(value):
        return True
    is_json, meaning = _canonical(value)
    return is_json and (not isinstance(meaning, str) or _needs_quotes(meaning))


def _canonical(text: str) -> tuple[bool, Any]:
    """Return whether ``text`` is just what :func:`json.dumps` writes, and of what."""
    try:
        value = json.loads(text)
        same = json.dumps(value) == text
    except (ValueError, RecursionError):
        return False, None
    return same and _within(value, MAX_DEPTH), value


def _within(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_within(item, depth - 1) for item in items)


def _check(value: Any, key: str, depth: int) -> None:
    """Refuse what JSON would change: tuples, keys that are not strings, objects of other classes.

    Nested too deep is found here, before ``json.dumps`` recurses (and so is a list in itself).
    """
    if isinstance(value, dict | list):
        if depth == 0:
            raise ProtocolError(f"{key}: nested deeper than {MAX_DEPTH} levels", key=key)
        for name in value if isinstance(value, dict) else ():
            if not isinstance(name, str):
                raise ProtocolError(
                    f"{key}: expected keys that are strings, got {reprlib.repr(name)}", key=key
                )
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, key, depth - 1)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ProtocolError(
            f"{key}: expected a JSON value (null, true, false, number, string, list or object), "
            f"got {reprlib.repr(value)} ({type(value).__name__})",
            key=key,
        )
