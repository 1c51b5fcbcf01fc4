"""Import of CSV and Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ibticks.format.fields import check_tick_type
from ibticks.importing._result import ImportResult
from ibticks.progress import bar
from ibticks.storage.disk import expand_home, explained
from ibticks.storage.ingest import Ingest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from ibticks.store import Store

__all__ = ["import_table"]

_Unit = Literal["s", "ms", "us", "ns"]


def import_table(
    store: Store,
    path: str | Path,
    *,
    contract_id: int,
    tick_type: str,
    mapping: Mapping[str, str | None] | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: _Unit | None = None,
    progress: bool | None = None,
) -> ImportResult:
    """Import a CSV or Parquet file of quotes or trades.

    Parameters
    ----------
    store : Store
    path : path
        ``.csv``, ``.csv.gz`` or ``.parquet``.
    contract_id : int
    tick_type : str
    mapping : mapping of str to str, optional
        Our column names to the file's, where they are not recognised.
    tz : str or tzinfo, optional
        Zone of times that do not say theirs.
    timestamp_unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers.
    progress : bool, optional

    Returns
    -------
    ImportResult

    Raises
    ------
    InputError
        If the file lacks a column that is needed, or a time cannot be read. What was imported
        before stays; importing again goes on from there.
    """
    from ibticks.frames import count_rows, describe_mapping, file_columns, read_batches

    source = expand_home(path)
    check_tick_type(tick_type)
    with explained(source, "reading"):
        source.open("rb").close()
    mapped, ignored = describe_mapping(file_columns(source), tick_type, mapping)
    batches = read_batches(
        source,
        tick_type=tick_type,
        contract_id=contract_id,
        mapping=mapping,
        tz=tz,
        timestamp_unit=timestamp_unit,
    )
    read = 0
    with (
        store.writer(contract_id, tick_type, fsync=None) as writer,
        bar(f"importing {source.name}", count_rows(source), show=progress) as done,
    ):
        ingest = Ingest(store.root, writer)
        for batch in batches:
            # Not the file's name: renamed or compressed, it still holds the same ticks.
            ingest.add(batch, stream_id="import")
            read += batch.rows
            done(batch.rows)
    return ImportResult(
        str(source),
        read,
        ingest.added,
        ingest.known,
        ((contract_id, tick_type),),
        dict(mapped),
        tuple(ignored),
    )
