"""Run compiled kernels from the machine code an earlier process left on disk, without numba.

The import of numba and its cache take longer than anything else in the first load of a process. A
:class:`Kernel` therefore keeps the object code of one function in a file of its own, which LLVM
links into the process; numba is imported only where there is no such file. The function takes one
pointer: to a block of 64-bit words with its arguments.

A file is used only if it was compiled from these very sources, with these versions of numba and
LLVM, for this processor, and if its checksum is right.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import tempfile
import threading
from array import array
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["ArrayType", "Kernel", "LoadedKernel", "Packed"]

_MAGIC: Final = b"ibticks kernel 1\n"
_MIN: Final = -(1 << 63)
_MAX: Final = (1 << 63) - 1
_HASH_BYTES: Final = hashlib.sha256().digest_size

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
        return (folder / name for folder in _folders(self.sources[0].parent))

    def _read(self) -> LoadedKernel | None:
        stamp = _hash_files(self.sources)
        for path in self.paths():
            with suppress(OSError):
                content = _parse(path.read_bytes(), stamp)
                if content is not None:
                    return _link(*content)
        return None

    def _compile(self) -> LoadedKernel:
        stamp = _hash_files(self.sources)
        target = next((path for path in self.paths() if _is_writable(path.parent)), None)
        compiled = self._compile_kernel(self.module, self.name, is_kept=target is not None)
        types = _types(compiled.arguments)
        if target is not None and compiled.code:
            with suppress(OSError):  # a full disk: the next process compiles again
                _write(target, _format(stamp, compiled.symbol, types, compiled.code))
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


def _format(stamp: bytes, symbol: str, arguments: Sequence[ArrayType | None], code: bytes) -> bytes:
    about = json.dumps({"symbol": symbol, "arguments": arguments}).encode()
    content = stamp + len(about).to_bytes(4, "little") + about + code
    return _MAGIC + hashlib.sha256(content).digest() + content


def _parse(content: bytes, stamp: bytes) -> tuple[str, tuple[ArrayType | None, ...], bytes] | None:
    """Return symbol, arguments and object code; None if other sources or damage made the file."""
    if not content.startswith(_MAGIC):
        return None
    start = len(_MAGIC) + _HASH_BYTES
    if hashlib.sha256(content[start:]).digest() != content[len(_MAGIC) : start]:
        return None
    if content[start : start + _HASH_BYTES] != stamp:
        return None
    start += _HASH_BYTES + 4
    stop = start + int.from_bytes(content[start - 4 : start], "little")
    about = json.loads(content[start:stop])
    return about["symbol"], _types(about["arguments"]), content[stop:]


def _types(arguments: Iterable[Any]) -> tuple[ArrayType | None, ...]:
    return tuple(None if value is None else ArrayType(*value) for value in arguments)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _folders(beside: Path) -> Iterator[Path]:
    """Iterate over the folders machine code may be in: those of numba's own cache."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen) / "ibticks"
        return
    yield beside / "__pycache__"
    if caches := os.environ.get("XDG_CACHE_HOME"):
        yield Path(caches) / "ibticks"
        return
    with suppress(RuntimeError):  # a user without a home folder
        yield Path.home() / ".cache" / "ibticks"


def _hash_files(paths: Iterable[Path]) -> bytes:
    """Return a hash of names and contents; of a file that is not there, of its name."""
    total = hashlib.sha256()
    for path in paths:
        content = path.read_bytes() if path.is_file() else b""
        total.update(f"{path.name} {len(content)}\n".encode())
        total.update(content)
    return total.digest()


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
