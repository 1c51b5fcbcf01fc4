"""Streams of ticks: absent values, their wire format, and row selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibapi.decoder import Decoder

from ibticks.errors import InputError, UnknownTickTypeError
from ibticks.gateway import Replay, TickStream
from ibticks.schema import StringColumn, StringListColumn, TickColumns, Values, list_columns

from .clients import Official, expected, interpret
from .conftest import SECOND, START

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorded(Official):
    """The official client's callbacks without a connection."""

    def __init__(self) -> None:
        self.ticks: Any = {1: []}

    def _note(self, note: Callable[[], None]) -> None:
        note()


VERSIONS = (157, 200, 201, 208, 226)


def record(version: int, frames: list[bytes]) -> list[tuple[Any, ...]]:
    listener = Recorded()
    decoder = Decoder(listener, version)
    for frame in frames:
        interpret(decoder, version, frame[4:])
    return listener.ticks[1]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tick_type", ["bid_ask", "mid_point", "all_last", "last"])
def test_the_official_decoder_reads_the_values_of_the_columns(
    ticks: Replay, tick_type: str, version: int
) -> None:
    stream = ticks.streams[1, tick_type]
    assert record(version, stream.frames(version, 1, 0, stream.rows)) == expected(stream)
    assert record(version, stream.frames(version, 1, 17, 17)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_absent_values_are_sent_as_empty_fields(version: int) -> None:
    absent = np.array([True, False])
    trades = TickColumns(
        2,
        {
            "timestamp": Values(np.array([START, START + 1])),
            "price": Values(np.array([1.5, 77.0]), absent),
            "size": Values(np.array([np.nan, 77.0])),
            "past_limit": Values(np.array([True, True]), absent),
            "exchange": StringColumn(np.array([0, -1], dtype=np.int32), ("ARCA",)),
        },
    )
    stream = TickStream(1, "last", trades)
    assert tuple(stream.columns.columns) == list_columns(["last"])
    second = START // SECOND
    assert record(version, stream.frames(version, 1, 0, 2)) == [
        (second, 1.5, 0.0, True, False, "ARCA", ""),
        (second, 0.0, 77.0, False, False, "", ""),
    ]
    again = stream.of_contract(2)
    assert again.columns.columns["exchange"] == stream.columns.columns["exchange"]
    assert again.columns.numbers("contract_id").tolist() == [2, 2]


def test_ticks_are_sent_with_their_exchange_time() -> None:
    quotes = TickColumns(
        3,
        {
            "timestamp": Values(np.array([START - 1, START, START + 5 * SECOND])),
            "exchange_time": Values(np.array([7, 77, 9]), np.array([True, False, True])),
        },
    )
    stream = TickStream(1, "mid_point", quotes)
    assert stream.seconds.tolist() == [7, START // SECOND, 9]
    moved = stream.shifted(2 * SECOND + 5)
    assert moved.time_ns.tolist() == (stream.time_ns + 2 * SECOND + 5).tolist()
    assert moved.seconds.tolist() == [9, START // SECOND + 2, 11]


def test_rows_are_sorted_by_time_and_equal_times_stay() -> None:
    times = np.array([3, 1, 2, 1, 3]) * SECOND
    stream = TickStream(
        1,
        "mid_point",
        TickColumns(5, {"timestamp": Values(times), "mid_price": Values(np.arange(5.0))}),
    )
    assert stream.columns.numbers("mid_price").tolist() == [1, 3, 2, 0, 4]


@pytest.mark.parametrize("version", VERSIONS)
def test_conditions_become_one_text(version: int) -> None:
    columns: dict[str, Any] = {
        "timestamp": Values(np.array([START, START, START])),
        "conditions": StringListColumn(
            np.array([0, 2, 2, 3]), np.array([0, 1, 1], dtype=np.int32), ("T", "I")
        ),
    }
    stream = TickStream(1, "all_last", TickColumns(3, columns))
    assert [tick[-1] for tick in record(version, stream.frames(version, 1, 0, 3))] == [
        "T I",
        "",
        "I",
    ]
    some = stream.take(np.array([2, 0]))
    assert [tick[-1] for tick in record(version, some.frames(version, 1, 0, 2))] == ["I", "T I"]


def test_price_changes(ticks: Replay) -> None:
    stream = ticks.streams[1, "bid_ask"]
    assert stream.price_changes().tolist() == list(range(0, 600, 3))
    assert stream.take(slice(0, 0)).price_changes().tolist() == []


# ibapi reads these sizes as "none"; hypothesis draws them, since they are constants of the source.
UNSET_SIZES = (2**31 - 1, 2**63 - 1)
SIZES = st.floats(0, 1e12).filter(lambda size: size not in UNSET_SIZES)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e9),
            st.floats(0, 1e9),
            SIZES,
            SIZES,
            st.booleans(),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.sampled_from(VERSIONS),
)
def test_any_quote_arrives_exactly(quotes: list[Any], version: int) -> None:
    names = ("bid_price", "ask_price", "bid_size", "ask_size", "bid_past_low", "ask_past_high")
    kinds = [float] * 4 + [bool] * 2
    columns: Any = {
        name: Values(np.array([quote[i] for quote in quotes], dtype=kinds[i]))
        for i, name in enumerate(names)
    }
    columns["timestamp"] = Values(np.full(len(quotes), START, dtype=np.int64))
    stream = TickStream(1, "bid_ask", TickColumns(len(quotes), columns))
    assert record(version, stream.frames(version, 1, 0, len(quotes))) == [
        (START // SECOND, *q) for q in quotes
    ]


def test_invalid_streams() -> None:
    with pytest.raises(UnknownTickTypeError):
        TickStream(1, "trades", TickColumns(0, {}))
    with pytest.raises(InputError, match="without a timestamp"):
        TickStream(1, "last", TickColumns(0, {}))
