"""Writing hour files without a store: sealed, appended to, never overwritten."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import ibticks as ibt
from ibticks import errors
from ibticks.format import read_header
from ibticks.sample import sample
from ibticks.schema import COLUMNS as TICK_COLUMNS
from ibticks.tables import read_batches

from .conftest import QUOTES_HOUR, in_hour, recorded

TRADES: dict[str, Any] = {"contract_id": 8314, "tick_type": "all_last"}


def test_written_ticks_are_read_back_with_every_column(tmp_path: Path) -> None:
    source = sample("ibm_trades")
    with ibt.HourWriter(tmp_path, **TRADES, stream_id="8314_all_last") as writer:
        for batch in read_batches(source.path, **TRADES):
            assert writer.write(batch) == batch.rows
    read = ibt.read_hours(tmp_path, columns=list(TICK_COLUMNS)).to_polars()
    frame = pl.read_parquet(source.path)
    assert read["timestamp"].to_list() == frame["timestamp"].to_list()
    assert read["exchange"].cast(pl.String).to_list() == frame["exchange"].to_list()
    assert read["stream_id"].unique().to_list() == ["8314_all_last"]
    copy = tmp_path / "copy"
    with ibt.HourWriter(copy, **TRADES) as writer:
        writer.write(ibt.read_hours(tmp_path, columns=list(TICK_COLUMNS)))
    assert_frame_equal(ibt.read_hours(copy, columns=list(TICK_COLUMNS)).to_polars(), read)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 3 * 3600 * 10**9), st.floats(0.01, 1e6), st.integers(1, 10**6)),
        min_size=1,
        max_size=30,
    )
)
def test_any_ticks_are_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    start = int(datetime(2025, 1, 10, 14, tzinfo=UTC).timestamp()) * 10**9
    frame = pl.DataFrame(
        [(start + time, price, float(size)) for time, price, size in rows],
        schema=["timestamp", "price", "size"],
        orient="row",
    )
    with ibt.HourWriter(folder, 265598, "last") as writer:
        assert writer.write(frame) == len(rows)
    hours = {(start + time) // (3600 * 10**9) for time, _, _ in rows}
    assert len(writer.files) == len(hours)
    read = ibt.read_hours(folder).to_polars()
    expected = frame.sort("timestamp", maintain_order=True)
    assert read["timestamp"].dt.epoch("ns").to_list() == expected["timestamp"].to_list()
    assert read["price"].to_list() == expected["price"].to_list()
    assert read["size"].to_list() == expected["size"].to_list()


def test_files_are_sealed_in_the_layout_of_a_store(written_folder: Path) -> None:
    files = sorted(path for path in written_folder.rglob("*.pb"))
    assert len(files) == 17 + 12 + 2
    for path in files:
        header = read_header(path.read_bytes())
        assert header.sealed
        contract, tick_type = path.relative_to(written_folder).parts[:2]
        assert (str(header.contract_id), header.tick_type) == (contract, tick_type)


def test_a_store_opens_the_folder(written_folder: Path, tmp_path: Path, database: str) -> None:
    shutil.copytree(written_folder, tmp_path / "ticks")
    with ibt.open(tmp_path / "ticks", dsn=database) as store:
        store.rebuild_index()
        assert store.select(8314, "bid_ask").count() == 62_875
        assert all(finding.problem is None for finding in store.verify())


def test_ticks_of_a_file_are_appended_to_and_never_overwritten(tmp_path: Path) -> None:
    hour = in_hour(recorded("ibm_trades"), 14)
    with ibt.HourWriter(tmp_path, **TRADES) as writer:
        writer.write(hour[:2_000])
    first = writer.files[0].read_bytes()
    with ibt.HourWriter(tmp_path, **TRADES) as writer:
        writer.write(hour[2_000:])
    (path,) = writer.files
    data = path.read_bytes()
    assert data[256 : len(first)] == first[256:]
    assert read_header(data).message_count == hour.height
    read = ibt.read_hours(tmp_path).to_polars()
    assert read["price"].to_list() == hour["price"].to_list()


def test_a_compressed_file_is_appended_to(tmp_path: Path) -> None:
    hour = in_hour(recorded("ibm_trades"), 14)
    for part in (hour[:2_000], hour[2_000:]):
        with ibt.HourWriter(tmp_path, **TRADES, compression="zstd") as writer:
            writer.write(part)
    assert read_header(writer.files[0].read_bytes()).compression == "zstd"
    assert ibt.read_hours(tmp_path).to_polars()["price"].to_list() == hour["price"].to_list()


def test_other_hours_are_unchanged(tmp_path: Path) -> None:
    trades = recorded("ibm_trades")
    with ibt.HourWriter(tmp_path, **TRADES) as writer:
        writer.write(in_hour(trades, 14))
    (path,) = writer.files
    before = path.stat().st_mtime_ns, path.read_bytes()
    with ibt.HourWriter(tmp_path, **TRADES) as writer:
        writer.write(in_hour(trades, 15))
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert [file.name for file in writer.files] == ["15_ticks.pb"]


def test_a_write_that_was_interrupted_can_be_repeated(tmp_path: Path) -> None:
    hour = in_hour(recorded("ibm_trades"), 14)

    def write_half() -> None:
        with ibt.HourWriter(tmp_path, **TRADES, duplicates="skip") as writer:
            assert writer.write(hour[:3_000]) == 3_000
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    (path,) = tmp_path.rglob("*.pb")
    assert read_header(path.read_bytes()).sealed
    with ibt.HourWriter(tmp_path, **TRADES, duplicates="skip") as writer:
        assert writer.write(hour) == hour.height - 3_000
    assert len(ibt.read_hours(tmp_path)) == hour.height


def test_messages_of_every_type_are_appended(written_folder: Path, tmp_path: Path) -> None:
    messages = [message for _, message in ibt.iter_messages(written_folder / QUOTES_HOUR)][:10]
    info = {
        "type": "info",
        "stream_id": "8314_bid_ask",
        "timestamp": "2013-10-08T14:59:59Z",
        "data": {"status": "unsubscribed"},
    }
    for added in (True, False):
        with ibt.HourWriter(tmp_path, 8314, "bid_ask", duplicates="skip") as writer:
            assert [writer.append(message) for message in messages] == [added] * 10
            assert writer.append(info) is added
    with ibt.HourWriter(tmp_path / "kept", 8314, "bid_ask") as writer:
        assert writer.append(info)
        assert writer.append(info)
    copied = [message for _, message in ibt.iter_messages(tmp_path / QUOTES_HOUR)]
    assert copied[:10] == messages
    assert copied[10].info_data.status == "unsubscribed"


def test_ticks_of_other_streams_are_refused(tmp_path: Path) -> None:
    with ibt.HourWriter(tmp_path, **TRADES) as writer:
        with pytest.raises(errors.InputError, match="contract_id"):
            writer.write(recorded("ibm_trades").with_columns(contract_id=pl.lit(1)))
        with pytest.raises(errors.InputError, match="8314"):
            writer.write(
                next(read_batches(sample("ibm_quotes").path, tick_type="bid_ask", contract_id=8314))
            )
        with pytest.raises(errors.ProtocolError):
            writer.append({"type": "tick"})
    assert writer.files == ()
    assert not list(tmp_path.rglob("*.pb"))


def test_one_writer_has_a_stream_at_a_time(tmp_path: Path) -> None:
    with ibt.HourWriter(tmp_path, **TRADES) as writer:
        with pytest.raises(errors.WriterLockedError, match="already written"):
            ibt.HourWriter(tmp_path, **TRADES)
        with ibt.HourWriter(tmp_path, 8314, "bid_ask") as other:
            assert repr(other) == f"HourWriter({str(tmp_path)!r}, 8314, 'bid_ask', open)"
    assert repr(writer).endswith("'all_last', closed)")


def test_a_closed_writer_writes_nothing(tmp_path: Path) -> None:
    writer = ibt.HourWriter(tmp_path, **TRADES)
    writer.close()
    writer.close()
    with pytest.raises(errors.InputError, match="closed"):
        writer.write(recorded("ibm_trades"))
    with pytest.raises(errors.InputError, match="closed"):
        writer.append({})


def test_arguments_are_checked_before_the_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    for wrong in ({"compression": "rar"}, {"duplicates": "drop"}):
        with pytest.raises(errors.InputError, match=next(iter(wrong.values()))):
            ibt.HourWriter(folder, **TRADES, **wrong)  # type: ignore[arg-type]
    with pytest.raises(errors.UnknownTickTypeError):
        ibt.HourWriter(folder, 8314, "trades")
    with pytest.raises(errors.InputError):
        ibt.HourWriter(folder, -1, "last")
    assert not folder.exists()
