"""A small object store over HTTP, with faults: the S3 requests that an archive makes."""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ObjectServer", "Request", "serve_objects"]


@dataclass(frozen=True)
class Request:
    """One request: its method, key (empty for a listing), and range of bytes (empty for all)."""

    method: str
    key: str
    range: str = ""


@dataclass
class ObjectServer:
    """The objects of the server, and its faults.

    Attributes
    ----------
    fault : callable
        Takes each request, and returns its fault: ``"slow down"`` (503), ``"cut"`` (a body shorter
        than announced), ``"forbidden"``, ``"damage"`` (bytes that are not those of the object,
        written or read), or None.
    after : callable
        Called after a request was served.
    """

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    ignores_preconditions: bool = False
    fault: Callable[[Request], str | None] = lambda _: None
    after: Callable[[Request], None] = lambda _: None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ObjectServer

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _begin(self) -> tuple[Request, str | None]:
        key = self.path.partition("?")[0].removeprefix("/ticks").lstrip("/")
        request = Request(self.command, key, self.headers.get("Range", ""))
        self.state.requests.append(request)
        return request, self.state.fault(request)

    def _answer(
        self, status: int, body: bytes = b"", *, of: bytes = b"", cut: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.md5(of, usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        if status != 206:
            self.send_header("Content-Length", str(len(body)))
        else:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(of)}")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def _refuse(self, fault: str) -> None:
        status, code = {"slow down": (503, "SlowDown"), "forbidden": (403, "AccessDenied")}[fault]
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def do_PUT(self) -> None:
        request, fault = self._begin()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if fault in ("slow down", "forbidden"):
            self._refuse(fault)
            return
        exists = request.key in self.state.objects and not self.state.ignores_preconditions
        if exists and self.headers.get("If-None-Match") == "*":
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.state.objects[request.key] = data[:-1] if fault == "damage" else data
            self._answer(200, of=data)
        self.state.after(request)

    def do_GET(self) -> None:
        request, fault = self._begin()
        if fault in ("slow down", "forbidden"):
            self._refuse(fault)
            return
        if "list-type=2" in self.path:
            self._list(request)
            return
        whole = self.state.objects.get(request.key)
        if whole is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        data = whole
        if request.range:
            first, _, last = request.range.removeprefix("bytes=").partition("-")
            data = whole[int(first) : int(last) + 1]
        if fault == "damage":
            data = bytes(len(data))
        status = 206 if request.range else 200
        self._answer(status, data, of=whole, cut=fault == "cut")
        self.state.after(request)

    def _list(self, request: Request) -> None:
        """Answer ListObjectsV2 as the objects are now, whatever ``after`` does to them."""
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        rows = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(data)}</Size><ETag>a</ETag>"
            "<LastModified>2025-01-10T00:00:00.000Z</LastModified></Contents>"
            for key, data in sorted(self.state.objects.items())
            if key.startswith(prefix)
        )
        self.state.after(request)
        self._answer(200, f"<ListBucketResult>{rows}</ListBucketResult>".encode())

    def do_POST(self) -> None:
        """Answer DeleteObjects."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        request, fault = self._begin()
        if fault in ("slow down", "forbidden"):
            self._refuse(fault)
            return
        keys = re.findall("<Key>(.*?)</Key>", body)
        for key in keys:
            self.state.objects.pop(key, None)
        rows = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{rows}</DeleteResult>".encode())
        self.state.after(request)

    def do_HEAD(self) -> None:
        request, fault = self._begin()
        if fault in ("slow down", "forbidden"):
            self._refuse(fault)
            return
        whole = self.state.objects.get(request.key)
        if whole is None:
            self._answer(404)
        else:
            self._answer(200, whole, of=whole)
        self.state.after(request)


@contextmanager
def serve_objects() -> Iterator[ObjectServer]:
    """Serve the bucket ``ticks`` on a free port."""
    state = ObjectServer()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
