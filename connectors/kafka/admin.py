"""Topics as Kafka has them: created, compared, and every consumer group given a place to begin.

Our consumers run with `auto.offset.reset` at `error`, so that a lost piece of log is never skipped in silence. A group
that has never committed would then fail at once; so `apply` commits the earliest offset for it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its public names, exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

T = TypeVar("T")

TIMEOUT_S = 30.0


class AdminFailed(Exception):
    """The broker did not answer, or will not do what was asked; the message says which and what to do."""


class TopicSpec(NamedTuple):
    """A topic as it should be."""

    name: str
    partitions: int
    config: Mapping[str, str]


class Difference(NamedTuple):
    """One thing in which the broker is not as it should be. `name` is `topic`, `partitions` or a setting of Kafka's."""

    topic: str
    name: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.name} is {self.found}, should be {self.expected}"


class Comparison(NamedTuple):
    """What `check` found. On the embedded broker it is not `complete`: that one tells no settings."""

    differences: tuple[Difference, ...]
    complete: bool


def apply(
    bootstrap: str,
    topics: Iterable[TopicSpec],
    groups: Mapping[str, Sequence[str]],
    *,
    embedded: bool = False,
) -> list[str]:
    """Make the broker's topics as given and see that each group has an offset everywhere; says what it did.

    Partition counts are never changed: a key would move to another partition and its history stay behind. The
    embedded broker creates topics at its own start and has no settings; there only the groups are seen to.

    Raises:
        AdminFailed: a partition count differs, a group without an offset is running, or the broker refuses.
    """
    admin = _connect(bootstrap)
    wanted = {spec.name: spec for spec in topics}
    counts = _partition_counts(admin)
    _refuse_other_counts(wanted, counts)
    missing = [spec for name, spec in wanted.items() if name not in counts]
    if embedded and missing:
        names = ", ".join(spec.name for spec in missing)
        raise AdminFailed(f"the embedded broker lacks {names} and creates topics only when it starts: restart it")
    done = _create(admin, missing)
    if not embedded:
        done += _alter(admin, [spec for name, spec in wanted.items() if name in counts])
    return done + _begin(admin, bootstrap, groups, wanted, {spec.name for spec in missing})


def check(bootstrap: str, topics: Iterable[TopicSpec], *, embedded: bool = False) -> Comparison:
    """Compare the broker's topics with what they should be; changes nothing.

    Raises:
        AdminFailed: the broker does not answer.
    """
    admin = _connect(bootstrap)
    specs = list(topics)
    counts = _partition_counts(admin)
    found = [difference for spec in specs if (difference := _shape(spec, counts)) is not None]
    if not embedded:
        found += _settings(admin, [spec for spec in specs if spec.name in counts])
    return Comparison(tuple(found), complete=not embedded)


def partitions(bootstrap: str) -> dict[str, int]:
    """How many partitions each topic of the broker has.

    Raises:
        AdminFailed: the broker does not answer.
    """
    return _partition_counts(_connect(bootstrap))


def _connect(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "client.id": "sluice-topics", "log_level": 0})


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    try:
        metadata = admin.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        raise AdminFailed(f"the broker does not answer: {error.args[0].str()}; is its address right?") from None
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _shape(spec: TopicSpec, counts: Mapping[str, int]) -> Difference | None:
    if spec.name not in counts:
        return Difference(spec.name, "topic", "there", "missing")
    if counts[spec.name] != spec.partitions:
        return Difference(spec.name, "partitions", str(spec.partitions), str(counts[spec.name]))
    return None


def _refuse_other_counts(wanted: Mapping[str, TopicSpec], counts: Mapping[str, int]) -> None:
    for name, spec in wanted.items():
        if counts.get(name, spec.partitions) != spec.partitions:
            raise AdminFailed(
                f"{name} has {counts[name]} partitions, should have {spec.partitions}; the number is never changed, "
                "because keys would move away from their history: drain and delete the topic, or change topics.yaml or "
                "SLUICE_PARTITIONS"
            )


def _create(admin: AdminClient, missing: Sequence[TopicSpec]) -> list[str]:
    if not missing:
        return []
    # Replication is the broker's default: 1 on one machine, what its operator has chosen elsewhere.
    new = [NewTopic(spec.name, spec.partitions, config=dict(spec.config)) for spec in missing]
    for name, future in admin.create_topics(new, operation_timeout=TIMEOUT_S).items():
        try:
            _result(future, f"creating {name}")
        except _Refused as error:
            if error.code != KafkaError.TOPIC_ALREADY_EXISTS:  # someone else applied at the same moment
                raise
    _await_leaders(admin, missing)
    return [f"created {spec.name} with {spec.partitions} partitions" for spec in missing]


def _await_leaders(admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """A new topic is announced before it can be written; whoever comes after us should not find out."""
    deadline = time.monotonic() + TIMEOUT_S
    wanted = {spec.name: spec.partitions for spec in specs}
    while time.monotonic() < deadline:
        known = admin.list_topics(timeout=TIMEOUT_S).topics
        led = {
            name: sum(partition.leader >= 0 for partition in known[name].partitions.values())
            for name in wanted
            if name in known
        }
        if led == wanted:
            return
        time.sleep(0.02)  # the broker has no way of telling us
    raise AdminFailed(f"new topics have no leader after {TIMEOUT_S} s; see the broker's log")


def _settings(admin: AdminClient, specs: Sequence[TopicSpec]) -> list[Difference]:
    if not specs:
        return []
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    futures = admin.describe_configs(resources, request_timeout=TIMEOUT_S)
    differences = []
    for spec, resource in zip(specs, resources, strict=True):
        entries = _result(futures[resource], f"reading the settings of {spec.name}")
        for name, expected in spec.config.items():
            found = entries[name].value if name in entries else "unknown to this broker"
            if found != expected:
                differences.append(Difference(spec.name, name, expected, str(found)))
    return differences


def _alter(admin: AdminClient, specs: Sequence[TopicSpec]) -> list[str]:
    differences = _settings(admin, specs)
    if not differences:
        return []
    resources: dict[str, ConfigResource] = {}
    for topic, name, expected, _ in differences:
        resource = resources.setdefault(topic, ConfigResource(ResourceType.TOPIC, topic))
        resource.add_incremental_config(ConfigEntry(name, expected, incremental_operation=AlterConfigOpType.SET))
    for resource, future in admin.incremental_alter_configs(list(resources.values())).items():
        _result(future, f"altering {resource.name}")
    return [f"altered {d.topic}: {d.name} from {d.found} to {d.expected}" for d in differences]


def _begin(
    admin: AdminClient,
    bootstrap: str,
    groups: Mapping[str, Sequence[str]],
    wanted: Mapping[str, TopicSpec],
    created: set[str],
) -> list[str]:
    """Commit the earliest offset wherever a group has none.

    By a plain consumer a group, which never joins it: the admin client's own question for a group's offsets crashes the
    process where the coordinator is new or moves (librdkafka issue 5040, open).
    """

    def begin(group: str) -> list[str]:
        read = [TopicPartition(topic, part) for topic in groups[group] for part in range(wanted[topic].partitions)]
        consumer, committed = _member(bootstrap, group, read)
        with closing(consumer):
            lacking = [item for item in committed if item.offset < 0]
            if not lacking:
                return []
            _commit(consumer, group, _earliest(admin, lacking, created))
            names = ", ".join(dict.fromkeys(item.topic for item in lacking))
            return [f"group {group} begins at the earliest of {names}"]

    with ThreadPoolExecutor(len(groups) or 1) as pool:  # each waits for its coordinator most of the time
        return [line for lines in pool.map(begin, groups) for line in lines]


def _earliest(admin: AdminClient, partitions: list[TopicPartition], created: set[str]) -> list[TopicPartition]:
    """First offsets; of a topic just created they need not be asked."""
    asked = {
        TopicPartition(item.topic, item.partition): OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        for item in partitions
        if item.topic not in created
    }
    offsets = {(item.topic, item.partition): 0 for item in partitions}
    if asked:
        for item, future in admin.list_offsets(asked, request_timeout=TIMEOUT_S).items():
            answer = _result(future, f"first offset of {item.topic}[{item.partition}]")
            offsets[item.topic, item.partition] = answer.offset
    return [TopicPartition(*place, offset) for place, offset in offsets.items()]


def _member(bootstrap: str, group: str, partitions: list[TopicPartition]) -> tuple[Consumer, list[TopicPartition]]:
    """A consumer that has found its group's coordinator, and the group's offsets.

    A broker makes its coordinators when first asked for one, in 0.1 s, but a client asks again only after 1 s: so a
    client that got no answer is replaced by a new one, each more patient than the one before.
    """
    deadline, patience = time.monotonic() + TIMEOUT_S, 0.2
    while True:
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0}
        )
        try:
            return consumer, consumer.committed(partitions, timeout=patience)
        except KafkaException as error:
            consumer.close()
            if time.monotonic() > deadline:
                raise _Refused(f"group {group}: reading its offsets", error.args[0]) from None
        patience *= 1.5


def _commit(consumer: Consumer, group: str, offsets: list[TopicPartition]) -> None:
    try:
        answer = consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        raise AdminFailed(
            f"group {group}: committing where it begins: {error.args[0].str()}; "
            "a running group's offsets are its own: stop its stage, then apply again"
        ) from None
    for item in answer or ():
        if item.error is not None:
            raise AdminFailed(f"group {group}: committing where it begins in {item.topic}: {item.error.str()}")


class _Refused(AdminFailed):
    def __init__(self, doing: str, error: KafkaError) -> None:
        super().__init__(f"{doing}: {error.str()}")
        self.code = error.code()


def _result(future: "Future[Any]", doing: str) -> Any:
    try:
        return future.result(TIMEOUT_S)
    except KafkaException as error:
        raise _Refused(doing, error.args[0]) from None
    except TimeoutError:
        raise AdminFailed(f"{doing}: no answer within {TIMEOUT_S} s") from None
