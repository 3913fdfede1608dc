"""Three clients of one kind each, whose streams are wide: 16 KiB a piece, a megabyte in six seconds."""

import asyncio
import json
import random
import socket
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.pipeline import new_id
from tests.faults.evidence import Held
from tests.faults.playing import until
from tests.faults.scripts import Asked
from tests.faults.system import System

PIECE = 16 << 10
PIECES = 60
"""Together just below the largest body that a request may have."""
TOO_SLOW = 1013


class Wide:
    """A plain HTTP answer, a WebSocket and an event stream of tenant `wide`."""

    def __init__(self, system: System, key: str, dice: random.Random) -> None:
        self._system, self._key = system, key
        deltas = tuple(("river gate lamp " * 1024)[:PIECE] for _ in range(PIECES))
        self.asked = Asked(f"wide-{dice.getrandbits(32):x}", "ws", deltas, 0, 100)
        self.by_ws, self.by_sse = Held(self.asked), Held(self.asked)
        self.plain = b""
        self.closed: int | None = None
        self._narrow = False
        self._writers: list[asyncio.StreamWriter] = []  # one that is forgotten closes its connection

    async def read(self, now: Callable[[], bool] | None = None) -> None:
        """Ask for all three, and read each to its end; where `now` is given, nothing before it says so."""
        self._narrow = now is not None
        plain, events, frames = await asyncio.gather(self._ask_plain(), self._ask_events(), self._ask_frames())
        if now is not None:
            await asyncio.to_thread(until, now, "all three are cut")
        self.plain, raw, _ = await asyncio.gather(to_the_end(plain), to_the_end(events), self._read_frames(frames))
        for writer in self._writers:
            writer.close()
        for block in raw.decode().split("\n\n")[:-1]:
            event = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if event.get("event") in ("tokens", "end"):
                self.by_sse.records.append({"type": event["event"]} | json.loads(event["data"]))

    async def _ask_plain(self) -> asyncio.StreamReader:
        body = json.dumps(self.asked.body() | {"stream": True}).encode()
        return await self._send("POST /v1/chat/completions", f"content-length: {len(body)}\r\n", body)

    async def _ask_events(self) -> asyncio.StreamReader:
        self.by_sse.id = new_id()
        request: dict[str, Any] = {"id": self.by_sse.id, "tenant": "wide"} | self.asked.body()
        await asyncio.to_thread(self._system.pipeline.publish_raw, json.dumps(request).encode())
        return await self._send(f"GET /v1/streams/{self.by_sse.id}?wait_s=30")

    async def _ask_frames(self) -> ClientConnection:
        url = self._system.pipeline.url.replace("http", "ws") + "/v1/ws"
        headers = {"Authorization": f"Bearer {self._key}"}
        narrow = await self._connected()
        opened = await connect(
            url, sock=narrow, additional_headers=headers, max_queue=1, max_size=None, compression=None
        )
        await opened.send(json.dumps({"type": "submit", "request": self.asked.body()}))
        return opened

    async def _read_frames(self, opened: ClientConnection) -> None:
        try:
            async for frame in opened:
                told = json.loads(frame)
                if told["type"] == "accepted":
                    self.by_ws.id = told["id"]
                elif told["type"] in ("tokens", "end"):
                    self.by_ws.records.append(told)
                if told["type"] == "end":
                    return
        except ConnectionClosed:
            pass
        finally:
            self.closed = opened.close_code
            await opened.close()

    async def _send(self, line: str, more: str = "", body: bytes = b"") -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(sock=await self._connected(), limit=4096)
        head = f"{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._key}\r\nconnection: close\r\n{more}\r\n"
        writer.write(head.encode() + body)
        self._writers.append(writer)
        await writer.drain()
        return reader

    async def _connected(self) -> socket.socket:
        """A connection whose client side keeps little, where it is not read."""
        host, port = self._system.pipeline.url.removeprefix("http://").split(":")
        opened = socket.socket()
        if self._narrow:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, (host, int(port)))
        return opened


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, cleanly or not, without the marks of HTTP's chunks."""
    found = b""
    try:
        while line := await reader.readline():
            if int_or_none(line) is not None:
                found += (await reader.readexactly(int(line, 16) + 2))[:-2]
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    return found


def int_or_none(line: bytes) -> int | None:
    try:
        return int(line, 16)
    except ValueError:
        return None
