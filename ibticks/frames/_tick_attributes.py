"""Flags of ticks in the ``TickAttribLast`` and ``TickAttribBidAsk`` of IB's client libraries."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.frames._chunks import joined

__all__ = ["is_attributes", "read_flag"]

_OBJECT: Final = r"^(tickattrib\w*)?\s*[({].*[)}]$|^\w+\s*[:=]\s*(true|false|0|1)\b"
_COLUMNS: Final = ("tickattriblast", "tickattribbidask", "tickattrib")


def is_attributes(name: str) -> bool:
    """Return whether a column of a file has the attributes of ticks, by its name.

    Examples
    --------
    >>> is_attributes("tickAttribLast"), is_attributes("pastLimit")
    (True, False)
    """
    return name.lower().replace("_", "") in _COLUMNS


def read_flag(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Read a flag out of the attributes of ticks.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Structs, or texts: ``TickAttribLast(pastLimit=True)`` as ib_async writes it, where a flag
        that is left out is not set, a dict, or ``PastLimit: 1, Unreported: 0`` as ibapi writes it.
    name : str
        Column of a tick, such as ``past_limit``.

    Returns
    -------
    pyarrow.ChunkedArray
        Booleans; null where there are no attributes.

    Raises
    ------
    InputError
        If a text has no attributes; the message quotes it.

    Examples
    --------
    >>> texts = pa.chunked_array([["TickAttribLast(pastLimit=True)", "TickAttribLast()", None]])
    >>> read_flag(texts, "past_limit").to_pylist()
    [True, False, None]
    """
    flag = name.replace("_", "")
    array = joined(column)
    if pa.types.is_struct(array.type):
        keys = [key for key in array.type.names if key.lower().replace("_", "") == flag]
        if not keys:
            nothing = pa.nulls(len(array), pa.bool_())
            return pa.chunked_array([pc.if_else(array.is_valid(), False, nothing)])
        return pa.chunked_array([pc.struct_field(array, keys[0])])
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(array.cast(pa.large_string())))
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    is_object = pc.fill_null(pc.match_substring_regex(texts, _OBJECT), True)
    if not pc.all(is_object).as_py():
        strange = array.filter(pc.invert(is_object))[0].as_py()
        raise InputError(
            f"column {name!r} has {strange!r}, which has no attributes of a tick: write "
            f"TickAttribLast(pastLimit=False, unreported=False), or leave the column out with "
            f"mapping={{{name!r}: None}}",
            column=name,
        )
    is_set = pc.match_substring_regex(texts, rf"\b{flag}['\"]?\s*[:=]\s*(true|1)\b")
    return pa.chunked_array([is_set])
