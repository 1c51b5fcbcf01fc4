"""A server over the store of the samples, and real HTTP clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ibticks.format import decode_message
from ibticks.service import Service
from tests.fix_files import damage

from .feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibticks import Store

__all__ = ["damage"]

IBM = 8314


def read_frames(body: bytes) -> list[dict[str, Any]]:
    """Decode messages with their lengths before them."""
    messages = []
    while body:
        size = int.from_bytes(body[:4], "big")
        messages.append(decode_message(body[4 : 4 + size]))
        body = body[4 + size :]
    return messages


@pytest.fixture
def feed(store: Store) -> Iterator[Feed]:
    """A feed into an empty store."""
    opened = Feed(store)
    yield opened
    opened.close()


@pytest.fixture
def live_service(store: Store, feed: Feed) -> Iterator[Service]:
    """A service of the store that the feed writes to."""
    with Service(store, port=0) as started:
        yield started


@pytest.fixture(scope="module")
def service(sample_store: Store) -> Iterator[Service]:
    """A service of the samples on a free port."""
    with Service(sample_store, port=0) as started:
        yield started


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    """A client of the service."""
    with httpx.Client(base_url=service.url, timeout=60) as opened:
        yield opened


@pytest.fixture
def get(client: httpx.Client) -> Callable[..., Any]:
    """Return the JSON of a route, which must succeed."""

    def read(path: str, **parameters: Any) -> Any:
        response = client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    return read
