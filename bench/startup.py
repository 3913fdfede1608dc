"""How long `sluice up` takes to serve, and each stage to be back after `kill -9`: idle, and under open streams.

A stage is back when it has noted so itself. The time counts from the kill, with the supervisor's own pause before it
starts the stage again; `start` counts from the start of the new process. Readers come back by cursor.
"""

import asyncio
import signal
import sys
import time

import psutil

from bench.common import check, say
from bench.load import client
from bench.pipeline import Pipeline, running
from bench.reader import Followed, Reader

STAGES = ("admission", "dispatch", "guard", "fill", "health", "sink", "edge")
STARTS, STREAMS = 3, 128
N, PACE_MS = 80, 100
TEXT = "".join(f"{number} " for number in range(1, N + 1))
BACK_S = 30.0
POLICY = f"""
version: 1
providers: {{simulated: {{kind: openai, base_url: "simulated:"}}}}
routes: {{steady: [{{provider: simulated, model: "numbers?n={N}&pace_ms={PACE_MS}"}}]}}
tenants: {{demo: {{}}}}
cache: {{when: never}}
"""


async def kill(pipeline: Pipeline, stage: str) -> tuple[float, float]:
    """Kill a stage; seconds until its successor is ready, from the kill and from the successor's own start."""
    file = pipeline.ready_file(stage)
    old = pipeline.processes()[stage]
    killed = time.time()
    old.send_signal(signal.SIGKILL)
    while True:
        check(time.time() < killed + BACK_S, f"{stage} is not back after {BACK_S:g} s")
        await asyncio.sleep(0.005)  # a file is looked for: nothing tells of it
        try:
            ready = file.stat().st_mtime
        except FileNotFoundError:
            continue
        new = pipeline.processes().get(stage)
        if ready > killed and new is not None and new.pid != old.pid:
            return ready - killed, ready - started_at(new)


def started_at(process: psutil.Process) -> float:
    """When a process began, by the clock that files are dated with; psutil's own answer may be a second off."""
    since_boot = process.create_time() - psutil.boot_time()
    return float(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot)


async def recovery(pipeline: Pipeline, stage: str) -> None:
    """Kill a stage under open streams; each must come to its end, whole unless its provider call was cut."""
    async with client() as session, Reader(session, pipeline.edge, pipeline.key) as reader:
        streams = await asyncio.gather(*(reader.submit("steady") for _ in range(STREAMS)))
        for stream in streams:
            await reader.wait(stream.began.wait())
        back, started = await kill(pipeline, stage)
        for stream in streams:
            await reader.wait(stream.ended.wait())
            check_end(stream, stage)
    gap = max(stream.longest_gap_s for stream in streams)
    say("recovery", f"{stage}, {STREAMS} open streams", "s", [back], start_s=round(started, 2))
    say("longest gap a reader saw", f"{stage} killed", "s", [gap], pace_s=PACE_MS / 1000)


def check_end(stream: Followed, stage: str) -> None:
    """Nothing of a stream is missing; one whose dispatch was killed says so."""
    if stage == "dispatch":
        check(stream.outcome == ("failed", "interrupted"), f"a stream of a killed dispatch ended {stream.outcome}")
        check(TEXT.startswith(stream.text), f"not what the provider sent: {stream.text!r}")
    else:
        check(stream.outcome == ("completed", "stop"), f"{stage} killed: a stream ended {stream.outcome}")
        check(stream.text == TEXT, f"{stage} killed: not what the provider sent: {stream.text!r}")


async def stages(pipeline: Pipeline, names: list[str]) -> None:
    """Each stage in turn: first alone, then under load."""
    for name in names:
        back, started = await kill(pipeline, name)
        say("start of a stage", name, "s", [started], after_kill_s=round(back, 2))
    for name in names:
        await recovery(pipeline, name)


def main() -> None:
    """`python -m bench.startup [STAGE…]`."""
    times = []
    for last in [False] * (STARTS - 1) + [True]:
        with running(POLICY) as pipeline:
            times.append(pipeline.started_s)
            if last:
                say("start of the pipeline", "no home yet, jars there", "s", times)
                asyncio.run(stages(pipeline, sys.argv[1:] or list(STAGES)))


if __name__ == "__main__":
    main()
