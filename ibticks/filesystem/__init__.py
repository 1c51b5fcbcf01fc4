"""filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.filesystem._disk import (
        UNFINISHED,
        expand_home,
        explained,
        explanation,
        make_folder,
        remove_file,
        sync_data,
        sync_folder,
        write_all,
        write_anew,
        written_beside,
    )
    from ibticks.filesystem._locks import exclusive, open_lock, try_lock
    from ibticks.filesystem._ownership import give_to_store_owner, make_lock_file

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
    "try_lock",
    "write_all",
    "write_anew",
    "written_beside",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
