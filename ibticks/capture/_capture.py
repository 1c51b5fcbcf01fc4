"""A capture: IB's ticks into a store, in the background of this process."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture._compressing import HourCompressor
from ibticks.capture._panel import panel_html, show_live
from ibticks.capture._pruning import HourPruner
from ibticks.capture._queued_index import Clerk
from ibticks.capture._recorder import Recorder, last_sequence
from ibticks.capture._settings import CaptureSettings
from ibticks.capture._shutdown import ended, stop_with_kernel
from ibticks.capture._status import contracts_status, write_status
from ibticks.coverage import resume_ledger
from ibticks.errors import CaptureError, MissingExtraError
from ibticks.history import GapFiller
from ibticks.index import ContractRecord
from ibticks.storage import SealerApart, StreamAppender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from ibticks.capture._supervisor import Supervisor
    from ibticks.capture._tracked import TrackedContract
    from ibticks.store import Store

__all__ = ["Capture"]

_log = logging.getLogger(__name__)
_BEAT: Final = 0.5
_STATUS_SECONDS: Final = 5.0
_REST_SECONDS: Final = 15.0  # for upkeep that failed, and until an idle sealer is ended
_STOP_SECONDS: Final = 90.0  # what was received is handed over first
_STEP_SECONDS: Final = 1.0


class Capture:
    """Captures the ticks of some contracts into a store.

    It runs in threads of its own: a cell that is interrupted, or that takes long, does not disturb
    it; it stops with the kernel.

    Parameters
    ----------
    store : Store
    tracked : str or sequence of TrackedContract, optional
        Which contracts and tick types, as ``contract_id:symbol:tick_types:buffer_hours,...``; by
        default what ``IB_STREAM_TRACKED_CONTRACTS`` says.
    **settings
        Any of :class:`~ibticks.capture.CaptureSettings`, such as ``host`` and ``port``;
        what is not given comes from the environment.

    Raises
    ------
    ConfigError
        If the contracts cannot be read, or there are none.
    MissingExtraError
        If ibapi is not installed.

    Examples
    --------
    ::

        capture = ibt.Capture(store, "265598:AAPL:bid_ask;last:1", port=7497)
        capture.start()
        capture  # a panel that shows how it is doing
        capture.stop()
    """

    def __init__(
        self,
        store: Store,
        tracked: str | Sequence[TrackedContract] | None = None,
        **settings: Any,
    ) -> None:
        self.settings: Final = CaptureSettings.from_environment(tracked=tracked, **settings)
        self.settings.wanted()
        self.store: Final = store
        self.failures: Final[deque[str]] = deque(maxlen=100)
        self._recorders: list[Recorder] = []
        self._supervisor: Supervisor | None = None
        self._clerk: Clerk | None = None
        self._filler: GapFiller | None = None
        self._compressor: HourCompressor | None = None
        self._pruner: HourPruner | None = None
        self._sealer = SealerApart()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._stopping.set()
        self._changing = threading.RLock()
        self._rates: deque[tuple[float, int]] = deque(maxlen=20)

    # -- beginning and ending ----------------------------------------------------------------------

    def start(self) -> Self:
        """Begin; returns at once, while the connection is made in the background.

        Raises
        ------
        WriterLockedError
            If one of the streams is captured already; names by whom.
        CaptureError
            If it runs already.
        """
        try:
            from ibticks.capture._supervisor import Supervisor
        except ImportError as error:
            if error.name is None or not error.name.startswith("ibapi"):
                raise
            raise MissingExtraError(
                "capture needs the official client: pip install 'ibticks[capture]'"
            ) from error
        with self._changing:
            if self._clerk is not None:
                raise CaptureError("this capture runs already")
            self._clerk = Clerk(self.store.index, self._failed)
            self._recorders = []
            self._rates.clear()
            run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
            try:
                for contract in self.settings.wanted():
                    for kind in contract.tick_types:
                        self._recorders.append(
                            self._recorder(self._clerk, contract.contract_id, kind, run)
                        )
                # Before there is a connection, which may never be made.
                self._clerk.put_contracts(
                    ContractRecord(contract.contract_id, contract.symbol)
                    for contract in self.settings.tracked
                    if contract.symbol
                )
                # One without an exchange was named and never resolved: IB is asked for it.
                known = {
                    record.contract_id: record
                    for record in self.store.index.contracts()
                    if record.exchange
                }
                self._supervisor = Supervisor(
                    self.settings, self._recorders, known, self._clerk, self._failed
                )
                self._stopping.clear()
                atexit.register(self.stop)
                stop_with_kernel(self)
                self._threads = [
                    threading.Thread(target=self._supervise, name="ibticks-capture", daemon=True),
                    threading.Thread(target=self._keep, name="ibticks-keeper", daemon=True),
                ]
                for thread in self._threads:
                    thread.start()
                if self.settings.backfill:
                    self._filler = GapFiller(self.store, self.settings, self._sealer, self._failed)
                    self._filler.start()
                after = self.settings.compress_after
                if after is not None:
                    self._compressor = HourCompressor(
                        self._recorders, self._clerk, after, self._failed
                    )
                    self._compressor.start()
                keep = self.settings.keep
                if keep is not None:
                    self._pruner = HourPruner(
                        self.store, self._recorders, self._clerk, keep, self._failed
                    )
                    self._pruner.start()
            except BaseException:
                self.stop()
                raise
        return self

    def _recorder(self, clerk: Clerk, contract_id: int, kind: str, run: str) -> Recorder:
        appender = StreamAppender(
            self.store.root,
            contract_id,
            kind,
            clerk,
            fsync=0 if self.settings.fsync == 0 else None,
            on_sealed=lambda _: clerk.do(self.store.note_change),
            sealer=self._sealer,
        )
        try:
            last = last_sequence(clerk.files([contract_id], [kind]))
            ledger = resume_ledger(self.store.root, clerk, contract_id, kind, run)
        except BaseException:
            appender.close()
            raise
        return Recorder(appender, run, last, ledger, clerk)

    def stop(self) -> None:
        """End: subscriptions are cancelled, files sealed, the index is brought up to date.

        What was received is written first. Stopped twice, or while it does not run, it does
        nothing.
        """
        with self._changing:
            atexit.unregister(self.stop)
            if self._clerk is None:
                return
            supervisor = self._supervisor
            if supervisor is not None:
                supervisor.stop()
            if self._filler is not None:
                self._try("stop", self._filler.stop, "the backfill")
            if self._compressor is not None:
                self._try("stop", self._compressor.stop, "the compressor")
            if self._pruner is not None:
                self._try("stop", self._pruner.stop, "the pruner")
            for thread in self._threads:
                self._join(thread)
                # The keeper goes on for as long as ticks may come.
                self._stopping.set()
            self._stopping.set()
            for recorder in self._recorders:
                self._try("close", recorder.close, recorder.stream_id)
            self._try("close", self._sealer.close, "the sealer")
            self._clerk.close()
            self._clerk = None
            self._threads = []
            if supervisor is not None:
                write_status(self.store.root, self.status())
            ended(self)

    def _join(self, thread: threading.Thread) -> None:
        if thread.ident is None or thread is threading.current_thread():
            return
        thread.join(_STOP_SECONDS)
        if thread.is_alive():
            _log.critical("%s does not end; what it still does is lost", thread.name)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the capture has ended; False if it has not by then."""
        return self._stopping.wait(timeout)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- its threads -------------------------------------------------------------------------------

    def _supervise(self) -> None:
        supervisor = self._supervisor
        assert supervisor is not None
        while not supervisor.stopping.is_set():
            # A mistake of ours must not end the capture: the connection is made anew.
            if not self._try("supervisor", supervisor.run, "the supervisor begins again"):
                supervisor.stopping.wait(_STEP_SECONDS)

    def _keep(self) -> None:
        """Sync, seal, and tell the status, every now and then."""
        synced = told = 0.0
        resting: dict[str, float] = {}
        step = time.time() - time.monotonic()
        while not self._stopping.wait(_BEAT):
            now = time.monotonic()
            step = _notice_step(step, time.time() - now)
            self._rates.append((now, sum(recorder.ticks for recorder in self._recorders)))
            syncs = self.settings.fsync is not None and now - synced >= self.settings.fsync
            for recorder in self._recorders:
                name = recorder.stream_id
                if syncs:
                    self._try("sync", recorder.sync, name)
                if now >= resting.get(name, 0.0) and not self._try(
                    "upkeep", recorder.maintain, name
                ):
                    resting[name] = now + _REST_SECONDS
            if syncs:
                synced = now
            self._sealer.rest(_REST_SECONDS)
            if now - told >= _STATUS_SECONDS:
                told = now
                write_status(self.store.root, self.status())

    def _try(self, where: str, work: Callable[[], object], what: str) -> bool:
        """Do something of which a failure must be seen, and must not end what goes on beside it."""
        try:
            work()
        except Exception as error:
            _log.exception("%s: %s failed", what, where)
            self._failed(where, error)
            return False
        return True

    def _failed(self, where: str, error: Exception) -> None:
        self.failures.append(f"{datetime.now(UTC):%H:%M:%S} {where}: {error!r}")

    # -- how it is doing ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return not self._stopping.is_set()

    @property
    def unwritten(self) -> int:
        """Messages that wait for room on the disk; once it has ended, they are lost."""
        return sum(recorder.waiting for recorder in self._recorders)

    @property
    def ticks_per_second(self) -> float:
        """Ticks a second, over the last seconds."""
        if len(self._rates) < 2 or not self.running:
            return 0.0
        (begin, before), (end, after) = self._rates[0], self._rates[-1]
        return (after - before) / (end - begin) if end > begin else 0.0

    def status(self) -> dict[str, Any]:
        """How it is doing, as JSON can hold it.

        Returns
        -------
        dict
            ``enabled``, and under ``status``: ``running``, ``tws_connected``,
            ``total_contracts``, ``active_contracts``, ``total_streams``, ``contracts`` by id, and
            ``ticks``, ``backfilled_ticks``, ``ticks_per_second``, ``connections``,
            ``last_problem``, ``failures``.
        """
        supervisor = self._supervisor
        running = self.running
        contracts = contracts_status(self.settings.tracked, self._recorders, supervisor)
        return {
            "enabled": True,
            "status": {
                "running": running,
                "tws_connected": running and supervisor is not None and supervisor.connected,
                "total_contracts": len(contracts),
                "active_contracts": sum(c["stream_count"] > 0 for c in contracts.values()),
                "total_streams": sum(c["stream_count"] for c in contracts.values()),
                "contracts": contracts,
                "ticks": sum(recorder.ticks for recorder in self._recorders),
                "backfilled_ticks": 0 if self._filler is None else self._filler.ticks,
                "ticks_per_second": round(self.ticks_per_second, 1),
                "connections": 0 if supervisor is None else supervisor.connections,
                "last_problem": "" if supervisor is None else supervisor.last_problem,
                "failures": list(self.failures),
                "pid": os.getpid(),
                "gateway": f"{self.settings.host}:{self.settings.port}",
                "told_at": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        }

    def __repr__(self) -> str:
        status = self.status()["status"]
        return (
            f"<Capture {'running' if status['running'] else 'stopped'}, "
            f"{'connected' if status['tws_connected'] else 'not connected'}, "
            f"{status['total_streams']} streams, {status['ticks']:,} ticks>"
        )

    def _repr_html_(self) -> str:
        return panel_html(self.status())

    def _ipython_display_(self) -> None:
        show_live(self)


def _notice_step(before: float, after: float) -> float:
    """Tell that the clock was set: how far it was ahead of a steady one, and is."""
    if abs(after - before) > _STEP_SECONDS:
        _log.warning(
            "the clock was set by %+.1f s: ticks go by the new time from here on", after - before
        )
    return after
