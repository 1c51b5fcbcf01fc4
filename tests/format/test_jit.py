"""Compilation of kernels: without the GIL, once, and loaded only when used."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pwd
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from ibticks import _jit as jit
from ibticks._disk_cache import write_cached
from ibticks._machine_code import Kernel, Packed
from ibticks.format import Decoder, Encoder, _kernels
from ibticks.format._kernel_state import DONE, STATE_SIZE, TORN

from .oracle import columns_of, framed
from .test_decode import TICK, tick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

KERNELS = {name: value for name, value in vars(_kernels).items() if isinstance(value, Kernel)}


def run(code: str, **environment: str) -> list[str]:
    """The lines a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    env = os.environ | environment
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=env
    ).stdout.splitlines()


def test_all_kernels_are_known() -> None:
    assert KERNELS.keys() == {
        "decode_ticks",
        "encode_ticks",
        "find_messages",
        "fingerprint_frames",
        "rehash",
        "scan_blocks",
        "walk_frames",
    }


@pytest.mark.parametrize("name", KERNELS)
def test_the_machine_code_of_a_kernel_is_on_disk(name: str) -> None:
    kernel = KERNELS[name]
    kernel.load()
    assert any(path.is_file() for path in kernel.paths())


@pytest.mark.parametrize("name", KERNELS)
def test_the_sources_of_a_kernel_are_all_it_is_compiled_from(name: str) -> None:
    """Functions it calls, and modules whose constants numba freezes into it."""
    kernel = KERNELS[name]
    pending = [getattr(importlib.import_module(kernel.module), name).function]
    functions, files = set[Any](), {Path(jit.__file__)}
    while pending:
        function = pending.pop()
        functions.add(function)
        files.add(Path(function.__code__.co_filename))
        module = sys.modules[function.__module__]
        for used in function.__code__.co_names:
            value = function.__globals__.get(used)
            if isinstance(value, Dispatcher) and value.py_func not in functions:
                pending.append(value.py_func)
        files |= {Path(str(other.__file__)) for other in imported_constants(module)}
    assert files <= set(kernel.sources)


def imported_constants(module: ModuleType) -> list[ModuleType]:
    """The modules of this package from which a module imports constants."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    return [
        importlib.import_module(str(node.module))
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ibticks")
    ]


def test_an_argument_a_kernel_was_not_compiled_for_is_refused() -> None:
    state = np.zeros(STATE_SIZE, dtype=np.int64)
    buffer = np.frombuffer(b"", dtype=np.uint8)
    assert _kernels.walk_frames(buffer, 0, state) == DONE
    assert _kernels.walk_frames(buffer, np.uint32(0), state) == DONE
    with pytest.raises(TypeError, match="float"):
        _kernels.walk_frames(buffer, 0.0, state)
    wrong: list[tuple[Any, ...]] = [
        (buffer, 0, state.view(np.uint64)),
        (buffer, 0, np.zeros((2, STATE_SIZE), dtype=np.int64)),
        (buffer, 0, np.zeros(2 * STATE_SIZE, dtype=np.int64)[::2]),
        (buffer, 0, np.frombuffer(bytes(8 * STATE_SIZE), dtype=np.int64)),
        (buffer, state, state),
        (buffer, 1 << 63, state),
        (buffer, -(1 << 63) - 1, state),
        (buffer, 0),
        (buffer, 0, state, 0),
        (Packed(buffer, 0, state.view(np.uint64)),),
        (Packed(buffer, 0, state, 0),),
    ]
    for arguments in wrong:
        with pytest.raises(TypeError, match="walk_frames"):
            _kernels.walk_frames(*arguments)


# --- threads --------------------------------------------------------------------------------------


@pytest.fixture
def uninterrupted() -> Iterator[None]:
    """No thread is made to give up the GIL: it must give it up itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


BUFFER = np.frombuffer(framed(*(tick(sequence=i) for i in range(2000))), dtype=np.uint8)
TICKS = columns_of([TICK | {"sequence": i} for i in range(2000)])


def decoding() -> Callable[[], None]:
    decoder = Decoder(["price", "exchange", "conditions"], rows=10**4)
    decoder.feed(BUFFER)
    mark = Decoder(["price"]).mark()

    def once() -> None:
        decoder.rewind(mark)
        decoder.feed(BUFFER)

    return once


def encoding() -> Callable[[], list[Any]]:
    encoder = Encoder(TICKS)
    return lambda: [None for _ in encoder.chunks()]


@pytest.mark.usefixtures("uninterrupted")
@pytest.mark.parametrize("work", [decoding, encoding])
def test_python_runs_while_two_threads_run_kernels(
    work: Callable[[], Callable[[], None]] | Callable[[], Callable[[], list[None]]],
) -> None:
    # With the GIL held throughout a kernel, the third thread could only begin once both are done.
    progressed, gave_up = threading.Event(), []
    start = threading.Barrier(3)

    def busy() -> None:
        once = work()
        start.wait()
        for _ in range(20_000):
            if progressed.is_set():
                return
            once()
        gave_up.append(True)

    def progress() -> None:
        start.wait()
        progressed.set()

    threads = [threading.Thread(target=target) for target in (busy, busy, progress)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progressed.is_set()
    assert not gave_up


# --- compiled once --------------------------------------------------------------------------------

FULL = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"

COMPILE = """
import json, logging, sys
messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("ibticks").addHandler(handler)
import numpy as np
from ibticks.format._kernels import walk_frames
state = np.zeros(123, dtype=np.int64)
status = walk_frames(np.frombuffer(bytes([0, 0, 0, 1, 7, 0]), dtype=np.uint8), 6, state)
print(json.dumps([messages, "numba" in sys.modules, status, state[:3].tolist()]))
"""
WALKED = [TORN, [5, 0, 1]]
ANNOUNCEMENT = "compiling for this machine: some seconds, once for an installation"


def compiled_in(folder: Path, setup: str = "") -> list[Any]:
    """Return what is logged, whether numba is loaded, and the result, in a fresh interpreter."""
    return json.loads(run(setup + COMPILE, NUMBA_CACHE_DIR=str(folder))[0])


def test_the_machine_code_is_cached_and_its_compilation_is_logged(tmp_path: Path) -> None:
    first, second = (compiled_in(tmp_path) for _ in range(2))
    assert first == [[ANNOUNCEMENT], True, *WALKED]
    assert second == [[], False, *WALKED]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "of other sources"])
def test_damaged_machine_code_is_compiled_anew(tmp_path: Path, damage: str) -> None:
    compiled_in(tmp_path)
    (path,) = tmp_path.glob("*/*.kernel")
    whole = path.read_bytes()
    if damage == "of other sources":
        write_cached(path, bytes(32), b"no code")
    else:
        at = len(whole) // 2
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        path.write_bytes({"empty": b"", "cut": whole[:-1], "flipped": flipped}[damage])
    assert compiled_in(tmp_path) == [[ANNOUNCEMENT], True, *WALKED]
    assert compiled_in(tmp_path) == [[], False, *WALKED]


def test_a_full_disk_keeps_no_kernel(tmp_path: Path) -> None:
    assert compiled_in(tmp_path, FULL) == [[ANNOUNCEMENT], True, *WALKED]
    assert not list(tmp_path.glob("*/*.kernel"))


def test_without_a_folder_a_kernel_is_compiled_in_memory() -> None:
    (line,), *result = compiled_in(Path("/dev/null/numba"))
    assert line.startswith("compiling in memory: some seconds in each process")
    assert result == [True, *WALKED]


# --- no folder for the machine code ---------------------------------------------------------------

USE = """
import json, logging, sys
messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("ibticks").addHandler(handler)
import numpy as np
from ibticks.analysis._engine.kernels import filled_bars
assert filled_bars(np.array([1.0, 1.0, 1.0]), 2.0).tolist() == [0, 0, -2]
assert filled_bars(np.array([1, 1, 1]), 2.0).tolist() == [0, 0, -2]
print(json.dumps(messages))
"""


def logged(setup: str = "", **environment: str) -> list[str]:
    """Return the log of a fresh interpreter that compiles a kernel for two signatures."""
    (line,) = run(setup + USE, **environment)
    return json.loads(line)


def test_without_a_cache_folder_a_kernel_is_compiled_in_memory_and_logged_once() -> None:
    only_that = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    (line,) = logged(NUMBA_CACHE_DIR="/dev/null/numba", **only_that)
    assert line.startswith("compiling in memory: some seconds in each process")
    assert "NUMBA_CACHE_DIR" in line


def test_a_full_cache_folder_is_skipped(tmp_path: Path) -> None:
    """Every write is refused, as on a full disk: an empty file can still be made."""
    (line,) = logged(FULL, NUMBA_CACHE_DIR=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
    assert line.startswith("compiling")


@pytest.mark.parametrize(
    ("suffix", "content"), [(".nbi", b""), (".nbi", b"no pickle"), (".nbi", None), (".nbc", None)]
)
def test_a_damaged_cache_is_ignored(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    assert len(logged(NUMBA_CACHE_DIR=str(tmp_path))) == 1
    files = sorted(tmp_path.glob(f"*/*{suffix}"))
    assert files
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    (line,) = logged(NUMBA_CACHE_DIR=str(tmp_path))
    assert line.startswith("compiling")


@pytest.mark.parametrize("variable", [None, "HOME", "XDG_CACHE_HOME"])
def test_without_a_home_folder_numba_creates_no_folder_named_tilde(
    monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    """Numba would make a folder called ``~`` where the program runs."""

    def no_entry(uid: Any) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "/tmp")
    names: dict[Any, Any] = {}
    exec(compile("def function(): pass", "/proc/none/module.py", "exec"), names)
    assert jit._may_be_cached(names["function"]) == bool(variable)
    assert jit._may_be_cached(no_entry)  # beside this file, which can be written to


# --- loaded when used -----------------------------------------------------------------------------

HEAVY = {"numba", "llvmlite", "numpy", "pandas", "polars", "pyarrow", "psycopg", "xarray"} | {
    "pandas_market_calendars",
    "google",
    "ibapi",
    "fastapi",
    "plotly",
}


@pytest.mark.parametrize(
    ("modules", "needed"),
    [
        ("ibticks", set()),
        ("ibticks.format, ibticks.schema._fields", set()),
        # What capture needs: ticks to frames, headers, messages, without a compiler.
        ("ibticks.format._tick_encoder, ibticks.format._framing", set()),
        ("ibticks.format._header, ibticks.format._messages", {"google"}),
        ("ibticks.schema._columns", {"numpy"}),
        ("ibticks.format._decode, ibticks.format._encode, ibticks.format._frames", {"numpy"}),
    ],
)
def test_only_used_kernels_are_loaded(modules: str, needed: set[str]) -> None:
    (loaded,) = run(f"import sys, json, {modules}; print(json.dumps(list(sys.modules)))")
    assert {name.partition(".")[0] for name in json.loads(loaded)} & HEAVY == needed


def test_a_kernel_that_is_on_disk_is_loaded_without_numba() -> None:
    load = "".join(f"_kernels.{name}.load()\n" for name in KERNELS)
    code = f"import sys, json\nfrom ibticks.format import _kernels\n{load}"
    for kernel in KERNELS.values():
        kernel.load()  # compiles what is not there
    (loaded,) = run(f"{code}print(json.dumps(list(sys.modules)))")
    assert {name.partition(".")[0] for name in json.loads(loaded)} & HEAVY == {"llvmlite"}
