from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibticks.errors import CorruptFileError, UnknownColumnError
from ibticks.frames import scan, to_polars, to_table
from ibticks.frames._scan import Bounds, parse_bounds
from ibticks.frames._to_polars import polars_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks.schema import TickColumns

COLUMNS = ["timestamp", "contract_id", "tick_type", "price", "bid_price", "exchange"]
START = datetime(2025, 1, 10, 14, tzinfo=UTC)
HOUR = 3_600 * 10**9
START_NS = int(START.timestamp()) * 10**9
ENGINES = ["in-memory", "streaming"]
time = pl.col("timestamp")


@dataclass
class Hours:
    """Files of one hour, contract and tick type; it prunes as a reader does, and writes down."""

    parts: dict[tuple[int, int, str], TickColumns]
    asked: list[dict[Any, Any]] = field(default_factory=list)
    read: list[tuple[int, int, str]] = field(default_factory=list)
    closed: int = 0

    def batches(
        self, columns: Any, *, start_ns: Any, end_ns: Any, contract_ids: Any, tick_types: Any
    ) -> Iterator[Any]:
        self.asked.append({"columns": columns, "start_ns": start_ns, "end_ns": end_ns})
        try:
            for hour in sorted({hour for hour, _, _ in self.parts}):
                wanted = [
                    key
                    for key in self.parts
                    if key[0] == hour
                    and (contract_ids is None or key[1] in contract_ids)
                    and (tick_types is None or key[2] in tick_types)
                    and (start_ns is None or START_NS + (hour + 1) * HOUR > start_ns)
                    and (end_ns is None or START_NS + hour * HOUR < end_ns)
                ]
                if wanted:
                    self.read += wanted
                    yield to_table([self.parts[key] for key in wanted], columns)
        finally:
            self.closed += 1


@pytest.fixture
def hours(ticks: Callable[..., TickColumns]) -> Hours:
    """Two contracts, two tick types, four hours, a tick every ten minutes in each."""
    parts = {}
    for hour in range(4):
        for contract in (5, 7):
            for kind in ("last", "bid_ask"):
                price = "price" if kind == "last" else "bid_price"
                rows = [
                    dict.fromkeys(["price", "bid_price", "exchange"])
                    | {
                        "timestamp": START_NS + hour * HOUR + minute * 60 * 10**9 + 500 * minute,
                        "contract_id": contract,
                        "tick_type": kind,
                        price: 100.0 + minute,
                        "exchange": "PQ"[minute // 10 % 2] if kind == "last" else None,
                    }
                    for minute in range(0, 60, 10)
                ]
                parts[hour, contract, kind] = ticks(rows)
    return Hours(parts)


@pytest.fixture
def eager(hours: Hours) -> pl.DataFrame:
    return to_polars(to_table(list(hours.parts.values()), COLUMNS))


def read_hours(hours: Hours) -> list[Any]:
    return sorted({key[0] for key in hours.read})


def test_a_lazy_frame_has_the_schema_of_the_eager_one(hours: Hours, eager: pl.DataFrame) -> None:
    lazy = scan(COLUMNS, hours)
    assert lazy.collect_schema() == polars_schema(COLUMNS) == eager.schema
    assert not hours.asked
    with pytest.raises(UnknownColumnError):
        scan(["vwap"], hours)


@pytest.mark.parametrize("engine", ENGINES)
def test_everything(hours: Hours, eager: pl.DataFrame, engine: Any) -> None:
    assert scan(COLUMNS, hours).collect(engine=engine).equals(eager)
    assert hours.closed == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_columns_used_are_read(hours: Hours, eager: pl.DataFrame, engine: Any) -> None:
    lazy = scan(COLUMNS, hours)
    mean = lazy.filter(pl.col("exchange") == "P").select(pl.col("price").mean()).collect()
    assert mean.item() == eager.filter(pl.col("exchange") == "P")["price"].mean()
    assert hours.asked.pop()["columns"] == ("price", "exchange")
    assert lazy.select(pl.len()).collect(engine=engine).item() == eager.height
    assert len(hours.asked.pop()["columns"]) == 1
    backwards = lazy.select("price", "timestamp").collect(engine=engine)
    assert backwards.equals(eager.select("price", "timestamp"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (time >= START + timedelta(hours=3), [3]),
        (time < START + timedelta(hours=1), [0]),
        (time <= START + timedelta(hours=1), [0, 1]),
        (time > START + timedelta(hours=2), [2, 3]),
        (START + timedelta(hours=3) <= time, [3]),
        (time == START + timedelta(hours=2), [2]),
        (time.is_between(START, START + timedelta(hours=1)), [0, 1]),
        (time.is_between(START, START + timedelta(hours=1), closed="left"), [0]),
        (time.is_in([START, START + timedelta(hours=1)]), [0, 1]),
        (time >= pl.datetime(2025, 1, 10, 17, time_zone="UTC"), [3]),
        (time >= pl.lit("2025-01-10 16:00").str.to_datetime(time_zone="UTC"), [2, 3]),
        (
            time.dt.convert_time_zone("America/New_York")
            < pl.datetime(2025, 1, 10, 10, time_zone="America/New_York"),
            [0],
        ),
        (time.dt.date() == date(2025, 1, 10), [0, 1, 2, 3]),
        (time.dt.date() > date(2025, 1, 10), []),
        ((time < START + timedelta(hours=1)) | (time == START + timedelta(hours=1)), [0, 1]),
        ((pl.col("price") > 120) & (time >= START + timedelta(hours=3)), [3]),
        ((time >= START + timedelta(hours=2)) & (time < START + timedelta(hours=2)), []),
        # Not understood, so nothing is left out.
        (time.dt.hour() == 16, [0, 1, 2, 3]),
        (~time.is_between(START, START + timedelta(hours=3)), [0, 1, 2, 3]),
        ((time >= START + timedelta(hours=3)) | (pl.col("price") > 140), [0, 1, 2, 3]),
        (time >= time.min() + timedelta(hours=3), [0, 1, 2, 3]),
    ],
)
def test_only_the_hours_of_the_filter_are_read(
    hours: Hours, eager: pl.DataFrame, engine: Any, where: pl.Expr, expected: list[int]
) -> None:
    collected = scan(COLUMNS, hours).filter(where).collect(engine=engine)
    assert collected.equals(eager.filter(where))
    assert read_hours(hours) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (pl.col("contract_id") == 5, {(5, "last"), (5, "bid_ask")}),
        (pl.col("contract_id").is_in([5, 9]), {(5, "last"), (5, "bid_ask")}),
        (pl.col("contract_id").eq_missing(7), {(7, "last"), (7, "bid_ask")}),
        (pl.col("tick_type") == "last", {(5, "last"), (7, "last")}),
        (pl.col("tick_type").is_in(["last", "mid_point"]), {(5, "last"), (7, "last")}),
        (pl.col("tick_type").cast(pl.String) == "last", {(5, "last"), (7, "last")}),
        ((pl.col("contract_id") == 5) & (pl.col("tick_type") == "last"), {(5, "last")}),
        ((pl.col("contract_id") == 5) & (pl.col("contract_id") == 7), set()),
        (pl.col("contract_id").is_in([]), set()),
        (
            (pl.col("contract_id") == 5) | (pl.col("contract_id") == 7),
            {(5, "last"), (5, "bid_ask"), (7, "last"), (7, "bid_ask")},
        ),
        (pl.col("contract_id") != 5, {(5, "last"), (5, "bid_ask"), (7, "last"), (7, "bid_ask")}),
    ],
)
def test_only_the_streams_of_the_filter_are_read(
    hours: Hours, eager: pl.DataFrame, where: pl.Expr, expected: set[Any]
) -> None:
    collected = scan(COLUMNS, hours).filter(where).collect()
    assert collected.equals(eager.filter(where))
    assert {key[1:] for key in hours.read} <= expected
    assert not expected or {key[1:] for key in hours.read} == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_head_stops_reading(hours: Hours, eager: pl.DataFrame, engine: Any) -> None:
    lazy = scan(COLUMNS, hours)
    assert lazy.head(7).collect(engine=engine).equals(eager.head(7))
    assert read_hours(hours) == [0]
    assert hours.closed == 1
    assert lazy.head(0).collect(engine=engine).height == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_filter_of_a_head_counts_every_row(
    hours: Hours, eager: pl.DataFrame, engine: Any
) -> None:
    where = time >= START + timedelta(hours=1)
    collected = scan(COLUMNS, hours).head(30).filter(where).collect(engine=engine)
    assert collected.equals(eager.head(30).filter(where))
    assert collected.height == 6


def test_a_head_of_a_filter(hours: Hours, eager: pl.DataFrame) -> None:
    where = pl.col("price") > 120
    collected = scan(COLUMNS, hours).filter(where).head(3).collect(engine="streaming")
    assert collected.equals(eager.filter(where).head(3))


def test_joins_and_tails(hours: Hours, eager: Any) -> None:
    lazy = scan(COLUMNS, hours)
    trades, quotes = (pl.col("tick_type") == kind for kind in ("last", "bid_ask"))

    def at_quote(frame: pl.LazyFrame) -> pl.LazyFrame:
        bids = frame.filter(quotes).select("timestamp", "contract_id", bid="bid_price")
        left = frame.filter(trades).lazy()
        return left.join(bids.lazy(), on=["timestamp", "contract_id"]).sort(
            "timestamp", "contract_id"
        )

    assert at_quote(lazy).collect().equals(at_quote(eager).collect())
    assert lazy.tail(3).collect().equals(eager.tail(3))


def test_an_error_of_the_source_comes_through() -> None:
    class Broken:
        def batches(self, columns: Any, **bounds: Any) -> Iterator[Any]:
            yield to_table([], columns)
            raise CorruptFileError("a frame runs past the end", path="14_ticks.pb")

    with pytest.raises(CorruptFileError, match="past the end"):
        scan(COLUMNS, Broken()).collect()


_INSTANTS = st.integers(-20, 20).map(
    lambda n: START_NS + n * HOUR // 4 + (n % 3) * 1_234_567 * (n % 2)
)


def _time_literal(instant: Any, unit: Any) -> pl.Expr:
    size = {"ns": 1, "us": 1_000, "ms": 1_000_000}[unit]
    return pl.lit(instant // size).cast(pl.Datetime(unit, "UTC"))


_COMPARE = st.sampled_from(["__ge__", "__gt__", "__lt__", "__le__", "__eq__", "__ne__"])
_LEAVES = st.one_of(
    st.builds(
        lambda op, instant, unit: getattr(time, op)(_time_literal(instant, unit)),
        _COMPARE,
        _INSTANTS,
        st.sampled_from(["ns", "us", "ms"]),
    ),
    st.builds(
        lambda a, b, closed, unit: time.is_between(
            _time_literal(a, unit), _time_literal(b, unit), closed=closed
        ),
        _INSTANTS,
        _INSTANTS,
        st.sampled_from(["both", "left", "right", "none"]),
        st.sampled_from(["ns", "us"]),
    ),
    st.builds(
        lambda op, day: getattr(time.dt.date(), op)(date(2025, 1, day)),
        _COMPARE,
        st.integers(9, 11),
    ),
    st.builds(lambda op, c: getattr(pl.col("contract_id"), op)(c), _COMPARE, st.integers(4, 8)),
    st.lists(st.integers(4, 8), max_size=3).map(pl.col("contract_id").is_in),
    st.lists(st.sampled_from(["last", "bid_ask", "mid_point"]), max_size=2).map(
        pl.col("tick_type").is_in
    ),
    st.sampled_from(["last", "all_last"]).map(lambda kind: pl.col("tick_type") == kind),
    st.integers(90, 160).map(lambda price: pl.col("price") > price),
    st.just(pl.col("exchange").is_null()),
)
_FILTERS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        inner.map(lambda a: ~a),
    ),
    max_leaves=5,
)


def test_pushed_down_or_not_the_rows_are_the_same(hours: Hours, eager: pl.DataFrame) -> None:
    @settings(max_examples=150, deadline=None)
    @given(_FILTERS, st.sampled_from(ENGINES))
    def check(where: Any, engine: Any) -> None:
        expected = eager.filter(where)
        assert scan(COLUMNS, hours).filter(where).collect(engine=engine).equals(expected)
        bounds = parse_bounds(where)
        for row in expected.select(time.to_physical(), "contract_id", "tick_type").iter_rows():
            assert contains(bounds, *row)

    check()


def contains(bounds: Bounds, instant: Any, contract: Any, kind: Any) -> bool:
    return (
        (bounds.start_ns is None or instant >= bounds.start_ns)
        and (bounds.end_ns is None or instant < bounds.end_ns)
        and (bounds.contract_ids is None or contract in bounds.contract_ids)
        and (bounds.tick_types is None or kind in bounds.tick_types)
    )


def test_bounds_are_exact_where_they_can_be() -> None:
    assert parse_bounds(time.is_between(START, START, closed="none")).empty
    assert not parse_bounds(time.is_between(START, START)).empty
    nanoseconds = pl.lit(START_NS + 1).cast(pl.Datetime("ns", "UTC"))
    assert parse_bounds(time > nanoseconds) == Bounds(start_ns=START_NS + 2)
    assert parse_bounds(time <= nanoseconds) == Bounds(end_ns=START_NS + 2)
    assert parse_bounds(time.dt.date() > date(2025, 1, 10)) == Bounds(start_ns=START_NS + 10 * HOUR)
    far = pl.lit(datetime(9999, 12, 31, tzinfo=UTC))
    assert parse_bounds(time < far) == Bounds()
    assert parse_bounds(time > far).start_ns == 2**63 - 1
    past = pl.lit(datetime(1, 1, 1, tzinfo=UTC))
    assert parse_bounds(time >= past) == Bounds()
    assert parse_bounds(time < past).end_ns == -(2**63)
    assert parse_bounds(time == pl.lit(None, dtype=pl.Datetime("ns", "UTC"))) == Bounds()
    assert parse_bounds(pl.col("exchange") == "P") == Bounds()
    assert parse_bounds(pl.col("contract_id") == 5.0) == Bounds()
    assert parse_bounds(pl.col("price") == 5) == Bounds()
    assert parse_bounds(pl.lit(value=True)) == Bounds()
    assert parse_bounds(pl.lit(value=False)).empty
    assert parse_bounds(pl.lit(None, dtype=pl.Boolean)).empty
