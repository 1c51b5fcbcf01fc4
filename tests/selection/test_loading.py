"""Turning a selection into frames: the same ticks everywhere, and no more read than needed."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ibticks as ibt
from ibticks.calendar import market, to_ns
from ibticks.errors import CorruptDataWarning, CorruptFileError, InputError
from ibticks.frames import from_arrow, metadata_of
from ibticks.frames._schema import arrow_schema
from ibticks.frames._to_polars import polars_schema
from ibticks.sample import SAMPLES, sample
from ibticks.schema import COLUMNS, list_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_files import Reads

IBM, BTC = 8314, 990101
BTC_ENDS = to_ns("2024-08-09T00:05:04.525430834Z")
MIDNIGHT = to_ns("2024-08-09T00:00Z")
everything = pl.read_parquet(sample("btcusdt_trades").path)["timestamp"].dt.epoch("ns").to_list()

examples = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def btc(sample_store: ibt.Store) -> ibt.Selection:
    return sample_store.select("btcusdt", "all_last")


@pytest.fixture
def btc_store(store: ibt.Store) -> ibt.Store:
    """A new store with the BTCUSDT quotes, in two files of some blocks each."""
    quotes = sample("btcusdt_quotes")
    ibt.import_table(store, quotes.path, contract_id=BTC, tick_type="bid_ask")
    return store


# -- ranges and order ------------------------------------------------------------------------------


@st.composite
def ranges(draw: Any) -> tuple[Any, Any]:
    """Half-open ranges around real ticks, at them, just before and just after."""
    ends = [
        draw(st.sampled_from(everything)) + draw(st.integers(-1, 1)),
        draw(st.one_of(st.sampled_from(everything), st.just(MIDNIGHT))) + draw(st.integers(-1, 1)),
    ]
    start, end = sorted(ends)
    return start, end if end > start else start + 1


@given(ranges())
@examples
def test_any_range_equals_a_filter_of_all_ticks(
    sample_store: ibt.Store, btc: ibt.Selection, span: Any
) -> None:
    start, end = span
    part = sample_store.select("btcusdt", "all_last", start=start, end=end)
    time = pl.col("timestamp").dt.epoch("ns")
    whole = btc.to_polars().filter((time >= start) & (time < end))
    assert part.to_polars().equals(whole)
    assert part.count() == whole.height
    assert part.lazy().collect().equals(whole)
    assert btc.lazy().filter((time >= start) & (time < end)).collect().equals(whole)
    low, high = (pl.lit(at).cast(pl.Datetime("ns", "UTC")) for at in span)
    stamp = pl.col("timestamp")
    assert btc.lazy().filter((stamp >= low) & (stamp < high)).collect().equals(whole)


@pytest.mark.parametrize("contract", ["ibm", "btcusdt"])
def test_tick_types_are_merged_by_time_and_stay_in_order(
    sample_store: ibt.Store, contract: str
) -> None:
    both = sample_store.select(contract, ["bid_ask", "all_last"])
    frame = both.to_polars()
    assert frame["timestamp"].is_sorted()
    for kind in ("bid_ask", "all_last"):
        alone = sample_store.select(contract, kind, columns=both.columns).to_polars()
        assert frame.filter(pl.col("tick_type") == kind).equals(alone)
    assert both.lazy().collect().equals(frame)
    # At one instant, the order of the streams is always the same.
    codes = (frame["tick_type"] == "bid_ask").to_numpy()
    same = np.flatnonzero(np.diff(frame["timestamp"].dt.epoch("ns").to_numpy()) == 0)
    assert len(same) > (100 if contract == "ibm" else -1)
    assert not (codes[same] & ~codes[same + 1]).any()


def test_contracts_are_merged_by_time(sample_store: ibt.Store) -> None:
    frame = sample_store.select(["btcusdt", "ibm"]).to_polars()
    assert len(frame) == sum(
        sample_store.select(s.contract_id, s.tick_type).count() for s in SAMPLES
    )
    assert frame["timestamp"].is_sorted()
    assert frame["contract_id"].unique().sort().to_list() == [IBM, BTC]


def test_several_intervals_come_in_one_frame(sample_store: ibt.Store) -> None:
    parts = sample_store.select("ibm", sessions=3, session="extended", now="2013-10-10T00:00Z")
    frame = parts.to_polars()
    assert len(frame) == parts.count() == 33381 + 62873
    assert frame["timestamp"].is_sorted()
    assert parts.lazy().collect().equals(frame)
    assert len(parts.to_dask()) == len(frame)


# -- one schema ------------------------------------------------------------------------------------

KINDS = [["all_last"], ["bid_ask"], ["mid_point"], ["last", "bid_ask"], list(ibt.TICK_TYPES)]
WHERE: dict[str, Any] = {
    "full": {},
    "part": {"period": "5m", "now": "2013-10-08T15:00Z"},
    "empty": {"period": "5m", "now": "2001-10-08T15:00Z"},
}


@pytest.mark.parametrize("kinds", KINDS, ids=",".join)
@pytest.mark.parametrize("where", WHERE)
def test_every_library_gets_the_same_columns(
    sample_store: ibt.Store, kinds: list[str], where: str
) -> None:
    selection = sample_store.select("IBM", kinds, **WHERE[where])
    names = list(list_columns(kinds))
    assert list(selection.columns) == names
    table = selection.to_arrow()
    assert table.schema.equals(arrow_schema(names))
    assert selection.to_polars().schema == polars_schema(names)
    lazy = selection.lazy()
    assert lazy.collect_schema() == lazy.collect().schema == polars_schema(names)
    frame = selection.to_pandas()
    assert list(frame.columns) == names
    dask = selection.to_dask()
    empty = sample_store.select("IBM", kinds, **WHERE["empty"]).to_pandas()
    for name in names:
        if COLUMNS[name].type.value != "string":
            assert frame.dtypes[name] == empty.dtypes[name] == dask.dtypes[name], name
    assert dask.compute().columns.to_list() == names
    dataset = selection.to_xarray()
    assert list(dataset.data_vars) == [
        name for name in names if name not in ("timestamp", "contract_id", "tick_type")
    ]
    sizes = {len(frame), table.num_rows, selection.count(), dataset.sizes["timestamp"], len(dask)}
    assert len(sizes) == 1
    assert (sizes == {0}) == (where == "empty" or kinds == ["mid_point"])


@pytest.mark.parametrize("columns", [["price"], ["timestamp"], ["conditions", "exchange"]], ids=str)
def test_only_requested_columns(sample_store: ibt.Store, columns: list[str]) -> None:
    selection = sample_store.select("IBM", "all_last", columns=columns)
    whole = sample_store.select("IBM", "all_last").to_polars().select(selection.columns)
    assert selection.to_polars().equals(whole)
    assert selection.lazy().collect().equals(whole)
    assert selection.to_dask().compute().columns.to_list() == list(selection.columns)


def test_xarray_needs_the_times(sample_store: ibt.Store) -> None:
    with pytest.raises(InputError, match="timestamp"):
        sample_store.select("IBM", "all_last", columns=["price"]).to_xarray()


# -- what is read ----------------------------------------------------------------------------------


def test_counting_reads_only_the_files_at_the_edges(sample_store: ibt.Store, reads: Reads) -> None:
    assert sample_store.select("ibm").count() == 33381 + 62875
    assert reads == []
    session = sample_store.select("ibm", "all_last", session="regular", date="2013-10-08")
    assert session.count() == 33323
    assert reads.files == {"8314/all_last/2013/10/08/13_ticks.pb"}


def test_counting_reads_no_file_that_lies_inside(btc_store: ibt.Store, reads: Reads) -> None:
    selection = btc_store.select(BTC)
    assert selection.count() == 73174
    assert reads == []
    # The number is that of a load, which misses the ticks of a file that is gone.
    gone = selection.files()[0]
    (btc_store.root / gone.path).unlink()
    with pytest.warns(CorruptDataWarning, match=gone.path):
        assert selection.count() == 73174 - gone.ticks


def test_five_minutes_read_five_minutes(sample_store: ibt.Store, reads: Reads) -> None:
    sample_store.clear_cache()
    whole = sample_store.select("btcusdt", "bid_ask")
    whole.to_arrow()
    everything_read = reads.bytes
    assert everything_read > 4_000_000
    reads.clear()
    sample_store.clear_cache()
    part = sample_store.select(
        "btcusdt", "bid_ask", start="2024-08-09T00:04:50Z", end="2024-08-09T00:05:00Z"
    )
    assert part.to_polars().height > 100
    assert reads.files == {"990101/bid_ask/2024/08/09/00_ticks.pb"}
    assert reads.bytes < everything_read / 3


def test_a_filter_reaches_down_to_the_blocks(sample_store: ibt.Store, reads: Reads) -> None:
    lazy = sample_store.select("btcusdt", "bid_ask").lazy()
    frame = lazy.collect()
    whole = reads.bytes
    reads.clear()
    time = pl.col("timestamp")
    start = datetime(2024, 8, 9, 0, 4, 50, tzinfo=UTC)
    actual = lazy.filter(time >= start).collect()
    assert actual.equals(frame.filter(time >= start))
    assert 0 < reads.bytes < whole / 3
    assert reads.files == {"990101/bid_ask/2024/08/09/00_ticks.pb"}
    reads.clear()
    late = lazy.filter(time > start + timedelta(days=1)).collect()
    assert (late.height, reads.bytes) == (0, 0)


def test_a_filter_reaches_down_to_contract_and_tick_type(
    sample_store: ibt.Store, reads: Reads
) -> None:
    lazy = sample_store.select(["ibm", "btcusdt"]).lazy()
    assert lazy.filter(pl.col("contract_id") == IBM).select(pl.len()).collect().item() == 96256
    assert {path.split("/")[0] for path in reads.files} == {"8314"}
    reads.clear()
    trades = lazy.filter((pl.col("tick_type") == "all_last") & (pl.col("contract_id") == BTC))
    assert trades.select(pl.col("size").sum().round(5)).collect().item() == 437.91552
    assert {path.rsplit("/", 4)[0] for path in reads.files} == {"990101/all_last"}


def test_head_stops_reading(sample_store: ibt.Store, reads: Reads) -> None:
    selection = sample_store.select("ibm", "bid_ask")
    first = selection.lazy().head(20).collect()
    assert first.equals(selection.to_polars().head(20))
    reads.clear()
    assert selection.lazy().head(20).collect().height == 20
    assert len(reads.files) <= 2 < len(selection.files())


def test_only_the_columns_of_the_query_are_decoded(
    sample_store: ibt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ibticks.storage import _tick_reader as reader

    asked = []

    class Decoder(reader.Decoder):  # type: ignore[name-defined]
        def __init__(self, columns: Any, **rest: Any) -> None:
            asked.append(set(columns))
            super().__init__(columns, **rest)

    monkeypatch.setattr(reader, "Decoder", Decoder)
    lazy = sample_store.select("ibm", "all_last").lazy()
    assert lazy.select(pl.col("size").sum()).collect().item() == 5564671
    assert set.union(*asked) == {"timestamp", "size"}
    asked.clear()
    lazy.filter(pl.col("exchange") == "Q").select("price").collect()
    assert set.union(*asked) == {"timestamp", "price", "exchange"}


# -- Dask, capsules --------------------------------------------------------------------------------


def test_dask_has_a_partition_a_file(sample_store: ibt.Store, reads: Reads) -> None:
    selection = sample_store.select("ibm", "all_last")
    frame = selection.to_dask()
    assert frame.npartitions == len(selection.files()) == 12
    assert reads == []
    assert len(frame.partitions[1].compute()) == 3956
    assert reads.files == {"8314/all_last/2013/10/08/13_ticks.pb"}
    assert frame["size"].sum().compute() == 5564671
    thawed = pickle.loads(pickle.dumps(frame))
    assert thawed["size"].sum().compute() == 5564671


def test_dask_of_nothing(sample_store: ibt.Store) -> None:
    frame = sample_store.select("ibm", "all_last", "1h", now="2001-01-01T00:00Z").to_dask()
    assert (frame.npartitions, len(frame)) == (1, 0)


def test_any_library_with_arrow_support(btc: ibt.Selection) -> None:
    table = pa.table(btc)
    assert table.equals(btc.to_arrow())
    assert metadata_of(table)["selection"] == "btcusdt all_last"
    assert pl.DataFrame(btc).equals(btc.to_polars())
    assert pl.Series(btc).struct.unnest()["price"].equals(btc.to_polars()["price"])
    assert pa.RecordBatchReader.from_stream(btc).read_all().equals(table)
    assert from_arrow(btc).rows == table.num_rows


# -- metadata of frames ----------------------------------------------------------------------------


def test_metadata(sample_store: ibt.Store) -> None:
    selection = sample_store.select("ibm", "all_last", "15m", now="2013-10-08T20:00Z")
    details = metadata_of(selection.to_arrow())
    assert {
        name: details[name] for name in ("selection", "contract_ids", "tick_types", "missing")
    } == {
        "selection": "ibm all_last, 15m",
        "contract_ids": [IBM],
        "tick_types": ["all_last"],
        "missing": [],
    }
    assert details["intervals"] == [["2013-10-08T19:45:00Z", "2013-10-08T20:00:00.000000001Z"]]
    assert details["writer"] == f"ibticks {ibt.__version__}"
    assert selection.to_pandas().attrs["ibticks"] == details
    assert metadata_of(selection.to_xarray()) == details
    whole = metadata_of(sample_store.select("ibm").to_arrow())
    assert whole["intervals"] == [["the beginning", "the end"]]


def test_damage_is_left_out_reported_and_in_the_metadata(
    btc_store: ibt.Store, damage: Callable[..., None]
) -> None:
    selection = btc_store.select(BTC, "bid_ask")
    whole = selection.to_polars()
    record = selection.files()[1]
    damage(btc_store.root / record.path)
    with pytest.warns(CorruptDataWarning, match=r"00_ticks\.pb: .* left out: 2024-08-09 00:0"):
        table = selection.to_arrow()
    assert 0 < table.num_rows < whole.height
    ((first, last),) = metadata_of(table)["missing"]
    start, end = (np.datetime64(text.removesuffix("Z"), "ns").astype(int) for text in (first, last))
    time = pl.col("timestamp").dt.epoch("ns")
    assert pl.DataFrame(table).equals(whole.filter((time < start) | (time >= end)))
    with pytest.warns(CorruptDataWarning):
        assert selection.to_pandas().attrs["ibticks"]["missing"] == [[first, last]]
    with pytest.warns(CorruptDataWarning):
        assert metadata_of(selection.to_xarray())["missing"] == [[first, last]]
    with pytest.warns(CorruptDataWarning):
        assert selection.lazy().select(pl.len()).collect().item() == table.num_rows
    with pytest.warns(CorruptDataWarning):
        assert len(selection.to_dask()) == table.num_rows
    # Loads outside the damage are unchanged.
    early = btc_store.select(BTC, "bid_ask", end=MIDNIGHT)
    assert early.to_polars().equals(whole.filter(time < MIDNIGHT))
    strict = btc_store.select(BTC, "bid_ask", strict=True)
    for load in (strict.to_arrow, lambda: list(strict.messages(ticks=True))):
        with pytest.raises(CorruptFileError) as caught:
            load()
        assert caught.value.context["path"].endswith(record.path)
    with pytest.raises(CorruptFileError, match="checksum"):
        strict.lazy().collect()


# -- messages --------------------------------------------------------------------------------------


# -- what a notebook shows -------------------------------------------------------------------------


class Texts(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[Any] = set()
        self.texts: list[Any] = []
        self._open: list[Any] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "br":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


TABLE = {"table", "caption", "thead", "tbody", "tr", "th", "td", "br"}


def test_the_repr_of_a_store_lists_its_contents(sample_store: ibt.Store) -> None:
    shown = Texts(sample_store._repr_html_())
    assert shown.tags <= TABLE
    assert str(sample_store.root) in shown.texts[0]
    assert "embedded PostgreSQL" in shown.texts[0]
    for text in ("8314", "IBM", "bid_ask", "62,875", "2013-10-08T08:00:00.640Z", "17"):
        assert text in shown.texts
    assert repr(sample_store).startswith(f"<Store '{sample_store.root}', index embedded PostgreSQL")


def test_the_repr_of_an_empty_store(store: ibt.Store) -> None:
    assert "no ticks yet" in Texts(store._repr_html_()).texts


def test_the_repr_of_a_selection_lists_its_files(sample_store: ibt.Store) -> None:
    selection = sample_store.select("ibm", "all_last", sessions=5, now="2013-10-10T00:00Z")
    shown = Texts(selection._repr_html_())
    assert shown.tags <= TABLE
    assert "ibm all_last, last 5 regular sessions of US" in shown.texts
    assert "and 2 more" in shown.texts
    size = sum(record.size for record in selection.files()) / 1e6
    assert f"7 files, up to {size:.1f} MB and 33,329 messages" in shown.texts
    assert repr(selection).startswith("<Selection ibm all_last, last 5 regular sessions of US: ")


def test_the_repr_of_a_session_has_its_hours() -> None:
    shown = Texts(market("US").session("2024-11-29")._repr_html_())
    assert shown.tags <= TABLE
    assert "Friday 2024-11-29, early close" in shown.texts
    assert "2024-11-29T14:30:00Z – 2024-11-29T18:00:00Z" in shown.texts


def test_names_are_escaped_in_html(store: ibt.Store) -> None:
    name = "<script>alert('&')</script>"
    store.add_contract(1, name)
    store.write(
        pl.DataFrame({"timestamp": [1_700_000_000_000_000_000], "price": [1.5]}),
        contract_id=1,
        tick_type="last",
    )
    for html in (store._repr_html_(), store.select(name, "last")._repr_html_()):
        assert "script" not in Texts(html).tags
        assert any(name in text for text in Texts(html).texts)


def test_selections_are_values(sample_store: ibt.Store) -> None:
    one, other = (sample_store.select("ibm", "all_last", date="2013-10-08") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != sample_store.select("ibm", "bid_ask", date="2013-10-08")
