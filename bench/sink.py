"""The sink's rows a second against a bare column insert of the very same rows.

The sink reads real topics of Apache Kafka; both insert through chDB's front with the same client, in blocks of the same
size. The bare insert is given its columns ready made.
"""

import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.common import check, say
from connectors.clickhouse.client import ClickHouse
from connectors.clickhouse.migrate import migrate
from connectors.kafka import admin
from connectors.kafka.batches import place_of
from connectors.local.clickhouse import LocalClickHouse
from connectors.local.kafka import LocalKafka
from connectors.marks import Marks
from processors.codec import VERSION_HEADERS, encode
from processors.events import (
    Answer,
    Chunk,
    Cost,
    Decision,
    End,
    Opened,
    Order,
    Outcome,
    RunEnded,
    RunStarted,
    Target,
    Tokens,
    Usage,
)
from processors.identity import partition_of, uuid7
from processors.sink.batch import Batch
from processors.sink.rows import TABLES, Records
from processors.sink.table import Columns, Table
from processors.times import from_ms
from streams import topology
from streams.sink import STAGE, Bounds, Sink
from tests.conftest import JARS

STREAMS, CHUNKS, TOGETHER = 4400, 64, 55
ROUNDS = 5
START_MS = 1_795_400_000_000
GOAL = 0.6
Block = list[tuple[Table, Columns]]


def stream(number: int) -> list[tuple[str, Any]]:
    """What the stages write about a request of 64 chunks, with the topic of each event."""
    name = uuid7(START_MS + number, number.to_bytes(10, "big"))
    run, target, until = f"{number:032x}", Target("provider", "model"), from_ms(START_MS + 120_000)
    usage, cost = Usage(12, CHUNKS, source="provider"), Cost(1234, "RUB", "p")
    order = Order(target, until, until)
    texts = [f" word{number * 7 % 911 + n}" for n in range(CHUNKS)]
    ended = RunEnded(name, "demo", 1, run, target, CHUNKS, "stop", usage=usage, first_token_ms=9.5, total_ms=1300.0)
    done = Outcome(name, "demo", 1, run, "policy", "hash", "model", target, "completed", usage=usage, cost=cost)
    return [
        ("journal", Decision(name, "demo", 1, "policy", "hash", order, "model", from_ms(START_MS))),
        ("journal", RunStarted(name, "demo", 1, run, target)),
        ("tokens", Opened(name, "demo", "model")),
        *(("journal", Chunk(name, "demo", run, n, text)) for n, text in enumerate(texts)),
        *(("tokens", Tokens(name, "demo", n, text)) for n, text in enumerate(texts)),
        ("journal", ended),
        ("tokens", End(name, "demo", CHUNKS, "completed", "stop", usage=usage, cost=cost, model="model")),
        ("outcomes", done),
        ("answers", Answer(name, "demo", "model", target, "stop", usage, cost)),
    ]


def publish(kafka: str) -> int:
    """Streams that run side by side; how many records they are."""
    shape = topology.load()
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    count = 0
    for first in range(0, STREAMS, TOGETHER):
        for events in zip(*(stream(number) for number in range(first, first + TOGETHER)), strict=True):
            for topic, event in events:
                partition = partition_of(event.id, shape.partitions_of(topic))
                producer.produce(topic, encode(event), event.id, partition, headers=VERSION_HEADERS)
                count += 1
        producer.poll(0)
    check(producer.flush(60) == 0, "not everything could be published")
    return count


def read(kafka: str, count: int) -> list[tuple[str, Records]]:
    """All records as the broker holds them."""
    shape = topology.load()
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bench", "fetch.queue.backoff.ms": 2})
    places = [
        TopicPartition(topic, number, 0)
        for topic in shape.stages[STAGE].reads
        for number in range(shape.partitions_of(topic))
    ]
    consumer.assign(places)
    found: list[tuple[str, Records]] = []
    while len(found) < count:
        for m in consumer.consume(2000, 30):
            check(m.error() is None, str(m.error()))
            offset, time_ms = place_of(m)
            alone = Records(m.partition() or 0, [offset], [time_ms], [m.key()], [m.headers()], [m.value()])  # type: ignore[list-item]
            found.append((m.topic() or "", alone))
    consumer.close()
    return found


def blocks(records: list[tuple[str, Records]]) -> list[Block]:
    """The records' rows as columns, in blocks as large as the sink's."""
    made = []
    for first in range(0, len(records), Bounds.records):
        batch = Batch(frozenset())
        for topic, alone in records[first : first + Bounds.records]:
            batch.extend(topic, alone)
        made.append(list(batch.columns()))
    return made


class World:
    """A broker that holds the records, and ClickHouse."""

    def __init__(self, kafka: LocalKafka, clickhouse: LocalClickHouse) -> None:
        self.kafka, self.clickhouse = kafka, clickhouse
        shape = topology.load()
        admin.apply(kafka.bootstrap, shape.specs(), {})
        self.count = publish(kafka.bootstrap)
        records = read(kafka.bootstrap, self.count)
        self.blocks = blocks(records)
        self._numbers = iter(range(1000))

    def house(self) -> ClickHouse:
        """An empty database."""
        house = ClickHouse(f"{self.clickhouse.address}/bench_{next(self._numbers)}")
        migrate(house)
        return house

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far."""
        found = {"own": time.process_time()}
        for service in (self.clickhouse, self.kafka):
            times = psutil.Process(service.pid).cpu_times()
            found[service.name] = times.user + times.system
        return found

    def bare(self) -> tuple[float, dict[str, float], dict[str, Any]]:
        """Insert the blocks; rows a second, CPU, and what stands in ClickHouse then."""
        house = self.house()
        house.query("SELECT 1")
        before, began = self.cpu(), time.monotonic()
        for number, block in enumerate(self.blocks):
            for table, columns in block:
                house.insert(table.log, table.columns, table.types, columns, f"bare-{number}")
        return self._measured(house, before, began)

    def sink(self) -> tuple[float, dict[str, float], dict[str, Any]]:
        """The sink from the moment it has its partitions until all is inserted and committed."""
        house, stage = self.house(), topology.load().stages[STAGE]
        group = house.database
        admin.apply(self.kafka.bootstrap, topology.load().specs(), {group: stage.reads})
        assigned = []
        sink = Sink(
            self.kafka.bootstrap,
            ClickHouse(f"{self.clickhouse.address}/{house.database}"),
            group,
            stage.reads,
            stage.dead_letters,
            Marks(self.clickhouse.home / f"{group}.mark"),
            group=group,
            on_assigned=lambda: assigned.append((self.cpu(), time.monotonic())),
        )
        while sink.inserted + sink.held < self.count:
            sink.step()
        while not sink.drain():
            pass
        found = self._measured(house, *assigned[0])
        sink.close()
        return found

    def _measured(
        self, house: ClickHouse, before: dict[str, float], began: float
    ) -> tuple[float, dict[str, float], dict[str, Any]]:
        took, after = time.monotonic() - began, self.cpu()
        cpu = {name: (after[name] - before[name]) / self.count * 1e6 for name in after}
        rows = {
            table.log: house.query(f"SELECT count(), {_sum(table)} FROM {table.log}")[1] for table in TABLES.values()
        }
        counts = {name: found[0][0] for name, found in rows.items()}
        views = {f"{t.name}_log": house.query(f"SELECT count() FROM {t.name}")[1][0][0] for t in TABLES.values()}
        check(sum(counts.values()) == self.count and counts == views, f"{counts}, in the views {views}")
        house.command(f"DROP DATABASE {house.database}")
        house.close()
        return self.count / took, cpu, rows


def _sum(table: Table) -> str:
    """One number for all columns of all rows, whatever their order."""
    return f"sum(cityHash64({', '.join(f'toString({name})' for name in table.columns)}))"


def rows_a_second(rounds: int) -> None:
    """The sink beside the bare insert, in turn."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        kafka = LocalKafka(Path(folder) / "kafka", Path("compose/kafka"), JARS)
        clickhouse = LocalClickHouse(Path(folder) / "clickhouse")
        kafka.start()
        clickhouse.start()
        try:
            world = World(kafka, clickhouse)
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)  # as the stage has it
            world.bare()  # warm-up
            world.sink()
            rates: dict[str, list[float]] = {"bare insert": [], "sink": []}
            cpus: dict[str, list[dict[str, float]]] = {"bare insert": [], "sink": []}
            for _ in range(rounds):
                held = []
                for name, case in (("bare insert", world.bare), ("sink", world.sink)):
                    rate, cpu, rows = case()
                    rates[name].append(rate)
                    cpus[name].append(cpu)
                    held.append(rows)
                check(held[0] == held[1], "the sink's rows are not those of the bare insert")
            for name, values in rates.items():
                say("sink, rows a second", name, "rows/s", values, rates["bare insert"], goal=GOAL, records=world.count)
                for part in cpus[name][0]:
                    say("sink, CPU a row", f"{name}: {part}", "us", [cpu[part] for cpu in cpus[name]])
        finally:
            kafka.stop()
            clickhouse.stop()


def main() -> None:
    """`python -m bench.sink [ROUNDS]`."""
    rows_a_second(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)


if __name__ == "__main__":
    main()
