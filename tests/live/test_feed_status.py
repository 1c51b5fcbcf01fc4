"""The previous close, from stored ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from ibticks.calendar import to_ns
from ibticks.errors import UnknownMarketError
from ibticks.live._feed_status import PreviousClose, find_previous_close

if TYPE_CHECKING:
    from ibticks import Store

IBM = 8314
TRADES = {
    "2013-10-07T13:30:00Z": 181.0,
    "2013-10-07T19:59:59Z": 182.0,  # the last one of the regular session
    "2013-10-07T20:00:01Z": 999.0,  # after it
    "2013-10-08T13:30:00Z": 183.0,
    "2013-10-08T15:00:00Z": 184.0,  # none in the last half hour
    "2013-10-09T14:00:00Z": 185.0,
}


@pytest.fixture
def prices(store: Store) -> Store:
    write(store, "last", TRADES, "price")
    return store


def write(store: Store, tick_type: str, ticks: dict[str, float], *names: str) -> None:
    frame = pl.DataFrame({"timestamp": list(ticks), **{name: ticks.values() for name in names}})
    store.write(frame, contract_id=IBM, tick_type=tick_type)


def close_at(store: Store, at: str, market: str = "US") -> PreviousClose | None:
    return find_previous_close(store.root, store.index, IBM, to_ns(at), market)


DAYS = [
    ("2013-10-08T13:30:00Z", 182.0, "2013-10-07"),
    ("2013-10-08T19:00:00Z", 182.0, "2013-10-07"),
    ("2013-10-08T21:00:00Z", 182.0, "2013-10-07"),  # after hours
    ("2013-10-09T08:30:00Z", 184.0, "2013-10-08"),  # before the open
    ("2013-10-09T14:00:00Z", 184.0, "2013-10-08"),
    ("2013-10-12T14:00:00Z", None, None),  # Friday has no tick
]


@pytest.mark.parametrize(("at", "price", "day"), DAYS)
def test_previous_close_of_a_day(
    prices: Store, at: str, price: float | None, day: str | None
) -> None:
    close = close_at(prices, at)
    assert (close and close.price, close and str(close.session.date)) == (price, day)


def test_previous_close_describes_its_session(prices: Store) -> None:
    assert str(close_at(prices, "2013-10-08T14:00:00Z")) == (
        "last trade of the regular session of US on 2013-10-07, which closed at "
        "2013-10-07T20:00:00Z"
    )


def test_previous_close_is_a_mid_without_trades(store: Store) -> None:
    write(store, "bid_ask", {"2013-10-07T19:00:00Z": 10.0}, "bid_price", "ask_price")
    close = close_at(store, "2013-10-08T14:00:00Z")
    assert (close.price, close.source) == (10.0, "bid_ask")
    assert str(close).startswith("last mid of")


def test_no_previous_close_outside_the_calendar(prices: Store) -> None:
    assert close_at(prices, "1800-01-01T12:00:00Z") is None


def test_previous_close_of_unknown_market_raises(prices: Store) -> None:
    with pytest.raises(UnknownMarketError):
        close_at(prices, "2013-10-08T14:00:00Z", "MOON")
