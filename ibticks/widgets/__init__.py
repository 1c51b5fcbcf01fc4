"""Widgets for notebooks: live prices, the state of a capture, a map of a store.

In come a ``Live``, a ``Capture`` or a ``Store``; out comes a view in the page of a notebook, which
users make in a cell. They need the extra ``lab``. Scripts and styles come from this installation: a
page loads nothing from elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibticks._lazy import lazy_exports
from ibticks.errors import MissingExtraError

if TYPE_CHECKING:
    from ibticks.widgets._capture_status import CaptureStatus
    from ibticks.widgets._live_view import LiveView
    from ibticks.widgets._store_browser import StoreBrowser

__all__ = ["CaptureStatus", "LiveView", "StoreBrowser"]

_LAB_PACKAGES = ("IPython", "anywidget", "ipywidgets", "traitlets", "uplot")

_load, __dir__ = lazy_exports(__name__)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        package = "" if error.name is None else error.name.partition(".")[0]
        if package not in _LAB_PACKAGES:
            raise
        raise MissingExtraError(
            f"{name} needs {package}, which is not installed: pip install 'ibticks[lab]'"
        ) from error
