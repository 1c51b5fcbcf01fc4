"""Read the values of a file's columns as values of ticks, in any notation of numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.frames import combine_chunks
from ibticks.schema import Values
from ibticks.tables._files import is_string, text_scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ibticks.schema import TickColumns
    from ibticks.tables._mapping import InstrumentColumn

__all__ = [
    "INSTRUMENT_SEPARATOR",
    "Instrument",
    "are_text_ids",
    "check_no_fractions",
    "check_sizes",
    "contract_ids",
    "find_decimal_mark",
    "format_instrument",
    "has_value",
    "instrument_keys",
    "is_attributes",
    "is_fixed_point",
    "read_fixed_point",
    "read_flag",
    "read_json",
    "read_numerals",
    "split_texts",
    "text_values",
    "without_sentinel",
]

Instrument = tuple[str, ...]
"""Values that name the instrument of a row, one for each instrument column; empty where absent."""
INSTRUMENT_SEPARATOR: Final = "\x1f"  # ASCII's own separator of units, which no symbol has
_FIXED_POINT: Final = 1_000_000_000
_FIXED_POINT_ABSENT: Final = 2**63 - 1
_FIXED_POINT_LEAST: Final = 1_000_000  # smaller integers throughout are plain prices
_EXACT_FLOAT: Final = 2**53
_OBJECT: Final = r"^(tickattrib\w*)?\s*[({].*[)}]$|^\w+\s*[:=]\s*(true|false|0|1)\b"
_COLUMNS: Final = ("tickattriblast", "tickattribbidask", "tickattrib")

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


def check_sizes(ticks: TickColumns) -> None:
    """Refuse negative sizes: a sign is the side of a trade, or a fault of the file."""
    for name in ("size", "bid_size", "ask_size"):
        column = ticks.columns.get(name)
        if isinstance(column, Values):
            negative = column.values < 0
            if column.valid is not None:
                negative &= column.valid
            if negative.any():
                raise InputError(
                    f"the {name.replace('_', ' ')} {column.values[negative][0]:g} is negative: "
                    f"write sizes without a sign, or leave such rows out with skip_bad=True",
                    column=name,
                )


def instrument_keys(table: pa.Table, instruments: tuple[InstrumentColumn, ...]) -> pa.Array:
    """Return one text a row that names its instrument: a value for each instrument column."""
    if not instruments:
        return pa.array([""], pa.large_string()).take(pa.array(np.zeros(len(table), np.int64)))
    values = []
    for column in instruments:
        texts = [pc.fill_null(text_values(table[source]), "") for source in column.sources]
        value = texts[0]
        for suffix in texts[1:]:
            value = pc.utf8_trim_whitespace(
                pc.binary_join_element_wise(value, suffix, text_scalar(" "))
            )
        values.append(value)
    return pc.binary_join_element_wise(*values, text_scalar(INSTRUMENT_SEPARATOR))


def contract_ids(
    table: pa.Table,
    instruments: tuple[InstrumentColumn, ...],
    contracts: Mapping[Instrument, int],
) -> pa.ChunkedArray:
    keys = instrument_keys(table, instruments).dictionary_encode()
    ids = []
    for key in keys.dictionary.to_pylist():
        instrument = tuple(key.split(INSTRUMENT_SEPARATOR))
        if instrument not in contracts:
            raise InputError(
                f"the contract of {format_instrument(instrument)} is not known",
                column=instruments[0].sources[0],
            )
        ids.append(contracts[instrument])
    return pa.chunked_array([pa.array(ids, pa.uint32()).take(keys.indices)])


def format_instrument(instrument: Instrument) -> str:
    return " ".join(value for value in instrument if value) or "rows without one"


def text_values(column: pa.ChunkedArray) -> pa.Array:
    """Return any column as texts, an integer that pandas made a float without its point."""
    array = combine_chunks(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    texts = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    if pa.types.is_floating(array.type):
        texts = pc.replace_substring_regex(texts, r"\.0$", "")
    return pc.if_else(pc.equal(texts, ""), None, texts)


def are_text_ids(column: pa.ChunkedArray) -> bool:
    """Return whether the ids of trades are texts; a bad value among numbers makes none of them."""
    if not is_string(column.type):
        return False
    texts = text_values(column).drop_null()
    try:
        read_numerals(pa.chunked_array([texts]), "sequence", None, whole=True)
    except InputError:
        numbers = pc.sum(pc.match_substring_regex(texts, r"^\d{1,19}(\.0*)?$")).as_py()
        return bool(2 * numbers < len(texts))
    return False


def has_value(table: pa.Table, names: tuple[str, ...]) -> pa.Array:
    """Return the rows that have a value in any of these columns; NaN is none."""
    valid = [pc.is_valid(combine_chunks(table[name])) for name in names]
    for place, name in enumerate(names):
        data_type = table[name].type
        if pa.types.is_floating(data_type):
            valid[place] = pc.invert(pc.is_null(combine_chunks(table[name]), nan_is_null=True))
        elif is_string(data_type):
            blank = pc.match_substring_regex(combine_chunks(table[name]), r"^\s*$")
            valid[place] = pc.and_(valid[place], pc.invert(pc.fill_null(blank, True)))
    result = valid[0]
    for mask in valid[1:]:
        result = pc.or_(result, mask)
    return result


def read_json(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read metadata that is one JSON object a row; a column of another type is returned as it is.

    Raises
    ------
    InputError
        If a text is no JSON object of texts.
    """
    if not is_string(column.type):
        return column
    rows: list[list[tuple[str, str]]] = []
    for text in column.to_pylist():
        try:
            pairs = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            pairs = None
        if not isinstance(pairs, dict) or not all(
            isinstance(value, str) for value in pairs.values()
        ):
            raise InputError(
                f"column 'metadata' has {text!r}, which is no JSON object of texts",
                column="metadata",
            )
        rows.append(list(pairs.items()))
    return pa.chunked_array([pa.array(rows, pa.map_(pa.string(), pa.string()))])


def split_texts(column: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    if not is_string(column.type):
        return column
    if separator == ";":
        return pa.chunked_array([pc.split_pattern(combine_chunks(column), separator)])
    texts = pc.replace_substring_regex(text_values(column), r"[\[\]\s\"]", "")
    return pa.chunked_array(
        [pc.split_pattern(pc.if_else(pc.equal(texts, ""), None, texts), separator)]
    )


def without_sentinel(column: pa.ChunkedArray, absent: int) -> pa.ChunkedArray:
    """Return a column with null where it has the number that stands for none."""
    array = combine_chunks(column)
    data_type = array.type
    if is_string(data_type):
        is_absent = pc.equal(array, pa.scalar(str(absent), data_type))
    elif pa.types.is_integer(data_type) and absent <= np.iinfo(data_type.to_pandas_dtype()).max:
        is_absent = pc.equal(array, pa.scalar(absent, data_type))
    else:
        return column
    return pa.chunked_array([pc.if_else(is_absent, None, array)])


def is_fixed_point(column: pa.ChunkedArray) -> bool:
    """Return whether all prices are integers and one is too large to be a plain price."""
    array = combine_chunks(column).drop_null()
    if is_string(array.type):
        if not pc.all(pc.match_substring_regex(array, r"^\s*-?\d{1,19}\s*$")).as_py():
            return False
        array = pc.utf8_trim_whitespace(array).cast(pa.int64())
    if not pa.types.is_int64(array.type) or not len(array):
        return False
    real = array.filter(pc.not_equal(array, _FIXED_POINT_ABSENT))
    if not len(real):
        return True
    least, most = pc.min_max(real).as_py().values()
    return bool(max(most, -least) >= _FIXED_POINT_LEAST)


def read_fixed_point(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    array = combine_chunks(column)
    try:
        if is_string(array.type):
            array = pc.utf8_trim_whitespace(array)
        array = array.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {name!r} has a value that is no fixed point price: {error}", column=name
        ) from error
    array = pc.if_else(pc.equal(array, _FIXED_POINT_ABSENT), None, array)
    numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
    prices = numbers / _FIXED_POINT
    # Above 2**53 the integer itself is not a float: such prices are divided exactly.
    for place in np.flatnonzero(np.abs(numbers) > _EXACT_FLOAT):
        prices[place] = float(Decimal(int(numbers[place])) / _FIXED_POINT)
    missing = array.is_null().to_numpy(zero_copy_only=False)
    return pa.chunked_array([pa.array(prices, pa.float64(), mask=missing)])


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
    array = combine_chunks(column)
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
