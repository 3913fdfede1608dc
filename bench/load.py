"""A load generator for the HTTP edge and for a provider called directly: cheap, so that it shares a machine fairly."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field

import aiohttp
import orjson


@dataclass
class Arrivals:
    """When a stream was asked for and when each of its deltas came, in seconds of the monotonic clock."""

    asked: float
    deltas: list[float] = field(default_factory=list)
    text: str = ""
    done: bool = False

    @property
    def first_ms(self) -> float:
        return (self.deltas[0] - self.asked) * 1000 if self.deltas else float("inf")

    @property
    def longest_gap_ms(self) -> float:
        return max((b - a for a, b in zip(self.deltas, self.deltas[1:], strict=False)), default=0.0) * 1000


async def stream(session: aiohttp.ClientSession, url: str, headers: dict[str, str], model: str) -> Arrivals:
    """One streamed answer."""
    body = orjson.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "go"}]})
    arrivals = Arrivals(time.monotonic())
    async with session.post(f"{url}/v1/chat/completions", data=body, headers=headers) as answer:
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
                    arrivals.deltas.append(now)
                    arrivals.text += said
    return arrivals


async def together(url: str, headers: dict[str, str], model: str, count: int, spread_s: float) -> list[Arrivals]:
    """`count` streams, begun evenly over `spread_s` seconds whatever becomes of those before (open loop)."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:

        async def later(number: int) -> Arrivals:
            await asyncio.sleep(spread_s * number / count)
            return await stream(session, url, headers, model)

        return await asyncio.gather(*(later(number) for number in range(count)))


async def whole_answers(url: str, headers: dict[str, str], model: str, rate: float, seconds: float) -> list[float]:
    """Whole answers asked for at `rate` a second (open loop); the latency of each in ms, infinite where it failed."""
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": "go"}]})
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def one(at: float) -> float:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            began = time.monotonic()
            async with session.post(f"{url}/v1/chat/completions", data=body, headers=headers) as answer:
                content = orjson.loads(await answer.read())
                good = answer.status == 200 and content["choices"][0]["message"]["content"]
            return (time.monotonic() - began) * 1000 if good else float("inf")

        start = time.monotonic() + 0.1
        return await asyncio.gather(*(one(start + number / rate) for number in range(int(rate * seconds))))


def quantile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values)
