"""A compacted topic as a dict that keeps itself current: policies, keys, health."""

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.batches import consume
from processors.codec import BadRecord, decode

log = logging.getLogger(__name__)

ATTEMPT_S = 2.0
"""How long one question for the topic's partitions may take; a table can be closed between two."""
GIVE_UP_S = 10.0
"""How long the topic may stay unreadable before whoever waits for it is told."""
PAUSE_S = 0.2


class CompactedTable:
    """Reads a compacted topic from its beginning, without a group, in a thread of its own.

    `values` maps keys to the newest event of each; a tombstone removes its key. Records that cannot be read are
    logged and skipped: the value before them stays in force.
    """

    def __init__(self, bootstrap: str, topic: str, on_change: Callable[[str, Any | None], None] | None = None) -> None:
        self.values: dict[str, Any] = {}
        self._topic = topic
        self._on_change = on_change
        self._current, self._settled = threading.Event(), threading.Event()
        self._failure: KafkaException | None = None
        self._places: dict[int, int] = {}
        """The next offset to read of each partition."""
        self._asks: SimpleQueue[threading.Event] = SimpleQueue()
        """Set once what stands in the topic has been read."""
        self._closing = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"table-{topic}",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 500,  # a broker answers earlier when there is something new
                "fetch.error.backoff.ms": 100,
                "log_level": 3,
            }
        )
        self._thread = threading.Thread(target=self._follow, name=f"table-{topic}", daemon=True)
        self._thread.start()

    def wait_current(self, timeout_s: float = 30.0) -> None:
        """Return once everything that stood in the topic at start has been read.

        Raises:
            KafkaException: the topic cannot be read: the broker does not answer, or does not have it.
            TimeoutError: it took longer than `timeout_s`.
        """
        self._settled.wait(timeout_s)
        if self._current.is_set():
            return
        if self._failure is not None:
            raise self._failure
        raise TimeoutError(f"topic {self._topic} could not be read within {timeout_s} s")

    def catch_up(self, timeout_s: float) -> None:
        """Return once everything has been read that stands in the topic now.

        Raises:
            TimeoutError: that cannot be told, or took longer than `timeout_s`.
        """
        reached = threading.Event()
        self._asks.put(reached)
        if not reached.wait(timeout_s):
            raise TimeoutError(f"topic {self._topic} could not be read within {timeout_s} s")

    def get(self, key: str) -> Any | None:
        """The newest event of `key`, or None."""
        return self.values.get(key)

    def close(self) -> None:
        """Stop following."""
        self._closing.set()
        self._thread.join()

    def _follow(self) -> None:
        partitions = self._partitions()
        self._consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in partitions])
        asked, ends = [self._current, self._settled], None
        while partitions and not self._closing.is_set():
            while not self._asks.empty():
                asked.append(self._asks.get())
                ends = None
            if asked and ends is None:
                ends = self._ends(partitions)
            for message in consume(self._consumer, 500, 0.05):
                error = message.error()
                if error is None:
                    self._take(message.key(), message.value(), message.headers())
                elif error.code() != KafkaError._PARTITION_EOF:
                    continue
                self._places[message.partition() or 0] = (message.offset() or 0) + (error is None)
            if ends is not None and all(self._places.get(number, 0) >= end for number, end in ends.items()):
                for reached in asked:
                    reached.set()
                asked, ends = [], None
        self._consumer.close()

    def _ends(self, partitions: list[int]) -> dict[int, int] | None:
        """Where the topic ends now, None while the broker does not tell. The client itself tells of an end only after
        `fetch.wait.max.ms`, and each start of a stage would wait for it; so that counts only where compaction has left
        no record at the end. Asked in the thread that reads, because a consumer serves one call at a time."""
        try:
            places = [TopicPartition(self._topic, number) for number in partitions]
            return {place.partition: self._consumer.get_watermark_offsets(place, ATTEMPT_S)[1] for place in places}
        except KafkaException:
            return None  # asked again until whoever waits gives up

    def _partitions(self) -> list[int]:
        """The topic's partitions, asked for until the broker tells them; none where the table is closed before."""
        give_up = time.monotonic() + GIVE_UP_S
        while not self._closing.is_set():
            try:
                topic = self._consumer.list_topics(self._topic, timeout=ATTEMPT_S).topics[self._topic]
                if topic.error is not None:
                    raise KafkaException(topic.error)
                return list(topic.partitions)
            except KafkaException as error:
                self._failure = error
                if time.monotonic() > give_up and not self._settled.is_set():
                    log.error("topic %s cannot be read: %s", self._topic, error.args[0].str())
                    self._settled.set()
                self._closing.wait(PAUSE_S)
        return []

    def _take(self, raw_key: bytes | None, value: bytes | None, headers: Any) -> None:
        key = (raw_key or b"").decode(errors="replace")
        event = None
        if value is not None:
            try:
                event = decode(self._topic, value, headers)
            except BadRecord as error:
                log.error("topic %s, key %s: %s", self._topic, key, error)
                return
        if event is None:
            self.values.pop(key, None)
        else:
            self.values[key] = event
        if self._on_change is not None:
            self._on_change(key, event)
