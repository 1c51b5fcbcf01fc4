"""A live stream as its users see it."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import threading
import time
import zlib

import polars as pl
import pyarrow as pa
import pytest

from ibticks.errors import InputError
from ibticks.frames import to_polars, to_table
from ibticks.live import Batch, Live, LiveOptions
from ibticks.selection import Selection
from tests.storage.samples import CONTRACT, H13, MINUTE, SECOND, open_descriptors

from .simulation import COLUMNS, STREAMS, columns, message

DELAY = 0.001


@pytest.fixture
def quotes(writer):
    return writer()


@pytest.fixture
def both(writer):
    """Quotes at full seconds, trades at full minutes: 100 and 2."""
    writers = {kind: writer(kind) for _, kind in STREAMS}
    writers["bid_ask"].write(columns("bid_ask", [H13 + i * SECOND for i in range(100)], 0))
    writers["last"].write(columns("last", [H13, H13 + MINUTE], 100))
    return writers


def some(quotes, first: int, count: int) -> list[int]:
    quotes.write(columns("bid_ask", [H13 + i * SECOND for i in range(first, first + count)], first))
    return list(range(first, first + count))


def selected(root, index, start_ns: int, cols=COLUMNS) -> Selection:
    kinds = tuple(kind for _, kind in STREAMS)
    return Selection(root, index, (CONTRACT,), kinds, ((start_ns, H13 + 100 * MINUTE),), cols)


# -- messages --------------------------------------------------------------------------------------


def test_markers_stand_around_what_was_stored(both, follow):
    live = follow(H13 + 58 * SECOND, STREAMS, delay=DELAY)
    messages = iter(live)
    first = next(messages)
    assert first == {"type": "info", "data": {"status": "buffer_start", "buffer_message_count": 43}}
    stored = [next(messages) for _ in range(43)]
    assert [each["metadata"] for each in stored] == [
        {"historical": True, "buffer_index": i} for i in range(43)
    ]
    assert [each["data"]["sequence"] for each in stored] == [58, 59, 60, 101, *range(61, 100)]
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


def test_without_a_buffer_there_is_one_marker(both, follow):
    messages = iter(follow(None, STREAMS, delay=DELAY))
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    assert next(messages) == {"type": "info", "data": {"status": "live_start"}}
    assert next(messages)["metadata"] == {"historical": False}


def test_without_markers(both, follow):
    live = follow(H13 + 98 * SECOND, STREAMS, markers=False, delay=DELAY)
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    messages = iter(live)
    assert [next(messages)["data"]["sequence"] for _ in range(3)] == [98, 99, 500]


def test_an_empty_buffer(follow):
    messages = iter(follow(H13))
    assert [next(messages)["data"] for _ in range(3)] == [
        {"status": "buffer_start", "buffer_message_count": 0},
        {"status": "buffer_complete", "buffer_message_count": 0},
        {"status": "live_start"},
    ]


def test_in_an_event_loop(both, follow):
    """Others have their turn; a tick wakes it; closing ends it."""
    live = follow(H13, STREAMS, delay=DELAY)
    seen: list[int] = []
    turns = 0

    async def read() -> None:
        async for each in live:
            if each["type"] == "tick":
                seen.append(each["data"]["sequence"])
                if seen[-1] == 501:
                    break
        rest = [each async for each in live.batches()]
        assert sum(frame.height for frame in rest) == 1

    async def others() -> None:
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
            await asyncio.wait_for(asyncio.gather(read(), others()), 30)

    asyncio.run(main())
    assert sorted(seen[:102]) == list(range(102))
    assert seen[102:] == [500, 501]
    assert turns > 0


def test_a_task_that_waits_can_be_cancelled(follow):
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


def test_batches_are_what_a_selection_gives(both, follow, root, index):
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


def test_arrow_tables(both, follow, root, index):
    live = follow(H13 + 5 * SECOND, STREAMS)
    table = next(live.batches("arrow"))
    assert isinstance(table, pa.Table)
    expected = selected(root, index, H13 + 5 * SECOND).to_arrow()
    assert table.schema.equals(expected.schema)
    assert table.combine_chunks().equals(expected.combine_chunks())


def test_batches_say_whether_they_were_stored(both, follow):
    live = follow(H13, STREAMS, delay=DELAY)
    batches = live.batches("batch")
    first = next(batches)
    assert first.historical
    assert len(first) == 102
    assert str(first) == "<Batch of 102 historical ticks>"
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    second = next(batches)
    assert not second.historical
    assert [part.numbers("sequence").tolist() for part in second.read(["sequence"])] == [[500]]
    assert str(second) == "<Batch of 1 live ticks>"


def test_a_buffer_of_many_pieces(both, follow, root, index, monkeypatch):
    """No more is held than about one piece of each stream, and time goes on all the same."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 400)
    live = follow(H13, STREAMS)
    frames = []
    while (batch := live._reader.take()) is not None:
        frames.append(batch.to_polars())
        assert batch.rows < 20
    assert len(frames) > 10
    assert pl.concat(frames).equals(selected(root, index, H13).to_polars())


def test_batches_not_more_often_than(quotes, follow):
    live = follow(None)
    some(quotes, 0, 5)
    batches = live.batches(every=1000)
    assert next(batches).height == 5
    some(quotes, 5, 5)
    assert batches.poll() is None
    seconds, changes = batches.next_poll()
    assert 900 < seconds <= 1000
    assert not changes


def test_a_format_there_is_not(follow):
    with pytest.raises(InputError, match="format='csv': use one of polars, arrow, batch"):
        follow(None).batches("csv")


# -- one way through -------------------------------------------------------------------------------


def test_what_was_read_in_one_way_is_not_read_in_another(quotes, follow):
    said = some(quotes, 0, 50)
    live = follow(H13)
    messages = iter(live)
    next(messages)
    first = [next(messages)["data"]["sequence"] for _ in range(10)]
    rest = live.read()["sequence"].to_list()
    assert first + rest == said
    said += some(quotes, 50, 5)
    # The iterator goes on with what comes, not with what it had begun.
    others = (each for each in messages if each["type"] == "tick")
    assert [next(others)["data"]["sequence"] for _ in range(5)] == said[50:]


def test_the_window_reads_on_only_where_nobody_else_does(quotes, follow):
    live = follow(H13)
    some(quotes, 0, 5)
    assert live.frame().height == 5
    some(quotes, 5, 5)
    assert live.frame().height == 10
    batches = live.batches()
    some(quotes, 10, 5)
    assert live.frame().height == 10
    assert next(batches).height == 5
    assert live.frame().height == 15


# -- positions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 37, 101, 102])
def test_another_one_goes_on_from_a_position(both, follow, root, count):
    live = follow(H13, STREAMS, markers=False, delay=DELAY)
    messages = iter(live)
    first = [next(messages)["data"]["sequence"] for _ in range(count)]
    both["last"].append(message("last", H13 + 3 * MINUTE, 500))
    again = follow(None, STREAMS, resume=live.position, delay=DELAY)
    began = next(iter(again))["data"]
    assert began == {"status": "buffer_start", "buffer_message_count": 103 - count}
    rest = again.read()["sequence"].to_list()
    assert len(first + rest) == 103
    assert set(first + rest) == {*range(102), 500}
    assert live.position.replace("-", "").replace("_", "").isalnum()


def test_a_position_among_ticks_that_were_held(both, follow, root):
    """Read in two pieces of one file, given together, handed out in part."""
    live = follow(None, STREAMS, delay=1000, markers=False)
    for number in range(500, 506):
        both["bid_ask"].append(message("bid_ask", H13 + 3 * MINUTE + number, number))
        assert live._reader.take() is None
    first = live._reader.take(hold=False, deliver=False)
    assert len(first.slices) > 2
    for handed in range(7):
        with Live(root, STREAMS, COLUMNS, None, resume=live.position) as again:
            rest = again.read()["sequence"].to_list()
        assert rest == list(range(500 + handed, 506))
        live._reader.deliver_tick(first)


def test_a_position_of_a_file_that_is_another_one(quotes, follow, root, caplog):
    some(quotes, 0, 50)
    live = follow(H13)
    live.read()
    position = live.position
    quotes.close()
    [path] = root.rglob("*_ticks.pb")
    path.unlink()
    quotes._recover()
    quotes.__init__(root, CONTRACT, "bid_ask", quotes._index, fsync=None)
    some(quotes, 50, 60)
    again = follow(None, resume=position)
    assert again.read()["sequence"].to_list() == list(range(50, 110))
    assert "is not the file it was" in caplog.text


def test_positions_that_are_none(follow):
    live = follow(None)
    with pytest.raises(InputError, match=r"a position in bid_ask of 8314, not in .*, last of 8314"):
        follow(None, STREAMS, resume=live.position)
    deep = base64.urlsafe_b64encode(zlib.compress(b"[" * 200_000)).decode().rstrip("=")
    for token in ("", "nonsense", live.position[:-4], "é", live.position + "AAAA", deep):
        with pytest.raises(InputError, match="is not a position"):
            follow(None, resume=token)


# -- slow readers ----------------------------------------------------------------------------------


def test_who_is_slow_misses_nothing(both, follow, monkeypatch):
    """What waits to be read waits in the files, and only the last of it for other streams."""
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 2000)
    live = follow(None, STREAMS, delay=1000)
    for number in range(1000, 3000):
        both["bid_ask"].append(message("bid_ask", H13 + 5 * MINUTE + number, number))
    held = 0
    read: list[int] = []
    for hold in (True, False):
        while (batch := live._reader.take(hold=hold)) is not None:
            read += [each["data"]["sequence"] for each in batch.messages()]
            held = max(held, batch.rows + live._reader._follower._merge.held_ticks)
        held = max(held, live._reader._follower._merge.held_ticks)
    assert read == list(range(1000, 3000))
    assert held < 100, "more was held in memory than a piece"
    assert live.stats()["dropped"] == 0


def test_the_latest_only(both, follow, monkeypatch):
    monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 2000)
    live = follow(H13, STREAMS, policy="latest", most_waiting=50)
    assert live.read().height == 102, "what was stored is not dropped"
    for number in range(1000, 3000):
        both["bid_ask"].append(message("bid_ask", H13 + 5 * MINUTE + number, number))
    assert live.read()["sequence"].to_list() == list(range(2950, 3000))
    assert live.stats()["dropped"] == 1950
    assert live.stats()["ticks"] == 152
    again = follow(None, STREAMS, resume=live.position)
    assert again.read().height == 0, "what was dropped comes after all"


@pytest.mark.parametrize(
    "wrong",
    [{"policy": "newest"}, {"most_waiting": 0}, {"window_rows": 0}, {"delay": -1}],
)
def test_options_that_cannot_be(root, wrong):
    with pytest.raises(InputError, match=r"policy=|at least"):
        Live(root, STREAMS, COLUMNS, None, options=LiveOptions(**wrong))


# -- in the background -----------------------------------------------------------------------------


def test_callbacks_get_every_batch(both, follow):
    live = follow(H13, STREAMS, delay=DELAY)
    came: list[Batch] = []
    done = threading.Event()

    @live.on_batch
    def note(batch: Batch) -> None:
        came.append(batch)
        if any(each["data"]["sequence"] == 501 for each in batch.messages()):
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


def test_it_goes_on_after_it_was_stopped(quotes, follow):
    live = follow(H13)
    came: list[int] = []
    live.on_batch(lambda batch: came.extend(batch.to_polars()["sequence"]))
    for first in (0, 5, 10):
        live.start()
        said = some(quotes, first, 5)
        until(lambda said=said: came[-1:] == said[-1:])
        live.stop()
    assert came == list(range(15))


def test_an_error_in_a_callback_is_seen(quotes, follow, caplog):
    live = follow(H13)
    others: list[int] = []
    calls = itertools.count()

    @live.on_batch
    def fail(batch: Batch) -> None:
        next(calls)
        raise RuntimeError("the callback is wrong")

    live.on_batch(lambda batch: others.append(batch.rows))
    live.start()
    some(quotes, 0, 5)
    until(lambda: sum(others) == 5)
    some(quotes, 5, 5)
    until(lambda: sum(others) == 10)
    assert live.stats()["failures"] == ["RuntimeError('the callback is wrong')"]
    assert "Traceback" in caplog.text
    assert "the callback is wrong" in caplog.text
    with pytest.raises(RuntimeError, match="the callback is wrong"):
        live.close()
    assert next(calls) == 1
    assert live.closed
    live.close()


def test_several_errors_come_as_a_group(quotes, follow):
    live = follow(H13)
    for _ in range(2):
        live.on_batch(lambda batch: 1 // 0)
    live.start()
    some(quotes, 0, 5)
    until(lambda: len(live.stats()["failures"]) == 2)
    with pytest.raises(ExceptionGroup) as caught:
        live.stop()
    assert caught.group_contains(ZeroDivisionError)


def test_an_error_of_reading_is_seen(quotes, follow, monkeypatch, caplog):
    live = follow(H13)
    monkeypatch.setattr(live._reader, "take", lambda **_: 1 // 0)
    live.start()
    until(lambda: not live.running)
    assert "reading a live stream failed" in caplog.text
    with pytest.raises(ZeroDivisionError):
        live.stop()


def test_a_callback_may_close_it(quotes, follow):
    live = follow(H13)
    live.on_batch(lambda batch: live.close())
    live.start()
    some(quotes, 0, 5)
    until(lambda: not live.running)
    assert live.closed


# -- closing ---------------------------------------------------------------------------------------


def test_who_waits_in_another_thread_is_let_go(follow):
    live = follow(None)
    came: list[object] = []
    thread = threading.Thread(target=lambda: came.extend(live.batches()))
    thread.start()
    until(lambda: live._reader._follower._waiter._waiters == 1)
    live.close()
    thread.join(30)
    assert not thread.is_alive()
    assert came == []


def test_nothing_can_be_read_after_it_was_closed(quotes, follow):
    some(quotes, 0, 5)
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


def test_what_is_forgotten_lets_go_of_its_files(quotes, root):
    gc.collect()
    before = open_descriptors()
    live = Live(root, STREAMS, COLUMNS, H13)
    live.read()
    assert open_descriptors() > before
    del live
    gc.collect()
    assert open_descriptors() == before


# -- as an object ----------------------------------------------------------------------------------


def test_what_it_says_of_itself(both, follow):
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


def test_the_order_of_streams_does_not_matter(both, follow):
    one, other = follow(H13, STREAMS), follow(H13, STREAMS[::-1])
    assert one.streams == other.streams
    assert one.read().equals(other.read())


def test_no_columns_of_messages_are_lost(quotes, follow):
    """A frame of no ticks is as a frame of some."""
    live = follow(H13)
    empty = live.read()
    some(quotes, 0, 2)
    assert live.read().schema == empty.schema == to_polars(to_table([], COLUMNS)).schema


def until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.001)
