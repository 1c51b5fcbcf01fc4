"""Views for notebooks: live prices, a capture's state, what a store holds.

They need the extra ``lab``. All they show comes from this installation: no page is loaded from
elsewhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ibticks.errors import MissingExtraError

if TYPE_CHECKING:
    from ibticks.widgets._capture_status import CaptureStatus
    from ibticks.widgets._live_view import LiveView
    from ibticks.widgets._store_browser import StoreBrowser

__all__ = ["CaptureStatus", "LiveView", "StoreBrowser"]

_EXTRA = ("IPython", "anywidget", "ipywidgets", "traitlets", "uplot")

_HOME_OF = {
    "CaptureStatus": "capture_status",
    "LiveView": "live_view",
    "StoreBrowser": "store_browser",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOME_OF[name]}")
    except ModuleNotFoundError as error:
        package = "" if error.name is None else error.name.partition(".")[0]
        if package not in _EXTRA:
            raise
        raise MissingExtraError(
            f"{name} needs {package}, which is not installed: pip install 'ibticks[lab]'"
        ) from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
