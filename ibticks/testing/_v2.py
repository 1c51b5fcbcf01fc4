"""Hypothesis strategies for v2 messages."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from ibticks.config import TICK_TYPES
from ibticks.schema import COLUMNS, FieldType

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from ibticks._types import TickTypeLike

__all__ = ["INT64", "UINT32", "UINT64", "WORDS", "json_values", "messages", "ticks", "timestamps"]

UINT32: Final = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 2**31, 2**32 - 1]))
UINT64: Final = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**63, 2**64 - 1]))
INT64: Final = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-1, 2**63 - 1]))
WORDS: Final = st.one_of(st.sampled_from(["", "NASDAQ", "T", "é", "\x00", "\U0001f600"]), st.text())


def timestamps(start: datetime = datetime.min, end: datetime = datetime.max) -> SearchStrategy[str]:
    """RFC 3339 times in ``[start, end]``, written as ibticks writes them.

    Parameters
    ----------
    start, end : datetime
        UTC, without a time zone. Up to 999 nanoseconds are added.

    Returns
    -------
    SearchStrategy of str
        Ending in ``Z``, with six digits after the point, or nine where the last three are not zero.
    """

    def write(moment: datetime, nanoseconds: int) -> str:
        end = f"{nanoseconds:03d}Z" if nanoseconds else "Z"
        return moment.isoformat(timespec="microseconds") + end

    nanoseconds = st.one_of(st.just(0), st.integers(0, 999))
    return st.builds(write, st.datetimes(start, end), nanoseconds)


def json_values() -> SearchStrategy[Any]:
    """Any JSON value, strings that look like one, and lone surrogates, but no NaN."""
    numbers = st.one_of(st.integers(), st.floats(allow_nan=False))
    tricky = ["5", " 5", '"5"', '"\\"5\\""', "true", "null", "NaN", "-Infinity", "1e5", "1.0", "-0"]
    strings = st.one_of(
        st.sampled_from([*tricky, '"hello"', "[]", "{}", '"\ud800"', ""]), st.text()
    )
    plain = st.one_of(st.none(), st.booleans(), numbers, strings)
    values: SearchStrategy[Any] = st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
        ),
        max_leaves=8,
    )
    return st.one_of(values, values.map(json.dumps), values.map(json.dumps).map(json.dumps))


def ticks(
    tick_type: TickTypeLike | None = None,
    *,
    contract_ids: SearchStrategy[int] | None = None,
    times: SearchStrategy[str] | None = None,
    allow_nan: bool = False,
) -> SearchStrategy[dict[str, Any]]:
    """v2 tick messages with any combination of the fields their tick type carries.

    Parameters
    ----------
    tick_type : str, optional
        ``last``, ``all_last``, ``bid_ask`` or ``mid_point``; any of them by default.
    contract_ids : SearchStrategy of int, optional
        Any uint32 by default.
    times : SearchStrategy of str, optional
        For example :func:`timestamps` with bounds; any time by default.
    allow_nan : bool, default False
        Whether prices and sizes may be NaN, which compares unequal to itself.

    Returns
    -------
    SearchStrategy of dict
        As :func:`ibticks.format.from_protobuf` would write them: a round trip gives the
        same dictionary.
    """
    if tick_type is None:
        return st.sampled_from(TICK_TYPES).flatmap(
            lambda kind: ticks(kind, contract_ids=contract_ids, times=times, allow_nan=allow_nan)
        )
    values: dict[FieldType, SearchStrategy[Any]] = {
        FieldType.FLOAT: st.floats(allow_nan=allow_nan),
        FieldType.BOOL: st.booleans(),
        FieldType.STRING: WORDS,
        FieldType.STRINGS: st.lists(WORDS, min_size=1, max_size=4),
        FieldType.UINT64: UINT64,
        FieldType.SECONDS: INT64,
    }
    always = {
        "contract_id": UINT32 if contract_ids is None else contract_ids,
        "tick_type": st.just(tick_type),
    }
    aside = {*always, "timestamp", "stream_id", "metadata"}
    optional = {
        field.name: values[field.type]
        for field in COLUMNS.values()
        if tick_type in field.tick_types and field.name not in aside
    }
    return _v2("tick", st.fixed_dictionaries(always, optional=optional), times)


def messages() -> SearchStrategy[dict[str, Any]]:
    """v2 messages of all four types, as ``ibticks.format._messages.from_protobuf`` writes them."""
    details = st.dictionaries(WORDS, json_values(), min_size=1, max_size=3)
    errors = st.fixed_dictionaries(
        {"code": WORDS, "message": WORDS, "recoverable": st.booleans()},
        optional={"details": details},
    )
    completions = st.fixed_dictionaries(
        {
            "reason": WORDS,
            "total_ticks": UINT64,
            "duration_seconds": st.floats(allow_nan=False),
        },
        optional={"final_sequence": UINT64},
    )
    contracts = st.fixed_dictionaries(
        {"symbol": WORDS, "exchange": WORDS, "currency": WORDS, "contract_type": WORDS}
    )
    configs = st.fixed_dictionaries(
        {"tick_type": WORDS}, optional={"limit": UINT64, "timeout_seconds": UINT32}
    )
    infos = st.fixed_dictionaries(
        {"status": WORDS}, optional={"contract_info": contracts, "stream_config": configs}
    )
    return st.one_of(
        ticks(), _v2("error", errors), _v2("complete", completions), _v2("info", infos)
    )


def _v2(
    kind: str,
    data: SearchStrategy[dict[str, Any]],
    times: SearchStrategy[str] | None = None,
) -> SearchStrategy[dict[str, Any]]:
    metadata = st.dictionaries(WORDS, json_values(), min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {
            "type": st.just(kind),
            "stream_id": WORDS,
            "timestamp": timestamps() if times is None else times,
            "data": data,
        },
        optional={"metadata": metadata},
    )
