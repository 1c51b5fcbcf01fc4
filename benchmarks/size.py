"""Bytes of the hour on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.report import Figure, Row, at_most
from ibticks.format import HEADER_BYTES, decode_message, find_payloads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scene import Scene

__all__ = ["size"]

_EVERY: Final = 10


def size(scene: Scene) -> Iterator[Row]:
    """Plain and compressed files, beside JSON lines and Parquet."""
    json_lines = Figure.size(_json_bytes(scene))
    parquet = Figure.size(scene.parquet.stat().st_size)
    goals = {"none": None, "zstd": at_most(0.05), "snappy": None, "gzip": None}
    for kind, goal in goals.items():
        ours = Figure.size(scene.path(kind).stat().st_size)
        what = "the hour on disk, " + ("plain" if kind == "none" else kind)
        yield Row(what, ours, "v2 JSON lines", json_lines, share=True, goal=goal)
        goal = at_most(1.5) if kind == "zstd" else None
        yield Row(what, ours, "polars, zstd Parquet", parquet, share=True, goal=goal)


def _json_bytes(scene: Scene) -> float:
    """JSON lines without a space between, told from every tenth message."""
    data = np.fromfile(scene.path(), dtype=np.uint8)
    offsets, sizes, _ = find_payloads(data, HEADER_BYTES, ticks=True, others=True)
    lengths = [
        len(json.dumps(decode_message(data[at : at + n].data), separators=(",", ":"))) + 1
        for at, n in zip(offsets[::_EVERY].tolist(), sizes[::_EVERY].tolist(), strict=True)
    ]
    return sum(lengths) * len(offsets) / len(lengths)
