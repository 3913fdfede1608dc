"""Provider faults: a thousand requests through everything a provider can do wrong, each followed by a good one.

Each ends rightly and in time, the next good request is served at once, and dispatch is left as it was. The seed fixes
the faults and their order. A tenth of them without `--full`.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.e2e.pipeline import Pipeline, running
from tests.faults import provider_checks as check
from tests.faults.provider_checks import Call, Event, Held
from tests.faults.provider_clients import Clients
from tests.faults.provider_mix import INTERRUPTED, KINDS, Case, draw

POLICY = Path(__file__).with_name("provider.yaml")
AT_A_TIME = 25
MEMORY_BYTES = 64 << 20
"""How much dispatch may grow while calls at the same time are sent 100 MB each."""
POOL_EMPTY_S = 15.0
"""An idle connection is kept for 4 s, and looked at as often; the rest is slack."""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running(tmp_path_factory.mktemp("provider"), policy=POLICY) as started:
        yield started


@pytest.mark.kafka
@pytest.mark.timeout(580)
async def test_every_fault_ends_rightly_and_the_next_request_is_served(
    pipeline: Pipeline, request: pytest.FixtureRequest
) -> None:
    count = 1000 if request.config.getoption("--full", default=False) else 100
    seed = request.config.getoption("--seed", default=None) or 1
    print(f"seed {seed}")
    dispatch = pipeline.stage("dispatch")
    files = dispatch.num_fds()
    await warm_up(pipeline, seed)
    with sampled(dispatch) as memory:
        held = await ask_all(pipeline, draw(seed, count))
    streams, journal = await asyncio.to_thread(read_all, pipeline, held)
    calls = defaultdict(list)
    for call in pipeline.provider_calls():
        calls[call["request_id"]].append(call)

    wrong = sorted(complaints(held, streams, journal, calls), key=lambda words: " took " in words)
    assert not wrong, f"seed {seed}: {len(wrong)} of {len(held)}\n" + "\n".join(wrong[:20])
    assert covered(held, streams) == [], f"seed {seed}"
    grown = max(memory) - memory[0]
    assert grown < MEMORY_BYTES
    left = await asyncio.to_thread(connections_left, pipeline, dispatch)
    opened = dispatch.num_fds() - files
    assert (left, opened <= 2) == (0, True), opened
    slowest = sorted(one.seconds for one in held if one.case.kind == "good")
    print(
        f"good: p50 {slowest[count // 2]:.3f} s, longest {slowest[-1]:.3f} s; memory {grown >> 20} MiB, {opened} files"
    )


async def warm_up(pipeline: Pipeline, seed: int) -> None:
    """Good requests only, of which the provider then knows nothing."""
    warm = [(replace(good, tag="warm"), replace(good, tag="warm")) for _, good in draw(seed, AT_A_TIME)]
    for one in await ask_all(pipeline, warm):
        assert one.http == 200
    async with aiohttp.ClientSession() as http:
        await http.delete(f"{pipeline.services['simulated']}/_simulated/calls")


async def ask_all(pipeline: Pipeline, cases: list[tuple[Case, Case]]) -> list[Held]:
    """Each fault is followed by its good request, and both by the next of the list."""
    held: list[Held] = []
    waiting = iter(cases)
    headers = {"Authorization": f"Bearer {pipeline.key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(pipeline.url, headers=headers, connector=connector) as http:
        clients = Clients(pipeline, http)

        async def work() -> None:
            for bad, good in waiting:
                held.append(await clients.ask(bad))
                held.append(await clients.ask(good))

        await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return held


def complaints(
    held: list[Held],
    streams: dict[str, list[Event]],
    journal: dict[str, list[Event]],
    calls: dict[str, list[Call]],
) -> Iterator[str]:
    """Everything that is wrong, by request."""
    for one in held:
        stream, facts = streams[one.case.tag], journal[one.case.tag]
        runs = {event["run"] for event in facts if event["type"] == "run_started"}
        found = check.of_stream(one.case, stream)
        if not found:
            found += check.of_client(one, stream)
            found += check.of_calls(one, stream[-1], facts, [call for run in runs for call in calls[run]])
        for words in found or check.of_time(one):
            yield f"{one.case.tag} {one.case.kind} ({one.case.client}, {one.case.model}): {words}\n  {one.case.options}"
    known = {event["run"] for facts in journal.values() for event in facts if event["type"] == "run_started"}
    for run in calls.keys() - known:
        yield f"a call that no run of the journal made: {run}"


def covered(held: list[Held], streams: dict[str, list[Event]]) -> list[str]:
    """What the mix should have shown, and did not: a fault that is never seen proves nothing."""
    ends = defaultdict(Counter)
    for one in held:
        ends[one.case.kind][check.ending(streams[one.case.tag][-1])] += 1
    missing = [name for name in KINDS if not ends[name]]
    broken = {name for name, kind in KINDS.items() if kind.breaks}
    missing += [f"{name}, after text" for name in broken if not ends[name][INTERRUPTED]]
    second = sum(streams[one.case.tag][-1].get("attempts", 1) == 2 for one in held if one.case.two)
    two = sum(one.case.two for one in held)
    return missing + ([] if second > two / 5 else [f"a second candidate: {second} of {two}"])


@contextmanager
def sampled(process: psutil.Process) -> Iterator[list[int]]:
    """The process's memory, every 20 ms."""
    memory, over = [process.memory_info().rss], threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            memory.append(process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def read_all(
    pipeline: Pipeline, held: list[Held], timeout_s: float = 30.0
) -> tuple[dict[str, list[Event]], dict[str, list[Event]]]:
    """Topics `tokens` and `journal` by the requests' tags, up to the end of each stream and each run."""
    by_id: dict[str, dict[str, list[Event]]] = {name: defaultdict(list) for name in ("tokens", "journal")}
    consumer = Consumer({"bootstrap.servers": pipeline.kafka, "group.id": "faults", "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(topic, number, 0) for topic in by_id for number in range(4)])
    wanted, open_runs, ended, tags = {one.case.tag for one in held}, set(), set(), {}
    give_up = time.monotonic() + timeout_s
    try:
        while time.monotonic() < give_up and (wanted - ended or open_runs):
            for message in consumer.consume(2000, 0.2):
                assert message.error() is None, message.error()
                event = json.loads(message.value() or b"{}")
                kind, request = event.get("type"), event.get("id")
                if kind == "end":
                    ended.add(event.get("user"))
                elif kind == "decision":
                    tags[request] = event.get("user") or tags.get(request)
                elif kind in ("run_started", "run_ended"):
                    open_runs ^= {event["run"]}
                if kind in ("tokens", "end", "run_started", "run_ended"):
                    by_id[message.topic() or ""][request].append(event | {"at_ms": message.timestamp()[1]})
    finally:
        consumer.close()
    streams, journal = (
        defaultdict(list, {tags[request]: events for request, events in found.items()}) for found in by_id.values()
    )
    return streams, journal


def connections_left(pipeline: Pipeline, dispatch: psutil.Process) -> int:
    """Connections to the provider that stay open once the pool has had time to let its idle ones go."""
    port = urlsplit(pipeline.services["simulated"]).port
    give_up = time.monotonic() + POOL_EMPTY_S
    while True:
        left = sum(bool(one.raddr) and one.raddr.port == port for one in dispatch.net_connections("tcp"))
        if not left or time.monotonic() > give_up:
            return left
        time.sleep(0.1)  # the kernel's table: there is nothing to wait on


def test_the_control_what_a_process_holds_is_seen() -> None:
    """Of a process with nothing to give back meanwhile, as ours may have after other tests."""
    holds = f"input(); held = b'x' * {2 * MEMORY_BYTES}; input()"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        with sampled(psutil.Process(child.pid)) as memory:
            print("now", file=child.stdin, flush=True)
            give_up = time.monotonic() + 10
            while max(memory) - memory[0] < MEMORY_BYTES and time.monotonic() < give_up:
                time.sleep(0.02)
        child.communicate("enough\n")
    assert max(memory) - memory[0] > MEMORY_BYTES
