"""The ticks of one contract and tick type, ready to be put on the wire.

From server version 208 on these messages are Protocol Buffers: ``TickByTickData``,
``HistoricalTicks``, ``HistoricalTicksBidAsk`` and ``HistoricalTicksLast``, in which a size is
decimal text, and a size that IB means as "none" is left out. Before, they are text without a
version field::

    99 TICK_BY_TICK  req_id, 1 Last or 2 AllLast, time, price, size, mask, exchange, conditions
                     req_id, 3 BidAsk, time, bid, ask, bid size, ask size, mask
                     req_id, 4 MidPoint, time, mid
    96 HISTORICAL_TICKS          req_id, n, (time, -, price, size) * n, done
    97 HISTORICAL_TICKS_BID_ASK  req_id, n, (time, mask, bid, ask, bid size, ask size) * n, done
    98 HISTORICAL_TICKS_LAST     req_id, n, (time, mask, price, size, exchange, conditions) * n,
                                 done

Times are UTC seconds. The mask of trades is 1 past limit, 2 unreported. That of quotes is 1 bid
past low, 2 ask past high in message 99, and the other way round in message 97: so both clients
read it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibticks.config import NANOSECONDS
from ibticks.errors import InputError
from ibticks.gateway._wire import (
    PROTOBUF_IDS,
    TICKS,
    frame,
    message_head,
    plain,
    protobuf,
)
from ibticks.schema import (
    COLUMNS,
    FieldType,
    StringColumn,
    StringListColumn,
    TickColumns,
    Values,
    check_tick_type,
    list_columns,
    list_flags,
)
from ibticks.tws import message_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

    from ibticks._types import TickTypeLike

__all__ = ["IB_NAMES", "TickStream"]

IB_NAMES: Final = {
    "last": "Last",
    "all_last": "AllLast",
    "bid_ask": "BidAsk",
    "mid_point": "MidPoint",
}
"""Our names of the tick types, and those of IB's requests."""

_NUMBERS: Final = {"last": 1, "all_last": 2, "bid_ask": 3, "mid_point": 4}
_PRICES: Final = {
    "last": ("price", "size"),
    "all_last": ("price", "size"),
    "bid_ask": ("bid_price", "ask_price", "bid_size", "ask_size"),
    "mid_point": ("mid_price",),
}


_LAST_PAGE: Final = (98, "HistoricalTicksLast", "historicalTicksLast")
_PAGES: Final = {
    "last": _LAST_PAGE,
    "all_last": _LAST_PAGE,
    "bid_ask": (97, "HistoricalTicksBidAsk", "historicalTicksBidAsk"),
    "mid_point": (96, "HistoricalTicks", "historicalTicks"),
}
_FIELDS: Final = {
    "last": "historicalTickLast",
    "all_last": "historicalTickLast",
    "bid_ask": "historicalTickBidAsk",
    "mid_point": "historicalTickMidPoint",
}
_PROTOBUF_NAMES: Final = {
    "price": "price",
    "size": "size",
    "mid_price": "price",
    "bid_price": "priceBid",
    "ask_price": "priceAsk",
    "bid_size": "sizeBid",
    "ask_size": "sizeAsk",
    "past_limit": "pastLimit",
    "unreported": "unreported",
    "bid_past_low": "bidPastLow",
    "ask_past_high": "askPastHigh",
}
_NO_SIZES: Final = frozenset((float(2**31 - 1), float(2**63 - 1), sys.float_info.max))


class TickStream:
    """The ticks of one contract and tick type.

    Parameters
    ----------
    contract_id : int
    tick_type : str
    columns : TickColumns
        At least ``timestamp``; sorted by it here if it is not, equal times keeping their order.
        What a tick lacks is sent as IB sends nothing: 0 for a number, no text, false for a flag.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    rows : int
    columns : TickColumns
        All columns of the tick type without an absent value; exactly what clients are sent.
        ``exchange_time`` (UTC seconds) is the only time they see: that of the tick if it has one,
        or else the second of its ``timestamp``.
    time_ns : numpy.ndarray
        ``timestamp``: when the replay sends each tick. UTC nanoseconds, int64, shape ``(rows,)``.
    seconds : numpy.ndarray
        ``exchange_time``: what each tick says its time is. UTC seconds, int64, shape ``(rows,)``.
    """

    def __init__(self, contract_id: int, tick_type: TickTypeLike, columns: TickColumns) -> None:
        self.contract_id: Final = contract_id
        self.tick_type: Final = check_tick_type(tick_type)
        if "timestamp" not in columns.columns:
            raise InputError(
                f"ticks of {contract_id} {tick_type} without a timestamp cannot be replayed",
                contract_id=contract_id,
                tick_type=tick_type,
            )
        if (np.diff(columns.timestamp) < 0).any():
            columns = columns.take(np.argsort(columns.timestamp, kind="stable"))
        self.columns: Final = _complete(contract_id, tick_type, columns)
        self.rows: Final = columns.rows
        self.time_ns: Final[npt.NDArray[np.int64]] = self.columns.timestamp
        self.seconds: Final[npt.NDArray[np.int64]] = self.columns.numbers("exchange_time")

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"<TickStream {self.contract_id} {self.tick_type}, {self.rows:,} ticks>"

    def take(self, rows: npt.NDArray[np.intp] | slice) -> TickStream:
        """The given rows as a stream of its own."""
        return TickStream(self.contract_id, self.tick_type, self.columns.take(rows))

    def of_contract(self, contract_id: int) -> TickStream:
        """The same ticks as those of another contract; only the id is new memory."""
        return TickStream(contract_id, self.tick_type, self.columns)

    def shifted(self, nanoseconds: int) -> TickStream:
        """The same ticks at another time; IB's own time moves by whole seconds."""
        moved = dict(self.columns.columns)
        moved["timestamp"] = Values(self.time_ns + nanoseconds)
        moved["exchange_time"] = Values(self.seconds + nanoseconds // NANOSECONDS)
        return TickStream(self.contract_id, self.tick_type, TickColumns(self.rows, moved))

    def price_changes(self) -> npt.NDArray[np.intp]:
        """Rows whose prices differ from those of the row before; the first is one of them."""
        changed = np.zeros(self.rows, dtype=np.bool_)
        changed[:1] = True
        for name in _PRICES[self.tick_type]:
            if COLUMNS[name].name.endswith("price"):
                values = self.columns.numbers(name)
                changed[1:] |= values[1:] != values[:-1]
        return np.flatnonzero(changed)

    def frames(self, version: int, req_id: int, first: int, last: int) -> list[bytes]:
        """Message 99 of each row in ``[first, last)``, in the layout of a server version."""
        rows = slice(first, last)
        if version >= TICKS:
            return list(self._tick_messages(version, req_id, rows))
        head = message_head(version, 99) + f"{req_id}\0{_NUMBERS[self.tick_type]}\0".encode()
        return [frame(head + body.encode()) for body in self._live(rows)]

    def history(
        self, version: int, req_id: int, rows: npt.NDArray[np.intp], *, done: bool
    ) -> bytes:
        """One message of past ticks: 96, 97 or 98, by tick type."""
        number, name, field = _PAGES[self.tick_type]
        if version >= TICKS:
            ticks = {field: list(self._tick_values(rows))}
            return protobuf(number, name, reqId=req_id, isDone=done, **ticks)
        text = f"{req_id}\0{len(rows)}\0{''.join(self._past(rows))}{int(done)}\0"
        return frame(message_head(version, number) + text.encode())

    def _tick_messages(self, version: int, req_id: int, rows: slice) -> Iterable[bytes]:
        number, field = _NUMBERS[self.tick_type], _FIELDS[self.tick_type]
        head = message_head(version, 99 + PROTOBUF_IDS)
        make = message_class("TickByTickData")
        for values in self._tick_values(rows):
            tick = make(reqId=req_id, tickType=number, **{field: values})
            yield frame(head + tick.SerializeToString())

    def _tick_values(self, rows: slice | npt.NDArray[np.intp]) -> Iterable[dict[str, Any]]:
        """The fields of each tick in IB's schemas."""
        columns: dict[str, Iterable[Any]] = {"time": self.seconds[rows].tolist()}
        for name in _PRICES[self.tick_type]:
            numbers = self._column(name, rows)
            is_size = name.endswith("size")
            columns[_PROTOBUF_NAMES[name]] = map(_size_text, numbers) if is_size else numbers
        if self.tick_type != "mid_point":
            attributes = "tickAttribBidAsk" if self.tick_type == "bid_ask" else "tickAttribLast"
            flags = list_flags(self.tick_type)
            columns[attributes] = _records(
                {_PROTOBUF_NAMES[n]: self.columns.numbers(n)[rows].tolist() for n in flags}
            )
        if self.tick_type in ("last", "all_last"):
            columns["exchange"], columns["specialConditions"] = self._texts(rows)
        return _records(columns)

    def _live(self, rows: slice) -> Iterable[str]:
        times = self.seconds[rows].tolist()
        numbers = [map(plain, self._column(name, rows)) for name in _PRICES[self.tick_type]]
        if self.tick_type == "mid_point":
            return map("%d\0%s\0".__mod__, zip(times, *numbers, strict=True))
        masks = self._mask(rows, (1, 2))
        if self.tick_type == "bid_ask":
            return map("%d\0%s\0%s\0%s\0%s\0%d\0".__mod__, zip(times, *numbers, masks, strict=True))
        texts = self._texts(rows)
        return map(
            "%d\0%s\0%s\0%d\0%s\0%s\0".__mod__, zip(times, *numbers, masks, *texts, strict=True)
        )

    def _past(self, rows: npt.NDArray[np.intp]) -> Iterable[str]:
        times = self.seconds[rows].tolist()
        numbers = [map(plain, self._column(name, rows)) for name in _PRICES[self.tick_type]]
        if self.tick_type == "mid_point":
            return map("%d\x000\0%s\x000\0".__mod__, zip(times, *numbers, strict=True))
        if self.tick_type == "bid_ask":
            masks = self._mask(rows, (2, 1))
            return map("%d\0%d\0%s\0%s\0%s\0%s\0".__mod__, zip(times, masks, *numbers, strict=True))
        masks, texts = self._mask(rows, (1, 2)), self._texts(rows)
        return map(
            "%d\0%d\0%s\0%s\0%s\0%s\0".__mod__, zip(times, masks, *numbers, *texts, strict=True)
        )

    def _column(self, name: str, rows: slice | npt.NDArray[np.intp]) -> list[float]:
        values: list[float] = self.columns.numbers(name)[rows].tolist()
        return values

    def _mask(self, rows: slice | npt.NDArray[np.intp], bits: tuple[int, int]) -> list[int]:
        one, two = (self.columns.numbers(name)[rows] for name in list_flags(self.tick_type))
        mask: list[int] = (one * bits[0] + two * bits[1]).tolist()
        return mask

    def _texts(self, rows: slice | npt.NDArray[np.intp]) -> tuple[list[str], list[str]]:
        exchange, conditions = self.columns.columns["exchange"], self.columns.columns["conditions"]
        assert isinstance(exchange, StringColumn)
        assert isinstance(conditions, StringListColumn)
        names = [exchange.values[code] for code in exchange.codes[rows].tolist()]
        values, codes = conditions.values, conditions.codes
        starts, ends = conditions.offsets[:-1][rows], conditions.offsets[1:][rows]
        # IB sends the conditions of a trade as one text.
        combined = [
            " ".join([values[code] for code in codes[start:end].tolist()])
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        return names, combined


def _records(columns: Mapping[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    """Rows of columns, each as a dictionary."""
    names = tuple(columns)
    return (dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _size_text(size: float) -> str | None:
    return None if size in _NO_SIZES else plain(size)


def _complete(contract_id: int, tick_type: str, columns: TickColumns) -> TickColumns:
    """All columns of the tick type, in order, with nothing absent."""
    rows, had = columns.rows, columns.columns
    made: dict[str, Any] = {}
    for name in list_columns([tick_type]):
        match COLUMNS[name].type, had.get(name):
            case _, None if name == "exchange_time":
                made[name] = Values(columns.timestamp // NANOSECONDS)
            case _, Values(values, valid) if name == "exchange_time":
                seconds = columns.timestamp // NANOSECONDS
                made[name] = Values(values if valid is None else np.where(valid, values, seconds))
            case _, _ if name == "contract_id":
                made[name] = Values(np.full(rows, contract_id, dtype=np.uint32))
            case _, _ if name == "tick_type":
                made[name] = StringColumn(np.zeros(rows, dtype=np.int32), (tick_type,))
            case FieldType.STRING, StringColumn(codes, names) as column if (codes >= 0).all():
                made[name] = column
            case FieldType.STRING, StringColumn(codes, names):
                made[name] = StringColumn(np.where(codes < 0, len(names), codes), (*names, ""))
            case FieldType.STRING, _:
                made[name] = StringColumn(np.zeros(rows, dtype=np.int32), ("",))
            case FieldType.STRINGS, StringListColumn() as column:
                made[name] = column
            case FieldType.STRINGS, _:
                empty = np.empty(0, dtype=np.int32)
                made[name] = StringListColumn(np.zeros(rows + 1, dtype=np.int64), empty, ())
            case kind, Values(values, valid):
                made[name] = Values(_filled(kind, values, valid))
            case kind, _:
                made[name] = Values(np.zeros(rows, dtype=_DTYPES[kind]))
    return TickColumns(rows, made)


_DTYPES: Final[dict[FieldType, Any]] = {
    FieldType.FLOAT: np.float64,
    FieldType.BOOL: np.bool_,
    FieldType.UINT64: np.uint64,
}


def _filled(
    kind: FieldType, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
) -> npt.NDArray[Any]:
    if valid is not None:
        values = np.where(valid, values, np.zeros(1, dtype=values.dtype))
    return (
        np.nan_to_num(values, nan=0.0)
        if kind is FieldType.FLOAT and np.isnan(values).any()
        else values
    )
