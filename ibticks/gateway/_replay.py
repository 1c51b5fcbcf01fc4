"""Streams to replay: of the sample, of a store, or of ticks that a test passes in."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks._types import StreamKey
from ibticks.errors import InputError
from ibticks.gateway._contracts import GatewayContract
from ibticks.gateway._ticks import TickStream
from ibticks.sample import SAMPLES, sample
from ibticks.schema import (
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    list_columns,
    split_streams,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from ibticks._types import StreamKeyLike, TickTypeLike
    from ibticks.sample import Sample
    from ibticks.schema import Column
    from ibticks.selection import Selection

__all__ = ["Replay", "TickStreams", "sample_streams", "stored_contracts", "stored_streams"]

_ALL_ROWS: Final = 1 << 30

# What the sample does not say of its contracts; hours as IB writes them, of the days it covers.
_DETAILS: Final[dict[str, dict[str, Any]]] = {
    "IBM": {
        "primary_exchange": "NYSE",
        "long_name": "INTL BUSINESS MACHINES CORP",
        "valid_exchanges": "SMART,NYSE,ISLAND,ARCA,BATS",
        "time_zone": "US/Eastern",
        "trading_hours": "20131008:0400-20131008:2000;20131009:0400-20131009:2000",
        "liquid_hours": "20131008:0930-20131008:1600;20131009:0930-20131009:1600",
    },
    "BTCUSDT": {
        "long_name": "Bitcoin against Tether",
        "valid_exchanges": "BINANCE",
        "size_increment": 0.00001,
        "time_zone": "UTC",
        "trading_hours": "20240808:0000-20240809:0000;20240809:0000-20240810:0000",
        "liquid_hours": "20240808:0000-20240809:0000;20240809:0000-20240810:0000",
    },
}


def sample_streams(
    names: Sequence[str] | None,
) -> tuple[list[GatewayContract], list[TickStream]]:
    """Contracts and streams of these samples, or of all."""
    wanted = SAMPLES if names is None else tuple(sample(name) for name in names)
    contracts = {value.contract_id: _contract(value) for value in wanted}
    return list(contracts.values()), [_stream(value) for value in wanted]


def _contract(of: Sample) -> GatewayContract:
    return GatewayContract(
        contract_id=of.contract_id,
        symbol=of.symbol,
        sec_type=of.contract_type,
        exchange=of.exchange,
        currency=of.currency,
        **_DETAILS[of.symbol],
    )


def _stream(of: Sample) -> TickStream:
    from ibticks.tables import read_batches

    batches = read_batches(
        of.path, tick_type=of.tick_type, contract_id=of.contract_id, batch_rows=_ALL_ROWS
    )
    (columns,) = batches
    return TickStream(of.contract_id, of.tick_type, columns)


def stored_streams(selection: Selection) -> list[TickStream]:
    """The streams of a selection, whatever columns it was narrowed to.

    Raises
    ------
    InputError
        If it has no ticks.
    """
    parts: defaultdict[StreamKey, list[TickStream]] = defaultdict(list)
    whole = selection.with_columns(*list_columns(selection.tick_types))
    for columns in whole.read():
        for contract_id, tick_type, part in split_streams(columns):
            if part.rows:
                parts[StreamKey(contract_id, tick_type)].append(
                    TickStream(contract_id, tick_type, part)
                )
    if not parts:
        raise InputError(f"there are no ticks in {selection}: nothing to replay")
    return [TickStream(*key, _concatenate([part.columns for part in parts[key]])) for key in parts]


def stored_contracts(selection: Selection, ids: Collection[int]) -> list[GatewayContract]:
    """Return the index records of these contracts; the id names one without a symbol."""
    known = {record.contract_id: record for record in selection.index.contracts()}
    return [
        GatewayContract.from_record(known[contract_id])
        if contract_id in known
        else GatewayContract(contract_id=contract_id, symbol=str(contract_id))
        for contract_id in sorted(ids)
    ]


def _concatenate(parts: list[TickColumns]) -> TickColumns:
    """Concatenate column chunks of one stream."""
    if len(parts) == 1:
        return parts[0]
    combined = {}
    for name in parts[0].columns:
        combined[name] = _join([part.columns[name] for part in parts])
    return TickColumns(sum(part.rows for part in parts), combined)


def _join(columns: Sequence[Column]) -> Column:
    match columns[0]:
        case StringColumn():
            texts = [column for column in columns if isinstance(column, StringColumn)]
            codes, values = _recoded([(text.codes, text.values) for text in texts])
            return StringColumn(codes, values)
        case StringListColumn():
            lists = [column for column in columns if isinstance(column, StringListColumn)]
            codes, values = _recoded([(value.codes, value.values) for value in lists])
            lengths = np.concatenate([np.diff(value.offsets) for value in lists])
            return StringListColumn(np.concatenate(([0], np.cumsum(lengths))), codes, values)
        case _:
            numbers = [column for column in columns if isinstance(column, Values)]
            return Values(np.concatenate([number.values for number in numbers]))


def _recoded(
    parts: Sequence[tuple[npt.NDArray[np.int32], tuple[str, ...]]],
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Codes of several dictionaries as codes of one."""
    places: dict[str, int] = {}
    codes = []
    for part, values in parts:
        table = np.array([places.setdefault(v, len(places)) for v in values], dtype=np.int32)
        codes.append(table[part] if len(values) else part)
    return np.concatenate(codes), tuple(places)


class TickStreams(dict[StreamKey, TickStream]):
    """Streams by their keys; a plain tuple of contract id and tick type finds one, too."""

    def __getitem__(self, key: StreamKeyLike) -> TickStream:
        return super().__getitem__(StreamKey(*key))


class Replay:
    """Contracts, and recorded ticks of them.

    Immutable: every method gives a new replay, which shares the memory of the ticks. Made by
    :meth:`from_samples`, :meth:`from_selection` or :meth:`from_columns`.

    Parameters
    ----------
    contracts : iterable of GatewayContract
    streams : iterable of TickStream
        At most one of each contract and tick type, of the contracts given.

    Attributes
    ----------
    contracts : tuple of GatewayContract
    streams : dict of StreamKey to TickStream

    Raises
    ------
    InputError
        If a stream is given twice, or its contract is not given.
    """

    def __init__(self, contracts: Iterable[GatewayContract], streams: Iterable[TickStream]) -> None:
        self.contracts: Final = tuple(contracts)
        self.streams: Final = TickStreams()
        known = {contract.contract_id for contract in self.contracts}
        for stream in streams:
            key = StreamKey(stream.contract_id, stream.tick_type)
            if key in self.streams:
                raise InputError(f"ticks of {key.contract_id} {key.tick_type} are given twice")
            if key.contract_id not in known:
                raise InputError(
                    f"ticks of contract {key.contract_id}, which is not among the contracts"
                )
            self.streams[key] = stream

    @classmethod
    def from_samples(cls, names: Sequence[str] | None = None) -> Replay:
        """The ticks that travel with ibticks, in all four tick types.

        Quotes become ``bid_ask`` and ``mid_point``, trades ``all_last`` and ``last``.

        Parameters
        ----------
        names : sequence of str, optional
            Of :data:`ibticks.sample.SAMPLES`; all by default.

        Examples
        --------
        >>> replay = Replay.from_samples(["ibm_quotes"])
        >>> replay.streams[8314, "bid_ask"].rows
        62875
        """
        contracts, streams = sample_streams(names)
        return cls(contracts, streams).completed()

    @classmethod
    def from_selection(
        cls, selection: Selection, contracts: Iterable[GatewayContract] | None = None
    ) -> Replay:
        """The ticks of a selection, read here and now.

        Parameters
        ----------
        selection : Selection
        contracts : iterable of GatewayContract, optional
            By default what the store's index knows of them.

        Raises
        ------
        InputError
            If the selection has no ticks.
        """
        streams = stored_streams(selection)
        ids = {stream.contract_id for stream in streams}
        values = stored_contracts(selection, ids) if contracts is None else contracts
        return cls(values, streams)

    @classmethod
    def from_columns(
        cls,
        contracts: Iterable[GatewayContract],
        ticks: Mapping[StreamKey, TickColumns] | Mapping[tuple[int, str], TickColumns],
    ) -> Replay:
        """Ticks that are in memory already, by contract id and tick type."""
        return cls(contracts, [TickStream(*key, columns) for key, columns in ticks.items()])

    @property
    def rows(self) -> int:
        """Ticks of all streams."""
        return sum(stream.rows for stream in self.streams.values())

    @property
    def start_ns(self) -> int:
        """Time of the earliest tick, UTC nanoseconds; 0 if there is none."""
        return min((int(s.time_ns[0]) for s in self.streams.values() if s.rows), default=0)

    @property
    def end_ns(self) -> int:
        """Time of the latest tick, UTC nanoseconds; 0 if there is none."""
        return max((int(s.time_ns[-1]) for s in self.streams.values() if s.rows), default=0)

    def completed(self) -> Replay:
        """With ``mid_point`` made from ``bid_ask`` and ``last`` from ``all_last`` where missing.

        As with IB, a mid-point comes when it changes, and only while there are both sides.
        """
        made = list(self.streams.values())
        for (contract_id, tick_type), stream in self.streams.items():
            if tick_type == "bid_ask" and (contract_id, "mid_point") not in self.streams:
                made.append(_mid_points(stream))
            if tick_type == "all_last" and (contract_id, "last") not in self.streams:
                made.append(TickStream(contract_id, "last", stream.columns))
        return Replay(self.contracts, made)

    def cloned(self, copies: int, *, first_id: int = 1_000_001) -> Replay:
        """With more contracts that tick like those here.

        Parameters
        ----------
        copies : int
            Contracts to add. They take the contracts here in turn; the copies of IBM are called
            IBM.1, IBM.2 and so on.
        first_id : int
            Id of the first one; the others follow.

        Examples
        --------
        >>> ten = Replay.from_samples().cloned(8)
        >>> [contract.symbol for contract in ten.contracts][:4]
        ['IBM', 'BTCUSDT', 'IBM.1', 'BTCUSDT.1']
        """
        contracts, streams = list(self.contracts), list(self.streams.values())
        for number in range(copies):
            source = self.contracts[number % len(self.contracts)]
            contract_id = first_id + number
            symbol = f"{source.symbol}.{number // len(self.contracts) + 1}"
            contracts.append(
                replace(
                    source,
                    contract_id=contract_id,
                    symbol=symbol,
                    local_symbol=symbol,
                    trading_class=symbol,
                )
            )
            streams += [
                stream.of_contract(contract_id)
                for (of, _), stream in self.streams.items()
                if of == source.contract_id
            ]
        return Replay(contracts, streams)

    def only(
        self,
        contract_ids: Collection[int] | None = None,
        tick_types: Collection[TickTypeLike] | None = None,
    ) -> Replay:
        """Only these contracts and tick types; None is all of them."""
        streams = [
            stream
            for (contract_id, tick_type), stream in self.streams.items()
            if (contract_ids is None or contract_id in contract_ids)
            and (tick_types is None or tick_type in tick_types)
        ]
        remaining = (
            {stream.contract_id for stream in streams} if contract_ids is None else contract_ids
        )
        return Replay((c for c in self.contracts if c.contract_id in remaining), streams)

    def between(self, start_ns: int, end_ns: int) -> Replay:
        """The ticks in ``[start_ns, end_ns)``, UTC nanoseconds."""
        streams = [
            stream.take(slice(*np.searchsorted(stream.time_ns, (start_ns, end_ns)).tolist()))
            for stream in self.streams.values()
        ]
        return Replay(self.contracts, streams)

    def head(self, rows: int) -> Replay:
        """The first rows of every stream."""
        streams = [stream.take(slice(rows)) for stream in self.streams.values()]
        return Replay(self.contracts, streams)

    def shifted(self, nanoseconds: int) -> Replay:
        """The same ticks that much later, as if they had been recorded then."""
        streams = [stream.shifted(nanoseconds) for stream in self.streams.values()]
        return Replay(self.contracts, streams)

    def __repr__(self) -> str:
        return (
            f"<Replay of {len(self.contracts)} contracts, {len(self.streams)} streams, "
            f"{self.rows:,} ticks>"
        )


def _mid_points(quotes: TickStream) -> TickStream:
    bid, ask = (quotes.columns.numbers(name) for name in ("bid_price", "ask_price"))
    rows = np.flatnonzero((bid > 0) & (ask > 0))
    # A mid is half a tick at its finest: what the division adds beyond that is noise.
    mid = np.round((bid[rows] + ask[rows]) / 2, 9)
    changed = np.ones(len(rows), dtype=np.bool_)
    changed[1:] = mid[1:] != mid[:-1]
    rows = rows[changed]
    columns: dict[str, Column] = {
        "timestamp": Values(quotes.time_ns[rows]),
        "mid_price": Values(mid[changed]),
        "exchange_time": Values(quotes.seconds[rows]),
    }
    return TickStream(quotes.contract_id, "mid_point", TickColumns(len(rows), columns))
