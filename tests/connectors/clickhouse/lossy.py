"""A proxy before ClickHouse that loses answers, delays or refuses inserts, or is away."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class LossyProxy:
    """Forwards every request. `lose` counts the inserts whose answer is still to be lost; `away` closes the connection
    of every request, `refusing` answers each insert as a server that has no memory left, `slow_s` holds each back.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.lose = 0
        self.away = False
        self.refusing = False
        self.slow_s = 0.0
        self.inserted: Callable[[], None] = lambda: None
        """Called when ClickHouse has taken an insert and its sender does not know it yet."""
        self.answered: Callable[[], None] = lambda: None
        """Called when the sender has been told."""
        self.inserts = 0
        """Inserts that have reached ClickHouse."""
        self.refused = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = _body(self)
                if proxy.away:
                    proxy.refused.set()
                    self.close_connection = True
                    return
                insert = b"INSERT INTO" in body[:100] or "INSERT+INTO" in self.path
                if insert and proxy.refusing:
                    proxy.refused.set()
                    self._answer(500, [("X-ClickHouse-Exception-Code", "241")], b"Code: 241. Memory limit exceeded")
                    return
                if insert and proxy.slow_s:
                    time.sleep(proxy.slow_s)
                status, headers, answer = _forward(proxy.target, self.path, body, dict(self.headers))
                if insert:
                    proxy.inserts += 1
                    proxy.inserted()
                    if proxy.lose:
                        proxy.lose -= 1
                        self.close_connection = True
                        return
                self._answer(status, headers, answer)
                if insert:
                    proxy.answered()

            def _answer(self, status: int, headers: list[tuple[str, str]], answer: bytes) -> None:
                self.send_response(status)
                for name, value in headers:
                    if name.lower().startswith("x-clickhouse"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def _forward(target: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
    kept = {name: value for name, value in headers.items() if name.lower() not in ("transfer-encoding", "host")}
    connection = http.client.HTTPConnection(target)
    try:
        connection.request("POST", path, body, kept)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()
