"""Which store a folder is: an id it is given once, and keeps wherever it is moved."""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ibticks.config import resource
from ibticks.errors import CorruptFileError, NoStoreError
from ibticks.filesystem import explained, give_to_store_owner, make_folder, sync_folder
from ibticks.storage import hold_lock, metadata_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["identify"]

_log = logging.getLogger(__name__)
_LOCK_WAIT_SECONDS: Final = 10.0


def identify(root: Path, *, create: bool, dsn: str | None = None) -> str:
    """The id of the store at ``root``; with ``create``, one is begun where there is none.

    An empty ``metadata/store.json``, as a power cut may leave it, gets the id that the index has
    of the store, or a new one: the index is then made anew from the catalogue and the files.

    Raises
    ------
    NoStoreError
        If there is none, or ``root`` is a file.
    StoreAccessError, StorageError
        If the folder cannot be read, or made.
    CorruptFileError
        If ``metadata/store.json`` does not say an id.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> root = Path(tempfile.mkdtemp())
    >>> identify(root, create=True) == identify(root, create=False)
    True
    """
    note = metadata_folder(root) / "store.json"
    with explained(root, "opening"):
        if root.exists() and not root.is_dir():
            raise NoStoreError(f"{root} is a file, not a folder of ticks", path=str(root))
        if not note.exists():
            if not create:
                raise NoStoreError(
                    f"there is no store at {root}; begin one with ibticks.open({str(root)!r})",
                    path=str(root),
                )
            _begin(note)
        text = note.read_text()
        if not text.strip("\0\n "):
            text = _mend(root, note, dsn)
    try:
        return str(json.loads(text)["store_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(
            f"{note} does not say the store's id: restore it, or remove it, and the store gets a "
            "new id and an index made anew from the files",
            path=str(note),
        ) from error


def _begin(note: Path) -> None:
    store_id = str(uuid.uuid4())
    make_folder(note.parent)
    give_to_store_owner(note.parent)
    shutil.copyfile(resource("proto") / "tick_stream.proto", note.with_name("schema.proto"))
    give_to_store_owner(note.with_name("schema.proto"))
    beside = _write_beside(note, store_id)
    try:
        # Of several that begin a store at once, one gives it its id.
        os.link(beside, note)
    except FileExistsError:
        return
    finally:
        beside.unlink()
        sync_folder(note.parent)


def _write_beside(note: Path, store_id: str) -> Path:
    """Write a note to be put in the place of ``note``; its bytes are on the disk."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    beside = note.with_name(f".{note.name}.{store_id}")
    with beside.open("w") as stream:
        stream.write(json.dumps({"store_id": store_id, "begun": begun}))
        stream.flush()
        os.fsync(stream.fileno())
    give_to_store_owner(beside)
    return beside


def _mend(root: Path, note: Path, dsn: str | None) -> str:
    """Write an empty note anew, and return its text; of several that do, one does."""
    lock = note.with_name(f"{note.name}.lock")
    with hold_lock(lock, timeout_seconds=_LOCK_WAIT_SECONDS):
        if not note.read_text().strip("\0\n "):
            from ibticks.index import find_store_id

            known = find_store_id(root, dsn)
            _write_beside(note, store_id := known or str(uuid.uuid4())).replace(note)
            sync_folder(note.parent)
            _log.warning(
                "%s was empty, as a power cut leaves a file: it has the id %s again, %s",
                note,
                store_id,
                "as the index says"
                if known
                else "which is new; the index is made anew from the catalogue and the files",
            )
        lock.unlink(missing_ok=True)
    return note.read_text()
