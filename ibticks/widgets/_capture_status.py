"""A capture's panel as a widget: state, streams, a line of ticks a second, start and stop."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import ipywidgets

from ibticks.widgets._joined import Joined

if TYPE_CHECKING:
    from ibticks.capture import Capture

__all__ = ["CaptureStatus"]

_SECONDS: Final = 1.0
_POINTS: Final = 120
_WIDTH: Final = 360
_HEIGHT: Final = 44
# Seen where the panel is not written anew in time, or ipywidgets marks it as without a kernel.
_GONE: Final = (
    "<div class='ibt-gone'>No kernel answers: what stands here is how it was. Run the cell again."
    "</div><style>.ibt-gone { color: #d83a4a; max-height: 0; overflow: hidden;"
    " animation: ibt-gone 0s 5s forwards; } @keyframes ibt-gone { to { max-height: none; } }"
    " .jupyter-widgets-disconnected .ibt-gone { max-height: none; }</style>"
)


class _Button(Joined, ipywidgets.Button):  # type: ignore[misc]
    """A button whose click is heard."""


class CaptureStatus(Joined, ipywidgets.VBox):  # type: ignore[misc]
    """The state of a :class:`~ibticks.Capture`, kept up to date, with a button to stop it.

    Parameters
    ----------
    capture : Capture
        What is shown. Closing the view leaves it running.
    """

    described = "The state of a capture"

    def __init__(self, capture: Capture) -> None:
        self.capture: Final = capture
        self._rates: Final[deque[float]] = deque(maxlen=_POINTS)
        self._panel: Final = ipywidgets.HTML()
        self._line: Final = ipywidgets.HTML()
        self._button: Final = _Button(icon="power-off")
        self._button.on_click(self._switch)
        self._ended: Final = threading.Event()
        self._row: Final = ipywidgets.HBox([self._button, self._line])
        super().__init__([self._panel, self._row])
        self._show()
        self._thread: Final = threading.Thread(
            target=self._follow, name="ibticks-status", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the view and its thread; the capture goes on."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        for part in (self._panel, self._row, self._line, self._button):
            part.close()
        super().close()

    def _follow(self) -> None:
        while not self._ended.wait(_SECONDS):
            self._show()

    def _show(self) -> None:
        from ibticks.capture import panel_html

        status: dict[str, Any] = self.capture.status()
        self._rates.append(float(status["status"]["ticks_per_second"]))
        self._panel.value = f"{panel_html(status)}{_GONE}<!-- {time.monotonic_ns()} -->"
        self._line.value = _sparkline(self._rates)
        self._button.description = "Stop" if self.capture.running else "Start"

    def _switch(self, _: object) -> None:
        if self.capture.running:
            self.capture.stop()
        else:
            self.capture.start()
        self._show()


def _sparkline(rates: deque[float]) -> str:
    """Ticks a second over the last minutes, as a picture that needs no script."""
    most = max(max(rates), 1.0)
    step = _WIDTH / (_POINTS - 1)
    start = _WIDTH - step * (len(rates) - 1)
    points = " ".join(
        f"{start + number * step:.1f},{_HEIGHT - 2 - (_HEIGHT - 4) * rate / most:.1f}"
        for number, rate in enumerate(rates)
    )
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' role='img' aria-label='ticks a second'>"
        f"<polyline points='{points}' fill='none' stroke='#1f8bd6' stroke-width='1.5'/>"
        f"<text x='2' y='11' font-size='10' fill='currentColor' opacity='.7'>"
        f"{most:,.0f} ticks/s</text></svg>"
    )
