"""uvicorn with the client's end of each connection in reach: a peer in every scope, and a close that needs no room.

Its WebSocket `send` waits for room in the socket's buffer, even to send a close; a reader too slow to make room would
never be told. So our protocol classes hand out their transport.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Generator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from connectors.edge.errors import ClientGone
from connectors.edge.peer import Peer
from processors.edge.submission import MAX_BODY

PING_S = 20.0
KEEP_ALIVE_S = 75
SEND_BUFFER = 64 * 1024
"""Bytes the kernel may hold for a connection (it doubles the figure): more would hide a slow reader for long."""
BACKLOG = 2048
KEEPALIVE_S = 15
MISSED = 2
"""A peer that answers nothing for two heartbeats is gone, also where no byte of ours waits for its acknowledgement."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose scopes carry their peer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = Peer(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {"sluice.peer": self.peer}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.peer.lost()


class SocketPeer(Peer):
    """The client's end of a WebSocket."""

    def __init__(self, transport: asyncio.Transport, protocol: "WebSocketProtocol") -> None:
        super().__init__(transport)
        self._protocol = protocol

    async def send(self, frames: list[bytes]) -> None:
        """Write JSON text frames as soon as there is room, in one go.

        Raises:
            ClientGone: the connection is lost or closing.
        """
        await self._protocol.send_texts(frames)
        self.sent += sum(map(len, frames))

    def cut(self, code: int, reason: str) -> None:
        """Close with a code, whether or not there is room for it; a blocked `send` ends when the connection is lost."""
        if not self.gone:
            self._protocol.send_close(code, reason)
        self.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose scope carries its peer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = SocketPeer(cast(asyncio.Transport, transport), self)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # the handshake was one
            cast(dict[str, Any], self.scope["extensions"])["sluice.peer"] = self.peer

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.peer.lost()

    async def send_texts(self, frames: list[bytes]) -> None:
        """ASGI's `websocket.send` for many frames at once, already encoded."""
        await self.writable.wait()
        if self.disconnected or self.close_sent:
            raise ClientGone
        for frame in frames:
            self.conn.send_text(frame)
        self.transport.write(b"".join(self.conn.data_to_send()))

    def send_close(self, code: int, reason: str) -> None:
        """Write a close frame past the flow control."""
        if self.close_sent or not self.handshake_complete:
            return
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True


class Server(uvicorn.Server):
    """uvicorn inside a process that takes the signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def refuse(self) -> None:
        """Close the listener, for another to listen there; connections stay."""
        for server in self.servers:
            server.close()

    def stop(self) -> None:
        """Close the listener and every connection; `serve` returns then."""
        self.should_exit = True


def make_server(app: ASGIApp) -> Server:
    """A server for `app`; it listens on the sockets given to `serve`."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=MAX_BODY + 64 * 1024,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S * (MISSED - 1),
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level="warning",  # what it says at `info` names paths and clients
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; what it is set to holds for every connection it accepts.

    Raises:
        OSError: the address is taken or not ours.
    """
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, MISSED)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, MISSED * KEEPALIVE_S * 1000)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)  # who connects before the server runs waits, and is not refused
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
