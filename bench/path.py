"""The whole path against its provider called directly, in turn: first token, chunk, stalls, whole answers, cache hits.

`sluice up` on Apache Kafka with the simulated provider; provider, pipeline and load share the machine. A broker's Java
runs its code slowly at first, so the path is warmed up before anything is measured.
"""

import asyncio
import time
from collections import Counter
from statistics import median
from typing import Any

import redis
import uvloop

from bench.common import check, quantile, say
from bench.load import Arrivals, body_of, client, together, whole, whole_answers
from bench.pipeline import Pipeline, cpu_between, running

ANSWER = "A short answer."
PACED, SHORT, CLOCK = "numbers?n=64&pace_ms=20", "numbers?n=3&pace_ms=20", "clock?n=64&pace_ms=20"
QUICK = f"say?text={ANSWER}&first_ms=20"
POLICY = f"""
version: 1
providers: {{simulated: {{kind: openai, base_url: "simulated:"}}}}
routes:
  paced: [{{provider: simulated, model: "{PACED}"}}]
  short: [{{provider: simulated, model: "{SHORT}"}}]
  clock: [{{provider: simulated, model: "{CLOCK}"}}]
  quick: [{{provider: simulated, model: "{QUICK}"}}]
tenants: {{demo: {{}}}}
rules: [{{id: r, kind: phrase, phrases: ["never to be said", "и этого не говорить"], action: stop}}]
timeouts: {{first_token_s: 60, deadline_s: 120}}
cache: {{when: deterministic}}
"""
WARM_UP_S = 45.0
"""By then the broker's compiler takes a few hundredths of a core, after 15 s still four tenths."""
STALL_MS = 200.0
ROUNDS = 3
ONE_BY_ONE = 20
"""Streams of a round that come one after the other."""
CHUNK_STREAMS, CHUNK_ROUNDS = 32, 9
"""A round's 99th percentile is its 20 slowest deltas: one moment in which the cores were busy with something else."""
RATES, RATE_S = (100, 200, 400, 600, 800), 3.0
PILED_UP_MS = 1000.0
HITS = 100
"""A round."""


def numbers(count: int) -> str:
    """What the provider says."""
    return "".join(f"{number} " for number in range(1, count + 1))


async def warm_up(pipeline: Pipeline) -> None:
    """Both kinds of load for a while."""
    until = time.monotonic() + WARM_UP_S
    while time.monotonic() < until:
        streams = together(pipeline.edge, pipeline.key, "paced", 32, 0.5)
        await asyncio.gather(streams, whole_answers(pipeline.edge, pipeline.key, "quick", 100, 1.5, text=ANSWER))


async def first_token_alone(pipeline: Pipeline) -> None:
    """Streams one after the other."""
    added: list[list[float]] = []
    for _ in range(ROUNDS):
        base, through = [], []
        for _ in range(ONE_BY_ONE):
            base += await together(pipeline.simulated, {}, SHORT, 1, 0)
            through += await together(pipeline.edge, pipeline.key, "short", 1, 0)
        check(all(s.done and s.text == numbers(3) for s in base + through), "a stream is not what the provider sent")
        added.append(added_ms(base, through))
    say_quantiles("first token, added", "1 stream", added)


def added_ms(base: list[Arrivals], through: list[Arrivals]) -> list[float]:
    """Times to the first token above the median of the direct calls of the same round."""
    direct = median(s.first_ms for s in base)
    return [s.first_ms - direct for s in through]


def say_quantiles(figure: str, case: str, rounds: list[list[float]], **more: Any) -> None:
    """Median and 99th percentile of each round."""
    for share in (0.5, 0.99):
        say(f"{figure}, p{share * 100:g}", case, "ms", [quantile(values, share) for values in rounds], **more)


async def paced(pipeline: Pipeline, count: int) -> None:
    """Streams of 64 deltas, one each 20 ms: time to the first token, stalls, CPU a delta."""
    added: list[list[float]] = []
    free: list[float] = []
    gaps: list[float] = []
    cpu: Counter[str] = Counter()
    for _ in range(ROUNDS):
        base = await together(pipeline.simulated, {}, PACED, count, 1.0)
        before = pipeline.cpu()
        through = await together(pipeline.edge, pipeline.key, "paced", count, 1.0)
        cpu.update(cpu_between(before, pipeline.cpu(), 64 * count * ROUNDS))
        check(all(s.done and s.text == numbers(64) for s in base + through), "a stream is not what the provider sent")
        added.append(added_ms(base, through))
        free.append(sum(s.longest_gap_ms <= STALL_MS for s in through))
        gaps.append(max(s.longest_gap_ms for s in through))
    say_quantiles("first token, added", f"{count} streams", added)
    say("longest gap", f"{count} streams", "ms", gaps)
    say("streams without a stall", f"of {count}", "streams", free, cpu_us_a_delta=dict(cpu))


async def chunks(pipeline: Pipeline) -> None:
    """Each delta says when the provider wrote it: its time to the client, above the median of the direct calls."""
    direct, added = [], []
    for _ in range(CHUNK_ROUNDS):
        base = delays_ms(await together(pipeline.simulated, {}, CLOCK, CHUNK_STREAMS, 1.0))
        through = delays_ms(await together(pipeline.edge, pipeline.key, "clock", CHUNK_STREAMS, 1.0))
        direct.append(base)
        added.append([delay - median(base) for delay in through])
    say_quantiles("chunk, direct", f"{CHUNK_STREAMS} streams", direct)
    say_quantiles("chunk, added", f"{CHUNK_STREAMS} streams", added)


def delays_ms(streams: list[Arrivals]) -> list[float]:
    """From the provider's writing of each delta to its arrival; a piece that came may hold several."""
    found = []
    for one in streams:
        written = [int(word) for word in one.text.split()]
        check(one.done and len(written) == 64 and written == sorted(written), "a stream is not what the provider sent")
        found += [at * 1e3 - int(word) / 1e6 for at, text in one.deltas for word in text.split()]
    return found


async def answers(pipeline: Pipeline, rate: int) -> bool:
    """Whole answers at a rate that nothing slows down; the provider waits 20 ms. False where they pile up."""
    direct, through = [], []
    cpu: Counter[str] = Counter()
    for _ in range(ROUNDS):
        direct.append(await whole_answers(pipeline.simulated, {}, QUICK, rate, 1, text=ANSWER))
        before = pipeline.cpu()
        through.append(await whole_answers(pipeline.edge, pipeline.key, "quick", rate, RATE_S, text=ANSWER))
        cpu.update(cpu_between(before, pipeline.cpu(), int(rate * RATE_S * ROUNDS)))
    failed = sum(took == float("inf") for values in through for took in values)
    say_quantiles("whole answer, direct", f"{rate} a second", direct)
    say_quantiles("whole answer", f"{rate} a second", through, failed=failed, cpu_us_an_answer=dict(cpu))
    return median(median(values) for values in through) < PILED_UP_MS


async def cache_hits(pipeline: Pipeline) -> None:
    """A stored answer end to end, beside the provider with its 20 ms and beside Redis asked for as many bytes."""
    body, direct = body_of("quick", temperature=0), body_of(QUICK, temperature=0)
    store = redis.Redis.from_url(pipeline.services["redis"])
    async with client() as session:
        give_up = time.monotonic() + 20
        while (await whole(session, pipeline.edge, pipeline.key, body))[2] != "hit":
            check(time.monotonic() < give_up, "an answer does not get into the cache")
        stored = max(store.scan_iter(), key=lambda name: store.type(name) == b"string" and store.strlen(name))
        times: dict[str, list[list[float]]] = {"hit": [], "provider": [], "redis": []}
        for _ in range(ROUNDS):
            for values in times.values():
                values.append([])
            for _ in range(HITS):
                marks = [time.monotonic()]
                hit = await whole(session, pipeline.edge, pipeline.key, body)
                marks.append(time.monotonic())
                called = await whole(session, pipeline.simulated, {}, direct)
                marks.append(time.monotonic())
                store.get(stored)
                marks.append(time.monotonic())
                check(hit == (200, ANSWER, "hit") and called == (200, ANSWER, ""), f"{hit}, direct {called}")
                for values, began, ended in zip(times.values(), marks, marks[1:], strict=False):
                    values[-1].append((ended - began) * 1000)
    for name, rounds in times.items():
        say_quantiles("cache", name, rounds)


async def measure(pipeline: Pipeline) -> None:
    """All figures, each beside its baseline of the same minute."""
    began = time.monotonic()
    await warm_up(pipeline)
    say("warm-up", "streams and whole answers", "s", [time.monotonic() - began])
    await first_token_alone(pipeline)
    for count in (32, 128, 256):
        await paced(pipeline, count)
    await chunks(pipeline)
    await cache_hits(pipeline)
    for rate in RATES:
        if not await answers(pipeline, rate):
            break  # a higher rate would only take longer to drain


def main() -> None:
    """Start the pipeline, measure, stop it."""
    with running(POLICY) as pipeline:
        uvloop.run(measure(pipeline))


if __name__ == "__main__":
    main()
