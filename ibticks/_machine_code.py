"""Run compiled kernels from the machine code an earlier process left on disk, without numba.

The import of numba and its cache take longer than anything else in the first load of a process. A
:class:`Kernel` therefore stores the object code of one function in a separate file, which LLVM
links into the process; numba is imported only where there is no such file. The function takes one
pointer: to a block of 64-bit words with its arguments.

A file is used only if it was compiled from these very sources, with these versions of numba and
LLVM and for this processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import threading
from array import array
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ibticks._disk_cache import cache_folders, hash_files, is_writable, read_cached, write_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["ArrayType", "Kernel", "LoadedKernel", "Packed"]

_MIN: Final = -(1 << 63)
_MAX: Final = (1 << 63) - 1

# Settings of numba that do not change the code it makes.
_HARMLESS_SETTINGS: Final = frozenset(
    {"NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES", "NUMBA_NUM_THREADS"}
)

_Function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)
"""Addresses of the result, the error and the words; the int32 is 0 unless there is an error."""

_C_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x0001, 0x0100, 0x0400  # of ``numpy.ndarray.flags.num``


class ArrayType(NamedTuple):
    """Type of an array that a kernel takes, in C order.

    Attributes
    ----------
    dtype : str
        As ``numpy.dtype.str`` has it.
    dimensions : int
    is_written : bool
        Whether the kernel may write to it.
    """

    dtype: str
    dimensions: int
    is_written: bool


class LoadedKernel(NamedTuple):
    """Machine code in memory.

    Attributes
    ----------
    address : int
        Of the function.
    arguments : tuple of ArrayType or None
        Types of its arguments, tuples flattened; None for an integer.
    owner : object
        Keeps the code in memory.
    """

    address: int
    arguments: tuple[ArrayType | None, ...]
    owner: object


class Packed:
    """Several arguments of a kernel as words, for more than one call with the same arrays.

    Parameters
    ----------
    *values : int, numpy.ndarray or tuple of them
        The arrays are kept alive.
    """

    __slots__ = ("checked", "leaves", "words")

    def __init__(self, *values: Any) -> None:
        self.leaves: Final = tuple(_flatten(values))
        self.words: Final = [word for leaf in self.leaves for word in _pack(leaf)]
        self.checked: tuple[int, int] | None = None  # for which arguments of which kernel


class Kernel:
    """A compiled function, loaded or compiled at its first call.

    Parameters
    ----------
    module, name : str
        Where its source is: a function under the decorator ``ibticks._jit.kernel``.
    sources : sequence of Path
        The files it is compiled from, those of everything it calls included.
    compile_kernel : callable
        ``ibticks._jit.compile_kernel``, or what imports it when it is called.

    Notes
    -----
    A call takes the arguments of the source: integers, arrays and tuples of them, or a
    :class:`Packed` in the place of several. It returns an int and does not hold the GIL.
    """

    def __init__(
        self,
        module: str,
        name: str,
        sources: Sequence[Path],
        compile_kernel: Callable[..., Any],
    ) -> None:
        self.module: Final = module
        self.name: Final = name
        self.sources: Final = tuple(sources)
        self._compile_kernel: Final = compile_kernel
        self._lock: Final = threading.Lock()
        self._call: Callable[[tuple[Any, ...]], int] | None = None

    def __call__(self, *arguments: Any) -> int:
        """Run the function.

        Raises
        ------
        TypeError
            An array has another type than the function was compiled for.
        """
        return (self._call or self.load())(arguments)

    def load(self) -> Callable[[tuple[Any, ...]], int]:
        """Load the machine code; where there is none, compile it and keep it on disk."""
        with self._lock:
            if self._call is None:
                self._call = _caller(self.name, self._read() or self._compile())
            return self._call

    def paths(self) -> Iterator[Path]:
        """Iterate over the files that may have its machine code, best first."""
        name = f"{self.name}-{_platform_key()}.kernel"
        return (folder / name for folder in cache_folders(self.sources[0].parent))

    def _read(self) -> LoadedKernel | None:
        stamp = hash_files(self.sources)
        for path in self.paths():
            content = read_cached(path, stamp)
            if content is not None:
                return _link(*_parse(content))
        return None

    def _compile(self) -> LoadedKernel:
        stamp = hash_files(self.sources)
        target = next((path for path in self.paths() if is_writable(path.parent)), None)
        compiled = self._compile_kernel(self.module, self.name, is_kept=target is not None)
        types = _types(compiled.arguments)
        if target is not None and compiled.code:
            write_cached(target, stamp, _format(compiled.symbol, types, compiled.code))
        return LoadedKernel(compiled.address, types, compiled)


def _caller(name: str, compiled: LoadedKernel) -> Callable[[tuple[Any, ...]], int]:
    """Return a function that takes the arguments of a kernel as a tuple."""
    function = _Function(compiled.address)
    expected = compiled.arguments

    def call(arguments: tuple[Any, ...]) -> int:
        words: list[int] = []
        place = 0
        for value in _flatten(arguments):
            if isinstance(value, Packed):
                if value.checked != (id(expected), place):
                    types = expected[place : place + len(value.leaves)]
                    _check(name, place, value.leaves, types)
                    value.checked = id(expected), place
                words += value.words
                place += len(value.leaves)
            else:
                _check(name, place, (value,), expected[place : place + 1])
                words += _pack(value)
                place += 1
        if place != len(expected):
            raise TypeError(f"kernel {name} takes {len(expected)} arguments, not {place}")
        block = array("q", (0, 0, *words))
        address = block.buffer_info()[0]
        if function(address, address + 8, address + 16):
            raise RuntimeError(f"kernel {name} failed")
        return block[0]

    call.compiled = compiled  # type: ignore[attr-defined]  # keeps the code in memory
    return call


def _flatten(values: Iterable[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        if isinstance(value, tuple):
            flat += _flatten(value)
        else:
            flat.append(value)
    return flat


def _pack(leaf: Any) -> tuple[int, ...]:
    """Return an integer, or address and shape of an array."""
    if shape := getattr(leaf, "shape", ()):
        return (leaf.__array_interface__["data"][0], *shape)
    return (index(leaf),)


def _check(name: str, place: int, leaves: Sequence[Any], types: Sequence[ArrayType | None]) -> None:
    """Raise a TypeError for arguments a kernel was not compiled for: it checks nothing itself."""
    if len(leaves) != len(types):
        raise TypeError(f"kernel {name} has no argument {place + len(types)}")
    for number, (leaf, type_) in enumerate(zip(leaves, types, strict=True), place):
        if type_ is None:
            if getattr(leaf, "shape", ()) or not _MIN <= index(leaf) <= _MAX:
                raise TypeError(f"kernel {name}: argument {number} is no int64: {leaf!r}")
            continue
        needed = _C_CONTIGUOUS | _ALIGNED | (_WRITEABLE if type_.is_written else 0)
        if (
            leaf.ndim != type_.dimensions
            or leaf.dtype.str != type_.dtype
            or leaf.flags.num & needed != needed
        ):
            raise TypeError(
                f"kernel {name}: argument {number} is no {type_}, but {leaf.dtype.str} in "
                f"{leaf.ndim} dimensions, {leaf.flags}"
            )


# -- files -----------------------------------------------------------------------------------------


def _format(symbol: str, arguments: Sequence[ArrayType | None], code: bytes) -> bytes:
    about = json.dumps({"symbol": symbol, "arguments": arguments}).encode()
    return len(about).to_bytes(4, "little") + about + code


def _parse(content: bytes) -> tuple[str, tuple[ArrayType | None, ...], bytes]:
    """Return symbol, arguments and object code."""
    stop = 4 + int.from_bytes(content[:4], "little")
    about = json.loads(content[4:stop])
    return about["symbol"], _types(about["arguments"]), content[stop:]


def _types(arguments: Iterable[Any]) -> tuple[ArrayType | None, ...]:
    return tuple(None if value is None else ArrayType(*value) for value in arguments)


@cache
def _platform_key() -> str:
    """Return a hash of the processor, the compiler and its settings."""
    import llvmlite
    import llvmlite.binding as llvm

    settings = sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name not in _HARMLESS_SETTINGS
    )
    spec = find_spec("numba")
    version = b"" if spec is None or spec.origin is None else _version_of(Path(spec.origin))
    parts = [
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        llvmlite.__version__,
        *settings,
    ]
    return hashlib.sha256("\n".join(parts).encode() + version).hexdigest()[:16]


def _version_of(package: Path) -> bytes:
    """Return the file in which an installed numba has its version."""
    with suppress(OSError):
        return package.with_name("_version.py").read_bytes()
    return b""


def _link(symbol: str, arguments: tuple[ArrayType | None, ...], code: bytes) -> LoadedKernel | None:
    """Link object code into the process; None if LLVM refuses it."""
    import llvmlite.binding as llvm

    try:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=llvm.get_host_cpu_features().flatten(),
            opt=3,
            reloc="default",
            codemodel="jitdefault",
            jit=True,
        )
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = engine.get_function_address(symbol)
    except RuntimeError:
        return None
    return LoadedKernel(address, arguments, engine) if address else None
