"""Writing of frames: the ticks of each stream go to its writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ibticks.errors import InputError, TickError
from ibticks.schema import split_streams
from ibticks.storage import Ingest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibticks.schema import TickColumns
    from ibticks.storage import StreamWriter

__all__ = ["Duplicates", "check_duplicates", "write_columns"]

Duplicates: TypeAlias = Literal["keep", "skip"]

_BATCH_ROWS: Final = 1 << 20  # rows that are compared with the stored ones together


def check_duplicates(duplicates: str) -> None:
    """Raise :class:`~ibticks.errors.InputError` unless it is ``keep`` or ``skip``."""
    if duplicates not in ("keep", "skip"):
        raise InputError(
            f"duplicates={duplicates!r} is neither 'keep' (write every tick) nor 'skip' (write the "
            "ticks that are not stored yet)",
            duplicates=duplicates,
        )


def write_columns(
    root: Path,
    columns: TickColumns,
    open_writer: Callable[[int, str], StreamWriter],
    *,
    stream_id: str = "",
    duplicates: Duplicates = "keep",
) -> int:
    """Write ticks of any streams, one stream after the other.

    Parameters
    ----------
    root : Path
        Folder of the store.
    columns : TickColumns
        Ticks with ``contract_id`` and ``tick_type``.
    open_writer : callable
        Opens the writer of a contract and tick type.
    stream_id : str
        Stream id of ticks that have none.
    duplicates : {"keep", "skip"}
        Write every tick, or only those that are not stored yet.

    Returns
    -------
    int
        Number of ticks written.

    Raises
    ------
    TickError
        The error of the writer, with the number of ticks written before in its message, in
        ``context["written"]`` and ``context["rows"]``.
    """
    written = 0

    def advance(rows: int) -> None:
        nonlocal written
        written += rows

    try:
        for contract_id, tick_type, ticks in split_streams(columns):
            with open_writer(contract_id, tick_type) as writer:
                if duplicates == "keep":
                    writer.write(ticks, stream_id=stream_id, seal=True, on_written=advance)
                    continue
                ingest = Ingest(root, writer, on_written=advance)
                for start in range(0, ticks.rows, _BATCH_ROWS):
                    stop = start + _BATCH_ROWS
                    batch = ticks.take(slice(start, stop))
                    ingest.add(batch, stream_id=stream_id, seal=stop >= ticks.rows)
    except TickError as error:
        raise type(error)(
            f"{error.message}; {_progress(written, columns.rows)}",
            **{**error.context, "written": written, "rows": columns.rows},
        ) from error
    except BaseException as error:
        error.add_note(_progress(written, columns.rows, at_least=True))
        raise
    return written


def _progress(written: int, rows: int, *, at_least: bool = False) -> str:
    if written == rows:
        return f"all {rows:,} ticks were written before"
    count = f"{'at least ' * at_least}{written:,} of {rows:,} ticks"
    return (
        f"{count} were written before: write the same frame again with duplicates='skip', which "
        "adds those that are not stored yet"
    )
