"""One busy hour, made of real quotes.

No instrument in the sample is as busy as the figures ask for (1,000,000 quotes in an hour), so the
regular session of IBM on 2013-10-08 is repeated, quote after quote, and its real gaps are scaled
until they fill the hour. Prices, sizes, their order and the shape of the bursts are real; the rate
is not. Every other time the session comes upside down, bid for ask: a compressor that met the same
quotes again half a megabyte later in a column would make Parquet a tenth smaller than it really is.
What IB says of a tick beside its prices is added as a capture would store it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibticks.calendar import market
from ibticks.config import HOUR_NS, NANOSECONDS
from ibticks.sample import sample
from ibticks.schema import StringColumn, TickColumns, Values

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["CONTRACT", "FIRST_HOUR_NS", "STREAM", "TICK_TYPE", "busy_hour"]

_QUOTES: Final = sample("ibm_quotes")
CONTRACT: Final = _QUOTES.contract_id
TICK_TYPE: Final = _QUOTES.tick_type
FIRST_HOUR_NS: Final = int(datetime(2013, 10, 8, 14, tzinfo=UTC).timestamp()) * NANOSECONDS
"""Start of the hour the ticks are put into, UTC nanoseconds."""

STREAM: Final = f"{CONTRACT}_{TICK_TYPE}_{FIRST_HOUR_NS // 1_000_000}_4821"
"""The id of a v2 stream: contract, tick type, when it began in milliseconds, four digits."""

_QUOTED: Final = (
    "bid_price",
    "bid_size",
    "ask_price",
    "ask_size",
    "bid_past_low",
    "ask_past_high",
)
_MILLISECOND: Final = 1_000_000
_MICROSECOND: Final = 1_000


def busy_hour(ticks: int) -> TickColumns:
    """So many quotes in one hour, with every field that a captured quote has.

    Timestamps are in whole microseconds, as v2 messages carry them; ``exchange_time`` is their
    second. A quote takes about 123 bytes as a frame.
    """
    session = _session()
    quotes = pl.concat([session, _upside_down(session)])
    rows = np.arange(ticks) % len(quotes)
    columns: dict[str, Any] = {
        "timestamp": Values(FIRST_HOUR_NS + _times(session["timestamp"].to_numpy(), ticks)),
    }
    for name in _QUOTED[:4]:
        columns[name] = Values(quotes[name].to_numpy()[rows])
    columns["sequence"] = Values(np.arange(1, ticks + 1, dtype=np.uint64))
    for name in _QUOTED[4:]:
        columns[name] = Values(quotes[name].to_numpy()[rows])
    columns["exchange_time"] = Values(columns["timestamp"].values // NANOSECONDS)
    columns["stream_id"] = StringColumn(np.zeros(ticks, dtype=np.int32), (STREAM,))
    return TickColumns(ticks, columns)


def _session() -> pl.DataFrame:
    """The quotes of the regular session, and whether they are beyond what had traded that day."""
    quotes = pl.read_parquet(_QUOTES.path)
    trades = pl.read_parquet(sample("ibm_trades").path).select(
        "timestamp", low=pl.col("price").cum_min(), high=pl.col("price").cum_max()
    )
    session = market(_QUOTES.market).session("2013-10-08", "regular")
    at = pl.col("timestamp").cast(pl.Int64)
    return (
        quotes.join_asof(trades, on="timestamp")
        .filter((at >= session.start_ns) & (at < session.end_ns))
        .with_columns(
            pl.col("bid_size", "ask_size").cast(pl.Float64),
            timestamp=at,
            bid_past_low=(pl.col("bid_price") < pl.col("low")).fill_null(False),
            ask_past_high=(pl.col("ask_price") > pl.col("high")).fill_null(False),
        )
        .select("timestamp", *_QUOTED)
    )


def _upside_down(quotes: pl.DataFrame) -> pl.DataFrame:
    """The same market seen from below: bids are asks, mirrored about the middle of the day."""
    ends = pl.col("bid_price").min() + pl.col("ask_price").max()
    return quotes.select(
        "timestamp",
        bid_price=(ends - pl.col("ask_price")).round(2),
        bid_size="ask_size",
        ask_price=(ends - pl.col("bid_price")).round(2),
        ask_size="bid_size",
        bid_past_low="ask_past_high",
        ask_past_high="bid_past_low",
    )


def _times(session: npt.NDArray[np.int64], ticks: int) -> npt.NDArray[np.int64]:
    """Nanoseconds into the hour: the session's own rhythm, over and over, faster."""
    # The source's clock ticks in milliseconds: quotes of the same one are spread over it.
    _, first, counts = np.unique(session, return_index=True, return_counts=True)
    place = np.arange(len(session)) - np.repeat(first, counts)
    spread = session + place * _MILLISECOND // np.repeat(counts, counts)
    turns = -(-ticks // len(session))
    length = int(spread[-1] - spread[0]) + _MILLISECOND
    elapsed = np.concatenate([spread - spread[0] + turn * length for turn in range(turns)])[:ticks]
    scaled = elapsed * ((HOUR_NS - _MILLISECOND) / max(1, int(elapsed[-1])))
    return scaled.astype(np.int64) // _MICROSECOND * _MICROSECOND
