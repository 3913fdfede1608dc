"""Many short connections to an edge, of all kinds, left in all ways, and what the edge's process holds meanwhile."""

import asyncio
import json
import random
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.faults.clients import events

AT_ONCE = 24
KINDS = (
    "sse", "sse left", "socket", "socket aborted", "stranger", "handshake cut", "wrong key", "models", "body cut",
    "whole", "stream left",
)  # fmt: skip
WEIGHTS = (20, 15, 15, 10, 5, 10, 5, 10, 5, 3, 2)

HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Connecting:
    """Connects to `url` again and again; `stored` is an ended stream."""

    url: str
    key: str
    stored: str
    request: dict[str, object]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def run(self, dice: random.Random, times: int) -> None:
        """So many connections, AT_ONCE at a time."""
        kinds = dice.choices(KINDS, WEIGHTS, k=times)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, headers=self.headers) as http:

            async def worker() -> None:
                while kinds:
                    kind = kinds.pop()
                    if kind in ("sse", "sse left", "models", "whole", "stream left"):
                        await self._http(http, kind)
                    elif kind in ("socket", "socket aborted", "stranger", "wrong key"):
                        await self._socket(kind)
                    else:
                        await self._cut(kind, dice)

            await asyncio.gather(*[worker() for _ in range(AT_ONCE)])

    async def _http(self, http: aiohttp.ClientSession, kind: str) -> None:
        if kind == "models":
            async with http.get(f"{self.url}/v1/models") as answer:
                assert answer.status == 200
        elif kind in ("sse", "sse left"):
            async with http.get(f"{self.url}/v1/streams/{self.stored}") as answer:
                names = []
                async for name, _ in events(answer):
                    names.append(name)
                    if kind == "sse left":
                        return
                assert names[-1] == "end"
        else:
            body = self.request | {"stream": kind == "stream left"}
            async with http.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                await (answer.content.readline() if kind == "stream left" else answer.read())

    async def _socket(self, kind: str) -> None:
        key = {"stranger": None, "wrong key": "sk-sluice-wrong"}.get(kind, self.key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with suppress(WebSocketException):  # a wrong key is refused
            async with connect(self.url.replace("http", "ws") + "/v1/ws", additional_headers=headers) as opened:
                assert kind != "wrong key"
                if kind != "stranger":
                    await opened.send(json.dumps({"type": "follow", "id": self.stored}))
                    assert json.loads(await opened.recv())["seq"] == 0
                if kind == "socket aborted":
                    opened.transport.abort()

    async def _cut(self, kind: str, dice: random.Random) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(self.request).encode()
        post = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\n"
        sent = f"{post}content-length: {len(body)}\r\n\r\n".encode() + body[:-1]
        if kind == "handshake cut":
            sent = HANDSHAKE
        writer.write(sent[: dice.randrange(1, len(sent))])
        with suppress(ConnectionError):
            await writer.drain()
        if dice.random() < 0.5:
            writer.transport.abort()
        writer.close()
