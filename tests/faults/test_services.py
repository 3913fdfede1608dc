"""Broker, Redis and ClickHouse killed, slow, refusing, without room: streams go on, nothing is lost or doubled."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from statistics import quantiles
from typing import NamedTuple

import pytest

from connectors.clickhouse.client import ClickHouse
from connectors.edge.publish import ACK_S
from connectors.local.clickhouse import LocalClickHouse
from connectors.redis.reader import COOL_OFF_S, READ_TIMEOUT_S
from processors.sink.rows import TABLES
from tests.connectors.clickhouse.lossy import LossyProxy
from tests.connectors.local.small_disk import SmallDisk
from tests.faults.clients import ask_plainly
from tests.faults.evidence import Evidence, Held, Kill
from tests.faults.gather import gather, mark
from tests.faults.load import Load
from tests.faults.scripts import Asked
from tests.faults.system import POLICY, System, started, stopped, strike
from tests.faults.truth import violations

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

GIVE_UP_S = 60.0
"""Guards against hanging."""
SLACK_S = 2.0
"""What a busy machine may add to a bound that the code states."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> LocalClickHouse:
    return LocalClickHouse(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def proxy(house: LocalClickHouse) -> Iterator[LossyProxy]:
    """Stands between the sink and ClickHouse; the evidence is gathered without it."""
    made = LossyProxy(house.address)
    yield made
    made.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, house: LocalClickHouse, proxy: LossyProxy) -> Iterator[System]:
    """One system for the tests of this file; each leaves it whole. Readers may stay away while a broker starts."""
    home = tmp_path_factory.mktemp("system")
    policy = home / "policy.yaml"
    policy.write_text(POLICY.read_text().replace("resume_grace_s: 5", "resume_grace_s: 60"))
    with started(home, policy, clickhouse=house, SLUICE_CLICKHOUSE=proxy.url) as running:
        keep_repeats(house)
        yield running


def keep_repeats(house: LocalClickHouse) -> None:
    """No merges, which would drop what the sink has inserted twice before anyone sees it."""
    with closing(ClickHouse(house.address)) as client:
        for table in TABLES.values():
            client.command(f"SYSTEM STOP MERGES sluice.{table.log}")


def until(done: Callable[[], bool]) -> None:
    """Wait for something that nothing announces."""
    give_up = time.monotonic() + GIVE_UP_S
    while not done():
        assert time.monotonic() < give_up, "it does not come to pass"
        time.sleep(0.02)


# The broker


def refused_clearly(system: System, load: Load, key: str) -> list[str]:
    """What is not as promised to those who ask while the broker is away."""
    asked = Asked(key, "whole", ("a word ", "and another"), 0, 0)
    held = Held(asked, asked_at=time.monotonic(), outcome="refused", status=503)
    knock = partial(ask_plainly, system.edges[0], system.key)
    load.held.append(held)  # the log may take it later: whether it will, the edge cannot know
    first, second = (knock("/v1/chat/completions", asked.body()) for _ in range(2))
    wrong = [
        f"asked while the broker was away, a client was told {told}"
        for told, bound in ((first, ACK_S + SLACK_S), (second, SLACK_S))
        if (told.status, told.code) != (503, "log_unreachable") or not told.retry_after or told.took_s > bound
    ]
    readiness = knock("/readyz")
    return wrong + ([f"/readyz says {readiness}"] if readiness.status != 503 else [])


def test_a_killed_broker_loses_and_doubles_nothing(
    system: System, seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(f"{seed} broker")
    since = mark(system)
    outages: list[Kill] = []
    """When each ended: it hit who asked before, and has an end after."""
    wrong: list[str] = []
    with Load(system, seed=seed, streams=200 if full else 20, seconds=(1, 20 if full else 8)) as load:
        load.flowing()
        for number in range(5 if full else 1):
            time.sleep(dice.uniform(0, 1.5))  # the moment is the seed's
            kill = strike("kafka")
            system.kafka.kill()
            wrong += refused_clearly(system, load, f"probe {since.lowest_id} {number}")
            system.kafka.start()
            outages.append(strike("outage"))
            load.served(10)
            with capsys.disabled():
                away, text = outages[-1].at - kill.at, load.moved_again(kill)
                print(f"\nbroker: away for {away:.1f} s, text after {text:.1f} s")
    evidence = gather(system, since, load.held, outages)
    assert violations(evidence, {"reader_gone": "outage"}) == []
    assert left_unasked(evidence) == []
    assert wrong == []


def left_unasked(evidence: Evidence) -> list[str]:
    """Requests cancelled as left by their reader, whose client was not told 503 and sent away."""
    told = {held.asked.key: f"{held.status} {held.outcome}" for held in evidence.held}
    away = {held.asked.key for held in evidence.held if held.status == 503}
    asked = {r.event["id"]: r.event["metadata"]["asked"] for r in evidence.topics["requests"] if "metadata" in r.event}
    ends = evidence.events("tokens", "end")
    left = [asked[r.event["id"]] for r in ends if r.event["status"] == "cancelled"]
    return [f"{key} was told {told.get(key)}" for key in left if key not in away]


# Redis


class Wait(NamedTuple):
    """How long a request that looks into the cache waited for its decision, by the log's own times."""

    begun_ms: float
    ms: float
    cached: bool


def waits(evidence: Evidence) -> list[Wait]:
    decisions = {r.event["id"]: r for r in reversed(evidence.events("journal", "decision")) if r.event["attempt"] == 1}
    return [
        Wait(record.at_ms, decision.at_ms - record.at_ms, decision.event["choice"]["type"] == "cached")
        for record in evidence.topics["requests"]
        if (decision := decisions.get(record.event["id"])) is not None
    ]


def between(found: list[Wait], begin: Kill, end: Kill) -> list[Wait]:
    return [wait for wait in found if begin.at_ms < wait.begun_ms < end.at_ms]


def held_up_by_redis(calm: list[Wait], away: list[Wait]) -> list[str]:
    """A look-up costs at most its time-out, and the one behind it in the same batch's wait another; p90 of each, with
    0.2 s for a busy machine."""
    bound = p90(calm) + 2 * READ_TIMEOUT_S * 1000 + 200
    return [f"p90 of the wait for a decision: {p90(away)} ms, at most {bound}"] if p90(away) > bound else []


def p90(found: list[Wait]) -> float:
    return quantiles([wait.ms for wait in found], n=10)[-1]


def test_requests_go_on_as_misses_while_redis_hangs_or_is_away(
    system: System, seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    since, away_s = mark(system), 8.0 if full else 3.0
    begun = strike("begun")
    with Load(
        system, seed=seed, streams=60 if full else 12, seconds=(0.3, 0.8), hows=("ws", "kafka"), repeated=0.8
    ) as load:
        load.flowing()
        load.served(40)  # by now the cache answers
        with stopped(system.redis.pid) as hung:
            time.sleep(away_s)
            awake = strike("awake")
        time.sleep(COOL_OFF_S)
        load.served(20)
        system.redis.kill()
        killed = strike("redis")  # after it, and before its return: in between nothing can be a hit
        time.sleep(away_s)
        back = strike("back")
        system.redis.start()
        time.sleep(COOL_OFF_S)
        load.served(40)
        end = strike("end")
    evidence = gather(system, since, load.held)
    assert violations(evidence) == []
    found = waits(evidence)
    calm, hanging, gone = (between(found, *span) for span in ((begun, hung), (hung, awake), (killed, back)))
    with capsys.disabled():
        print(
            f"\nwait for a decision, p90: {p90(calm)} ms, {p90(hanging)} with a Redis that hangs, {p90(gone)} without"
        )
    assert all(any(wait.cached for wait in span) for span in (calm, between(found, awake, killed)))
    assert any(wait.cached for wait in between(found, back, end))
    settled = Kill("settled", hung.at_ms + 200, 0)  # what was looked up before has its decision by then
    # What is asked shortly before its return may be looked up after it, on a busy machine up to a second later.
    asleep, still_away = (end._replace(at_ms=end.at_ms - 1000) for end in (awake, back))
    assert not any(wait.cached for wait in between(found, settled, asleep) + between(found, killed, still_away))
    assert held_up_by_redis(calm, hanging) + held_up_by_redis(calm, gone) == []
    late = [wait._replace(ms=wait.ms + 1000) for wait in hanging]
    assert held_up_by_redis(calm, late) != []  # the control


# ClickHouse


def stalls(held: list[Held], begin: Kill, end: Kill) -> list[str]:
    """Readers that waited for their next record for more than half of a span of time; their own pace is below 0.4 s. A
    busy machine may do that to one in twenty; a partition that waits for ClickHouse does it to one in four."""
    readers = [one for one in held if one.asked.how != "whole"]  # a whole answer comes in one piece
    longest = {
        one.asked.key: max((b - a for a, b in spans if a < end.at and b > begin.at), default=0.0)
        for one in readers
        if (spans := list(pairwise([one.asked_at, *one.arrivals])))
    }
    there = [wait for wait in longest.values() if wait]
    long = [f"{key} waited {wait:.1f} s" for key, wait in longest.items() if wait > (end.at - begin.at) / 2]
    return long if len(long) > len(there) / 20 else []


@contextmanager
def killed(system: System, proxy: LossyProxy) -> Iterator[None]:
    system.clickhouse.kill()
    try:
        yield
    finally:
        system.clickhouse.start()
        keep_repeats(system.clickhouse)


@contextmanager
def hanging(system: System, proxy: LossyProxy) -> Iterator[None]:
    with stopped(system.clickhouse.pid):
        yield


@contextmanager
def slow(system: System, proxy: LossyProxy) -> Iterator[None]:
    proxy.slow_s = 1.0
    try:
        yield
    finally:
        proxy.slow_s = 0.0


@contextmanager
def refusing(system: System, proxy: LossyProxy) -> Iterator[None]:
    proxy.refused.clear()
    proxy.refusing = True
    try:
        yield
        assert proxy.refused.is_set()
    finally:
        proxy.refusing = False


def test_clickhouse_in_trouble_does_not_hold_the_streams_up(
    system: System, proxy: LossyProxy, seed: int, full: bool
) -> None:
    since, trouble_s = mark(system), 8.0 if full else 4.0
    spans: list[tuple[Kill, Kill]] = []
    with Load(system, seed=seed, streams=200 if full else 20, seconds=(1, 4)) as load:
        load.flowing()
        for trouble in (killed, hanging, slow, refusing):
            with trouble(system, proxy):
                begin = strike(trouble.__name__)
                time.sleep(trouble_s)
                spans.append((begin, strike("over")))
        load.served(10)
        with stopped(system.pid("guard")) as begin:  # the control: this does hold the streams up
            time.sleep(3.0)
            control = begin, strike("over")
    evidence = gather(system, since, load.held)
    assert violations(evidence) == []
    assert [line for span in spans for line in stalls(load.held, *span)] == []
    assert stalls(load.held, *control) != []


def test_a_sink_killed_between_insert_and_commit_inserts_nothing_again(
    system: System, proxy: LossyProxy, seed: int, full: bool
) -> None:
    """kill -9 from within the proxy: an insert has come through, and the sink does not know it yet, or just does."""
    dice = random.Random(f"{seed} sink")
    since = mark(system)
    with Load(system, seed=seed, streams=100 if full else 20, seconds=(1, 3)) as load:
        load.flowing()
        for moment in ["inserted", "answered"] * (5 if full else 1):
            kill = at_insert(system, proxy, moment, dice.randint(1, 8))
            system.recovered(kill)
    evidence = gather(system, since, load.held)
    assert violations(evidence) == []
    with closing(ClickHouse(system.clickhouse.address)) as client:  # the control: what is inserted twice is seen
        client.command(f"INSERT INTO releases_log SELECT * FROM releases_log WHERE id >= '{since.lowest_id}' LIMIT 1")
    assert any("releases_log holds" in line for line in violations(gather(system, since, load.held)))


def at_insert(system: System, proxy: LossyProxy, moment: str, number: int) -> Kill:
    """Kill the sink at an insert from now: when ClickHouse has it (`inserted`), or the sink was told (`answered`)."""
    kills: list[Kill] = []
    struck = threading.Event()
    left = iter(range(number, 0, -1))

    def strike_at() -> None:
        if next(left, 0) == 1:
            kills.append(system.kill("sink"))
            struck.set()

    setattr(proxy, moment, strike_at)
    assert struck.wait(GIVE_UP_S)
    setattr(proxy, moment, lambda: None)
    return kills[0]


@pytest.mark.mounts
def test_a_full_disk_under_clickhouse_loses_and_doubles_nothing(system: System, seed: int, full: bool) -> None:
    system.clickhouse.stop()
    small = SmallDisk(system.clickhouse.home, system.clickhouse.port)
    small.start()
    keep_repeats(small)
    try:
        since = mark(system)
        with Load(system, seed=seed, streams=100 if full else 20, seconds=(1, 3)) as load:
            load.flowing()
            begin = strike("full")
            with small.filled():
                until(lambda: "NOT_ENOUGH_SPACE" in system.log("sink"))
                time.sleep(10.0 if full else 3.0)
            over = strike("over")
        evidence = gather(system, since, load.held)
        assert violations(evidence) == []
        assert stalls(load.held, begin, over) == []
    finally:
        small.stop()
        system.clickhouse.start()
        keep_repeats(system.clickhouse)
