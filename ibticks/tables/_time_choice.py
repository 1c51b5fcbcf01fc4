"""Choose the columns of a file that hold the time of a tick, by their values.

A column that lacks the time of day never becomes ``timestamp`` alone: it is joined with the column
that has it, or refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.errors import InputError
from ibticks.frames import combine_chunks
from ibticks.tables._files import is_text
from ibticks.tables._time_reader import TimeReader, format_parts, parse_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibticks._types import TimeUnit
    from ibticks.tables._mapping import TimeNames


__all__ = ["TimeContent", "choose_time", "time_content"]

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
_CLOCK_DIGITS: Final = r"^([01]\d|2[0-3])[0-5]\d[0-5]\d\d{9}$"  # HHMMSS and nine more, as in TAQ


def time_content(column: pa.ChunkedArray, unit: TimeUnit | None = None) -> TimeContent:
    """Judge what kind of time the values of a column are, by most of them.

    Examples
    --------
    >>> time_content(pa.chunked_array([["2025-01-10", "2025-01-13"]]))
    'date'
    >>> time_content(pa.chunked_array([["09:30:00.25", "9:31"]]))
    'time_of_day'
    """
    array = combine_chunks(column)
    data_type = array.type
    if pa.types.is_dictionary(data_type):
        return time_content(pa.chunked_array([array.cast(data_type.value_type)]), unit)
    array = array.drop_null()[:_SAMPLE_VALUES]
    if not len(array) or pa.types.is_boolean(data_type):
        return "none"
    if pa.types.is_date(data_type):
        return "date"
    if pa.types.is_time(data_type) or pa.types.is_duration(data_type):
        return "time_of_day"
    if pa.types.is_timestamp(data_type):
        return "instant" if data_type.tz or not all_at_midnight(array) else "midnight"
    if (
        pa.types.is_integer(data_type)
        or pa.types.is_floating(data_type)
        or pa.types.is_decimal(data_type)
    ):
        return _number_content(array.cast(pa.float64(), safe=False), unit)
    if not is_text(data_type):
        return "none"
    return _text_content(pc.utf8_trim_whitespace(array.cast(pa.large_string())), unit)


def all_at_midnight(array: pa.Array) -> bool:
    midnight = pc.floor_temporal(array, unit="day")
    return bool(pc.all(pc.equal(midnight, array)).as_py())


def _number_content(numbers: pa.Array, unit: TimeUnit | None) -> TimeContent:
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


def _text_content(texts: pa.Array, unit: TimeUnit | None) -> TimeContent:
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
    unit: TimeUnit | None = None,
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
        Format of text times, as for ``strptime``.
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
    if not any(one_content != "none" for one_content in content.values()):
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
        raise _incomplete_time(dates[0], "dates without a time of day", names)
    if clocks:
        raise _incomplete_time(clocks[0], "times of day without a date", names)
    return None


def _content_in_format(
    column: pa.ChunkedArray, unit: TimeUnit | None, time_format: str | None
) -> TimeContent:
    """Judge a column of texts by a format, where one is given that fits most of them."""
    content = time_content(column, unit)
    if time_format is None or not is_text(column.type):
        return content
    texts = combine_chunks(column).drop_null()[:_SAMPLE_VALUES]
    if not len(texts):
        return content
    has_date, has_time = format_parts(time_format)
    dtype = None if has_date and has_time else pl.Date if has_date else pl.Time
    read = parse_times(texts, time_format, value_type=dtype)
    if 2 * read.null_count > len(texts):
        return content
    if has_date and has_time:
        return "instant"
    return "date" if has_date else "time_of_day"


def _check_explicit(
    explicit: tuple[str, ...], content: Mapping[str, TimeContent], names: TimeNames
) -> None:
    contents = [content.get(name, "none") for name in explicit]
    if len(explicit) == 1:
        if contents[0] == "date":
            raise _incomplete_time(explicit[0], "dates without a time of day", names)
        if contents[0] == "time_of_day":
            raise _incomplete_time(explicit[0], "times of day without a date", names)
        return
    if contents[0] not in ("date", "midnight", "none"):
        raise InputError(
            f"column {explicit[0]!r} is to be joined with {explicit[1]!r} and holds no dates: "
            f"write mapping={{'timestamp': 'DATE+TIME'}} with the date first",
            column=explicit[0],
        )
    if contents[1] in ("date", "midnight", "instant"):
        raise InputError(
            f"column {explicit[1]!r} is to be joined with the date in {explicit[0]!r} and holds "
            f"no times of day",
            column=explicit[1],
        )


def _incomplete_time(name: str, content: str, names: TimeNames) -> InputError:
    others = [other for other in names.all if other != name]
    beside = f"; other columns that may hold times: {_listed(others)}" if others else ""
    return InputError(
        f"column {name!r} holds {content}, which is no timestamp{beside}: name the columns of "
        f"both parts with mapping={{'timestamp': 'DATE+TIME'}} (and time_format='%H%M%S' where "
        f"93000 is 09:30:00), or one that holds both with mapping={{'timestamp': ...}}",
        column=name,
    )


def _check_same_instants(
    tier: Sequence[str], sample: pa.Table, unit: TimeUnit | None, time_format: str | None
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
    name: str, names: TimeNames, sample: pa.Table, unit: TimeUnit | None, time_format: str | None
) -> None:
    """Refuse an instant whose nanoseconds are in a column of their own."""
    for nanoseconds in names.nanoseconds:
        if nanoseconds not in sample.column_names:
            continue
        numbers = pc.replace_substring_regex(
            combine_chunks(sample[nanoseconds]).cast(pa.large_string()), r"\.0*$", ""
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
                f"column {nanoseconds!r} may hold the nanoseconds that {name!r} lacks: write both "
                f"in one column, or leave the nanoseconds out with "
                f"mapping={{'timestamp': {name!r}}}",
                column=nanoseconds,
            )


def _without_equal_columns(columns: Sequence[str], sample: pa.Table) -> list[str]:
    first, *others = columns
    return [first, *(name for name in others if not sample[first].equals(sample[name]))]


def _with_nanoseconds(pair: tuple[str, ...], names: TimeNames, sample: pa.Table) -> tuple[str, ...]:
    """Add the column that has the last three digits of a time of day that stops at microseconds."""
    nanosecond_columns = [name for name in names.nanoseconds if name in sample.column_names]
    if len(pair) != 2 or not nanosecond_columns:
        return pair
    clock = combine_chunks(sample[pair[1]])
    if (
        is_text(clock.type)
        and pc.any(pc.match_substring_regex(clock.cast(pa.large_string()), r"[.,]\d{7,}")).as_py()
    ):
        return pair
    return (*pair, nanosecond_columns[0])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
