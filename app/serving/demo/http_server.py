"""HTTP server of the page: Python's own, with bounds, and without a log.

A request has one deadline and a limit on its bytes, and a connection carries one request. The
number of connections and the rate of requests of an address are limited. A browser can only reach
the server from its own page: other names of the host (DNS rebinding) and other origins are
rejected. Nothing of a request is written anywhere.
"""

import http.server
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.serving.bounded_http import BoundedSocket, TooLargeError
from app.serving.demo import api
from app.serving.demo.catalogue import BusyError, DemoModel
from tasks.core.errors import UserError

MAX_BODY = 2**23  # bytes of a request; photographs are sent as base64
_MAX_HEADERS = 2**16
_SECONDS = 60.0  # for sending a request, and for reading its response
_LINGER = 2.0  # seconds for which the rest of a rejected request is read
_PIECE = 2**16
_MAX_CONNECTIONS = 32
_BURST, _PER_SECOND = 60, 5.0  # requests of an address: at once, and in the long run
_MAX_ADDRESSES = 1024  # whose rates are known
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class RateLimit:
    """Token buckets by address.

    Args:
        burst: Requests at once.
        per_second: Requests per second in the long run.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        burst: float = _BURST,
        per_second: float = _PER_SECOND,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait(self, address: str) -> float:
        """Counts a request; returns the seconds after which it may come, 0 if it may now."""
        with self._lock:
            now = self._clock()
            tokens, then = self._buckets.pop(address, (self._burst, now))
            tokens = min(self._burst, tokens + (now - then) * self._per_second)
            seconds = 0.0 if tokens >= 1 else (1 - tokens) / self._per_second
            self._buckets[address] = (tokens - 1 if tokens >= 1 else tokens, now)
            while len(self._buckets) > _MAX_ADDRESSES:
                self._buckets.pop(next(iter(self._buckets)))  # that of the oldest request
            return seconds


class DemoServer(http.server.ThreadingHTTPServer):
    """Server of the page.

    Args:
        models: The models.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        rate: Limit on the rate of requests; None for the default.

    Example::

        with DemoServer(catalogue.local(Path("saved_models"), [])) as server:
            print(server.url)
            server.serve_forever()
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        models: list[DemoModel],
        host: str = LOOPBACK[0],
        port: int = 0,
        rate: RateLimit | None = None,
    ):
        self.models = {model.name: model for model in models}
        self.rate = rate or RateLimit()
        self.files = _files()
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._description: bytes | None = None
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        names = {*LOOPBACK, host} if host in LOOPBACK else None
        # A page of another host may have a name that leads here, but not one of these.
        self.host_names = names
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def description(self) -> bytes:
        """Returns what the page asks for first, which is made once."""
        with self._lock:
            if self._description is None:
                views = [
                    name for name in self.files if name.startswith("views/") and name[-3:] == ".js"
                ]
                self._description = _encode(api.describe(self.models, views))
            return self._description

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Handles a connection in a thread, unless there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: socket.socket, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket.socket, client_address: Any) -> None:
        """Names the kind of an error, but nothing of the request."""
        print(f"error in a request: {sys.exc_info()[0].__name__}", file=sys.stderr)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request of a connection."""

    server: DemoServer
    server_version, sys_version = "app.demo", ""
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.connection = BoundedSocket(self.request, MAX_BODY + _MAX_HEADERS)
        self.connection.begin(time.monotonic() + _SECONDS)
        self.rfile, self.wfile = self.connection.makefile("rb"), io.BytesIO()

    def handle(self) -> None:
        try:
            self.close_connection = True
            self.handle_one_request()
        except TooLargeError:
            self._error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large.")
        except OSError:
            return  # the client is gone, or too slow

    def finish(self) -> None:
        try:
            self.connection.begin(time.monotonic() + _SECONDS)
            self.connection.sendall(self.wfile.getvalue())
            # A connection that is closed before a request is read loses the response.
            self.request.shutdown(socket.SHUT_WR)
            self.connection.begin(time.monotonic() + _LINGER)
            while self.rfile.read(_PIECE):
                pass
        except (OSError, TooLargeError):
            pass  # the client is gone, or sends without end
        finally:
            self.rfile.close()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Responds to what is not HTTP, or a method that there is not."""
        self._error(HTTPStatus(code), "The request is not one that the page makes.")

    def do_GET(self) -> None:
        if not self._is_from_page():
            return
        path = urlsplit(self.path).path.lstrip("/") or "index.html"
        if path == "api/models":
            self._guarded(self.server.description)
        elif path in self.server.files:
            kind = _KINDS[Path(path).suffix]
            self._respond(HTTPStatus.OK, self.server.files[path], f"{kind}; charset=utf-8")
        else:
            self._error(HTTPStatus.NOT_FOUND, "There is no such page.")

    def do_POST(self) -> None:
        action = {"/api/predict": api.predict, "/api/inspect": api.inspect}.get(self.path)
        if not self._is_from_page():
            return
        if action is None:
            self._error(HTTPStatus.NOT_FOUND, "There is no such page.")
            return
        seconds = self.server.rate.wait(self.client_address[0])
        if seconds:
            self._error(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many requests; try again in a moment.",
                {"Retry-After": str(int(seconds) + 1)},
            )
            return
        body = self._body()
        if body is None:
            return
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            self._error(HTTPStatus.BAD_REQUEST, "The request is not JSON.")
            return
        self._guarded(lambda: _encode(action(self.server.models, request)))

    def _guarded(self, respond: Callable[[], bytes]) -> None:
        """Responds with the result of a function, or with its error."""
        try:
            self._respond(HTTPStatus.OK, respond())
        except api.RequestError as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        except UserError as error:
            self._error(HTTPStatus.BAD_GATEWAY, str(error))
        except BusyError as error:
            self._error(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "5"})
        except Exception as error:
            print(f"error in a request: {type(error).__name__}", file=sys.stderr)
            self._error(HTTPStatus.INTERNAL_SERVER_ERROR, "The model failed.")

    def _is_from_page(self) -> bool:
        """Whether a request may come from this page; responds if it does not."""
        names = self.server.host_names
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        try:
            is_ours = names is None or urlsplit(f"//{host}").hostname in names
        except ValueError:
            is_ours = False
        is_same = origin in (None, f"http://{host}")
        site = self.headers.get("Sec-Fetch-Site", "none")
        # A link to the page from elsewhere is fine; a request to the models is not.
        is_same = is_same and (site in ("same-origin", "none") or self.command == "GET")
        if is_ours and is_same:
            return True
        self._error(HTTPStatus.FORBIDDEN, "Requests from other pages are rejected.")
        return False

    def _body(self) -> bytes | None:
        """Returns the body of a request; None if it is not accepted, after responding."""
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        length = self.headers.get("Content-Length", "")
        if kind != "application/json":
            self._error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The request must be application/json.")
        elif "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self._error(HTTPStatus.LENGTH_REQUIRED, "The request must have a Content-Length.")
        elif len(length) > 12 or int(length) > MAX_BODY:
            self._error(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"A request may have at most {MAX_BODY // 2**20} MiB.",
            )
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self._error(HTTPStatus.BAD_REQUEST, "The request is not complete.")
        return None

    def _error(
        self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._respond(status, _encode({"error": message}), headers=headers)

    def _respond(
        self,
        status: HTTPStatus,
        body: bytes,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.request_version = self.protocol_version  # HTTP/0.9 would be a body alone
        self.send_response(status)
        all_headers = {**_HEADERS, **(headers or {}), "Content-Type": kind, "Connection": "close"}
        for name, value in all_headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _files() -> dict[str, bytes]:
    """Returns the files of the page by their path in it."""
    return {
        path.relative_to(_PAGE).as_posix(): path.read_bytes()
        for path in sorted(_PAGE.rglob("*"))
        if path.suffix in _KINDS
    }


def _encode(value: object) -> bytes:
    # Lone surrogates cannot be encoded in UTF-8; JSON has escapes for them.
    return json.dumps(value, allow_nan=False).encode("ascii")
