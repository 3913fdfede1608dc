"""A load generator for the HTTP edge and for a provider called directly: cheap, so that it shares a machine fairly."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import aiohttp
import orjson

COMPLETIONS = "/v1/chat/completions"


@dataclass
class Arrivals:
    """When a stream was asked for and when each of its deltas came, in seconds of the monotonic clock."""

    asked: float
    deltas: list[tuple[float, str]] = field(default_factory=list)
    done: bool = False

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.deltas)

    @property
    def first_ms(self) -> float:
        return (self.deltas[0][0] - self.asked) * 1000 if self.deltas else float("inf")

    @property
    def longest_gap_ms(self) -> float:
        times = [at for at, _ in self.deltas]
        return max((b - a for a, b in pairwise(times)), default=0.0) * 1000


def body_of(model: str, **more: object) -> bytes:
    """A request of one user message."""
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "go"}]} | more)


@asynccontextmanager
async def client(timeout_s: float = 120.0) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with as many connections as it needs."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
        yield session


async def stream(session: aiohttp.ClientSession, url: str, headers: dict[str, str], model: str) -> Arrivals:
    """One streamed answer, to its end."""
    arrivals = Arrivals(time.monotonic())
    async with session.post(url + COMPLETIONS, data=body_of(model, stream=True), headers=headers) as answer:
        answer.raise_for_status()
        rest = b""
        async for piece in answer.content.iter_any():
            now = time.monotonic()
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not line.startswith(b"data: "):
                    continue
                if line == b"data: [DONE]":
                    arrivals.done = True
                    continue
                choices = orjson.loads(line[6:])["choices"]
                said = choices[0]["delta"].get("content") if choices else None
                if said:
                    arrivals.deltas.append((now, said))
    return arrivals


async def together(url: str, headers: dict[str, str], model: str, count: int, spread_s: float) -> list[Arrivals]:
    """`count` streams, begun evenly over `spread_s` seconds whatever becomes of those before (open loop)."""
    async with client() as session:

        async def later(number: int) -> Arrivals:
            await asyncio.sleep(spread_s * number / count)
            return await stream(session, url, headers, model)

        return await asyncio.gather(*(later(number) for number in range(count)))


async def whole(session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, str]:
    """One whole answer: status, text, and what the cache said of it."""
    async with session.post(url + COMPLETIONS, data=body, headers=headers) as answer:
        content = orjson.loads(await answer.read())
        text = content["choices"][0]["message"]["content"] if answer.status == 200 else None
        return answer.status, text, answer.headers.get("x-sluice-cache", "")


async def whole_answers(
    url: str, headers: dict[str, str], model: str, rate: float, seconds: float, *, text: str
) -> list[float]:
    """Whole answers asked for at `rate` a second (open loop): each one's time in ms, infinite where it was not `text`.

    The time counts from when the request was due, so that a load generator that falls behind hides nothing.
    """
    body = body_of(model)
    async with client(60) as session:

        async def one(due: float) -> float:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                status, said, _ = await whole(session, url, headers, body)
            except (TimeoutError, aiohttp.ClientError):
                return float("inf")
            return (time.monotonic() - due) * 1000 if (status, said) == (200, text) else float("inf")

        start = time.monotonic() + 0.1
        return await asyncio.gather(*(one(start + number / rate) for number in range(int(rate * seconds))))
