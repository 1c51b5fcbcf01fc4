"""The HTTP connection to a service: requests, errors as those of a local store, and retries."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ibticks import errors
from ibticks.errors import MissingExtraError, RemoteAccessError, RemoteError, TickError
from ibticks.remote._wire import PROTOCOL

try:
    import httpx2 as httpx
except ImportError as error:
    raise MissingExtraError(
        "a store over HTTP needs httpx2: pip install 'ibticks[remote]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Connection"]

_ATTEMPTS: Final = 4
_RETRY_SECONDS: Final = 0.2
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 300.0
_INTERRUPTED: Final = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)


class Connection:
    """Requests to one service; threads may share it.

    Parameters
    ----------
    url : str
        Base URL.
    token : str, optional
    is_checked : bool
        Whether to ask at once if a service of ibticks answers there.

    Raises
    ------
    RemoteError
        If nothing answers there, or what answers is no service of ibticks.
    RemoteAccessError
        If the service refuses the token.
    """

    def __init__(self, url: str, token: str | None, *, is_checked: bool = True) -> None:
        self.url: Final = url.rstrip("/")
        self._token: Final = token
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.client: Final = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
        )
        try:
            self.version: Final = self._greet() if is_checked else ""
        except BaseException:
            self.client.close()
            raise

    def __reduce__(self) -> tuple[Callable[..., Connection], tuple[str, str | None]]:
        """Pickle as URL and token: each process connects for itself, when it first asks."""
        return _shared_connection, (self.url, self._token)

    def _greet(self) -> str:
        """Return the version of the service, which has to serve remote stores."""
        info = self.get("/v2/info")
        if not isinstance(info, dict) or info.get("service") != "ibticks":
            raise RemoteError(f"{self.url} is no service of ibticks", url=self.url)
        version = str(info.get("version"))
        if info.get("remote_protocol", 0) < PROTOCOL:
            raise RemoteError(
                f"{self.url} is ibticks {version}, which does not serve remote stores: update "
                "ibticks there",
                url=self.url,
            )
        return version

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON of a route."""
        return self._request("GET", path, params=params).json()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON of a question that is asked as a body; it changes nothing."""
        return self._request("POST", path, json=body).json()

    def table(self, path: str, params: Mapping[str, Any]) -> pa.Table:
        """Return the Arrow table of a route, with the metadata of the whole."""
        content = self._request("GET", path, params={**params, "format": "arrow"}).content
        with pa.ipc.open_stream(content) as reader:
            schema, batches = reader.schema, []
            for batch, metadata in reader.iter_batches_with_custom_metadata():
                if metadata is None:
                    batches.append(batch)
                else:
                    schema = schema.with_metadata(dict(metadata))
        return pa.Table.from_batches(batches, reader.schema).replace_schema_metadata(
            schema.metadata
        )

    @contextmanager
    def stream(
        self, path: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """Open a response that is read while it arrives."""
        with (
            self._explained(),
            self.client.stream("GET", path, params=_present(params), headers=headers) as response,
        ):
            if response.status_code >= httpx.codes.BAD_REQUEST:
                response.read()
                raise self._error(response)
            yield response

    def close(self) -> None:
        """Close every connection."""
        self.client.close()

    def _request(self, method: str, path: str, **content: Any) -> httpx.Response:
        params = _present(content.pop("params", None) or {})
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._explained():
                    response = self.client.request(method, path, params=params, **content)
                break
            except RemoteError:
                # Nothing is changed by a request, so that it may be sent again.
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_RETRY_SECONDS * attempt)
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise self._error(response)
        return response

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _INTERRUPTED as error:
            raise RemoteError(
                f"{self.url} cannot be reached, or has broken a response off ({error}): does "
                "`ibticks serve` run there?",
                url=self.url,
            ) from error
        except httpx.TimeoutException as error:
            raise RemoteError(
                f"{self.url} has not answered in time; try again", url=self.url
            ) from error

    def _error(self, response: httpx.Response) -> TickError:
        """Return the error that a local store would have raised."""
        try:
            data = response.json()["data"]
            message, context = str(data["message"]), dict(data["details"])
        except (ValueError, KeyError, TypeError):
            return RemoteError(
                f"{self.url} answered {response.status_code} to {response.request.url.path}: it is "
                "no service of ibticks, or one of another version",
                url=self.url,
                status=response.status_code,
            )
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return RemoteAccessError(
                f"{self.url} refuses the request: {message}; pass token=", url=self.url
            )
        kind = getattr(errors, response.headers.get("X-Ticks-Error", ""), RemoteError)
        if not (isinstance(kind, type) and issubclass(kind, TickError)):
            kind = RemoteError
        return kind(message, **context)


@lru_cache(maxsize=8)
def _shared_connection(url: str, token: str | None) -> Connection:
    """Return the connection of the selections that were sent to this process."""
    return Connection(url, token, is_checked=False)


def _present(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
