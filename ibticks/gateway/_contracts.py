"""The contracts a gateway knows, and which of them a client's request means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibticks.index import ContractRecord

__all__ = ["ContractQuery", "GatewayContract", "matching"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayContract:
    """A contract as IB describes it; what is not said is left as IB leaves it for a US stock.

    Attributes
    ----------
    contract_id : int
        IB's conId.
    symbol, sec_type, exchange, currency, primary_exchange, local_symbol, trading_class : str
        ``local_symbol`` and ``trading_class`` are the symbol unless given.
    last_trade_date, right, multiplier : str
        ``last_trade_date`` as ``YYYYMMDD``.
    strike : float
    min_tick, size_increment : float
        Steps of price and size.
    time_zone : str
        A name of the zone database.
    trading_hours, liquid_hours : str
        As IB writes them, in that zone: ``20131008:0400-20131008:2000;20131009:CLOSED``.
    long_name, market_name, valid_exchanges, order_types, stock_type : str
    """

    contract_id: int
    symbol: str
    sec_type: str = "STK"
    exchange: str = "SMART"
    currency: str = "USD"
    primary_exchange: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    last_trade_date: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    min_tick: float = 0.01
    size_increment: float = 1.0
    time_zone: str = "US/Eastern"
    trading_hours: str = ""
    liquid_hours: str = ""
    long_name: str = ""
    market_name: str = ""
    valid_exchanges: str = ""
    order_types: str = "LMT,MKT"
    stock_type: str = "COMMON"

    @classmethod
    def from_record(cls, record: ContractRecord) -> GatewayContract:
        """The contract of a store's index.

        Examples
        --------
        >>> from ibticks.index import ContractRecord
        >>> GatewayContract.from_record(ContractRecord(8314, "IBM", "SMART", "USD", "STK")).symbol
        'IBM'
        """
        return cls(
            contract_id=record.contract_id,
            symbol=record.symbol or str(record.contract_id),
            sec_type=record.contract_type or "STK",
            exchange=record.exchange or "SMART",
            currency=record.currency or "USD",
        )

    @property
    def exchanges(self) -> frozenset[str]:
        """Every exchange a request may name for it."""
        names = {self.exchange, self.primary_exchange, *self.valid_exchanges.split(",")}
        return frozenset(names - {""})


@dataclass(frozen=True, slots=True)
class ContractQuery:
    """A contract as a client describes it: by id, or by some of its properties."""

    contract_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    last_trade_date: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""


def matching(
    contracts: Iterable[GatewayContract], query: ContractQuery
) -> tuple[GatewayContract, ...]:
    """The contracts a query means: the one with its id, or all that agree with what it says.

    Examples
    --------
    >>> ibm = GatewayContract(contract_id=8314, symbol="IBM")
    >>> matching([ibm], ContractQuery(symbol="IBM", sec_type="STK")) == (ibm,)
    True
    >>> matching([ibm], ContractQuery(8315, symbol="IBM"))
    ()
    """
    if query.contract_id:
        return tuple(c for c in contracts if c.contract_id == query.contract_id)
    if not (query.symbol or query.local_symbol):
        return ()
    return tuple(contract for contract in contracts if _agrees(contract, query))


def _agrees(contract: GatewayContract, query: ContractQuery) -> bool:
    details = (
        (query.symbol, contract.symbol),
        (query.sec_type, contract.sec_type),
        (query.currency, contract.currency),
        (query.local_symbol, contract.local_symbol or contract.symbol),
        (query.trading_class, contract.trading_class or contract.symbol),
        (query.multiplier, contract.multiplier),
        (query.right, contract.right),
        # A contract month is the beginning of a date.
        (query.last_trade_date, contract.last_trade_date[: len(query.last_trade_date)]),
    )
    places = (query.exchange, query.primary_exchange)
    return (
        all(not wanted or wanted == had for wanted, had in details)
        and all(not place or place in contract.exchanges for place in places)
        and query.strike in (0.0, contract.strike)
    )
