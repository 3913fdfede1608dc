"""The in-process broker, spoken to by the real client."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from connectors.local.embedded import EmbeddedKafka
from connectors.local.process import CHECKOUT, python

TOPICS = {"journal": 4, "health": 1}


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    service = EmbeddedKafka(tmp_path, dict(TOPICS))
    yield service
    service.kill()


def partitions(bootstrap: str) -> dict[str, int]:
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=5).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def test_topics_and_records(embedded: EmbeddedKafka) -> None:
    bootstrap = embedded.start()
    assert bootstrap == embedded.bootstrap == f"127.0.0.1:{embedded.port}"
    assert partitions(bootstrap) == TOPICS
    producer = Producer({"bootstrap.servers": bootstrap})
    for n in range(100):
        producer.produce("journal", str(n).encode(), partition=n % 4)
    assert producer.flush(5) == 0
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "test",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.subscribe(["journal"])
    read: set[bytes | None] = set()
    while len(read) < 100:
        read |= {record.value() for record in consumer.consume(100, 5)}
    consumer.close()
    assert read == {str(n).encode() for n in range(100)}


def test_a_restart_begins_empty(embedded: EmbeddedKafka) -> None:
    first = embedded.start()
    embedded.kill()
    second = embedded.start()
    assert partitions(second) == TOPICS
    assert first != second
    embedded.stop()
    assert embedded.pid is None


@pytest.mark.parametrize("topics", ["[]", "nonsense", '{"a": 0}', '{"a": "4"}'])
def test_topics_are_checked(topics: str) -> None:
    told = subprocess.run(
        python("connectors.local.embedded", "--topics", topics),
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert told.returncode == 2
    assert "--topics" in told.stderr


def test_by_hand_it_prints_its_address_and_ends_on_sigterm() -> None:
    with subprocess.Popen(
        python("connectors.local.embedded", "--topics", '{"t": 2}'),
        env={"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        word, bootstrap = process.stdout.readline().split()
        assert word == "bootstrap"
        assert partitions(bootstrap) == {"t": 2}
        process.terminate()
        assert process.wait(5) == 0
