"""Column names of tick files: common ones, and presets of exchanges, vendors and libraries.

A preset adds the names of one source to the common ones. It is detected by columns that only this
source has, or chosen by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "COLUMN_NAMES",
    "CONTRACT_ID_NAMES",
    "CONTRACT_TERM_NAMES",
    "DATE_NAMES",
    "INSTANT_NAMES",
    "METADATA_NAMES",
    "NANOSECOND_NAMES",
    "NO_PRESET",
    "OTHER_ID_NAMES",
    "PRESETS",
    "ROOT_SYMBOL_NAMES",
    "SIDE_EXCHANGE_NAMES",
    "SYMBOL_NAMES",
    "SYMBOL_SUFFIX_NAMES",
    "TIME_OF_DAY_NAMES",
    "TRADE_IDS",
    "Preset",
    "find_preset",
    "plain_name",
]

TRADE_IDS: Final = (
    *("tradeid", "aggtradeid", "trdmatchid", "matchid", "executionid", "execid"),
    *("transactionid", "tradeuuid", "uuid", "guid", "id"),
)
"""Plain names of columns that may have the ids of trades, best first."""

# Plain names: lower case, letters and digits only; the first one that the file has wins.
COLUMN_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "tick_type": ("ticktype",),
    "price": ("price", "last", "lastprice", "tradeprice", "px", "pricelast"),
    "size": (
        *("size", "lastsize", "tradesize", "qty", "quantity", "volume", "vol", "amount"),
        *("shares", "sz"),
    ),
    "bid_price": ("bidprice", "bid", "bidpx", "bestbid", "bestbidprice", "pricebid"),
    "bid_size": (
        *("bidsize", "bidqty", "bidsz", "bidvolume", "bidamount", "bestbidsize", "bidvol"),
        *("bidsiz", "bsize", "sizebid"),
    ),
    "ask_price": (
        *("askprice", "ask", "askpx", "bestask", "bestaskprice", "offer", "offerprice"),
        *("ofr", "priceask"),
    ),
    "ask_size": (
        *("asksize", "askqty", "asksz", "askvolume", "askamount", "bestasksize", "askvol"),
        *("offersize", "ofrsiz", "asksiz", "asize", "sizeask"),
    ),
    "mid_price": ("midprice", "mid", "midpoint", "midpx"),
    "exchange": ("exchange", "exch", "venue", "exchangecode"),
    "conditions": (
        *("conditions", "condition", "cond", "saleconditions", "salecondition"),
        *("specialconditions", "quoteconditions", "quotecondition", "trscond", "qucond"),
    ),
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
METADATA_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "correction": ("correction", "trcorr", "corr", "corrections", "correctionindicator"),
}
SIDE_EXCHANGE_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "bid_exchange": ("bidexchange", "bidex", "bidexch"),
    "ask_exchange": ("askexchange", "askex", "askexch", "ofrex", "offerexchange"),
}

# Times that name both a day and a time of day, best first. Times of one tier that differ are
# ambiguous; a time of arrival goes before the exchange's own, which `exchange_time` is for.
INSTANT_NAMES: Final[tuple[tuple[str, ...], ...]] = (
    ("timestampns", "timens", "tsns", "datetimens"),
    ("timestamp", "datetime", "time", "ts", "dt", "dateandtime"),
    ("timestampus", "timestampms"),
    ("siptimestamp", "tsrecv", "localtimestamp", "receivetime", "recvtime", "receivedtime"),
    COLUMN_NAMES["exchange_time"],
    ("transacttime", "tradetime", "quotetime"),
    ("date", "day", "tradedate", "quotedate", "tradingdate", "tradingday"),
)
DATE_NAMES: Final = ("date", "dt", "day", "tradedate", "quotedate", "tradingdate", "tradingday")
TIME_OF_DAY_NAMES: Final = (
    *("time", "timem", "timeofday", "tod", "timestamp", "tradetime", "quotetime", "ts"),
    *("clock", "timeonly"),
)
NANOSECOND_NAMES: Final = ("timemnano", "timenano", "nanosecond", "nanoseconds", "nanos")
CONTRACT_ID_NAMES: Final = ("contractid", "conid")
SYMBOL_NAMES: Final = (
    *("symbol", "ticker", "sym", "rawsymbol", "localsymbol", "instrument", "instrumentname"),
    *("security", "securityname", "ric", "isin", "cusip", "figi", "tickersymbol", "stock"),
)

# Names of instruments that no contract of the store is looked up by, only those the user maps.
OTHER_ID_NAMES: Final = (
    *("instrumentid", "securityid", "secid", "permno", "productid", "marketid", "tickerid"),
    *("instrumenttoken", "instrumentcode", "securitycode", "stockcode", "productcode", "feedcode"),
    *("contract", "contractcode", "contractname", "contractsymbol", "product", "symbolname"),
    *("securitysymbol", "stocksymbol", "rootsymbol", "underlying", "underlyingsymbol", "epic"),
    *("pair", "currencypair", "ccypair", "asset", "coin"),
)

# Terms by which the contracts of one symbol differ.
CONTRACT_TERM_NAMES: Final = (
    *("expiry", "expiration", "expirydate", "expirationdate", "maturity", "maturitydate"),
    *("contractmonth", "deliverymonth", "lasttradedateorcontractmonth", "lasttradedate"),
    *("strike", "strikeprice", "right", "putcall", "callput", "putorcall", "cpflag", "optiontype"),
)
ROOT_SYMBOL_NAMES: Final = ("symroot", "root")
SYMBOL_SUFFIX_NAMES: Final = ("symsuffix", "suffix")

NO_PRESET: Final = "none"
"""Turns the detection off."""


def plain_name(name: str) -> str:
    """Return a column's name in lower case, letters and digits only.

    Examples
    --------
    >>> plain_name("Bid Price")
    'bidprice'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True, slots=True)
class Preset:
    """The column names and conventions of one source of tick files.

    Attributes
    ----------
    name, source : str
        Name for ``preset=`` and ``--preset``, and whose files it describes.
    signatures : tuple of frozenset of str
        Sets of plain column names (lower case, letters and digits only); a file that has all
        names of one set is from this source.
    names : mapping of str to tuple of str
        Column of a tick to plain column names, best first; they go before the general names.
    fixed_point : bool
        Integer prices are multiples of 1e-9, and the largest 64-bit integer is no price.
    unread : frozenset of str
        Columns of a tick that this source has under the same name with another meaning.
    trade_event : tuple of str
        Plain name of the column of events, and its value for a trade; empty without one.
    separator : str
        Character between the conditions of a trade that are one text; empty where the text is one
        condition.
    """

    name: str
    source: str
    signatures: tuple[frozenset[str], ...]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed_point: bool = False
    separator: str = ""
    unread: frozenset[str] = frozenset()
    trade_event: tuple[str, ...] = ()


def _signatures(*sets: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(names.split()) for names in sets)


def find_preset(plain_names: Collection[str], name: str | None = None) -> Preset | None:
    """Return the preset of that name, or the one whose signatures the columns match best.

    Parameters
    ----------
    plain_names : collection of str
        Plain names of a file's columns.
    name : str, optional
        Name of a preset, or ``"none"`` for no detection.

    Returns
    -------
    Preset or None
        None where no signature matches.

    Raises
    ------
    InputError
        If there is no preset of that name.

    Examples
    --------
    >>> find_preset(["symroot", "timem", "price"]).name
    'taq'
    >>> find_preset(["time", "price"]) is None
    True
    """
    if name == NO_PRESET:
        return None
    if name is not None:
        if name not in PRESETS:
            raise InputError(
                f"unknown preset {name!r}: use one of {', '.join([*PRESETS, NO_PRESET])}",
                preset=name,
            )
        return PRESETS[name]
    available = set(plain_names)
    matches = {
        preset.name: sum(signature <= available for signature in preset.signatures)
        for preset in PRESETS.values()
    }
    best = max(matches, key=lambda preset_name: matches[preset_name])
    return PRESETS[best] if matches[best] else None


PRESETS: Final[dict[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(
            "taq",
            "NYSE TAQ, also as WRDS and the R package highfrequency name it",
            _signatures(
                *("bidsiz", "ofr", "ofrsiz", "timem", "trscond", "trcorr", "symroot"),
                *("cond corr", "dt ex"),
            ),
            {
                "timestamp": ("dt",),
                "price": ("price",),
                "size": ("size", "siz"),
                "bid_price": ("bid", "bestbid"),
                "bid_size": ("bidsiz", "bestbidsiz"),
                "ask_price": ("ofr", "ask", "bestask"),
                "ask_size": ("ofrsiz", "asksiz", "bestasksiz"),
                "exchange": ("ex",),
                "conditions": ("trscond", "cond", "qucond", "mode"),
                "sequence": ("trseqnum", "quseqnum", "tseq", "qseq"),
            },
        ),
        Preset(
            "databento",
            "Databento trades, mbp-1 and tbbo",
            _signatures(
                "bidpx00 askpx00",
                "tsevent rtype",
                "tsevent publisherid",
                "tsevent instrumentid",
                "tsevent tsrecv",
            ),
            {
                "bid_price": ("bidpx00",),
                "bid_size": ("bidsz00",),
                "ask_price": ("askpx00",),
                "ask_size": ("asksz00",),
                "exchange_time": ("tsevent",),
            },
            fixed_point=True,
            trade_event=("action", "T"),
        ),
        Preset(
            "ib_async",
            "ib_async and ib_insync, frames of historical or live ticks",
            _signatures(
                *("pricebid priceask", "sizebid sizeask", "tickattriblast", "tickattribbidask"),
                "specialconditions",
            ),
            {
                "bid_price": ("pricebid", "bidprice"),
                "bid_size": ("sizebid", "bidsize"),
                "ask_price": ("priceask", "askprice"),
                "ask_size": ("sizeask", "asksize"),
                "mid_price": ("midpoint", "price"),
                "conditions": ("specialconditions",),
                "past_limit": ("pastlimit", "tickattriblast"),
                "unreported": ("unreported", "tickattriblast"),
                "bid_past_low": ("bidpastlow", "tickattribbidask"),
                "ask_past_high": ("askpasthigh", "tickattribbidask"),
            },
            unread=frozenset({"tick_type"}),
        ),
        Preset(
            "polygon",
            "Polygon.io (Massive) flat files and REST answers",
            _signatures("siptimestamp"),
            {
                "timestamp": ("siptimestamp",),
                "exchange_time": ("participanttimestamp",),
                "sequence": ("sequencenumber",),
            },
            separator=",",
        ),
        Preset(
            "tardis",
            "tardis.dev trades and quotes",
            _signatures("exchange symbol timestamp localtimestamp"),
            {
                "timestamp": ("timestamp",),
                "size": ("amount",),
                "bid_size": ("bidamount",),
                "ask_size": ("askamount",),
            },
        ),
        Preset(
            "kdb",
            "kdb+ tick tables trade and quote",
            _signatures("bsize asize", "time sym"),
            {
                "bid_size": ("bsize",),
                "ask_size": ("asize",),
                "exchange": ("ex",),
                "conditions": ("cond",),
            },
        ),
        Preset(
            "ibticks",
            "Files that selections write",
            _signatures("timestamp contractid ticktype"),
            separator=";",
        ),
    )
}
