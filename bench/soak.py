"""Steady mixed load, and whether memory, descriptors and threads of each process stay where they are.

Streams over HTTP that end, streams over WebSocket that are cancelled or cut and resumed, whole answers: about half of
what two cores bear. Every answer is checked. What grows by design is named in the bounds.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from statistics import linear_regression

import aiohttp
import psutil

from bench.common import check, say
from bench.load import body_of, client, stream, whole
from bench.pipeline import Pipeline, running
from bench.reader import Reader

SECONDS, EVERY_S = 60.0, 10.0
WARM_UP = 0.4
"""The share of the time that is not looked at: caches fill, allocators find their size."""
RATES = {"ends": 12, "cancelled": 4, "resumed": 4, "whole": 60}
"""A second."""
ANSWER = "A short answer."
TEXT = "".join(f"{number} " for number in range(1, 65))
POLICY = f"""
version: 1
providers: {{simulated: {{kind: openai, base_url: "simulated:"}}}}
routes:
  paced: [{{provider: simulated, model: "numbers?n=64&pace_ms=20"}}]
  quick: [{{provider: simulated, model: "say?text={ANSWER}&first_ms=20"}}]
tenants: {{demo: {{}}}}
rules: [{{id: r, kind: phrase, phrases: ["never to be said"], action: stop}}]
cache: {{when: never}}
"""
FLAT = {"KB a request": 1.0, "descriptors a minute": 2.0, "threads a minute": 1.0}
"""Slopes above these are no longer flat. A closed request is remembered for 15 minutes in admission, dispatch and the
guard: so memory may grow by this much a request, and not for ever. The edge keeps the newest 64 MiB of streams, which a
minute does not fill: only a longer run tells of its memory."""


class Load:
    """One request of each kind, to its end."""

    def __init__(self, pipeline: Pipeline, session: aiohttp.ClientSession, shared: Reader) -> None:
        self._pipeline, self._session, self._shared = pipeline, session, shared

    async def ends(self) -> None:
        found = await stream(self._session, self._pipeline.edge, self._pipeline.key, "paced")
        check(found.done and found.text == TEXT, f"a stream was {found.text!r}")

    async def whole(self) -> None:
        status, text, _ = await whole(self._session, self._pipeline.edge, self._pipeline.key, body_of("quick"))
        check((status, text) == (200, ANSWER), f"an answer was {status} {text!r}")

    async def cancelled(self) -> None:
        found = await self._shared.submit("paced")
        await self._shared.wait(found.began.wait())
        await self._shared.cancel(found)
        await self._shared.wait(found.ended.wait())
        check(found.end["status"] == "cancelled" and TEXT.startswith(found.text), f"a cancelled one ended {found.end}")

    async def resumed(self) -> None:
        async with Reader(self._session, self._pipeline.edge, self._pipeline.key) as reader:
            found = await reader.submit("paced")
            await reader.wait(found.began.wait())
            await reader.cut()
            await reader.wait(found.ended.wait())
            check(found.end["status"] == "completed" and found.text == TEXT, f"a resumed one was {found.text!r}")


def sample(pipeline: Pipeline) -> dict[str, tuple[float, int, int]]:
    """Memory of its own (KB), open descriptors and threads of each process."""
    found = {}
    for name, process in pipeline.processes().items():
        try:
            found[name] = (process.memory_full_info().uss / 1e3, descriptors(process.pid), process.num_threads())
        except (psutil.NoSuchProcess, FileNotFoundError):
            check(False, f"{name} has died")
    return found


def descriptors(pid: int) -> int:
    """How many are open, but for those into /proc: of these ClickHouse keeps three for each thread that has worked, so
    that they rise for as long as some of its threads, whose number is looked at, have not."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            count += not os.readlink(f"/proc/{pid}/fd/{name}").startswith("/proc/")
    return count


async def at_rate(rate: float, until: float, one: Callable[[], Awaitable[None]]) -> int:
    """Begin one after the other at a rate that nothing slows down; how many, once all have ended."""
    begun: list[asyncio.Future[None]] = []
    began = time.monotonic()
    while (due := began + len(begun) / rate) < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        begun.append(asyncio.ensure_future(one()))
    await asyncio.gather(*begun)
    return len(begun)


async def soak(pipeline: Pipeline, seconds: float) -> None:
    """Load and look."""
    samples: list[tuple[float, dict[str, tuple[float, int, int]]]] = []
    async with client() as session, Reader(session, pipeline.edge, pipeline.key) as shared:
        load, began, pids = Load(pipeline, session, shared), time.monotonic(), pids_of(pipeline)
        until, before = began + seconds, pipeline.cpu()
        kinds = {kind: asyncio.create_task(at_rate(rate, until, getattr(load, kind))) for kind, rate in RATES.items()}
        while time.monotonic() < until:
            await asyncio.wait(kinds.values(), timeout=min(EVERY_S, until - time.monotonic()))
            samples.append((time.monotonic() - began, sample(pipeline)))
        counts = Counter({kind: await task for kind, task in kinds.items()})
        took = time.monotonic() - began
        cores = {name: round((value - before[name]) / took, 2) for name, value in pipeline.cpu().items()}
    check(pids_of(pipeline) == pids, "a process has died and come back")
    say("soak", "requests, each checked", "requests", [counts.total()], by=dict(counts), cores=cores)
    kept = [item for item in samples if item[0] >= WARM_UP * seconds]
    for name in kept[0][1]:
        slopes(name, [(at, found[name]) for at, found in kept], counts.total() / seconds)


def pids_of(pipeline: Pipeline) -> dict[str, int]:
    """Which processes these are."""
    return {name: process.pid for name, process in pipeline.processes().items()}


def slopes(name: str, found: list[tuple[float, tuple[float, int, int]]], rate: float) -> None:
    """Slopes after the warm-up, by least squares."""
    at = [time for time, _ in found]
    by_second = [linear_regression(at, [values[index] for _, values in found]).slope for index in range(3)]
    rises = [by_second[0] / rate, by_second[1] * 60, by_second[2] * 60]
    for (unit, most), rise, now in zip(FLAT.items(), rises, found[-1][1], strict=True):
        say(f"soak, {name}", unit.partition(" ")[0], unit, [rise], flat=rise <= most, now=round(now), bound=most)


def main() -> None:
    """`python -m bench.soak [SECONDS]`."""
    with running(POLICY) as pipeline:
        asyncio.run(soak(pipeline, float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))


if __name__ == "__main__":
    main()
