"""The log of a simulated history: partitions, append times, committed offsets, and producers that may die."""

from collections import defaultdict, deque
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from processors.codec import decode, encode
from processors.events import Event
from processors.identity import partition_of

PARTITIONS = 2
Place = tuple[str, int]
"""A partition of a topic."""


class Entry(NamedTuple):
    """A record as it stands in the log."""

    offset: int
    time_ms: int
    key: str | None
    value: bytes
    moment: int
    """How much had happened in the whole log before it."""


class Unsent(NamedTuple):
    """A record that its producer has taken and the log has not."""

    key: str | None
    value: bytes | None
    on_ack: Callable[[], None] | None


class Fenced(Exception):
    """A commit by a worker whose partitions belong to another: refused by the group's coordinator."""


class Log:
    """What the broker holds."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.moves = 0
        """Records appended and offsets committed: what changes while anything still happens."""
        self.partitions: dict[Place, list[Entry]] = defaultdict(list)
        self.snapshots: list[dict[str, bytes]] = [{} for _ in range(PARTITIONS)]
        self.committed: dict[tuple[str, Place], tuple[int, str]] = {}

    def append(self, place: Place, key: str | None, value: bytes | None) -> None:
        """Take a record. Of `snapshots` only the newest of a key matters."""
        if place[0] == "snapshots":
            kept = self.snapshots[place[1]]
            kept.pop(key or "", None)
            if value is not None:
                kept[key or ""] = value
            return
        self.moves += 1
        entries = self.partitions[place]
        entries.append(Entry(len(entries), self.now_ms, key, value or b"", self.moves))

    def read(self, place: Place, start: int, most: int = 1 << 30) -> list[Entry]:
        return self.partitions[place][start : start + most]

    def end(self, place: Place) -> int:
        return len(self.partitions[place])

    def offset(self, group: str, place: Place) -> int:
        """The group's committed offset."""
        return self.committed.get((group, place), (0, ""))[0]


class Producer:
    """An idempotent producer: keeps the order within a partition, promises nothing across partitions."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.queues: dict[Place, deque[Unsent]] = {}

    def send(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        partition: int | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> None:
        """Queue a record."""
        place = (topic, place_of(key or "") if partition is None else partition)
        self.queues.setdefault(place, deque()).append(Unsent(key, value, on_ack))

    def event(self, topic: str, key: str, event: Event, on_ack: Callable[[], None] | None = None) -> None:
        """Queue an event."""
        self.send(topic, key, encode(event), on_ack=on_ack)

    def deliver(self, place: Place, count: int) -> None:
        """So many records of a partition reach the log."""
        queue = self.queues[place]
        for _ in range(min(count, len(queue))):
            unsent = queue.popleft()
            self._log.append(place, unsent.key, unsent.value)
            if unsent.on_ack is not None:
                unsent.on_ack()
        if not queue:
            del self.queues[place]

    def flush(self) -> None:
        """Everything is acknowledged."""
        for place in list(self.queues):
            self.deliver(place, 1 << 30)

    def die(self, pick: Callable[[int], int]) -> None:
        """Of each partition's queue some first part reaches the log, the rest never does."""
        for place, queue in list(self.queues.items()):
            reached = [unsent._replace(on_ack=None) for unsent in list(queue)[: pick(len(queue) + 1)]]
            self.queues[place] = deque(reached)
        self.flush()
        self.queues.clear()


@lru_cache(maxsize=64)
def place_of(key: str) -> int:
    """The partition of a key."""
    return partition_of(key, PARTITIONS)


@lru_cache(maxsize=1 << 12)
def event_of(topic: str, value: bytes) -> Event:
    """The event in a record: events are immutable, so each value is decoded once."""
    event: Event = decode(topic, value)
    return event
