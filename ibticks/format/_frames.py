"""Frames without decoding them: walking, finding, describing, telling apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.format import _decode_kernels as k
from ibticks.format._decode import corrupt, doubled, stretch
from ibticks.format._decode_kernels import State
from ibticks.format._framing import BLOCK_BYTES

__all__ = [
    "TORN",
    "BlockScan",
    "FrameScan",
    "count_frames",
    "find_payloads",
    "fingerprint_payloads",
    "scan_frames",
]

TORN: Final = "torn"
"""The problem of a buffer whose last frame is not whole: normal in a file being written."""


@dataclass(frozen=True, slots=True)
class BlockScan:
    """About 1 MiB of whole frames: ``buffer[start:stop]`` and the times (UTC ns) in it."""

    start: int
    stop: int
    messages: int
    ticks: int
    first_ns: int
    min_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True)
class FrameScan:
    """What a walk over the frames of a buffer found.

    Attributes
    ----------
    blocks : tuple of ScannedBlock
    end : int
        Where the last whole frame ends.
    problem : str or None
        Why the walk ended there, if not at the end of the buffer: ``torn`` (the last frame is not
        whole) or a description of the damage.
    """

    blocks: tuple[BlockScan, ...]
    end: int
    problem: str | None

    @property
    def messages(self) -> int:
        """Whole frames."""
        return sum(block.messages for block in self.blocks)

    @property
    def ticks(self) -> int:
        """How many of them are ticks."""
        return sum(block.ticks for block in self.blocks)


def scan_frames(
    buffer: bytes | memoryview | npt.NDArray[np.uint8],
    start: int = 0,
    stop: int | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> FrameScan:
    """Walk the frames of ``buffer[start:stop]`` and describe them in blocks.

    A damaged or torn frame ends the walk; it is told, not raised.
    """
    data, stop = stretch(buffer, start, stop)
    most = (stop - start) // max(1, block_bytes) + 1
    arrays = [np.empty(most, dtype=np.int64) for _ in range(6)]
    state = np.zeros(k.STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    status = k.scan_blocks(data, stop, block_bytes, *arrays, state)
    end = int(state[State.POSITION])
    rows = [array[: state[State.ROWS]].tolist() for array in arrays]
    offsets = [*rows[0], end]
    blocks = tuple(
        BlockScan(at, offsets[i + 1], *(column[i] for column in rows[1:]))
        for i, at in enumerate(rows[0])
    )
    return FrameScan(blocks, end, _problem(status, end))


def _problem(status: int, end: int) -> str | None:
    if status == k.DONE:
        return None
    return TORN if status == k.TORN else str(corrupt(status, end))


def count_frames(
    buffer: bytes | memoryview | npt.NDArray[np.uint8], start: int = 0, stop: int | None = None
) -> tuple[int, int, str | None]:
    """Count the whole frames of ``buffer[start:stop]`` without looking into them.

    Returns
    -------
    frames : int
    end : int
        Where the last whole one ends.
    problem : str or None
        Why the walk ended there: ``torn``, or a description of the damage.
    """
    data, stop = stretch(buffer, start, stop)
    state = np.zeros(k.STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    status = k.walk_frames(data, stop, state)
    end = int(state[State.POSITION])
    return int(state[State.MESSAGES]), end, _problem(status, end)


def find_payloads(
    buffer: bytes | memoryview | npt.NDArray[np.uint8],
    start: int = 0,
    stop: int | None = None,
    *,
    ticks: bool,
    others: bool,
    start_ns: int = TIME_MIN,
    end_ns: int = TIME_MAX,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the payloads of the messages in ``[start_ns, end_ns)`` are.

    Returns
    -------
    offsets, sizes, times : numpy.ndarray
        int64, one a message, in file order; times in UTC nanoseconds. A torn tail is left out.

    Raises
    ------
    CorruptFileError
        At a damaged frame.
    """
    data, stop = stretch(buffer, start, stop)
    found = [np.empty(64, dtype=np.int64) for _ in range(3)]
    state = np.zeros(k.STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    while True:
        status = k.find_messages(data, stop, start_ns, end_ns, ticks, others, *found, state)
        if status != k.NEED_ROWS:
            break
        found = [doubled(array) for array in found]
    if status not in (k.DONE, k.TORN):
        raise corrupt(status, int(state[State.POSITION]))
    rows = int(state[State.ROWS])
    return found[0][:rows], found[1][:rows], found[2][:rows]


def fingerprint_payloads(
    buffer: bytes | memoryview | npt.NDArray[np.uint8], start: int = 0, stop: int | None = None
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """128-bit fingerprints of the payloads, and where each frame ends.

    Returns
    -------
    prints : numpy.ndarray
        uint64, shape ``(messages, 2)``.
    ends : numpy.ndarray
        int64, shape ``(messages,)``.
    """
    data, stop = stretch(buffer, start, stop)
    prints, ends = np.empty((64, 2), dtype=np.uint64), np.empty(64, dtype=np.int64)
    state = np.zeros(k.STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    while True:
        status = k.fingerprint_frames(data, stop, prints, ends, state)
        if status != k.NEED_ROWS:
            break
        prints, ends = doubled(prints), doubled(ends)
    if status not in (k.DONE, k.TORN):
        raise corrupt(status, int(state[State.POSITION]))
    rows = int(state[State.ROWS])
    return prints[:rows], ends[:rows]
