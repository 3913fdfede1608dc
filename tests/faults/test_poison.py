"""Fuzzed records into every topic that a stage reads: nothing stops, nothing is lost, and each bad one is named."""

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from connectors.kafka.letters import Letter, read_letters
from connectors.policy_file import load_policy
from connectors.simulated.texts import STORY
from processors.admission.decide import next_attempt
from processors.admission.examine import examine
from processors.codec import BadRecord, decode
from processors.events import End, TokenEvent, Tokens
from processors.fill import entry
from processors.guard.fold import PartitionFold
from processors.guard.rules import CompiledRules
from processors.policy import Effective, VersionedPolicy
from processors.record import Record
from processors.times import from_ms
from tests.e2e.pipeline import POLICY, Pipeline, running
from tests.faults.fuzz import TABLES, Bad, Fuzzer
from tests.streams.stage_process import unread

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(3600)]

FULL, TENTH = 100_000, 10_000
ROUND = 500
NEIGHBOURS = 4
"""Good requests among the records of a round."""
BOUND_S = 60.0
"""No neighbour may take longer, nor may the letters; a stall lasts for ever. Slack is for a busy machine."""
STAGES = ["edge", "admission", "dispatch", "guard", "fill", "health", "sink"]
GROUPS = {
    "admission": ["requests", "outcomes"],
    "fill": ["answers"],
    "health": ["outcomes", "answers"],
    "sink": ["journal", "tokens", "verdicts"],
}


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Published(NamedTuple):
    """A fuzzed record as the log has it."""

    bad: Bad
    at_ms: int


class Judges:
    """What each topic's judge says of a record, by the same functions."""

    def __init__(self, policy: VersionedPolicy) -> None:
        self._policy = policy
        self._lives: dict[str, tuple[Effective, CompiledRules]] = {}

    def refuses(self, place: Place, published: Published) -> bool:
        """Whether it belongs into the dead letters."""
        bad, at_ms = published
        try:
            if bad.topic == "requests":
                examine(bad.value, bad.headers, from_ms(at_ms), from_ms(at_ms), self._view)
            elif bad.topic == "journal":
                event = decode("journal", bad.value, bad.headers)
                fold = PartitionFold(place.partition, 4, self._effective)
                return bool(fold.fold([Record(place.offset, at_ms, event)])[1])
            elif bad.topic == "outcomes":
                outcome = decode("outcomes", bad.value, bad.headers)
                next_attempt(outcome, datetime.now(UTC), lambda _: False, lambda _: None, self._declares)
            elif bad.topic == "answers":
                entry(decode("answers", bad.value, bad.headers))
            elif bad.topic in ("tokens", "verdicts", "health"):
                decode(bad.topic, bad.value, bad.headers)
        except BadRecord:
            return True
        return False

    def _declares(self, version: str, tenant: str) -> bool:
        return version == self._policy.version and self._policy.effective(tenant) is not None

    def _view(self, tenant: str) -> tuple[Effective, CompiledRules] | None:
        try:
            return self._effective(self._policy.version, tenant)
        except ValueError:
            return None

    def _effective(self, version: str, tenant: str) -> tuple[Effective, CompiledRules]:
        effective = self._policy.effective(tenant)
        if version != self._policy.version or effective is None:
            raise ValueError("unknown policy or tenant")
        if tenant not in self._lives:
            self._lives[tenant] = (effective, CompiledRules(effective))
        return self._lives[tenant]


def check_letters(expected: dict[Place, Published], found: Iterable[Letter]) -> None:
    """Each bad record has one letter with its bytes, and nothing else has one."""
    letters = Counter[Place]()
    for letter in found:
        origin = letter.origin
        place = Place(origin["topic"], int(origin["partition"]), int(origin["offset"]))
        assert place in expected, f"a good record is dead-lettered: {origin} {(letter.value or b'')[:300]!r}"
        assert letter.value == expected[place].bad.value, f"other bytes: {origin}"
        letters[place] += 1
    missing = [(place, published) for place, published in expected.items() if not letters[place]]
    assert not missing, (
        f"{len(missing)} without a letter: {[(p, q.bad.value and q.bad.value[:300]) for p, q in missing[:3]]}"
    )
    assert set(letters.values()) <= {1}, [place for place, count in letters.items() if count > 1][:5]


class Streams:
    """The streams of neighbours, as `tokens` has them."""

    def __init__(self, kafka: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": "neighbours", "fetch.wait.max.ms": 10})
        self._consumer.assign([TopicPartition("tokens", number, 0) for number in range(4)])
        self._texts: dict[str, dict[int, str]] = {}
        """By seq: what a worker writes again is equal, and counts once."""
        self._ended: dict[str, str] = {}

    def wait_whole(self, requests: list[str]) -> None:
        """Each ends as completed with its whole text."""
        give_up = time.monotonic() + BOUND_S
        self._texts |= {request: {} for request in requests if request not in self._ended}
        while not all(request in self._ended for request in requests):
            late = [request for request in requests if request not in self._ended]
            assert time.monotonic() < give_up, f"no end of {late}"
            for message in self._consumer.consume(1000, 0.2):
                self._take(message.value(), message.headers())  # type: ignore[arg-type]
        for request in requests:
            assert (self._ended[request], "".join(self._texts.pop(request).values())) == ("completed", STORY)

    def _take(self, value: bytes | None, headers: list[tuple[str, bytes]] | None) -> None:
        try:
            event: TokenEvent = decode("tokens", value, headers)
        except BadRecord:
            return
        if event.id in self._texts:
            if isinstance(event, Tokens):
                assert self._texts[event.id].setdefault(event.seq, event.text) == event.text
            elif isinstance(event, End):
                self._ended[event.id] = event.status

    def close(self) -> None:
        self._consumer.close()


class Publisher:
    """Writes fuzzed records, and notes where they stand."""

    def __init__(self, kafka: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": kafka, "linger.ms": 2, "message.max.bytes": 4 << 20, "log_level": 0}
        )
        self.places: dict[Place, Published] = {}

    def publish(self, bad: Bad) -> None:
        def too_large(error: KafkaError) -> None:
            """Neither the client nor the broker takes such a record, so nobody reads it."""
            assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE, error

        def noted(error, message) -> None:  # type: ignore[no-untyped-def]
            if error is not None:
                too_large(error)
                return
            place = Place(bad.topic, message.partition(), message.offset())
            self.places[place] = Published(bad, message.timestamp()[1])

        try:
            self._producer.produce(
                bad.topic, bad.value, bad.key, partition=bad.partition, headers=bad.headers, on_delivery=noted
            )
        except KafkaException as error:
            too_large(error.args[0])

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("poison")) as started:
        yield started


def test_fuzzed_records_stop_nothing(pipeline: Pipeline, request: pytest.FixtureRequest) -> None:
    count = FULL if request.config.getoption("--full", default=False) else TENTH
    seed = request.config.getoption("--seed", default=None) or time.time_ns() % 1_000_000
    print(f"seed {seed}")
    policy = load_policy(POLICY)
    processes = {name: pipeline.stage(name).pid for name in STAGES}
    fuzzer = Fuzzer(seed, policy.version, lambda: int(time.time() * 1000))
    publisher, streams = Publisher(pipeline.kafka), Streams(pipeline.kafka)
    try:
        for _ in range(count // ROUND):
            neighbours = []
            for number in range(ROUND):
                if number % (ROUND // NEIGHBOURS) == 0:
                    publisher.flush()
                    neighbours.append(pipeline.ask("story"))
                publisher.publish(fuzzer.make())
            publisher.flush()
            streams.wait_whole(neighbours)
        judges = Judges(policy)
        expected = {place: item for place, item in publisher.places.items() if judges.refuses(place, item)}
        letters = await_letters(pipeline, publisher, len(expected))
        print(Counter(place.topic for place in publisher.places), Counter(place.topic for place in expected))
        check_letters(expected, letters)
        assert {name: pipeline.stage(name).pid for name in STAGES} == processes
        assert no_tracebacks(pipeline.home)
        restart_all(pipeline, processes)
        streams.wait_whole([pipeline.ask("story") for _ in range(8)])
        named(pipeline, publisher)
    finally:
        streams.close()
    for broken in (letters[1:], [*letters, letters[0]], [letters[0]._replace(value=b"x"), *letters[1:]]):  # the control
        with pytest.raises(AssertionError):
            check_letters(expected, broken)


def await_letters(pipeline: Pipeline, publisher: Publisher, least: int) -> list[Letter]:
    """All letters, once every group has read what there is and there are as many as there should be."""
    give_up = time.monotonic() + BOUND_S
    while True:
        behind = {
            (group, topic): unread(pipeline.kafka, group, topic) for group, topics in GROUPS.items() for topic in topics
        }
        letters = [
            letter
            for letter in read_letters(pipeline.kafka)
            if Place("dead-letters", 0, letter.offset) not in publisher.places
        ]
        if (len(letters) >= least and not any(behind.values())) or time.monotonic() > give_up:
            assert not any(behind.values()), behind
            return letters


def no_tracebacks(home: Path) -> bool:
    """No stage has logged one; an exception in a thread of its own would end nothing, and be seen nowhere else."""
    for name in STAGES:
        found = re.search(r"Traceback.*", (home / "logs" / f"{name}.log").read_text(errors="replace"), re.DOTALL)
        assert found is None, f"{name}: {found.group()[:3000]}"
    return True


def restart_all(pipeline: Pipeline, processes: dict[str, int]) -> None:
    """Kill every stage: its successor reads all there is in the tables, and what was kept."""
    for pid in processes.values():
        psutil.Process(pid).kill()
    give_up = time.monotonic() + BOUND_S
    for name, pid in processes.items():
        ready = pipeline.home / "run" / f"{name}-0.json"
        for _ in itertools.repeat(None):
            try:
                now = pipeline.stage(name).pid
                if now != pid and ready.exists() and str(now) in ready.read_text():
                    processes[name] = now
                    break
            except (AssertionError, psutil.NoSuchProcess, FileNotFoundError):
                pass
            assert time.monotonic() < give_up, (name, (pipeline.home / "logs" / f"{name}.log").read_text()[-2000:])
            time.sleep(0.05)  # between death and restart there is nothing to wait on


def named(pipeline: Pipeline, publisher: Publisher) -> None:
    """Bad records of the tables are in the log of whoever reads them."""
    logs = "".join((pipeline.home / "logs" / f"{name}.log").read_text(errors="replace") for name in STAGES)
    for place, (bad, _) in publisher.places.items():
        if bad.topic in TABLES and bad.topic != "snapshots" and bad.value is not None:
            try:
                decode(bad.topic, bad.value, bad.headers)
            except BadRecord:
                key = (bad.key or b"").decode(errors="replace")
                assert f"topic {bad.topic}, key {key}: " in logs, place
