"""Real ticks that travel with ibticks: an IBM day, and the minutes of Bitcoin around midnight UTC.

The files are Parquet, with the columns of their source; ``README.md`` beside them says where they
come from, what they really hold and under which licence.

Examples
--------
>>> [each.name for each in SAMPLES]
['ibm_quotes', 'ibm_trades', 'btcusdt_quotes', 'btcusdt_trades']
>>> ibm = sample("ibm_trades")
>>> ibm.contract_id, ibm.tick_type, ibm.path.name
(8314, 'all_last', 'ibm_20131008.trades.parquet')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ibticks.config import resource
from ibticks.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SAMPLES", "Sample", "sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of recorded ticks, and the contract they are of.

    Attributes
    ----------
    name : str
        As :func:`sample` takes it.
    symbol : str
    contract_id : int
        IB's own for IBM; 990101, made up, for BTCUSDT, which IB does not list.
    tick_type : str
        The IB tick type the rows stand for: ``bid_ask`` for quotes, ``all_last`` for trades.
    path : pathlib.Path
        Parquet, sorted by ``timestamp`` (datetime64[ns, UTC]); among equal timestamps the order of
        the rows is that of the source.
    exchange, currency, contract_type : str
        As in an IB contract.
    market : str
        The market whose sessions it trades in, as ``ibticks.calendar`` names it.
    description : str
        One line for a person.
    """

    name: str
    symbol: str
    contract_id: int
    tick_type: str
    path: Path
    exchange: str
    currency: str
    contract_type: str
    market: str
    description: str


def _ibm(name: str, tick_type: str, file: str, description: str) -> Sample:
    path = resource("sample") / file
    return Sample(name, "IBM", 8314, tick_type, path, "SMART", "USD", "STK", "US", description)


def _btcusdt(name: str, tick_type: str, file: str, description: str) -> Sample:
    path = resource("sample") / file
    return Sample(
        name, "BTCUSDT", 990101, tick_type, path, "BINANCE", "USDT", "CRYPTO", "24/7", description
    )


SAMPLES: Final[tuple[Sample, ...]] = (
    _ibm(
        "ibm_quotes",
        "bid_ask",
        "ibm_20131008.quotes.parquet",
        "IBM best bid and offer, 2013-10-08 New York, pre-market to after hours, 62,875 quotes",
    ),
    _ibm(
        "ibm_trades",
        "all_last",
        "ibm_20131008.trades.parquet",
        "IBM trades of all exchanges, 2013-10-08 New York, 33,381 trades",
    ),
    _btcusdt(
        "btcusdt_quotes",
        "bid_ask",
        "btcusdt_20240808_09.quotes.parquet",
        "BTCUSDT spot best bid and offer, 2024-08-08 23:54 to 00:05 UTC, 73,174 quotes",
    ),
    _btcusdt(
        "btcusdt_trades",
        "all_last",
        "btcusdt_20240808_09.trades.parquet",
        "BTCUSDT spot trades, 2024-08-08 23:54 to 00:05 UTC, 19,904 trades",
    ),
)
"""Every sample."""


def sample(name: str) -> Sample:
    """The sample of that name.

    Raises
    ------
    InputError
        There is none; the message names those there are.
    """
    for item in SAMPLES:
        if item.name == name:
            return item
    names = ", ".join(item.name for item in SAMPLES)
    raise InputError(f"no sample {name!r}: there are {names}", sample=name)
