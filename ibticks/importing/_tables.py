"""Import of CSV and Parquet files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ibticks.errors import InputError
from ibticks.filesystem import expand_home, explained
from ibticks.importing._instruments import new_symbols, resolve_contracts
from ibticks.importing._rejects import rejects_path, write_rejects
from ibticks.importing._result import ImportResult
from ibticks.importing._writers import StreamWriters
from ibticks.schema import check_contract_id, check_tick_type, split_streams
from ibticks.store import bar

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

    from ibticks._types import TimeUnit
    from ibticks.store import Store

__all__ = ["import_table"]


def import_table(
    store: Store,
    path: str | Path,
    *,
    contract_id: int | None = None,
    tick_type: str,
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
        Our column names, or ``metadata.KEY``, to the file's, where they are not recognised;
        ``"A+B"`` joins a date and a time of day.
    tz : str or tzinfo, optional
        Zone of times that do not say theirs.
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
        such a row stays, and the message says how much that is; importing again goes on from there.
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
        raise _interrupted(error, 0, skipping=bool(skip_bad)) from error
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
        bar(f"importing {source.name}", sum(instruments.values()), show=progress) as done,
    ):
        try:
            for batch in table.batches(
                contracts,
                on_bad_row=(lambda row, error: reasons.update({row: str(error)}))
                if skip_bad
                else None,
            ):
                for contract, kind, ticks in split_streams(batch):
                    # Not the file's name: renamed or compressed, it still holds the same ticks.
                    writers.ingest(contract, kind).add(ticks, stream_id="import")
                    rows[contract] += ticks.rows
                    low, high = int(ticks.timestamp.min()), int(ticks.timestamp.max())
                    first_ns = low if first_ns is None else min(first_ns, low)
                    last_ns = high if last_ns is None else max(last_ns, high)
                done(batch.rows)
        except InputError as error:
            raise _interrupted(error, rows.total(), skipping=bool(skip_bad)) from error
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
        streams = ((contract_id, tick_type),)
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


def _interrupted(error: InputError, rows: int, *, skipping: bool) -> InputError:
    """Return the error of a row that cannot be read, saying how to go on."""
    stored = f"the {rows:,} rows before it are stored" if rows else "nothing of the file is stored"
    how = "" if skipping else ", or leave such rows out with skip_bad=True"
    return type(error)(
        f"{error}; {stored}: mend it and import the file again{how}",
        **{**error.context, "rows": rows},
    )
