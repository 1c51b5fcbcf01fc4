"""A capture: IB's ticks into a store, in the background of this process."""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ibticks.capture.panel import panel_html, show_live
from ibticks.capture.settings import CaptureSettings
from ibticks.capture.tracked import TrackedContract, parse_tracked
from ibticks.errors import CaptureError, ConfigError, MissingExtraError
from ibticks.storage.appender import StreamAppender
from ibticks.storage.coverage import Ledger
from ibticks.storage.layout import metadata
from ibticks.storage.sealing_apart import SealerApart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from ibticks.capture.recorder import Recorder
    from ibticks.capture.supervisor import Supervisor
    from ibticks.store import Store

__all__ = ["Capture"]

_log = logging.getLogger(__name__)
_BEAT: Final = 0.5
_STATUS_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 30.0


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
        Any of :class:`~ibticks.capture.settings.CaptureSettings`, such as ``host`` and ``port``;
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
        chosen = CaptureSettings.from_environment()
        if isinstance(tracked, str):
            chosen = replace(chosen, tracked=parse_tracked(tracked))
        elif tracked is not None:
            chosen = replace(chosen, tracked=tuple(tracked))
        unknown = sorted(settings.keys() - set(CaptureSettings.__dataclass_fields__))
        if unknown:
            raise ConfigError(
                f"a capture has no setting {unknown[0]!r}; it has "
                f"{', '.join(CaptureSettings.__dataclass_fields__)}"
            )
        self.settings: Final = replace(chosen, **settings)
        if not any(contract.enabled for contract in self.settings.tracked):
            raise ConfigError(
                "no contract to capture: give some, as '265598:AAPL:bid_ask;last:1', or set "
                "IB_STREAM_TRACKED_CONTRACTS"
            )
        self.store: Final = store
        self.failures: Final[deque[str]] = deque(maxlen=100)
        self._recorders: list[Recorder] = []
        self._supervisor: Supervisor | None = None
        self._threads: list[threading.Thread] = []
        self._sealer = SealerApart()
        self._stopping = threading.Event()
        self._began = 0.0
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
        if self.running:
            raise CaptureError("this capture runs already")
        try:
            from ibticks.capture.recorder import Recorder
            from ibticks.capture.supervisor import Supervisor
        except ImportError as error:
            if error.name is None or not error.name.startswith("ibapi"):
                raise
            raise MissingExtraError(
                "capture needs the official client: pip install 'ibticks[capture]'"
            ) from error
        run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self._stopping.clear()
        try:
            for contract in self.settings.tracked:
                if contract.enabled:
                    for kind in contract.tick_types:
                        self._recorders.append(self._recorder(Recorder, contract, kind, run))
        except BaseException:
            self._close_recorders()
            raise
        self._supervisor = Supervisor(
            self.settings, self._recorders, self.store.index, self._failed
        )
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._supervise, name="ibticks-capture", daemon=True),
            threading.Thread(target=self._keep, name="ibticks-keeper", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.stop)
        return self

    def _recorder(
        self, recorder: type[Recorder], contract: TrackedContract, kind: str, run: str
    ) -> Recorder:
        index = self.store.index
        appender = StreamAppender(
            self.store.root,
            contract.contract_id,
            kind,
            index,
            fsync=0 if self.settings.fsync == 0 else None,
            on_sealed=lambda _: self.store.note_change(),
            sealer=self._sealer,
        )
        stored = index.files([contract.contract_id], [kind])
        last = max((r.last_sequence for r in stored if r.last_sequence is not None), default=0)
        ledger = Ledger(contract.contract_id, kind, run)
        return recorder(appender, run, last, ledger, index)

    def stop(self) -> None:
        """End: subscriptions are cancelled, files sealed, the index is brought up to date."""
        atexit.unregister(self.stop)
        if self._supervisor is None:
            return
        self._supervisor.stop()
        self._threads[0].join(_STOP_SECONDS)
        self._stopping.set()
        self._threads[1].join(_STOP_SECONDS)
        self._close_recorders()
        self._write_status()
        self._supervisor = None

    def _close_recorders(self) -> None:
        from ibticks.storage.states import Status

        for recorder in self._recorders:
            try:
                if recorder.state is not None:
                    recorder.note(Status.STOPPED, "stopped")
                recorder.close()
            except Exception as error:
                _log.exception("%s could not be closed", recorder.stream_id)
                self._failed("close", error)
        self._recorders = []
        self._sealer.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the capture has ended; False if it has not by then."""
        return self._stopping.wait(timeout)

    def __enter__(self) -> Self:
        return self.start()

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
        while supervisor is not None and not self._stopping.is_set():
            try:
                supervisor.run()
            except Exception as error:
                # A mistake of ours must not end the capture: the connection is made anew.
                _log.exception("the supervisor failed and begins again")
                self._failed("supervisor", error)
                self._stopping.wait(1.0)
            else:
                return

    def _keep(self) -> None:
        """Sync, seal, and tell the status, every now and then."""
        synced = told = 0.0
        while not self._stopping.wait(_BEAT):
            now = time.monotonic()
            self._rates.append((now, sum(recorder.ticks for recorder in self._recorders)))
            due = self.settings.fsync is not None and now - synced >= self.settings.fsync
            for recorder in self._recorders:
                try:
                    if due:
                        recorder.sync()
                    recorder.maintain()
                except Exception as error:
                    _log.exception("%s: upkeep failed", recorder.stream_id)
                    self._failed("upkeep", error)
            if due:
                synced = now
            if now - told >= _STATUS_SECONDS:
                told = now
                self._write_status()

    def _failed(self, where: str, error: Exception) -> None:
        self.failures.append(f"{datetime.now(UTC):%H:%M:%S} {where}: {error!r}")

    # -- how it is doing ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._supervisor is not None and self._threads[0].is_alive()

    @property
    def ticks_per_second(self) -> float:
        """Ticks a second, over the last seconds."""
        if len(self._rates) < 2:
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
            ``ticks``, ``ticks_per_second``, ``connections``, ``last_problem``, ``failures``.
        """
        supervisor = self._supervisor
        subscribed = {
            (each.recorder.contract_id, each.recorder.tick_type)
            for each in (() if supervisor is None else supervisor.subscriptions)
            if each.request is not None
        }
        streams = {(r.contract_id, r.tick_type): r for r in self._recorders}
        contracts: dict[str, dict[str, Any]] = {}
        for tracked in self.settings.tracked:
            active = [k for k in tracked.tick_types if (tracked.contract_id, k) in subscribed]
            contracts[str(tracked.contract_id)] = {
                "symbol": tracked.symbol,
                "enabled": tracked.enabled,
                "expected_tick_types": list(tracked.tick_types),
                "active_tick_types": active,
                "stream_count": len(active),
                "buffer_hours": tracked.buffer_hours,
                "streams": {
                    kind: _stream_status(streams[tracked.contract_id, kind])
                    for kind in tracked.tick_types
                    if (tracked.contract_id, kind) in streams
                },
            }
        return {
            "enabled": True,
            "status": {
                "running": self.running,
                "tws_connected": supervisor is not None and supervisor.connected,
                "total_contracts": len(contracts),
                "active_contracts": sum(c["stream_count"] > 0 for c in contracts.values()),
                "total_streams": len(subscribed),
                "contracts": contracts,
                "ticks": sum(recorder.ticks for recorder in self._recorders),
                "ticks_per_second": round(self.ticks_per_second, 1),
                "connections": 0 if supervisor is None else supervisor.connections,
                "last_problem": "" if supervisor is None else supervisor.last_problem,
                "failures": list(self.failures),
                "pid": os.getpid(),
                "gateway": f"{self.settings.host}:{self.settings.port}",
                "told_at": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        }

    def _write_status(self) -> None:
        """Where ``ibticks status`` of another process finds it."""
        path = metadata(self.store.root) / "capture.json"
        beside = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            beside.write_text(json.dumps(self.status()))
            beside.replace(path)
        except OSError as error:
            _log.warning("the status cannot be written to %s: %s", path, error)

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


def _stream_status(recorder: Recorder) -> dict[str, Any]:
    last = recorder.last_ns
    return {
        "state": None if recorder.state is None else str(recorder.state),
        "ticks": recorder.ticks,
        "sequence": recorder.sequence,
        "last_tick": datetime.fromtimestamp(last / 1e9, UTC).isoformat() if last else None,
        "lag_seconds": round(last / 1e9 - recorder.last_event, 3) if last else None,
        "waiting": recorder.waiting,
        "lost": recorder.lost,
        "errors": recorder.errors,
        "last_error": recorder.last_error,
    }
