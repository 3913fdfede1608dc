"""A member of a group whose broker goes away and comes back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from connectors.kafka import admin
from connectors.kafka.batches import SESSION_MS, BatchReader, Partition
from connectors.local.kafka import LocalKafka
from streams import topology
from tests.conftest import JARS, ROOT

pytestmark = pytest.mark.kafka

LONGEST_S = 60.0


class Member:
    """A reader, and what it was told."""

    def __init__(self, kafka: str, instance: str) -> None:
        self.told: list[str] = []
        self.values: list[bytes | None] = []
        self.reader = BatchReader(
            kafka,
            "dispatch",
            instance,
            ["journal"],
            on_assign=self._assigned,
            on_revoke=lambda _: self.told.append("revoked"),
            on_lost=lambda _: self.told.append("lost"),
        )

    def until(self, done: Callable[[], bool]) -> None:
        give_up = time.monotonic() + LONGEST_S
        while not done():
            assert time.monotonic() < give_up, self.told
            self.values += [message.value() for message in self.reader.read(100, 0.1)]

    def _assigned(self, partitions: list[Partition]) -> None:
        self.told.append("assigned")
        self.reader.assign_at(dict.fromkeys(partitions, 0))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    """With the topics and groups of a pipeline."""
    made = LocalKafka(tmp_path, ROOT / "compose" / "kafka", JARS)
    made.start()
    shape = topology.load()
    admin.apply(made.bootstrap, shape.specs(), shape.groups())
    yield made
    made.stop()


def test_a_member_whose_session_ends_in_an_outage_joins_anew(broker: LocalKafka) -> None:
    member = Member(broker.bootstrap, "dispatch-0")
    member.until(lambda: member.told == ["assigned"])
    broker.kill()
    assert not member.reader.commit_if_it_can({("journal", 0): 0})
    time.sleep(SESSION_MS / 1000 + 1)  # as one that waits for its writer does: it is told of nothing meanwhile
    broker.start()
    time.sleep(3.0)  # the client has knocked by itself
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce("journal", b"after", partition=0)
    assert producer.flush(LONGEST_S) == 0
    member.until(lambda: member.values == [b"after"])
    assert member.told == ["assigned", "lost", "assigned"]
    assert member.reader.commit_if_it_can({("journal", 0): 1})
    member.reader.close()


def test_a_second_process_of_the_same_name_ends_the_first(broker: LocalKafka) -> None:
    first = Member(broker.bootstrap, "dispatch-0")
    first.until(lambda: first.told == ["assigned"])
    second = Member(broker.bootstrap, "dispatch-0")
    second.until(lambda: second.told == ["assigned"])
    with pytest.raises(KafkaException, match="fenced"):
        first.until(lambda: False)
    first.reader.close()
    second.reader.close()
