"""Client of IB's history: one connection, one page at a time, at the pace that IB allows."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypedDict

from ibticks.errors import CaptureError, ConnectionFailedError
from ibticks.history._plan import Pace, Pacing
from ibticks.history._ticks import WHAT_TO_SHOW, HistoricalTick, parse_tick
from ibticks.tws import Client, TwsEvents, make_contract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["HistoryClient", "HistoryOptions"]

_log = logging.getLogger(__name__)
_FIRST_REQUEST: Final = 70_000
_POLL_SECONDS: Final = 0.2
_NOT_CONNECTED: Final = 504
_NO_CONNECTION: Final = (502, 504)  # said by ibapi itself
_HISTORY_SERVICE: Final = 162  # "Historical market data Service error message": anything at all
_NO_TICKS: Final = ("no data", "no historical data")
_TOO_FAST: Final = (100, 420)
_RETRY_SECONDS: Final = (15.0, 60.0, 600.0)
_ADVISORY: Final = (10090, 10167)


class HistoryOptions(TypedDict, total=False):
    """Keyword arguments of :class:`HistoryClient`, which describes them."""

    pacing: Pacing | Pace | None
    connect_timeout: float
    answer_timeout: float
    stopping: threading.Event | None


class HistoryClient:
    """Connection to TWS or IB Gateway for past ticks only; a context manager.

    Parameters
    ----------
    host, port : str, int
    client_id : int
        A client id that no capture uses.
    pacing : Pacing or Pace, optional
        Limits, or the state of an earlier connection.
    connect_timeout, answer_timeout : float
        Seconds to wait for the connection, and for a page.
    stopping : threading.Event, optional
        Set it to stop waiting.

    Attributes
    ----------
    requests : int
        Number of requested pages.

    Raises
    ------
    ConnectionFailedError
        If it cannot be reached, or refuses the client id.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: int,
        *,
        pacing: Pacing | Pace | None = None,
        connect_timeout: float = 15.0,
        answer_timeout: float = 60.0,
        stopping: threading.Event | None = None,
    ) -> None:
        self._pace = pacing if isinstance(pacing, Pace) else Pace(pacing or Pacing())
        self._answer_timeout = answer_timeout
        self._stopping = stopping or threading.Event()
        self._next_request = _FIRST_REQUEST
        self._answers = _Answers()
        self._client = Client(self._answers)
        self.requests = 0
        with self._hanging_up_when_stopping():
            self._client.open(host, port, client_id, connect_timeout)

    @contextmanager
    def _hanging_up_when_stopping(self) -> Iterator[None]:
        """Close a connection that is not answered yet when ``stopping`` is set."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_POLL_SECONDS):
                if self._stopping.is_set():
                    self._client.hang_up()
                    return

        watching = threading.Thread(target=watch, name="ibticks-history", daemon=True)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def exchange(self, contract_id: int) -> str:
        """Return the exchange of a contract from IB.

        Raises
        ------
        CaptureError
            If IB does not know it; ``context["code"]`` is IB's.
        ConnectionFailedError
            If there is no answer.
        """
        self._wait(self._pace.message(time.monotonic()))
        result = self._ask(
            lambda request: self._client.reqContractDetails(request, make_contract(contract_id, ""))
        )
        return next(
            (value.contract.exchange for value in result if value.contract.exchange), "SMART"
        )

    def page(
        self, contract_id: int, exchange: str, tick_type: str, start: int, most: int
    ) -> list[HistoricalTick]:
        """Return the page of a contract's ticks that begins with a second.

        Parameters
        ----------
        contract_id : int
        exchange : str
        tick_type : str
        start : int
            UTC seconds.
        most : int
            Number of ticks; a page is longer if it completes its last second.

        Raises
        ------
        CaptureError
            If IB refuses it for good; ``context["code"]`` is IB's.
        ConnectionFailedError
            If the connection is lost, there is no answer, or ``stopping`` is set.
        """
        shown_as = WHAT_TO_SHOW[tick_type]
        begin = f"{datetime.fromtimestamp(start, UTC):%Y%m%d-%H:%M:%S}"

        def send(request: int) -> None:
            self._client.reqHistoricalTicks(
                request,
                make_contract(contract_id, exchange),
                begin,
                "",
                most,
                shown_as,
                0,
                False,
                [],
            )

        group = (contract_id, shown_as)
        weight = 2 if shown_as == "BID_ASK" else 1  # IB counts both sides
        for again in (*_RETRY_SECONDS, None):
            self._wait(self._pace.wait((*group, begin, most), group, weight, time.monotonic()))
            self.requests += 1
            try:
                ticks = [parse_tick(tick_type, value) for value in self._ask(send)]
            except _PacingError as error:
                if again is None:
                    raise
                _log.warning("pacing violation, retry in %g s: %s", again, error)
                self._wait(again)
            else:
                break
        if ticks and max(tick.time for tick in ticks) < start:
            raise CaptureError(
                f"IB answered with ticks before {begin} UTC, from which on it was asked for them",
                code=_HISTORY_SERVICE,
            )
        return ticks

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise ConnectionFailedError("stopped", code=_NOT_CONNECTED)

    def _ask(self, send: Callable[[int], None]) -> list[Any]:
        """Send a request, and wait for its complete answer."""
        answers, request = self._answers, self._next_request
        self._next_request += 1
        answers.begin(request)
        send(request)
        deadline = time.monotonic() + self._answer_timeout
        while not answers.done.wait(_POLL_SECONDS):
            if self._stopping.is_set():
                raise ConnectionFailedError("stopped", code=_NOT_CONNECTED)
            if time.monotonic() > deadline:
                raise ConnectionFailedError(
                    f"no answer within {self._answer_timeout:g} s{answers.trouble}",
                    code=_NOT_CONNECTED,
                )
        if answers.over:
            problem = self._client.problem or "the connection was closed"
            raise ConnectionFailedError(f"{problem}{answers.trouble}", code=_NOT_CONNECTED)
        if answers.refusal is not None:
            raise answers.refusal
        return answers.received


class _PacingError(CaptureError):
    """Pacing violation of IB."""


class _Answers(TwsEvents):
    """Answers of the server to one request at a time."""

    def __init__(self) -> None:
        self._request = -1
        self.done = threading.Event()
        self.received: list[Any] = []
        self.refusal: CaptureError | None = None
        self.over = False
        self.trouble = ""

    def begin(self, request: int) -> None:
        """Listen for the answer to a request."""
        self.received, self.refusal = [], None
        self._request = request
        if not self.over:
            self.done.clear()

    def historical_ticks(self, request: int, ticks: Sequence[Any], done: bool) -> None:
        """A page, or a part of it."""
        if request == self._request:
            self.received += ticks
            if done:
                self.done.set()

    def contract_details(self, request: int, details: Any) -> None:
        """A contract that fits."""
        if request == self._request:
            self.received.append(details)

    def contract_details_end(self, request: int) -> None:
        """No more of them."""
        if request == self._request:
            self.done.set()

    def message(self, request: int, code: int, text: str) -> None:
        """An error or a note."""
        if 2100 <= code < 2200 or code in _ADVISORY or request not in (-1, self._request):
            # Of the farms, that of history is the one that matters: the answer may not come.
            if code in (2105, 2110):
                self.trouble = f" ({code}: {text})"
            elif code == 2106:
                self.trouble = ""
            return
        if request == -1 and code not in _TOO_FAST:
            self.trouble = f" ({code}: {text})" if code == 1100 else ""
            return
        details = text.lower()
        if code in _TOO_FAST or "pacing" in details:
            self.refusal = _PacingError(f"{text} ({code})", code=code)
        elif code in _NO_CONNECTION:
            self.refusal = ConnectionFailedError(f"{text} ({code})", code=code)
        elif code != _HISTORY_SERVICE or not any(words in details for words in _NO_TICKS):
            self.refusal = CaptureError(f"{text} ({code})", code=code)
        self.done.set()

    def closed(self) -> None:
        """The connection is over."""
        self.over = True
        self.done.set()

    def callback_failed(self, where: str, error: Exception) -> None:
        """Fail the request after an error in a callback: the answer is incomplete."""
        self.refusal = CaptureError(f"{where}: {error!r}", code=0)
        self.done.set()
