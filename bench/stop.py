"""How soon a provider's connection is closed after the chunk that a rule stops at: the whole path, the provider's word.

The offending text is the first delta, written with the head of the answer; nothing follows it for seconds. So the time
from the call's begin to its close is the whole way: dispatch, journal, guard, journal, dispatch. Alone, and beside
streams that go on.
"""

import asyncio
import time

import aiohttp
import orjson
import uvloop

from bench.common import check, quantile, say
from bench.load import COMPLETIONS, client, together
from bench.pipeline import Pipeline, running

STOPS, WARM_UP_S, BESIDE = 50, 30.0, 32
GOAL_MS = 100
PACED = "numbers?n=400&pace_ms=20"
POLICY = f"""
version: 1
providers: {{simulated: {{kind: openai, base_url: "simulated:"}}}}
routes:
  leaky: [{{provider: simulated, model: script}}]
  paced: [{{provider: simulated, model: "{PACED}"}}]
tenants: {{demo: {{}}}}
rules: [{{id: codename, kind: phrase, phrases: ["project nightfall"], action: stop}}]
timeouts: {{first_token_s: 60, between_tokens_s: 60, deadline_s: 120}}
"""
SAID = {"simulate": {"deltas": ["project nightfall. ", "It goes on."], "pace_ms": 20_000}}


async def stopped(session: aiohttp.ClientSession, pipeline: Pipeline) -> None:
    """One answer, which has to end as stopped with nothing of it released."""
    asked = orjson.dumps({"model": "leaky", "stream": True, "messages": [{"role": "user", "content": _text(SAID)}]})
    async with session.post(pipeline.edge + COMPLETIONS, data=asked, headers=pipeline.key) as answer:
        text = (await answer.read()).decode()
    check("content_filter" in text and "nightfall" not in text, f"{answer.status} {text[-500:]!r}")


async def closes(pipeline: Pipeline, count: int) -> list[float]:
    """Milliseconds from each call's begin to its close."""
    root = pipeline.simulated.removesuffix("/v1")
    async with client() as session:
        await session.delete(f"{root}/_simulated/calls")
        for _ in range(count):
            await stopped(session, pipeline)
        await asyncio.sleep(0.5)
        async with session.get(f"{root}/_simulated/calls") as answer:
            calls = [call for call in orjson.loads(await answer.read())["calls"] if call["model"] == "script"]
    check(len(calls) == count, f"{len(calls)} calls for {count} answers")
    check(all(call["how"] == "client_closed" for call in calls), "a call was not closed")
    return [(call["ended_monotonic"] - call["started_monotonic"]) * 1000 for call in calls]


def tell(case: str, times: list[float]) -> None:
    """Median and maximum."""
    late = sum(took > GOAL_MS for took in times)
    say("connection closed, p50", case, "ms", [quantile(times, 0.5)], goal=GOAL_MS)
    say("connection closed, max", case, "ms", [max(times)], goal=GOAL_MS, stops=len(times), late=late)


async def measure(pipeline: Pipeline) -> None:
    """Alone, then beside others."""
    until = time.monotonic() + WARM_UP_S
    while time.monotonic() < until:
        await asyncio.gather(together(pipeline.edge, pipeline.key, "paced", BESIDE, 0.5), closes(pipeline, 5))
    tell("alone", await closes(pipeline, STOPS))
    others = asyncio.create_task(together(pipeline.edge, pipeline.key, "paced", BESIDE, 1.0))
    await asyncio.sleep(1.5)
    tell(f"beside {BESIDE} streams", await closes(pipeline, STOPS))
    check(all(stream.done for stream in await others), "a stream beside did not end")


def _text(value: object) -> str:
    return orjson.dumps(value).decode()


def main() -> None:
    """Start the pipeline, measure, stop it."""
    with running(POLICY) as pipeline:
        uvloop.run(measure(pipeline))


if __name__ == "__main__":
    main()
