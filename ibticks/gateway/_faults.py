"""Misbehaviour on command: what goes wrong between a client and IB, when a test wants it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ibticks.gateway._connection import Boundary
from ibticks.gateway._wire import NO_REQUEST, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ibticks._types import TickTypeLike
    from ibticks.gateway._connection import Connection
    from ibticks.gateway._state import Greeting, State

__all__ = ["Faults"]

_T = TypeVar("_T")

_TEXTS: Final = {
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and TWS has been restored - data lost.",
    1102: "Connectivity between IB and TWS has been restored - data maintained.",
    354: "Requested market data is not subscribed.",
    1300: "TWS socket port has been reset and this connection is being dropped.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2110: "Connectivity between TWS and server is broken. It will be restored automatically.",
    162: "Historical Market Data Service error message:Historical data request pacing violation",
    10187: "Failed to request historical ticks:No market data permissions",
    10182: "Failed to request live updates (disconnected).",
    10189: "Failed to request tick-by-tick data: No market data permissions",
    10197: "No market data during competing live session",
    10225: "Bust event occurred, current subscription is deactivated. Please resubscribe real-time "
    "bars immediately.",
}
_ENDS_SUBSCRIPTION: Final = (316, 10182, 10225)


class Faults(ABC):
    """The ways in which a :class:`~ibticks.gateway.Gateway` can misbehave.

    Every method may be called from any thread, and from what :meth:`after` was given. Where it
    takes ``client_id``, None means every client.
    """

    _state: State

    @abstractmethod
    def _call(self, action: Callable[[], _T]) -> _T:
        """Run something in the gateway's thread and return what it gives."""

    def after(self, ticks: int, action: Callable[[], object]) -> None:
        """Do something once so many more ticks have been sent, before the next one is.

        Parameters
        ----------
        ticks : int
            Counted over all streams and clients, from now.
        action : callable
            Run in the gateway's thread; it must not block. What it raises is logged.

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

        return self._apply(client_id, act)

    def send_error(
        self,
        code: int,
        message: str = "",
        *,
        req_id: int = NO_REQUEST,
        client_id: int | None = None,
    ) -> int:
        """Send an error or notice; 1101 ends all subscriptions of the client, 10225 and such one.

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

        See Also
        --------
        lose_contact, regain_contact
            For 1100, 1101 and 1102 together with what they tell of.
        """
        text = message or _TEXTS.get(code, f"Error {code}")

        def act(connection: Connection) -> None:
            connection.post(connection.error(req_id, code, text))
            if code == 1101:
                connection.subscriptions.clear()
            elif code in _ENDS_SUBSCRIPTION:
                connection.subscriptions.pop(req_id, None)

        return self._apply(client_id, act)

    def lose_contact(self, client_id: int | None = None) -> int:
        """Lose IB, as code 1100 says: connections stay, no tick comes until contact is back."""

        def act(connection: Connection) -> None:
            connection.in_contact = False
            connection.post(connection.error(NO_REQUEST, 1100, _TEXTS[1100]))

        return self._apply(client_id, act)

    def regain_contact(
        self, client_id: int | None = None, *, data_lost: bool, lose: int = 0
    ) -> int:
        """Find IB again: code 1101, which forgets all subscriptions, or 1102.

        Parameters
        ----------
        client_id : int, optional
        data_lost : bool
        lose : int
            Ticks of each subscription that went by meanwhile; at recorded speed, those that did.
        """

        def act(connection: Connection) -> None:
            for subscription in connection.subscriptions.values():
                self._state.positions.catch_up(subscription.progress)
                subscription.progress.skip(lose)
            code = 1101 if data_lost else 1102
            connection.post(connection.error(NO_REQUEST, code, _TEXTS[code]))
            connection.in_contact = True
            if data_lost:
                connection.subscriptions.clear()
            connection.wake()

        return self._apply(client_id, act)

    def refuse(self, client_id: int) -> None:
        """Refuse connections with this client id as in use (326), until admitted."""
        self._call(lambda: self._state.refused_clients.add(client_id))

    def admit(self, client_id: int) -> None:
        """Let that client id in again."""
        self._call(lambda: self._state.refused_clients.discard(client_id))

    def answer_connections(self, greeting: Greeting) -> None:
        """Set the fault that the next connections meet.

        Parameters
        ----------
        greeting : {"greet", "silence", "hang_up", "greet_and_hang_up"}
            As it should be; nothing at all, with the line open, as a TWS whose API is blocked; the
            end of the line, at once or after the greeting.
        """
        self._call(lambda: setattr(self._state, "greeting", greeting))

    def change_settings(self, settings: Mapping[str, str | bool] | None) -> None:
        """Change settings of TWS, as clients from server version 219 on may ask for them.

        Parameters
        ----------
        settings : mapping or None
            New values by IB's names in ``ApiSettingsConfig`` and ``LockAndExitConfig``, such as
            ``{"sendMarketDataInLotsForUsStocks": True}``; None leaves requests unanswered.
        """

        def run() -> None:
            before = self._state.settings or {}
            self._state.settings = None if settings is None else {**before, **settings}

        self._call(run)

    def announce(self, version: int | None) -> None:
        """Announce a server version to the next clients, and speak the other one; None ends it.

        Such as 150, older than any TWS that IB still admits, or 230, which no client knows.
        """
        self._call(lambda: setattr(self._state, "announced", version))

    def forbid(
        self,
        contract_id: int,
        tick_type: TickTypeLike | None = None,
        *,
        code: int = 10189,
        message: str = "",
    ) -> None:
        """Refuse subscriptions of a contract, or of one of its streams, from now on.

        Parameters
        ----------
        contract_id : int
        tick_type : str, optional
            All by default.
        code : int
            10189, 354 or whatever IB might say.
        message : str
            IB's own words by default, where they are known.
        """
        text = message or _TEXTS.get(code, f"Error {code}")
        self._call(lambda: self._state.forbidden.update({(contract_id, tick_type): (code, text)}))

    def permit(self, contract_id: int, tick_type: TickTypeLike | None = None) -> None:
        """Take back what :meth:`forbid` did with the same arguments."""
        self._call(lambda: self._state.forbidden.pop((contract_id, tick_type), None))

    def refuse_history(
        self,
        contract_id: int,
        what: str | None = None,
        *,
        code: int = 162,
        message: str = "",
        times: int | None = None,
    ) -> None:
        """Refuse pages of past ticks of a contract, or of one kind of them, from now on.

        Parameters
        ----------
        contract_id : int
        what : str, optional
            ``TRADES``, ``BID_ASK`` or ``MIDPOINT``; all by default.
        code : int
            162 (with IB's words for asking too often), 10187 or whatever IB might say.
        message : str
            IB's own words by default, where they are known.
        times : int, optional
            So many pages; until :meth:`grant_history` by default.
        """
        text = message or _TEXTS.get(code, f"Error {code}")
        refusal = (code, text, times)
        self._call(lambda: self._state.refused_pages.update({(contract_id, what): refusal}))

    def grant_history(self, contract_id: int, what: str | None = None) -> None:
        """Take back what :meth:`refuse_history` did with the same arguments."""
        self._call(lambda: self._state.refused_pages.pop((contract_id, what), None))

    def cut_pages(self, cuts: bool = True) -> None:
        """Give a page of past ticks no more than was asked for, though its last second goes on.

        IB says that it completes the second; a client had better not count on it.
        """
        self._call(lambda: setattr(self._state, "cuts_pages", cuts))

    def mute(self, contract_id: int, tick_type: TickTypeLike | None = None) -> None:
        """Let the ticks of a contract, or of one of its streams, go by unsent; no word of it."""
        self._call(lambda: self._state.muted.add((contract_id, tick_type)))

    def unmute(self, contract_id: int, tick_type: TickTypeLike | None = None) -> None:
        """Take back what :meth:`mute` did with the same arguments."""
        self._call(lambda: self._state.muted.discard((contract_id, tick_type)))

    def stall(self, seconds: float | None = None, client_id: int | None = None) -> int:
        """Fall silent with the line open: no tick, no answer.

        Parameters
        ----------
        seconds : float, optional
            Until :meth:`flow` by default.
        client_id : int, optional

        Returns
        -------
        int
            Clients it concerns.
        """
        return self._apply(client_id, lambda connection: connection.outlet.silence(seconds))

    def flow(self, client_id: int | None = None) -> int:
        """End what :meth:`stall` began."""
        return self._apply(client_id, lambda connection: connection.outlet.flow())

    def garbage(self, data: bytes = b"\xff" * 64, client_id: int | None = None) -> int:
        """Send these bytes between two messages; by default the start of a frame of 4 GiB."""
        return self._apply(client_id, lambda connection: connection.post(data))

    def close_mid_message(self, client_id: int | None = None) -> int:
        """Send the first half of a message, and close."""
        half = frame(b"99\x001\x003\x001381239000\x00181.5\x00")[:-8]
        return self._apply(client_id, lambda connection: connection.leave(half))

    def split_writes(self, size: int | None) -> None:
        """Write at most so many bytes at a time, to all clients; None ends it.

        The greeting stays whole, since ibapi cannot read it in pieces.
        """

        def run() -> None:
            self._state.split = size
            for connection in self._state.connections.values():
                connection.outlet.split = size

        self._call(run)

    def silent_until_boundary(
        self,
        size: int = 4096,
        *,
        seconds: float = 1.5,
        bursts: int = 1,
        whole: bool = True,
        client_id: int | None = None,
    ) -> int:
        """Send in bursts of exactly ``size`` bytes, each followed by silence.

        ibapi reads 4096 bytes at a time and loses what it has read if the bytes end there and
        nothing follows within a second.

        Parameters
        ----------
        size : int
            A longer message makes a burst of a multiple of it.
        seconds : float
            How long the silence lasts.
        bursts : int
            How many there are; then all is as before.
        whole : bool
            Whether a burst ends with a whole message: a harmless notice (2106) fills it up. If
            not, it ends wherever the size falls.
        client_id : int, optional

        Returns
        -------
        int
            Clients it concerns.
        """

        def act(connection: Connection) -> None:
            connection.outlet.boundary = Boundary(size, seconds, bursts, whole)

        return self._apply(client_id, act)

    def _apply(self, client_id: int | None, act: Callable[[Connection], Any]) -> int:
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
