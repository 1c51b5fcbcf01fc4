"""The tape, and the messages from which a page draws its chart."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ibticks.widgets._chart_state import COLUMNS, ChartState, Tape

START = 1_700_000_000_000_000_000


def ticks(*rows: tuple[float, dict[str, float]]) -> pl.DataFrame:
    """Ticks at some seconds after the start."""
    names = ("price", "size", "bid_price", "ask_price", "bid_size", "ask_size", "mid_price")
    return pl.DataFrame(
        [
            {"timestamp": START + round(at * 1e9), **dict.fromkeys(names), **values}
            for at, values in rows
        ],
        schema={"timestamp": pl.Int64} | dict.fromkeys(names, pl.Float64),
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC")))


def trade(price: float, size: float = 1.0) -> dict[str, float]:
    return {"price": price, "size": size}


def quote(bid: float, ask: float) -> dict[str, float]:
    return {"bid_price": bid, "ask_price": ask, "bid_size": 3.0, "ask_size": 4.0}


def test_sign_of_the_aggressor() -> None:
    tape = Tape(10)
    first = tape.add(ticks((0, trade(10)), (1, quote(9, 11)), (2, trade(11)), (3, trade(9))))
    assert first[:, 3].tolist() == [0, 1, -1]
    # Between the quotes the last change of price decides, across calls and equal prices.
    assert tape.add(ticks((4, trade(10)), (5, trade(10))))[:, 3].tolist() == [1, 1]
    assert tape.add(ticks((6, trade(9.5)), (7, quote(9, 9.5)), (8, trade(9.5))))[:, 3].tolist() == [
        -1,
        1,
    ]
    assert tape.rows[:, 1].tolist() == [10, 11, 9, 10, 10, 9.5, 9.5]
    assert len(tape.add(ticks((9, quote(1, 2))))) == 0


def test_tape_is_bounded() -> None:
    tape = Tape(3)
    assert tape.add(ticks(*((at, trade(at)) for at in range(5))))[:, 1].tolist() == [2, 3, 4]
    tape.add(ticks((9, trade(9))))
    assert tape.rows[:, 1].tolist() == [3, 4, 9]


def page(
    *messages: tuple[str, tuple[dict[str, Any], list[bytes]]],
) -> tuple[dict[str, list[float]], list[float], dict[str, float]]:
    """Apply messages as a page does: columns, prices of the tape, facts."""
    rows: list[list[float]] = []
    base = 0
    tape: list[Any] = []
    facts: dict[Any, Any] = {}
    for message_type, (message, buffers) in messages:
        columns = np.frombuffer(buffers[0]).reshape(len(COLUMNS), message["buckets"])
        if message_type == "reset":
            rows, base, tape = [], message["first"], []
        rows = rows[: message["first"] - base] + columns.T.tolist()
        tape += np.frombuffer(buffers[1]).reshape(-1, 4)[:, 1].tolist()
        facts |= message["facts"]
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True)), tape, facts


def test_changes_add_up_to_the_snapshot() -> None:
    chart = ChartState(2000.0)
    chart.add(ticks((0, quote(9, 11)), (0.1, trade(10))), now=0)
    messages = [("reset", chart.snapshot(0))]
    for at in range(1, 30):
        new = ticks((0.3 * at, trade(10 + at)), (0.3 * at + 0.05, quote(9 + at, 11 + at)))
        chart.add(new, now=at)
        messages.append(("append", chart.changes(at)))
    columns, tape, facts = page(*messages)
    whole, whole_tape, whole_facts = page(("reset", chart.snapshot(29)))
    np.testing.assert_equal(columns, whole)
    assert tape == whole_tape == [10.0, *range(11, 40)]
    assert facts == whole_facts
    assert (facts["bid"], facts["ask"], facts["mid"], facts["last"]) == (38, 40, 39, 39)
    assert facts["ticks"] == 60
    assert columns["mid"][-1] == 39, "without mid points, that of the quotes"


def test_rate_falls_while_no_tick_comes() -> None:
    chart = ChartState(60.0)
    chart.add(ticks(*((0, trade(1)) for _ in range(50))), now=100)
    assert chart.changes(101)[0]["facts"]["rate"] == 10
    assert chart.changes(106)[0]["facts"]["rate"] == 0


def test_decimals_are_those_of_the_prices() -> None:
    chart = ChartState(60.0)
    for price, decimals in ((10.0, 0), (10.25, 2), (10.5, 2), (1.08345, 5)):
        chart.add(ticks((0, trade(price))), now=0)
        assert chart.changes(0)[0]["facts"]["decimals"] == decimals


def test_changes_are_sent_once() -> None:
    chart = ChartState(60.0)
    chart.add(ticks((0, trade(1)), (1, trade(2))), now=0)
    assert chart.changes(0)[0]["buckets"] == 2
    message, buffers = chart.changes(0)
    assert (message["buckets"], len(buffers[1])) == (0, 0)
