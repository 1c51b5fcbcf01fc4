"""Files that save a later process some work: each may be deleted, damaged or impossible to write.

A file has the stamp of what it was made from, and a checksum. It is used only if both are right.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["cache_folders", "hash_files", "is_writable", "read_cached", "write_cached"]

_MAGIC: Final = b"ibticks cache 1\n"
_HASH_BYTES: Final = hashlib.sha256().digest_size


def cache_folders(beside: Path) -> Iterator[Path]:
    """Iterate over the folders that may have cached files, best first.

    Yields
    ------
    Path
        The folders of numba's own cache: ``NUMBA_CACHE_DIR`` alone, or ``__pycache__`` beside the
        source and the cache folder of the user.
    """
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen) / "ibticks"
        return
    yield beside / "__pycache__"
    if caches := os.environ.get("XDG_CACHE_HOME"):
        yield Path(caches) / "ibticks"
        return
    with suppress(RuntimeError):  # a user without a home folder
        yield Path.home() / ".cache" / "ibticks"


def hash_files(paths: Iterable[Path]) -> bytes:
    """Return a hash of names and contents; of a file that is not there, of its name."""
    total = hashlib.sha256()
    for path in paths:
        content = path.read_bytes() if path.is_file() else b""
        total.update(f"{path.name} {len(content)}\n".encode())
        total.update(content)
    return total.digest()


def is_writable(folder: Path) -> bool:
    """Return whether a file can be made in a folder, which is made, too."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def read_cached(path: Path, stamp: bytes) -> bytes | None:
    """Return what was cached; None if it is not there, damaged, or made from something else.

    Parameters
    ----------
    path : Path
    stamp : bytes
        A SHA-256 hash of what the content must have been made from.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _HASH_BYTES
    if not content.startswith(_MAGIC):
        return None
    if hashlib.sha256(content[start:]).digest() != content[len(_MAGIC) : start]:
        return None
    if content[start : start + _HASH_BYTES] != stamp:
        return None
    return content[start + _HASH_BYTES :]


def write_cached(path: Path, stamp: bytes, content: bytes) -> None:
    """Cache some content, if the file can be written."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    checksum = hashlib.sha256(stamp + content).digest()
    try:
        temporary.write_bytes(_MAGIC + checksum + stamp + content)
        temporary.replace(path)
    except OSError:  # a full disk
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
