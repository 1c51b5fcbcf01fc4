"""Memory with forbidden pages around it: reading one byte outside a buffer ends the process."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import numpy.typing as npt

_PROT_NONE = 0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class GuardedMemory:
    """Some pages between two guard pages, on which any access is a segmentation fault."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = -(-size // page) * page
        self._pages = np.frombuffer(mmap.mmap(-1, self.size + 2 * page), dtype=np.uint8)
        self._inside = self._pages[page : page + self.size]
        for guard in (self._pages[:page], self._pages[page + self.size :]):
            if _libc.mprotect(guard.ctypes.data, page, _PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def at_the_end(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The bytes, right before the forbidden page."""
        return self._put(data, self.size - len(data))

    def at_the_start(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The bytes, right after the forbidden page."""
        return self._put(data, 0)

    def _put(self, data: bytes, at: int) -> npt.NDArray[np.uint8]:
        place = self._inside[at : at + len(data)]
        place[:] = np.frombuffer(data, dtype=np.uint8)
        return place
