"""Object stores: moto's S3 server, and one with faults."""

from __future__ import annotations

import logging
import urllib.request
from typing import TYPE_CHECKING

import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from tests.archive.object_server import ObjectServer, serve_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    import ibticks as ibt

HOURS = ["265598/last/2025/01/10/14_ticks.pb", "265598/last/2025/01/10/15_ticks.pb"]
NOW = "2025-03-01T00:00:00Z"
LATER = "2025-03-09T00:00:00Z"


def _use(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of moto's S3 server, which has the bucket ``ticks``."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/ticks", method="PUT")):
        pass
    yield endpoint
    server.stop()


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> str:
    """An empty prefix of a bucket on moto's S3."""
    _use(monkeypatch, moto)
    return f"s3://ticks/{abs(hash(str(tmp_path)))}"


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """An object store ``s3://ticks`` with faults."""
    with serve_objects() as server:
        _use(monkeypatch, server.url)
        yield server


def ticks_of(hour: int, rows: int = 50) -> pl.DataFrame:
    """Ticks of an hour of 2025-01-10, a second apart."""
    start = pl.datetime(2025, 1, 10, hour, time_zone="UTC", time_unit="ns")
    return pl.select(
        timestamp=start + pl.duration(milliseconds=pl.int_range(rows) * (3_500_000 // rows)),
        price=100.0 + hour + pl.int_range(rows) / 1000,
        size=pl.int_range(rows).cast(pl.Float64) + 1.0,
    )


@pytest.fixture
def ticks(store: ibt.Store) -> ibt.Store:
    """A store with two sealed hours."""
    for hour in (14, 15):
        store.write(ticks_of(hour), contract_id=265598, tick_type="last")
    return store
