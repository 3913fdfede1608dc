"""What an open stream costs in memory, stage by stage, and what many silent streams cost in CPU.

Streams that say one word and then nothing for a while are opened until so many are open; then all are cancelled, and
each must end, at its reader and at the provider.
"""

import asyncio
import sys
import time

import aiohttp
import orjson

from bench.common import check, say
from bench.load import client
from bench.pipeline import Pipeline, running
from bench.reader import Followed, Reader

COUNTS = (100, 1000, 5000)
STAGES = ("edge", "dispatch", "guard")
A_SOCKET, WAVE = 1000, 50
SETTLE_S = 5.0
POLICY = """
version: 1
providers: {simulated: {kind: openai, base_url: "simulated:"}}
routes: {silent: [{provider: simulated, model: "endless?pace_ms=60000"}]}
tenants: {demo: {}}
timeouts: {between_tokens_s: 300, idle_s: 300, deadline_s: 300}
cache: {when: never}
"""


class Open:
    """The open streams, a thousand a socket."""

    def __init__(self, session: aiohttp.ClientSession, pipeline: Pipeline) -> None:
        self._session, self._pipeline = session, pipeline
        self._readers: list[Reader] = []
        self.streams: list[tuple[Reader, Followed]] = []

    async def up_to(self, count: int) -> None:
        """Open more, in waves: the next when all of one have begun."""
        while len(self.streams) < count:
            if len(self.streams) >= A_SOCKET * len(self._readers):
                self._readers.append(await Reader(self._session, self._pipeline.edge, self._pipeline.key).__aenter__())
            reader = self._readers[-1]
            wave = await asyncio.gather(*(reader.submit("silent") for _ in range(min(WAVE, count - len(self.streams)))))
            for stream in wave:
                await reader.wait(stream.began.wait())
                self.streams.append((reader, stream))

    async def cancel(self) -> float:
        """End all of them, in waves; how long that took, in seconds."""
        began = time.monotonic()
        for first in range(0, len(self.streams), WAVE):
            wave = self.streams[first : first + WAVE]
            for reader, stream in wave:
                await reader.cancel(stream)
            for reader, stream in wave:
                await reader.wait(stream.ended.wait())
                check(stream.end["status"] == "cancelled", f"a cancelled stream ended {stream.outcome}")
        return time.monotonic() - began

    async def close(self) -> None:
        for reader in self._readers:
            await reader.__aexit__()


def megabytes(pipeline: Pipeline) -> dict[str, tuple[float, float]]:
    """Memory that is a stage's own, and with its share of what is shared."""
    processes = pipeline.processes()
    found = {name: processes[name].memory_full_info() for name in STAGES}
    return {name: (info.uss / 1e6, info.pss / 1e6) for name, info in found.items()}


async def measure(pipeline: Pipeline, counts: list[int]) -> None:
    """All counts, one after the other."""
    async with client(300) as session:
        warm = Open(session, pipeline)
        await warm.up_to(WAVE)
        await warm.cancel()
        streams, before = Open(session, pipeline), megabytes(pipeline)
        last: tuple[int, dict[str, tuple[float, float]]] = (0, before)
        for count in counts:
            began = time.monotonic()
            await streams.up_to(count)
            opened_s = time.monotonic() - began
            cpu = pipeline.cpu()
            await asyncio.sleep(SETTLE_S)  # for what a stage does about streams that last; and to count CPU
            busy = {name: round((value - cpu[name]) / SETTLE_S * 1000) for name, value in pipeline.cpu().items()}
            now = megabytes(pipeline)
            case = f"{count} open streams"
            for name in STAGES:
                slope = (now[name][0] - last[1][name][0]) / (count - last[0]) * 1000
                say(
                    f"memory, {name}",
                    case,
                    "MB",
                    [now[name][0]],
                    pss=round(now[name][1], 1),
                    kb_a_stream=round(slope, 1),
                )
            say("silent streams, CPU", case, "ms/s", [sum(busy.values())], by=busy, opened_s=round(opened_s, 1))
            last = (count, now)
        took = await streams.cancel()
        say("all cancelled", f"{counts[-1]} open streams", "s", [took])
        await check_calls(session, pipeline, counts[-1] + WAVE)
        await asyncio.sleep(SETTLE_S)
        for name, (uss, _) in megabytes(pipeline).items():
            say(f"memory, {name}", "after all have ended", "MB", [uss], before=round(before[name][0], 1))
        await warm.close()
        await streams.close()


async def check_calls(session: aiohttp.ClientSession, pipeline: Pipeline, count: int) -> None:
    """The provider has had one call a request, and all were closed by us."""
    root = pipeline.simulated.removesuffix("/v1")
    async with session.get(f"{root}/_simulated/calls") as answer:
        calls = orjson.loads(await answer.read())["calls"]
    ends = [call["how"] for call in calls]
    check(
        ends == ["client_closed"] * count, f"{len(ends)} calls for {count} requests, of which {ends.count(None)} go on"
    )


def main() -> None:
    """`python -m bench.memory [COUNT…]`."""
    with running(POLICY) as pipeline:
        asyncio.run(measure(pipeline, [int(word) for word in sys.argv[1:]] or list(COUNTS)))


if __name__ == "__main__":
    main()
