"""A record that kills whoever takes it is passed over and named, and its neighbours do not notice."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message, TopicPartition

from connectors.clickhouse.client import ClickHouse
from connectors.kafka import admin
from connectors.kafka.policies import publish_policy
from connectors.kafka.writer import Writer
from connectors.local.kafka import LocalKafka
from processors.codec import decode, encode
from processors.events import Decision, End, Event, Rejection, RunEnded, RunStarted, Target, Verdict
from processors.identity import partition_of, uuid7
from processors.times import from_ms
from streams import topology
from tests import samples
from tests.conftest import JARS, ROOT
from tests.streams.stage_process import StageProcess, find, reader, running, until

pytestmark = pytest.mark.kafka

MARKED = "marked-by-the-test"
DEATHS = 4
"""Once in a batch, twice alone, and once more where even to end its request kills."""

FOLD = f"""
import os
from processors.guard.fold import PartitionFold
fold = PartitionFold.fold
def dying(self, records):
    if any({MARKED!r} in str(record.event) for record in records):
        os._exit(9)
    return fold(self, records)
PartitionFold.fold = dying
"""
DECODE = """
import os
import streams.{stage} as stage
take = stage.{name}
def dying(*values):
    if {marked!r} in str(values):
        os._exit(9)
    return take(*values)
stage.{name} = dying
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One of its own: the stages read all of the log, and others delete from it what they have not read."""
    own = LocalKafka(tmp_path_factory.mktemp("kafka"), ROOT / "compose" / "kafka", JARS)
    address = own.start()
    topics = topology.load()
    admin.apply(address, topics.specs(), topics.groups())
    publish_policy(address, samples.policy())
    yield address
    own.stop()


def new_id() -> str:
    return uuid7(int(time.time() * 1000), os.urandom(10))


def dies_until_it_works(stage: StageProcess) -> int:
    """Start it again as the supervisor does; how often it died before it was ready."""
    for deaths in range(DEATHS + 1):
        stage.launch()
        until(lambda: stage.ready_file.exists() or stage.returncode is not None)
        if stage.returncode is None:
            return deaths
    raise AssertionError(f"still dying: {stage.log}")


def write(broker: str, topic: str, *values: tuple[str, bytes], partition: int = -1) -> None:
    writer = Writer(broker, "test")
    for key, value in values:
        writer.send(topic, key, value, partition=partition)
    writer.flush()


def letters(broker: str, raw: bytes) -> list[dict[str, str]]:
    """Headers of the dead letters with these bytes, in the order in which they stand."""
    found = find(broker, "dead-letters", lambda message: message.value() == raw)
    return [{name: value.decode() for name, value in message.headers() or []} for message in found]  # type: ignore[union-attr, str-unpack, misc]


def events(broker: str, topic: str, request: str, last: type) -> list[Event]:
    """The events of a request up to the first of a kind."""
    found: list[Event] = []

    def look(message: Message) -> None:
        value = message.value()
        if value is not None and request.encode() in value:
            found.append(decode(topic, value))

    with reader(broker, topic, 4) as consumer:
        until(
            lambda: [look(item) for item in consumer.consume(500, 0.1)] and any(isinstance(e, last) for e in found),
            what=f"no {last.__name__}: {found}",
        )
    return found


def a_request(text: str) -> list[tuple[str, bytes]]:
    """The journal of a request whose answer has this text, from its decision to the run's end."""
    request = new_id()
    later = from_ms(int(time.time() * 1000) + 120_000)
    order = msgspec.structs.replace(samples.order(), deadline=later, expires_at=later)
    run = samples.run(request, ["before ", text, " after"])
    return [(request, encode(event)) for event in (samples.decision(request, order), *run)]


@pytest.mark.parametrize("what", ["fold", "decode"])
def test_the_guard(broker: str, tmp_path: Path, what: str) -> None:
    changed = FOLD if what == "fold" else DECODE.format(stage="guard", name="decode", marked=MARKED)
    before, poison, after = a_request("fine"), a_request(MARKED), a_request("fine")
    stage = StageProcess("guard", tmp_path, broker, changed=changed)
    write(broker, "journal", *before, *poison, *after)
    try:
        deaths = dies_until_it_works(stage)
        assert 2 <= deaths <= (3 if what == "fold" else 4)
        for neighbour in (before, after):
            assert ends(broker, neighbour[0][0]) == [("completed", "stop")]
        [chunk] = [raw for _, raw in poison if MARKED.encode() in raw]
        headers = letters(broker, chunk)[0]
        assert headers["dead-letter-error"] == "kills_the_process"
        place = f"journal[{headers['dead-letter-partition']}]@{headers['dead-letter-offset']}"
        assert f"{place} is passed over: it kills the process" in stage.log
        assert int(headers["dead-letter-partition"]) == partition_of(poison[0][0], 4)
        # Where nobody could read whose record it is, the chunk behind it tells that one is missing.
        assert ends(broker, poison[0][0]) == [("failed", "internal_error")]
        assert stage.terminate()[0] == 0  # and commits, so that the next guard does not read this poison, too
    finally:
        stage.kill()


def test_dispatch(broker: str, tmp_path: Path) -> None:
    """The order is passed over, its neighbours' are called (nobody answers there); the guard ends it in time."""

    def ordered(model: str) -> tuple[str, bytes]:
        request = new_id()
        later = from_ms(int(time.time() * 1000) + 120_000)
        order = msgspec.structs.replace(
            samples.order(), target=Target("first", model), deadline=later, expires_at=later
        )
        return request, encode(samples.decision(request, order))

    changed = FOLD.replace("guard.fold", "dispatch.fold").replace("PartitionFold", "DispatchFold")
    before, poison, after = ordered("fine"), ordered(MARKED), ordered("fine")
    stage = StageProcess("dispatch", tmp_path, broker, changed=changed)
    write(broker, "journal", before, poison, after)
    try:
        assert 2 <= dies_until_it_works(stage) <= 3
        for neighbour in (before, after):
            assert any(isinstance(event, RunStarted) for event in events(broker, "journal", neighbour[0], RunEnded))
        assert "is passed over: it kills the process" in stage.log
    finally:
        stage.kill()


def test_dispatch_passes_over_what_it_cannot_have_kept(broker: str, tmp_path: Path) -> None:
    no_id, nested = b'{"closed":["x"],"cancelled":[]}', b'{"closed":[],"cancelled":[],"more":' + b"[" * 5000
    write(broker, "snapshots", ("dispatch/no-id", no_id), ("dispatch/nested", nested), partition=0)
    with running(StageProcess("dispatch", tmp_path, broker)) as stage:
        assert "key dispatch/no-id: ValueError" in stage.log
        assert "key dispatch/nested: " in stage.log


def ends(broker: str, request: str) -> list[tuple[str, str]]:
    """Status and reason of the ends of a request; equal repeats are one."""
    found = [event for event in events(broker, "tokens", request, End) if isinstance(event, End)]
    return list({(event.status, event.reason) for event in found})


def test_admission(broker: str, redis_url: str, tmp_path: Path) -> None:
    def asked(text: str) -> tuple[str, bytes]:
        request = new_id()
        fields: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "model": "assistant"}
        return request, msgspec.json.encode({"id": request, "tenant": "demo"} | fields)

    changed = DECODE.format(stage="admission", name="examine", marked=MARKED)
    stage = StageProcess("admission", tmp_path, broker, redis_url, changed)
    before, poison, after = asked("fine"), asked(MARKED), asked("fine")
    write(broker, "requests", before, poison, after, partition=0)
    try:
        deadline = time.monotonic() + 60
        stage.launch()
        deaths = 0
        while not decided(broker, after[0]):
            if stage.returncode is not None:
                deaths += 1
                stage.launch()
            assert time.monotonic() < deadline, stage.log
        assert 2 <= deaths <= 3
        assert letters(broker, poison[1])[0]["dead-letter-error"] == "kills_the_process"
        [refused] = [item for item in events(broker, "journal", poison[0], Decision) if isinstance(item, Decision)]
        assert isinstance(refused.choice, Rejection)
        assert (refused.choice.status, refused.choice.code) == (500, "internal_error")
        assert decided(broker, before[0])
    finally:
        stage.kill()


def decided(broker: str, request: str) -> bool:
    """Whether the journal holds a decision on it now."""
    partition, raw = partition_of(request, 4), request.encode()
    with reader(broker, "journal", 4) as consumer:
        ends = {n: consumer.get_watermark_offsets(TopicPartition("journal", n), timeout=10)[1] for n in range(4)}
        at = -1
        while at + 1 < ends[partition]:
            for message in consumer.consume(500, 0.2):
                if message.partition() == partition:
                    at = message.offset() or 0
                    if raw in (message.value() or b"") and isinstance(decode("journal", message.value()), Decision):
                        return True
    return False


def test_the_sink(broker: str, clickhouse: str, tmp_path: Path) -> None:
    """It judges verdicts, and inserts the neighbours in the same partition."""
    database = f"{clickhouse}/poison"
    run = new_id()
    changed = (
        f"MARKED = {MARKED.encode()!r}"
        + """
import os
from processors.sink.batch import Batch
extend = Batch.extend
def dying(self, topic, records):
    if topic == "verdicts" and any(MARKED in (value or b"") for value in records.values):
        os._exit(9)
    extend(self, topic, records)
Batch.extend = dying
"""
    )
    verdicts = [
        Verdict(new_id(), "demo", run, n, MARKED if n == 5 else "rule", "c", 1, "p", "answer") for n in range(9)
    ]
    stage = StageProcess("sink", tmp_path, broker, changed=changed, clickhouse=database)
    write(broker, "verdicts", *((item.id, encode(item)) for item in verdicts), partition=0)
    house = ClickHouse(database)
    deaths = 0
    try:
        stage.launch()
        deadline = time.monotonic() + 60
        while not stage.ready_file.exists() or rows(house, run) < 8:
            if stage.returncode is not None:
                deaths += 1
                stage.launch()
            assert time.monotonic() < deadline, stage.log
        assert 2 <= deaths <= 3
        assert letters(broker, encode(verdicts[5]))[0]["dead-letter-error"] == "kills_the_process"
        assert rows(house, run) == 8
    finally:
        stage.kill()
        house.close()


def rows(house: ClickHouse, run: str) -> int:
    """How many verdicts of a run are in ClickHouse."""
    found: int = house.query(f"SELECT count() FROM verdicts WHERE run = '{run}'")[1][0][0]
    return found
