"""The sink on a real broker: each event once, whatever dies, answers late or not at all."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from connectors.clickhouse.client import ClickHouse
from connectors.clickhouse.migrate import migrate
from connectors.kafka import admin
from connectors.marks import Marks
from processors.codec import VERSION_HEADERS, encode
from processors.events import Chunk
from processors.sink.rows import TABLES
from streams import sink as module
from streams import topology
from streams.sink import Bounds, Sink
from tests import samples
from tests.connectors.clickhouse.lossy import LossyProxy

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
STAGE = topology.load().stages["sink"]
GOLDEN = [
    path
    for path in sorted((ROOT / "tests" / "golden").glob("v*/*/*.json"))
    if path.parent.name not in ("keys", "policies")
]
LONGEST_S = 30.0
_numbers = itertools.count()


class World:
    """A database and a consumer group of one test, on shared services. The group begins where the topics end now."""

    def __init__(self, kafka: str, clickhouse: str, home: Path, group: str | None = None) -> None:
        number = next(_numbers)
        self.home = home
        self.kafka, self.clickhouse = kafka, clickhouse
        self.database = f"sink_{number}"
        self.group = group or f"sink-{number}"
        self.house = ClickHouse(f"{clickhouse}/{self.database}")
        self.assigned = 0
        self._sinks: list[Sink] = []
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 1, "log_level": 0})
        migrate(self.house)
        for table in TABLES.values():  # merges would drop what counts once anyway, and hide what is there twice
            self.house.command(f"SYSTEM STOP MERGES {self.database}.{table.log}")
        _begin(kafka, self.group)

    def sink(self, kind: type[Sink] = Sink, *, clickhouse: str = "", member: str = "0", **more: Any) -> Sink:
        """A sink that is stepped by its test."""
        house = ClickHouse(f"{clickhouse or self.clickhouse}/{self.database}")
        member = f"{self.group}-{member}"
        more.setdefault("group", self.group)
        made = kind(
            self.kafka, house, member, STAGE.reads, STAGE.dead_letters, Marks(self.home / f"{member}.mark"),
            on_assigned=self._count_assigned, **more,
        )  # fmt: skip
        self._sinks.append(made)
        return made

    def publish(self, topic: str, value: bytes | None, partition: int = 0, key: str | None = "key") -> None:
        self._producer.produce(topic, value, key, partition=partition, headers=VERSION_HEADERS)

    def chunks(self, count: int, run: str = "run") -> None:
        """Publish chunks of as many partitions as there are."""
        for n in range(count):
            event = Chunk(samples.request_id(n % 4), "demo", run, n, f"text {n}")
            self.publish("journal", encode(event), partition=n % 4)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(20) == 0

    def count(self, name: str) -> int:
        found: int = self.house.query(f"SELECT count() FROM {name}")[1][0][0]
        return found

    def both(self, name: str = "chunks") -> tuple[int, int]:
        """Events as the view tells, and rows as they lie in the table."""
        return self.count(name), self.count(f"{name}_log")

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        self.house.command(f"DROP DATABASE {self.database}")
        self.house.close()

    def _count_assigned(self) -> None:
        self.assigned += 1


def _begin(kafka: str, group: str) -> None:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group, "enable.auto.commit": False})
    known = consumer.list_topics(timeout=20).topics
    partitions = [
        TopicPartition(topic, number, OFFSET_END) for topic in STAGE.reads for number in known[topic].partitions
    ]
    ends: list[TopicPartition] = []
    give_up = time.monotonic() + LONGEST_S
    while not ends:
        try:
            ends = consumer.offsets_for_times(partitions, timeout=20)
        except KafkaException as error:  # a topic just created has a leader that does not know it yet
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > give_up:
                raise
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()


@pytest.fixture(scope="session")
def topics(kafka: str) -> None:
    admin.apply(kafka, topology.load().specs(), {})


@pytest.fixture
def world(kafka: str, clickhouse: str, topics: None, tmp_path: Path) -> Iterator[World]:
    made = World(kafka, clickhouse, tmp_path)
    yield made
    made.close()


@pytest.fixture
def proxy(clickhouse: str) -> Iterator[LossyProxy]:
    made = LossyProxy(clickhouse)
    yield made
    made.close()


def until(done: Callable[[], bool], *sinks: Sink) -> None:
    """Step until something is so."""
    give_up = time.monotonic() + LONGEST_S
    while not done():
        assert time.monotonic() < give_up, "it does not come to pass"
        for sink in sinks:
            sink.step(0.02)


def test_every_kind_of_event_counts_once_though_the_log_holds_it_twice(world: World) -> None:
    sink = world.sink()
    for wanted in (len(GOLDEN), 2 * len(GOLDEN)):
        for path in GOLDEN:
            world.publish(path.parent.name, path.read_bytes())
        world.flush()
        until(lambda wanted=wanted: sink.inserted >= wanted, sink)
    for table in TABLES:
        if table != "dead_letters":
            assert world.count(table) > 0
            assert world.count(table) == world.count(f"(SELECT DISTINCT event_id FROM {table}_log)"), table
    assert world.count("ends") < world.count("ends_log")


def test_bad_records_go_to_the_dead_letters_of_their_judge_and_come_back_from_there(world: World) -> None:
    world.publish("tokens", b"\xffnonsense", partition=2, key="k")
    world.publish("verdicts", None)
    world.publish("journal", b"\xffnonsense")
    world.publish("requests", b"{}")
    world.chunks(3)
    sink = world.sink()
    until(lambda: world.count("dead_letters") == 2, sink)
    found = world.house.query(
        "SELECT origin_topic, origin_partition, stage, error, value FROM dead_letters ORDER BY origin_topic"
    )[1]
    assert found[0][:4] == ("tokens", 2, "sink", "undecodable")
    assert found[1] == ("verdicts", 0, "sink", "null_value", "")
    assert world.house.raw("SELECT hex(value) FROM dead_letters WHERE origin_topic = 'tokens'", "TSV").strip() == (
        b"\xffnonsense".hex().upper().encode()
    )
    assert world.both() == (3, 3)


class DiesBeforeTheCommit(Sink):
    """Everything is inserted, and then the process is gone."""

    def _land(self) -> dict[Any, int]:
        if self._flight and self._flight.insertion.wait():
            raise EOFError
        return {}


class Forgetful(Sink):
    """The control: no notes, and a token that names nothing."""

    def token(self, ranges: Any) -> str:
        return str(uuid.uuid4())

    def notes(self, ranges: Any, token: str) -> dict[Any, str]:
        return {}


class ForgetfulDies(Forgetful, DiesBeforeTheCommit):
    pass


@pytest.mark.parametrize(
    ("dying", "living"), [(DiesBeforeTheCommit, Sink), (ForgetfulDies, Forgetful)], ids=["protocol", "control"]
)
def test_what_was_inserted_and_not_committed_is_not_inserted_again(
    world: World, dying: type[Sink], living: type[Sink]
) -> None:
    """The control shows that the check sees the repeat, and that the views count once even then."""
    world.chunks(30, "before")
    first = world.sink(dying, bounds=Bounds(wait_s=0.0))
    with pytest.raises(EOFError):
        until(lambda: False, first)
    first.close()
    inserted = world.count("chunks_log")
    world.chunks(30, "after")
    second = world.sink(living)
    until(lambda: world.count("chunks") == 60 and second.held == 0, second)
    assert inserted > 0
    assert world.both() == (60, 60 if living is Sink else 60 + inserted)


KILLED = """
import os, signal, sys
from connectors.clickhouse.client import ClickHouse
from pathlib import Path
from connectors.kafka.batches import BatchReader
from connectors.marks import Marks
from streams import topology
from streams.sink import Sink

commit, commits = BatchReader.commit, []

def dying(self, offsets, metadata=None):
    commits.append(offsets)
    if len(commits) == 2:  # the first flush's ends: it is inserted
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, offsets, metadata)

BatchReader.commit = dying
kafka, url, group, mark = sys.argv[1:]
stage = topology.load().stages["sink"]
sink = Sink(kafka, ClickHouse(url), group + "-0", stage.reads, stage.dead_letters, Marks(Path(mark)), group=group)
while True:
    sink.step()
"""


def test_killed_between_insert_and_commit(world: World) -> None:
    world.chunks(40, "before")
    url = f"{world.clickhouse}/{world.database}"
    died = subprocess.run(
        [sys.executable, "-c", KILLED, world.kafka, url, world.group, str(world.home / "0.mark")],
        cwd=ROOT, timeout=LONGEST_S, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL
    assert world.count("chunks_log") > 0
    world.chunks(40, "after")
    sink = world.sink()
    until(lambda: world.count("chunks") == 80, sink)
    assert world.both() == (80, 80)


def test_an_answer_lost_after_the_insert(world: World, proxy: LossyProxy) -> None:
    sink = world.sink(clickhouse=proxy.url)
    proxy.lose = 3  # more often than clickhouse-connect repeats by itself
    world.chunks(50)
    until(lambda: sink.inserted == 50, sink)
    assert proxy.lose == 0
    assert world.both() == (50, 50)


def test_clickhouse_away_for_a_while(world: World, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "READ_MOST", 10)
    sink = world.sink(clickhouse=proxy.url, bounds=Bounds(wait_s=0.05, records=20))
    world.chunks(10, "first")
    until(lambda: sink.inserted == 10, sink)
    proxy.away = True
    most = 0
    for round in range(6):
        world.chunks(40, f"away-{round}")
        until(lambda: proxy.refused.is_set(), sink)
        proxy.refused.clear()
        most = max(most, sink.held)
    proxy.away = False
    until(lambda: sink.inserted == 250, sink)
    assert world.both() == (250, 250)
    assert most <= 2 * (20 + 10)
    assert world.assigned == 1  # it stayed in the group


def test_a_second_member_joins(world: World) -> None:
    first = world.sink(bounds=Bounds(wait_s=0.02))
    world.chunks(40, "alone")
    until(lambda: first.inserted == 40, first)
    second = world.sink(member="1", bounds=Bounds(wait_s=0.02))
    for round in range(5):
        world.chunks(40, f"together-{round}")
        first.step(0.02)
        second.step(0.02)
    until(lambda: world.assigned >= 3, first, second)
    world.chunks(40, "shared")
    until(lambda: world.count("chunks") == 280 and first.held == second.held == 0, first, second)
    assert second.inserted > 0


@pytest.mark.parametrize("leave_s", [module.LEAVE_S, 0.0], ids=["waits", "control"])
def test_partitions_that_are_divided_are_inserted_once(
    world: World, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch, leave_s: float
) -> None:
    """Neither of two members could repeat what the one inserts at that moment. The control gives up at once."""
    leaving = threading.Event()

    class Leaves(Sink):
        def leave(self) -> None:
            leaving.set()
            super().leave()

    def inserted() -> None:
        """It is in ClickHouse, and the sink learns so when it has been told to leave."""
        leaving.wait(LONGEST_S)
        time.sleep(0.2)

    monkeypatch.setattr(module, "LEAVE_S", leave_s)
    proxy.inserted = inserted
    world.chunks(40, "alone")
    first = world.sink(Leaves, clickhouse=proxy.url)
    until(lambda: proxy.inserts > 0, first)
    second = world.sink(member="1")
    until(lambda: world.assigned >= 3, first, second)
    world.chunks(40, "shared")
    until(lambda: world.count("chunks") == 80 and first.held == second.held == 0, first, second)
    rows = world.count("chunks_log")
    assert rows == 80 if leave_s else rows > 80


def test_it_stops_in_time_without_clickhouse_and_loses_nothing(
    world: World, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAIN_S", 0.5)
    monkeypatch.setattr(module, "FLUSH_S", 0.2)
    first = world.sink(clickhouse=proxy.url)
    until(lambda: world.assigned > 0, first)
    proxy.away = True
    world.chunks(40)
    begun = time.monotonic()
    assert not first.drain()
    first.close()
    assert time.monotonic() - begun < 3.0
    proxy.away = False
    second = world.sink(clickhouse=proxy.url)
    until(lambda: second.inserted == 40, second)
    assert world.both() == (40, 40)


def test_a_member_joins_while_clickhouse_is_away(
    world: World, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was being inserted is given up, and repeated by whoever has the partitions then."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "READ_MOST", 10)
    bounds = Bounds(wait_s=0.05, records=20)
    proxy.away = True
    first = world.sink(clickhouse=proxy.url, bounds=bounds)
    world.chunks(80)
    until(lambda: first.held >= 40 and proxy.refused.is_set(), first)
    second = world.sink(clickhouse=proxy.url, member="1", bounds=bounds)
    until(lambda: world.assigned >= 3, first, second)
    proxy.away = False
    until(lambda: world.count("chunks") == 80 and first.held == second.held == 0, first, second)
    world.chunks(40, "after")
    until(lambda: world.count("chunks") == 120, first, second)


def test_a_stage_that_is_told_to_stop_takes_what_is_there_and_leaves(
    kafka: str, clickhouse: str, topics: None, tmp_path: Path
) -> None:
    """The process itself: `sluice run sink`."""
    world = World(kafka, clickhouse, tmp_path, group="sink")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")} | {
        "SLUICE_KAFKA": kafka,
        "SLUICE_CLICKHOUSE": f"{clickhouse}/{world.database}",
        "SLUICE_HOME": str(tmp_path),
    }
    process = subprocess.Popen([sys.executable, "-m", "streams.cli", "run", "sink"], cwd=ROOT, env=environment)
    try:
        ready, pause = tmp_path / "run" / "sink-0.json", threading.Event()
        until(lambda: pause.wait(0.02) or process.poll() is not None or ready.exists())
        world.chunks(500)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert world.both() == (500, 500)
    world.close()
