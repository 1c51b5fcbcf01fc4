"""Columns of Python objects that are times: datetimes, Timestamps, dates and texts, also mixed.

Arrow reads such objects by the microsecond and by the zone of the first of them. Here each is read
by itself, to the nanosecond.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ibticks.calendar import refuse_local_mean_time
from ibticks.config import NANOSECONDS
from ibticks.errors import InputError, NaiveDatetimeError
from ibticks.frames._schema import TIMESTAMP
from ibticks.schema import COLUMNS, FieldType

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["has_time_objects", "read_time_objects"]

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


def _outside_int64(name: str, row: int) -> InputError:
    return InputError(
        f"column {name!r}, row {row}: a time outside 1677-09-21 to 2262-04-11, which nanoseconds "
        "in 64 bits cannot say",
        column=name,
        row=row,
    )
