"""Import, files, index, load: the figures of the sources come out, through every library."""

from __future__ import annotations

import csv
import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import ibticks as ibt
from ibticks.sample import SAMPLES, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parent.parent / "data"
FACTS = json.loads((DATA / "sample_facts.json").read_text())
MINUTE = 60 * 10**9
OPEN, CLOSE = "2013-10-08 09:30", "2013-10-08 16:00"

samples = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
targets = pytest.mark.parametrize(
    "target", ["polars", "pandas", "arrow", "xarray", "dask", "lazy", "capsule", "chunks"]
)


def columns_through(target: str, selection: ibt.Selection) -> dict[str, np.ndarray]:
    """The numbers of a selection as numpy arrays, times in nanoseconds, through one library."""
    names = [name for name in selection.columns if name.endswith(("price", "size"))]
    match target:
        case "polars" | "lazy":
            frame: Any = selection.to_polars() if target == "polars" else selection.lazy().collect()
            times = frame["timestamp"].dt.epoch("ns").to_numpy()
            return {"timestamp": times, **{name: frame[name].to_numpy() for name in names}}
        case "pandas" | "dask":
            frame = selection.to_pandas() if target == "pandas" else selection.to_dask().compute()
            times = frame["timestamp"].astype("int64").to_numpy()
            return {"timestamp": times, **{name: frame[name].to_numpy() for name in names}}
        case "arrow" | "capsule":
            table = selection.to_arrow() if target == "arrow" else pa.table(selection)
            times = table["timestamp"].cast(pa.int64()).to_numpy()
            return {"timestamp": times, **{name: table[name].to_numpy() for name in names}}
        case "xarray":
            dataset = selection.to_xarray()
            times = dataset["timestamp"].to_numpy().astype(np.int64)
            return {"timestamp": times, **{name: dataset[name].to_numpy() for name in names}}
        case "chunks":
            # From file to file, as a reader of more than fits into memory would.
            files = selection.to_dask().partitions
            parts = [part.compute() for part in files]
            return {
                name: np.concatenate(
                    [part[name].astype("int64" if name == "timestamp" else float) for part in parts]
                )
                for name in ["timestamp", *names]
            }
    raise AssertionError(target)


def figures(columns: dict[str, np.ndarray]) -> dict[Any, Any]:
    """The figures of :data:`FACTS` that follow from times, prices and sizes."""
    times = columns["timestamp"]
    actual = {
        "rows": len(times),
        "first_ns": int(times[0]),
        "last_ns": int(times[-1]),
        "sorted": bool(np.all(np.diff(times) >= 0)),
        "distinct_timestamps": len(np.unique(times)),
        "minutes_with_ticks": len(np.unique(times // MINUTE)),
    }
    if "bid_price" in columns:
        bid, ask = columns["bid_price"], columns["ask_price"]
        return actual | {
            "min_bid": np.nanmin(bid),
            "max_bid": np.nanmax(bid),
            "min_ask": np.nanmin(ask),
            "max_ask": np.nanmax(ask),
            "crossed": int((bid > ask).sum()),
            "locked": int((bid == ask).sum()),
            "sum_bid_size": round(math.fsum(columns["bid_size"]), 5),
            "sum_ask_size": round(math.fsum(columns["ask_size"]), 5),
        }
    price, size = columns["price"], columns["size"]
    volume, notional = math.fsum(size), math.fsum(price * size)
    return actual | {
        "min_price": price.min(),
        "max_price": price.max(),
        "first_price": price[0],
        "last_price": price[-1],
        "volume": round(volume, 5),
        "vwap": round(notional / volume, 8),
    }


def expected(facts: dict[Any, Any], actual: dict[Any, Any]) -> dict[Any, Any]:
    """Return the facts that have a counterpart, which must be most of them."""
    assert len(facts.keys() & actual.keys()) >= 10
    return {name: facts[name] for name in actual if name in facts}


@samples
@targets
def test_a_sample_has_its_documented_facts(
    sample_store: ibt.Store, sample: Sample, target: str
) -> None:
    selection = sample_store.select(sample.symbol, sample.tick_type)
    actual = figures(columns_through(target, selection))
    facts = FACTS[sample.path.stem]
    assert {name: actual[name] for name in actual if name in facts} == expected(facts, actual)


@pytest.mark.parametrize("sample", SAMPLES[:2], ids=lambda sample: sample.name)
@targets
def test_the_regular_session(sample_store: ibt.Store, sample: Sample, target: str) -> None:
    selection = sample_store.select("IBM", sample.tick_type, session="regular", date="2013-10-08")
    actual = figures(columns_through(target, selection))
    facts = FACTS[sample.path.stem]["regular_session"]
    assert {name: actual[name] for name in facts if name in actual} == {
        name: facts[name] for name in facts if name in actual
    }
    by_hand = sample_store.select(
        "IBM", sample.tick_type, start=OPEN, end=CLOSE, tz="America/New_York"
    )
    assert by_hand.intervals == selection.intervals


def bars(ticks: pl.LazyFrame) -> list[dict[Any, Any]]:
    """1-minute bars of trades, labelled by their left edge."""
    price, size = pl.col("price"), pl.col("size")
    made = ticks.group_by_dynamic("timestamp", every="1m").agg(
        price.first().alias("open"),
        price.max().alias("high"),
        price.min().alias("low"),
        price.last().alias("close"),
        size.sum().alias("volume"),
        pl.len().alias("trades"),
        ((price * size).sum() / size.sum()).alias("vwap"),
    )
    return made.collect().to_dicts()


def check_bars(bars: list[dict[Any, Any]], path: Path) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(bars) == len(rows)
    for bar, row in zip(bars, rows, strict=True):
        assert f"{bar['timestamp']:%Y-%m-%dT%H:%M:%SZ}" == row["minute_utc"]
        for name in ("open", "high", "low", "close", "volume", "trades"):
            assert bar[name] == float(row[name]), (row["minute_utc"], name)
        # 8 decimals, rounded from exact sums: a sum of doubles may fall on the other side.
        assert abs(bar["vwap"] - float(row["vwap"])) <= 1e-8, row["minute_utc"]


@pytest.mark.parametrize("target", ["polars", "lazy"])
def test_one_minute_bars(sample_store: ibt.Store, target: str) -> None:
    selection = sample_store.select("ibm", "all_last")
    ticks = selection.lazy() if target == "lazy" else selection.to_polars().lazy()
    check_bars(bars(ticks), DATA / "ibm_20131008.bars_1m.csv")


@samples
def test_hours(sample_store: ibt.Store, sample: Sample) -> None:
    facts = FACTS[sample.path.stem]["rows_per_utc_hour"]
    files = sample_store.select(sample.contract_id, sample.tick_type).files()
    hours = {
        f"{datetime.fromtimestamp(record.hour_ns // 10**9, UTC):%Y-%m-%dT%H}": record.ticks
        for record in files
    }
    assert hours == facts


@pytest.mark.parametrize("sample", SAMPLES[1:2], ids=lambda sample: sample.name)
def test_texts(sample_store: ibt.Store, sample: Sample) -> None:
    frame = sample_store.select("IBM", "all_last").to_polars()
    facts = FACTS[sample.path.stem]
    assert frame["exchange"].n_unique() == facts["distinct_exchanges"]
    assert frame["conditions"].list.join(";").n_unique() == facts["distinct_conditions"]
    source = pl.read_parquet(sample.path)
    assert frame["exchange"].cast(pl.String).to_list() == source["exchange"].to_list()
    assert frame["conditions"].list.join(";").to_list() == source["conditions"].to_list()
    assert frame["sequence"].null_count() == len(frame)  # the file has none: none is made up


def check_rows(frame: pl.DataFrame, path: Path) -> None:
    """Not only the figures: each row, equal timestamps in the order of the source."""
    source = pl.read_parquet(path)
    names = ["timestamp", "price", "size", "bid_price", "bid_size", "ask_price", "ask_size"]
    there = [name for name in names if name in source.columns]
    assert len(there) >= 3
    for name in there:
        assert frame[name].equals(source[name].cast(frame[name].dtype)), name


@samples
def test_every_row_in_order(sample_store: ibt.Store, sample: Sample) -> None:
    frame = sample_store.select(sample.contract_id, sample.tick_type).to_polars()
    check_rows(frame, sample.path)
    source = pl.read_parquet(sample.path)
    if "trade_id" in source.columns:
        assert frame["sequence"].to_list() == source["trade_id"].to_list()
        seconds = source["exchange_timestamp"].dt.truncate("1s")
        assert frame["exchange_time"].to_list() == seconds.to_list()


def test_the_statistics_of_the_index(sample_store: ibt.Store) -> None:
    """The daily statistics of the index equal those of the ticks of the day."""
    for day in sample_store.daily_stats():
        ticks = sample_store.select(
            day.contract_id, day.tick_type, start=f"{day.date}T00:00Z", end=_next(day.date)
        ).to_polars()
        assert (day.ticks, day.messages) == (ticks.height, ticks.height)
        times = ticks["timestamp"].dt.epoch("ns")
        assert (day.first_tick_ns, day.last_tick_ns) == (times[0], times[-1])
        if day.tick_type == "bid_ask":
            mids = (ticks["bid_price"] + ticks["ask_price"]) / 2
            assert (day.min_price, day.max_price) == (
                ticks["bid_price"].min(),
                ticks["ask_price"].max(),
            )
            assert day.avg_price == pytest.approx(mids.mean(), rel=1e-14)
            assert (day.volume, day.vwap) == (None, None)
        else:
            price, size = ticks["price"].to_numpy(), ticks["size"].to_numpy()
            assert (day.min_price, day.max_price) == (price.min(), price.max())
            assert day.avg_price == pytest.approx(math.fsum(price) / len(price), rel=1e-14)
            assert day.volume == pytest.approx(math.fsum(size), rel=1e-14)
            vwap = math.fsum(price * size) / math.fsum(size)
            assert day.vwap is not None
            assert round(day.vwap, 8) == round(vwap, 8)


def _next(date: str) -> str:
    return f"{np.datetime64(date) + 1}T00:00Z"


# -- the whole recordings, where they lie beside the repository ------------------------------------

SHARED = Path(
    os.environ.get("IBTICKS_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
)
CONTRACTS = {"ibm": 8314, "bac": 10098, "eurusd": 12087792, "btcusdt": 990101}
_NAMES = {
    "bars_1min_nonempty": "minutes_with_ticks",
    "crossed_bid_gt_ask": "crossed",
    "locked_bid_eq_ask": "locked",
    "total_volume": "volume",
}


RECORDINGS = sorted(SHARED.glob("*.parquet")) if (SHARED / "facts.json").exists() else []


def shared_facts(path: Path) -> dict[Any, Any]:
    facts = json.loads((SHARED / "facts.json").read_text())[f"dev/{path.name}"]
    renamed = {_NAMES.get(name, name): value for name, value in facts.items()}
    return renamed | {"first_ns": _ns(facts["first"]), "last_ns": _ns(facts["last"])}


def _ns(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ibt.Store]:
    with ibt.open(tmp_path_factory.mktemp("recorded")) as store:
        for path in RECORDINGS:
            symbol = path.name.split("_", 1)[0]
            ibt.import_table(
                store, path, contract_id=CONTRACTS[symbol], tick_type=tick_type_of(path)
            )
            store.add_contract(CONTRACTS[symbol], symbol.upper())
        yield store


def rounded(values: dict[Any, Any]) -> dict[Any, Any]:
    """Prices as the source counts them: these files have some of them one bit off."""
    return {
        name: round(value, 8) if isinstance(value, float) else value
        for name, value in values.items()
    }


def tick_type_of(path: Path) -> str:
    return "bid_ask" if path.name.endswith(".quotes.parquet") else "all_last"


# Where they are not there, neither is the test: there is nothing to skip.
if RECORDINGS:

    @pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
    def test_a_recording_has_its_documented_facts(recorded: ibt.Store, recording: Path) -> None:
        facts = shared_facts(recording)
        selection = recorded.select(recording.name.split("_", 1)[0], tick_type_of(recording))
        assert selection.count() == facts["rows"]
        for target in ("polars", "pandas", "arrow", "xarray", "lazy", "chunks"):
            actual = rounded(figures(columns_through(target, selection)))
            assert {name: actual[name] for name in actual if name in facts} == expected(
                facts, actual
            )
        check_rows(selection.to_polars(), recording)
        nulls = selection.to_polars().null_count().to_dicts()[0]
        for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
            assert nulls.get(name, 0) == facts["nulls"].get(name, 0)
        for date, session in facts.get("regular_session_0930_1600_NY", {}).items():
            part = recorded.select(
                selection.contract_ids, selection.tick_types, session="regular", date=date
            )
            actual = rounded(figures(columns_through("polars", part)))
            assert (actual["rows"], actual["minutes_with_ticks"]) == (
                session["rows"],
                session["bars_1min"],
            )
            if "vwap" in session:
                names = {
                    "low": "min_price",
                    "high": "max_price",
                    "vwap": "vwap",
                    "volume": "volume",
                }
                assert {name: actual[ours] for name, ours in names.items()} == {
                    name: session[name] for name in names
                }
        reference = SHARED / "ref" / f"{recording.name.split('.')[0]}.bars_1m.csv"
        if reference.exists() and tick_type_of(recording) == "all_last":
            check_bars([rounded(bar) for bar in bars(selection.lazy())], reference)
