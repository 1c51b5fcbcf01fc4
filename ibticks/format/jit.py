"""How kernels are compiled: once for an installation, kept on disk, without the GIL, out loud.

Numba keeps the machine code beside the module, or in the user's cache folder where the module
cannot be written to. What is compiled together must stand in one file: numba looks at the
modification time of the file a kernel stands in, not of those it calls into.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numba
from llvmlite import ir
from numba.core import cgutils, event, types
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BYTES",
    "MUTABLE_BYTES",
    "inline",
    "kernel",
    "load_u8",
    "load_u32",
    "load_u64",
    "store_u8",
    "store_u64",
]

_log = logging.getLogger("ibticks")

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
"""A buffer to read: a memory map, ``bytes``, or an array."""

MUTABLE_BYTES = types.Array(types.uint8, 1, "C")
"""A buffer to write."""


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile for one signature, or take the machine code an earlier process left on disk."""

    def decorate(function: Callable[..., Any]) -> Any:
        return numba.njit(signature, nogil=True, cache=True)(function)

    return decorate


def inline(function: Callable[..., Any]) -> Any:
    """A piece of a kernel: compiled into whatever calls it."""
    return numba.njit(nogil=True)(function)


class _Announcer(event.Listener):
    """Says, once a process, that and why the user is waiting."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        dispatcher = event.data["dispatcher"]
        if not self.said and dispatcher.py_func.__module__.startswith("ibticks."):
            self.said = True
            _log.warning("compiling for this machine: some seconds, once for an installation")

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcer())


def _pointer(context: Any, builder: Any, signature: Any, args: Any, bits: int) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(
        cgutils.gep_inbounds(builder, data, args[1]), ir.IntType(bits).as_pointer()
    )


def _loader(bits: int) -> Any:
    """An intrinsic that reads ``bits`` little-endian bits anywhere; it checks no bounds."""

    @intrinsic
    def load(typing_context: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            loaded = builder.load(_pointer(context, builder, signature, args, bits), align=1)
            return impl_ret_untracked(context, builder, signature.return_type, loaded)

        return getattr(types, f"uint{bits}")(array, types.intp), generate

    return load


def _storer(bits: int) -> Any:
    """An intrinsic that writes ``bits`` little-endian bits anywhere; it checks no bounds."""

    @intrinsic
    def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], _pointer(context, builder, signature, args, bits), align=1)
            return context.get_dummy_value()

        return types.void(array, types.intp, getattr(types, f"uint{bits}")), generate

    return store


load_u8, load_u32, load_u64 = _loader(8), _loader(32), _loader(64)
store_u8, store_u64 = _storer(8), _storer(64)
