"""Convert times of users to UTC nanoseconds, without guesses.

A naive time needs a zone. A number needs a unit, unless its size leaves only one: from 1990 to
2100 seconds, milliseconds, microseconds and nanoseconds since 1970 never look alike.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ibticks.calendar import find_timezone, fixed_offset, refuse_local_mean_time
from ibticks.config import NANOSECONDS
from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames._arrays import combine_chunks
from ibticks.frames._schema import TIMESTAMP
from ibticks.schema import COLUMNS, FieldType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from ibticks._types import TimeUnit

__all__ = [
    "Times",
    "check_time_of_day",
    "has_time_objects",
    "read_time_objects",
    "read_times",
    "utc_nanoseconds",
]

Times: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]
_UNIT_NS: Final[dict[str, int]] = {"s": NANOSECONDS, "ms": 1_000_000, "us": 1_000, "ns": 1}
_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE_NS: Final = 60 * NANOSECONDS
_EXACT_FLOAT: Final = 2**53  # a float holds every whole number up to it
_FIRST_SECOND, _LAST_SECOND = 631_152_000, 4_102_444_800  # seconds: 1990-01-01 and 2100-01-01
# What Arrow does not read by itself, made ISO 8601: 20250110 09:30:00 (also with a hyphen, as IB
# writes it) and 2025/01/10; the zone spelled " UTC" or " GMT". Day and month never change places.
_REWRITES: Final = (
    (r"^(\d{4})(\d{2})(\d{2})[ T-]+(\d)", r"\1-\2-\3 \4"),
    (r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3"),
    (r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3"),
    (r"^(.*\S) +([+-]\d{2}:?\d{2})$", r"\1\2"),
    (r"^(.*\S) *(UTC|GMT|z)$", r"\1Z"),
)
_ZONED: Final = r":\d{2}(\.\d+)?(Z|[+-]\d{2}(:?\d{2})?)$"
_NUMBER: Final = r"^-?\d+(\.\d*)?$"
_LONG_NUMBER: Final = r"^-?\d{9,}(\.\d*)?$"  # a shorter one is a date
_DIGITS_DATE: Final = r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_ISO_DATE_ONLY: Final = r"^\s*\d{4}(-\d{2}-\d{2}|/\d{2}/\d{2}|\.\d{2}\.\d{2})\s*$"

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_DAY_SECONDS: Final = 86_400
_NAIVE: Final = pa.timestamp("ns")
_INT64: Final = range(-(2**63) + 1, 2**63)

# Nanoseconds since 1970 and whether they are of UTC, or a text.
_Read = tuple[int, bool] | str | None


def has_time_objects(name: str, values: Sequence[Any]) -> bool:
    """Return whether a column of objects is one of times and holds datetimes or dates."""
    field = COLUMNS.get(name)
    if field is None or field.type not in (FieldType.TIME, FieldType.SECONDS):
        return False
    return any(isinstance(value, (date, np.datetime64)) for value in values)


def read_time_objects(name: str, values: Sequence[Any]) -> pa.Array:
    """Read objects as times.

    Parameters
    ----------
    name : str
        Of the column, for errors.
    values : sequence of datetime, date, numpy.datetime64, str or None
        None, NaT and NaN are absent.

    Returns
    -------
    pyarrow.Array
        UTC nanoseconds where the values have a zone, naive ones where they have none; texts where
        some of the values are texts.

    Raises
    ------
    NaiveDatetimeError
        If some values have a zone and others do not.
    InputError
        If a value is none of these, is outside of what nanoseconds in 64 bits can count, or has a
        zone of pytz that was never localized.

    Examples
    --------
    >>> from datetime import UTC
    >>> read_time_objects("time", [datetime(2025, 1, 10, tzinfo=UTC), None]).to_pylist()
    [Timestamp('2025-01-10 00:00:00+0000', tz='UTC'), None]
    """
    read = [_read(name, row, value) for row, value in enumerate(values)]
    aware, naive = (
        [row for row, value in enumerate(read) if _is_aware(value) is wanted]
        for wanted in (True, False)
    )
    if aware and naive:
        raise NaiveDatetimeError(
            f"column {name!r}, row {naive[0]}: {values[naive[0]]} has no time zone, while row "
            f"{aware[0]} has one: give all times a zone, or none and tz=",
            column=name,
            row=naive[0],
        )
    if any(isinstance(value, str) for value in read):
        return pa.array([_text(value) for value in read], pa.large_string())
    times = pa.array([None if value is None else value[0] for value in read], pa.int64())
    return times.cast(TIMESTAMP if aware else _NAIVE)


def _read(name: str, row: int, value: Any) -> _Read:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        if value != value:  # NaT is a datetime that equals nothing
            return None
        refuse_local_mean_time(value, name)
        offset = value.utcoffset()
        seconds = (value.toordinal() - _EPOCH_ORDINAL) * _DAY_SECONDS
        seconds += value.hour * 3600 + value.minute * 60 + value.second
        # Exact, where timestamp() is a float; pandas keeps what is below the microsecond apart.
        fraction = value.microsecond * 1000 + getattr(value, "nanosecond", 0)
        whole = seconds * NANOSECONDS + fraction
        if offset is not None:
            whole -= offset // timedelta(microseconds=1) * 1000
        return _checked(name, row, whole), offset is not None
    if isinstance(value, date):
        days = value.toordinal() - _EPOCH_ORDINAL
        return _checked(name, row, days * _DAY_SECONDS * NANOSECONDS), False
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            return None
        nanoseconds = value.astype("datetime64[ns]")
        if nanoseconds.astype(value.dtype) != value:
            raise _outside_int64(name, row)
        return int(nanoseconds.astype(np.int64)), False
    if isinstance(value, float) and value != value:
        return None
    raise InputError(
        f"column {name!r}, row {row}: {value!r} is a {type(value).__name__}, not a time: give "
        "datetimes, Timestamps or texts",
        column=name,
        row=row,
    )


def _is_aware(value: _Read) -> bool | None:
    return None if value is None or isinstance(value, str) else value[1]


def _text(value: _Read) -> str | None:
    if value is None or isinstance(value, str):
        return value
    time_ns, is_aware = value
    return f"{np.datetime64(time_ns, 'ns')}{'Z' if is_aware else ''}"


def _checked(name: str, row: int, time_ns: int) -> int:
    if time_ns not in _INT64:
        raise _outside_int64(name, row)
    return time_ns


def _outside_int64(name: str, row: int | None = None) -> InputError:
    place = f"column {name!r} has" if row is None else f"column {name!r}, row {row}:"
    return InputError(
        f"{place} a time outside 1677-09-21 to 2262-04-11, which nanoseconds in 64 bits cannot say",
        column=name,
        **({} if row is None else {"row": row}),
    )


_DIGITS_DATE_ONLY: Final = rf"^\s*{_DIGITS_DATE}\s*$"


def read_times(
    column: pa.ChunkedArray,
    name: str,
    *,
    tz: str | tzinfo | None = None,
    unit: TimeUnit | None = None,
) -> Times:
    """Read a column of times, as :func:`utc_nanoseconds`, and refuse dates without a time of day.

    Examples
    --------
    >>> read_times(pa.chunked_array([["2025-01-10T09:30Z"]]), "time")
    (array([1736501400000000000]), None)
    """
    check_time_of_day(column, name, unit)
    return utc_nanoseconds(column, name, tz=tz, unit=unit)


def utc_nanoseconds(
    column: pa.ChunkedArray,
    name: str,
    *,
    tz: str | tzinfo | None = None,
    unit: TimeUnit | None = None,
) -> Times:
    """Read a column of times.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Timestamps or dates of any resolution and zone, their texts (ISO 8601 and IB's
        ``20250110 09:30:00``), or numbers since 1970-01-01T00:00Z.
    name : str
        The column's name, for errors.
    tz : str or tzinfo, optional
        Zone of times that have none: see :func:`ibticks.calendar.find_timezone`.
    unit : {"s", "ms", "us", "ns"}, optional
        Unit of numbers.

    Returns
    -------
    times : numpy.ndarray
        int64, UTC nanoseconds, shape ``(rows,)``.
    valid : numpy.ndarray or None
        bool, False where there was none; None where all are there.

    Raises
    ------
    NaiveDatetimeError
        If times are naive and ``tz`` is not given.
    InputError
        If the column cannot be read as times, a time is not within 1677 to 2262, the unit is not
        clear, or a local time happened twice or never.

    Examples
    --------
    >>> times = pa.chunked_array([["2025-01-10 09:30", "20250110-09:30:00.5"]])
    >>> utc_nanoseconds(times, "time", tz="America/New_York")[0]
    array([1736519400000000000, 1736519400500000000])
    """
    array = combine_chunks(column)
    if array.null_count == len(array):
        return np.zeros(len(array), dtype=np.int64), np.zeros(len(array), dtype=np.bool_)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_decimal(array.type) or _is_text(array.type):
        array = array.cast(pa.large_string())
        if _all_match(array, _LONG_NUMBER if unit is None else _NUMBER):
            return _split_numbers(array, name, unit)
        array = _read_texts(array, name)
    data_type = array.type
    if pa.types.is_integer(data_type) or pa.types.is_floating(data_type):
        return _read_numbers(array, name, unit)
    if pa.types.is_date(data_type):
        array = array.cast(pa.timestamp("s" if pa.types.is_date32(data_type) else "ms"))
    elif not pa.types.is_timestamp(data_type):
        raise InputError(f"column {name!r} holds {data_type}, not times", column=name)
    return _values(_in_utc(_in_nanoseconds(array, name), name, tz))


def _is_text(data_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(data_type)
        or pa.types.is_large_string(data_type)
        or pa.types.is_string_view(data_type)
    )


def _all_match(texts: pa.Array, pattern: str) -> bool:
    values = texts.drop_null()
    # The first value almost always decides.
    return all(
        pc.all(pc.match_substring_regex(sample, pattern)).as_py() for sample in (values[:1], values)
    )


def _values(array: pa.Array) -> Times:
    whole = array.view(pa.int64())
    if not whole.null_count:
        return whole.to_numpy(), None
    valid = whole.is_valid().to_numpy(zero_copy_only=False)
    return whole.fill_null(0).to_numpy(), valid


def _in_nanoseconds(array: pa.Array, name: str) -> pa.Array:
    try:
        return array.cast(pa.timestamp("ns", array.type.tz))
    except pa.ArrowInvalid as error:
        raise _outside_int64(name) from error


def _in_utc(array: pa.Array, name: str, tz: str | tzinfo | None) -> pa.Array:
    if array.type.tz is not None:
        return array.cast(TIMESTAMP)
    if tz is None:
        raise NaiveDatetimeError(
            f"column {name!r} holds times without a time zone: say which with tz=, for example "
            f"tz='America/New_York' or tz='UTC'",
            column=name,
        )
    zone = find_timezone(tz)
    if (offset := fixed_offset(zone)) is not None:
        try:
            shifted = pc.subtract_checked(array.view(pa.int64()), offset // _MICROSECOND * 1000)
        except pa.ArrowInvalid as error:
            raise _outside_int64(name) from error
        return shifted.view(pa.timestamp("ns")).cast(TIMESTAMP)
    key = getattr(zone, "key", None)
    if not isinstance(key, str):
        return _localize(array, name, zone)
    try:
        # polars carries the time zones itself; Arrow needs those of the system.
        zoned = cast("pl.Series", pl.from_arrow(array)).dt.replace_time_zone(key)
    except pl.exceptions.ComputeError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"column {name!r} cannot be placed in zone {key!r}: {reason}", column=name, tz=key
        ) from error
    return zoned.dt.convert_time_zone("UTC").to_arrow()


def _localize(array: pa.Array, name: str, zone: tzinfo) -> pa.Array:
    """Place naive times in a zone of which only Python knows the offsets."""
    times, valid = _values(array)
    minutes, places = np.unique(times // _MINUTE_NS, return_inverse=True)
    offsets = np.empty(len(minutes), dtype=np.int64)
    for place, minute in enumerate(minutes.tolist()):
        naive = _EPOCH + timedelta(minutes=minute)
        local = naive.replace(tzinfo=zone)
        first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
        back = local.astimezone(UTC).astimezone(zone).replace(tzinfo=None)
        if first is None or first != second or back != naive:
            raise InputError(
                f"column {name!r} cannot be placed in zone {zone}: {naive} happened there twice or "
                "never",
                column=name,
                tz=str(zone),
            )
        offsets[place] = first // _MICROSECOND * 1000
    placed = pa.array(times - offsets[places], mask=None if valid is None else ~valid)
    return placed.cast(TIMESTAMP)


def _read_texts(texts: pa.Array, name: str) -> pa.Array:
    for data_type in (pa.timestamp("ns"), TIMESTAMP):
        # What Arrow reads by itself, it reads several times faster than it rewrites.
        with suppress(pa.ArrowInvalid):
            return texts.cast(data_type)
    texts = pc.utf8_trim_whitespace(texts)
    for pattern, replacement in _REWRITES:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    zoned = pc.any(pc.match_substring_regex(texts, _ZONED)).as_py()
    try:
        return texts.cast(TIMESTAMP if zoned else pa.timestamp("ns"))
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {name!r} has a text that is no time: {error}; write 2025-01-10 09:30:00.123, "
            f"and either all times or none with their offset to UTC",
            column=name,
        ) from error


def _unit_of(least: float, most: float, name: str) -> TimeUnit:
    for unit, size in _UNIT_NS.items():
        seconds = NANOSECONDS / size
        if least / seconds >= _FIRST_SECOND and most / seconds < _LAST_SECOND:
            return cast("TimeUnit", unit)
    raise InputError(
        f"column {name!r} holds numbers from {least:.15g} to {most:.15g}, which could be times in "
        f"any unit: say which with timestamp_unit='s', 'ms', 'us' or 'ns'",
        column=name,
    )


def _read_numbers(array: pa.Array, name: str, unit: TimeUnit | None) -> Times:
    valid: npt.NDArray[np.bool_] | None = None
    if pa.types.is_floating(array.type):
        numbers = array.to_numpy(zero_copy_only=False).astype(np.float64)
        valid = ~np.isnan(numbers)
        numbers = np.where(valid, numbers, 0)
        whole = np.floor(numbers)
        if not bool(np.all(np.abs(whole) < 2.0**63)):
            raise _outside_int64(name)
        whole_numbers, valid = whole.astype(np.int64), _mask_or_none(valid)
        unit = unit or _unit(whole_numbers, valid, name)
        if unit == "ns" and bool(np.any(np.abs(whole) > _EXACT_FLOAT)):
            raise InputError(
                f"column {name!r} holds nanoseconds as floats, which are up to 128 ns off: read it "
                "as integers (in pandas a missing value makes floats of them: use Int64)",
                column=name,
            )
        return _scaled(whole_numbers, numbers - whole, valid, name, unit)
    try:
        numbers, valid = _values(array.cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise _outside_int64(name) from error
    return _scaled(numbers, None, valid, name, unit)


def _split_numbers(texts: pa.Array, name: str, unit: TimeUnit | None) -> Times:
    """Numbers as texts: 1723161254.087891268 has more digits than a float."""
    try:
        whole, valid = _values(pc.replace_substring_regex(texts, r"\..*$", "").cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise _outside_int64(name) from error
    behind = pc.replace_substring_regex(texts, r"^[^.]*\.?", "")
    digits = pc.utf8_slice_codeunits(pc.utf8_rpad(behind, 9, "0"), 0, 9)
    fraction, _ = _values(digits.cast(pa.int64()))
    if np.any(fraction) and np.any(whole < 0):
        raise _outside_int64(name)
    unit = unit or _unit(whole, valid, name)
    scaled, _ = _scaled(whole, None, valid, name, unit)
    longer = pc.any(pc.match_substring_regex(behind, r"^\d{9}0*[1-9]")).as_py()
    if longer or np.any(fraction * _UNIT_NS[unit] % NANOSECONDS):
        raise InputError(
            f"column {name!r} has a time with a part of a nanosecond, which would be lost: round "
            f"it, or say another unit with timestamp_unit=",
            column=name,
        )
    return scaled + fraction * _UNIT_NS[unit] // NANOSECONDS, valid


def _unit(whole: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_] | None, name: str) -> TimeUnit:
    present = whole if valid is None else whole[valid]
    return _unit_of(int(present.min()), int(present.max()), name) if len(present) else "ns"


def _scaled(
    whole: npt.NDArray[np.int64],
    fraction: npt.NDArray[np.float64] | None,
    valid: npt.NDArray[np.bool_] | None,
    name: str,
    unit: TimeUnit | None,
) -> Times:
    if unit is not None and unit not in _UNIT_NS:
        raise InputError(f"unknown unit {unit!r}: use one of {', '.join(_UNIT_NS)}", unit=unit)
    size = _UNIT_NS[unit or _unit(whole, valid, name)]
    bound = np.iinfo(np.int64).max // size
    if len(whole) and (whole.max() >= bound or whole.min() <= -bound):
        raise _outside_int64(name)
    times = whole * size
    if fraction is not None:
        times += np.rint(fraction * size).astype(np.int64)
    return times, valid


def _mask_or_none(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    return None if bool(valid.all()) else valid


def check_time_of_day(column: pa.ChunkedArray, name: str, unit: TimeUnit | None = None) -> None:
    """Raise unless every value of a column of times has a time of day.

    Raises
    ------
    InputError
        If the column holds dates, or texts of which one is a date alone.
    """
    data_type = column.type
    has_dates_alone = pa.types.is_date(data_type)
    if not has_dates_alone and _is_text(data_type):
        texts = combine_chunks(column).cast(pa.large_string())
        # With a unit, eight digits are a number.
        patterns = [_ISO_DATE_ONLY, *([_DIGITS_DATE_ONLY] if unit is None else [])]
        has_dates_alone = any(
            pc.any(pc.match_substring_regex(texts, pattern)).as_py() for pattern in patterns
        )
    if has_dates_alone and len(column) > column.null_count:
        raise InputError(
            f"column {name!r} has a date without a time of day, which would become midnight: give "
            f"both in one value, such as 2025-01-10 09:30:00",
            column=name,
        )
