"""Objects by URL: created only if absent, and read whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ibticks.archive import open_object_store, split_location
from ibticks.archive._object_store import check_preconditions
from ibticks.errors import ArchiveError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.archive.object_server import ObjectServer


def check_objects(url: str) -> None:
    objects = open_object_store(url)
    assert objects.status("1/last/a") is None
    assert objects.create("1/last/a", b"0123456789")
    assert not objects.create("1/last/a", b"other")
    check_preconditions(objects)
    check_preconditions(objects)
    stored = objects.read("1/last/a")
    assert stored.data == b"0123456789"
    status = objects.status("1/last/a")
    assert status is not None
    assert (status.size, status.e_tag) == (10, stored.e_tag)
    assert objects.read_range("1/last/a", 2, 5) == b"234"
    with pytest.raises(ArchiveError, match="instead of 10") as caught:
        objects.read_range("1/last/a", 5, 15)
    assert caught.value.context["location"] == f"{url}/1/last/a"
    with pytest.raises(ArchiveError, match="no such object"):
        objects.read("1/last/b")
    with pytest.raises(ArchiveError, match="no such object"):
        objects.read_range("1/last/b", 0, 1)


def test_s3(s3: str) -> None:
    check_objects(s3)


def test_folders(tmp_path: Path) -> None:
    check_objects(f"file://{tmp_path}/archive")
    assert (tmp_path / "archive/1/last/a").read_bytes() == b"0123456789"


def test_objects_in_memory() -> None:
    check_objects("memory://test/prefix")
    assert open_object_store("memory://test/prefix").status("1/last/a") is not None


def test_file_systems_of_fsspec(tmp_path: Path) -> None:
    """fsspec has a scheme ``local``, which obstore has not."""
    check_objects(f"local://{tmp_path}/archive")


@pytest.mark.parametrize("url", ["ticks", "/var/ticks", "", "s3:bucket"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no URL"):
        open_object_store(url)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="nosuch://bucket cannot be opened"):
        open_object_store("nosuch://bucket")


def test_a_throttled_request_is_repeated(faulty: ObjectServer) -> None:
    refused = iter(["slow down", "slow down"])
    faulty.fault = lambda _: next(refused, None)
    assert open_object_store("s3://ticks").create("a", b"12")
    assert [request.method for request in faulty.requests] == ["PUT"] * 3


def test_what_goes_on_failing_is_an_error(faulty: ObjectServer) -> None:
    objects = open_object_store("s3://ticks", max_retries=1)
    faulty.fault = lambda _: "slow down"
    with pytest.raises(ArchiveError, match="throttles requests: try again later"):
        objects.create("a", b"12")
    faulty.fault = lambda _: "forbidden"
    with pytest.raises(ArchiveError, match=r"s3://ticks/a failed.*check the credentials"):
        objects.read("a")


@pytest.mark.parametrize("fault", ["cut"])
def test_a_truncated_body_is_never_returned(faulty: ObjectServer, fault: str) -> None:
    objects = open_object_store("s3://ticks", max_retries=1, retry_seconds=1)
    objects.create("a", bytes(range(200)))
    faulty.fault = lambda _: fault
    with pytest.raises(ArchiveError):
        objects.read("a")
    with pytest.raises(ArchiveError):
        objects.read_range("a", 10, 150)
    broken = iter([fault])
    faulty.fault = lambda _: next(broken, None)
    try:
        assert objects.read("a").data == bytes(range(200))
    except ArchiveError:  # it was not repeated
        assert objects.read("a").data == bytes(range(200))


def test_a_store_that_replaces_objects_is_refused(faulty: ObjectServer) -> None:
    faulty.ignores_preconditions = True
    with pytest.raises(ArchiveError, match="ignores preconditions"):
        check_preconditions(open_object_store("s3://ticks"))


def test_a_location_of_another_file_is_refused() -> None:
    assert split_location("s3://b/p/1/a.pb.00ff", "1/a.pb") == ("s3://b/p", "1/a.pb.00ff")
    with pytest.raises(ArchiveError, match="not the location"):
        split_location("s3://b/p/1/a.pb", "2/a.pb")
