"""Files that survive a crash, for the rooms that write a store.

Paths and bytes go in; a file is replaced as a whole or not at all, and an ``OSError`` becomes an
error that names the file and the remedy. Advisory locks and the owners of new files are here, too.
``storage`` and ``index`` use it; it knows neither ticks nor stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.filesystem._disk import (
        UNFINISHED,
        exclusive,
        expand_home,
        explained,
        explanation,
        give_to_store_owner,
        make_folder,
        make_lock_file,
        open_lock,
        remove_file,
        sync_data,
        sync_folder,
        synced_beside,
        try_lock,
        unfinished_path,
        write_all,
        write_anew,
        written_beside,
    )

__all__ = [
    "UNFINISHED",
    "exclusive",
    "expand_home",
    "explained",
    "explanation",
    "give_to_store_owner",
    "make_folder",
    "make_lock_file",
    "open_lock",
    "remove_file",
    "sync_data",
    "sync_folder",
    "synced_beside",
    "try_lock",
    "unfinished_path",
    "write_all",
    "write_anew",
    "written_beside",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
