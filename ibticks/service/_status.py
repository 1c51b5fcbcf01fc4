"""Routes about the service, the store and the capture."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter

from ibticks._version import __version__
from ibticks.calendar import format_ns, now_ns
from ibticks.capture import read_status
from ibticks.config import TICK_TYPES
from ibticks.remote import PROTOCOL
from ibticks.service._parameters import OpenStore  # noqa: TC001 - FastAPI reads annotations

if TYPE_CHECKING:
    from ibticks.store import Contents, Store

__all__ = ["router"]

PROTOCOL_VERSION: Final = "2.0.0"
"""Version of the v2 messages."""

router: Final = APIRouter(tags=["status"])

# A process id and paths are no business of a client.
_PRIVATE: Final = ("pid", "failures")


def _example(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


@router.get(
    "/health",
    responses=_example(
        {
            "service": "ibticks",
            "version": "0.1.0",
            "status": "healthy",
            "timestamp": "2025-01-10T14:30:00.123456Z",
            "tws_connected": True,
            "index_connected": True,
            "storage": {"enabled": True},
            "background_streaming": {"enabled": True, "status": "running"},
        }
    ),
)
def read_health(store: OpenStore) -> dict[str, Any]:
    """Return whether the service works: `healthy`, or `degraded` without index or TWS.

    A store without a capture needs no TWS. The status code is always 200.
    """
    capture = read_status(store.root)
    is_indexed = store.index.is_reachable()
    is_connected = bool(capture["status"]["tws_connected"])
    is_running = bool(capture["status"]["running"])
    is_healthy = is_indexed and (is_connected or not is_running)
    return {
        "service": "ibticks",
        "version": __version__,
        "status": "healthy" if is_healthy else "degraded",
        "timestamp": format_ns(now_ns()),
        "tws_connected": is_connected,
        "index_connected": is_indexed,
        "storage": {"enabled": True},
        "background_streaming": {
            "enabled": capture["enabled"],
            "status": "running" if is_running else "stopped",
        },
    }


@router.get(
    "/storage/status",
    responses=_example(
        {
            "enabled": True,
            "timestamp": "2025-01-10T14:30:00.123456Z",
            "metrics": {
                "storage_usage": {
                    "total_files": 12,
                    "total_bytes": 1_520_112,
                    "total_ticks": 33_381,
                    "disk_free_bytes": 512_000_000_000,
                    "contracts": {
                        "8314": {
                            "symbol": "IBM",
                            "files": 12,
                            "bytes": 1_520_112,
                            "ticks": 33_381,
                            "tick_types": {
                                "all_last": {
                                    "files": 12,
                                    "bytes": 1_520_112,
                                    "ticks": 33_381,
                                    "first_tick": "2013-10-08T12:47:49.457Z",
                                    "last_tick": "2013-10-09T00:00:00.000Z",
                                }
                            },
                        }
                    },
                }
            },
        }
    ),
)
def read_storage(store: OpenStore) -> dict[str, Any]:
    """Return files, bytes and ticks of the store, by contract and tick type.

    The index counts the ticks of a file when it is sealed.
    """
    return {
        "enabled": True,
        "timestamp": format_ns(now_ns()),
        "metrics": {"storage_usage": _storage_usage(store)},
    }


def _storage_usage(store: Store) -> dict[str, Any]:
    contents = store.contents()
    contracts: dict[str, dict[str, Any]] = {}
    for content in contents:
        contract = contracts.setdefault(
            str(content.contract_id),
            {"symbol": content.symbol, "files": 0, "bytes": 0, "ticks": 0, "tick_types": {}},
        )
        usage = _stream_usage(content)
        for name in ("files", "bytes", "ticks"):
            contract[name] += usage[name]
        contract["tick_types"][content.tick_type] = usage
    return {
        "total_files": sum(content.files for content in contents),
        "total_bytes": sum(content.size for content in contents),
        "total_ticks": sum(content.ticks for content in contents),
        "disk_free_bytes": shutil.disk_usage(store.root).free,
        "contracts": contracts,
    }


def _stream_usage(content: Contents) -> dict[str, Any]:
    first_ns, last_ns = content.first_ns, content.last_ns
    return {
        "files": content.files,
        "bytes": content.size,
        "ticks": content.ticks,
        "first_tick": None if first_ns is None else format_ns(first_ns),
        "last_tick": None if last_ns is None else format_ns(last_ns),
    }


_BACKGROUND_EXAMPLE: Final = {
    "enabled": True,
    "status": {
        "running": True,
        "tws_connected": True,
        "total_contracts": 1,
        "active_contracts": 1,
        "total_streams": 2,
        "contracts": {
            "711280073": {
                "symbol": "MNQ",
                "enabled": True,
                "expected_tick_types": ["bid_ask", "last"],
                "active_tick_types": ["bid_ask", "last"],
                "stream_count": 2,
                "buffer_hours": 2,
            }
        },
    },
}


@router.get("/background/status", responses=_example(_BACKGROUND_EXAMPLE))
@router.get("/background/health", responses=_example(_BACKGROUND_EXAMPLE))
def read_background(store: OpenStore) -> dict[str, Any]:
    """Return the state of the capture into the store, whichever process captures."""
    capture = read_status(store.root)
    status = {name: value for name, value in capture["status"].items() if name not in _PRIVATE}
    return {"enabled": capture["enabled"], "status": status}


@router.get("/v2/info")
def read_info(store: OpenStore) -> dict[str, Any]:
    """Return the versions, the tick types and the contracts of the store."""
    return {
        "service": "ibticks",
        "version": __version__,
        "protocol_version": PROTOCOL_VERSION,
        "remote_protocol": PROTOCOL,
        "tick_types": list(TICK_TYPES),
        "contracts": [contract.to_dict() for contract in store.contracts()],
    }
