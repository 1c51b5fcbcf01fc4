"""Gateways that replay and captures of them, for the tests of ibticks.capture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.capture_checks import TICKING
from tests.fix_capture import (
    capturing,
    few,
    nothing_left,
    outage,
    samples,
    serve,
    server_version,
    steady,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Capture
    from ibticks.gateway import Gateway, Replay

__all__ = [
    "capture",
    "capturing",
    "few",
    "gateway",
    "nothing_left",
    "outage",
    "samples",
    "serve",
    "server_version",
    "steady",
]


@pytest.fixture
def gateway(serve: Callable[..., Gateway], steady: Replay) -> Gateway:
    """A gateway of the steady ticks, as fast as they were recorded."""
    return serve(steady, speed=1.0)


@pytest.fixture
def capture(gateway: Gateway, capturing: Callable[..., Capture]) -> Capture:
    """A capture of three streams of ``gateway``, which was started."""
    return capturing(gateway, TICKING)
