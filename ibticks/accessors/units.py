"""What the columns of measures are, and in which unit: for datasets, and for the axes of plots."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["EXACT", "UTC", "attributes_of"]

UTC: Final = {"time_zone": "UTC", "comment": "naive UTC: numpy has no time zones"}
"""Attributes of times."""

EXACT: Final = {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}
"""Encoding of times: left to itself, xarray picks a unit by the data, and may lose nanoseconds."""

_PRICE, _SIZE, _VARIANCE = "currency of the contract", "as IB counts them", "log price squared"

_KNOWN: Final[dict[str, tuple[str, str]]] = {
    "spread": ("ask less bid", _PRICE),
    "relative_spread": ("ask less bid", "basis points of the mid"),
    "spread_ticks": ("ask less bid", "steps of the price"),
    "sign": ("1 bought, -1 sold, 0 unknown", "1"),
    "count": ("ticks in the bar", "1"),
    "trades": ("trades", "1"),
    "returns": ("returns that were summed", "1"),
    "bars": ("bars that were used", "1"),
    "seconds": ("time covered", "s"),
    "every": ("sampling interval", ""),
    "contract": ("contract", ""),
    "contract_id": ("IB contract id", ""),
    "time": ("start of the bar", ""),
}

_PATTERNS: Final[tuple[tuple[str, str, str], ...]] = (
    (r"(?:(bid|ask|mid)_)?(open|high|low|close)", "{0} of the bar", _PRICE),
    (r"(.*)(?:variance|kernel|variation|_rv)", "{0}", _VARIANCE),
    (r"parkinson|garman_klass|rogers_satchell|yang_zhang", "variance of a bar, {0}", _VARIANCE),
    (r".*(?:volume|delta)", "{0}", _SIZE),
    (r".*(?:price|vwap|twap|mid|spread|impact)(?:_.*)?", "{0}", _PRICE),
)


def attributes_of(name: str) -> dict[str, str]:
    """The attributes ``long_name`` and, where it has one, ``units`` of a column of a measure.

    Examples
    --------
    >>> attributes_of("bid_high")
    {'long_name': 'bid high of the bar', 'units': 'currency of the contract'}
    >>> attributes_of("first_time")
    {'long_name': 'first time'}
    """
    spoken = name.replace("_", " ")
    if name in _KNOWN:
        said, unit = _KNOWN[name]
        return {"long_name": said} | ({"units": unit} if unit else {})
    for pattern, said, unit in _PATTERNS:
        if re.fullmatch(pattern, name):
            return {"long_name": said.format(spoken), "units": unit}
    return {"long_name": spoken}
