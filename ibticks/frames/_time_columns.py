"""Time columns of a foreign file, judged by their values and joined.

A column that lacks the time of day never becomes ``timestamp`` alone: it is joined with the column
that has it, or refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.calendar import find_timezone, fixed_offset
from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames._chunks import joined
from ibticks.frames._times import utc_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

    from ibticks.frames._naming import TimeNames
    from ibticks.frames._times import Unit

__all__ = [
    "TimeContent",
    "TimeReader",
    "check_time_of_day",
    "choose_time",
    "fits_format",
    "time_content",
]

TimeContent: TypeAlias = Literal["instant", "midnight", "date", "time_of_day", "number", "none"]
"""Content of a column: days with a time of day, days with the time 00:00 in every row, days alone,
times of day alone, numbers that name no time by themselves, or nothing that is a time."""

_SAMPLE_VALUES: Final = 10_000
_NANOSECONDS_PER_DAY: Final = 86_400_000_000_000
_NANOSECONDS_PER_UNIT: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

_FRACTION: Final = r"([.,]\d+)?"
_CLOCK: Final = rf"\d{{1,2}}:\d{{2}}(:\d{{2}}{_FRACTION})?"
_TIME_OF_DAY: Final = rf"^(\d+ days? |\d*D)?{_CLOCK} ?([AaPp][Mm])?(Z|[+-]\d{{2}}:?\d{{2}})?$"
_DIGITS_DATE: Final = r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_DATE_ONLY: Final = (
    rf"^(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|{_DIGITS_DATE}|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}"
    r"|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})$"
)
_WITH_TIME: Final = rf"\d.*[ TtD-]{_CLOCK}"
_AT_MIDNIGHT: Final = r"[ Tt]0{1,2}:00(:00(\.0+)?)?$"
_DIGITS: Final = r"^\d{9,}(\.\d*)?$"
_CLOCK_DIGITS: Final = r"^([01]\d|2[0-3])[0-5]\d[0-5]\d\d{9}$"  # HHMMSS and nine more, as in TAQ
_ATTACHED_CLOCK: Final = re.compile(r"^%H%M(%S)?$")
_ISO_DATE_ONLY: Final = r"^\s*\d{4}(-\d{2}-\d{2}|/\d{2}/\d{2}|\.\d{2}\.\d{2})\s*$"
_DIGITS_DATE_ONLY: Final = rf"^\s*{_DIGITS_DATE}\s*$"
_LONG_FRACTION: Final = r"[.,]\d{10,}"

# The parser passes over the first, and takes the second for a time of the zone given.
_UNPLACED_DIRECTIVES: Final = {
    "Z": "write the name of the zone itself in the format, and give the zone with tz=",
    "s": "leave the format out, and give the unit of the numbers with timestamp_unit='s'",
}
_DATE_DIRECTIVES: Final = "aAbBcdDeFgGhjmuUvVwWxyY"
_TIME_DIRECTIVES: Final = "cHIklMpPrRsSTX"


def time_content(column: pa.ChunkedArray, unit: Unit | None = None) -> TimeContent:
    """Judge what kind of time the values of a column are, by most of them.

    Examples
    --------
    >>> time_content(pa.chunked_array([["2025-01-10", "2025-01-13"]]))
    'date'
    >>> time_content(pa.chunked_array([["09:30:00.25", "9:31"]]))
    'time_of_day'
    """
    array = joined(column)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return time_content(pa.chunked_array([array.cast(kind.value_type)]), unit)
    array = array.drop_null()[:_SAMPLE_VALUES]
    if not len(array) or pa.types.is_boolean(kind):
        return "none"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return "time_of_day"
    if pa.types.is_timestamp(kind):
        return "instant" if kind.tz or not _all_at_midnight(array) else "midnight"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _number_content(array.cast(pa.float64(), safe=False), unit)
    if not _is_text(kind):
        return "none"
    return _text_content(pc.utf8_trim_whitespace(array.cast(pa.large_string())), unit)


def _all_at_midnight(array: pa.Array) -> bool:
    midnight = pc.floor_temporal(array, unit="day")
    return bool(pc.all(pc.equal(midnight, array)).as_py())


def _number_content(numbers: pa.Array, unit: Unit | None) -> TimeContent:
    days = pc.and_(pc.greater_equal(numbers, 19000101), pc.less(numbers, 21010101))
    months = pc.floor(pc.divide(numbers, 100))
    month = pc.subtract(months, pc.multiply(pc.floor(pc.divide(months, 100)), 100))
    is_month = pc.and_(pc.greater_equal(month, 1), pc.less_equal(month, 12))
    whole = pc.equal(numbers, pc.floor(numbers))
    if pc.all(pc.and_(days, pc.and_(is_month, whole))).as_py():
        return "date"
    if unit is not None:
        # Within one day it may as well be the time since midnight.
        day = _NANOSECONDS_PER_DAY // _NANOSECONDS_PER_UNIT.get(unit, 1)
        return "number" if pc.all(pc.less(numbers, day)).as_py() else "instant"
    # Seconds, milliseconds, microseconds and nanoseconds from 1990 to 2100.
    epochs = [
        pc.and_(
            pc.greater_equal(numbers, 631_152_000 * size), pc.less(numbers, 4_102_444_800 * size)
        )
        for size in (1.0, 1e3, 1e6, 1e9)
    ]
    inside = pc.or_(pc.or_(epochs[0], epochs[1]), pc.or_(epochs[2], epochs[3]))
    most = 2 * (pc.sum(pc.cast(inside, pa.int64())).as_py() or 0) > len(numbers)
    return "instant" if most else "number"


def _text_content(texts: pa.Array, unit: Unit | None) -> TimeContent:
    def count(pattern: str) -> int:
        matches = pc.match_substring_regex(texts, pattern)
        return int(pc.sum(pc.cast(matches, pa.int64())).as_py() or 0)

    half = len(texts) / 2
    if count(_CLOCK_DIGITS) == len(texts):
        return "time_of_day"
    if count(_DATE_ONLY) > half:
        return "date"
    if count(r"^-?\d+(\.\d*)?$") > half:
        numbers = pc.if_else(pc.match_substring_regex(texts, r"^-?\d+(\.\d*)?$"), texts, None)
        return _number_content(numbers.drop_null().cast(pa.float64()), unit)
    if count(_TIME_OF_DAY) > half:
        return "time_of_day"
    if count(_WITH_TIME) > half:
        return "midnight" if count(_AT_MIDNIGHT) == len(texts) else "instant"
    return "none"


def choose_time(
    names: TimeNames,
    sample: pa.Table,
    *,
    unit: Unit | None = None,
    time_format: str | None = None,
    explicit: tuple[str, ...] | None = None,
) -> tuple[str, ...] | None:
    """Choose the columns that ``timestamp`` is read from, by their values.

    Parameters
    ----------
    names : TimeNames
    sample : pyarrow.Table
        The first rows of the columns that may hold times.
    unit : {"s", "ms", "us", "ns"}, optional
    time_format : str, optional
        Format of text times, in the words of ``strptime``.
    explicit : tuple of str, optional
        Columns that the user chose.

    Returns
    -------
    tuple of str or None
        One column, or a date and a time of day and maybe nanoseconds; None where the values do not
        decide.

    Raises
    ------
    InputError
        If a time of day or a date is missing, or several columns would do and differ.
    """
    content = {
        name: _content_in_format(sample[name], unit, time_format) for name in sample.column_names
    }
    if explicit is not None:
        _check_explicit(explicit, content, names)
        return _with_nanoseconds(explicit, names, sample)
    if not any(kind != "none" for kind in content.values()):
        return None
    instants = [
        [name for name in tier if content.get(name) == "instant"] for tier in names.instants
    ]
    for tier in instants:
        if tier:
            _check_same_instants(tier, sample, unit, time_format)
            _check_whole(tier[0], names, sample, unit, time_format)
            return (tier[0],)
    dates = [name for name in names.dates if content.get(name) in ("date", "midnight")]
    clocks = [
        name
        for name in names.times_of_day
        if name not in dates
        and (
            content.get(name) == "time_of_day"
            or (unit is not None and content.get(name) == "number")
        )
    ]
    # A date may also stand under the name of a time, beside a time of day.
    dates = dates or [
        name
        for tier in names.instants
        for name in tier
        if content.get(name) in ("date", "midnight")
    ]
    if dates and clocks:
        dates = _without_equal_columns(dates, sample)
        clocks = _without_equal_columns(clocks, sample)
        if len(dates) > 1 or len(clocks) > 1:
            raise InputError(
                f"timestamp may be joined from {_listed(dates)} and {_listed(clocks)}: say which "
                f"with mapping={{'timestamp': '{dates[0]}+{clocks[0]}'}}",
                column=dates[0],
            )
        return _with_nanoseconds((dates[0], clocks[0]), names, sample)
    midnights = [
        name
        for tier in names.instants
        for name in tier
        if content.get(name) == "midnight" and name not in names.dates
    ]
    if midnights:
        return (midnights[0],)
    if dates:
        raise _half(dates[0], "dates without a time of day", names)
    if clocks:
        raise _half(clocks[0], "times of day without a date", names)
    return None


def _content_in_format(
    column: pa.ChunkedArray, unit: Unit | None, time_format: str | None
) -> TimeContent:
    """Judge a column of texts by a format, where one is given that fits most of them."""
    content = time_content(column, unit)
    if time_format is None or not _is_text(column.type):
        return content
    texts = joined(column).drop_null()[:_SAMPLE_VALUES]
    if not len(texts):
        return content
    has_date, has_time = _format_parts(time_format)
    part = None if has_date and has_time else pl.Date if has_date else pl.Time
    read = _parse(texts, time_format, kind=part)
    if 2 * read.null_count > len(texts):
        return content
    if has_date and has_time:
        return "instant"
    return "date" if has_date else "time_of_day"


def _check_explicit(
    explicit: tuple[str, ...], content: Mapping[str, TimeContent], names: TimeNames
) -> None:
    kinds = [content.get(name, "none") for name in explicit]
    if len(explicit) == 1:
        if kinds[0] == "date":
            raise _half(explicit[0], "dates without a time of day", names)
        if kinds[0] == "time_of_day":
            raise _half(explicit[0], "times of day without a date", names)
        return
    if kinds[0] not in ("date", "midnight", "none"):
        raise InputError(
            f"column {explicit[0]!r} is to be joined with {explicit[1]!r} and holds no dates: "
            f"write mapping={{'timestamp': 'DATE+TIME'}} with the date first",
            column=explicit[0],
        )
    if kinds[1] in ("date", "midnight", "instant"):
        raise InputError(
            f"column {explicit[1]!r} is to be joined with the date in {explicit[0]!r} and holds "
            f"no times of day",
            column=explicit[1],
        )


def _half(name: str, content: str, names: TimeNames) -> InputError:
    others = [one for one in names.all if one != name]
    beside = f"; other columns that may hold times: {_listed(others)}" if others else ""
    return InputError(
        f"column {name!r} holds {content}, which is no timestamp{beside}: name the columns of "
        f"both parts with mapping={{'timestamp': 'DATE+TIME'}} (and time_format='%H%M%S' where "
        f"93000 is 09:30:00), or one that holds both with mapping={{'timestamp': ...}}",
        column=name,
    )


def _check_same_instants(
    tier: Sequence[str], sample: pa.Table, unit: Unit | None, time_format: str | None
) -> None:
    """Refuse to choose between columns that are equally good and differ."""
    first, *others = tier
    for other in others:
        if sample[first].equals(sample[other]):
            continue
        try:
            pair = [
                TimeReader((name,), unit=unit, time_format=time_format, tz="UTC").read(sample)
                for name in (first, other)
            ]
            if pc.all(pc.equal(*pair)).as_py():
                continue
        except InputError:
            pass
        raise InputError(
            f"timestamp may be read from {_listed(tier)}, which differ: say which with "
            f"mapping={{'timestamp': {first!r}}}",
            column=first,
        )


def _check_whole(
    name: str, names: TimeNames, sample: pa.Table, unit: Unit | None, time_format: str | None
) -> None:
    """Refuse an instant whose nanoseconds are in a column of their own."""
    for part in names.nanoseconds:
        if part not in sample.column_names:
            continue
        numbers = pc.replace_substring_regex(
            joined(sample[part]).cast(pa.large_string()), r"\.0*$", ""
        )
        if not pc.any(pc.match_substring_regex(numbers, "[1-9]")).as_py():
            continue
        try:
            reader = TimeReader((name,), unit=unit, time_format=time_format, tz="UTC")
            times = reader.read(sample)
        except InputError:
            return  # the row that cannot be read is named when it is read
        if pc.all(pc.equal(pc.floor_temporal(times, unit="microsecond"), times)).as_py():
            raise InputError(
                f"column {part!r} may hold the nanoseconds that {name!r} lacks: write both in one "
                f"column, or leave the nanoseconds out with mapping={{'timestamp': {name!r}}}",
                column=part,
            )


def _without_equal_columns(columns: Sequence[str], sample: pa.Table) -> list[str]:
    first, *others = columns
    return [first, *(name for name in others if not sample[first].equals(sample[name]))]


def _with_nanoseconds(pair: tuple[str, ...], names: TimeNames, sample: pa.Table) -> tuple[str, ...]:
    """Add the column that has the last three digits of a time of day that stops at microseconds."""
    parts = [name for name in names.nanoseconds if name in sample.column_names]
    if len(pair) != 2 or not parts:
        return pair
    clock = joined(sample[pair[1]])
    if (
        _is_text(clock.type)
        and pc.any(pc.match_substring_regex(clock.cast(pa.large_string()), r"[.,]\d{7,}")).as_py()
    ):
        return pair
    return (*pair, parts[0])


class TimeReader:
    """Reads one column of instants from one column of a file, or from its parts in several.

    Parameters
    ----------
    sources : tuple of str
        An instant; or a date and a time of day; or these and a column of nanoseconds.
    zone : str, optional
        Zone that the name of the column says; only a zone of the time zone database counts.
    tz : str, optional
        Zone of times that do not say theirs, as the user gave it.
    unit, time_format : optional
    name : str
        Column of a tick that is read, for errors.
    """

    def __init__(
        self,
        sources: tuple[str, ...],
        *,
        name: str = "timestamp",
        zone: str | None = None,
        tz: str | tzinfo | None = None,
        unit: Unit | None = None,
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
            column = pa.chunked_array([self._joined(table)])
        return pa.chunked_array([self._in_utc(column)])

    def _in_utc(self, column: pa.ChunkedArray) -> pa.Array:
        unit = None if len(self._sources) > 1 else self._unit
        check_time_of_day(column, self._name, unit)
        if self._zone is not None:
            return self._in_named_zone(column, unit)
        try:
            times, valid = utc_nanoseconds(column, self._name, tz=self._tz, unit=unit)
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
        if self._format is not None or not _is_text(column.type):
            return error
        if "timestamp_unit=" in str(error):
            return error
        return type(error)(
            f"{error}; if all times are written like this, say their format with time_format=",
            **error.context,
        )

    def _in_named_zone(self, column: pa.ChunkedArray, unit: Unit | None) -> pa.Array:
        zone = self._zone
        try:
            times, valid = utc_nanoseconds(column, self._name, unit=unit)
        except NaiveDatetimeError as error:
            if self._tz is not None and not _same_zone(self._tz, str(zone)):
                raise InputError(
                    f"the name of column {self._sources[-1]!r} says {zone}, and "
                    f"tz={str(self._tz)!r} was given: leave tz= out, or choose the column by "
                    f"mapping={{{self._name!r}: {'+'.join(self._sources)!r}}} to read it in that "
                    f"zone",
                    column=self._name,
                ) from error
            times, valid = utc_nanoseconds(column, self._name, tz=zone, unit=unit)
        mask = None if valid is None else ~valid
        return pa.array(times, pa.int64(), mask=mask).cast(pa.timestamp("ns", "UTC"))

    def _instants(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not _is_text(column.type):
            return column
        texts = joined(column).cast(pa.large_string())
        if self._format is not None:
            has_date, has_time = _format_parts(self._format)
            if has_date and has_time:
                return pa.chunked_array([_parse(texts, self._format, name=self._sources[0])])
        if pc.any(pc.match_substring_regex(texts, r"^\d{4}\.\d{2}\.\d{2}[DT ]|:\d{2},\d")).as_py():
            texts = pc.replace_substring_regex(
                texts, r"^(\d{4})\.(\d{2})\.(\d{2})[DT ]", r"\1-\2-\3 "
            )
            texts = pc.replace_substring_regex(texts, r"(:\d{2}),(\d)", r"\1.\2")
        return pa.chunked_array([texts])

    def _joined(self, table: pa.Table) -> pa.Array:
        date, clock = (joined(table[name]) for name in self._sources[:2])
        has_date, has_time = _format_parts(self._format) if self._format else (False, False)
        if has_date and has_time and self._format is not None:
            texts = pc.binary_join_element_wise(
                date.cast(pa.large_string()), clock.cast(pa.large_string()), _text(" ")
            )
            return _parse(texts, self._format, name=" and ".join(self._sources[:2]))
        days = _date_texts(date, self._format if has_date else None, self._sources[0])
        clocks = _clock_texts(
            clock, self._format if has_time else None, self._sources[1], self._unit
        )
        if len(self._sources) > 2:
            clocks = _append_nanoseconds(clocks, joined(table[self._sources[2]]), self._sources)
        return pc.binary_join_element_wise(days, clocks, _text(" "))


def check_time_of_day(column: pa.ChunkedArray, name: str, unit: Unit | None = None) -> None:
    """Raise unless every value of a column of times has a time of day.

    Raises
    ------
    InputError
        If the column holds dates, or texts of which one is a date alone.
    """
    kind = column.type
    alone = pa.types.is_date(kind)
    if not alone and _is_text(kind):
        texts = joined(column).cast(pa.large_string())
        # With a unit, eight digits are a number.
        patterns = [_ISO_DATE_ONLY, *([_DIGITS_DATE_ONLY] if unit is None else [])]
        alone = any(
            pc.any(pc.match_substring_regex(texts, pattern)).as_py() for pattern in patterns
        )
    if alone and len(column) > column.null_count:
        raise InputError(
            f"column {name!r} has a date without a time of day, which would become midnight: give "
            f"both in one value, such as 2025-01-10 09:30:00",
            column=name,
        )


def _date_texts(array: pa.Array, time_format: str | None, name: str) -> pa.Array:
    """Return dates as ISO 8601 texts; what is no date stays as it is."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
    if pa.types.is_timestamp(array.type):
        if not _all_at_midnight(array.drop_null()):
            raise InputError(
                f"column {name!r} is read as the date alone, and has a time of day", column=name
            )
        array = array.cast(pa.date32())
    if pa.types.is_floating(array.type):
        array = array.cast(pa.int64())
    texts = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    if time_format is not None:
        return _parse(texts, time_format, name=name, kind=pl.Date).cast(pa.large_string())
    texts = pc.replace_substring_regex(texts, _AT_MIDNIGHT, "")
    texts = pc.replace_substring_regex(texts, r"^(\d{4})(\d{2})(\d{2})(\.0*)?$", r"\1-\2-\3")
    return pc.replace_substring_regex(texts, r"^(\d{4})[./](\d{2})[./](\d{2})$", r"\1-\2-\3")


def _clock_texts(
    array: pa.Array, time_format: str | None, name: str, unit: Unit | None
) -> pa.Array:
    """Return times of day as texts, hours of two digits; what is none stays as it is."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
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
        read = _parse(texts, time_format, name=name, kind=pl.Time)
        return read.cast(pa.large_string())
    if unit is not None and pc.all(pc.match_substring_regex(texts, r"^\d+(\.\d*)?$")).as_py():
        from decimal import Decimal

        size = _NANOSECONDS_PER_UNIT[unit]
        exact = [None if one is None else Decimal(one) * size for one in texts.to_pylist()]
        if any(one is not None and one != int(one) for one in exact):
            raise InputError(f"column {name!r} has a part of a nanosecond", column=name)
        whole = pa.array([None if one is None else int(one) for one in exact], pa.int64())
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
    return pc.binary_join_element_wise(padded, pc.utf8_lpad(number, 3, "0"), _text(""))


def fits_format(column: pa.ChunkedArray, time_format: str) -> bool:
    """Tell whether most texts of a column are times of day and days in this format."""
    if not _is_text(column.type) or not all(_format_parts(time_format)):
        return False
    texts = joined(column).drop_null()[:_SAMPLE_VALUES]
    return bool(2 * _parse(texts, time_format).null_count < len(texts))


def _format_parts(time_format: str) -> tuple[bool, bool]:
    """Return whether a format has a date, and whether it has a time of day."""
    directives = set(re.findall(r"%[-_0#:.3-9]*([A-Za-z])", time_format))
    has_date = bool(directives & set(_DATE_DIRECTIVES)) or "s" in directives
    return has_date, bool(directives & set(_TIME_DIRECTIVES))


def _parse(
    texts: pa.Array,
    time_format: str,
    *,
    name: str | None = None,
    kind: type[pl.Date] | type[pl.Time] | None = None,
) -> pa.Array:
    """Read texts in a format; without ``name``, texts that do not fit become null."""
    for directive, how in _UNPLACED_DIRECTIVES.items():
        if re.search(rf"(?<!%)(%%)*%{directive}", time_format):
            raise InputError(
                f"format {time_format!r}: %{directive} reads no instant; {how}",
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
    dtype: pl.DataType | type[pl.DataType] = kind or pl.Datetime(
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
    given, named = find_timezone(tz), find_timezone(zone)
    if (offset := fixed_offset(named)) is not None:
        return fixed_offset(given) == offset
    return getattr(given, "key", None) == getattr(named, "key", None)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
