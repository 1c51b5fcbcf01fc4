"""Every error ibticks raises, in one tree, by what the caller can do about it.

::

    TickError
     ├─ InputError (ValueError)             the call is wrong: fix the argument
     │   ├─ NaiveDatetimeError              a datetime without a time zone
     │   ├─ TimeRangeError                  start after end, or a range nothing can hold
     │   ├─ UnknownTickTypeError
     │   ├─ UnknownColumnError
     │   ├─ UnknownPeriodError
     │   ├─ UnknownMarketError
     │   ├─ NoSessionError (LookupError)    the market did not trade that day
     │   ├─ UnknownContractError (LookupError)
     │   ├─ AmbiguousContractError (LookupError)
     │   ├─ LostPositionError               files that a stream was at are gone
     │   ├─ ProtocolError                   a v2 JSON message that is not one
     │   └─ ConfigError                     settings of a capture that cannot be used
     ├─ FormatError (ValueError)            bytes that are not what they should be
     │   └─ CorruptFileError
     │       └─ MisplacedFileError      a whole file, in the place of another one
     ├─ StorageError (OSError)              files and folders
     │   ├─ NoStoreError (FileNotFoundError)
     │   ├─ StoreAccessError (PermissionError)
     │   ├─ StorageFullError
     │   ├─ WriterLockedError
     │   ├─ ReadOnlyError
     │   └─ ArchiveError                object store: unreachable, throttled, or not as written
     ├─ TickIndexError (RuntimeError)          the PostgreSQL index
     │   ├─ IndexUnavailableError (ConnectionError)
     │   ├─ IndexVersionError               server or schema of another version
     │   └─ IndexMismatchError              the database indexes another store
     ├─ CaptureError (RuntimeError)         the connection to IB, or what runs over it
     │   └─ ConnectionFailedError (ConnectionError)
     ├─ RemoteError (ConnectionError)       a service that cannot be reached, or is none
     │   └─ RemoteAccessError (PermissionError)
     ├─ MissingExtraError (ImportError)     install ibticks with an extra
     ├─ CorruptDataWarning (UserWarning)    a load went on without a damaged block
     ├─ IndexAwayWarning (UserWarning)      the index server is away: an answer may be incomplete
     └─ StreamInUseWarning (UserWarning)    files of streams that are being written were left alone

Each carries where it happened in ``context`` (``path``, ``offset``, ``contract_id`` and the like),
and each can be pickled, so that it crosses a process border whole.
"""

from __future__ import annotations

from typing import Any, Self

__all__ = [
    "AmbiguousContractError",
    "ArchiveError",
    "CaptureError",
    "ConfigError",
    "ConnectionFailedError",
    "CorruptDataWarning",
    "CorruptFileError",
    "FormatError",
    "IndexAwayWarning",
    "IndexMismatchError",
    "IndexUnavailableError",
    "IndexVersionError",
    "InputError",
    "LostPositionError",
    "MisplacedFileError",
    "MissingExtraError",
    "NaiveDatetimeError",
    "NoSessionError",
    "NoStoreError",
    "ProtocolError",
    "ReadOnlyError",
    "RemoteAccessError",
    "RemoteError",
    "StorageError",
    "StorageFullError",
    "StoreAccessError",
    "StreamInUseWarning",
    "TickError",
    "TickIndexError",
    "TimeRangeError",
    "UnknownColumnError",
    "UnknownContractError",
    "UnknownMarketError",
    "UnknownPeriodError",
    "UnknownTickTypeError",
    "WriterLockedError",
]


class TickError(Exception):
    """Anything ibticks could not do.

    Parameters
    ----------
    message : str
        What was wrong, where, and what the caller can do.
    **context
        Where it happened, for programs: ``path``, ``offset``, ``contract_id`` and the like.

    Examples
    --------
    >>> error = CorruptFileError("a frame runs past the end", path="14_ticks.pb", offset=256)
    >>> error.context["offset"]
    256
    """

    context: dict[str, Any]

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.context = context

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.context))

    def with_context(self, **context: Any) -> Self:
        """The same error, knowing more about where it happened."""
        return type(self)(self.message, **{**self.context, **context})


def _rebuild(kind: type[TickError], message: str, context: dict[str, Any]) -> TickError:
    return kind(message, **context)


class InputError(TickError, ValueError):
    """An argument that cannot be served."""


class NaiveDatetimeError(InputError):
    """A datetime without a time zone; it is refused, never guessed."""


class TimeRangeError(InputError):
    """A time range that starts after it ends, or that no tick can lie in."""


class UnknownTickTypeError(InputError):
    """A tick type IB does not have."""


class UnknownColumnError(InputError):
    """A column the selection does not carry."""


class UnknownPeriodError(InputError):
    """A relative period that cannot be read."""


class UnknownMarketError(InputError):
    """A market, or a session type, that no calendar knows."""


class NoSessionError(InputError, LookupError):
    """The market has no such session on that day."""


class UnknownContractError(InputError, LookupError):
    """No contract of the store has that id or symbol."""


class AmbiguousContractError(InputError, LookupError):
    """Several contracts of the store have that symbol."""


class LostPositionError(InputError):
    """A position whose files are gone or were replaced; ``context`` has the first that is left."""


class ProtocolError(InputError):
    """A message that does not follow the v2 JSON protocol."""


class ConfigError(InputError):
    """Settings of a capture that cannot be used."""


class FormatError(TickError, ValueError):
    """Bytes that are not what the file format says."""


class CorruptFileError(FormatError):
    """A damaged file: ``context`` has ``path`` and ``offset``."""


class MisplacedFileError(CorruptFileError):
    """A file whose header names another contract, tick type or hour than its path does."""


class StorageError(TickError, OSError):
    """The files or folders of a store."""


class NoStoreError(StorageError, FileNotFoundError):
    """There is no store at that place."""


class StoreAccessError(StorageError, PermissionError):
    """The store's folder cannot be read or written by this user."""


class StorageFullError(StorageError):
    """The disk is full; everything accepted before is kept."""


class WriterLockedError(StorageError):
    """Another process writes this stream; ``context`` names the holder."""


class ReadOnlyError(StorageError):
    """The store was opened without a place to write to."""


class ArchiveError(StorageError):
    """An object store that fails, or does not have what was written: ``context["location"]``."""


class TickIndexError(TickError, RuntimeError):
    """The PostgreSQL index."""


class IndexUnavailableError(TickIndexError, ConnectionError):
    """No server answers at that DSN, or the embedded one cannot start."""


class IndexVersionError(TickIndexError):
    """A server older than PostgreSQL 14, or a schema newer than this ibticks."""


class IndexMismatchError(TickIndexError):
    """The database is the index of another store."""


class CaptureError(TickError, RuntimeError):
    """A capture that cannot begin, or cannot go on."""


class ConnectionFailedError(CaptureError, ConnectionError):
    """TWS or IB Gateway cannot be reached, or refuses; ``context["code"]`` is IB's code."""


class RemoteError(TickError, ConnectionError):
    """A service that cannot be reached, or that does not answer as one of ibticks."""


class RemoteAccessError(RemoteError, PermissionError):
    """A service that refuses a request without a token, or with this one."""


class MissingExtraError(TickError, ImportError):
    """A part of ibticks whose dependencies are not installed."""


class CorruptDataWarning(UserWarning):
    """A load left a damaged block out; the message says which time range is missing."""


class IndexAwayWarning(UserWarning):
    """The index server is away; the answer comes from the catalogue and the journal."""


class StreamInUseWarning(UserWarning):
    """Files were left as they are, since somebody writes to their streams."""
