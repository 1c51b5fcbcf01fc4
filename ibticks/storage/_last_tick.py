"""The time of the last tick of a stream, of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ibticks.storage._layout import part_of
from ibticks.storage._payloads import payloads_backwards, time_of
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ibticks.index import FileRecord

__all__ = ["last_tick_ns"]

_TICK: Final = StreamMessage(type="tick").SerializeToString()


def last_tick_ns(root: Path, files: Sequence[FileRecord]) -> int | None:
    """Return the time of the last tick of a stream, of its files; ticks of backfills do not count.

    Parameters
    ----------
    root : Path
        The store.
    files : sequence of FileRecord
    """
    live = [file for file in files if not file.backfilled]
    for file in sorted(live, key=lambda each: (each.hour_ns, part_of(each.path)), reverse=True):
        if file.sealed:
            if file.last_tick_ns is not None:
                return file.last_tick_ns
            continue
        for payload in payloads_backwards(root, file):
            if payload.startswith(_TICK):
                try:
                    return time_of(StreamMessage.FromString(payload))
                except DecodeError:
                    continue  # not a message of this format
    return None
