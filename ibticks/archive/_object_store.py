"""Objects by URL: create if absent, read back, read ranges.

obstore serves the URLs that it knows; it retries throttled and failed requests with exponential
backoff. Any other URL is opened by fsspec.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from ibticks.errors import ArchiveError, InputError, MissingExtraError
from ibticks.filesystem import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obstore.store import MemoryStore

__all__ = [
    "ObjectStatus",
    "ObjectStore",
    "StoredObject",
    "check_preconditions",
    "open_object_store",
    "split_location",
]

_T = TypeVar("_T")

MAX_RETRIES: Final = 10
"""Attempts of a request that is throttled or fails, after the first one."""

RETRY_SECONDS: Final = 180
"""Time in which a request is repeated."""

_REQUEST_TIMEOUT: Final = "600s"  # 200 MB at 3 Mbit/s
_FIRST_BACKOFF_SECONDS: Final = 0.1
_MAX_BACKOFF_SECONDS: Final = 15.0
_OBSTORE_SCHEMES: Final = frozenset(
    ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "file", "memory", "http", "https")
)
_PROBE: Final = "metadata/create-only"
"""Object that shows whether a store refuses to replace one that exists."""


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """Size of an object, and its entity tag (empty where the object store has none)."""

    size: int
    e_tag: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The bytes of an object, and the entity tag of these bytes."""

    data: bytes
    e_tag: str


class ObjectStore(Protocol):
    """Objects below a URL. Every method raises :class:`~ibticks.errors.ArchiveError`."""

    url: str

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether it was written."""

    def read(self, key: str) -> StoredObject:
        """Return a whole object."""

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)`` of an object, in one request."""

    def status(self, key: str) -> ObjectStatus | None:
        """Return the status of an object, or None if there is none."""

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys below a folder, whose name ends with a slash."""

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""


def open_object_store(
    url: str, *, max_retries: int | None = None, retry_seconds: float = RETRY_SECONDS
) -> ObjectStore:
    """Open the object store at a URL.

    Credentials, region and endpoint are those of the environment (``AWS_ACCESS_KEY_ID``,
    ``AWS_ENDPOINT_URL`` and the like).

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, ``gs://``, ``az://``, ``file:///folder``, or any URL of fsspec.
    max_retries : int, optional
        Attempts of a request that is throttled or fails, after the first one; 10 by default.
    retry_seconds : float
        Time in which a request is repeated.

    Returns
    -------
    ObjectStore

    Raises
    ------
    InputError
        If it is no URL, or its scheme is unknown.
    MissingExtraError
        If neither obstore nor fsspec is installed.

    Examples
    --------
    >>> objects = open_object_store("memory://doctest")
    >>> objects.create("a", b"ticks"), objects.create("a", b"others")
    (True, False)
    >>> objects.read_range("a", 1, 3), objects.status("a").size, objects.status("b")
    (b'ic', 5, None)
    """
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise InputError(
            f"{url!r} is no URL of an object store: write s3://bucket/prefix, or "
            "file:///folder for a folder",
            location=url,
        )
    url = url.rstrip("/")
    if max_retries is None:
        max_retries = MAX_RETRIES
    if parts.scheme in _OBSTORE_SCHEMES:
        try:
            return _ObstoreObjects(url, max_retries, retry_seconds)
        except ModuleNotFoundError:
            if parts.scheme == "memory":
                raise _missing_extra(url) from None
    try:
        return _FsspecObjects(url, max_retries, retry_seconds)
    except ModuleNotFoundError as error:
        raise _missing_extra(url) from error


def split_location(location: str, path: str) -> tuple[str, str]:
    """Return the URL of the object store and the key of a copy, from its location.

    Parameters
    ----------
    location : str
        URL of the copy.
    path : str
        Path of the hour file; the key begins with it.

    Examples
    --------
    >>> split_location("s3://ticks/1/last/2025/01/10/14_ticks.pb", "1/last/2025/01/10/14_ticks.pb")
    ('s3://ticks', '1/last/2025/01/10/14_ticks.pb')
    """
    url, _, suffix = location.rpartition(f"/{path}")
    if not url:
        raise ArchiveError(
            f"{location} is not the location of a copy of {path}: correct its row in the table "
            "archived_files of the index",
            path=path,
            location=location,
        )
    return url, f"{path}{suffix}"


def check_preconditions(objects: ObjectStore) -> None:
    """Check that an object store refuses to replace an object where only creating was asked for.

    Raises
    ------
    ArchiveError
        If it replaces objects all the same: it could lose the copy of another file.
    """
    probe = b"ibticks: this object shows that the store creates objects only if absent\n"
    if objects.create(_PROBE, probe) and objects.create(_PROBE, probe):
        raise ArchiveError(
            f"{objects.url} ignores preconditions (If-None-Match): it replaces an object where "
            "only creating was asked for. Nothing was archived; use a store with conditional "
            "writes (S3, MinIO, R2, GCS, Azure), or a folder, file:///...",
            location=f"{objects.url}/{_PROBE}",
        )


def _missing_extra(url: str) -> MissingExtraError:
    return MissingExtraError(
        f"{url} needs obstore, or the package of fsspec for its scheme: "
        "pip install 'ibticks[archive]'",
        location=url,
    )


@contextmanager
def _explained(doing: str, location: str) -> Iterator[None]:
    """Turn errors of obstore and fsspec into an ArchiveError that names the object."""
    try:
        yield
    except (ArchiveError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:  # obstore and the file systems of fsspec have errors of many kinds
        summary = " ".join(str(error).split())
        if len(summary) > _MAX_REASON:
            summary = f"{summary[:_MAX_REASON]} ..."
        lowered = f"{type(error).__name__} {summary}".lower()
        if any(word in lowered for word in ("permission", "unauth", "forbidden", "credential")):
            remedy = "check the credentials in the environment (AWS_ACCESS_KEY_ID and the like)"
        elif any(word in lowered for word in ("503", "429", "slowdown", "slow down")):
            remedy = "the object store throttles requests: try again later"
        else:
            remedy = "check the URL, the endpoint and the network, and try again"
        raise ArchiveError(
            f"{doing} {location} failed: {summary}. What is stored here is unchanged; {remedy}",
            location=location,
        ) from error


_MAX_REASON: Final = 400


def _missing(doing: str, location: str) -> ArchiveError:
    return ArchiveError(
        f"{doing} {location} failed: there is no such object. It was deleted or moved, or a rule "
        "of the bucket expired it: restore it from a version or a backup of the bucket",
        location=location,
    )


def _short(location: str, length: int, expected: int) -> ArchiveError:
    return ArchiveError(
        f"reading {location} returned {length} bytes instead of {expected}: the object is "
        "truncated, or the connection broke; `ibticks verify` checks it",
        location=location,
    )


@cache
def _memory_store(name: str) -> MemoryStore:
    """Return the objects in memory of a name: the same ones at every call."""
    from obstore.store import MemoryStore

    return MemoryStore()


class _ObstoreObjects:
    """Objects by obstore."""

    def __init__(self, url: str, max_retries: int, retry_seconds: float) -> None:
        import obstore
        from obstore.store import from_url

        self.url = url
        self._obstore = obstore
        parts = urlsplit(url)
        self._folder: Path | None = None
        self._prefix = ""
        self._store: Any
        with _explained("opening", url):
            if parts.scheme == "memory":
                self._store = _memory_store(parts.netloc)
                self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
            elif parts.scheme == "file":
                self._folder = Path(unquote(parts.path))
                self._store = from_url(url, mkdir=True)
            else:
                endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
                self._store = from_url(
                    url,
                    client_options={
                        "timeout": _REQUEST_TIMEOUT,
                        "allow_http": endpoint.startswith("http://") or parts.scheme == "http",
                    },
                    retry_config={
                        "max_retries": max_retries,
                        "retry_timeout": timedelta(seconds=retry_seconds),
                        "backoff": {
                            "init_backoff": timedelta(seconds=_FIRST_BACKOFF_SECONDS),
                            "max_backoff": timedelta(seconds=_MAX_BACKOFF_SECONDS),
                            "base": 2,
                        },
                    },
                )

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether it was written."""
        from obstore.exceptions import AlreadyExistsError

        with _explained("writing", self._location(key)):
            try:
                # In one request: a multipart upload has no precondition.
                self._obstore.put(
                    self._store, self._prefix + key, data, mode="create", use_multipart=False
                )
            except (AlreadyExistsError, FileExistsError):
                return False
            if self._folder is not None:
                _sync_file(self._folder / key)
        return True

    def read(self, key: str) -> StoredObject:
        """Return a whole object."""
        location = self._location(key)
        with _explained("reading", location):
            try:
                result = self._obstore.get(self._store, self._prefix + key)
                data = bytes(result.bytes())
            except FileNotFoundError as error:
                raise _missing("reading", location) from error
        if len(data) != result.meta["size"]:
            raise _short(location, len(data), result.meta["size"])
        return StoredObject(data, result.meta["e_tag"] or "")

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)`` of an object, in one request."""
        location = self._location(key)
        with _explained("reading", location):
            try:
                data = bytes(
                    self._obstore.get_range(self._store, self._prefix + key, start=start, end=stop)
                )
            except FileNotFoundError as error:
                raise _missing("reading", location) from error
        if len(data) != stop - start:
            raise _short(location, len(data), stop - start)
        return data

    def status(self, key: str) -> ObjectStatus | None:
        """Return the status of an object, or None if there is none."""
        with _explained("looking up", self._location(key)):
            try:
                meta = self._obstore.head(self._store, self._prefix + key)
            except FileNotFoundError:
                return None
        return ObjectStatus(meta["size"], meta["e_tag"] or "")

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys below a folder, whose name ends with a slash."""
        before = self._prefix + prefix
        with _explained("listing", self._location(prefix)):
            chunks = self._obstore.list(self._store, before.rstrip("/"))
            paths = [meta["path"] for chunk in chunks for meta in chunk]
        return [path.removeprefix(self._prefix) for path in paths if path.startswith(before)]

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        with _explained("deleting", self._location(key)), suppress(FileNotFoundError):
            self._obstore.delete(self._store, self._prefix + key)

    def _location(self, key: str) -> str:
        return f"{self.url}/{key}"


def _sync_file(path: Path) -> None:
    """Make a file that obstore wrote survive a power cut, with the folders that it made."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for folder in list(path.parents)[:7]:  # the six names of a path, and the folder they are in
        with suppress(PermissionError):
            sync_folder(folder)


class _FsspecObjects:
    """Objects by a file system of fsspec, whose failed requests are repeated here."""

    def __init__(self, url: str, max_retries: int, retry_seconds: float) -> None:
        import fsspec

        self.url = url
        self._max_retries = max_retries
        self._retry_seconds = retry_seconds
        self._files: Any
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except ValueError as error:
            raise InputError(
                f"{url} cannot be opened: {error}. Use s3://, gs://, az://, file:// or a URL of "
                "fsspec",
                location=url,
            ) from error

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether it was written."""
        path = self._path(key)

        def write() -> bool:
            try:
                try:
                    self._files.pipe_file(path, data, mode="create")
                except FileNotFoundError:
                    self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
                    self._files.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True

        return self._repeated("writing", key, write)

    def read(self, key: str) -> StoredObject:
        """Return a whole object."""
        before = self.status(key)
        data: bytes = self._repeated("reading", key, lambda: self._files.cat_file(self._path(key)))
        # The tag is that of these bytes if it is the same before and after.
        after = self.status(key)
        is_same = before is not None and before == after
        return StoredObject(data, before.e_tag if before is not None and is_same else "")

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)`` of an object, in one request."""
        data: bytes = self._repeated(
            "reading", key, lambda: self._files.cat_file(self._path(key), start=start, end=stop)
        )
        if len(data) != stop - start:
            raise _short(f"{self.url}/{key}", len(data), stop - start)
        return data

    def status(self, key: str) -> ObjectStatus | None:
        """Return the status of an object, or None if there is none."""

        def look_up() -> ObjectStatus | None:
            self._files.invalidate_cache()
            try:
                about = self._files.info(self._path(key))
            except FileNotFoundError:
                return None
            tag = about.get("ETag") or about.get("etag") or ""
            return ObjectStatus(int(about["size"]), str(tag))

        return self._repeated("looking up", key, look_up)

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys below a folder, whose name ends with a slash."""

        def look_up() -> list[str]:
            self._files.invalidate_cache()
            return list(self._files.find(self._path(prefix)))

        root = self._path("")
        return [path.removeprefix(root) for path in self._repeated("listing", prefix, look_up)]

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""

        def delete() -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._path(key))

        self._repeated("deleting", key, delete)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _repeated(self, doing: str, key: str, request: Callable[[], _T]) -> _T:
        location = f"{self.url}/{key}"
        deadline = time.monotonic() + self._retry_seconds
        backoff = _FIRST_BACKOFF_SECONDS
        for attempt in range(self._max_retries + 1):
            try:
                with _explained(doing, location):
                    return request()
            except FileNotFoundError as error:
                raise _missing(doing, location) from error
            except ArchiveError:
                if attempt == self._max_retries or time.monotonic() + backoff > deadline:
                    raise
            time.sleep(backoff)
            backoff = min(2 * backoff, _MAX_BACKOFF_SECONDS)
        raise AssertionError("unreachable")
