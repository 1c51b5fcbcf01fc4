"""Read times from one column of a file, or from a date and a time of day in several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.calendar import find_timezone, fixed_offset
from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames import combine_chunks, read_times
from ibticks.tables._files import is_text, text_scalar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from ibticks._types import TimeUnit


__all__ = ["TimeReader", "all_at_midnight", "fits_format", "format_parts", "parse_times"]

_SAMPLE_VALUES: Final = 10_000
_NANOSECONDS_PER_DAY: Final = 86_400_000_000_000
_NANOSECONDS_PER_UNIT: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_AT_MIDNIGHT: Final = r"[ Tt]0{1,2}:00(:00(\.0+)?)?$"
_ATTACHED_CLOCK: Final = re.compile(r"^%H%M(%S)?$")
_LONG_FRACTION: Final = r"[.,]\d{10,}"

# The parser passes over the first, and takes the second for a time of the zone given.
_UNPLACED_DIRECTIVES: Final = {
    "Z": "write the name of the zone itself in the format, and give the zone with tz=",
    "s": "leave the format out, and give the unit of the numbers with timestamp_unit='s'",
}
_DATE_DIRECTIVES: Final = "aAbBcdDeFgGhjmuUvVwWxyY"
_TIME_DIRECTIVES: Final = "cHIklMpPrRsSTX"


def all_at_midnight(array: pa.Array) -> bool:
    midnight = pc.floor_temporal(array, unit="day")
    return bool(pc.all(pc.equal(midnight, array)).as_py())


class TimeReader:
    """Reads one column of instants from one column of a file, or from its parts in several.

    Parameters
    ----------
    sources : tuple of str
        An instant; or a date and a time of day; or these and a column of nanoseconds.
    name : str
        Column of a tick that is read, for errors.
    zone : str, optional
        Zone that the name of the column says; only a zone of the time zone database counts.
    tz : str, optional
        Zone of times that have none, as the user gave it.
    unit, time_format : optional
    """

    def __init__(
        self,
        sources: tuple[str, ...],
        *,
        name: str = "timestamp",
        zone: str | None = None,
        tz: str | tzinfo | None = None,
        unit: TimeUnit | None = None,
        time_format: str | None = None,
    ) -> None:
        self._sources = sources
        self._name = name
        self._zone = zone if zone and (zone == "UTC" or "/" in zone) else None
        self._hint = None if self._zone else zone
        self._tz = tz
        self._unit = unit
        self._format = time_format

    def read(self, table: pa.Table) -> pa.ChunkedArray:
        """Read the instants of a table, as UTC timestamps to the nanosecond, absent as null."""
        if len(self._sources) == 1:
            column = self._instants(table[self._sources[0]])
        else:
            column = pa.chunked_array([self._join_parts(table)])
        return pa.chunked_array([self._in_utc(column)])

    def _in_utc(self, column: pa.ChunkedArray) -> pa.Array:
        unit = None if len(self._sources) > 1 else self._unit
        if self._zone is not None:
            return self._in_named_zone(column, unit)
        try:
            times, valid = read_times(column, self._name, tz=self._tz, unit=unit)
        except InputError as error:
            if not isinstance(error, NaiveDatetimeError):
                raise self._with_remedy(error, column) from error
            if self._hint is None:
                raise
            raise NaiveDatetimeError(
                f"{error}; the name of the column says {self._hint}", **error.context
            ) from error
        mask = None if valid is None else ~valid
        return pa.array(times, pa.int64(), mask=mask).cast(pa.timestamp("ns", "UTC"))

    def _with_remedy(self, error: InputError, column: pa.ChunkedArray) -> InputError:
        """Return the error of a text that cannot be read, naming the argument that may help."""
        if self._format is not None or not is_text(column.type):
            return error
        if any(words in str(error) for words in ("timestamp_unit=", "without a time of day")):
            return error
        return type(error)(
            f"{error}; if all times are written like this, say their format with time_format=",
            **error.context,
        )

    def _in_named_zone(self, column: pa.ChunkedArray, unit: TimeUnit | None) -> pa.Array:
        zone = self._zone
        try:
            times, valid = read_times(column, self._name, unit=unit)
        except NaiveDatetimeError as error:
            if self._tz is not None and not _same_zone(self._tz, str(zone)):
                raise InputError(
                    f"the name of column {self._sources[-1]!r} says {zone}, and "
                    f"tz={str(self._tz)!r} was given: leave tz= out, or choose the column by "
                    f"mapping={{{self._name!r}: {'+'.join(self._sources)!r}}} to read it in that "
                    f"zone",
                    column=self._name,
                ) from error
            times, valid = read_times(column, self._name, tz=zone, unit=unit)
        mask = None if valid is None else ~valid
        return pa.array(times, pa.int64(), mask=mask).cast(pa.timestamp("ns", "UTC"))

    def _instants(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not is_text(column.type):
            return column
        texts = combine_chunks(column).cast(pa.large_string())
        if self._format is not None:
            has_date, has_time = format_parts(self._format)
            if has_date and has_time:
                return pa.chunked_array([parse_times(texts, self._format, name=self._sources[0])])
        if pc.any(pc.match_substring_regex(texts, r"^\d{4}\.\d{2}\.\d{2}[DT ]|:\d{2},\d")).as_py():
            texts = pc.replace_substring_regex(
                texts, r"^(\d{4})\.(\d{2})\.(\d{2})[DT ]", r"\1-\2-\3 "
            )
            texts = pc.replace_substring_regex(texts, r"(:\d{2}),(\d)", r"\1.\2")
        return pa.chunked_array([texts])

    def _join_parts(self, table: pa.Table) -> pa.Array:
        date, clock = (combine_chunks(table[name]) for name in self._sources[:2])
        has_date, has_time = format_parts(self._format) if self._format else (False, False)
        if has_date and has_time and self._format is not None:
            texts = pc.binary_join_element_wise(
                date.cast(pa.large_string()), clock.cast(pa.large_string()), text_scalar(" ")
            )
            return parse_times(texts, self._format, name=" and ".join(self._sources[:2]))
        days = _date_texts(date, self._format if has_date else None, self._sources[0])
        clocks = _clock_texts(
            clock, self._format if has_time else None, self._sources[1], self._unit
        )
        if len(self._sources) > 2:
            clocks = _append_nanoseconds(
                clocks, combine_chunks(table[self._sources[2]]), self._sources
            )
        return pc.binary_join_element_wise(days, clocks, text_scalar(" "))


def _date_texts(array: pa.Array, time_format: str | None, name: str) -> pa.Array:
    """Return dates as ISO 8601 texts; what is no date stays as it is."""
    data_type = array.type
    if pa.types.is_dictionary(data_type):
        array = array.cast(data_type.value_type)
    if pa.types.is_timestamp(array.type):
        if not all_at_midnight(array.drop_null()):
            raise InputError(
                f"column {name!r} is read as the date alone, and has a time of day", column=name
            )
        array = array.cast(pa.date32())
    if pa.types.is_floating(array.type):
        array = array.cast(pa.int64())
    texts = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    if time_format is not None:
        return parse_times(texts, time_format, name=name, value_type=pl.Date).cast(
            pa.large_string()
        )
    texts = pc.replace_substring_regex(texts, _AT_MIDNIGHT, "")
    texts = pc.replace_substring_regex(texts, r"^(\d{4})(\d{2})(\d{2})(\.0*)?$", r"\1-\2-\3")
    return pc.replace_substring_regex(texts, r"^(\d{4})[./](\d{2})[./](\d{2})$", r"\1-\2-\3")


def _clock_texts(
    array: pa.Array, time_format: str | None, name: str, unit: TimeUnit | None
) -> pa.Array:
    """Return times of day as texts, hours of two digits; what is none stays as it is."""
    data_type = array.type
    if pa.types.is_dictionary(data_type):
        array = array.cast(data_type.value_type)
    if pa.types.is_duration(array.type):
        array = _since_midnight(array.cast(pa.duration("ns")).cast(pa.int64()), 1, name)
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        if unit is not None:
            array = _since_midnight(_whole(array, _NANOSECONDS_PER_UNIT[unit], name), 1, name)
        elif time_format is None:
            raise InputError(
                f"column {name!r} holds numbers for times of day: say their unit since midnight "
                f"with timestamp_unit='s', 'ms', 'us' or 'ns', or their format with "
                f"time_format='%H%M%S' where 93000 is 09:30:00",
                column=name,
            )
    texts = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    if time_format is not None:
        if _ATTACHED_CLOCK.match(time_format):
            # A number has lost the zero of an hour before 10.
            digits = pc.replace_substring_regex(texts, r"^(\d+)\.0*$", r"\1")
            is_number = pc.match_substring_regex(digits, r"^\d+$")
            padded = pc.utf8_lpad(digits, time_format.count("%") * 2, "0")
            texts = pc.if_else(is_number, padded, texts)
        read = parse_times(texts, time_format, name=name, value_type=pl.Time)
        return read.cast(pa.large_string())
    if unit is not None and pc.all(pc.match_substring_regex(texts, r"^\d+(\.\d*)?$")).as_py():
        from decimal import Decimal

        size = _NANOSECONDS_PER_UNIT[unit]
        exact = [None if text is None else Decimal(text) * size for text in texts.to_pylist()]
        if any(text is not None and text != int(text) for text in exact):
            raise InputError(f"column {name!r} has a part of a nanosecond", column=name)
        whole = pa.array([None if text is None else int(text) for text in exact], pa.int64())
        return _since_midnight(whole, 1, name).cast(pa.large_string())
    texts = pc.replace_substring_regex(texts, r"^(\d{2})(\d{2})(\d{2})(\d{9})$", r"\1:\2:\3.\4")
    texts = pc.replace_substring_regex(texts, r"^(0+ days? |0*D)", "")
    texts = pc.replace_substring_regex(texts, r"^(\d:)", r"0\1")
    return pc.replace_substring_regex(texts, r"(:\d{2}),(\d)", r"\1.\2")


def _whole(array: pa.Array, size: int, name: str) -> pa.Array:
    if pa.types.is_integer(array.type):
        return pc.multiply_checked(array.cast(pa.int64()), size)
    scaled = pc.multiply(array.cast(pa.float64()), float(size))
    whole = pc.round(scaled)
    if size > 1 and pc.any(pc.greater(pc.abs(pc.subtract(scaled, whole)), 0.0)).as_py():
        raise InputError(
            f"column {name!r} holds times of day as floating point numbers, which are not exact "
            f"to the nanosecond: write them as text or as integers",
            column=name,
        )
    return whole.cast(pa.int64())


def _since_midnight(nanoseconds: pa.Array, size: int, name: str) -> pa.Array:
    array = pc.multiply_checked(nanoseconds, size)
    inside = pc.and_(pc.greater_equal(array, 0), pc.less(array, _NANOSECONDS_PER_DAY))
    if pc.any(pc.invert(inside)).as_py():
        raise InputError(f"column {name!r} has a time of day outside one day", column=name)
    return array.cast(pa.time64("ns"))


def _append_nanoseconds(
    clocks: pa.Array, nanoseconds: pa.Array, sources: tuple[str, ...]
) -> pa.Array:
    """Append the digits 7 to 9 of a second."""
    number = nanoseconds.cast(pa.large_string())
    number = pc.replace_substring_regex(number, r"\.0*$", "")
    if pc.any(pc.invert(pc.match_substring_regex(number, r"^\d{1,3}$"))).as_py():
        raise InputError(
            f"column {sources[2]!r} is read as the nanoseconds of {sources[1]!r}, and has a value "
            f"outside 0 to 999",
            column=sources[2],
        )
    dotted = pc.replace_substring_regex(clocks, r"(:\d{2}:\d{2})$", r"\1.")
    if pc.any(pc.match_substring_regex(dotted, r"\.\d{7,}$")).as_py():
        raise InputError(
            f"column {sources[1]!r} has more than six digits behind the second, and "
            f"{sources[2]!r} has nanoseconds as well",
            column=sources[1],
        )
    # hh:mm:ss. and six digits are fifteen characters.
    padded = pc.utf8_rpad(dotted, 15, "0")
    return pc.binary_join_element_wise(padded, pc.utf8_lpad(number, 3, "0"), text_scalar(""))


def fits_format(column: pa.ChunkedArray, time_format: str) -> bool:
    """Return whether most texts of a column are times of day and days in this format."""
    if not is_text(column.type) or not all(format_parts(time_format)):
        return False
    texts = combine_chunks(column).drop_null()[:_SAMPLE_VALUES]
    return bool(2 * parse_times(texts, time_format).null_count < len(texts))


def format_parts(time_format: str) -> tuple[bool, bool]:
    """Return whether a format has a date, and whether it has a time of day."""
    directives = set(re.findall(r"%[-_0#:.3-9]*([A-Za-z])", time_format))
    has_date = bool(directives & set(_DATE_DIRECTIVES)) or "s" in directives
    return has_date, bool(directives & set(_TIME_DIRECTIVES))


def parse_times(
    texts: pa.Array,
    time_format: str,
    *,
    name: str | None = None,
    value_type: type[pl.Date] | type[pl.Time] | None = None,
) -> pa.Array:
    """Read texts in a format; without ``name``, texts that do not fit become null."""
    for directive, remedy in _UNPLACED_DIRECTIVES.items():
        if re.search(rf"(?<!%)(%%)*%{directive}", time_format):
            raise InputError(
                f"format {time_format!r}: %{directive} reads no instant; {remedy}",
                time_format=time_format,
            )
    pattern = re.sub(r"%(:{1,3}|#)?z", "%#z", time_format.replace(".%f", "%.f"))
    if re.search(r"(?<!%)%f", pattern):
        raise InputError(
            f"format {time_format!r}: %f needs a point before it; write %3f, %6f or %9f for so "
            f"many digits",
            time_format=time_format,
        )
    series = cast("pl.Series", pl.from_arrow(texts.cast(pa.large_string()))).str.strip_chars()
    dtype: pl.DataType | type[pl.DataType] = value_type or pl.Datetime(
        "ns", "UTC" if "%#z" in pattern else None
    )
    try:
        read = series.str.strptime(dtype, pattern, strict=False)  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"format {time_format!r} cannot be used: {error}", time_format=time_format
        ) from error
    result = read.to_arrow()
    if name is not None:
        lost = result.null_count - series.null_count()
        long = pc.any(pc.match_substring_regex(texts, _LONG_FRACTION)).as_py()
        if lost or long:
            first = series.filter(read.is_null() & series.is_not_null())
            example = repr(first[0]) if len(first) else "a part of a nanosecond"
            raise InputError(
                f"column {name!r} has {example}, which does not fit the format {time_format!r}",
                column="timestamp",
            )
    return result


def _same_zone(tz: str | tzinfo, zone: str) -> bool:
    first_zone, second_zone = find_timezone(tz), find_timezone(zone)
    if (offset := fixed_offset(second_zone)) is not None:
        return fixed_offset(first_zone) == offset
    return getattr(first_zone, "key", None) == getattr(second_zone, "key", None)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
