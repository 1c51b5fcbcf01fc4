"""The capture of a store: its recorders, its background threads, and its end with the process."""

from __future__ import annotations

import atexit
import inspect
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ibticks._types import StreamKey
from ibticks.capture._maintenance import CompanionBuilder, HourCompressor, HourPruner
from ibticks.capture._queued_index import QueuedIndex
from ibticks.capture._recorder import Recorder, open_recorder
from ibticks.capture._settings import (
    CaptureSettings,
    check_tracked,
    format_tracked,
    merge_tracked,
    parse_tracked,
)
from ibticks.capture._status import (
    contracts_status,
    display_status,
    panel_html,
    write_status,
)
from ibticks.errors import CaptureError, InputError, MissingExtraError
from ibticks.history import GapFiller
from ibticks.index import ContractRecord
from ibticks.storage import SealProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from ibticks._types import TickTypeLike
    from ibticks.capture._settings import CaptureOptions, TrackedContract
    from ibticks.capture._supervisor import Supervisor
    from ibticks.store import Store

__all__ = ["Capture", "stop_captures", "stop_with_kernel", "unregister"]

_log = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.5
_STATUS_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 15.0  # after failed maintenance
_SEALER_IDLE_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 90.0  # received ticks are recorded first
_RESTART_SECONDS: Final = 1.0
_CLOCK_STEP_SECONDS: Final = 1.0
_INDEX_WAIT_SECONDS: Final = 5.0


_running: Final[set[Capture]] = set()


def stop_with_kernel(capture: Capture) -> None:
    """Stop a capture when the kernel of this process is shut down, restarted or terminated.

    The shutdown request arrives in the control thread, while a cell may be busy. ``atexit`` would
    be too late: Jupyter terminates a kernel that has not exited after 2.5 seconds, and kills it
    after 5 (``KernelManager.shutdown_wait_time``). Without a kernel, ``atexit`` stops the capture.
    """
    _running.add(capture)
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is not None and not hasattr(kernel, "ibticks_shutdown"):
        _hook(kernel)


def unregister(capture: Capture) -> None:
    """Remove a capture that has stopped."""
    _running.discard(capture)


def stop_captures() -> None:
    """Stop every capture of this process."""
    for capture in list(_running):
        capture.stop()


def _hook(kernel: Any) -> None:
    kernel.ibticks_shutdown = kernel.do_shutdown

    async def do_shutdown(restart: bool) -> Any:
        stop_captures()
        answer = kernel.ibticks_shutdown(restart)
        return await answer if inspect.isawaitable(answer) else answer

    def on_term(_: int, __: object) -> NoReturn:
        # A stop that is under way is waited for.
        stop_captures()
        kernel.io_loop.add_callback_from_signal(kernel.io_loop.stop)
        raise SystemExit

    kernel.do_shutdown = do_shutdown
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_term)


class Capture:
    """Captures the ticks of some contracts into a store, in the background.

    It runs in threads that the cells of a notebook neither block nor interrupt, and it stops with
    the kernel.

    Parameters
    ----------
    store : Store
    tracked : str or sequence of TrackedContract, optional
        Contracts and tick types, as ``contract_id:symbol:tick_types:buffer_hours,...``; by default
        ``IB_STREAM_TRACKED_CONTRACTS``. An empty tuple for a capture whose contracts come by
        :meth:`add`.
    on_event : callable, optional
        Called with the stream and each info and error message that is stored in it, and with an
        error when storage fails. It must not block.
    **options
        Settings such as ``host`` and ``port``, instead of those of the environment; see
        :class:`~ibticks.capture.CaptureOptions`.

    Raises
    ------
    ConfigError
        If the contracts cannot be parsed, or there are none.
    MissingExtraError
        If ibapi is not installed.

    Examples
    --------
    ::

        capture = ibt.Capture(store, "265598:AAPL:bid_ask;last:1", port=7497)
        capture.start()
        capture  # a panel with its status
        capture.stop()
    """

    def __init__(
        self,
        store: Store,
        tracked: str | Sequence[TrackedContract] | None = None,
        *,
        on_event: Callable[[StreamKey, Mapping[str, Any]], None] | None = None,
        **options: Unpack[CaptureOptions],
    ) -> None:
        self.settings: Final = CaptureSettings.from_environment(tracked=tracked, **options)
        if tracked is None or tracked or isinstance(tracked, str):
            self.settings.enabled_contracts()
        self.store: Final = store
        self._tracked = self.settings.tracked
        self._run_name = ""
        self._on_event: Final = on_event
        self.failures: Final[deque[str]] = deque(maxlen=100)
        self._recorders: list[Recorder] = []
        self._supervisor: Supervisor | None = None
        self._index: QueuedIndex | None = None
        self._filler: GapFiller | None = None
        self._compressor: HourCompressor | None = None
        self._pruner: HourPruner | None = None
        self._builder: CompanionBuilder | None = None
        self._sealer = SealProcess()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._stopping.set()
        # Held by `start` and `stop`; no other thread of the capture takes it.
        self._changing = threading.RLock()
        self._rates: deque[tuple[float, int]] = deque(maxlen=20)

    # -- start and stop ----------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the capture; it connects in the background.

        Raises
        ------
        WriterLockedError
            If another process captures one of the streams; the error names it.
        CaptureError
            If the capture is running.
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
            if self._index is not None:
                raise CaptureError("this capture is already running")
            self._index = QueuedIndex(self.store.index, self._failed)
            self._recorders = []
            self._rates.clear()
            self._run_name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
            try:
                for contract in self._tracked:
                    for tick_type in contract.tick_types if contract.enabled else ():
                        self._recorders.append(
                            self._open_recorder(self._index, contract.contract_id, tick_type)
                        )
                # Symbols are known before there is a connection, which may never be made.
                self._index.put_contracts(
                    ContractRecord(contract.contract_id, contract.symbol)
                    for contract in self._tracked
                    if contract.symbol
                )
                self._supervisor = Supervisor(
                    self.settings, self._recorders, self._known(), self._index, self._failed
                )
                self._stopping.clear()
                atexit.register(self.stop)
                stop_with_kernel(self)
                self._threads = [
                    threading.Thread(
                        target=self._run_supervisor, name="ibticks-capture", daemon=True
                    ),
                    threading.Thread(target=self._run_keeper, name="ibticks-keeper", daemon=True),
                ]
                for thread in self._threads:
                    thread.start()
                if self.settings.backfill:
                    self._filler = GapFiller(self.store, self.settings, self._sealer, self._failed)
                    self._filler.start()
                after = self.settings.compress_after
                if after is not None:
                    self._compressor = HourCompressor(
                        self._recorders, self._index, after, self._failed
                    )
                    self._compressor.start()
                keep = self.settings.keep
                if keep is not None:
                    self._pruner = HourPruner(
                        self.store, self._recorders, self._index, keep, self._failed
                    )
                    self._pruner.start()
                if self.store.columns != "off":
                    self._builder = CompanionBuilder(
                        self.store.root, self._recorders, self._index, keep, self._failed
                    )
                    self._builder.start()
            except BaseException:
                self.stop()
                raise
        return self

    def _known(self) -> dict[int, ContractRecord]:
        """Return the contracts that were resolved before."""
        # A contract without an exchange was added by hand: its details are requested.
        return {
            record.contract_id: record for record in self.store.index.contracts() if record.exchange
        }

    def _open_recorder(self, index: QueuedIndex, contract_id: int, tick_type: str) -> Recorder:
        recorder = open_recorder(
            self.store.root,
            contract_id,
            tick_type,
            index,
            self._run_name,
            fsync=0 if self.settings.fsync == 0 else None,
            on_sealed=lambda _: index.submit(self.store.note_change),
            sealer=self._sealer,
        )
        if self._on_event is not None:
            recorder.on_message = partial(self._on_event, StreamKey(contract_id, tick_type))
        return recorder

    def add(self, contract: TrackedContract | str) -> None:
        """Capture another contract, or more tick types of one.

        A capture that runs subscribes them at once; another one when it is started.

        Parameters
        ----------
        contract : TrackedContract or str
            As text, ``contract_id:symbol:tick_types:buffer_hours``.

        Raises
        ------
        ConfigError
            If the text is wrong, or there are too many contracts.
        WriterLockedError
            If another process captures one of the streams; nothing is added then.

        Examples
        --------
        ::

            capture.add("76792991:TSLA:last")
            capture.remove(76792991)
        """
        with self._changing:
            added = parse_tracked(contract) if isinstance(contract, str) else (contract,)
            tracked = merge_tracked(self._tracked, added)
            check_tracked(tracked, self.settings.max_tracked)
            if self._index is not None:
                self._start_streams(self._index, tracked)
            self._tracked = tracked

    def _start_streams(self, index: QueuedIndex, tracked: Sequence[TrackedContract]) -> None:
        """Record and subscribe the streams that are not yet."""
        streams = {(recorder.contract_id, recorder.tick_type) for recorder in self._recorders}
        opened: list[Recorder] = []
        try:
            for contract in tracked:
                opened.extend(
                    self._open_recorder(index, contract.contract_id, name)
                    for name in (contract.tick_types if contract.enabled else ())
                    if (contract.contract_id, name) not in streams
                )
        except BaseException:
            for recorder in opened:
                recorder.close()
            raise
        index.put_contracts(
            ContractRecord(contract.contract_id, contract.symbol)
            for contract in tracked
            if contract.symbol and contract not in self._tracked
        )
        known = self._known()
        self._recorders += opened
        if self._supervisor is not None:
            for recorder in opened:
                self._supervisor.subscriptions.add(recorder, known.get(recorder.contract_id))
            self._supervisor.wake()

    def remove(self, contract_id: int, tick_types: Sequence[TickTypeLike] | None = None) -> None:
        """Capture a contract, or some of its tick types, no longer.

        Their subscriptions are cancelled and their files are sealed; what was captured stays.

        Parameters
        ----------
        contract_id : int
        tick_types : sequence of str, optional
            All by default.

        Raises
        ------
        InputError
            If the contract or a tick type is not captured.
        """
        with self._changing:
            contract = next((one for one in self._tracked if one.contract_id == contract_id), None)
            captured = () if contract is None else contract.tick_types
            removed = captured if tick_types is None else tuple(tick_types)
            if contract is None or not set(removed) <= set(captured):
                raise InputError(
                    f"{contract_id} {', '.join(map(str, removed))}: not captured; captured are "
                    f"{format_tracked(self._tracked) or 'no contracts'}",
                    contract_id=contract_id,
                )
            left = tuple(name for name in captured if name not in removed)
            self._tracked = tuple(
                replace(one, tick_types=left) if one is contract else one
                for one in self._tracked
                if one is not contract or left
            )
            for recorder in self._recorders[:]:
                if recorder.contract_id == contract_id and recorder.tick_type in removed:
                    self._stop_stream(recorder)
            if self._index is not None:
                self._index.wait_until_empty(_INDEX_WAIT_SECONDS)

    def _stop_stream(self, recorder: Recorder) -> None:
        if self._supervisor is not None:
            self._supervisor.subscriptions.remove(recorder)
            self._supervisor.wake()
        self._recorders.remove(recorder)
        self._try("close", recorder.close, recorder.stream_id)

    def find_recorder(self, contract_id: int, tick_type: TickTypeLike) -> Recorder | None:
        """Return the recorder of a stream; None if it is not captured now."""
        for recorder in self._recorders[:] if self.running else ():
            if (recorder.contract_id, recorder.tick_type) == (contract_id, tick_type):
                return recorder
        return None

    def stop(self) -> None:
        """Stop the capture: cancel the subscriptions, write received ticks, seal, update the index.

        A no-op while it is not running.
        """
        with self._changing:
            atexit.unregister(self.stop)
            if self._index is None:
                return
            supervisor = self._supervisor
            if supervisor is not None:
                supervisor.stop()
            if self._filler is not None:
                self._try("stop", self._filler.stop, "the backfill")
            if self._builder is not None:
                self._try("stop", self._builder.stop, "the builder of companions")
            if self._compressor is not None:
                self._try("stop", self._compressor.stop, "the compressor")
            if self._pruner is not None:
                self._try("stop", self._pruner.stop, "the pruner")
            for thread in self._threads:
                self._join(thread)
                # The keeper runs for as long as ticks may arrive.
                self._stopping.set()
            self._stopping.set()
            for recorder in self._all_recorders():
                self._try("close", recorder.close, recorder.stream_id)
            self._try("close", self._sealer.close, "the sealer")
            self._index.close()
            self._index = None
            self._threads = []
            if supervisor is not None:
                write_status(self.store.root, self.status())
            unregister(self)

    def _join(self, thread: threading.Thread) -> None:
        if thread.ident is None or thread is threading.current_thread():
            return
        thread.join(_STOP_SECONDS)
        if thread.is_alive():
            _log.critical("%s does not end within %g s", thread.name, _STOP_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the capture has stopped; return False after the timeout."""
        return self._stopping.wait(timeout)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- threads -----------------------------------------------------------------------------------

    def _run_supervisor(self) -> None:
        supervisor = self._supervisor
        assert supervisor is not None
        while not supervisor.stopping.is_set():
            # An internal error does not end the capture: the supervisor restarts.
            if not self._try("supervisor", supervisor.run, "the supervisor restarts"):
                supervisor.stopping.wait(_RESTART_SECONDS)

    def _run_keeper(self) -> None:
        """Sync, seal and write the status file, periodically."""
        synced_at = status_at = 0.0
        retry_at: dict[str, float] = {}
        problems: dict[str, str] = {}
        clock_offset = time.time() - time.monotonic()
        while not self._stopping.wait(_POLL_SECONDS):
            now = time.monotonic()
            clock_offset = _check_clock(clock_offset, time.time() - now)
            recorders = self._all_recorders()
            self._rates.append((now, sum(recorder.ticks for recorder in recorders)))
            is_sync_due = self.settings.fsync is not None and now - synced_at >= self.settings.fsync
            for recorder in recorders:
                name = recorder.stream_id
                if is_sync_due:
                    self._try("sync", recorder.sync, name)
                if now >= retry_at.get(name, 0.0) and not self._try(
                    "upkeep", recorder.maintain, name
                ):
                    retry_at[name] = now + _RETRY_SECONDS
            if is_sync_due:
                synced_at = now
            self._sealer.stop_if_idle(_SEALER_IDLE_SECONDS)
            before, problems = problems, {one.stream_id: one.storage_problem for one in recorders}
            if now - status_at >= _STATUS_SECONDS or problems != before:
                status_at = now
                write_status(self.store.root, self.status())

    def _all_recorders(self) -> list[Recorder]:
        """Return the recorders with their copies."""
        return [one for recorder in self._recorders[:] for one in (recorder, *recorder.copies)]

    def _try(self, where: str, work: Callable[[], object], what: str) -> bool:
        """Do some work; report an exception, and return False, instead of raising it."""
        try:
            work()
        except Exception as error:
            _log.exception("%s: %s failed", what, where)
            self._failed(where, error)
            return False
        return True

    def _failed(self, where: str, error: Exception) -> None:
        self.failures.append(f"{datetime.now(UTC):%H:%M:%S} {where}: {error!r}")

    # -- status ------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Return whether the capture has been started and not stopped."""
        return not self._stopping.is_set()

    @property
    def unwritten(self) -> int:
        """Messages that wait for room on the disk; after the stop they are lost."""
        return sum(recorder.waiting for recorder in self._recorders)

    @property
    def ticks_per_second(self) -> float:
        """Ticks a second, over the last ten seconds."""
        if len(self._rates) < 2 or not self.running:
            return 0.0
        (begin, before), (end, after) = self._rates[0], self._rates[-1]
        return (after - before) / (end - begin) if end > begin else 0.0

    def status(self) -> dict[str, Any]:
        """Return the status as a dictionary for JSON.

        Returns
        -------
        dict
            ``enabled``, and under ``status``: ``running``, ``tws_connected``,
            ``total_contracts``, ``active_contracts``, ``total_streams``, ``contracts`` by id, and
            ``ticks``, ``backfilled_ticks``, ``ticks_per_second``, ``connections``,
            ``last_problem``, ``failures``, and ``tws``, the settings of the last TWS connection.
        """
        supervisor = self._supervisor
        server = None if supervisor is None else supervisor.server
        running = self.running
        contracts = contracts_status(self._tracked, self._recorders[:], supervisor)
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
                "tws": {} if server is None else server.as_metadata(),
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
        display_status(self)


def _check_clock(before: float, after: float) -> float:
    """Log a step of the wall clock, from its old and new offset to the monotonic one."""
    if abs(after - before) > _CLOCK_STEP_SECONDS:
        _log.warning(
            "the clock was set by %+.1f s: ticks get the new time from here on", after - before
        )
    return after
