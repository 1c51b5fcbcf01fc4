"""Frames without decoding their ticks: count, find, describe and fingerprint them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ibticks.config import TIME_MAX, TIME_MIN
from ibticks.format import _kernel_state as status_codes
from ibticks.format import _kernels as kernels
from ibticks.format._decode import check_bounds, corrupt_error, doubled
from ibticks.format._framing import BLOCK_BYTES
from ibticks.format._kernel_state import STATE_SIZE, State

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
    """The frames of a buffer, described in blocks.

    Attributes
    ----------
    blocks : tuple of ScannedBlock
    end : int
        Position after the last whole frame.
    problem : str or None
        Reason that the walk ended there, if not at the end of the buffer: ``torn`` (the last frame
        is not whole) or a description of the damage.
    """

    blocks: tuple[BlockScan, ...]
    end: int
    problem: str | None

    @property
    def messages(self) -> int:
        """Number of whole frames."""
        return sum(block.messages for block in self.blocks)

    @property
    def ticks(self) -> int:
        """Number of ticks among them."""
        return sum(block.ticks for block in self.blocks)


def scan_frames(
    buffer: bytes | memoryview | npt.NDArray[np.uint8],
    start: int = 0,
    stop: int | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> FrameScan:
    """Walk the frames of ``buffer[start:stop]`` and describe them in blocks.

    A damaged or torn frame ends the walk and is reported in ``problem``, not raised.
    """
    data, stop = check_bounds(buffer, start, stop)
    most = (stop - start) // max(1, block_bytes) + 1
    arrays = [np.empty(most, dtype=np.int64) for _ in range(6)]
    state = np.zeros(STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    status = kernels.scan_blocks(data, stop, block_bytes, *arrays, state)
    end = int(state[State.POSITION])
    rows = [array[: state[State.ROWS]].tolist() for array in arrays]
    offsets = [*rows[0], end]
    blocks = tuple(
        BlockScan(at, offsets[i + 1], *(column[i] for column in rows[1:]))
        for i, at in enumerate(rows[0])
    )
    return FrameScan(blocks, end, _problem(status, end))


def _problem(status: int, end: int) -> str | None:
    if status == status_codes.DONE:
        return None
    return TORN if status == status_codes.TORN else str(corrupt_error(status, end))


def count_frames(
    buffer: bytes | memoryview | npt.NDArray[np.uint8], start: int = 0, stop: int | None = None
) -> tuple[int, int, str | None]:
    """Count the whole frames of ``buffer[start:stop]`` by their lengths alone.

    Returns
    -------
    frames : int
    end : int
        Position after the last whole one.
    problem : str or None
        Reason that the walk ended there: ``torn``, or a description of the damage.
    """
    data, stop = check_bounds(buffer, start, stop)
    state = np.zeros(STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    status = kernels.walk_frames(data, stop, state)
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
    """Find the payloads of the messages in ``[start_ns, end_ns)``.

    Returns
    -------
    offsets, sizes : numpy.ndarray
        int64, one per message, in file order. A torn tail is skipped.
    times : numpy.ndarray
        int64, UTC nanoseconds.

    Raises
    ------
    CorruptFileError
        A frame is damaged.
    """
    data, stop = check_bounds(buffer, start, stop)
    arrays = [np.empty(64, dtype=np.int64) for _ in range(3)]
    state = np.zeros(STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    while True:
        status = kernels.find_messages(data, stop, start_ns, end_ns, ticks, others, *arrays, state)
        if status != status_codes.NEED_ROWS:
            break
        arrays = [doubled(array) for array in arrays]
    if status not in (status_codes.DONE, status_codes.TORN):
        raise corrupt_error(status, int(state[State.POSITION]))
    rows = int(state[State.ROWS])
    return arrays[0][:rows], arrays[1][:rows], arrays[2][:rows]


def fingerprint_payloads(
    buffer: bytes | memoryview | npt.NDArray[np.uint8], start: int = 0, stop: int | None = None
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Compute 128-bit fingerprints of the payloads, and the position after each frame.

    Returns
    -------
    fingerprints : numpy.ndarray
        uint64, shape ``(messages, 2)``.
    ends : numpy.ndarray
        int64, shape ``(messages,)``.
    """
    data, stop = check_bounds(buffer, start, stop)
    fingerprints, ends = np.empty((64, 2), dtype=np.uint64), np.empty(64, dtype=np.int64)
    state = np.zeros(STATE_SIZE, dtype=np.int64)
    state[State.POSITION] = start
    while True:
        status = kernels.fingerprint_frames(data, stop, fingerprints, ends, state)
        if status != status_codes.NEED_ROWS:
            break
        fingerprints, ends = doubled(fingerprints), doubled(ends)
    if status not in (status_codes.DONE, status_codes.TORN):
        raise corrupt_error(status, int(state[State.POSITION]))
    rows = int(state[State.ROWS])
    return fingerprints[:rows], ends[:rows]
