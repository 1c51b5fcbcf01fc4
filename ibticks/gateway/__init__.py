"""A simulated TWS gateway: stored or sample ticks, over the TWS wire protocol, to any IB client.

=================== =============================================================
:class:`Gateway`    the server; it can also misbehave on command
:class:`Replay`     what it replays: contracts, and the ticks of their streams
``GatewayContract`` a contract as IB describes it
``TickStream``      the ticks of one contract and tick type
``Limits``          what IB would refuse
``Sent``            which ticks went to whom
=================== =============================================================

Examples
--------
>>> from ibticks.gateway import Gateway, Replay
>>> with Gateway(Replay.from_samples(["ibm_trades"]), speed=10) as gateway:
...     address = ("127.0.0.1", gateway.port)  # connect any IB client here
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.gateway._contracts import GatewayContract
    from ibticks.gateway._replay import Replay
    from ibticks.gateway._server import Gateway
    from ibticks.gateway._state import Limits, Sent
    from ibticks.gateway._ticks import TickStream
    from ibticks.gateway._wire import frame

__all__ = ["Gateway", "GatewayContract", "Limits", "Replay", "Sent", "TickStream", "frame"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
