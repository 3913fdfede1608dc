"""`WS /v1/ws`: the handshake, and who is behind it."""

import asyncio
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from connectors.edge.auth import SUBPROTOCOL, Auth, Caller, bearer, offered_key
from connectors.edge.errors import ApiError, unauthorized, unavailable, unknown_name
from connectors.edge.http import JSON
from connectors.edge.peer import Watch
from connectors.edge.publish import Publisher
from connectors.edge.server import SocketPeer
from connectors.edge.session import Session
from connectors.edge.streams import Streams
from connectors.edge.submit import Submitter
from processors.edge.frames import CLIENT_FIELDS, error_frame, unknown_field
from processors.edge.openai_chunks import error_object

AUTH_S = 5.0
"""How long a client may take to send its key as the first frame."""
MOST_STRANGERS = 256
"""Sockets that have not said who they are, at the same time."""

UNAUTHENTICATED = 1008
GOING_AWAY = 1012


class SocketEndpoint:
    """Accepts sockets and runs a session on each."""

    def __init__(self, auth: Auth, streams: Streams, submitter: Submitter, publisher: Publisher, watch: Watch) -> None:
        self._auth = auth
        self._streams = streams
        self._submitter = submitter
        self._publisher = publisher
        self._watch = watch
        self._strangers = 0
        self._peers: set[SocketPeer] = set()

    @property
    def open(self) -> int:
        """Sockets accepted and not closed."""
        return len(self._peers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        peer: SocketPeer = scope["extensions"]["sluice.peer"]
        try:
            caller = self._by_handshake(scope)
        except ApiError as error:
            await _reject(send, error)
            await peer.closed()
            return
        chosen = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        self._peers.add(peer)
        try:
            caller = caller or await self._by_first_frame(receive, peer)
            if caller is not None:
                await self._run(Session(caller, peer, self._streams, self._submitter, self._publisher), receive)
        finally:
            self._peers.discard(peer)

    def close_all(self) -> None:
        """The server stops."""
        for peer in list(self._peers):
            peer.cut(GOING_AWAY, "the server is shutting down")

    async def _run(self, session: Session, receive: Receive) -> None:
        self._watch.add(session, session.peer)
        self._auth.hold(session.caller, session, session.revoked)
        try:
            await session.run(receive)
        finally:
            self._auth.release(session.caller, session)
            self._watch.remove(session)

    def _by_handshake(self, scope: Scope) -> Caller | None:
        """The caller by header or subprotocol; None where neither is given and there is room for a stranger.

        Raises:
            ApiError: the key is no good, or there is no room.
        """
        key = bearer(scope) or offered_key(scope)
        if key is not None:
            return self._auth.by_key(key)
        if self._strangers >= MOST_STRANGERS:
            raise unavailable("busy", "too many sockets without a key; send it with the handshake")
        return None

    async def _by_first_frame(self, receive: Receive, peer: SocketPeer) -> Caller | None:
        self._strangers += 1
        try:
            async with asyncio.timeout(AUTH_S):
                message = await receive()
            if message["type"] == "websocket.disconnect":
                return None
            return self._auth.by_key(_key_in(message.get("text")))
        except TimeoutError:
            error = unauthorized(f"no auth frame came within {AUTH_S:.0f} s")
        except ApiError as found:
            error = found
        finally:
            self._strangers -= 1
        await peer.send([error_frame(error.code, error.message, param=error.param)])
        peer.cut(UNAUTHENTICATED, error.code)
        return None


def _key_in(text: Any) -> str:
    try:
        frame = orjson.loads(text or b"")
    except orjson.JSONDecodeError:
        frame = None
    key = frame.get("key") if isinstance(frame, dict) and frame.get("type") == "auth" else None
    if not isinstance(key, str):
        raise unauthorized('the first frame must be {"type": "auth", "key": KEY}')
    name = unknown_field(frame)
    if name is not None:
        raise unknown_name(name, "an auth frame", CLIENT_FIELDS["auth"])
    return key


async def _reject(send: Send, error: ApiError) -> None:
    """Refuse the handshake with a real status, where uvicorn would say 403."""
    body = error_object(error.message, error.kind, error.code)
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": [JSON]})
    await send({"type": "websocket.http.response.body", "body": body})
