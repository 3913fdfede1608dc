"""A simulated provider, a raw-socket one for what no decent server would send, and a call read to its end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from connectors.providers import CallEnded, ProviderClient
from connectors.simulated import SimulatedProvider
from processors.events import AnswerPart
from processors.policy import Provider, Timeouts

Handler = Callable[["Peer"], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
UNTIL_CLOSED = HEAD + b"Connection: close\r\n\r\n"


class Peer:
    """One connection to a raw server, its request read."""

    def __init__(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        """Until the client has closed the connection."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass


class RawServer:
    """Answers with a function. `requests` are the heads and bodies that came, one for each answer."""

    def __init__(self, handler: Handler, *, read_request: bool = True) -> None:
        self._handler = handler
        self._read_request = read_request
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""

    async def __aenter__(self) -> "RawServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                request = await self._request(reader) if self._read_request else b""
                self.requests.append(request)
                await self._handler(Peer(request, reader, writer))
                if b"Connection: close" in request or writer.is_closing() or not self._read_request:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
        length = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
        return head + await reader.readexactly(length)


class Caller:
    """Makes calls with defaults that a test changes by name."""

    def __init__(self, client: ProviderClient) -> None:
        self.client = client

    def items(
        self, url: str, model: str = "story", **changes: Any
    ) -> AsyncGenerator[list[AnswerPart] | CallEnded, None]:
        """The call itself."""
        messages = [{"role": "user", "content": changes.pop("text", "hello")}]
        fields: dict[str, Any] = {"api_key": None, "max_tokens": None, "deadline": 10.0} | changes
        provider = fields.pop("provider", None) or Provider(base_url=url)
        request = {"messages": messages} | fields.pop("request", {})
        timeouts = fields.pop("timeouts", None) or Timeouts(connect_s=2, first_token_s=5, between_tokens_s=5)
        return self.client.call(provider, url, request=request, model=model, timeouts=timeouts, **fields)

    async def batches(self, url: str, model: str = "story", **changes: Any) -> tuple[list[list[AnswerPart]], CallEnded]:
        """What came, and how it ended."""
        batches: list[list[AnswerPart]] = []
        async with aclosing(self.items(url, model, **changes)) as items:
            async for item in items:
                if isinstance(item, CallEnded):
                    ended = item
                else:
                    batches.append(item)
        return batches, ended

    async def __call__(self, url: str, model: str = "story", **changes: Any) -> tuple[str, CallEnded]:
        """The text, and how it ended."""
        batches, ended = await self.batches(url, model, **changes)
        return "".join(part.text for batch in batches for part in batch), ended


@pytest.fixture
async def call() -> AsyncIterator[Caller]:
    async with ProviderClient() as client:
        yield Caller(client)


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
async def raw() -> AsyncIterator[Callable[..., Awaitable[RawServer]]]:
    """Starts raw servers: `await raw(handler)`, or `await raw(b"…")` for one that answers so and closes."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler | bytes, **options: Any) -> RawServer:
            async def answer(peer: Peer) -> None:
                assert isinstance(handler, bytes)
                await peer.send(handler)
                peer.writer.close()

            return await stack.enter_async_context(
                RawServer(answer if isinstance(handler, bytes) else handler, **options)
            )

        yield start


def event(text: str | None = None, finish: str | None = None) -> bytes:
    """One chunk with this content, as a raw server sends it."""
    delta = "{}" if text is None else f'{{"content":"{text}"}}'
    reason = "null" if finish is None else f'"{finish}"'
    return f'data: {{"id":"raw-1","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]}}\n\n'.encode()


def chunked(*pieces: bytes) -> bytes:
    """HTTP chunks, without the one that ends them."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
