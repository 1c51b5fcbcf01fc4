"""Column names of the tick files that exchanges, vendors and libraries hand out.

A preset adds the names of one source to the general ones of :mod:`ibticks.frames`. It is
found by columns that only this source has, or forced by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["NO_PRESET", "PRESETS", "Preset", "find_preset"]

NO_PRESET: Final = "none"
"""Turns the detection off."""


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
    there = set(plain_names)
    matches = {
        preset.name: sum(signature <= there for signature in preset.signatures)
        for preset in PRESETS.values()
    }
    best = max(matches, key=lambda one: matches[one])
    return PRESETS[best] if matches[best] else None
