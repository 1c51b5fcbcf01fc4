"""Hypothesis strategies of rows and of streams of messages that look alike."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ibticks.config import TICK_TYPES
from ibticks.schema import COLUMNS, FieldType
from ibticks.testing.strategies import malformed_messages, wire_messages
from ibticks.tick_stream_pb2 import StreamMessage

from .oracle import TIME_MAX, TIME_MIN, payload_of

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from .oracle import Row

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No test fails because the machine is busy."""

_TEXT = st.one_of(st.sampled_from(["", "Q", "ARCA", "é", "\0", "\U0010ffff"]), st.text(max_size=9))
_INT64 = st.one_of(st.integers(-3, 300), st.integers(-(2**63), 2**63 - 1))
_UINT64 = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
_SIGNALLING_NAN, _MINUS_ZERO = 0x7FF0_0000_0000_0001, 1 << 63
_DOUBLES = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, _MINUS_ZERO, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, _SIGNALLING_NAN]),
)
_CELLS = {
    FieldType.TIME: st.one_of(
        st.integers(-5, 50), st.integers(0, 2**61), st.integers(TIME_MIN + 1, TIME_MAX - 1)
    ),
    FieldType.SECONDS: _INT64,
    FieldType.UINT32: st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1)),
    FieldType.UINT64: _UINT64,
    FieldType.FLOAT: _DOUBLES,
    FieldType.BOOL: st.booleans(),
    FieldType.STRING: _TEXT,
    FieldType.STRINGS: st.lists(_TEXT, max_size=10),
    FieldType.MAP: st.dictionaries(_TEXT, _TEXT, max_size=4),
}


def rows() -> SearchStrategy[Row]:
    """Any tick there can be; its metadata in the order the runtime writes it."""
    cells = {
        field.name: st.one_of(st.none(), _CELLS[field.type])
        if field.nullable
        else _CELLS[field.type]
        for field in COLUMNS.values()
    }
    cells["tick_type"] = st.one_of(st.sampled_from(TICK_TYPES), _TEXT)
    return st.fixed_dictionaries(cells).map(_with_sorted_metadata)


def _with_sorted_metadata(row: Row) -> Row:
    # In the order of their bytes, but for one that begins another: that one comes after it.
    pairs = sorted(row["metadata"].items(), key=lambda pair: pair[0].encode() + b"\xff")
    return row | {"metadata": dict(pairs)}


def accepted(payload: bytes) -> bool:
    """Return whether the runtime takes a payload."""
    try:
        StreamMessage.FromString(payload)
    except DecodeError:
        return False
    return True


@st.composite
def streams(draw: st.DrawFn, *, valid: bool = True, frames: int = 40) -> list[bytes]:
    """Payloads of a file: a few shapes, repeated with other values.

    A few bytes of each repetition are changed, so that most keep their shape and some do not; with
    ``valid`` only those the runtime takes are among them.
    """
    kinds = [rows().map(payload_of), wire_messages()]
    if not valid:
        kinds.append(malformed_messages())
    bases = draw(st.lists(st.one_of(kinds).filter(bool), min_size=1, max_size=5))
    random = Random(draw(st.integers(0, 2**32)))
    payloads = []
    for _ in range(frames):
        base = random.choice(bases)
        changed = _changed(base, random)
        payloads.append(changed if not valid and changed else _valid(changed, base))
    return payloads


def _changed(payload: bytes, random: Random) -> bytes:
    edited = bytearray(payload)
    for _ in range(random.choice((0, 1, 1, 3))):
        place = random.randrange(len(edited))
        # Mostly without its highest bit, which continues a varint.
        edited[place] ^= random.choice((1 << random.randrange(8), random.randrange(128)))
    return bytes(edited)


def _valid(changed: bytes, base: bytes) -> bytes:
    return changed if accepted(changed) else base
