"""A member of a group whose broker goes away and comes back."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, MemberDescription  # type: ignore[attr-defined]

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


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """With the topics and groups of a pipeline."""
    made = LocalKafka(tmp_path_factory.mktemp("broker"), ROOT / "compose" / "kafka", JARS)
    made.start()
    shape = topology.load()
    admin.apply(made.bootstrap, shape.specs(), shape.groups())
    yield made
    made.stop()


def test_a_member_whose_session_ends_in_an_outage_joins_anew(broker: LocalKafka) -> None:
    member = Member(broker.bootstrap, "dispatch-0")
    member.until(lambda: member.told == ["assigned"])
    broker.kill()
    with ThreadPoolExecutor() as pool:
        committed = pool.submit(member.reader.commit_if_it_can, {("journal", 0): 0})
        time.sleep(SESSION_MS / 1000 + 1)  # as one that waits for its writer does: it is told of nothing meanwhile
        broker.start()  # a commit that was sent before the client knew waits for this
        assert not committed.result(LONGEST_S)
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


def test_partitions_that_come_as_a_member_closes_are_not_announced(broker: LocalKafka) -> None:
    """They would be assigned while the client closes, and librdkafka may wait for the answer for ever."""
    member = Member(broker.bootstrap, "dispatch-0")
    asked, give_up = AdminClient({"bootstrap.servers": broker.bootstrap}), time.monotonic() + LONGEST_S
    while not any(one.assignment.topic_partitions for one in members(asked)):  # it has not read, so not heard of it
        assert time.monotonic() < give_up
    member.reader.close()
    assert member.told == []
    successor = Member(broker.bootstrap, "dispatch-0")
    successor.until(lambda: successor.told == ["assigned"])
    successor.reader.close()
    assert successor.told == ["assigned", "revoked"]


def members(asked: AdminClient) -> list[MemberDescription]:
    """Who is in the group, as the broker has it."""
    found = asked.describe_consumer_groups(["dispatch"])["dispatch"].result(LONGEST_S)
    return list(found.members) if found.state == ConsumerGroupState.STABLE else []


def fails(consumer: Consumer) -> None:
    """Raised by the client's C, as by a question for offsets while the broker is on its way back."""
    consumer.seek(TopicPartition("journal", 99, 0))


def test_what_a_callback_raises_is_raised_where_records_are_read(broker: LocalKafka) -> None:
    member = Member(broker.bootstrap, "dispatch-0")
    member.reader._on_assign = lambda _: fails(member.reader._consumer)
    with ThreadPoolExecutor() as pool, pytest.raises(KafkaException, match="seek"):
        pool.submit(member.until, lambda: False).result(LONGEST_S)
    member.reader.close()


def test_the_control_the_client_alone_raises_what_is_no_exception(
    broker: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once this fails, callbacks may raise as they like."""
    died: list[type] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: died.append(told.exc_type))
    alone = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "control"})
    alone.subscribe(["journal"], on_assign=lambda consumer, _: fails(consumer))
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(alone.consume, 1, 4.0)
    assert died == [KafkaError]  # the thread is dead
    assert not reading.done()  # and whoever waits for it waits for ever
    alone.close()


class Moving:
    """A client whose partitions have a new leader, as it learns at the third question."""

    def __init__(self, code: int) -> None:
        self.code, self.asked = code, 0

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.asked += 1
        if self.asked < 3:
            raise KafkaException(KafkaError(self.code))
        return [TopicPartition(item.topic, item.partition, 7) for item in asked]


def test_offsets_are_asked_for_until_it_is_known_who_leads(broker: LocalKafka) -> None:
    member = Member(broker.bootstrap, "dispatch-0")
    member.until(lambda: member.told == ["assigned"])
    reader = member.reader
    client, reader._consumer = reader._consumer, Moving(KafkaError.FENCED_LEADER_EPOCH)  # type: ignore[assignment]
    assert reader.ends([("journal", 0)]) == {("journal", 0): 7}
    reader._consumer = Moving(KafkaError.TOPIC_AUTHORIZATION_FAILED)  # type: ignore[assignment]
    with pytest.raises(KafkaException):
        reader.ends([("journal", 0)])
    reader._consumer = client
    reader.close()
