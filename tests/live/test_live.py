"""The public interface of a live stream."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest

from ibticks._types import Interval
from ibticks.errors import InputError
from ibticks.frames import to_polars, to_table
from ibticks.live import Batch, Live, LiveOptions
from ibticks.selection import Selection
from tests.storage.samples import CONTRACT, H13, MINUTE, SECOND, open_descriptors

from .simulation import COLUMNS, STREAMS, columns, message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.index import MemoryIndex
    from ibticks.storage import StreamWriter

DELAY_SECONDS = 0.001


@pytest.fixture
def quotes(writer: Callable[..., StreamWriter]) -> StreamWriter:
    return writer()


@pytest.fixture
def both(writer: Callable[..., StreamWriter]) -> dict[str, StreamWriter]:
    """Quotes at full seconds, trades at full minutes: 100 and 2."""
    writers = {tick_type: writer(tick_type) for _, tick_type in STREAMS}
    writers["bid_ask"].write(columns("bid_ask", [H13 + i * SECOND for i in range(100)], 0))
    writers["last"].write(columns("last", [H13, H13 + MINUTE], 100))
    return writers


def write(quotes: StreamWriter, first: int, count: int) -> list[int]:
    quotes.write(columns("bid_ask", [H13 + i * SECOND for i in range(first, first + count)], first))
    return list(range(first, first + count))


def selected(
    root: Path, index: MemoryIndex, start_ns: int, cols: tuple[str, ...] = COLUMNS
) -> Selection:
    tick_types = tuple(tick_type for _, tick_type in STREAMS)
    interval = Interval(start_ns, H13 + 100 * MINUTE)
    return Selection(root, index, (CONTRACT,), tick_types, (interval,), cols)


def test_a_stream_with_an_end(
    both: dict[str, StreamWriter],
    root: Path,
    index: MemoryIndex,
    follow: Callable[..., Live],
) -> None:
    end_ns = H13 + 50 * SECOND
    # A late tick is behind ticks that are out of the interval, and before one that is not.
    both["bid_ask"].write(columns("bid_ask", [H13 + i * SECOND for i in (20, 90, 30)], 200))
    live = follow(H13 + 10 * SECOND, STREAMS, end_ns=end_ns)
    assert live.count_unread_buffer() == 42
    batches = list(iter(live.batches("batch").poll, None))
    chosen = selected(root, index, H13 + 10 * SECOND)
    expected = replace(chosen, intervals=(Interval(H13 + 10 * SECOND, end_ns),)).to_polars()
    assert (
        pl.concat(batch.to_polars() for batch in batches)
        .sort("timestamp", "sequence")
        .equals(expected.sort("timestamp", "sequence"))
    )
    (whole,) = batches
    first, rest = whole.first(15), whole.drop_first(15)
    assert [*first.messages(), *rest.messages()] == list(whole.messages())
    assert [*first.times(), *rest.times()] == list(whole.times())


# -- messages --------------------------------------------------------------------------------------


def test_markers_enclose_the_buffer(
    both: dict[str, StreamWriter], follow: Callable[..., Live]
) -> None:
    live = follow(H13 + 58 * SECOND, STREAMS, delay=DELAY_SECONDS)
    messages = iter(live)
    first = next(messages)
    assert first == {"type": "info", "data": {"status": "buffer_start", "buffer_message_count": 43}}
    stored = [next(messages) for _ in range(43)]
    assert [item["metadata"] for item in stored] == [
        {"historical": True, "buffer_index": i} for i in range(43)
    ]
    assert [item["data"]["sequence"] for item in stored] == [58, 59, 60, 101, *range(61, 100)]
    assert [next(messages)["data"] for _ in range(2)] == [
        {"status": "buffer_complete", "buffer_message_count": 43},
        {"status": "live_start"},
    ]
    both["last"].append(message("last", H13 + 3 * MINUTE, 500) | {"metadata": {"source": "x"}})
    assert next(messages) == message("last", H13 + 3 * MINUTE, 500) | {
        "timestamp": "2013-10-08T13:03:00.000000Z",
        "metadata": {"source": "x", "historical": False},
    }
    assert json.loads(json.dumps(first)) == first


def test_one_marker_without_a_buffer(
    both: dict[str, StreamWriter], follow: Callable[..., Live]
) -> None:
    messages = iter(follow(None, STREAMS, delay=DELAY_SECONDS))
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    assert next(messages) == {"type": "info", "data": {"status": "live_start"}}
    assert next(messages)["metadata"] == {"historical": False}


def test_messages_without_markers(
    both: dict[str, StreamWriter], follow: Callable[..., Live]
) -> None:
    live = follow(H13 + 98 * SECOND, STREAMS, markers=False, delay=DELAY_SECONDS)
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    messages = iter(live)
    assert [next(messages)["data"]["sequence"] for _ in range(3)] == [98, 99, 500]


def test_markers_of_an_empty_buffer(follow: Callable[..., Live]) -> None:
    messages = iter(follow(H13))
    assert [next(messages)["data"] for _ in range(3)] == [
        {"status": "buffer_start", "buffer_message_count": 0},
        {"status": "buffer_complete", "buffer_message_count": 0},
        {"status": "live_start"},
    ]


def test_async_iteration_shares_the_event_loop(
    both: dict[str, StreamWriter], follow: Callable[..., Live]
) -> None:
    """Other tasks run meanwhile, a tick wakes the reader, closing ends it."""
    live = follow(H13, STREAMS, delay=DELAY_SECONDS)
    seen: list[int] = []
    turns = 0

    async def read() -> None:
        async for item in live:
            if item["type"] == "tick":
                seen.append(item["data"]["sequence"])
                if seen[-1] == 501:
                    break
        rest = [item async for item in live.batches()]
        assert sum(frame.height for frame in rest) == 1

    async def write_meanwhile() -> None:
        nonlocal turns
        while len(seen) < 102:
            turns += 1
            await asyncio.sleep(0)
        both["last"].append(message("last", H13 + 3 * MINUTE, 500))
        while len(seen) < 103:
            await asyncio.sleep(0.001)
        both["bid_ask"].append(message("bid_ask", H13 + 4 * MINUTE, 501))
        while len(seen) < 104:
            await asyncio.sleep(0.001)
        both["bid_ask"].append(message("bid_ask", H13 + 5 * MINUTE, 502))
        while live.stats()["ticks"] < 105:
            await asyncio.sleep(0.001)
        live.close()

    async def main() -> None:
        async with live:
            await asyncio.wait_for(asyncio.gather(read(), write_meanwhile()), 30)

    asyncio.run(main())
    assert sorted(seen[:102]) == list(range(102))
    assert seen[102:] == [500, 501]
    assert turns > 0


def test_waiting_task_can_be_cancelled(follow: Callable[..., Live]) -> None:
    live = follow(None)

    async def main() -> None:
        task = asyncio.ensure_future(anext(aiter(live.batches())))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    live.close()


# -- batches ---------------------------------------------------------------------------------------


def test_batches_equal_a_selection(
    both: dict[str, StreamWriter], follow: Callable[..., Live], root: Path, index: MemoryIndex
) -> None:
    both["bid_ask"].append(message("bid_ask", H13 + 10 * SECOND, 700))  # late
    cols = (*COLUMNS, "bid_size", "exchange", "conditions", "stream_id", "exchange_time")
    live = follow(H13 + 5 * SECOND, STREAMS, columns=cols)
    frames = [live.read()]
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    both["bid_ask"].append(message("bid_ask", H13 + 3 * MINUTE, 501))
    frames.append(live.read())
    assert [frame.height for frame in frames] == [97, 2]
    expected = selected(root, index, H13 + 5 * SECOND, live.columns).to_polars()
    together = pl.concat(frames)
    assert together.equals(expected)
    assert together.schema == expected.schema
    assert live.frame().equals(expected)


def test_arrow_batches_equal_a_selection(
    both: dict[str, StreamWriter], follow: Callable[..., Live], root: Path, index: MemoryIndex
) -> None:
    live = follow(H13 + 5 * SECOND, STREAMS)
    table = next(live.batches("arrow"))
    assert isinstance(table, pa.Table)
    expected = selected(root, index, H13 + 5 * SECOND).to_arrow()
    assert table.schema.equals(expected.schema)
    assert table.combine_chunks().equals(expected.combine_chunks())


def test_batches_are_historical_or_live(
    both: dict[str, StreamWriter], follow: Callable[..., Live]
) -> None:
    live = follow(H13, STREAMS, delay=DELAY_SECONDS)
    batches = live.batches("batch")
    first = next(batches)
    assert first.historical
    assert len(first) == 102
    assert str(first) == "<Batch of 102 historical ticks>"
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    second = next(batches)
    assert not second.historical
    assert [chunk.numbers("sequence").tolist() for chunk in second.read(["sequence"])] == [[500]]
    assert str(second) == "<Batch of 1 live ticks>"


def test_buffer_of_many_frame_batches(
    both: dict[str, StreamWriter],
    follow: Callable[..., Live],
    root: Path,
    index: MemoryIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """About one frame batch of each stream is buffered, and ticks are ordered by time."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 400)
    live = follow(H13, STREAMS)
    frames = []
    while (batch := live._reader.take()) is not None:
        frames.append(batch.to_polars())
        assert batch.rows < 20
    assert len(frames) > 10
    assert pl.concat(frames).equals(selected(root, index, H13).to_polars())


def test_least_interval_between_batches(quotes: StreamWriter, follow: Callable[..., Live]) -> None:
    live = follow(None)
    write(quotes, 0, 5)
    batches = live.batches(every=1000)
    assert next(batches).height == 5
    write(quotes, 5, 5)
    assert batches.poll() is None
    seconds, changes = batches.next_poll()
    assert 900 < seconds <= 1000
    assert not changes


def test_unknown_format_raises(follow: Callable[..., Live]) -> None:
    with pytest.raises(InputError, match="format='csv': use one of polars, arrow, batch"):
        follow(None).batches("csv")  # type: ignore[call-overload]


# -- consumers -------------------------------------------------------------------------------------


def test_each_tick_comes_to_one_consumer_only(
    quotes: StreamWriter, follow: Callable[..., Live]
) -> None:
    expected = write(quotes, 0, 50)
    live = follow(H13)
    messages = iter(live)
    next(messages)
    first = [next(messages)["data"]["sequence"] for _ in range(10)]
    rest = live.read()["sequence"].to_list()
    assert first + rest == expected
    expected += write(quotes, 50, 5)
    # The iterator continues with new ticks, not with the started batch.
    others = (item for item in messages if item["type"] == "tick")
    assert [next(others)["data"]["sequence"] for _ in range(5)] == expected[50:]


def test_window_reads_on_only_without_another_consumer(
    quotes: StreamWriter, follow: Callable[..., Live]
) -> None:
    live = follow(H13)
    write(quotes, 0, 5)
    assert live.frame().height == 5
    write(quotes, 5, 5)
    assert live.frame().height == 10
    batches = live.batches()
    write(quotes, 10, 5)
    assert live.frame().height == 10
    assert next(batches).height == 5
    assert live.frame().height == 15


# -- positions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 37, 101, 102])
def test_resume_from_a_position(
    both: dict[str, StreamWriter], follow: Callable[..., Live], root: Path, count: int
) -> None:
    live = follow(H13, STREAMS, markers=False, delay=DELAY_SECONDS)
    messages = iter(live)
    first = [next(messages)["data"]["sequence"] for _ in range(count)]
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    again = follow(None, STREAMS, resume=live.position, delay=DELAY_SECONDS)
    began = next(iter(again))["data"]
    assert began == {"status": "buffer_start", "buffer_message_count": 103 - count}
    rest = again.read()["sequence"].to_list()
    assert len(first + rest) == 103
    assert set(first + rest) == {*range(102), 500}
    assert live.position.replace("-", "").replace("_", "").isalnum()


def test_position_between_held_ticks(
    both: dict[str, StreamWriter], follow: Callable[..., Live], root: Path
) -> None:
    """Frame batches of one file are delivered together, and only a part of the ticks."""
    live = follow(None, STREAMS, delay=1000, markers=False)
    for number in range(500, 506):
        both["bid_ask"].append(message("bid_ask", H13 + 3 * MINUTE + number, number))
        assert live._reader.take() is None
    first: Any = live._reader.take(hold=False, deliver=False)
    assert len(first.slices) > 2
    for delivered in range(7):
        with Live(root, STREAMS, COLUMNS, None, resume=live.position) as again:
            rest = again.read()["sequence"].to_list()
        assert rest == list(range(500 + delivered, 506))
        live._reader.deliver_tick(first)


def test_resume_in_a_replaced_file(
    quotes: StreamWriter,
    writer: Callable[..., StreamWriter],
    follow: Callable[..., Live],
    root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(quotes, 0, 50)
    live = follow(H13)
    live.read()
    position = live.position
    quotes.close()
    [path] = root.rglob("*_ticks.pb")
    path.unlink()
    write(writer(), 50, 60)
    again = follow(None, resume=position)
    assert again.read()["sequence"].to_list() == list(range(50, 110))
    assert "is not the file it was" in caplog.text


def test_invalid_positions_raise(follow: Callable[..., Live]) -> None:
    live = follow(None)
    with pytest.raises(InputError, match=r"a position in bid_ask of 8314, not in .*, last of 8314"):
        follow(None, STREAMS, resume=live.position)
    deep = base64.urlsafe_b64encode(zlib.compress(b"[" * 200_000)).decode().rstrip("=")
    for token in ("", "nonsense", live.position[:-4], "é", live.position + "AAAA", deep):
        with pytest.raises(InputError, match="is not a position"):
            follow(None, resume=token)


# -- slow readers ----------------------------------------------------------------------------------


def test_slow_reader_misses_nothing(
    both: dict[str, StreamWriter], follow: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unread ticks wait in the files, and only the last of them for other streams."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 2000)
    live = follow(None, STREAMS, delay=1000)
    for number in range(1000, 3000):
        both["bid_ask"].append(message("bid_ask", H13 + 5 * MINUTE + number, number))
    max_held = 0
    read: list[int] = []
    for hold in (True, False):
        while (batch := live._reader.take(hold=hold)) is not None:
            read += [item["data"]["sequence"] for item in batch.messages()]
            max_held = max(max_held, batch.rows + live._reader._follower._merge.held_ticks)
        max_held = max(max_held, live._reader._follower._merge.held_ticks)
    assert read == list(range(1000, 3000))
    assert max_held < 100, "more was held in memory than a frame batch"
    assert live.stats()["dropped"] == 0


def test_policy_latest_drops_the_oldest(
    both: dict[str, StreamWriter], follow: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 2000)
    live = follow(H13, STREAMS, policy="latest", most_waiting=50)
    assert live.read().height == 102, "ticks of the buffer are not dropped"
    for number in range(1000, 3000):
        both["bid_ask"].append(message("bid_ask", H13 + 5 * MINUTE + number, number))
    assert live.read()["sequence"].to_list() == list(range(2950, 3000))
    assert live.stats()["dropped"] == 1950
    assert live.stats()["ticks"] == 152
    again = follow(None, STREAMS, resume=live.position)
    assert again.read().height == 0, "dropped ticks come after all"


@pytest.mark.parametrize(
    "wrong",
    [{"policy": "newest"}, {"most_waiting": 0}, {"window_rows": 0}, {"delay": -1}],
)
def test_invalid_options_raise(root: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"policy=|at least"):
        Live(root, STREAMS, COLUMNS, None, options=LiveOptions(**wrong))


# -- in the background -----------------------------------------------------------------------------


def test_callbacks_get_every_batch(
    both: dict[str, StreamWriter], follow: Callable[..., Live]
) -> None:
    live = follow(H13, STREAMS, delay=DELAY_SECONDS)
    came: list[Batch] = []
    done = threading.Event()

    @live.on_batch
    def record(batch: Batch) -> None:
        came.append(batch)
        if any(item["data"]["sequence"] == 501 for item in batch.messages()):
            done.set()

    with live.start():
        assert live.running
        both["last"].append(message("last", H13 + 3 * MINUTE, 500))
        both["last"].append(message("last", H13 + 4 * MINUTE, 501))
        assert done.wait(30)
        assert live.frame().height == 104
        with pytest.raises(InputError, match="read by a background thread"):
            next(iter(live))
        live.stop()
        assert not live.running
        both["last"].append(message("last", H13 + 5 * MINUTE, 502))
        assert live.read()["sequence"].to_list() == [502]
    assert sum(batch.rows for batch in came) == 104
    assert came[0].historical
    assert not came[-1].historical


def test_start_after_stop_continues(quotes: StreamWriter, follow: Callable[..., Live]) -> None:
    live = follow(H13)
    came: list[int] = []
    live.on_batch(lambda batch: came.extend(batch.to_polars()["sequence"]))
    for first in (0, 5, 10):
        live.start()
        expected = write(quotes, first, 5)
        until(lambda expected=expected: came[-1:] == expected[-1:])
        live.stop()
    assert came == list(range(15))


def test_failing_callback_is_logged_and_raised(
    quotes: StreamWriter, follow: Callable[..., Live], caplog: pytest.LogCaptureFixture
) -> None:
    live = follow(H13)
    others: list[int] = []
    calls = itertools.count()

    @live.on_batch
    def fail(batch: Batch) -> None:
        next(calls)
        raise RuntimeError("the callback is wrong")

    live.on_batch(lambda batch: others.append(batch.rows))
    live.start()
    write(quotes, 0, 5)
    until(lambda: sum(others) == 5)
    write(quotes, 5, 5)
    until(lambda: sum(others) == 10)
    assert live.stats()["failures"] == ["RuntimeError('the callback is wrong')"]
    assert "Traceback" in caplog.text
    assert "the callback is wrong" in caplog.text
    with pytest.raises(RuntimeError, match="the callback is wrong"):
        live.close()
    assert next(calls) == 1
    assert live.closed
    live.close()


def test_several_failures_are_raised_as_a_group(
    quotes: StreamWriter, follow: Callable[..., Live]
) -> None:
    live = follow(H13)
    for _ in range(2):
        live.on_batch(lambda batch: 1 // 0)
    live.start()
    write(quotes, 0, 5)
    until(lambda: len(live.stats()["failures"]) == 2)
    with pytest.raises(ExceptionGroup) as caught:
        live.stop()
    assert caught.group_contains(ZeroDivisionError)


def test_reading_failure_is_logged_and_raised(
    quotes: StreamWriter,
    follow: Callable[..., Live],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    live = follow(H13)
    monkeypatch.setattr(live._reader, "take", lambda **_: 1 // 0)
    live.start()
    until(lambda: not live.running)
    assert "reading a live stream failed" in caplog.text
    with pytest.raises(ZeroDivisionError):
        live.stop()


def test_callback_may_close_the_stream(quotes: StreamWriter, follow: Callable[..., Live]) -> None:
    live = follow(H13)
    live.on_batch(lambda batch: live.close())
    live.start()
    write(quotes, 0, 5)
    until(lambda: not live.running)
    assert live.closed


# -- closing ---------------------------------------------------------------------------------------


def test_close_wakes_a_waiting_thread(follow: Callable[..., Live]) -> None:
    live = follow(None)
    came: list[object] = []
    thread = threading.Thread(target=lambda: came.extend(live.batches()))
    thread.start()
    until(lambda: live._reader._follower._waiter._waiters == 1)
    live.close()
    thread.join(30)
    assert not thread.is_alive()
    assert came == []


def test_closed_stream_cannot_be_read(quotes: StreamWriter, follow: Callable[..., Live]) -> None:
    write(quotes, 0, 5)
    live = follow(H13)
    live.frame()
    live.close()
    live.close()
    assert live.frame().height == 5, "the window stays"
    assert live._reader.take() is None
    assert live.stats()["closed"]
    for read in (live.read, live.batches, live.start, live.__iter__):
        with pytest.raises(InputError, match="is closed"):
            read()
    assert "closed" in repr(live)


def test_garbage_collection_closes_files(quotes: StreamWriter, root: Path) -> None:
    before = open_descriptors(root)
    live = Live(root, STREAMS, COLUMNS, H13)
    live.read()
    assert open_descriptors(root) > before
    del live
    gc.collect()
    assert open_descriptors(root) == before


# -- as an object ----------------------------------------------------------------------------------


def test_repr_stats_and_html(both: dict[str, StreamWriter], follow: Callable[..., Live]) -> None:
    live = follow(H13, STREAMS, label="IBM bid_ask, last, the last 1h")
    assert repr(live) == "<Live IBM bid_ask, last, the last 1h: in the buffer, 0 ticks read>"
    live.frame()
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    live.frame()
    assert live.stats() == {
        "ticks": 103,
        "by_stream": {"8314/bid_ask": 100, "8314/last": 3},
        "buffer_ticks": 102,
        "dropped": 0,
        "last_tick": "2013-10-08T13:03:00Z",
        "historical": False,
        "behind": False,
        "running": False,
        "closed": False,
        "failures": [],
    }
    html = live._repr_html_()
    assert "IBM bid_ask, last, the last 1h" in html
    assert "live, 103 ticks read" in html
    assert "3 ticks" in html


@pytest.mark.parametrize("name", ["take", "count_buffer", "patience", "wait", "wait_async"])
def test_former_methods_warn(follow: Callable[..., Live], name: str) -> None:
    live = follow(None)
    assert name not in dir(live)
    with pytest.warns(DeprecationWarning, match=rf"Live.{name} is not public any more: use"):
        assert callable(getattr(live, name))


def test_former_methods_still_deliver(quotes: StreamWriter, follow: Callable[..., Live]) -> None:
    live = follow(H13)
    write(quotes, 0, 3)
    with pytest.warns(DeprecationWarning, match=r"Live\.take"):
        batch = live.take()
    assert batch.rows == 3
    with pytest.warns(DeprecationWarning, match=r"Live\.hand_out"):
        assert not live.hand_out(batch)
    with pytest.raises(AttributeError, match="no attribute 'taken'"):
        live.taken  # noqa: B018


def test_former_name_of_the_next_poll_warns(follow: Callable[..., Live]) -> None:
    batches = follow(H13).batches("batch")
    with pytest.warns(DeprecationWarning, match=r"patience\(\) is called next_poll\(\) now"):
        seconds, is_cut_short = batches.patience()
    assert (is_cut_short, seconds >= batches.next_poll()[0]) == (True, True)


def test_order_of_streams_does_not_matter(
    both: dict[str, StreamWriter], follow: Callable[..., Live]
) -> None:
    one, other = follow(H13, STREAMS), follow(H13, STREAMS[::-1])
    assert one.streams == other.streams
    assert one.read().equals(other.read())


def test_empty_frame_has_the_schema_of_a_full_one(
    quotes: StreamWriter, follow: Callable[..., Live]
) -> None:
    """A frame without ticks has the schema of a full one."""
    live = follow(H13)
    empty = live.read()
    write(quotes, 0, 2)
    assert live.read().schema == empty.schema == to_polars(to_table([], COLUMNS)).schema


def until(condition: Callable[..., Any] | Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.001)
