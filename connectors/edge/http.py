"""The little of HTTP over ASGI that every endpoint here needs, without a request or response object in between."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Message, Receive, Scope, Send

from connectors.edge.errors import ApiError, ClientGone, rejected, unavailable, unknown_name
from connectors.edge.peer import Peer
from processors.edge.openai_chunks import error_object
from processors.edge.submission import MAX_BODY, too_large

Header = tuple[bytes, bytes]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON: Header = (b"content-type", b"application/json")
EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
MOST_DROPPED = 16 << 20
"""Bytes of a body beyond the limit that are still read."""


class Guarded:
    """An endpoint whose errors become answers, and whose answers are counted."""

    def __init__(self, endpoint: Endpoint, count: Callable[[str, int], None], name: str) -> None:
        self._endpoint = endpoint
        self._count = count
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._count(self._name, message["status"])
            await send(message)

        try:
            await self._endpoint(scope, receive, counted)
        except ApiError as error:
            await respond_error(counted, error)
        except ClientGone:
            self._count(self._name, 499)
        except asyncio.CancelledError:  # the server stops, and its grace is over
            if begun:
                raise
            await respond_error(counted, unavailable("shutting_down", "this server is shutting down; try again"))


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a header; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def query(scope: Scope, *known: str) -> dict[str, str]:
    """The query's parameters, the last of each name.

    Raises:
        ApiError: 400, naming one that is not among the `known`.
    """
    asked = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    for name in asked:
        if name not in known:
            raise unknown_name(name, "the query", known)
    return asked


def peer_of(scope: Scope) -> Peer:
    """The client's end of this connection."""
    peer: Peer = scope["extensions"]["sluice.peer"]
    return peer


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The body.

    Raises:
        ApiError: 413. What is beyond the limit is read and dropped for a while, for a client that is still sending
            when the connection is closed may never see the answer.
        ClientGone: it was not sent to its end.
    """
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
        if size <= MAX_BODY:
            parts.append(message.get("body", b""))
        elif size > MOST_DROPPED:
            break
    if size > MAX_BODY:
        raise rejected(too_large())
    return b"".join(parts)


async def respond(send: Send, status: int, body: bytes, *headers: Header) -> None:
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: ApiError, *headers: Header) -> None:
    """An error as OpenAI's clients expect it."""
    extra: list[Header] = [JSON, *headers]
    if error.status in (429, 503):
        extra.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    if error.status == 413:  # the rest of the body stays unread
        extra.append((b"connection", b"close"))
    await respond(send, error.status, error_object(error.message, error.kind, error.code, error.param), *extra)


def start(status: int, *headers: Header) -> dict[str, Any]:
    """The message that begins an answer without a stated length."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes) -> dict[str, Any]:
    """A piece of such an answer."""
    return {"type": "http.response.body", "body": body, "more_body": True}


LAST: dict[str, Any] = {"type": "http.response.body", "body": b""}
"""Its end."""
