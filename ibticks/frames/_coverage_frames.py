"""Stretches of coverage as frames: one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import polars as pl

__all__ = ["stretches_to_pandas", "stretches_to_polars"]


class _Stretch(Protocol):
    @property
    def contract_id(self) -> int: ...
    @property
    def tick_type(self) -> str: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...


def stretches_to_polars(stretches: Sequence[_Stretch]) -> pl.DataFrame:
    """A polars frame: ``contract_id tick_type start end duration state reason``.

    Examples
    --------
    >>> stretches_to_polars([]).schema["start"]
    Datetime(time_unit='ns', time_zone='UTC')
    """
    import polars as pl

    return cast("pl.DataFrame", pl.from_arrow(_table(stretches)))


def stretches_to_pandas(stretches: Sequence[_Stretch]) -> pd.DataFrame:
    """A pandas frame with the same columns.

    Examples
    --------
    >>> stretches_to_pandas([]).dtypes["duration"]
    dtype('<m8[ns]')
    """
    return cast("pd.DataFrame", _table(stretches).to_pandas())


def _table(stretches: Sequence[_Stretch]) -> pa.Table:
    time, duration = pa.timestamp("ns", "UTC"), pa.duration("ns")
    lengths = [each.end_ns - each.start_ns for each in stretches]
    return pa.table(
        {
            "contract_id": pa.array([each.contract_id for each in stretches], pa.uint32()),
            "tick_type": pa.array([each.tick_type for each in stretches], pa.string()),
            "start": pa.array([each.start_ns for each in stretches], pa.int64()).cast(time),
            "end": pa.array([each.end_ns for each in stretches], pa.int64()).cast(time),
            "duration": pa.array(lengths, pa.int64()).cast(duration),
            "state": pa.array([str(each.state) for each in stretches], pa.string()),
            "reason": pa.array([each.reason for each in stretches], pa.string()),
        }
    )
