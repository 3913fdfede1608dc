"""A client that reads many streams on one WebSocket, comes back by cursor where it was cut, and checks what it gets."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from bench.common import check

LONGEST_S = 60.0
"""Nothing here takes longer."""


@dataclass(eq=False)
class Followed:
    """A stream as its reader has it."""

    accepted: asyncio.Future[str]
    began: asyncio.Event = field(default_factory=asyncio.Event)
    """Its first text is there."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    text: str = ""
    seq: int = 0
    cursor: str | None = None
    end: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0
    longest_gap_s: float = 0.0
    """Between two records, once it has begun."""

    @property
    def id(self) -> str:
        return self.accepted.result()

    @property
    def outcome(self) -> tuple[str, str]:
        """Status and reason of its end."""
        return self.end["status"], self.end["reason"]

    def take(self, record: dict[str, Any]) -> None:
        """One record, the next in order."""
        check(record["seq"] == self.seq, f"{self.id}: seq {record['seq']} came where {self.seq} was due")
        now = time.monotonic()
        if self.began.is_set():
            self.longest_gap_s = max(self.longest_gap_s, now - self.at)
        self.at, self.seq, self.cursor = now, self.seq + 1, record["cursor"]
        if record["type"] == "end":
            self.end = record
            self.ended.set()
        else:
            self.text += record["text"]
        self.began.set()


class Reader:
    """One socket at a time. A submit that has no answer yet when the socket breaks is lost."""

    def __init__(self, session: aiohttp.ClientSession, edge: str, key: dict[str, str]) -> None:
        self._session, self._edge, self._key = session, edge, key
        self._streams: dict[str, Followed] = {}
        self._refs: dict[str, Followed] = {}
        self._numbers = 0
        self._socket: aiohttp.ClientWebSocketResponse
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> "Reader":
        await self._connect()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await self._socket.close()

    async def submit(self, model: str) -> Followed:
        """A request; its stream follows."""
        self._numbers += 1
        ref = str(self._numbers)
        stream = self._refs[ref] = Followed(asyncio.get_running_loop().create_future())
        request = {"model": model, "messages": [{"role": "user", "content": "go"}]}
        await self._say(type="submit", ref=ref, request=request)
        await self.wait(stream.accepted)
        return stream

    async def cancel(self, stream: Followed) -> None:
        """Ask for its end."""
        await self._say(type="cancel", id=stream.id)

    async def cut(self) -> None:
        """Close the socket. The reader comes back by itself."""
        await self._socket.close()

    async def wait(self, what: Awaitable[Any]) -> None:
        """Wait for something that the socket brings; what breaks the reader ends the waiting, too."""
        waiting = asyncio.ensure_future(what)
        done, _ = await asyncio.wait({waiting, self._reading}, timeout=LONGEST_S, return_when=asyncio.FIRST_COMPLETED)
        if self._reading in done:
            self._reading.result()
        check(waiting in done, f"nothing came within {LONGEST_S:g} s")

    async def _say(self, **frame: Any) -> None:
        await self._socket.send_str(orjson.dumps(frame).decode())

    async def _connect(self) -> None:
        give_up = time.monotonic() + LONGEST_S
        while True:
            try:
                self._socket = await self._session.ws_connect(f"{self._edge}/v1/ws", headers=self._key, max_msg_size=0)
                return
            except aiohttp.ClientError as error:
                check(time.monotonic() < give_up, f"the edge does not come back: {error}")
                await asyncio.sleep(0.02)  # there is nobody there to wait for

    async def _read(self) -> None:
        while True:
            async for message in self._socket:
                self._take(orjson.loads(message.data))
            await self._connect()
            for name, stream in list(self._streams.items()):
                place = {"cursor": stream.cursor} if stream.cursor else {"from_seq": 0}
                await self._say(type="follow", id=name, wait_s=30, **place)

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "accepted":
            stream = self._refs.pop(frame["ref"])
            self._streams[frame["id"]] = stream
            stream.accepted.set_result(frame["id"])
            return
        check(kind in ("tokens", "end") or frame.get("code") == "shutting_down", f"the edge says {frame}")
        if kind in ("tokens", "end"):
            self._streams[frame["id"]].take(frame)
            if kind == "end":
                del self._streams[frame["id"]]
