"""A proxy before ClickHouse that loses answers, or is away."""

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class LossyProxy:
    """Forwards every request. `lose` counts the inserts whose answer is still to be lost; `away` refuses them all."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.lose = 0
        self.away = False
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
                status, headers, answer = _forward(proxy.target, self.path, body, dict(self.headers))
                if b"INSERT INTO" in body[:100] or "INSERT+INTO" in self.path:
                    proxy.inserts += 1
                    if proxy.lose:
                        proxy.lose -= 1
                        self.close_connection = True
                        return
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
