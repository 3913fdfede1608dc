"""A stage in a process of its own, as the supervisor runs it, and what tests ask of the topics around it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.kafka.writer import Writer

TIMEOUT_S = 20.0
NO_REDIS = "redis://127.0.0.1:1/0"
"""Nothing answers there: for stages that need none in the test."""


def until(condition: Callable[[], object], timeout_s: float = TIMEOUT_S, what: str = "it did not come true") -> None:
    """Return once `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class StageProcess:
    """`sluice run STAGE`. `changed` is code that is run in the process first, to change what it is to do."""

    def __init__(
        self,
        stage: str,
        home: Path,
        kafka: str,
        redis: str = NO_REDIS,
        changed: str = "",
        instance: int = 0,
        clickhouse: str = "",
    ) -> None:
        self.ready_file = home / "run" / f"{stage}-{instance}.json"
        home.mkdir(exist_ok=True)
        self.log_file = home / f"{stage}.log"
        self._code = (
            f"{changed}\nimport sys\nsys.argv = ['sluice', 'run', '{stage}']\nfrom streams.cli import main\nmain()"
        )
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")} | {
            "SLUICE_KAFKA": kafka,
            "SLUICE_REDIS": redis,
            "SLUICE_CLICKHOUSE": clickhouse,
            "SLUICE_HOME": str(home),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> "StageProcess":
        """Start it."""
        self.ready_file.unlink(missing_ok=True)
        with self.log_file.open("ab") as log:
            command = [sys.executable, "-c", self._code]
            self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)
        return self

    def ready(self) -> "StageProcess":
        """Wait until it says that it works."""
        until(lambda: self.ready_file.exists() or self.returncode is not None, what="not ready")
        assert self.returncode is None, self.log
        return self

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Any other signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; the exit code and how many seconds it took."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.terminate()
        return self._process.wait(TIMEOUT_S), time.monotonic() - begun

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(TIMEOUT_S)

    @property
    def returncode(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    @property
    def log(self) -> str:
        return self.log_file.read_text()


@contextmanager
def running(stage: StageProcess) -> Iterator[StageProcess]:
    """A started stage that is gone in the end."""
    try:
        yield stage.launch().ready()
    finally:
        stage.kill()


@contextmanager
def reader(kafka: str, topic: str, partitions: int = 1) -> Iterator[Consumer]:
    """A consumer of a whole topic from its beginning."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"test-{uuid4()}", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    try:
        yield consumer
    finally:
        consumer.close()


def find(kafka: str, topic: str, wanted: Callable[[Message], bool], number: int = 1) -> list[Message]:
    """The first records of a one-partition topic that are wanted, awaited."""
    found: list[Message] = []
    with reader(kafka, topic) as consumer:

        def look() -> bool:
            found.extend(message for message in consumer.consume(100, 0.1) if not message.error() and wanted(message))
            return len(found) >= number

        until(look, what=f"{len(found)} of {number} records found in {topic}")
    return found


def unread(kafka: str, group: str, topic: str, partitions: int = 4) -> int:
    """How many of a topic's records a group has not committed."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    left = 0
    try:
        for place in consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=10):
            first, end = consumer.get_watermark_offsets(place, timeout=10)
            left += end - max(first, place.offset)
    finally:
        consumer.close()
    return left


def bury_table(kafka: str, topic: str, partitions: int = 4) -> int:
    """Write a tombstone for every key of a table's changelog; returns how many there were."""
    places: set[tuple[int, bytes]] = set()
    with reader(kafka, topic, partitions) as consumer:
        left = sum(consumer.get_watermark_offsets(TopicPartition(topic, number))[1] for number in range(partitions))

        def look() -> bool:
            nonlocal left
            messages = consumer.consume(1000, 0.1)
            left -= len(messages)
            places.update((message.partition() or 0, message.key() or b"") for message in messages)
            return left <= 0

        until(look)
    writer = Writer(kafka, "test")
    for partition, key in places:
        writer.send(topic, key.decode(), None, partition=partition)
    writer.flush()
    return len(places)


def empty(kafka: str, topic: str, partitions: int = 4) -> None:
    """Delete every record of a topic, as retention does in time."""
    admin = AdminClient({"bootstrap.servers": kafka})
    with reader(kafka, topic, partitions) as consumer:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    for future in admin.delete_records(places).values():
        future.result(10)
