"""The ticks that travel with ibticks, as streams of contracts IB might list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibticks.gateway._contracts import GatewayContract
from ibticks.gateway._ticks import TickStream
from ibticks.sample import SAMPLES, sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibticks.sample import Sample

__all__ = ["sample_streams"]

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
