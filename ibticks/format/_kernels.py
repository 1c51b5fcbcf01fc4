"""The compiled kernels of this room: loaded from disk at their first call, or compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ibticks._machine_code import Kernel

__all__ = [
    "SOURCES",
    "decode_ticks",
    "encode_ticks",
    "find_messages",
    "fingerprint_frames",
    "rehash",
    "scan_blocks",
    "walk_frames",
]

_HERE: Final = Path(__file__).parent

SOURCES: Final = (
    _HERE / "_decode_kernels.py",
    _HERE / "_encode_kernels.py",
    _HERE / "_frame_kernels.py",
    _HERE / "_framing.py",
    _HERE / "_kernel_state.py",
    _HERE / "_shape_kernels.py",
    _HERE / "_wire_kernels.py",
    _HERE.parent / "_jit.py",
    _HERE.parent / "_machine_code.py",
)
"""The files that kernels are compiled from: those of functions, and of constants in them."""


def _compile_kernel(*place: str, is_kept: bool) -> object:
    from ibticks._jit import compile_kernel

    return compile_kernel(*place, is_kept=is_kept)


def _kernel(module: str, name: str) -> Kernel:
    return Kernel(f"ibticks.format.{module}", name, SOURCES, _compile_kernel)


decode_ticks: Final = _kernel("_decode_kernels", "decode_ticks")
encode_ticks: Final = _kernel("_encode_kernels", "encode_ticks")
find_messages: Final = _kernel("_frame_kernels", "find_messages")
fingerprint_frames: Final = _kernel("_frame_kernels", "fingerprint_frames")
rehash: Final = _kernel("_wire_kernels", "rehash")
scan_blocks: Final = _kernel("_frame_kernels", "scan_blocks")
walk_frames: Final = _kernel("_frame_kernels", "walk_frames")
