"""A view of prices: the buffer, then live, kept up to date while cells run."""

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
from ibticks.coverage import FeedCondition
from ibticks.errors import TickError
from ibticks.widgets._assets import module, style
from ibticks.widgets._joined import Joined
from ibticks.widgets._picture import Picture

if TYPE_CHECKING:
    from ibticks.coverage import FeedState
    from ibticks.live import Live

__all__ = ["LiveView"]

_log = logging.getLogger(__name__)
_SECONDS: Final = 0.125
_IDLE: Final = 1.0
_MOST: Final = 200_000
# What was held for another stream, and then what has come; the next waits until it is more.
_ROUND: Final = 2
_SHOWN: Final = ("bid_ask", "mid", "last", "volume")
_STATE_SECONDS: Final = 1.0
_SEVERITY: Final = list(FeedCondition)


class LiveView(Joined, anywidget.AnyWidget):
    """Prices of a :class:`~ibticks.live.Live` as a chart with a tape of trades.

    Parameters
    ----------
    live : Live
        What is shown. The view reads it, and closes it with itself; to read the same ticks
        elsewhere too, open another one.
    window : str or float
        How much time the chart shows, as ``"5m"`` or in seconds.
    contract : int, optional
        Which of the contracts is shown first.
    tz : str
        Time zone of the times that are shown.
    market : str
        Whose regular session has the previous close, from which the change of the day is measured.
    height : int
        Pixels of the charts.

    Notes
    -----
    The badge has the condition of the feed, as :meth:`ibticks.live.Live.feed_states` says it: LIVE
    only where a capture holds the stream, is connected, and ticks come; else QUIET, DISCONNECTED,
    NOT PERMITTED, NO CAPTURE or CLOSED, below it since when and why. Of several streams it is the
    worst one's.

    Only what is new travels to the page, eight times a second at most, condensed to what the chart
    can show: a burst of ticks costs the page nothing more. The page's buttons work while the kernel
    is busy; from Python the same is ``view.paused``, ``view.window``, ``view.shown`` and
    ``view.contract``.
    """

    _esm = module("live_view", charts=True)
    _css = style("live_view", charts=True)

    window = traitlets.Float(300.0, min=1).tag(sync=True)
    paused = traitlets.Bool(default_value=False).tag(sync=True)
    contract = traitlets.Int().tag(sync=True)
    contracts: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    shown: traitlets.List[str] = traitlets.List(
        traitlets.Enum(_SHOWN), default_value=list(_SHOWN)
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
        seconds = parse_duration(window) / 1e9 if isinstance(window, str) else float(window)
        self.live: Final = live
        self._reader: Final = live.batches("batch")
        self._lock: Final = threading.Lock()
        self._ended: Final = threading.Event()
        self._sequence = 0
        self._state = ""
        self._feed: dict[str, Any] = {"feed": FeedCondition.UNKNOWN.value}
        self._feed_at = -_STATE_SECONDS
        self._close_of: tuple[int, object] | None = None
        self._close: dict[str, Any] = {}
        self._told = 0.0
        self._live_from: float | None = None
        ids = dict.fromkeys(contract_id for contract_id, _ in live.streams)
        super().__init__(
            window=seconds,
            contracts=[[number, live.symbols.get(number) or str(number)] for number in ids],
            contract=next(iter(ids)) if contract is None else contract,
            tz=tz,
            height=height,
        )
        self.described = f"A live view of {', '.join(name for _, name in self.contracts)}"
        self._begin_again()
        self.on_msg(self._hear)
        self.observe(self._begin_again, ["window", "contract"])
        self._thread = threading.Thread(target=self._follow, name="ibticks-view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the view: its thread, its line to the page, and the stream."""
        if self._thread is not None:
            self._ended.set()
            if self._thread is not threading.current_thread():
                self._thread.join()
            self.live.close()
        super().close()

    def _begin_again(self, _: object = None) -> None:
        """Another window or contract: all is drawn again from what the stream still has."""
        with self._lock:
            self._picture = Picture(self.window)
            self._picture.add(self._mine(self.live.frame()))
            self._asked = True

    def _hear(self, _: object, message: dict[str, Any], __: object) -> None:
        """A page has begun, or missed something."""
        if message.get("type") == "hello":
            with self._lock:
                self._asked = True

    def _follow(self) -> None:
        try:
            while not self._ended.wait(_SECONDS):
                self._ask_feed()
                with self._lock:
                    self._tell()
        except Exception as error:
            # A view that stands still must say so.
            _log.exception("a live view has ended")
            self.send({"type": "failed", "problem": f"{type(error).__name__}: {error}"})

    def _ask_feed(self) -> None:
        """Ask once a second for the condition of the feed, and once a day for the close before."""
        now = time.monotonic()
        if self.live.closed or now < self._feed_at + _STATE_SECONDS:
            return
        self._feed_at = now
        states = [s for s in self.live.feed_states() if s.contract_id == self.contract]
        if states:
            self._feed = _feed(states)
        at_ns = self._feed.get("last_tick_ns") or time.time_ns()
        day = self.contract, from_ns(at_ns, self._market.tz).date()
        if day != self._close_of:
            self._close_of, self._close = day, self._find_close(at_ns)

    def _find_close(self, at_ns: int) -> dict[str, Any]:
        try:
            close = self.live.previous_close(self.contract, at_ns, market=self._market.name)
        except TickError as error:
            _log.warning("the previous close of %d is not known: %s", self.contract, error)
            close = None
        if close is None:
            return {"close": None, "close_day": "", "close_name": "no previous close is stored"}
        day = str(close.session.date)
        return {"close": close.price, "close_day": day, "close_name": str(close)}

    def _tell(self) -> None:
        """Tell the page what has come."""
        now = time.monotonic()
        read = come = 0
        while read < _MOST and come < _ROUND and (batch := self._reader.poll()) is not None:
            read += len(batch)
            frame = batch.to_polars()
            self._picture.add(self._mine(frame), None if batch.historical else now)
            come += not batch.historical
            if batch.historical:
                self._live_from = frame["timestamp"][-1].timestamp()
        state = _state(self.live, self._feed["feed"])
        # Once a second at least, since the rate falls while nothing comes.
        if not (self._asked or read or state != self._state or now > self._told + _IDLE):
            return
        whole = self._asked
        told, buffers = self._picture.whole(now) if whole else self._picture.news(now)
        told["facts"] |= {"state": state, "live_from": self._live_from, "now": time.time()}
        told["facts"] |= {**self._feed, **self._close}
        self._sequence += 1
        self.send({"type": "reset" if whole else "append", "seq": self._sequence, **told}, buffers)
        self._asked, self._state, self._told = False, state, now

    def _mine(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Those of the contract that is shown."""
        if len(self.contracts) == 1:
            return ticks
        return ticks.filter(pl.col("contract_id") == self.contract)


def _state(live: Live, condition: str) -> str:
    if live.closed:
        return "ended"
    return "buffer" if live.historical else condition


def _feed(states: list[FeedState]) -> dict[str, Any]:
    """The condition of a contract's streams as the page shows it: the worst, and each in words."""
    worst = max(states, key=lambda state: _SEVERITY.index(state.condition))
    ticks = [state.last_tick_ns for state in states if state.last_tick_ns is not None]
    return {
        "feed": worst.condition.value,
        "last_tick_ns": max(ticks, default=None),
        "last_tick": max(ticks, default=0) / 1e9 or None,
        "streams": [
            {
                "tick_type": state.tick_type,
                "condition": state.condition.value,
                "since": _seconds(state.since_ns),
                "reason": state.reason,
                "code": state.code,
                "next_open": _seconds(state.next_open_ns),
            }
            for state in states
        ],
    }


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9
