"""Whatever happens to the files: each tick comes once, in order, to every reader."""

from __future__ import annotations

import pytest

from .simulation import Reader, World, check_read, stored

STEPS = 300


@pytest.mark.parametrize("seed", range(9))
def test_every_reader_sees_every_tick_once(root, seed, monkeypatch):
    in_order = seed % 3 == 0
    if seed % 2:  # files in many pieces, some of them smaller than a message
        monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 50 + 150 * seed)
    world = World(root, seed, late=not in_order)
    readers: list[Reader] = []
    try:
        for _ in range(STEPS):
            world.step()
            if len(readers) < 5 and world.choose.random() < 0.03:
                readers.append(Reader(world))
            if readers and world.choose.random() < 0.3:
                world.choose.choice(readers).step()
        world.one("bid_ask")
        world.one("last")
        for reader in readers:
            reader.drain()
            reader.check_history()
            without = set() if reader.buffered else reader.at_first
            check_read(reader.read, stored(root, reader.start_ns), without)
            if in_order:
                assert reader.times == sorted(reader.times)
        assert readers
        assert world.number == sum(map(len, stored(root).values()))
    finally:
        for reader in readers:
            reader.live.close()
        world.close()
