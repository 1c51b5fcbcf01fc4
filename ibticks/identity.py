"""Which store a folder is: an id it is given once, and keeps wherever it is moved."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ibticks.config import resource
from ibticks.errors import CorruptFileError, NoStoreError
from ibticks.ownership import give_to_store_owner
from ibticks.storage.disk import explained
from ibticks.storage.layout import metadata

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["identify"]


def identify(root: Path, *, create: bool) -> str:
    """The id of the store at ``root``; with ``create``, one is begun where there is none.

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
    note = metadata(root) / "store.json"
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
    note.parent.mkdir(parents=True, exist_ok=True)
    give_to_store_owner(note.parent)
    shutil.copyfile(resource("proto") / "tick_stream.proto", note.with_name("schema.proto"))
    give_to_store_owner(note.with_name("schema.proto"))
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    beside = note.with_name(f".{note.name}.{store_id}")
    beside.write_text(json.dumps({"store_id": store_id, "begun": begun}))
    give_to_store_owner(beside)
    try:
        # Of several that begin a store at once, one gives it its id.
        os.link(beside, note)
    except FileExistsError:
        return
    finally:
        beside.unlink()
