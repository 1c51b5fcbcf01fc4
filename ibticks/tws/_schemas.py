"""Protocol Buffers messages of the TWS API, in the schemas of the installed ibapi.

The simulated gateway writes with them what ibapi reads. A message class is loaded when it is first
used, without ibapi's client.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ibticks.errors import FormatError, MissingExtraError

__all__ = ["has_schemas", "message_class", "parse_message"]

_FOLDER: Final = "protobuf"


def has_schemas() -> bool:
    """Return whether an ibapi with Protocol Buffers messages is installed; it is not imported."""
    package = find_spec("ibapi")
    folders = package.submodule_search_locations if package is not None else None
    return any(Path(folder, _FOLDER).is_dir() for folder in folders or ())


@cache
def message_class(name: str) -> Any:
    r"""Return the class of a message.

    Parameters
    ----------
    name : str
        Name in IB's schemas, such as ``TickByTickData``.

    Raises
    ------
    MissingExtraError
        If ibapi is not installed, or has no such message.

    Examples
    --------
    >>> message_class("CancelTickByTick")(reqId=60001).SerializeToString()
    b'\x08\xe1\xd4\x03'
    """
    try:
        return getattr(importlib.import_module(f"ibapi.{_FOLDER}.{name}_pb2"), name)
    except ImportError as error:
        raise MissingExtraError(
            f"the message {name} of the TWS API needs the official client: "
            "pip install 'ibticks[capture]'"
        ) from error


def parse_message(name: str, data: bytes) -> Any:
    r"""Parse a message.

    Parameters
    ----------
    name : str
        Name in IB's schemas.
    data : bytes

    Raises
    ------
    FormatError
        If the bytes are not such a message, or are cut short.

    Examples
    --------
    >>> parse_message("CancelTickByTick", b"\x08\x07").reqId
    7
    """
    message = message_class(name)()
    try:
        message.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError
        raise FormatError(f"{len(data)} bytes that are not a message {name}: {error}") from error
    return message
