"""``CaptureStatus``: the panel of a capture, its tick rate, and a button to start and stop it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import ipywidgets

from ibticks.widgets._page_widget import PageWidget

if TYPE_CHECKING:
    from ibticks.capture import Capture

__all__ = ["CaptureStatus"]

_REFRESH_SECONDS: Final = 1.0
_SPARKLINE_POINTS: Final = 120
_SPARKLINE_WIDTH_PX: Final = 360
_SPARKLINE_HEIGHT_PX: Final = 44
# Shown where the panel is not refreshed in time, or ipywidgets marks it as without a kernel.
_NO_KERNEL: Final = (
    "<div class='ibt-gone'>The kernel does not respond: this is the last known state. Run the cell"
    " again.</div><style>.ibt-gone { color: #d83a4a; max-height: 0; overflow: hidden;"
    " animation: ibt-gone 0s 5s forwards; } @keyframes ibt-gone { to { max-height: none; } }"
    " .jupyter-widgets-disconnected .ibt-gone { max-height: none; }</style>"
)


class _Button(PageWidget, ipywidgets.Button):  # type: ignore[misc]
    """A button whose clicks arrive from any subshell."""


class CaptureStatus(PageWidget, ipywidgets.VBox):  # type: ignore[misc]
    """The state of a :class:`~ibticks.Capture`, refreshed every second, with a button to stop it.

    Parameters
    ----------
    capture : Capture
        Closing the view leaves it running.
    """

    summary = "The state of a capture"

    def __init__(self, capture: Capture) -> None:
        self.capture: Final = capture
        self._rates: Final[deque[float]] = deque(maxlen=_SPARKLINE_POINTS)
        self._panel: Final = ipywidgets.HTML()
        self._sparkline: Final = ipywidgets.HTML()
        self._button: Final = _Button(icon="power-off")
        self._button.on_click(self._toggle)
        self._closing: Final = threading.Event()
        # Held while the state is read and sent: of two threads that refresh, the one that reads
        # first must send first, or the page shows the earlier state for good.
        self._refreshing: Final = threading.Lock()
        self._row: Final = ipywidgets.HBox([self._button, self._sparkline])
        super().__init__([self._panel, self._row])
        self._refresh()
        self._thread: Final = threading.Thread(target=self._run, name="ibticks-status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the view and its thread; the capture goes on."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        for child in (self._panel, self._row, self._sparkline, self._button):
            child.close()
        super().close()

    def _run(self) -> None:
        while not self._closing.wait(_REFRESH_SECONDS):
            self._refresh()

    def _refresh(self) -> None:
        from ibticks.capture import panel_html

        with self._refreshing:
            status: dict[str, Any] = self.capture.status()
            self._rates.append(float(status["status"]["ticks_per_second"]))
            self._panel.value = f"{panel_html(status)}{_NO_KERNEL}<!-- {time.monotonic_ns()} -->"
            self._sparkline.value = _draw_sparkline(self._rates)
            self._button.description = "Stop" if self.capture.running else "Start"

    def _toggle(self, _: object) -> None:
        if self.capture.running:
            self.capture.stop()
        else:
            self.capture.start()
        self._refresh()


def _draw_sparkline(rates: deque[float]) -> str:
    """Draw ticks a second over the last minutes as an SVG, which needs no script."""
    width, height = _SPARKLINE_WIDTH_PX, _SPARKLINE_HEIGHT_PX
    peak = max(max(rates), 1.0)
    step = width / (_SPARKLINE_POINTS - 1)
    start = width - step * (len(rates) - 1)
    points = " ".join(
        f"{start + number * step:.1f},{height - 2 - (height - 4) * rate / peak:.1f}"
        for number, rate in enumerate(rates)
    )
    return (
        f"<svg width='{width}' height='{height}' role='img' aria-label='ticks a second'>"
        f"<polyline points='{points}' fill='none' stroke='#1f8bd6' stroke-width='1.5'/>"
        f"<text x='2' y='11' font-size='10' fill='currentColor' opacity='.7'>"
        f"{peak:,.0f} ticks/s</text></svg>"
    )
