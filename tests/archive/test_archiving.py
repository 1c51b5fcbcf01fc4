"""Nothing is deleted here before its copy was compared, whatever the object store does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ibticks as ibt
from ibticks.archive import Marker, open_object_store, read_marker, write_marker
from ibticks.errors import ArchiveError, CorruptFileError, StreamInUseWarning
from ibticks.storage import StreamLock
from tests.archive.conftest import HOURS, LATER, NOW, ticks_of

if TYPE_CHECKING:
    from tests.archive.object_server import ObjectServer, Request


def here(store: ibt.Store) -> list[str]:
    """Return the hours whose files are on disk."""
    return [path for path in HOURS if (store.root / path).exists()]


def archive_and_delete(store: ibt.Store, to: str) -> None:
    store.archive(to, now=NOW)
    report = store.archive(to, grace="7d", now=LATER)
    assert (report.copied, report.deleted) == ([], HOURS)
    assert here(store) == []


def test_files_are_copied_compared_and_marked(ticks: ibt.Store, s3: str) -> None:
    report = ticks.archive(s3, now=NOW, grace="7d")
    assert (report.copied, report.deleted, report.waiting) == (HOURS, [], 2)
    objects = open_object_store(s3)
    for path in HOURS:
        assert objects.read(path).data == (ticks.root / path).read_bytes()
    rows = ticks.sql("SELECT file_path, location FROM file_locations ORDER BY 1").rows()
    assert rows == [(path, f"{s3}/{path}") for path in HOURS]
    assert ticks.archive(s3, now=NOW, grace="7d").copied == []
    assert here(ticks) == HOURS
    assert not ticks.verify().problems


def test_files_go_after_the_grace_time(ticks: ibt.Store, s3: str) -> None:
    before = {path: (ticks.root / path).read_bytes() for path in HOURS}
    archive_and_delete(ticks, s3)
    assert [record.path for record in ticks.index.files()] == HOURS
    findings = ticks.verify()
    assert (len(findings), findings.problems) == (2, [])
    assert ticks.archive(s3, grace="7d", now=LATER).copied == []
    assert ticks.restore_archived(265598, "last", end="2025-01-10T15:00Z") == HOURS[:1]
    assert here(ticks) == HOURS[:1]
    assert (ticks.root / HOURS[0]).read_bytes() == before[HOURS[0]]
    assert ticks.select(265598, "last", end="2025-01-10T15:00Z").count() == 50


def test_young_and_open_hours_stay(ticks: ibt.Store, s3: str) -> None:
    report = ticks.archive(s3, older_than="1h", now="2025-01-10T16:30Z")
    assert report.copied == HOURS[:1]
    with pytest.raises(ibt.errors.InputError):
        ticks.archive("/folder")


def test_a_changed_hour_is_copied_beside_its_earlier_version(ticks: ibt.Store, s3: str) -> None:
    ticks.archive(s3, now=NOW)
    first = open_object_store(s3).read(HOURS[0]).data
    ticks.write(ticks_of(14, 7), contract_id=265598, tick_type="last", duplicates="keep")
    report = ticks.archive(s3, now=LATER, grace="7d")
    # The copy of the changed hour is new, so that its grace time begins now.
    assert (report.copied, report.deleted) == (HOURS[:1], HOURS[1:])
    assert open_object_store(s3).read(HOURS[0]).data == first
    (copy,) = ticks.index.archived(HOURS[:1])
    assert copy.location.startswith(f"{s3}/{HOURS[0]}.")
    key = copy.location.removeprefix(f"{s3}/")
    assert open_object_store(s3).read(key).data == (ticks.root / HOURS[0]).read_bytes()


def test_a_lost_index_gets_archived_hours_from_their_markers(
    ticks: ibt.Store, s3: str, postgres: object
) -> None:
    files = ticks.index.files()
    stats = ticks.index.daily_stats()
    archive_and_delete(ticks, s3)
    copies = ticks.index.archived()
    assert ticks.rebuild_index() == 2
    assert (ticks.index.files(), ticks.index.archived()) == (files, copies)
    ticks.close()
    (ticks.root / "metadata/index.json").unlink()
    with postgres.database() as dsn, ibt.open(ticks.root, dsn=dsn) as again:  # type: ignore[attr-defined]
        assert again.index.files() == files
        assert again.index.archived() == copies
        assert again.index.daily_stats() == stats
        assert not again.verify().problems


def test_the_catalogue_has_the_copies(ticks: ibt.Store, s3: str) -> None:
    archive_and_delete(ticks, s3)
    ticks.write_catalogue()
    catalogue = ibt.index.CatalogueIndex(ticks.root / "metadata/index.json")
    assert catalogue.archived() == ticks.index.archived()


def test_nobody_writes_a_second_file_of_an_archived_hour(ticks: ibt.Store, s3: str) -> None:
    archive_and_delete(ticks, s3)
    with pytest.raises(ArchiveError, match="restore_archived"):
        ticks.write(ticks_of(14, 7), contract_id=265598, tick_type="last")
    with pytest.raises(ArchiveError, match="nothing was deleted"):
        ticks.delete(265598, "last")
    assert ticks.prune("1d") == []
    assert ticks.compress() == []
    assert [record.ticks for record in ticks.index.files()] == [50, 50]
    ticks.restore_archived(265598, "last")
    ticks.write(ticks_of(14, 7), contract_id=265598, tick_type="last", duplicates="keep")
    assert ticks.select(265598, "last").count() == 107


def test_streams_that_are_written_are_copied_but_stay(ticks: ibt.Store, s3: str) -> None:
    lock = StreamLock(ticks.root, 265598, "last")
    try:
        ticks.archive(s3, now=NOW)
        with pytest.warns(StreamInUseWarning, match="2 archived files stay here"):
            ticks.archive(s3, now=LATER, grace="7d")
    finally:
        lock.release()
    assert here(ticks) == HOURS


def test_damaged_files_are_not_archived(ticks: ibt.Store, s3: str) -> None:
    path = ticks.root / HOURS[0]
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"14_ticks\.pb cannot be archived"):
        ticks.archive(s3, now=NOW, grace="1ns")
    assert open_object_store(s3).status(HOURS[0]) is None
    assert [copy.path for copy in ticks.index.archived()] == HOURS[1:]


def test_a_lost_or_changed_copy_keeps_the_file_here(ticks: ibt.Store, faulty: ObjectServer) -> None:
    ticks.archive("s3://ticks", now=NOW)
    copy = faulty.objects.pop(HOURS[0])
    with pytest.raises(ArchiveError, match="the file stays here"):
        ticks.archive("s3://ticks", now=LATER, grace="7d")
    faulty.objects[HOURS[0]] = bytes(len(copy))
    ticks.archive("s3://ticks", now=NOW)
    assert ticks.index.archived(HOURS[:1])[0].location != f"s3://ticks/{HOURS[0]}"
    faulty.objects[HOURS[1]] = bytes(len(faulty.objects[HOURS[1]]))
    with pytest.raises(ArchiveError, match=r"15_ticks\.pb is missing or has other bytes"):
        ticks.archive("s3://ticks", now=LATER, grace="7d")
    assert HOURS[1] in here(ticks)


def test_verify_reports_lost_and_changed_copies(ticks: ibt.Store, faulty: ObjectServer) -> None:
    archive_and_delete(ticks, "s3://ticks")
    copy = faulty.objects[HOURS[0]]
    faulty.objects[HOURS[0]] = copy[:-1] + b"\0"
    del faulty.objects[HOURS[1]]
    first, second = ticks.verify().problems
    assert (first.problem, second.problem) == ("archive", "archive")
    assert "has the checksum" in first.detail
    assert "there is no object" in second.detail
    with pytest.raises(ArchiveError, match="checksum of the file"):
        ticks.restore_archived(265598, "last")
    assert here(ticks) == []


def test_a_store_that_ignores_preconditions_is_refused(
    ticks: ibt.Store, faulty: ObjectServer
) -> None:
    faulty.ignores_preconditions = True
    with pytest.raises(ArchiveError, match="ignores preconditions"):
        ticks.archive("s3://ticks", now=NOW, grace="1ns")
    assert (here(ticks), ticks.index.archived()) == (HOURS, [])


@pytest.mark.parametrize(
    ("method", "fault"), [("PUT", "damage"), ("GET", "damage"), ("GET", "cut")]
)
def test_a_copy_that_is_not_the_file_is_never_marked(
    ticks: ibt.Store, faulty: ObjectServer, method: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibticks.archive._object_store.MAX_RETRIES", 1)

    def fail(request: Request) -> str | None:
        return fault if request.method == method and "_ticks.pb" in request.key else None

    faulty.fault = fail
    with pytest.raises(ArchiveError):
        ticks.archive("s3://ticks", now=NOW, grace="1ns")
    assert (here(ticks), ticks.index.archived()) == (HOURS, [])
    faulty.fault = lambda _: None
    assert ticks.archive("s3://ticks", now=NOW).copied == HOURS


def test_a_marker_beside_its_file_does_not_count(ticks: ibt.Store, s3: str) -> None:
    """A deletion that was killed before the file went is repeated."""
    ticks.archive(s3, now=NOW)
    (record, _), (copy, _) = ticks.index.files(), ticks.index.archived()
    write_marker(ticks.root, Marker(record, copy))
    ticks.write(ticks_of(14, 7), contract_id=265598, tick_type="last", duplicates="keep")
    ticks.rebuild_index()
    assert ticks.select(265598, "last").count() == 107
    ticks.archive(s3, now=NOW)
    assert ticks.archive(s3, now=LATER, grace="7d").deleted == HOURS
    assert read_marker(ticks.root, HOURS[0]).file.ticks == 57


def test_a_marker_of_another_hour_is_refused(ticks: ibt.Store, s3: str) -> None:
    archive_and_delete(ticks, s3)
    markers = [Path(f"{ticks.root / path}.archived") for path in HOURS]
    shutil.copyfile(markers[0], markers[1])
    with pytest.raises(CorruptFileError, match="it names 265598/last/2025/01/10/14"):
        read_marker(ticks.root, HOURS[1])
    markers[0].write_text("{}")
    with pytest.raises(CorruptFileError, match="not the marker"):
        read_marker(ticks.root, HOURS[0])
