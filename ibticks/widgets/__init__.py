"""Views for notebooks: live prices, a capture's state, what a store holds.

They need the extra ``lab``. All they show comes from this installation: no page is loaded from
elsewhere.
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

_EXTRA = ("IPython", "anywidget", "ipywidgets", "traitlets", "uplot")

_load, __dir__ = lazy_exports(__name__)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        package = "" if error.name is None else error.name.partition(".")[0]
        if package not in _EXTRA:
            raise
        raise MissingExtraError(
            f"{name} needs {package}, which is not installed: pip install 'ibticks[lab]'"
        ) from error
