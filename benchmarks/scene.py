"""The scene of the benchmarks: a temporary store with the hour in it, and the peers' files."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.testing import assert_frame_equal

import ibticks as ibt
from benchmarks.ticks import CONTRACT, FIRST_HOUR_NS, TICK_TYPE, busy_hour
from ibticks.config import NANOSECONDS
from ibticks.storage import FileKey, compress_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibticks.index import FileRecord
    from ibticks.schema import TickColumns

__all__ = ["FIVE_MINUTES", "HOUR", "Scene", "scene"]

_START: Final = datetime.fromtimestamp(FIRST_HOUR_NS // NANOSECONDS, UTC)
HOUR: Final = (_START, _START + timedelta(hours=1))
FIVE_MINUTES: Final = (_START + timedelta(minutes=20), _START + timedelta(minutes=25))

# The same ticks under neighbouring contract ids, which take as many bytes.
_STREAMS: Final = {
    kind: CONTRACT + place for place, kind in enumerate(("none", "zstd", "snappy", "gzip"))
}


class Scene:
    """The store, and files of the same ticks for the peers; each is made when first asked for.

    Attributes
    ----------
    folder : Path
    ticks, repeat : int
        How many ticks the hour has, how many times each measurement is taken.
    store : ibticks.Store
        It keeps nothing of a load: each decodes anew.
    """

    def __init__(self, folder: Path, ticks: int, repeat: int) -> None:
        self.folder: Final = folder
        self.ticks: Final = ticks
        self.repeat: Final = repeat
        self.store: Final = ibt.open(folder / "ticks", cache=0)
        self._written: dict[str, FileRecord] = {}

    @cached_property
    def hour(self) -> TickColumns:
        """The ticks."""
        return busy_hour(self.ticks)

    def contract(self, compression: str = "none") -> int:
        """The contract under which the hour lies sealed and with this compression."""
        contract = _STREAMS[compression]
        if compression not in self._written:
            with self.store.writer(contract, TICK_TYPE, fsync=None) as writer:
                writer.write(self.hour)
            record = compress_file(self.store.root, self.key(contract), compression)
            self.store.index.put_files([record])
            self._written[compression] = record
        return contract

    def record(self, compression: str = "none") -> FileRecord:
        """The index record of that file."""
        self.contract(compression)
        return self._written[compression]

    def path(self, compression: str = "none") -> Path:
        """That file."""
        return self.store.root / self.record(compression).path

    @staticmethod
    def key(contract: int) -> FileKey:
        """The file of the hour."""
        return FileKey(contract, TICK_TYPE, FIRST_HOUR_NS)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The hour as ibticks loads it."""
        return self.store.select(self.contract(), TICK_TYPE).to_polars().rechunk()

    @cached_property
    def parquet(self) -> Path:
        """The same frame as polars writes it: zstd, its default level, row groups and pages."""
        path = self.folder / "hour.parquet"
        self.frame.write_parquet(path, compression="zstd")
        return path

    @cached_property
    def ipc(self) -> Path:
        """The same frame as uncompressed Arrow."""
        path = self.folder / "hour.arrow"
        self.frame.write_ipc(path, compression="uncompressed")
        return path

    def check(self, loaded: pl.DataFrame) -> None:
        """Hold a loaded frame against what was written; only its dtypes may differ."""
        if loaded.schema.get("exchange_time") == pl.Int64:
            loaded = loaded.with_columns(pl.from_epoch("exchange_time"))
        wanted = self.frame.select(loaded.columns)
        assert_frame_equal(loaded.cast(wanted.schema), wanted)

    def same_height(self, height: int) -> None:
        """Refuse a result with another number of rows."""
        if height != self.ticks:
            raise AssertionError(f"{height} rows instead of {self.ticks}")


@contextmanager
def scene(ticks: int, repeat: int) -> Iterator[Scene]:
    """A scene in a temporary folder, with a PostgreSQL of its own, all gone at the end."""
    with tempfile.TemporaryDirectory(prefix="ibticks-bench-") as name:
        folder = Path(name)
        # As root, PostgreSQL runs as another user, who must get through to its data.
        folder.chmod(0o711)
        os.environ["IBTICKS_PGDATA"] = str(folder / "postgres")
        os.environ.pop("IBTICKS_DSN", None)
        made = Scene(folder, ticks, repeat)
        try:
            yield made
        finally:
            made.store.close()
