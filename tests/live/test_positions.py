"""Resume tokens: after each tick of a batch, shortened, and in files that are gone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.config import HOUR_NS
from ibticks.errors import InputError
from ibticks.live import Live, next_position
from ibticks.live._stream_files import parse_position
from tests.storage.samples import CONTRACT, H13

from .simulation import STREAMS, Simulation, columns, info, message

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibticks.live import Batch
    from ibticks.storage import StreamWriter


def numbers(batches: list[Batch]) -> list[int]:
    """Return the numbers of the ticks of some batches, in the order of their messages."""
    return [tick["data"]["sequence"] for batch in batches for tick in batch.messages()]


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_resumes_after_any_tick(
    root: Path, follow: Callable[..., Live], seed: int
) -> None:
    choose = random.Random(seed)
    world = Simulation(root, seed, late=False)
    for _ in range(40):
        world.step()
    live = follow(0, STREAMS)
    positions: list[str] = []
    read: list[int] = []
    while True:
        before = live.short_position("10w")
        batches = live.drain()
        for _ in range(choose.randrange(1, 30)):
            world.step()
        if not batches:
            break
        for batch in batches:
            tokens = batch.positions(before)
            assert len(tokens) == batch.rows
            positions += tokens
            read += numbers([batch])
            before = tokens[-1]
        if len(read) > 3000:
            break
    read += numbers(live.drain())
    for place in choose.sample(range(len(positions)), min(25, len(positions))):
        resumed = follow(None, STREAMS, resume=positions[place])
        assert sorted(numbers(resumed.drain())) == sorted(read[place + 1 :])
        resumed.close()
    world.close()


def test_a_short_position(
    root: Path, writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    out = writer()
    for hour in range(30):
        out.append(message("bid_ask", H13 + hour * HOUR_NS, hour))
    live = follow(0)
    live.drain()
    token = live.short_position()
    assert len(token) < len(live.position) / 3
    position = parse_position(token)
    assert position.start_ns == H13 + 27 * HOUR_NS
    assert len(position.cursors) == 3
    out.append(info(H13 + 29 * HOUR_NS))
    out.append(message("bid_ask", H13 + 30 * HOUR_NS, 30))
    assert numbers(follow(None, resume=token).drain()) == [30]


def test_levels(
    root: Path, writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    out = writer()
    out.append(message("bid_ask", H13, 0))
    out.append(message("bid_ask", H13 + HOUR_NS, 1))
    first, second, third = follow(0), follow(None), follow(H13 + HOUR_NS)
    assert not first.is_level_with(second)
    first.drain()
    third.drain()
    assert first.is_level_with(second)
    assert third.is_level_with(second)
    out.append(message("bid_ask", H13 + HOUR_NS, 2))
    first.drain()
    assert not first.is_level_with(second)
    assert not second.is_level_with(first)
    assert numbers(second.drain()) == [2]
    assert first.is_level_with(second)


def test_files_that_are_gone_or_replaced(
    root: Path, writer: Callable[..., StreamWriter], follow: Callable[..., Live]
) -> None:
    out = writer(open_files=1)
    for hour in range(3):
        out.write(columns("bid_ask", [H13 + hour * HOUR_NS + n for n in range(5)], 5 * hour))
    out.close()
    live = follow(0)
    live.drain()
    token = live.position
    assert next_position(root, token) is None
    paths = sorted((root / str(CONTRACT) / "bid_ask").rglob("*_ticks.pb"))
    paths[0].unlink()
    # The second hour has the ticks of another capture.
    paths[1].unlink()
    other = writer()
    other.write(columns("bid_ask", [H13 + HOUR_NS + 99], 99))
    lost = next_position(root, token)
    assert lost is not None
    assert [key.hour_ns for key in lost.files] == [H13, H13 + HOUR_NS]
    assert lost.interval == (H13, H13 + 2 * HOUR_NS)
    assert next_position(root, lost.position) is None
    other.write(columns("bid_ask", [H13 + HOUR_NS + 100], 100))
    assert numbers(follow(None, resume=lost.position).drain()) == [100]


@pytest.mark.parametrize(
    "addition",
    ["", "x", "1~last~3~~4~5", "1~last~3~~4~5~6~7", f"{CONTRACT}~last~3~../x~4~5~6", "~" * 6],
)
def test_additions_that_are_none(root: Path, follow: Callable[..., Live], addition: Any) -> None:
    with pytest.raises(InputError, match="is not a position"):
        next_position(root, f"{follow(0).position}.{addition}")
