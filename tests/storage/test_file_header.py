"""Headers that are read while a writer replaces them in place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ibticks.errors import CorruptFileError
from ibticks.format import Header
from ibticks.storage import read_file_header

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def headers() -> tuple[Header, Header]:
    """The header of a file before and after it was sealed."""
    plain = Header(8314, "bid_ask", 10**18, 10**18, writer="a test")
    sealed = plain.seal(
        start_ns=10**18, end_ns=2 * 10**18, message_count=10**6, crc32c=2**31, body_bytes=2**30
    )
    return plain, sealed


@pytest.fixture
def descriptor(tmp_path: Path, headers: tuple[Header, Header]) -> Iterator[int]:
    """A file with such a header, and some bytes after it."""
    path = tmp_path / "file.pb"
    path.write_bytes(headers[0].to_bytes() + b"\0" * 1000)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("reads", [1, 2, 5])
@pytest.mark.parametrize("split", [15, 28, 40, 60])
def test_a_header_read_beside_its_write_is_read_again(
    descriptor: int,
    headers: tuple[Header, Header],
    monkeypatch: pytest.MonkeyPatch,
    split: int,
    reads: int,
) -> None:
    """The kernel does not serialise a read and a write of the same bytes."""
    plain, sealed = (header.to_bytes() for header in headers)
    old_first, new_first = plain[:split] + sealed[split:], sealed[:split] + plain[split:]
    mixed = [(old_first, new_first)[at % 2] for at in range(reads)]
    pread = os.pread

    def pread_beside_a_write(file: int, size: int, offset: int) -> bytes:
        if not mixed:
            return pread(file, size, offset)
        return mixed.pop() + pread(file, size - 256, offset + 256)

    monkeypatch.setattr(os, "pread", pread_beside_a_write)
    os.pwrite(descriptor, sealed, 0)
    assert read_file_header(descriptor) == headers[1]


@pytest.mark.parametrize("size", [0, 3, 4, 200, 255])
def test_half_a_header_is_refused(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)
    with pytest.raises(CorruptFileError, match="header"):
        read_file_header(descriptor)


def test_a_length_that_is_no_header_s_is_refused(descriptor: int) -> None:
    os.pwrite(descriptor, b"\xff\xff\xff\xff", 0)
    with pytest.raises(CorruptFileError, match="claims 4294967295 bytes"):
        read_file_header(descriptor)
