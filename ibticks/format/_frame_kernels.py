"""Compiled walks over frames that decode no tick: count, find, describe and fingerprint them."""

from __future__ import annotations

import numpy as np
from numba import types

from ibticks._jit import BYTES, inline, kernel, load_u8
from ibticks.format._kernel_state import DONE, MALFORMED, NEED_ROWS, State
from ibticks.format._wire_kernels import frame_bounds, walk_message

__all__ = ["find_messages", "fingerprint_frames", "scan_blocks", "walk_frames"]

_POSITION, _ROWS, _MESSAGES = State.POSITION, State.ROWS, State.MESSAGES


@kernel(
    types.int64(
        BYTES,
        types.int64,
        types.int64,
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
    )
)
def scan_blocks(
    buffer,
    stop,
    target,
    offsets,
    messages,
    ticks,
    first,
    earliest,
    latest,
    state,
):
    """Walk the frames from ``state[POSITION]`` and describe them in blocks of ``target`` bytes.

    Block ``i`` begins at ``offsets[i]``; ``state[ROWS]`` is the number of blocks.
    """
    pos = state[_POSITION]
    block = -1
    status = DONE
    while pos < stop:
        status, frame_end = frame_bounds(buffer, pos, stop)
        if status != DONE:
            break
        ok, time, case, _, _, _, _, _ = walk_message(buffer, pos + 4, frame_end, state)
        if not ok:
            status = MALFORMED
            break
        if block < 0 or pos - offsets[block] >= target:
            block += 1
            if block >= offsets.size:
                status = NEED_ROWS
                block -= 1
                break
            offsets[block] = pos
            messages[block] = 0
            ticks[block] = 0
            first[block] = time
            earliest[block] = time
            latest[block] = time
        messages[block] += 1
        if case == 4:
            ticks[block] += 1
        earliest[block] = min(earliest[block], time)
        latest[block] = max(latest[block], time)
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = block + 1
    return status


@kernel(types.int64(BYTES, types.int64, types.int64[::1]))
def walk_frames(buffer, stop, state):
    """Walk from frame to frame by their lengths alone; count them in ``state[MESSAGES]``."""
    pos = state[_POSITION]
    status = DONE
    while pos < stop:
        status, frame_end = frame_bounds(buffer, pos, stop)
        if status != DONE:
            break
        state[_MESSAGES] += 1
        pos = frame_end
    state[_POSITION] = pos
    return status


@kernel(
    types.int64(
        BYTES,
        types.int64,
        types.int64,
        types.int64,
        types.boolean,
        types.boolean,
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
        types.int64[::1],
    )
)
def find_messages(
    buffer,
    stop,
    start_time,
    end_time,
    want_ticks,
    want_others,
    offsets,
    sizes,
    times,
    state,
):
    """Find offset, size and time of the payloads in the time range: ticks, others or both."""
    pos = state[_POSITION]
    row = state[_ROWS]
    status = DONE
    while pos < stop:
        status, frame_end = frame_bounds(buffer, pos, stop)
        if status != DONE:
            break
        ok, time, case, _, _, _, _, _ = walk_message(buffer, pos + 4, frame_end, state)
        if not ok:
            status = MALFORMED
            break
        wanted = want_ticks if case == 4 else want_others
        if wanted and start_time <= time < end_time:
            if row >= offsets.size:
                status = NEED_ROWS
                break
            offsets[row] = pos + 4
            sizes[row] = frame_end - pos - 4
            times[row] = time
            row += 1
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = row
    return status


@inline
def _mix(value):
    """Apply the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel(types.int64(BYTES, types.int64, types.uint64[:, ::1], types.int64[::1], types.int64[::1]))
def fingerprint_frames(buffer, stop, fingerprints, ends, state):
    """Compute two 64-bit fingerprints of each payload, and the position after each frame."""
    pos = state[_POSITION]
    row = state[_ROWS]
    status = DONE
    while pos < stop:
        status, frame_end = frame_bounds(buffer, pos, stop)
        if status != DONE:
            break
        if row >= ends.size:
            status = NEED_ROWS
            break
        at = pos + 4
        one = np.uint64(frame_end - at)
        two = ~one
        while at < frame_end:
            size = min(np.int64(8), frame_end - at)
            word = np.uint64(0)
            for i in range(size):
                word |= np.uint64(load_u8(buffer, at + i)) << np.uint64(8 * i)
            one = _mix(one ^ word)
            two = _mix(two + word)
            at += size
        fingerprints[row, 0] = one
        fingerprints[row, 1] = two
        ends[row] = frame_end
        row += 1
        pos = frame_end
    state[_POSITION] = pos
    state[_ROWS] = row
    return status
