"""Opening of a store: its id, its index, and the completion of the index from the files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, cast, get_args, overload

from ibticks.config import CACHE_BYTES, ColumnsSetting, dsn_from_environment, resource
from ibticks.errors import CorruptFileError, InputError, NoStoreError
from ibticks.filesystem import expand_home, explained, give_to_store_owner, make_folder, sync_folder
from ibticks.storage import hold_lock, metadata_folder
from ibticks.store._maintenance import (
    complete_index,
    complete_journal,
    find_missing,
    keep_sessions,
)
from ibticks.store._store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from ibticks.index import PostgresIndex
    from ibticks.remote import RemoteStore
    from ibticks.store._archive_store import ArchiveStore

__all__ = ["identify", "open_store"]

_log = logging.getLogger(__name__)
_LOCK_WAIT_SECONDS: Final = 10.0
_URL_SCHEMES: Final = ("http://", "https://")


# A text may be a path or a URL, which types cannot tell apart: with a token it is a URL.
@overload
def open_store(root: str, *, token: str | None) -> RemoteStore: ...
@overload
def open_store(
    root: str | os.PathLike[str],
    *,
    dsn: str | None = ...,
    create: bool = ...,
    cache: int = ...,
    columns: ColumnsSetting | None = ...,
) -> Store: ...
def open_store(
    root: str | os.PathLike[str],
    *,
    dsn: str | None = None,
    create: bool = True,
    cache: int = CACHE_BYTES,
    columns: ColumnsSetting | None = None,
    token: str | None = None,
) -> Store | RemoteStore | ArchiveStore:
    """Open a store, or create one.

    Parameters
    ----------
    root : path
        Folder of the store; ``~`` is expanded. Or the URL of a service, ``http://`` or
        ``https://``: the store that ``ibticks serve`` has on another machine. Or another URL, such
        as ``s3://bucket/ticks``: what :meth:`Store.archive` copied there.
    dsn : str, optional
        PostgreSQL server for the index, as ``postgresql://user@host/database``. By default that
        of ``IBTICKS_DSN``, or else the embedded server.
    create : bool
        Whether to create a store where there is none.
    cache : int
        Bytes of memory for the LRU cache of decoded columns; 0 for none. See
        :meth:`Store.clear_cache`.
    columns : {"auto", "off"}, optional
        Whether loads read columnar companions, and :meth:`Store.compress` and captures build them;
        by default that of ``IBTICKS_COLUMNS``, or else ``"auto"``. See
        :meth:`Store.build_companions`.
    token : str, optional
        Token for the service at a URL.

    Returns
    -------
    Store, RemoteStore or ArchiveStore
        A :class:`~ibticks.remote.RemoteStore` for the URL of a service, an
        :class:`~ibticks.store.ArchiveStore` for that of an archive.

    Raises
    ------
    NoStoreError
        If there is none and ``create`` is false, or ``root`` is a file.
    StoreAccessError, StorageError
        If this user may not read the folder, or it cannot be created.
    CorruptFileError
        If ``metadata/store.json``, which has the store's id, is damaged.
    IndexUnavailableError
        If no server answers at ``dsn``.
    IndexVersionError
        If it is older than PostgreSQL 14, or its schema is newer than this ibticks.
    IndexMismatchError
        If the database is the index of another store.
    InputError
        If ``cache`` is not a number of bytes, ``columns`` is another word, or a token is passed
        with a folder, or another option with a URL.
    RemoteError, RemoteAccessError
        If no service answers at a URL, or it refuses the token.
    ArchiveError
        If an archive cannot be read, or has no catalogue.

    Examples
    --------
    >>> import tempfile
    >>> with open_store(tempfile.mkdtemp()) as store:
    ...     store.contracts()
    []
    """
    if isinstance(root, str) and root.startswith(_URL_SCHEMES):
        if dsn is not None or columns is not None or cache != CACHE_BYTES or not create:
            raise InputError(f"{root} is a URL: only token= goes with it")
        from ibticks.remote import RemoteStore

        return RemoteStore(root, token)
    if token is not None:
        raise InputError(f"token= is for the URL of a service, and {str(root)!r} is a folder")
    if isinstance(root, str) and "://" in root:
        if dsn is not None or columns is not None or not create:
            raise InputError(f"{root} is the URL of an archive: only cache= goes with it")
        _check_cache(cache)
        from ibticks.store._archive_store import ArchiveStore

        return ArchiveStore(root, cache)
    path = expand_home(root).resolve()
    dsn = dsn or dsn_from_environment()
    _check_cache(cache)
    setting = _check_columns(columns or os.environ.get("IBTICKS_COLUMNS") or "auto")
    store_id = identify(path, create=create, dsn=dsn)
    from ibticks.coverage import end_abandoned_intervals
    from ibticks.index import open_index

    is_completed: list[bool] = []

    def complete(index: PostgresIndex) -> None:
        is_completed.append(complete_index(path, index))

    index = open_index(
        path,
        store_id,
        dsn,
        complete=complete,
        find_missing=partial(find_missing, path),
    )
    store = Store(path, index, cache, setting)
    try:
        if index.away and index.writable:
            is_completed.append(complete_journal(path, index))
        if any(is_completed):
            store.note_change()
            if not index.away:
                keep_sessions(index)
        if end_abandoned_intervals(path, store.index):
            store.note_change()
    except BaseException:
        store.index.close()
        raise
    return store


def _check_cache(cache: object) -> None:
    if not isinstance(cache, int) or isinstance(cache, bool) or cache < 0:
        raise InputError(f"cache={cache!r}: give a whole number of bytes, or 0 for no cache")


def _check_columns(columns: str) -> ColumnsSetting:
    if columns not in get_args(ColumnsSetting):
        raise InputError(
            f"columns={columns!r} (or IBTICKS_COLUMNS): use 'auto' for columnar companions, or "
            "'off' for none"
        )
    return cast("ColumnsSetting", columns)


def identify(root: Path, *, create: bool, dsn: str | None = None) -> str:
    """Return the id of the store at ``root``; with ``create``, create a store if there is none.

    An empty ``metadata/store.json``, as a power cut may leave it, gets the id that the index has
    of the store, or a new one: the index is then rebuilt from the catalogue and the files.

    Raises
    ------
    NoStoreError
        If there is none, or ``root`` is a file.
    StoreAccessError, StorageError
        If the folder cannot be read, or created.
    CorruptFileError
        If ``metadata/store.json`` has no id.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> root = Path(tempfile.mkdtemp())
    >>> identify(root, create=True) == identify(root, create=False)
    True
    """
    id_file = metadata_folder(root) / "store.json"
    with explained(root, "opening"):
        if root.exists() and not root.is_dir():
            raise NoStoreError(f"{root} is a file, not a folder of ticks", path=str(root))
        if not id_file.exists():
            if not create:
                raise NoStoreError(
                    f"there is no store at {root}; begin one with ibticks.open({str(root)!r})",
                    path=str(root),
                )
            _create_id(id_file)
        text = id_file.read_text()
        if not text.strip("\0\n "):
            text = _restore_id(root, id_file, dsn)
    try:
        return str(json.loads(text)["store_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(
            f"{id_file} does not say the store's id: restore it, or remove it, and the store gets "
            "a new id and an index rebuilt from the files",
            path=str(id_file),
        ) from error


def _create_id(id_file: Path) -> None:
    store_id = str(uuid.uuid4())
    make_folder(id_file.parent)
    give_to_store_owner(id_file.parent)
    shutil.copyfile(resource("proto") / "tick_stream.proto", id_file.with_name("schema.proto"))
    give_to_store_owner(id_file.with_name("schema.proto"))
    beside = _write_beside(id_file, store_id)
    try:
        # Of several processes that create a store at once, the first one gives it its id.
        os.link(beside, id_file)
    except FileExistsError:
        return
    finally:
        beside.unlink()
        sync_folder(id_file.parent)


def _write_beside(id_file: Path, store_id: str) -> Path:
    """Write and sync a file beside the id file, which it is to replace."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    beside = id_file.with_name(f".{id_file.name}.{store_id}")
    with beside.open("w") as stream:
        stream.write(json.dumps({"store_id": store_id, "begun": created}))
        stream.flush()
        os.fsync(stream.fileno())
    give_to_store_owner(beside)
    return beside


def _restore_id(root: Path, id_file: Path, dsn: str | None) -> str:
    """Write an empty id file anew, once among processes, and return its text."""
    lock = id_file.with_name(f"{id_file.name}.lock")
    with hold_lock(lock, timeout_seconds=_LOCK_WAIT_SECONDS):
        if not id_file.read_text().strip("\0\n "):
            from ibticks.index import find_store_id

            known = find_store_id(root, dsn)
            _write_beside(id_file, store_id := known or str(uuid.uuid4())).replace(id_file)
            sync_folder(id_file.parent)
            _log.warning(
                "%s was empty, as a power cut leaves a file: it has the id %s again, %s",
                id_file,
                store_id,
                "as the index says"
                if known
                else "which is new; the index is made anew from the catalogue and the files",
            )
        lock.unlink(missing_ok=True)
    return id_file.read_text()
