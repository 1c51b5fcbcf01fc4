"""Gateways that replay and captures of them, for the tests of ibticks.notebook."""

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

__all__ = [
    "capturing",
    "few",
    "nothing_left",
    "outage",
    "samples",
    "serve",
    "server_version",
    "steady",
]
