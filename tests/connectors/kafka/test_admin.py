"""Topics are made, compared and mended on Apache Kafka; on the embedded broker what it can tell is told."""

import time
import uuid
from contextlib import closing, contextmanager

import pytest
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from connectors.kafka import admin
from connectors.kafka.admin import AdminFailed, Comparison, Difference, TopicSpec, apply, check
from connectors.kafka.batches import consumer_config
from connectors.local.embedded import EmbeddedKafka

CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "600000",
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": "2097152",
}
COMPACTED = {**CONFIG, "cleanup.policy": "compact", "retention.ms": "-1", "message.timestamp.type": "CreateTime"}


@pytest.fixture
def name():
    """A name that no other test of the session's broker has."""
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    broker = EmbeddedKafka(tmp_path_factory.mktemp("embedded"), {"one": 2, "two": 1})
    yield broker.start()
    broker.stop()


def fill(bootstrap: str, topic: str, records: int) -> None:
    """Write numbers to partition 0, with a producer's time of long ago."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(records):
        producer.produce(topic, str(number), partition=0, timestamp=1_000_000)
    assert producer.flush(30) == 0


def committed(bootstrap: str, group: str, *partitions: tuple[str, int]) -> list[int]:
    with closing(Consumer({"bootstrap.servers": bootstrap, "group.id": group})) as consumer:
        return [item.offset for item in consumer.committed([TopicPartition(*item) for item in partitions], timeout=30)]


@contextmanager
def member(bootstrap: str, group: str, topic: str):
    """A member of the group, its partitions assigned; gives a function that reads so many records."""
    assigned, early = [], []
    consumer = Consumer(consumer_config(bootstrap, group, "member"))
    consumer.subscribe([topic], on_assign=lambda _, items: assigned.extend(items))
    with closing(consumer):
        give_up = time.monotonic() + 30
        while not assigned and time.monotonic() < give_up:
            early += consumer.consume(1, 0.1)
        assert assigned
        yield lambda count: (early + consumer.consume(count - len(early), 30))[:count]


@pytest.mark.kafka
class TestApply:
    """`apply` on Apache Kafka."""

    def test_topics_are_created_once_and_are_then_as_they_should_be(self, kafka, name):
        specs = [TopicSpec(name, 4, CONFIG), TopicSpec(f"{name}-c", 1, COMPACTED)]
        assert apply(kafka, specs, {}) == [f"created {name} with 4 partitions", f"created {name}-c with 1 partitions"]
        assert check(kafka, specs) == Comparison((), complete=True)
        assert apply(kafka, specs, {}) == []

    def test_records_bear_the_time_of_their_append(self, kafka, name):
        apply(kafka, [TopicSpec(name, 1, CONFIG)], {"g-" + name: [name]})
        before = time.time() * 1000
        fill(kafka, name, 1)
        with member(kafka, "g-" + name, name) as read:
            kind, at = read(1)[0].timestamp()
        assert kind == TIMESTAMP_LOG_APPEND_TIME
        assert at >= before - 60_000

    def test_settings_that_differ_are_altered_and_nothing_else(self, kafka, name):
        apply(kafka, [TopicSpec(name, 1, CONFIG)], {})
        wanted = [TopicSpec(name, 1, {**CONFIG, "retention.ms": "700000", "max.message.bytes": "1048588"})]
        assert check(kafka, wanted).differences == (
            Difference(name, "retention.ms", "700000", "600000"),
            Difference(name, "max.message.bytes", "1048588", "2097152"),
        )
        assert apply(kafka, wanted, {}) == [
            f"altered {name}: retention.ms from 600000 to 700000",
            f"altered {name}: max.message.bytes from 2097152 to 1048588",
        ]
        assert check(kafka, wanted).differences == ()
        fewer = [TopicSpec(name, 1, {"retention.ms": "700000"})]
        assert apply(kafka, fewer, {}) == []
        assert check(kafka, wanted).differences == ()

    def test_another_number_of_partitions_is_refused_before_anything_is_done(self, kafka, name):
        apply(kafka, [TopicSpec(name, 2, CONFIG)], {})
        wanted = [TopicSpec(f"{name}-new", 1, CONFIG), TopicSpec(name, 4, {**CONFIG, "retention.ms": "1"})]
        with pytest.raises(AdminFailed, match=f"{name} has 2 partitions, should have 4; the number is never changed"):
            apply(kafka, wanted, {})
        assert [str(difference) for difference in check(kafka, wanted).differences] == [
            f"{name}-new: topic is missing, should be there",
            f"{name}: partitions is 2, should be 4",
            f"{name}: retention.ms is 600000, should be 1",
        ]

    def test_a_setting_that_kafka_refuses_is_named(self, kafka, name):
        with pytest.raises(AdminFailed, match=f"creating {name}: .*retention.ms"):
            apply(kafka, [TopicSpec(name, 1, {"retention.ms": "soon"})], {})
        apply(kafka, [TopicSpec(name, 1, {})], {})
        with pytest.raises(AdminFailed, match=f"altering {name}: .*retention.ms"):
            apply(kafka, [TopicSpec(name, 1, {"retention.ms": "soon"})], {})

    def test_a_setting_that_kafka_does_not_know_differs(self, kafka, name):
        apply(kafka, [TopicSpec(name, 1, {})], {})
        found = check(kafka, [TopicSpec(name, 1, {"no.such": "1"})])
        assert found.differences == (Difference(name, "no.such", "1", "unknown to this broker"),)

    def test_two_may_apply_at_once(self, kafka, name, monkeypatch):
        spec = TopicSpec(name, 1, CONFIG)
        counts = admin._partition_counts(admin._connect(kafka))
        apply(kafka, [spec], {})
        monkeypatch.setattr(admin, "_partition_counts", lambda _: counts)  # as if the other came in between
        assert apply(kafka, [spec], {}) == [f"created {name} with 1 partitions"]


@pytest.mark.kafka
class TestGroups:
    """Every group has a place to begin."""

    def test_a_new_group_reads_what_stood_there_before_it(self, kafka, name):
        specs = [TopicSpec(name, 2, CONFIG)]
        apply(kafka, specs, {})
        fill(kafka, name, 3)
        said = apply(kafka, specs, {name: [name]})
        assert said == [f"group {name} begins at the earliest of {name}"]
        with member(kafka, name, name) as read:
            assert [message.value() for message in read(3)] == [b"0", b"1", b"2"]

    def test_earliest_is_what_the_log_still_holds(self, kafka, name):
        specs = [TopicSpec(name, 2, CONFIG)]
        apply(kafka, specs, {})
        fill(kafka, name, 5)
        client = AdminClient({"bootstrap.servers": kafka})
        for future in client.delete_records([TopicPartition(name, 0, 3)]).values():
            future.result(30)
        apply(kafka, specs, {name: [name]})
        assert committed(kafka, name, (name, 0), (name, 1)) == [3, 0]

    def test_an_offset_that_stands_is_kept(self, kafka, name):
        specs = [TopicSpec(name, 2, CONFIG)]
        apply(kafka, specs, {})
        fill(kafka, name, 3)
        with closing(Consumer({"bootstrap.servers": kafka, "group.id": name})) as consumer:
            consumer.commit(offsets=[TopicPartition(name, 0, 2)], asynchronous=False)
        apply(kafka, specs, {name: [name]})
        assert committed(kafka, name, (name, 0), (name, 1)) == [2, 0]
        assert apply(kafka, specs, {name: [name]}) == []

    def test_a_running_group_with_all_its_offsets_is_left_alone(self, kafka, name):
        specs = [TopicSpec(name, 1, CONFIG)]
        apply(kafka, specs, {name: [name]})
        with member(kafka, name, name):
            assert apply(kafka, specs, {name: [name]}) == []

    def test_a_running_group_without_an_offset_must_stop_first(self, kafka, name):
        specs = [TopicSpec(name, 1, CONFIG), TopicSpec(f"{name}-b", 1, CONFIG)]
        apply(kafka, specs, {name: [name]})
        needed = f"group {name}: .*: stop its stage"
        with member(kafka, name, name), pytest.raises(AdminFailed, match=needed):
            apply(kafka, specs, {name: [name, f"{name}-b"]})


@pytest.mark.kafka
def test_a_whole_topology_is_quick(kafka, name):
    specs = [TopicSpec(f"{name}-{number}", 4, CONFIG) for number in range(11)]
    groups = {f"{name}-{number}": [spec.name for spec in specs] for number in range(6)}
    start = time.monotonic()
    apply(kafka, specs, groups)
    assert time.monotonic() - start < 5  # 0.6 s on two idle cores; joining a group would take 3 s each


class TestEmbedded:
    """The embedded broker has names, partitions and offsets, and nothing else."""

    def test_only_names_and_counts_are_compared_and_that_is_said(self, embedded):
        specs = [TopicSpec("one", 2, CONFIG), TopicSpec("two", 4, CONFIG), TopicSpec("three", 1, CONFIG)]
        assert check(embedded, specs, embedded=True) == Comparison(
            (Difference("two", "partitions", "4", "1"), Difference("three", "topic", "there", "missing")),
            complete=False,
        )

    def test_groups_get_their_place(self, embedded):
        specs = [TopicSpec("one", 2, CONFIG), TopicSpec("two", 1, CONFIG)]
        said = apply(embedded, specs, {"g": ["one", "two"]}, embedded=True)
        assert said == ["group g begins at the earliest of one, two"]
        assert committed(embedded, "g", ("one", 0), ("one", 1), ("two", 0)) == [0, 0, 0]
        assert apply(embedded, specs, {"g": ["one", "two"]}, embedded=True) == []

    def test_a_missing_topic_cannot_be_made(self, embedded):
        with pytest.raises(AdminFailed, match="the embedded broker lacks three and creates topics only when it starts"):
            apply(embedded, [TopicSpec("three", 1, CONFIG)], {}, embedded=True)

    def test_another_number_of_partitions_is_refused(self, embedded):
        with pytest.raises(AdminFailed, match="two has 1 partitions, should have 4"):
            apply(embedded, [TopicSpec("two", 4, CONFIG)], {}, embedded=True)


def test_a_coordinator_that_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(admin, "TIMEOUT_S", 0)
    with pytest.raises(AdminFailed, match="group g: reading its offsets: "):
        admin._member("127.0.0.1:1", "g", [TopicPartition("one", 0)])


def test_no_broker(monkeypatch):
    monkeypatch.setattr(admin, "TIMEOUT_S", 0.3)
    with pytest.raises(AdminFailed, match="the broker does not answer"):
        check("127.0.0.1:1", [TopicSpec("one", 1, CONFIG)])
