"""What a frame says about itself: its selection and the time ranges that are missing.

In Arrow it is JSON under ``b"ibticks"`` of the schema, in pandas ``df.attrs["ibticks"]``, in
xarray JSON in ``ds.attrs["ibticks"]``. A polars frame carries no metadata.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KEY", "attach", "metadata_of", "missing_of"]

KEY: Final = "ibticks"
"""Under which name the metadata stands."""

Range = tuple[int, int]


def attach(
    metadata: Mapping[str, Any] | None, missing: Iterable[Range], left_out: Iterable[str] = ()
) -> dict[bytes, bytes]:
    """Arrow schema metadata made of what the caller says and what could not be read.

    Parameters
    ----------
    metadata : mapping, optional
        What JSON can hold; anything else becomes its text. Its own ``"missing"`` is kept, too.
    missing : iterable of (int, int)
        Half-open ranges of UTC nanoseconds; in the result they are RFC 3339 texts under
        ``"missing"``, sorted, those that touch joined.
    left_out : iterable of str
        The files that the ranges are missing from; under ``"left_out"``, where there are any.

    Examples
    --------
    >>> attach({"selection": "AAPL last"}, [(0, 10**9)])[b"ibticks"].decode()
    '{"selection": "AAPL last", "missing": [["1970-01-01T00:00:00.000000000Z",
    "1970-01-01T00:00:01.000000000Z"]]}'
    """
    said = dict(metadata or {})
    ranges = _joined([*missing, *missing_of(said)])
    said["missing"] = [[_text(start), _text(end)] for start, end in ranges]
    if files := sorted({*left_out, *said.get("left_out", ())}):
        said["left_out"] = files
    return {KEY.encode(): json.dumps(said, default=str, ensure_ascii=False).encode()}


def metadata_of(data: Any) -> dict[str, Any]:
    """The metadata of an Arrow table or schema, a pandas frame or an xarray dataset.

    Parameters
    ----------
    data : pyarrow.Table, pyarrow.Schema, pandas.DataFrame or xarray.Dataset

    Returns
    -------
    dict
        With ``"missing"`` if ibticks made the frame; empty if it did not.

    Raises
    ------
    InputError
        If ``data`` is something that carries no metadata (a polars frame).

    Examples
    --------
    >>> from ibticks.frames import to_table
    >>> metadata_of(to_table([], ["timestamp"], metadata={"selection": "AAPL last"}))
    {'selection': 'AAPL last', 'missing': []}
    """
    if isinstance(data, pa.Table | pa.Schema | pa.RecordBatch):
        schema = data if isinstance(data, pa.Schema) else data.schema
        text = (schema.metadata or {}).get(KEY.encode(), b"{}")
    elif isinstance(attrs := getattr(data, "attrs", None), dict):
        text = attrs.get(KEY, {})
    else:
        raise InputError(
            f"a {type(data).__name__} carries no metadata: ask the selection, or its Arrow table"
        )
    said = json.loads(text) if isinstance(text, str | bytes) else text
    return dict(said)


def missing_of(metadata: Mapping[str, Any]) -> tuple[Range, ...]:
    """The missing ranges in UTC nanoseconds that :func:`attach` wrote down."""
    return tuple((_instant(start), _instant(end)) for start, end in metadata.get("missing", ()))


def _joined(ranges: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _text(instant: int) -> str:
    return f"{np.datetime64(instant, 'ns')}Z"


def _instant(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))
