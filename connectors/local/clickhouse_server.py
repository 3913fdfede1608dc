"""chDB behind ClickHouse's HTTP interface, so that every ClickHouse client reaches it as it would a server.

    python -m connectors.local.clickhouse_server --path DIR --port 0

prints `listening http://127.0.0.1:PORT` and serves until SIGTERM or SIGINT.

A development server, on loopback only. There are no users: credentials are ignored, and whoever reaches the port may do
what this process may, reading and writing files with `file()` included. Requests that a web page caused are refused.
One statement runs at a time, in the order of arrival; answers are sent whole and not compressed. There are no sessions:
what only later statements could use (SET, USE, temporary tables) is refused where a `session_id` asks for it.
Also refused: external tables, ClickHouse's own block compression (`compress=1`, `decompress=1`).
"""

import argparse
import asyncio
import gzip
import io
import json
import os
import re
import signal
import sys
import threading
import uuid
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from connectors.local.chdb_engine import Answer, Engine, EngineError, Query, refused
from connectors.local.clickhouse_sql import read_statement
from connectors.priority import give_way

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BODY_MAX = 256 << 20
URL_MAX = 1 << 20
DRAIN_S = 1.5
"""How long after SIGTERM a running statement may take before it is cancelled."""
EXIT_S = 2.7
"""How long after SIGTERM the process ends whatever happens."""


def _lz4(body: bytes) -> bytes:
    """All frames of the body; `lz4.frame.decompress` would stop after the first."""
    frames: bytes = lz4.frame.LZ4FrameFile(io.BytesIO(body)).read()
    return frames


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": _lz4,
    "zstd": zstd.decompress,
}
_NO_SETTINGS = frozenset(
    ("query", "query_id", "database", "default_format", "user", "password", "quota_key", "role", "session_id",
     "session_timeout", "session_check", "close_session", "compress", "decompress", "buffer_size",
     "wait_end_of_query", "stacktrace", "client_protocol_version")
)  # fmt: skip
"""Parameters of the URL that ClickHouse does not take for settings."""
_BAD_REQUEST = re.compile(
    "CANNOT_PARSE_.*|SYNTAX_ERROR|TYPE_MISMATCH|BAD_ARGUMENTS|INCORRECT_DATA|VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE"
    "|.*_AST|.*_AST_(STRUCTURE|NODE)|CANNOT_COMPILE_REGEXP"
)
_NOT_FOUND = re.compile(
    "UNKNOWN_(TABLE|FUNCTION|IDENTIFIER|TYPE|STORAGE|DATABASE|SETTING|DIRECTION_OF_SORTING|AGGREGATE_FUNCTION|FORMAT"
    "|DATABASE_ENGINE|TYPE_OF_QUERY|ROLE)"
)
_STATUS = {
    "NOT_IMPLEMENTED": 501,
    "TIMEOUT_EXCEEDED": 408,
    "HTTP_LENGTH_REQUIRED": 411,
    "QUERY_IS_TOO_LARGE": 413,
    "ABORTED": 503,
}
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?\Z")
_CONTENT_TYPES = {"JSON": "application/json", "JSONCompact": "application/json", "Native": "application/octet-stream"}


class Front:
    """The HTTP side of one engine: requests become queries for its only thread."""

    def __init__(self, path: Path) -> None:
        """Raises: RuntimeError where the directory is another process's, or is no database."""
        self._worker = ThreadPoolExecutor(1, "chdb")
        self._engine = self._worker.submit(Engine, path).result()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_MAX, middlewares=[_no_web_pages])
        application.router.add_get("/ping", _ping)
        application.router.add_get("/", self.statement)
        application.router.add_post("/", self.statement)
        return application

    async def statement(self, request: web.Request) -> web.Response:
        """Run what the request asks and answer as ClickHouse does."""
        if request.method != hdrs.METH_POST and "query" not in request.query:
            return await _ping(request)
        query_id = request.query.get("query_id") or str(uuid.uuid4())
        headers = {"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Timezone": self._engine.timezone}
        try:
            query = await _read(request, query_id)
            answer = await self._run(query)
        except EngineError as error:
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            return web.Response(status=status_of(error.name), text=f"{error}\n", headers=headers)
        used = query.statement.format or query.default_format
        if answer.body:
            headers["X-ClickHouse-Format"] = used
        headers["X-ClickHouse-Summary"] = _summary(answer)
        kind = _CONTENT_TYPES.get(used, "text/plain")
        return web.Response(body=answer.body, headers=headers, content_type=kind)

    async def _run(self, query: Query) -> Answer:
        try:
            waiting = self._worker.submit(self._engine.run, query)
        except RuntimeError:
            raise refused(236, "ABORTED", "The server is shutting down.") from None
        try:
            return await asyncio.wrap_future(waiting)
        except asyncio.CancelledError:  # the client has gone, or we are about to
            if not waiting.cancel() and query.statement.reads:
                asyncio.get_running_loop().run_in_executor(None, self._give_up, waiting, query.id)
            raise

    def _give_up(self, waiting: Future[Answer], query_id: str) -> None:
        """Cancel until it has ended: the first time may be before the engine knows of the statement."""
        while not waiting.done():
            self._engine.cancel(query_id)
            wait([waiting], timeout=0.1)

    async def close(self) -> None:
        """Take nothing new, finish what was taken, or after `DRAIN_S` cancel it, and close the engine."""
        idle = asyncio.get_running_loop().run_in_executor(None, self._worker.shutdown)
        try:
            await asyncio.wait_for(asyncio.shield(idle), DRAIN_S)
        except TimeoutError:
            self._worker.shutdown(wait=False, cancel_futures=True)
            self._engine.cancel()
            await idle
        self._engine.close()


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


@web.middleware
async def _no_web_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page in a browser on this machine reaches loopback too; ClickHouse's clients send no Origin."""
    origin = request.headers.get(hdrs.ORIGIN, "").partition("://")[2]
    if not _LOOPBACK.match(request.host) or (hdrs.ORIGIN in request.headers and not _LOOPBACK.match(origin)):
        raise web.HTTPForbidden(text="only for clients on this machine\n")
    return await handler(request)


async def _read(request: web.Request, query_id: str) -> Query:
    """The query in a request: its text is the parameter `query`, a line break, and the body.

    Raises:
        EngineError: something is asked that we do not do.
    """
    given = dict(request.query)
    if request.content_type == "multipart/form-data":
        given |= await _form(request)
        body = b""
    else:
        body = _decoded(await request.read(), request.headers.get(hdrs.CONTENT_ENCODING, ""))
    for name in ("compress", "decompress"):
        if given.get(name, "0") not in ("0", "false"):
            raise _unsupported(f"{name}=1, ClickHouse's own block compression")
    text = given.get("query", "").encode(errors="surrogateescape")
    statement = read_statement(text + b"\n" + body if text and body else text or body)
    if "session_id" in given and statement.of_a_session:
        raise _unsupported("sessions: what this statement sets would be gone with the next one")
    settings = {name: value for name, value in given.items() if name not in _NO_SETTINGS}
    if request.method != hdrs.METH_POST:
        settings.setdefault("readonly", "2")
    return Query(
        query_id,
        statement,
        given.get("default_format") or request.headers.get("X-ClickHouse-Format") or "TabSeparated",
        given.get("database") or request.headers.get("X-ClickHouse-Database"),
        settings,
    )


async def _form(request: web.Request) -> Mapping[str, str]:
    """The fields of a form, in which clients send long parameters."""
    fields = await request.post()
    for name, value in fields.items():
        if not isinstance(value, str):
            raise _unsupported(f"external tables ({name})")
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def _decoded(body: bytes, encoding: str) -> bytes:
    decode = _DECODERS.get(encoding)
    if decode is None:
        raise _unsupported(f"Content-Encoding {encoding}")
    try:
        return decode(body)
    except (OSError, EOFError, RuntimeError, zlib.error, zstd.ZstdError) as error:
        raise refused(271, "CANNOT_DECOMPRESS", f"The body is not {encoding}: {error}.") from None


def _unsupported(what: str) -> EngineError:
    return refused(48, "NOT_IMPLEMENTED", f"Not supported by this local server: {what}.")


def status_of(name: str) -> int:
    """The HTTP status that ClickHouse gives an error of this name."""
    if _BAD_REQUEST.fullmatch(name):
        return 400
    return 404 if _NOT_FOUND.fullmatch(name) else _STATUS.get(name, 500)


def _summary(answer: Answer) -> str:
    counts = {
        "read_rows": answer.read_rows,
        "read_bytes": answer.read_bytes,
        "written_rows": answer.written_rows,
        "written_bytes": answer.written_bytes,
        "total_rows_to_read": "0",
        "result_rows": answer.result_rows,
        "result_bytes": len(answer.body),
        "elapsed_ns": round(answer.elapsed_s * 1e9),
    }
    return json.dumps({name: str(value) for name, value in counts.items()})


async def serve(path: Path, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then finish what runs, or cancel it, and close."""
    ended = asyncio.Event()
    front = Front(path)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = web.AppRunner(
        front.application(),
        access_log=None,
        auto_decompress=False,  # aiohttp knows no lz4, so we decode all of them
        handler_cancellation=True,
        shutdown_timeout=0.2,  # for sending what is answered; statements are waited for by ourselves
        max_line_size=URL_MAX,
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(f"listening {_url(runner)}", flush=True)
    await ended.wait()
    _end_within(EXIT_S)
    await site.stop()
    await front.close()
    await runner.cleanup()


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


def _end_within(seconds: float) -> None:
    """The engine survives a hard end; a supervisor that waits for us may not be patient."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="connectors.local.clickhouse_server")
    parser.add_argument("--path", type=Path, required=True, help="the directory of the database, made if missing")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    give_way()  # analysts wait a little longer, so that streams do not
    asyncio.run(serve(arguments.path.absolute(), arguments.port))


if __name__ == "__main__":
    main()
