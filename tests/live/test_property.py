"""Property: each tick comes once, in order, to every reader, while files change at random."""

from __future__ import annotations

from pathlib import Path

import pytest

from .simulation import SimulatedReader, Simulation, check_read, stored

STEPS = 300


@pytest.mark.parametrize("seed", range(9))
def test_every_reader_sees_every_tick_once(
    root: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = seed % 3 == 0
    if seed % 2:  # reads of few bytes, some of them fewer than a message
        monkeypatch.setattr("ibticks.live._tail._CHUNK_BYTES", 50 + 150 * seed)
    simulation = Simulation(root, seed, late=not in_order)
    readers: list[SimulatedReader] = []
    try:
        for _ in range(STEPS):
            simulation.step()
            if len(readers) < 5 and simulation.choose.random() < 0.03:
                readers.append(SimulatedReader(simulation))
            if readers and simulation.choose.random() < 0.3:
                simulation.choose.choice(readers).step()
        simulation.one("bid_ask")
        simulation.one("last")
        for reader in readers:
            reader.drain()
            reader.check_history()
            without = set() if reader.buffered else reader.stored_at_first
            check_read(reader.read, stored(root, reader.start_ns), without)
            if in_order:
                assert reader.times == sorted(reader.times)
        assert readers
        assert simulation.number == sum(map(len, stored(root).values()))
    finally:
        for reader in readers:
            reader.live.close()
        simulation.close()
