"""The entry of the service in JupyterLab, through jupyter-server-proxy."""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import Any, Final

__all__ = ["describe_server"]

_START_SECONDS: Final = 60


def describe_server() -> dict[str, Any]:
    """Describe the service for jupyter-server-proxy, which starts it for its first request.

    The store is that of ``IBTICKS_STORE``, or the folder of JupyterLab. The service listens at a
    Unix socket that only the user of JupyterLab can open.

    Returns
    -------
    dict

    Examples
    --------
    >>> describe_server()["unix_socket"]
    True
    """
    return {
        "command": [
            sys.executable,
            "-c",
            "from ibticks.cli import main; main()",
            "serve",
            "--uds",
            "{unix_socket}",
        ],
        "unix_socket": True,
        "timeout": _START_SECONDS,
        "new_browser_tab": False,
        "launcher_entry": {
            "title": "ibticks",
            "icon_path": str(files("ibticks.service") / "static" / "icon.svg"),
        },
    }
