"""Which column of a foreign file is which column of a tick."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ibticks.errors import InputError, UnknownColumnError
from ibticks.format.fields import check_tick_type, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["describe_mapping"]

# As people name them, without case, spaces and underscores; the first one that the file has wins.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": (
        *("timestamp", "datetime", "time", "ts", "date", "timestamputc", "datetimeutc", "timeutc"),
        *("timestampns", "timens", "tsns", "localtimestamp", "receivetime", "tsrecv"),
    ),
    "contract_id": ("contractid", "conid"),
    "tick_type": ("ticktype",),
    "price": ("price", "last", "lastprice", "tradeprice", "px", "pricelast"),
    "size": (
        *("size", "lastsize", "tradesize", "qty", "quantity", "volume", "vol", "amount"),
        *("shares", "sz"),
    ),
    "bid_price": ("bidprice", "bid", "bidpx", "bestbid", "bestbidprice"),
    "bid_size": ("bidsize", "bidqty", "bidsz", "bidvolume", "bidamount", "bestbidsize", "bidvol"),
    "ask_price": ("askprice", "ask", "askpx", "bestask", "bestaskprice", "offer", "offerprice"),
    "ask_size": (
        *("asksize", "askqty", "asksz", "askvolume", "askamount", "bestasksize", "askvol"),
        "offersize",
    ),
    "mid_price": ("midprice", "mid", "midpoint", "midpx"),
    "exchange": ("exchange", "exch", "venue", "exchangecode"),
    "conditions": ("conditions", "condition", "cond", "saleconditions", "salecondition"),
    "sequence": (
        *("sequence", "seq", "seqno", "seqnum", "sequencenumber", "tradeid", "updateid"),
        "aggtradeid",
    ),
    "past_limit": ("pastlimit",),
    "unreported": ("unreported",),
    "bid_past_low": ("bidpastlow",),
    "ask_past_high": ("askpasthigh",),
    "exchange_time": (
        *("exchangetime", "exchangetimestamp", "exchtime", "exchts", "eventtime", "tsevent"),
        "participanttimestamp",
    ),
}
_REQUIRED: Final = {
    "last": ("price",),
    "all_last": ("price",),
    "bid_ask": ("bid_price", "ask_price"),
    "mid_point": ("mid_price",),
}


def describe_mapping(
    columns: Iterable[str], tick_type: str, mapping: Mapping[str, str | None] | None = None
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Say which columns of a file an import would read, and as what.

    Parameters
    ----------
    columns : iterable of str
        Columns of the file.
    tick_type : str
        What the rows are to become; only what such a tick carries is looked for.
    mapping : mapping of str to str or None, optional
        Column of a tick to column of the file, which goes before what the names suggest; None
        leaves the column out.

    Returns
    -------
    mapped : dict of str to tuple of str
        Column of a tick to the columns of the file that it is read from: one, or for ``timestamp``
        a date and a time of day.
    ignored : list of str
        Columns of the file that are not read.

    Raises
    ------
    UnknownTickTypeError
        If IB has no such tick type.
    UnknownColumnError
        If ``mapping`` names a column that such a tick does not have.
    InputError
        If the file lacks a column that ``mapping`` names, or one that every such tick needs; the
        message lists what the file has.

    Examples
    --------
    >>> describe_mapping(["Date", "Time", "Last", "Volume", "flags"], "last")
    ({'timestamp': ('Date', 'Time'), 'price': ('Last',), 'size': ('Volume',)}, ['flags'])
    >>> describe_mapping(["t", "Close"], "last", {"timestamp": "t", "price": "Close"})
    ({'timestamp': ('t',), 'price': ('Close',)}, [])
    """
    there = list(columns)
    carried = columns_of([check_tick_type(tick_type)])
    chosen = dict(mapping or {})
    for name, source in chosen.items():
        if name not in carried:
            raise UnknownColumnError(
                f"mapping names {name!r}, which no {tick_type} tick has: use {', '.join(carried)}",
                column=name,
            )
        if source is not None and source not in there:
            raise InputError(
                f"mapping reads {name} from {source!r}, which the file lacks: it has "
                f"{', '.join(there)}",
                column=source,
            )
    plain = {_plain(name): name for name in reversed(there) if name not in chosen.values()}
    mapped: dict[str, tuple[str, ...]] = {}
    for name in carried:
        if name in chosen:
            if (source := chosen[name]) is not None:
                mapped[name] = (source,)
        elif found := next((known for known in _NAMES[name] if known in plain), None):
            pair = found in ("date", "time") and {"date", "time"} <= plain.keys()
            mapped[name] = (plain["date"], plain["time"]) if pair else (plain[found],)
    lacking = [name for name in ("timestamp", *_REQUIRED[tick_type]) if name not in mapped]
    if lacking:
        raise InputError(
            f"no column for {', '.join(lacking)}: the file has {', '.join(there)}; say which it "
            f"is with mapping={{{lacking[0]!r}: ...}}",
            column=lacking[0],
        )
    read = {source for sources in mapped.values() for source in sources}
    return mapped, [name for name in there if name not in read]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
