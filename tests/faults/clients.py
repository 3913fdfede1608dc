"""Clients as users have them: `websockets`, aiohttp for SSE and plain HTTP, confluent-kafka as the producer.

Those that can resume do: whatever breaks, they come back by their cursor, by WebSocket or SSE, to any edge, until they
have the end. Each writes down what it holds.
"""

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from processors.identity import uuid7
from tests.faults.evidence import Held

GIVE_UP_S = 120.0
"""After so long without an end a client is stuck. It guards against hanging, and promises nothing."""
AGAIN_S = 0.05
"""Between two knocks at a door that is closed: nothing tells when it opens."""
WAIT_S = 30
FOR_NOW = ("shutting_down", "log_unreachable", "busy")
"""What a server says that will be back."""

NETWORK = (OSError, WebSocketException, aiohttp.ClientError, asyncio.TimeoutError)


class Broken(Exception):
    """The connection ended before the stream did."""


class Told(Exception):
    """The server said no, by this code, and coming back does not help."""


class Clients:
    """Plays requests; one object for all clients of a load."""

    def __init__(
        self, urls: Sequence[str], key: str, publish: Callable[[dict[str, object]], None], dice: random.Random
    ) -> None:
        """`urls` are the edges; `publish` writes a request to Kafka, in another thread."""
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {key}"}
        self._publish = publish
        self._dice = dice
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._http = aiohttp.ClientSession(
            connector=connector, headers=self._headers, timeout=aiohttp.ClientTimeout(total=None, connect=20)
        )

    async def close(self) -> None:
        await self._http.close()

    async def play(self, held: Held) -> None:
        """Send the request and read to its end; never raises what a network does."""
        held.asked_at = time.monotonic()
        try:
            async with asyncio.timeout(GIVE_UP_S):
                if held.plain:
                    await self._plain(held)
                else:
                    await self._resumable(held)
        except TimeoutError:
            held.wrong = f"no end within {GIVE_UP_S:g} s"
        except Told as told:
            held.wrong = f"was told {told}"

    async def _resumable(self, held: Held) -> None:
        if held.asked.how == "kafka" and held.id is None:
            held.id = uuid7(int(time.time() * 1000), self._dice.randbytes(10))
            name = {"id": held.id, "tenant": "demo"}
            for request in (name | held.asked.body(), *([name | {"cancel": True}] if held.cancels else ())):
                await asyncio.get_running_loop().run_in_executor(None, self._publish, request)
        while not held.ended:
            read = self._by_ws if held.id is None or self._dice.random() < 0.5 else self._by_sse
            try:
                await read(held)
            except (*NETWORK, Broken) as error:
                held.breaks.append((time.monotonic(), f"{type(error).__name__}: {error}"[:200]))
                await asyncio.sleep(AGAIN_S)

    async def _by_ws(self, held: Held) -> None:
        edge = self._dice.choice(self._urls)
        url = edge.replace("http", "ws") + "/v1/ws"
        async with connect(url, additional_headers=self._headers, open_timeout=20, close_timeout=1) as socket:
            held.connects.append((time.monotonic(), "ws", edge))
            if held.id is None:
                await socket.send(json.dumps({"type": "submit", "ref": "r", "request": held.asked.body()}))
            else:
                place = {"cursor": held.cursor} if held.cursor else {"wait_s": WAIT_S}
                await socket.send(json.dumps({"type": "follow", "id": held.id} | place))
            async for frame in socket:
                take(held, told := json.loads(frame))
                if told["type"] == "accepted" and held.cancels:
                    await socket.send(json.dumps({"type": "cancel", "id": held.id}))
                if held.ended:
                    return
        raise Broken("closed")

    async def _by_sse(self, held: Held) -> None:
        edge = self._dice.choice(self._urls)
        url = f"{edge}/v1/streams/{held.id}?wait_s={WAIT_S}"
        headers = {"Last-Event-ID": held.cursor} if held.cursor else {}
        async with self._http.get(url, headers=headers) as answer:
            if answer.status != 200:
                raise refusal(answer.status, await answer.text())
            held.connects.append((time.monotonic(), "sse", edge))
            async for event, data in events(answer):
                take(held, {"type": event} | json.loads(data))
                if held.ended:
                    return
        raise Broken("closed")

    async def _plain(self, held: Held) -> None:
        body = held.asked.body() | {"stream": held.asked.how == "http"}
        while not held.outcome:
            edge = self._dice.choice(self._urls)
            try:
                async with self._http.post(f"{edge}/v1/chat/completions", json=body) as answer:
                    held.connects.append((time.monotonic(), "http", edge))
                    await self._read_plain(held, answer)
            except aiohttp.ClientConnectorError:  # nobody was there, so nothing was asked
                await asyncio.sleep(AGAIN_S)
            except NETWORK as error:
                held.breaks.append((time.monotonic(), f"{type(error).__name__}: {error}"[:200]))
                held.outcome = "broken"

    async def _read_plain(self, held: Held, answer: aiohttp.ClientResponse) -> None:
        held.id, held.status = answer.headers.get("x-request-id"), answer.status
        if answer.status != 200:
            await answer.read()
            held.outcome = "refused"
        elif held.asked.how == "whole":
            choice = json.loads(await answer.read())["choices"][0]
            held.arrivals.append(time.monotonic())
            held.text, held.finish_reason = choice["message"]["content"] or "", choice["finish_reason"]
            held.outcome = "done"
        else:
            async for _, data in events(answer):
                if data == "[DONE]":
                    held.outcome = "done"
                elif "error" in (chunk := json.loads(data)):
                    held.outcome = "error"
                else:
                    choice = chunk["choices"][0]
                    held.arrivals.append(time.monotonic())
                    held.text += choice["delta"].get("content") or ""
                    held.finish_reason = choice["finish_reason"] or held.finish_reason
            held.outcome = held.outcome or "clean"


def take(held: Held, frame: dict[str, object]) -> None:
    """What a reader does with a frame.

    Raises:
        Broken: the server asks to come back, or the reader leaves here.
        Told: it says anything else that is no record.
    """
    kind = frame["type"]
    if kind == "accepted":
        held.id = str(frame["id"])
    elif kind == "gap":
        held.gaps.append(frame)
    elif kind in ("tokens", "end"):
        held.arrivals.append(time.monotonic())
        held.records.append(frame)
        if held.leaves and len(held.records) >= held.leaves[0] and kind == "tokens":
            del held.leaves[0]
            raise Broken("left")
    elif frame.get("code") in FOR_NOW:
        raise Broken(str(frame["code"]))
    else:
        raise Told(json.dumps(frame))


def refusal(status: int, body: str) -> Exception:
    """An error status as what it means to a reader."""
    return Broken(f"{status} {body[:200]}") if status == 503 else Told(f"{status} {body[:200]}")


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str]]:
    """Server-sent events as they come: name and data."""
    name, data = "", ""
    async for raw in answer.content:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line and data:
            yield name, data
            name, data = "", ""


class Answered(NamedTuple):
    """How one plain request was answered; `code` of an error."""

    status: int
    code: str
    retry_after: str | None
    took_s: float


def ask_plainly(url: str, key: str, path: str, body: dict[str, object] | None = None) -> Answered:
    """One plain HTTP request, beside a load."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    began = time.monotonic()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=GIVE_UP_S) as answer:
            return Answered(answer.status, "", None, time.monotonic() - began)
    except urllib.error.HTTPError as error:
        with error:
            told = json.load(error).get("error", {})
        return Answered(
            error.code, str(told.get("code", "")), error.headers.get("Retry-After"), time.monotonic() - began
        )
