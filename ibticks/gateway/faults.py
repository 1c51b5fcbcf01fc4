"""Misbehaviour on command: what goes wrong between a client and IB, when a test wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks.gateway.connection import Connection
    from ibticks.gateway.state import State

__all__ = ["Faults"]

_T = TypeVar("_T")

_TEXTS: Final = {
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and TWS has been restored - data lost.",
    1102: "Connectivity between IB and TWS has been restored - data maintained.",
    1300: "TWS socket port has been reset and this connection is being dropped.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2110: "Connectivity between TWS and server is broken. It will be restored automatically.",
    10197: "No market data during competing live session",
}


class Faults:
    """The ways in which a :class:`~ibticks.gateway.Gateway` can misbehave.

    Every method may be called from any thread, and from what :meth:`after` was given. Where it
    takes ``client_id``, None means every client.
    """

    _state: State

    def _call(self, action: Callable[[], _T]) -> _T:
        """Run something in the gateway's thread and return what it gives."""
        raise TypeError("only a Gateway has a thread to run faults in")

    def after(self, ticks: int, action: Callable[[], object]) -> None:
        """Do something once so many more ticks have been sent, before the next one is.

        Parameters
        ----------
        ticks : int
            Counted over all streams and clients, from now.
        action : callable
            Run in the gateway's thread; it must not block.

        Examples
        --------
        Cut the line after a thousand ticks, and let ten more go by before anybody is back::

            gateway.after(1000, lambda: gateway.drop(lose=10))
        """
        self._call(lambda: self._state.after(ticks, action))

    def drop(self, client_id: int | None = None, *, abrupt: bool = False, lose: int = 0) -> int:
        """Close connections.

        Parameters
        ----------
        client_id : int, optional
        abrupt : bool
            Close at once, so that what a client has not yet read may be lost. Otherwise it gets
            everything the log says it was sent.
        lose : int
            Ticks of each subscription that go by before the client can be back. At recorded
            speed, what goes by meanwhile is lost anyway.

        Returns
        -------
        int
            Connections closed.
        """

        def act(connection: Connection) -> None:
            for subscription in connection.subscriptions.values():
                subscription.progress.skip(lose)
            connection.abort() if abrupt else connection.leave()

        return self._each(client_id, act)

    def send_error(
        self, code: int, message: str = "", *, req_id: int = -1, client_id: int | None = None
    ) -> int:
        """Send an error or notice; after 1101 all subscriptions of the client are forgotten.

        Parameters
        ----------
        code : int
        message : str
            IB's own words by default, where they are known.
        req_id : int
            -1 concerns no request.
        client_id : int, optional

        Returns
        -------
        int
            Clients it was sent to.
        """
        text = message or _TEXTS.get(code, f"Error {code}")

        def act(connection: Connection) -> None:
            connection.post(connection.error(req_id, code, text))
            if code == 1101:
                connection.subscriptions.clear()

        return self._each(client_id, act)

    def _each(self, client_id: int | None, act: Callable[[Connection], Any]) -> int:
        def run() -> int:
            chosen = [
                connection
                for connection in self._state.connections.values()
                if client_id is None or connection.client_id == client_id
            ]
            for connection in chosen:
                act(connection)
            return len(chosen)

        return self._call(run)
