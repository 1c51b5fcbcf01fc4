"""``LiveView``: prices of a live stream as a chart and a tape, updated while cells run."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import anywidget
import polars as pl
import traitlets

from ibticks.calendar import from_ns, parse_duration
from ibticks.calendar import market as find_market
from ibticks.config import NANOSECONDS
from ibticks.coverage import FeedCondition
from ibticks.errors import TickError
from ibticks.widgets._chart_state import ChartState
from ibticks.widgets._page_widget import PageWidget, javascript, style

if TYPE_CHECKING:
    from ibticks.coverage import FeedState
    from ibticks.live import Live

__all__ = ["LiveView"]

_log = logging.getLogger(__name__)
_UPDATE_SECONDS: Final = 0.125
_IDLE_UPDATE_SECONDS: Final = 1.0
_MAX_TICKS_PER_UPDATE: Final = 200_000
# Ticks that were held for another stream, and then new ones; a third batch waits for more.
_MAX_LIVE_BATCHES_PER_UPDATE: Final = 2
_SERIES: Final = ("bid_ask", "mid", "last", "volume")
_FEED_SECONDS: Final = 1.0
_SEVERITY: Final = list(FeedCondition)


class LiveView(PageWidget, anywidget.AnyWidget):
    """Prices of a :class:`~ibticks.live.Live` as a chart with a tape of trades.

    Parameters
    ----------
    live : Live
        The stream. The view reads it, and closes it with itself; to read the same ticks elsewhere
        too, open another one.
    window : str or float
        Time that the chart shows, as ``"5m"`` or in seconds.
    contract : int, optional
        Contract that is shown first.
    tz : str
        Time zone of the times that are shown.
    market : str
        Market whose regular session has the previous close, from which the change of the day is
        measured.
    height : int
        Pixels of the charts.

    Notes
    -----
    The badge shows the condition of the feed, see :meth:`ibticks.live.Live.feed_states`: LIVE only
    where a capture holds the stream, is connected, and ticks come; else QUIET, DISCONNECTED, NOT
    PERMITTED, NO CAPTURE or CLOSED, with the time since and the reason below it. With several
    streams it shows the worst condition.

    Only changes are sent to the page, eight times a second at most, reduced to what the chart can
    show: a burst of ticks costs the page nothing more. The page's buttons work while the kernel is
    busy; their counterparts in Python are ``view.paused``, ``view.window``, ``view.shown`` and
    ``view.contract``.
    """

    _esm = javascript("live_view", charts=True)
    _css = style("live_view", charts=True)

    window = traitlets.Float(300.0, min=1).tag(sync=True)
    paused = traitlets.Bool(default_value=False).tag(sync=True)
    contract = traitlets.Int().tag(sync=True)
    contracts: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    shown: traitlets.List[str] = traitlets.List(
        traitlets.Enum(_SERIES), default_value=list(_SERIES)
    ).tag(sync=True)
    tz = traitlets.Unicode("UTC").tag(sync=True)
    height = traitlets.Int(420).tag(sync=True)

    def __init__(
        self,
        live: Live,
        *,
        window: str | float = 300.0,
        contract: int | None = None,
        tz: str = "UTC",
        market: str = "US",
        height: int = 420,
    ) -> None:
        self._thread: threading.Thread | None = None
        self._market: Final = find_market(market)
        seconds = parse_duration(window) / NANOSECONDS if isinstance(window, str) else float(window)
        self.live: Final = live
        self._batches: Final = live.batches("batch")
        self._lock: Final = threading.Lock()
        self._closing: Final = threading.Event()
        self._sequence = 0
        self._state = ""
        self._feed: dict[str, Any] = {"feed": FeedCondition.UNKNOWN.value}
        self._feed_checked_at = -_FEED_SECONDS
        self._close_day: tuple[int, object] | None = None
        self._close: dict[str, Any] = {}
        self._sent_at = 0.0
        self._live_from: float | None = None
        ids = dict.fromkeys(contract_id for contract_id, _ in live.streams)
        super().__init__(
            window=seconds,
            contracts=[[number, live.symbols.get(number) or str(number)] for number in ids],
            contract=next(iter(ids)) if contract is None else contract,
            tz=tz,
            height=height,
        )
        self.summary = f"A live view of {', '.join(name for _, name in self.contracts)}"
        self._reset()
        self.on_msg(self._on_page_message)
        self.observe(self._reset, ["window", "contract"])
        self._thread = threading.Thread(target=self._run, name="ibticks-view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the view: its thread, its comm to the page, and the stream."""
        if self._thread is not None:
            self._closing.set()
            if self._thread is not threading.current_thread():
                self._thread.join()
            self.live.close()
        super().close()

    def _reset(self, _: object = None) -> None:
        """Build the chart anew of the ticks in the window of the stream."""
        with self._lock:
            self._chart = ChartState(self.window)
            self._chart.add(self._of_contract(self.live.frame()))
            self._snapshot_due = True

    def _on_page_message(self, _: object, message: dict[str, Any], __: object) -> None:
        """Send a snapshot when a page opens, or has missed a message."""
        if message.get("type") == "snapshot_request":
            with self._lock:
                self._snapshot_due = True

    def _run(self) -> None:
        try:
            while not self._closing.wait(_UPDATE_SECONDS):
                self._update_feed()
                with self._lock:
                    self._send_update()
        except Exception as error:
            # A view that stands still must show it.
            _log.exception("a live view failed; its thread ends")
            self.send({"type": "failed", "problem": f"{type(error).__name__}: {error}"})

    def _update_feed(self) -> None:
        """Query the condition of the feed once a second, and the previous close once a day."""
        now = time.monotonic()
        if self.live.closed or now < self._feed_checked_at + _FEED_SECONDS:
            return
        self._feed_checked_at = now
        states = [state for state in self.live.feed_states() if state.contract_id == self.contract]
        if states:
            self._feed = _feed_facts(states)
        at_ns = self._feed.get("last_tick_ns") or time.time_ns()
        day = self.contract, from_ns(at_ns, self._market.tz).date()
        if day != self._close_day:
            self._close_day, self._close = day, self._find_close(at_ns)

    def _find_close(self, at_ns: int) -> dict[str, Any]:
        try:
            close = self.live.previous_close(self.contract, at_ns, market=self._market.name)
        except TickError as error:
            _log.warning("no previous close of %d: %s", self.contract, error)
            close = None
        if close is None:
            return {"close": None, "close_day": "", "close_name": "no previous close is stored"}
        day = str(close.session.date)
        return {"close": close.price, "close_day": day, "close_name": str(close)}

    def _send_update(self) -> None:
        """Read the ticks that have come, and send the page what has changed."""
        now = time.monotonic()
        read = live_batches = 0
        while (
            read < _MAX_TICKS_PER_UPDATE
            and live_batches < _MAX_LIVE_BATCHES_PER_UPDATE
            and (batch := self._batches.poll()) is not None
        ):
            read += len(batch)
            frame = batch.to_polars()
            self._chart.add(self._of_contract(frame), None if batch.historical else now)
            live_batches += not batch.historical
            if batch.historical:
                self._live_from = frame["timestamp"][-1].timestamp()
        state = _state(self.live, self._feed["feed"])
        # Once a second at least, since the rate falls while no tick comes.
        if not (
            self._snapshot_due
            or read
            or state != self._state
            or now > self._sent_at + _IDLE_UPDATE_SECONDS
        ):
            return
        if self._snapshot_due:
            message, buffers = self._chart.snapshot(now)
        else:
            message, buffers = self._chart.changes(now)
        message["facts"] |= {"state": state, "live_from": self._live_from, "now": time.time()}
        message["facts"] |= {**self._feed, **self._close}
        self._sequence += 1
        message["type"] = "reset" if self._snapshot_due else "append"
        message["seq"] = self._sequence
        self.send(message, buffers)
        self._snapshot_due, self._state, self._sent_at = False, state, now

    def _of_contract(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Return the ticks of the contract that is shown."""
        if len(self.contracts) == 1:
            return ticks
        return ticks.filter(pl.col("contract_id") == self.contract)


def _state(live: Live, condition: str) -> str:
    if live.closed:
        return "ended"
    return "buffer" if live.historical else condition


def _feed_facts(states: list[FeedState]) -> dict[str, Any]:
    """Return the worst condition of a contract's streams, and that of each, for the page."""
    worst = max(states, key=lambda state: _SEVERITY.index(state.condition))
    ticks = [state.last_tick_ns for state in states if state.last_tick_ns is not None]
    return {
        "feed": worst.condition.value,
        "last_tick_ns": max(ticks, default=None),
        "last_tick": max(ticks, default=0) / NANOSECONDS or None,
        "streams": [
            {
                "tick_type": state.tick_type,
                "condition": state.condition.value,
                "since": _to_seconds(state.since_ns),
                "reason": state.reason,
                "code": state.code,
                "next_open": _to_seconds(state.next_open_ns),
            }
            for state in states
        ],
    }


def _to_seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / NANOSECONDS
