"""What the columns of measures are, and in which unit: the attributes of datasets."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["EXACT", "UTC", "attributes_of"]

UTC: Final = {"time_zone": "UTC", "comment": "naive UTC: numpy has no time zones"}
"""Attributes of times."""

EXACT: Final = {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}
"""Encoding of times: left to itself, xarray picks a unit by the data, and may lose nanoseconds."""

_PRICE, _SIZE, _VARIANCE = "currency of the contract", "as IB counts them", "log price squared"
_NONE, _UNSAID = "1", ""

_COUNTS: Final = (
    "bandwidth bars bucket dropped duplicates filled not_positive observations one_sided "
    "out_of_order outliers quotes returns rows slow ticks trades"
)
_SHARES: Final = "coverage jump_share quote_imbalance r_squared t_statistic vpin"

_KNOWN: Final[dict[str, tuple[str, str]]] = {
    **{name: (name.replace("_", " "), _NONE) for name in f"{_COUNTS} {_SHARES}".split()},
    "amihud": ("absolute return by value traded", "1 / currency of the contract"),
    "contract": ("contract", _UNSAID),
    "contract_id": ("IB contract id", _UNSAID),
    "count": ("ticks in the bar", _NONE),
    "covariance": ("covariance of successive price changes", f"{_PRICE} squared"),
    "intensity": ("ticks per second", "1 / s"),
    "kyle_lambda": ("price change by signed volume", f"{_PRICE} by size"),
    "order_flow_imbalance": ("order flow imbalance", _SIZE),
    "roll": ("spread by Roll's measure", _PRICE),
    "seconds": ("time covered", "s"),
    "sign": ("1 bought, -1 sold, 0 unknown", _NONE),
    "spread": ("ask less bid", _PRICE),
    "spread_ticks": ("ask less bid", "steps of the price"),
    "time": ("start of the bar", _UNSAID),
}

_PATTERNS: Final[tuple[tuple[str, str, str], ...]] = (
    (r"relative_.*", "{0}: a share of the mid", _NONE),
    (r"(?:(?:bid|ask|mid)_)?(?:open|high|low|close)", "{0} of the bar", _PRICE),
    (r"parkinson|garman_klass|rogers_satchell|yang_zhang", "variance of a bar: {0}", _VARIANCE),
    (r".*(?:variance|kernel|variation|_rv)", "{0}", _VARIANCE),
    (r".*(?:volume|delta)", "{0}", _SIZE),
    (r".*(?:price|vwap|twap|mid|spread|impact)(?:_(?:lower|upper))?", "{0}", _PRICE),
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
    found = _KNOWN.get(name)
    if found is None:
        matches = ((said, unit) for pattern, said, unit in _PATTERNS if re.fullmatch(pattern, name))
        found = next(matches, ("{0}", _UNSAID))
    said, unit = found
    return {"long_name": said.format(spoken)} | ({"units": unit} if unit else {})
