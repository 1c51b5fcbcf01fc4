"""The service: stored ticks and the state of a capture over HTTP, in the v2 messages of IB-Stream.

:func:`create_app` makes the FastAPI application of a store, and :class:`Service` serves it in the
background; ``ibticks serve`` does so until it is interrupted. The extra ``serve`` installs FastAPI
and uvicorn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.service._app import create_app
    from ibticks.service._server import DEFAULT_PORT, Service

__all__ = ["DEFAULT_PORT", "Service", "create_app"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
