"""Import quotes or trades from CSV and Parquet files."""

from __future__ import annotations

import csv
from collections import Counter, OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibticks._types import StreamKey
from ibticks.errors import InputError
from ibticks.filesystem import expand_home, explained
from ibticks.importing._instruments import new_symbols, resolve_contracts
from ibticks.importing._messages import ImportResult
from ibticks.schema import check_contract_id, check_tick_type, split_streams
from ibticks.storage import Ingest
from ibticks.store import progress_bar

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from datetime import tzinfo
    from types import TracebackType
    from typing import Self

    from ibticks._types import TickTypeLike, TimeUnit
    from ibticks.storage import StreamWriter
    from ibticks.store import Store
    from ibticks.tables import TickTable

__all__ = ["StreamWriters", "import_table"]

_MAX_OPEN_STREAMS: Final = 100
"""Streams that are open at a time: each has some file descriptors."""


def import_table(
    store: Store,
    path: str | Path,
    *,
    contract_id: int | None = None,
    tick_type: TickTypeLike,
    mapping: Mapping[str, str | None] | None = None,
    tz: str | tzinfo | None = None,
    timestamp_unit: TimeUnit | None = None,
    progress: bool | None = None,
    preset: str | None = None,
    time_format: str | None = None,
    decimal: str | None = None,
    symbols: Mapping[str, int] | None = None,
    skip_bad: bool | str | os.PathLike[str] = False,
    format_reason: Callable[[str], str] | None = None,
) -> ImportResult:
    """Import a CSV or Parquet file of quotes or trades.

    Parameters
    ----------
    store : Store
    path : path
        Parquet, or delimited text with a header line, compressed or not.
    contract_id : int, optional
        Contract of all rows. Not needed for a file with a column ``contract_id`` or ``conid``, or
        with symbols that the store or ``symbols`` knows; refused for a file of several instruments.
    tick_type : str
    mapping : mapping of str to str, optional
        Columns of a tick, or ``metadata.KEY``, to the file's, where they are not recognised;
        ``"A+B"`` joins a date and a time of day.
    tz : str or tzinfo, optional
        Zone of times that have none.
    timestamp_unit : {"s", "ms", "us", "ns"}, optional
        Unit of times that are numbers.
    progress : bool, optional
    preset : str, optional
        ``taq``, ``databento``, ``ib_async``, ``polygon``, ``tardis``, ``kdb``, ``ibticks`` or
        ``none``: whose column names the file has; by default the one they match.
    time_format : str, optional
        Format of times that are texts, such as ``"%d/%m/%Y %H:%M:%S.%f"``.
    decimal : {".", ","}, optional
        Decimal mark of numbers that are texts; by default what the numbers show.
    symbols : mapping of str to int, optional
        Contract ids by the symbols or ids of the file.
    skip_bad : bool or path
        Whether rows that cannot be read are left out and written to a file with their line numbers:
        the one given, or one beside the source.
    format_reason : callable, optional
        Rewrites the reasons in that file.

    Returns
    -------
    ImportResult

    Raises
    ------
    InputError
        If the file lacks a column that is needed or has several that would do, names instruments
        whose contracts are not known, or has a row that cannot be read. What was imported before
        such a row stays, and the message states how much that is; importing again goes on
        from there.
    """
    from ibticks.tables import open_table

    source = expand_home(path)
    check_tick_type(tick_type)
    if contract_id is not None:
        check_contract_id(contract_id)
    with explained(source, "reading"):
        source.open("rb").close()
    table = open_table(
        source,
        tick_type=tick_type,
        mapping=mapping,
        preset=preset,
        tz=tz,
        timestamp_unit=timestamp_unit,
        time_format=time_format,
        decimal=decimal,
    )
    # A first pass, so that nothing is stored of a file that is refused for its instruments.
    columns = table.mapping.instruments
    try:
        instruments = table.instruments(skip_ragged=bool(skip_bad))
    except InputError as error:
        if "values" not in error.context:  # not of a ragged row, which skip_bad leaves out
            raise
        raise _interrupted_error(error, 0, skipping=bool(skip_bad)) from error
    if not columns and contract_id is not None:
        contracts = dict.fromkeys(instruments or [("",)], contract_id)
    else:
        contracts = resolve_contracts(
            list(instruments) or ([("",)] if contract_id is None else []),
            columns,
            store.contracts(),
            contract_id=contract_id,
            symbols=symbols,
        )
    reasons: dict[int, str] = {}
    rows: Counter[int] = Counter()
    first_ns: int | None = None
    last_ns: int | None = None
    with (
        StreamWriters(store) as writers,
        progress_bar(
            f"importing {source.name}", sum(instruments.values()), show=progress
        ) as advance,
    ):
        try:
            for batch in table.batches(
                contracts,
                on_bad_row=(lambda row, error: reasons.update({row: str(error)}))
                if skip_bad
                else None,
            ):
                for contract, batch_tick_type, ticks in split_streams(batch):
                    # Not the file's name: renamed or compressed, it still holds the same ticks.
                    writers.ingest(contract, batch_tick_type).add(ticks, stream_id="import")
                    rows[contract] += ticks.rows
                    low, high = int(ticks.timestamp.min()), int(ticks.timestamp.max())
                    first_ns = low if first_ns is None else min(first_ns, low)
                    last_ns = high if last_ns is None else max(last_ns, high)
                advance(batch.rows)
        except InputError as error:
            raise _interrupted_error(error, rows.total(), skipping=bool(skip_bad)) from error
    for contract, symbol in new_symbols(
        contracts, columns, store.contracts(), symbols or {}
    ).items():
        store.add_contract(contract, symbol)
    rejects, rejected = None, 0
    if reasons or table.ragged:
        rejects = rejects_path(source) if isinstance(skip_bad, bool) else expand_home(skip_bad)
        if format_reason is not None:
            reasons = {row: format_reason(reason) for row, reason in reasons.items()}
        rejected = write_rejects(rejects, table, reasons)
    streams = writers.streams
    if contract_id is not None:
        streams = (StreamKey(contract_id, tick_type),)
    return ImportResult(
        str(source),
        rows.total(),
        writers.added,
        writers.known,
        streams,
        table.mapping.described(),
        table.mapping.ignored,
        table.mapping.preset.name if table.mapping.preset else None,
        first_ns,
        last_ns,
        dict(sorted(rows.items())),
        rejected,
        None if rejects is None else str(rejects),
        table.notes,
    )


def _interrupted_error(error: InputError, rows: int, *, skipping: bool) -> InputError:
    """Return the error of a row that cannot be read, saying how to go on."""
    progress = (
        f"the {rows:,} rows before it are stored" if rows else "nothing of the file is stored"
    )
    alternative = "" if skipping else ", or leave such rows out with skip_bad=True"
    return type(error)(
        f"{error}; {progress}: mend it and import the file again{alternative}",
        **{**error.context, "rows": rows},
    )


class StreamWriters:
    """Open writers of many streams, the least recently used closed first.

    The ingest of a stream outlives its writer: equal ticks of one file are all kept,
    whether or not the writer was closed between them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: OrderedDict[StreamKey, StreamWriter] = OrderedDict()
        self._ingests: dict[StreamKey, Ingest] = {}

    def ingest(self, contract_id: int, tick_type: str) -> Ingest:
        """Return the ingest of a stream, its writer open."""
        stream = StreamKey(contract_id, tick_type)
        if stream in self._open:
            self._open.move_to_end(stream)
            return self._ingests[stream]
        while len(self._open) >= _MAX_OPEN_STREAMS:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        writer = self._store.writer(contract_id, tick_type, fsync=None)
        self._open[stream] = writer
        if stream in self._ingests:
            self._ingests[stream].resume(writer)
        else:
            self._ingests[stream] = Ingest(self._store.root, writer)
        return self._ingests[stream]

    @property
    def streams(self) -> tuple[StreamKey, ...]:
        """Contract ids and tick types that were written to, in order."""
        return tuple(sorted(self._ingests))

    @property
    def added(self) -> int:
        """Ticks written."""
        return sum(ingest.added for ingest in self._ingests.values())

    @property
    def known(self) -> int:
        """Ticks that the store had already."""
        return sum(ingest.known for ingest in self._ingests.values())

    def close(self) -> None:
        """Close every writer, also where closing one of them fails."""
        while self._open:
            _, writer = self._open.popitem()
            try:
                writer.close()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def rejects_path(source: Path) -> Path:
    """Return a path beside a file that no other file has.

    Examples
    --------
    >>> rejects_path(Path("/none/trades.csv.gz")).name
    'trades.csv.gz.rejected.csv'
    """
    path = source.with_name(f"{source.name}.rejected.csv")
    number = 2
    while path.exists():
        path = source.with_name(f"{source.name}.rejected-{number}.csv")
        number += 1
    return path


def write_rejects(path: Path, table: TickTable, reasons: Mapping[int, str]) -> int:
    """Write bad rows with their line numbers and reasons; return how many there are.

    Parameters
    ----------
    path : Path
        A new file, CSV: ``line``, ``reason`` and the columns of the source. It can be mended and
        imported like the source.
    table : TickTable
    reasons : mapping of int to str
        Reason by number of the row; ragged rows are found besides.
    """
    count = 0
    width = len(table.columns)
    bad_rows = table.bad_rows(list(reasons))
    row_numbers = iter(sorted(reasons))
    with (
        explained(path, "writing"),
        path.open("x", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["line", "reason", *table.columns])
        for line, values in bad_rows:
            ragged = len(values) != width
            reason = (
                f"{len(values)} values instead of {width}" if ragged else reasons[next(row_numbers)]
            )
            writer.writerow([line, reason, *values])
            count += 1
    return count
