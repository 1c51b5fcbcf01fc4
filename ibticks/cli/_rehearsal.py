"""A capture rehearsed: the simulated gateway sends the sample, the real client receives it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from ibticks.errors import CaptureError

if TYPE_CHECKING:
    from ibticks.capture import Capture
    from ibticks.gateway import Gateway, Replay
    from ibticks.store import Store

__all__ = ["rehearse"]

_KINDS: Final = ("bid_ask", "all_last")
_TIMEOUT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.02


def rehearse(store: Store) -> dict[str, Any]:
    """Capture everything the gateway sends, and compare what is stored with what was sent.

    Returns
    -------
    dict
        ``gateway``, ``ticks_sent``, ``ticks_captured``, ``captured_equals_sent`` (field
        by field and in order), ``seconds_to_capture`` and ``ticks_per_second``.

    Raises
    ------
    MissingExtraError
        If ibapi is not installed.
    CaptureError
        If the ticks do not arrive, or are not stored as they were sent.
    """
    from ibticks.capture import Capture, TrackedContract
    from ibticks.gateway import Gateway, Replay

    replay = Replay.from_samples().only(None, _KINDS)
    tracked = [
        TrackedContract(contract.contract_id, contract.symbol, _KINDS)
        for contract in replay.contracts
    ]
    begun_ns = time.time_ns()
    # Streams wait for one another, so that the first ticks come together.
    with Gateway(replay, speed=None, start_after=len(replay.streams)) as gateway:
        capture = Capture(store, tracked, port=gateway.port, same_contract_seconds=0)
        began = time.perf_counter()
        with capture:
            _wait(capture, replay.rows)
            took = time.perf_counter() - began
    captured = capture.status()["status"]["ticks"]
    _compare(store, replay, gateway, begun_ns)
    return {
        "gateway": f"{gateway.host}:{gateway.port}",
        "ticks_sent": sum(gateway.sent.values()),
        "ticks_captured": captured,
        "captured_equals_sent": True,
        "seconds_to_capture": round(took, 3),
        "ticks_per_second": round(captured / took),
    }


def _wait(capture: Capture, ticks: int) -> None:
    until = time.monotonic() + _TIMEOUT_SECONDS
    while (has := capture.status()["status"])["ticks"] < ticks:
        if time.monotonic() > until:
            problem = has["last_problem"] or next(iter(has["failures"]), "no problem was reported")
            raise CaptureError(
                f"{has['ticks']:,} of {ticks:,} ticks came in {_TIMEOUT_SECONDS:.0f} s: {problem}"
            )
        time.sleep(_POLL_SECONDS)


def _compare(store: Store, replay: Replay, gateway: Gateway, begun_ns: int) -> None:
    from ibticks.calendar import format_ns
    from ibticks.frames import to_polars, to_table
    from ibticks.schema import list_columns

    # What is the capture's own: when a tick came, as which, and whose it is.
    own = {"timestamp", "contract_id", "tick_type", "sequence"}
    for (contract_id, kind), stream in replay.streams.items():
        columns = [name for name in list_columns([kind]) if name not in own]
        sent = stream.take(gateway.rows_sent(contract_id, kind))
        stored = store.select(contract_id, kind, start=format_ns(begun_ns), columns=columns)
        if not stored.to_polars().equals(to_polars(to_table([sent.columns], columns))):
            raise CaptureError(
                f"what is stored of {contract_id} {kind} is not what was sent: please report it",
                contract_id=contract_id,
                tick_type=kind,
            )
