"""Frames, fields and numbers, however they come."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.errors import FormatError
from ibticks.gateway import frame
from ibticks.gateway._wire import MAX_FRAME, FrameReader, escaped, fields_of, message, plain

texts = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_plain_decimals_that_read_back_the_same(number: float) -> None:
    text = plain(number)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert float(text) == number
    assert float(Decimal(text)) == number


def test_numbers_as_ib_writes_them() -> None:
    assert [plain(n) for n in (0.0, -0.0, 1, 1e16, 1e-7, -2.5, True, False)] == [
        "0",
        "0",
        "1",
        "10000000000000000",
        "0.0000001",
        "-2.5",
        "1",
        "0",
    ]


@given(texts)
def test_fields_survive_a_round_trip(fields: list[str]) -> None:
    assert fields_of(message(*fields)[4:]) == fields


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 50), min_size=1))
def test_frames_are_reassembled_from_any_segments(payloads: list[Any], sizes: list[Any]) -> None:
    data = b"".join(map(frame, payloads))
    reader = FrameReader()
    got: list[Any] = []
    at = 0
    while at < len(data):
        size = sizes[len(got) % len(sizes)]
        got += reader.feed(data[at : at + size])
        at += size
    assert got == payloads


def test_a_frame_longer_than_any_request_is_refused() -> None:
    reader = FrameReader()
    assert list(reader.feed(MAX_FRAME.to_bytes(4, "big"))) == []
    with pytest.raises(FormatError, match="does not speak the TWS protocol") as caught:
        list(FrameReader().feed(b"\xff\xff\xff\xff"))
    assert caught.value.context["length"] == 2**32 - 1


def test_unterminated_fields() -> None:
    with pytest.raises(FormatError, match="does not end in NUL"):
        fields_of(b"97\x0060001")


@given(st.text())
def test_escaped_text_is_ascii_and_is_unescaped(text: str) -> None:
    assert escaped(text).encode("ascii").decode("unicode-escape") == text
