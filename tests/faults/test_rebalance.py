"""Workers come and go; one that was frozen wakes up where another has its place: then the whole truth is checked."""

import contextlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise

import psutil
import pytest
from confluent_kafka import TopicPartition

from connectors.kafka.batches import SESSION_MS
from connectors.kafka.snapshots import TOPIC as SNAPSHOTS
from processors.guard.keep import OPEN
from streams import topology
from tests.faults.evidence import Kill
from tests.faults.gather import consumer, gather, mark
from tests.faults.load import Load
from tests.faults.system import System
from tests.faults.truth import violations

pytestmark = pytest.mark.kafka

STAGES = ("admission", "dispatch", "guard", "sink", "fill")
"""Those that may have several workers."""
TOGETHER = (("dispatch",), ("admission", "guard", "sink", "fill"))
"""Frozen under one load where not all counts are run: dispatch alone, for it takes the open streams with it."""
MAY_FAIL = {"interrupted": "dispatch", "shutdown": "dispatch"}
"""A dispatch that is frozen is taken for dead after two silent seconds; one that is fenced ends its own runs."""
HANGS_S = 120.0
"""Guards against hanging."""
KEPT_S = 6.0
"""A stream that is open for so long stands in a snapshot."""
WOKEN_S = 3.0
"""In which one that wakes up has read, written and committed, or was refused: a heartbeat is sent each second."""
Places = dict[tuple[str, str, int], int]
"""Committed offsets by group, topic and partition."""


@pytest.fixture(params=["dispatch-guard", *STAGES])
def joining(request: pytest.FixtureRequest, full: bool) -> list[str]:
    """Who gets a second worker under one load: in full each stage alone, else those that hold streams."""
    names = str(request.param).split("-")
    if full == (len(names) > 1):
        pytest.skip("the other counts are run")
    return names


@pytest.mark.timeout(600)
def test_a_second_worker_joins_and_leaves(system: System, joining: list[str], seed: int, full: bool) -> None:
    dice = random.Random(f"{seed} joins {joining}")
    since = mark(system)
    with Load(system, seed=seed, streams=200 if full else 20, seconds=(2, 8)) as load:
        load.flowing()
        for _ in range(3 if full else 1):
            dice.shuffle(joining)
            with ExitStack() as stack:
                seconds = {stage: stack.enter_context(system.second(stage)) for stage in joining}
                for stage in joining:
                    await_workers(system, stage, 0, 1)
                time.sleep(dice.uniform(0, 2))  # the moment is the seed's
                for process in seconds.values():
                    process.terminate()
                for stage, process in seconds.items():
                    assert process.wait(HANGS_S) == 0, stage
                for stage in joining:
                    await_workers(system, stage, 0)
    assert violations(gather(system, since, load.held)) == []


@pytest.fixture(params=["-".join(names) for names in TOGETHER] + list(STAGES[:1] + STAGES[2:]))
def freezing(request: pytest.FixtureRequest, full: bool) -> list[str]:
    """Who is frozen under one load."""
    names = str(request.param).split("-")
    if full == (len(names) > 1) and names != ["dispatch"]:
        pytest.skip("the other counts are run")
    return names


@pytest.mark.timeout(600)
def test_one_that_was_frozen_and_replaced_wakes_up(
    system: System, freezing: list[str], seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replaced by one with its own instance id or with another, as the seed says. It may repeat what it has written
    and no more, so that those who read after it, its own successor first, find everything."""
    dice = random.Random(f"{seed} freezes {freezing}")
    instances = {stage: dice.randrange(2) for stage in freezing}
    since = mark(system)
    places: list[Places] = []
    seconds = (4, 24 if full else 14) if "guard" in freezing else (2, 8)
    with Load(system, seed=seed, streams=200 if full else 20, seconds=seconds) as load, ExitStack() as stack:
        load.flowing()
        oldest = load.held[0].asked_at
        until(lambda: time.monotonic() - oldest > KEPT_S, "no stream is kept")
        frozen = {stage: system.freeze(stage) for stage in freezing}
        stack.callback(wake_all, list(frozen.values()))
        others = {stage: stack.enter_context(system.second(stage, instances[stage])) for stage in freezing}
        for stage in freezing:
            await_workers(system, stage, instances[stage])
        until(lambda: time.monotonic() - max(kill.at for kill in frozen.values()) > SESSION_MS / 1000 + 1, "no time")
        before = arrived(load)
        until(lambda: arrived(load) > before, "nothing moves without those that are frozen")
        kills = [system.wake(kill) for kill in frozen.values()]
        woken, woken_ms = time.monotonic(), time.time() * 1000
        gone: dict[str, Kill] = {}
        while time.monotonic() < woken + WOKEN_S:
            places.append(committed(system, freezing))
            for stage, process in others.items():  # its place is taken back by the woken one's own successor
                if process.poll() is not None:
                    gone.setdefault(stage, Kill(stage, woken_ms, woken, process.pid, time.time() * 1000))
            time.sleep(0.05)
        for process in others.values():
            if process.poll() is None:
                process.terminate()
        for stage, process in others.items():
            if process.wait(HANGS_S) != 0:
                gone.setdefault(stage, Kill(stage, woken_ms, woken, process.pid, time.time() * 1000))
            await_workers(system, stage, 0)
            places.append(committed(system, freezing))
    with capsys.disabled():
        print(f"\nreplaced by instance: {instances}; ended by the woken one: {list(gone)}; {len(load.held)} streams")
    assert violations(gather(system, since, load.held, [*kills, *gone.values()]), MAY_FAIL) == []
    assert list(moved_back(places)) == []
    assert list(stale(snapshots(system))) == []


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what is announced by nothing."""
    give_up = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


def await_workers(system: System, stage: str, *instances: int) -> None:
    """Until these and no others have partitions."""
    wanted = {f"{stage}-{instance}" for instance in instances}
    until(lambda: set(+system.owners(stage)) == wanted, f"{stage} is not shared by {wanted}: {system.log(stage)}")


def arrived(load: Load) -> int:
    """How many records the clients have."""
    return sum(len(held.arrivals) for held in list(load.held))


def wake_all(frozen: list[Kill]) -> None:
    """Also where a test has failed: a frozen process would outlive it."""
    for kill in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(kill.pid).resume()


def committed(system: System, stages: list[str]) -> Places:
    """Where each group stands."""
    shape = topology.load()
    found: Places = {}
    for stage in stages:
        asked = [
            TopicPartition(topic, number)
            for topic in shape.stages[stage].reads
            for number in range(shape.partitions_of(topic))
        ]
        with consumer(system, stage) as reader:
            found |= {(stage, p.topic, p.partition): p.offset for p in reader.committed(asked, timeout=20)}
    return found


def moved_back(places: list[Places]) -> Iterator[str]:
    """Commits of one that had lost its place. Faust may commit, once its partitions have come back, what it had in hand
    when they went: the answers behind it are kept again under their keys, which changes nothing."""
    faust = {stage for stage, entry in topology.load().stages.items() if entry.runtime == "faust"}
    for earlier, later in pairwise(places):
        for name in earlier.keys() & later.keys():
            if later[name] < earlier[name] and name[0] not in faust:
                yield f"{name} was committed as {earlier[name]}, then as {later[name]}"


def snapshots(system: System) -> list[tuple[str, bytes | None]]:
    """What the guard kept of open requests, in the order of the log."""
    found: list[tuple[str, bytes | None]] = []
    with consumer(system) as reader:
        for number in range(topology.load().partitions_of(SNAPSHOTS)):
            begin, end = reader.get_watermark_offsets(TopicPartition(SNAPSHOTS, number), timeout=20)
            reader.assign([TopicPartition(SNAPSHOTS, number, begin)])
            while begin < end and reader.position([TopicPartition(SNAPSHOTS, number)])[0].offset < end:
                found += [((one.key() or b"").decode(), one.value()) for one in reader.consume(1000, 0.5)]
    return [(key, value) for key, value in found if key.startswith(OPEN)]


def stale(kept: list[tuple[str, bytes | None]]) -> Iterator[str]:
    """Snapshots that are older than what stood there before: a rebuild would miss what lies between."""
    reached: dict[str, float] = defaultdict(int)
    for key, value in kept:
        at = float("inf") if value is None else json.loads(value)["last_offset"]
        if at < reached[key]:
            yield f"{key} was kept up to {reached[key]}, then up to {at}"
        reached[key] = max(reached[key], at)


def test_a_commit_of_one_that_had_lost_its_place_is_seen() -> None:
    place = ("guard", "journal", 0)
    assert list(moved_back([{place: 5}, {place: 5}, {place: 9}])) == []
    assert len(list(moved_back([{place: 5}, {place: 9}, {place: 8}]))) == 1
    kept_again = ("fill", "answers", 0)
    assert list(moved_back([{kept_again: 9}, {kept_again: 8}])) == []


def test_a_snapshot_of_one_that_had_lost_its_place_is_seen() -> None:
    good: list[tuple[str, bytes | None]] = [("a", b'{"last_offset": 5}'), ("a", b'{"last_offset": 9}'), ("a", None)]
    assert list(stale([*good, ("b", b'{"last_offset": 3}')])) == []
    assert len(list(stale([*good, ("a", b'{"last_offset": 9}')]))) == 1
    assert len(list(stale([*good[1::-1]]))) == 1
