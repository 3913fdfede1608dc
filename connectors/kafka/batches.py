"""Reading Kafka in batches with confluent-kafka, for the stages that run a plain loop (guard, sink).

Reading 500 at a time costs 0.6 µs a record where one `poll` a record costs 1 µs and an asyncio client 5 to 80.
"""

import logging
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

log = logging.getLogger(__name__)

SESSION_MS = 6000
PAUSED_S = 1.0
"""Longer between two reads: the process stood still, or waited for the log. What it knows is old, and its partitions
may be another's by now; it may take up to a heartbeat to learn so."""
NOT_NOW = frozenset(
    (KafkaError._WAIT_COORD, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT,
     KafkaError._STATE, KafkaError._FATAL, KafkaError.REQUEST_TIMED_OUT, KafkaError.COORDINATOR_NOT_AVAILABLE,
     KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID,
     KafkaError.ILLEGAL_GENERATION, KafkaError.FENCED_INSTANCE_ID)
)  # fmt: skip
"""What a commit fails with while the broker is away, and when it has let this member's session end."""
MOVING = frozenset(
    (KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION,
     KafkaError.LEADER_NOT_AVAILABLE, KafkaError._TRANSPORT)
)  # fmt: skip
"""What a question for offsets fails with until the client has learnt who leads partitions, after an outage."""
MOVING_S, AGAIN_S = 10.0, 0.1
Partition = tuple[str, int]


class LogLost(Exception):
    """The committed offset is no longer in the log: retention has passed it. Never skipped in silence."""


class _Reader:
    """What every reader can be asked, and how it begins."""

    _consumer: Consumer

    def begins(self, partitions: list[Partition]) -> dict[Partition, int]:
        """The first offsets still kept."""
        return self._ask(partitions, OFFSET_BEGINNING)

    def ends(self, partitions: list[Partition]) -> dict[Partition, int]:
        """The next offsets to be written."""
        return self._ask(partitions, OFFSET_END)

    def offsets_at(self, partitions: list[Partition], unix_ms: int) -> dict[Partition, int]:
        """First offsets appended at or after a time, for the partitions that hold anything so new.

        The embedded broker has no look-up by time and gives none.
        """
        return {name: offset for name, offset in self._ask(partitions, max(0, unix_ms)).items() if offset >= 0}

    def assign_at(self, offsets: dict[Partition, int]) -> None:
        """Begin to read these partitions, there and nowhere else; in a group only from `on_assign`."""
        self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in offsets.items()])

    def _ask(self, partitions: list[Partition], at: int) -> dict[Partition, int]:
        """One question for all partitions, because each may wait up to 0.5 s behind a waiting fetch."""
        give_up = time.monotonic() + MOVING_S
        while partitions:
            try:
                asked = [TopicPartition(*partition, at) for partition in partitions]
                found = self._consumer.offsets_for_times(asked, timeout=30)
                return {(item.topic, item.partition): item.offset for item in found}
            except KafkaException as error:
                if error.args[0].code() not in MOVING or time.monotonic() > give_up:
                    raise
            time.sleep(AGAIN_S)
        return {}


class FixedReader(_Reader):
    """Reads partitions from given offsets, outside any group."""

    def __init__(self, bootstrap: str, client_id: str, fetch_wait_ms: int = 500) -> None:
        """It has nothing to read before `assign_at`."""
        fetching = {"fetch.wait.max.ms": fetch_wait_ms}
        self._consumer = Consumer(consumer_config(bootstrap, client_id, client_id) | fetching)

    def read(self, most: int = 500, wait_s: float = 0.1) -> list[Message]:
        """Like `BatchReader.read`."""
        return read_batch(self._consumer, most, wait_s)

    def close(self) -> None:
        """Stop."""
        self._consumer.close()


class BatchReader(_Reader):
    """A member of a consumer group. Partitions come and go by the callbacks; offsets are committed by the caller."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        instance: str,
        topics: list[str],
        *,
        on_assign: Callable[[list[Partition]], None],
        on_revoke: Callable[[list[Partition]], None],
        on_lost: Callable[[list[Partition]], None],
        fetch_wait_ms: int = 500,
        fetch_least_bytes: int = 1,
    ) -> None:
        """`on_lost` is told of partitions that are gone already: nothing can be committed for them any more.
        `fetch_least_bytes`: a broker answers when it has so much, or after `fetch_wait_ms`; more is cheaper.
        """
        fetching = {"fetch.wait.max.ms": fetch_wait_ms, "fetch.min.bytes": fetch_least_bytes}
        self._config = consumer_config(bootstrap, group, instance) | fetching | {"error_cb": self._noticed}
        self._topics = topics
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        self._owned: list[Partition] = []
        self._cut_off = self._closing = False
        self._raised: Exception | None = None
        self._join()

    def read(self, most: int = 500, wait_s: float = 0.1) -> list[Message]:
        """Up to `most` records; returns with what is there once something is, or empty after `wait_s`.

        Raises:
            LogLost: an offset is out of the log's range.
            KafkaException: any other error that the client cannot mend by itself.
            Exception: what a callback raised.
        """
        try:
            found = read_batch(self._consumer, most, wait_s)
        except KafkaException as error:
            # After an outage a client that has waited out its session knocks without its member id; the broker takes it
            # for a second process of this name. Without an outage there is one.
            if not self._cut_off or error.args[0].code() not in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID):
                raise
            log.warning("the broker knows this member no more after its outage; joining anew")
            self._leave()
            self._join()
            return []
        self._raise()
        return found

    def committed(self, partitions: list[Partition]) -> dict[Partition, TopicPartition]:
        """Committed offsets with their metadata."""
        found = self._consumer.committed([TopicPartition(*partition) for partition in partitions], timeout=30)
        return {(item.topic, item.partition): item for item in found}

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(self._consumer.list_topics(topic, timeout=30).topics[topic].partitions)

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`; only for a partition whose assignment has been announced."""
        self._consumer.seek(TopicPartition(*partition, offset))

    def pause(self, partitions: list[Partition]) -> None:
        """Stop fetching these while staying in the group."""
        self._consumer.pause([TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions: list[Partition]) -> None:
        """Fetch these again."""
        self._consumer.resume([TopicPartition(*partition) for partition in partitions])

    def commit(self, offsets: dict[Partition, int], metadata: dict[Partition, str] | None = None) -> None:
        """Commit next offsets to read, and wait until it is done: one that is under way as the broker dies, until the
        broker is back."""
        notes = metadata or {}
        self._consumer.commit(
            offsets=[
                TopicPartition(topic, part, offset, notes.get((topic, part), ""))
                for (topic, part), offset in offsets.items()
            ],
            asynchronous=False,
        )
        self._cut_off = False

    def commit_if_it_can(self, offsets: dict[Partition, int]) -> bool:
        """Commit; False where the broker is away, or this member is none any more: the next `read` tells which.

        Raises:
            KafkaException: any other error.
        """
        try:
            self.commit(offsets)
        except KafkaException as error:
            if error.args[0].code() not in NOT_NOW:
                raise
            return False
        return True

    def close(self) -> None:
        """Stop. A static member leaves no trace, so its successor takes over at once.

        Partitions that have just come are not announced any more. They are taken before the client closes: while it
        does, librdkafka (2.16) may lose the answer to an assignment and wait for it for ever, with Python's lock.
        """
        if not self._closing:  # else it is closed
            self._closing = True
            self._consumer.consume(1, 0)
        self._consumer.close()
        self._raise()

    def _join(self) -> None:
        self._consumer = Consumer(self._config)
        self._consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._gone)

    def _leave(self) -> None:
        """Give up the client, which calls nothing back after a fatal error."""
        self._gone(self._consumer, [TopicPartition(*partition) for partition in self._owned])
        self._consumer.close()

    def _noticed(self, error: KafkaError) -> None:
        """Called with the client's own errors, out of `read`."""
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self._cut_off = True

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closing:
            return
        self._owned = _names(partitions)
        self._call(self._on_assign, partitions)
        self._cut_off = False

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if self._owned:
            self._owned = []
            self._call(self._on_revoke, partitions)

    def _gone(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if self._owned:
            self._owned = []
            self._call(self._on_lost, partitions)

    def _call(self, told: Callable[[list[Partition]], None], partitions: list[TopicPartition]) -> None:
        """What is raised here is raised by `read`. confluent-kafka would raise the bare KafkaError (2.16), which no
        `except` catches for it is no exception; a thread pool then never learns that its thread is dead."""
        try:
            told(_names(partitions))
        except Exception as error:
            self._raised = error

    def _raise(self) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised


def _names(partitions: list[TopicPartition]) -> list[Partition]:
    return [(item.topic, item.partition) for item in partitions]


def read_batch(consumer: Consumer, most: int, wait_s: float) -> list[Message]:
    """Up to `most` records as soon as there is one; raises as `BatchReader.read` does."""
    found = consume(consumer, most, wait_s)
    return [message for message in found if _usable(message)] if any(map(Message.error, found)) else found


def consume(consumer: Consumer, most: int, wait_s: float) -> list[Message]:
    """What is there once something is, errors included: asked for many, a client waits for all of them or `wait_s`."""
    first = consumer.consume(1, wait_s)
    return first + consumer.consume(most - 1, 0) if first and most > 1 else first


def place_of(message: Message) -> tuple[int, int]:
    """Offset and append time (milliseconds of Unix time) of a record."""
    return message.offset() or 0, message.timestamp()[1]


def by_partition(messages: list[Message]) -> dict[Partition, list[Message]]:
    """A batch, partition by partition, each in its order."""
    found: dict[Partition, list[Message]] = {}
    for topic, same_topic in groupby(messages, Message.topic):
        for number, run in groupby(same_topic, Message.partition):
            found.setdefault((topic or "", number or 0), []).extend(run)
    return found


def _usable(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise LogLost(f"{message.topic()}[{message.partition()}]: {error.str()}")
    if error.code() in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
        return False
    raise KafkaException(error)


def consumer_config(bootstrap: str, group: str, instance: str) -> dict[str, Any]:
    """Explicit commits, no silent reset, a static member: a killed one is back in 0.1 to 1.4 s instead of 6."""
    return {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "group.instance.id": instance,
        "client.id": instance,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 1000,
        "partition.assignment.strategy": "range",
        "fetch.queue.backoff.ms": 2,
        "queued.max.messages.kbytes": 32768,
        "fetch.message.max.bytes": 4 << 20,
        "socket.nagle.disable": True,
        "log_level": 3,
    }
