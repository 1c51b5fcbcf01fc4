"""Fixtures that record the reads of tick files, and damage files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ibticks.storage import FileReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


class Reads(list[Any]):
    """Reads of tick files, as pairs of path and number of bytes."""

    @property
    def files(self) -> set[str]:
        return {path for path, _ in self}

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Record every read of a tick file from now on."""
    seen = Reads()
    plain = FileReader.read

    def read(source: Any, *arguments: Any) -> NDArray[Any]:
        data = plain(source, *arguments)
        seen.append((source._path, len(data)))
        return data

    monkeypatch.setattr(FileReader, "read", read)
    return seen


@pytest.fixture
def damage() -> Callable[..., None]:
    """Change one byte in the middle of a file: ``damage(path)``."""

    def change(path: Path, place: float = 0.5) -> None:
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= 0xFF
        path.write_bytes(data)

    return change
