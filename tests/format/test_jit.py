"""What the kernels promise besides their results: no GIL, compiled once, loaded only when used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from ibticks.format import decode_kernels, encode_kernels
from ibticks.format.decode import Decoder
from ibticks.format.encode import Encoder

from .oracle import columns_of, framed
from .test_decode import TICK, tick

KERNELS = {
    name: kernel
    for module in (decode_kernels, encode_kernels)
    for name, kernel in vars(module).items()
    if isinstance(kernel, Dispatcher) and name in module.__all__
}


def run(code: str, **environment: str) -> list[str]:
    """The lines a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    env = os.environ | environment
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=env
    ).stdout.splitlines()


def test_all_kernels_are_known():
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
def test_a_kernel_needs_no_gil_and_is_kept_on_disk(name):
    kernel = KERNELS[name]
    assert kernel.targetoptions["nogil"]
    assert kernel.stats.cache_path is not None
    # One signature, compiled or loaded when the module was imported: no call compiles.
    assert len(kernel.signatures) == 1
    assert not kernel._can_compile


# --- threads --------------------------------------------------------------------------------------


@pytest.fixture
def uninterrupted():
    """No thread is made to give up the GIL: it must give it up itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


BUFFER = np.frombuffer(framed(*(tick(sequence=i) for i in range(2000))), dtype=np.uint8)
TICKS = columns_of([TICK | {"sequence": i} for i in range(2000)])


def decoding():
    decoder = Decoder(["price", "exchange", "conditions"], rows=10**4)
    decoder.feed(BUFFER)
    mark = Decoder(["price"]).mark()

    def once() -> None:
        decoder.rewind(mark)
        decoder.feed(BUFFER)

    return once


def encoding():
    encoder = Encoder(TICKS)
    return lambda: [None for _ in encoder.chunks()]


@pytest.mark.usefixtures("uninterrupted")
@pytest.mark.parametrize("work", [decoding, encoding])
def test_python_goes_on_while_two_threads_work(work):
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
from ibticks.format.encode_kernels import encode_ticks
stats = encode_ticks.stats
print(json.dumps([said, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""


def test_the_machine_code_is_kept_and_its_making_announced(tmp_path):
    first, second = (json.loads(run(COMPILE, NUMBA_CACHE_DIR=str(tmp_path))[0]) for _ in range(2))
    announcement = "compiling for this machine: some seconds, once for an installation"
    assert first == [[announcement], 0, 1]
    assert second == [[], 1, 0]


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
        ("ibticks.format, ibticks.format.fields", set()),
        # What capture needs: ticks to frames, headers, messages, without a compiler.
        ("ibticks.format.tick_encoder, ibticks.format.framing", set()),
        ("ibticks.format.header, ibticks.format.messages", {"google"}),
        ("ibticks.format.columns", {"numpy"}),
        ("ibticks.format.decode", {"numpy", "numba", "llvmlite"}),
    ],
)
def test_only_what_is_used_is_loaded(modules, needed):
    (loaded,) = run(f"import sys, json, {modules}; print(json.dumps(list(sys.modules)))")
    assert {name.partition(".")[0] for name in json.loads(loaded)} & HEAVY == needed
