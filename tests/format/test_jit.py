"""Compilation of kernels: without the GIL, once, and loaded only when used."""

from __future__ import annotations

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
from ibticks.format import (
    Decoder,
    Encoder,
    _decode_kernels,
    _encode_kernels,
    _frame_kernels,
    _wire_kernels,
)

from .oracle import columns_of, framed
from .test_decode import TICK, tick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KERNELS = {
    name: kernel
    for module in (_decode_kernels, _encode_kernels, _frame_kernels)
    for name, kernel in vars(module).items()
    if isinstance(kernel, Dispatcher) and name in module.__all__
} | {"rehash": _wire_kernels.rehash}


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
def test_a_kernel_releases_the_gil_and_is_cached_on_disk(name: Any) -> None:
    kernel = KERNELS[name]
    assert kernel.targetoptions["nogil"]
    assert kernel.stats.cache_path is not None
    # One signature, compiled or loaded when the module was imported: no call compiles.
    assert len(kernel.signatures) == 1
    assert not kernel._can_compile


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

COMPILE = """
import json, logging, sys
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("ibticks").addHandler(handler)
from ibticks.format._encode_kernels import encode_ticks
stats = encode_ticks.stats
print(json.dumps([said, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""


def test_the_machine_code_is_cached_and_its_compilation_is_logged(tmp_path: Path) -> None:
    first, second = (json.loads(run(COMPILE, NUMBA_CACHE_DIR=str(tmp_path))[0]) for _ in range(2))
    announcement = "compiling for this machine: some seconds, once for an installation"
    assert first == [[announcement], 0, 1]
    assert second == [[], 1, 0]


# --- no folder for the machine code ---------------------------------------------------------------

USE = """
import json, logging, sys
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("ibticks").addHandler(handler)
import numpy as np
from ibticks.analysis._engine.kernels import filled_bars
assert filled_bars(np.array([1.0, 1.0, 1.0]), 2.0).tolist() == [0, 0, -2]
assert filled_bars(np.array([1, 1, 1]), 2.0).tolist() == [0, 0, -2]
print(json.dumps(said))
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


def test_a_kernel_of_one_signature_is_compiled_without_a_folder() -> None:
    setup = "from ibticks._jit import kernel\nimport numba\n"
    use = "print(kernel(numba.int64(numba.int64))(lambda n: n + 1)(41))"
    assert run(setup + use, NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator") == ["42"]


FULL = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"


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
        ("ibticks.format._decode", {"numpy", "numba", "llvmlite"}),
    ],
)
def test_only_used_kernels_are_loaded(modules: str, needed: set[str]) -> None:
    (loaded,) = run(f"import sys, json, {modules}; print(json.dumps(list(sys.modules)))")
    assert {name.partition(".")[0] for name in json.loads(loaded)} & HEAVY == needed
