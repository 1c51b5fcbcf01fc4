"""Compile kernels: once for an installation, cached on disk, without the GIL, announced in the log.

Numba keeps the machine code beside the module, or in the user's cache folder where the module
cannot be written to; with neither, each process compiles in memory. A cache entry is valid for the
modification times of all files whose functions are compiled into the kernel.
"""

from __future__ import annotations

import logging
import os
import pickle
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numba
from llvmlite import ir
from numba.core import cgutils, event, types
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BYTES",
    "MUTABLE_BYTES",
    "CompiledKernel",
    "KernelSource",
    "compile_kernel",
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


class KernelSource(NamedTuple):
    """A function to be compiled for one signature."""

    function: Callable[..., Any]
    signature: Any


class CompiledKernel(NamedTuple):
    """A kernel compiled behind a function that takes one pointer to its arguments.

    Attributes
    ----------
    address : int
        Of the function, ``int32 (int64 *result, void **error, int64 *words)``.
    arguments : tuple of (str, int, bool) or None
        Its arguments, tuples flattened: type, dimensions, and whether an array is written to; None
        for an integer.
    owner : object
        Keeps the code in memory.
    symbol : str
        Name of the function in its object code.
    code : bytes
        The object code; empty if it depends on more than itself and cannot be kept.
    """

    address: int
    arguments: tuple[tuple[str, int, bool] | None, ...]
    owner: object
    symbol: str
    code: bytes


def kernel(signature: Any) -> Callable[[Callable[..., Any]], KernelSource]:
    """Declare a kernel, which :class:`ibticks._machine_code.Kernel` compiles, loads and calls.

    It returns an int64 and must not allocate: it is compiled without reference counts.
    """

    def decorate(function: Callable[..., Any]) -> KernelSource:
        return KernelSource(function, signature)

    return decorate


def compile_kernel(module: str, name: str, *, is_kept: bool) -> CompiledKernel:
    """Compile a kernel.

    Parameters
    ----------
    module, name : str
        Where its source is.
    is_kept : bool
        Whether its object code will be kept on disk, for the log.
    """
    source: KernelSource = getattr(import_module(module), name)
    _announcer.announce(is_kept=is_kept)
    unpack = _unpacker(source.signature.args)
    function = inline(source.function)

    def entry(words: Any) -> Any:
        return function(*unpack(words))

    entry.__name__ = entry.__qualname__ = name
    words_type = types.CPointer(types.int64)
    compiled = _compile_entry(entry, types.int64(words_type))
    library, symbol = compiled.library, compiled.fndesc.llvm_func_name
    if not _is_called_with_pointers(compiled):
        raise RuntimeError(f"numba {numba.__version__} has a calling convention of another kind")
    leaves = _flatten_types(source.signature.args)
    arguments = tuple(_array_type(leaf) for leaf in leaves)
    address = library.get_pointer_to_function(symbol)
    code = b"" if _is_dependent(library) else library._get_compiled_object()
    return CompiledKernel(address, arguments, compiled, symbol, code)


_C_LIBRARY: Final = frozenset({"memcpy", "memmove", "memset", "memcmp"})


def _is_called_with_pointers(compiled: Any) -> bool:
    """Return whether a function is ``int32 (int64 *result, void **error, int64 *words)``."""
    described = compiled.fndesc
    function = compiled.target_context.call_conv.get_function_type(
        described.restype, described.argtypes
    )
    pointers = [isinstance(argument, ir.PointerType) for argument in function.args]
    return function.return_type == ir.IntType(32) and pointers == [True] * 3


def _compile_entry(entry: Callable[..., Any], signature: Any) -> Any:
    """Compile a function without what only Python would call, and keep its object code."""
    dispatcher = _njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)(
        entry
    )
    dispatcher._cache = _ObjectCodeCache()
    dispatcher.compile(signature)
    (compiled,) = dispatcher.overloads.values()
    return compiled


class _ObjectCodeCache(NullCache):
    """A cache that has nothing and keeps nothing, for which numba keeps object code."""

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """No-op."""


def _is_dependent(library: Any) -> bool:
    """Return whether machine code needs more than itself and functions of the C library."""
    return library.has_dynamic_globals or any(
        function.is_declaration
        and not function.name.startswith("llvm.")
        and function.name not in _C_LIBRARY
        for function in library._final_module.functions
    )


def _flatten_types(arguments: Any) -> Iterator[Any]:
    for argument in arguments:
        if isinstance(argument, types.BaseTuple):
            yield from _flatten_types(argument)
        else:
            yield argument


def _array_type(argument: Any) -> tuple[str, int, bool] | None:
    if not isinstance(argument, types.Array):
        return None
    if argument.layout != "C":
        raise TypeError(f"{argument} is not in C order")
    return as_dtype(argument.dtype).str, argument.ndim, argument.mutable


def _unpacker(arguments: tuple[Any, ...]) -> Any:
    """Make an intrinsic that turns a pointer to words into a tuple of the arguments."""

    @intrinsic
    def unpack(typing_context: Any, words: Any) -> Any:
        result = types.Tuple(arguments)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = 0

            def next_word() -> Any:
                nonlocal place
                place += 1
                at = builder.gep(args[0], [ir.Constant(ir.IntType(64), place - 1)])
                return builder.load(at)

            def build(kind: Any) -> Any:
                if isinstance(kind, types.BaseTuple):
                    parts: Any = kind  # its types lack the attribute
                    return context.make_tuple(builder, kind, [build(part) for part in parts.types])
                if isinstance(kind, types.Array):
                    return _build_array(context, builder, kind, next_word)
                if kind == types.boolean:
                    return cgutils.is_not_null(builder, next_word())
                if kind != types.int64:
                    raise TypeError(f"a kernel cannot take a {kind}")
                return next_word()

            return build(result)

        return result(words), generate

    return unpack


def _build_array(context: Any, builder: Any, kind: Any, next_word: Callable[[], Any]) -> Any:
    """Make an array that borrows its memory, from its address and shape."""
    array = context.make_array(kind)(context, builder)
    data = builder.inttoptr(next_word(), array.data.type)
    shape = [next_word() for _ in range(kind.ndim)]
    itemsize = ir.Constant(ir.IntType(64), as_dtype(kind.dtype).itemsize)
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    populate_array(array, data, shape, strides, itemsize, meminfo=None)
    return array._getvalue()


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
        if dispatcher.py_func.__module__.startswith("ibticks."):
            self.announce(is_kept=isinstance(dispatcher._cache, _OptionalCache))

    def announce(self, *, is_kept: bool) -> None:
        """Log that something is compiled, unless that was logged already."""
        if self.is_done:
            return
        self.is_done = True
        if is_kept:
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
