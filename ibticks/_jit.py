"""Compile kernels: once for an installation, cached on disk, without the GIL, announced in the log.

Numba keeps the machine code beside the module, or in the user's cache folder where the module
cannot be written to; with neither, each process compiles in memory. A cache entry is valid for the
modification times of all files whose functions are compiled into the kernel.
"""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numba
from llvmlite import ir
from numba.core import cgutils, event, types
from numba.core.dispatcher import Dispatcher
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BYTES",
    "MUTABLE_BYTES",
    "compile_lazily",
    "inline",
    "kernel",
    "load_u8",
    "load_u32",
    "load_u64",
    "merge",
    "store_u8",
    "store_u64",
]

_log = logging.getLogger("ibticks")

_njit: Final[Any] = numba.njit  # its types lack some options

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
"""A buffer to read: a memory map, ``bytes``, or an array."""

MUTABLE_BYTES = types.Array(types.uint8, 1, "C")
"""A buffer to write."""


_CACHE_ERRORS: Final = (
    OSError,
    EOFError,
    pickle.PickleError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)
"""Errors of numba's cache: files that cannot be read or written, and contents that are no cache."""


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile for one signature, or load the machine code an earlier process left on disk.

    The kernel must not allocate: it is compiled without reference counts.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = compile_lazily(function, _nrt=False)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        return dispatcher

    return decorate


def compile_lazily(function: Callable[..., Any], **options: Any) -> Any:
    """Compile at the first call, or load the machine code an earlier process left on disk."""
    dispatcher: Any = _njit(nogil=True, **options)(function)
    if _may_be_cached(function):
        try:
            dispatcher.enable_caching()
        except RuntimeError:  # "no locator available": no folder for the cache can be written to
            return dispatcher
        dispatcher._cache._cache_file._source_stamp = _source_stamp(function)
        dispatcher._cache = _OptionalCache(dispatcher._cache)
    return dispatcher


def _source_stamp(function: Callable[..., Any]) -> tuple[tuple[str, int, int], ...]:
    """Return name, modification time and size of the files that a kernel is compiled from.

    Numba's own stamp is that of the file the kernel stands in, without the functions it calls.
    """
    files = {Path(__file__)}
    functions, pending = set[Any](), [function]
    while pending:
        code = pending.pop()
        functions.add(code)
        files.add(Path(code.__code__.co_filename))
        called = (code.__globals__.get(name) for name in code.__code__.co_names)
        pending += {
            dispatcher.py_func for dispatcher in called if isinstance(dispatcher, Dispatcher)
        } - functions
    stats = [(file.name, file.stat()) for file in sorted(files) if file.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


class _OptionalCache:
    """Numba's cache of one function, skipped where its files cannot be read or written.

    Numba checks that the folder can be written to when the function is defined. A full disk, files
    of another user or a file cut short would otherwise raise from the compilation itself.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            return self._cache.load_overload(signature, target_context)
        except _CACHE_ERRORS as error:
            _announcer.report_cache(self._cache.cache_path, error)
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        try:
            self._cache.save_overload(signature, compiled)
        except _CACHE_ERRORS as error:
            _announcer.report_cache(self._cache.cache_path, error)


def _may_be_cached(function: Callable[..., Any]) -> bool:
    """Return whether numba may look for a folder for the machine code of a function.

    For a user without a home folder numba would create a folder named ``~`` in the working folder.
    """
    settings: Any = numba.config
    if settings.CACHE_DIR or os.environ.get("XDG_CACHE_HOME"):
        return True
    try:
        Path.home()
    except RuntimeError:
        pass
    else:
        return True
    beside = Path(function.__code__.co_filename).parent
    compiled = beside / "__pycache__"
    return os.access(compiled if compiled.exists() else beside, os.W_OK | os.X_OK)


def inline(function: Callable[..., Any]) -> Any:
    """Make a function that kernels call, and Python cannot; it must not allocate."""
    return _njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)(function)


def merge(function: Callable[..., Any]) -> Any:
    """Make a function whose code becomes part of the kernel that calls it, before types are known.

    For functions of the hot loop that have one caller; they must not allocate.
    """
    return _njit(nogil=True, inline="always", _nrt=False)(function)


class _Announcer(event.Listener):
    """Log, once per process, that kernels are compiled and why."""

    def __init__(self) -> None:
        self.is_done = False

    def on_start(self, event: Any) -> None:
        dispatcher = event.data["dispatcher"]
        if self.is_done or not dispatcher.py_func.__module__.startswith("ibticks."):
            return
        self.is_done = True
        if isinstance(dispatcher._cache, _OptionalCache):
            _log.warning("compiling for this machine: some seconds, once for an installation")
        else:
            _log.warning(
                "compiling in memory: some seconds in each process, as numba has no folder it may "
                "write its cache to; set NUMBA_CACHE_DIR to one"
            )

    def on_end(self, event: Any) -> None:
        """No-op."""

    def report_cache(self, folder: str, error: Exception) -> None:
        """Log that numba's cache cannot be used, unless a compilation was logged already."""
        if not self.is_done:
            self.is_done = True
            _log.warning(
                "compiling in memory: some seconds in each process, as numba's cache in %s cannot "
                "be used (%s: %s); mend or remove that folder, or set NUMBA_CACHE_DIR to another",
                folder,
                type(error).__name__,
                error,
            )


_announcer: Final = _Announcer()
event.register("numba:compile", _announcer)


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
